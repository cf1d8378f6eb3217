//! Sections, pipelines, and whether they fit together.

use std::collections::{BTreeMap, BTreeSet};

use super::components::{Role, gives, kind};
use super::exporters::ExporterConfig;
use super::node::Node;
use super::section::{Field, Findings, Section};
use super::{CollectorConfig, ComponentId, ProcessorConfig, receivers};
use crate::batch::BatchConfig;
use crate::connect::{ConnectorConfig, CountConfig, ServiceGraphConfig, SpanMetricsConfig};
use crate::data::Signal;
use crate::kube::KubeConfig;
use crate::limiter::LimiterConfig;
use crate::process::{AttributesConfig, FilterConfig, RedactionConfig, SamplerConfig, TransformConfig};
use crate::tail::TailSamplingConfig;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Exporter(ComponentId),
    /// Positions in [`CollectorConfig::pipelines`], by way of `forward`.
    Pipelines(Vec<usize>),
    /// A connector between two signals, and the pipelines that it begins.
    Connector(ComponentId, Vec<usize>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineConfig {
    /// `traces`, `traces/name`.
    pub id: String,
    pub signal: Signal,
    /// Whether a receiver feeds it, not only a connector.
    pub has_receiver: bool,
    pub processors: Vec<ComponentId>,
    pub targets: Vec<Target>,
}

/// A component of the file, by its id.
struct Defined<'a> {
    field: Field<'a>,
    own_kind: &'static str,
    signals: &'static [Signal],
    /// Signals of the pipelines that use it.
    used: BTreeSet<Signal>,
}

type Components<'a> = BTreeMap<String, Defined<'a>>;

/// A pipeline as it is written.
struct Written<'a> {
    id: String,
    signal: Signal,
    field: Field<'a>,
    receivers: Vec<(String, Field<'a>)>,
    processors: Vec<(String, Field<'a>)>,
    exporters: Vec<(String, Field<'a>)>,
}

pub(super) fn read(root: &Node, findings: &Findings) -> CollectorConfig {
    let root = Field { findings, path: String::new(), line: 1, node: root }.section();
    let of = |role: Role| components(&root, role);
    let (mut receivers, mut processors) = (of(Role::Receiver), of(Role::Processor));
    let (mut exporters, mut connectors) = (of(Role::Exporter), of(Role::Connector));
    let extensions = extensions(&root);
    let written = match root.section("service") {
        Some(service) => self::service(service, &extensions),
        None => {
            findings.error(0, "", "`service` is missing: nothing would run");
            Vec::new()
        }
    };
    root.finish();
    for pipeline in &written {
        mark(pipeline, &pipeline.receivers, &mut receivers, Some(&mut connectors), Role::Receiver);
        mark(pipeline, &pipeline.processors, &mut processors, None, Role::Processor);
        mark(pipeline, &pipeline.exporters, &mut exporters, Some(&mut connectors), Role::Exporter);
    }
    for (role, all) in [
        (Role::Receiver, &receivers),
        (Role::Processor, &processors),
        (Role::Exporter, &exporters),
        (Role::Connector, &connectors),
    ] {
        for defined in all.values().filter(|d| d.used.is_empty()) {
            defined.field.warn(format!("this {} is in no pipeline: it does nothing", role.as_str()));
        }
    }
    receivers.values().for_each(|d| receivers::otlp(d.field.section()));
    let processors = read_processors(&processors);
    let exporters = read_exporters(&exporters);
    let pipelines = connect(&written, &connectors, findings);
    let connectors = read_connectors(&connectors);
    CollectorConfig { processors, connectors, exporters, pipelines, warnings: Vec::new() }
}

fn components<'a>(root: &Section<'a>, role: Role) -> Components<'a> {
    let mut found = Components::new();
    let Some(section) = root.section(role.section()) else { return found };
    for (name, field) in section.entries() {
        if let Err(reason) = ComponentId::parse(name) {
            field.error(reason);
            continue;
        }
        match kind(role, name.split('/').next().unwrap_or_default()) {
            Ok((own_kind, signals)) => {
                found.insert(name.to_owned(), Defined { field, own_kind, signals, used: BTreeSet::new() });
            }
            Err(reason) => field.error(reason),
        }
    }
    found
}

/// Names of extensions; what they do elsewhere has no place here.
fn extensions(root: &Section<'_>) -> BTreeSet<String> {
    let Some(section) = root.section("extensions") else { return BTreeSet::new() };
    let mut names = BTreeSet::new();
    for (name, field) in section.entries() {
        match name.split('/').next().unwrap_or_default() {
            "health_check" | "healthcheckv2" => field.warn("has no effect: ask weir's /-/healthy and /-/ready"),
            "pprof" | "zpages" | "memory_ballast" => field.warn("has no effect"),
            other => field.error(format!("an extension of type `{other}` is not supported")),
        }
        names.insert(name.to_owned());
    }
    names
}

fn service<'a>(service: Section<'a>, extensions: &BTreeSet<String>) -> Vec<Written<'a>> {
    for item in service.items("extensions") {
        if let Some(name) = item.text().filter(|name| !extensions.contains(name)) {
            item.error(format!("the extension `{name}` is not defined"));
        }
    }
    service.without_effect(&["telemetry"], "weir's own logs and metrics are those of the program");
    let mut written: Vec<Written<'a>> = Vec::new();
    match service.section("pipelines") {
        None => service.error("`pipelines` is missing: nothing would run"),
        Some(section) => {
            for (id, field) in section.entries() {
                let name = id.split('/').next().unwrap_or_default();
                match Signal::ALL.into_iter().find(|s| s.as_str() == name) {
                    Some(signal) => written.push(pipeline(id, signal, field)),
                    None => {
                        field.error(format!("`{id}` is no pipeline: traces, metrics or logs, with /name or without"))
                    }
                }
            }
            if written.is_empty() {
                section.error("there is no pipeline: nothing would run");
            }
        }
    }
    service.finish();
    written
}

fn pipeline<'a>(id: &str, signal: Signal, field: Field<'a>) -> Written<'a> {
    let section = field.section();
    let list = |key: &'static str| -> Vec<(String, Field<'a>)> {
        section.items(key).into_iter().filter_map(|item| Some((item.text()?, item))).collect()
    };
    let (receivers, processors, exporters) = (list("receivers"), list("processors"), list("exporters"));
    for (key, found) in [("receivers", &receivers), ("exporters", &exporters)] {
        if found.is_empty() {
            section.error(format!("`{key}` is missing or empty"));
        }
    }
    for (k, (name, item)) in processors.iter().enumerate() {
        if processors[..k].iter().any(|(known, _)| known == name) {
            item.error(format!("the processor `{name}` stands here twice"));
        }
    }
    section.finish();
    Written { id: id.to_owned(), signal, field, receivers, processors, exporters }
}

/// Notes what a pipeline uses, and says what it cannot.
fn mark<'a>(
    pipeline: &Written<'a>,
    names: &[(String, Field<'a>)],
    components: &mut Components<'a>,
    connectors: Option<&mut Components<'a>>,
    role: Role,
) {
    let mut connectors = connectors;
    for (name, item) in names {
        let among_connectors = connectors.as_mut().and_then(|all| all.get_mut(name));
        let is_begin = role == Role::Receiver && among_connectors.is_some();
        let Some(defined) = components.get_mut(name).or(among_connectors) else {
            // One whose type is not known is an error already.
            let is_written = kind(role, name.split('/').next().unwrap_or_default()).is_ok();
            let where_ = role.section();
            if is_written || ComponentId::parse(name).is_err() {
                item.error(format!("the {} `{name}` is not defined in `{where_}`", role.as_str()));
            } else {
                item.error(format!("there is no {} `{name}` that weir could run", role.as_str()));
            }
            continue;
        };
        let is_fit = match is_begin {
            true => defined.signals.iter().any(|taken| gives(defined.own_kind, *taken) == pipeline.signal),
            false => defined.signals.contains(&pipeline.signal),
        };
        if !is_fit {
            item.error(format!("`{name}` is not for {}", pipeline.signal.as_str()));
        }
        defined.used.insert(pipeline.signal);
    }
}

fn read_processors(components: &Components<'_>) -> BTreeMap<ComponentId, ProcessorConfig> {
    let mut read = BTreeMap::new();
    for (name, defined) in components {
        let section = defined.field.section();
        let used: Vec<Signal> = defined.used.iter().copied().collect();
        // One that is in no pipeline is read all the same: its mistakes are worth knowing.
        let for_signals = if used.is_empty() { defined.signals.to_vec() } else { used.clone() };
        let config = match defined.own_kind {
            "attributes" => ProcessorConfig::Attributes(AttributesConfig::read(section, &for_signals)),
            "resource" => ProcessorConfig::Attributes(AttributesConfig::read_resource(section)),
            "batch" => ProcessorConfig::Batch(BatchConfig::read(section)),
            "filter" => {
                let filter = FilterConfig::read(section);
                let signals = filter.signals();
                for signal in used.iter().filter(|s| !signals.contains(s)) {
                    let text = format!("is in a pipeline of {} and has no condition for them", signal.as_str());
                    defined.field.warn(text);
                }
                ProcessorConfig::Filter(filter)
            }
            "k8sattributes" => ProcessorConfig::Kube(Box::new(KubeConfig::read(section))),
            "memory_limiter" => ProcessorConfig::MemoryLimiter(LimiterConfig::read(section)),
            "probabilistic_sampler" => ProcessorConfig::ProbabilisticSampler(SamplerConfig::read(section)),
            "redaction" => ProcessorConfig::Redaction(RedactionConfig::read(section)),
            "tail_sampling" => ProcessorConfig::TailSampling(TailSamplingConfig::read(section)),
            _ => ProcessorConfig::Transform(TransformConfig::read(section)),
        };
        if !used.is_empty()
            && let Ok(id) = ComponentId::parse(name)
        {
            read.insert(id, config);
        }
    }
    read
}

fn read_exporters(components: &Components<'_>) -> BTreeMap<ComponentId, ExporterConfig> {
    let mut read = BTreeMap::new();
    for (name, defined) in components {
        let config = ExporterConfig::read(defined.own_kind, defined.field.section());
        if !defined.used.is_empty()
            && let (Ok(id), Some(config)) = (ComponentId::parse(name), config)
        {
            read.insert(id, config);
        }
    }
    read
}

fn read_connectors(components: &Components<'_>) -> BTreeMap<ComponentId, ConnectorConfig> {
    let mut read = BTreeMap::new();
    for (name, defined) in components {
        let section = defined.field.section();
        let config = match defined.own_kind {
            "count" => ConnectorConfig::Count(CountConfig::read(section)),
            "servicegraph" => ConnectorConfig::ServiceGraph(ServiceGraphConfig::read(section)),
            "spanmetrics" => ConnectorConfig::SpanMetrics(SpanMetricsConfig::read(section)),
            // `forward` has nothing to be set.
            _ => {
                section.finish();
                continue;
            }
        };
        if !defined.used.is_empty()
            && let Ok(id) = ComponentId::parse(name)
        {
            read.insert(id, config);
        }
    }
    read
}

/// Puts connectors' ends together, and looks for circles.
fn connect(written: &[Written<'_>], connectors: &Components<'_>, findings: &Findings) -> Vec<PipelineConfig> {
    let fed_by = |connector: &str, signal: Signal| -> Vec<usize> {
        let takes = |p: &Written<'_>| p.signal == signal && p.receivers.iter().any(|(name, _)| name == connector);
        (0..written.len()).filter(|k| takes(&written[*k])).collect()
    };
    let mut pipelines = Vec::new();
    for pipeline in written {
        let mut targets = Vec::new();
        for (name, item) in &pipeline.exporters {
            if let Some(connector) = connectors.get(name) {
                let given = gives(connector.own_kind, pipeline.signal);
                let to = fed_by(name, given);
                if to.is_empty() {
                    item.error(format!("the connector `{name}` is a receiver of no pipeline of {}", given.as_str()));
                }
                match ComponentId::parse(name) {
                    Ok(id) if connector.own_kind != "forward" => targets.push(Target::Connector(id, to)),
                    _ => targets.push(Target::Pipelines(to)),
                }
            } else if let Ok(id) = ComponentId::parse(name) {
                targets.push(Target::Exporter(id));
            }
        }
        for (name, item) in &pipeline.receivers {
            let Some(connector) = connectors.get(name) else { continue };
            let is_fed = |p: &Written<'_>| {
                gives(connector.own_kind, p.signal) == pipeline.signal && p.exporters.iter().any(|(e, _)| e == name)
            };
            if !written.iter().any(is_fed) {
                let taken = connector.signals.iter().filter(|s| gives(connector.own_kind, **s) == pipeline.signal);
                let taken: Vec<&str> = taken.map(|signal| signal.as_str()).collect();
                item.error(format!("the connector `{name}` is an exporter of no pipeline of {}", taken.join(", ")));
            }
        }
        if let Some(k) =
            pipeline.processors.iter().position(|(name, _)| name.split('/').next() == Some("memory_limiter"))
            && k > 0
        {
            pipeline.processors[k].1.warn("should be the first processor: what comes before it is done in vain");
        }
        let place = |kind: &[&str]| {
            pipeline.processors.iter().position(|(name, _)| kind.contains(&name.split('/').next().unwrap_or_default()))
        };
        if let (Some(tail), Some(kube)) = (place(&["tail_sampling"]), place(&["k8sattributes", "k8s_attributes"]))
            && tail < kube
        {
            pipeline.processors[kube].1.warn("should stand before tail_sampling, which forgets who sent a span");
        }
        pipelines.push(PipelineConfig {
            id: pipeline.id.clone(),
            signal: pipeline.signal,
            has_receiver: pipeline.receivers.iter().any(|(name, _)| !connectors.contains_key(name)),
            processors: pipeline.processors.iter().filter_map(|(name, _)| ComponentId::parse(name).ok()).collect(),
            targets,
        });
    }
    if let Some(circle) = circle(&pipelines) {
        let names: Vec<&str> = circle.iter().map(|k| &*pipelines[*k].id).collect();
        let line = written[circle[0]].field.line;
        findings.error(line, "service.pipelines", format!("the pipelines feed each other: {}", names.join(" -> ")));
    }
    pipelines
}

/// Pipelines that lead back to the first of them.
fn circle(pipelines: &[PipelineConfig]) -> Option<Vec<usize>> {
    let next = |k: usize| {
        pipelines[k].targets.iter().filter_map(|t| match t {
            Target::Pipelines(to) | Target::Connector(_, to) => Some(to.iter().copied()),
            Target::Exporter(_) => None,
        })
    };
    // From each pipeline, everything that it reaches, with the way there.
    for start in 0..pipelines.len() {
        let mut seen = BTreeSet::new();
        let mut ways: Vec<Vec<usize>> = vec![vec![start]];
        while let Some(way) = ways.pop() {
            let last = way[way.len() - 1];
            for to in next(last).flatten() {
                let longer = [&way[..], &[to]].concat();
                if to == start {
                    return Some(longer);
                }
                if seen.insert(to) {
                    ways.push(longer);
                }
            }
        }
    }
    None
}
