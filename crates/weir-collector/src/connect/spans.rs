//! `spanmetrics`: calls, durations and events of spans.

use std::time::Duration;

use ahash::AHashMap;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span, span::Event};
use weir_model::{Nanos, TenantId};

use super::family::{Family, Room, Seen, histograms, numbers};
use super::histogram::{Histogram, Shape, units};
use super::resource::{IDENTITY, attribute, identity, keep_common, put, put_value, text_attribute};
use super::{At, Machine, Outcomes};
use crate::config::Section;
use crate::data::{Data, get};

const SERVICE: &str = "service.name";
/// What every series has, unless it is excluded.
const BUILT_IN: [&str; 4] = [SERVICE, "span.name", "span.kind", "status.code"];
const SCOPE_NAME: &str = "span.instrumentation.scope.name";
const SCOPE_VERSION: &str = "span.instrumentation.scope.version";
const EXEMPLARS: usize = 5;
const EXEMPLARS_MAX: usize = 100;

/// An attribute that tells series apart.
#[derive(Clone, Debug, PartialEq)]
struct Dimension {
    name: String,
    /// Where a span has none; without it the series lacks the attribute.
    default: Option<Any>,
}

/// `spanmetrics` as a file has it.
#[derive(Clone, Debug)]
pub struct SpanMetricsConfig {
    namespace: String,
    dimensions: Vec<Dimension>,
    calls_dimensions: Vec<Dimension>,
    duration_dimensions: Vec<Dimension>,
    /// Those of [`BUILT_IN`] that are left out.
    exclude_dimensions: Vec<String>,
    /// `None`: no durations.
    histogram: Option<Shape>,
    unit: Unit,
    is_delta: bool,
    pub(super) metrics_flush_interval: Duration,
    metrics_expiration: Option<Duration>,
    resource_metrics_cache_size: usize,
    aggregation_cardinality_limit: usize,
    /// Of each series and collection.
    exemplars_max: usize,
    events: Option<Vec<Dimension>>,
    resource_metrics_key_attributes: Vec<String>,
    add_resource_attributes: bool,
    scopes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    Seconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
        }
    }
    fn nanos(self) -> f64 {
        match self {
            Self::Milliseconds => 1e6,
            Self::Seconds => 1e9,
        }
    }
}

impl SpanMetricsConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let dimensions = dimensions(&section, "dimensions", &[]);
        let calls_dimensions = self::dimensions(&section, "calls_dimensions", &dimensions);
        let (histogram, unit, duration_dimensions) = histogram(&section, &dimensions);
        let every = section.duration_or("metrics_flush_interval", Duration::from_secs(60));
        if every.is_zero() {
            section.error("metrics_flush_interval is zero; give 15s");
        }
        let expiration = section.duration_or("metrics_expiration", Duration::ZERO);
        let cache = section.size_or("resource_metrics_cache_size", 1000);
        if cache == 0 {
            section.error("resource_metrics_cache_size is zero: no service could be counted");
        }
        let read = Self {
            namespace: section.text("namespace").unwrap_or_else(|| "traces.span.metrics".to_owned()),
            dimensions,
            calls_dimensions,
            duration_dimensions,
            exclude_dimensions: section.texts("exclude_dimensions"),
            histogram,
            unit,
            is_delta: is_delta(&section),
            metrics_flush_interval: every,
            metrics_expiration: (!expiration.is_zero()).then_some(expiration),
            resource_metrics_cache_size: cache,
            aggregation_cardinality_limit: section.size_or("aggregation_cardinality_limit", 0),
            exemplars_max: exemplars(&section),
            events: events(&section),
            resource_metrics_key_attributes: section.texts("resource_metrics_key_attributes"),
            add_resource_attributes: section.bool_or("add_resource_attributes", true),
            scopes: section.texts("include_instrumentation_scope"),
        };
        section.without_effect(
            &["dimensions_cache_size", "metric_timestamp_cache_size"],
            "aggregation_cardinality_limit bounds what is held",
        );
        section.finish();
        read
    }

    fn name(&self, what: &str) -> String {
        if self.namespace.is_empty() { what.to_owned() } else { format!("{}.{what}", self.namespace) }
    }

    fn has(&self, built_in: &str) -> bool {
        !self.exclude_dimensions.iter().any(|name| name == built_in)
    }
}

fn is_delta(section: &Section<'_>) -> bool {
    let Some(field) = section.get("aggregation_temporality") else { return false };
    match field.text().as_deref() {
        Some("AGGREGATION_TEMPORALITY_CUMULATIVE") | None => false,
        Some("AGGREGATION_TEMPORALITY_DELTA") => true,
        Some(other) => {
            field.error(format!(
                "`{other}` is neither AGGREGATION_TEMPORALITY_CUMULATIVE nor AGGREGATION_TEMPORALITY_DELTA"
            ));
            false
        }
    }
}

fn dimensions(section: &Section<'_>, key: &'static str, others: &[Dimension]) -> Vec<Dimension> {
    let mut read: Vec<Dimension> = Vec::new();
    for item in section.items(key) {
        let inner = item.section();
        let name = inner.required("name").and_then(|f| f.text());
        let default = inner.get("default").and_then(|f| f.text()).map(Any::StringValue);
        inner.finish();
        let Some(name) = name else { continue };
        if BUILT_IN.contains(&&*name) || read.iter().chain(others).any(|known| known.name == name) {
            item.error(format!("the dimension `{name}` is there already"));
        }
        read.push(Dimension { name, default });
    }
    read
}

fn histogram(section: &Section<'_>, common: &[Dimension]) -> (Option<Shape>, Unit, Vec<Dimension>) {
    let Some(inner) = section.section("histogram") else {
        return (Some(Shape::default_of(1.0)), Unit::Milliseconds, Vec::new());
    };
    let unit = match inner.get("unit").and_then(|f| Some((f.text()?, f))) {
        Some((text, _)) if text == "ms" => Unit::Milliseconds,
        Some((text, _)) if text == "s" => Unit::Seconds,
        Some((text, field)) => {
            field.error(format!("`{text}` is no unit: ms or s"));
            Unit::Milliseconds
        }
        None => Unit::Milliseconds,
    };
    let mut shape = Shape::default_of(1e6 / unit.nanos());
    let (explicit, exponential) = (inner.section("explicit"), inner.section("exponential"));
    if explicit.is_some() && exponential.is_some() {
        inner.error("has both `explicit` and `exponential`; give one of them");
    }
    if let Some(explicit) = explicit {
        if let Some(field) = explicit.get("buckets") {
            shape = Shape::read_buckets(&field, unit.nanos());
        }
        explicit.finish();
    }
    if let Some(exponential) = exponential {
        shape = exponential
            .get("max_size")
            .map_or(Shape::Exponential(super::histogram::EXPONENTIAL_SIZE), |field| Shape::read_size(&field));
        exponential.finish();
    }
    let own = dimensions(&inner, "dimensions", common);
    let is_off = inner.bool_or("disable", false);
    inner.finish();
    ((!is_off).then_some(shape), unit, own)
}

fn exemplars(section: &Section<'_>) -> usize {
    let Some(inner) = section.section("exemplars") else { return 0 };
    let is_on = inner.bool_or("enabled", false);
    let max = inner.size_or("max_per_data_point", EXEMPLARS);
    if max > EXEMPLARS_MAX {
        inner.error(format!("max_per_data_point {max} is above {EXEMPLARS_MAX}"));
    }
    inner.finish();
    if is_on { max } else { 0 }
}

fn events(section: &Section<'_>) -> Option<Vec<Dimension>> {
    let inner = section.section("events")?;
    let is_on = inner.bool_or("enabled", false);
    let read = dimensions(&inner, "dimensions", &[]);
    if is_on && read.is_empty() {
        inner.error("has no dimension; name one, such as exception.type");
    }
    inner.finish();
    is_on.then_some(read)
}

/// What is counted of one resource.
struct Counted {
    attributes: Vec<KeyValue>,
    calls: Family<u64>,
    durations: Family<Histogram>,
    events: Family<u64>,
    touched: Nanos,
}

impl Counted {
    fn n_series(&self) -> usize {
        self.calls.len() + self.durations.len() + self.events.len()
    }
}

#[derive(Default)]
struct Stats {
    counted: u64,
    folded: u64,
    dropped: u64,
    without_service: u64,
    evicted: u64,
}

pub(super) struct SpanMetrics {
    config: SpanMetricsConfig,
    tenants: AHashMap<TenantId, AHashMap<Vec<u8>, Counted>>,
    room: Room,
    stats: Stats,
}

impl SpanMetrics {
    pub fn new(config: SpanMetricsConfig) -> Self {
        let room = Room { limit: config.aggregation_cardinality_limit, used: 0 };
        Self { config, tenants: AHashMap::new(), room, stats: Stats::default() }
    }

    fn take_group(&mut self, tenant: &TenantId, group: &ResourceSpans, at: At) {
        let resource = group.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let n = group.scope_spans.iter().map(|scope| scope.spans.len() as u64).sum::<u64>();
        let Some(Any::StringValue(service)) = get(resource, SERVICE) else {
            self.stats.without_service += n;
            return;
        };
        let config = &self.config;
        let key = resource_key(config, resource);
        let resources = self.tenants.entry(tenant.clone()).or_default();
        if !resources.contains_key(&key) {
            if self.room.is_full() {
                self.stats.dropped += n;
                return;
            }
            if resources.len() >= config.resource_metrics_cache_size {
                let oldest = resources.iter().min_by_key(|(_, counted)| counted.touched).map(|(key, _)| key.clone());
                if let Some(gone) = oldest.and_then(|key| resources.remove(&key)) {
                    self.room.used -= gone.n_series();
                    self.stats.evicted += 1;
                }
            }
        }
        let counted = resources.entry(key).or_insert_with(|| Counted {
            attributes: if config.add_resource_attributes { resource.to_vec() } else { Vec::new() },
            calls: Family::default(),
            durations: Family::default(),
            events: Family::default(),
            touched: at.now,
        });
        counted.touched = at.now;
        keep_common(&mut counted.attributes, resource);
        let mut work = Work { config, counted, room: &mut self.room, folded: 0, at, key: Vec::with_capacity(256) };
        for inner in &group.scope_spans {
            let scope = inner.scope.as_ref().filter(|scope| config.scopes.contains(&scope.name));
            for span in &inner.spans {
                work.count(&Item { service, resource, scope, span, event: None });
            }
        }
        self.stats.counted += n;
        self.stats.folded += work.folded;
    }
}

fn resource_key(config: &SpanMetricsConfig, resource: &[KeyValue]) -> Vec<u8> {
    match &config.resource_metrics_key_attributes[..] {
        _ if !config.add_resource_attributes => Vec::new(),
        [] => identity(resource, IDENTITY),
        names => identity(resource, names.iter().map(String::as_str)),
    }
}

/// A span, or an event of it, with what is around it.
struct Item<'a> {
    service: &'a str,
    resource: &'a [KeyValue],
    /// If it is to be told.
    scope: Option<&'a InstrumentationScope>,
    span: &'a Span,
    event: Option<&'a Event>,
}

impl<'a> Item<'a> {
    fn built_in(&self, name: &str) -> &'a str {
        match name {
            "span.name" => &self.span.name,
            "span.kind" => self.span.kind().as_str_name(),
            "status.code" => self.span.status.as_ref().map_or("STATUS_CODE_UNSET", |s| s.code().as_str_name()),
            _ => self.service,
        }
    }

    /// The more specific place first.
    fn value<'d>(&self, dimension: &'d Dimension) -> Option<&'d Any>
    where
        'a: 'd,
    {
        let name = &dimension.name;
        let of_event = || self.event.and_then(|event| get(&event.attributes, name));
        get(&self.span.attributes, name)
            .or_else(of_event)
            .or_else(|| get(self.resource, name))
            .or(dimension.default.as_ref())
    }

    fn key(&self, config: &SpanMetricsConfig, more: &[&[Dimension]], key: &mut Vec<u8>) {
        key.clear();
        BUILT_IN.iter().filter(|name| config.has(name)).for_each(|name| put(key, Some(self.built_in(name))));
        more.iter().copied().flatten().for_each(|dimension| put_value(key, self.value(dimension)));
        put(key, self.scope.map(|scope| &*scope.name));
        put(key, self.scope.map(|scope| &*scope.version));
    }

    fn attributes(&self, config: &SpanMetricsConfig, more: &[&[Dimension]]) -> Vec<KeyValue> {
        let built_in = BUILT_IN.iter().filter(|name| config.has(name));
        let mut all: Vec<KeyValue> = built_in.map(|name| text_attribute(name, self.built_in(name))).collect();
        for dimension in more.iter().copied().flatten() {
            if let Some(value) = self.value(dimension)
                && !all.iter().any(|known| known.key == dimension.name)
            {
                all.push(attribute(&dimension.name, value.clone()));
            }
        }
        for (name, text) in self.scope.iter().flat_map(|s| [(SCOPE_NAME, &s.name), (SCOPE_VERSION, &s.version)]) {
            if !text.is_empty() {
                all.push(text_attribute(name, text));
            }
        }
        all
    }
}

/// Counting the spans of a resource.
struct Work<'a> {
    config: &'a SpanMetricsConfig,
    counted: &'a mut Counted,
    room: &'a mut Room,
    folded: u64,
    at: At,
    /// Kept from span to span.
    key: Vec<u8>,
}

impl Work<'_> {
    fn count(&mut self, item: &Item<'_>) {
        let (config, at, span) = (self.config, self.at, item.span);
        // A span that ends before it begins took no time.
        let took = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
        let value = units(Duration::from_nanos(took), config.unit.nanos());
        let seen = seen(span, value, at.now).filter(|_| config.exemplars_max > 0);
        let more: [&[Dimension]; 2] = [&config.dimensions, &config.calls_dimensions];
        item.key(config, &more, &mut self.key);
        let attributes = || item.attributes(config, &more);
        let (series, is_over) = self.counted.calls.at(&self.key, self.room, at, attributes, u64::default);
        series.value += 1;
        series.example(seen, config.exemplars_max);
        self.folded += u64::from(is_over);
        if let Some(shape) = &config.histogram {
            let more: [&[Dimension]; 2] = [&config.dimensions, &config.duration_dimensions];
            if !config.calls_dimensions.is_empty() || !config.duration_dimensions.is_empty() {
                item.key(config, &more, &mut self.key);
            }
            let attributes = || item.attributes(config, &more);
            let (series, _) = self.counted.durations.at(&self.key, self.room, at, attributes, || shape.empty());
            series.value.observe(value);
            series.example(seen, config.exemplars_max);
        }
        let Some(own) = &config.events else { return };
        let more: [&[Dimension]; 2] = [&config.dimensions, own];
        for event in &span.events {
            let item = Item { event: Some(event), ..*item };
            item.key(config, &more, &mut self.key);
            let attributes = || item.attributes(config, &more);
            let (series, _) = self.counted.events.at(&self.key, self.room, at, attributes, u64::default);
            series.value += 1;
            series.example(seen, config.exemplars_max);
        }
    }
}

fn seen(span: &Span, value: f64, at: Nanos) -> Option<Seen> {
    let trace_id: [u8; 16] = span.trace_id[..].try_into().ok()?;
    let span_id = span.span_id[..].try_into().ok()?;
    (trace_id != [0; 16]).then_some(Seen { trace_id, span_id, value, at })
}

impl Machine for SpanMetrics {
    fn take(&mut self, tenant: &TenantId, data: Data, at: At) {
        let Data::Traces(groups) = data else { return };
        groups.iter().for_each(|group| self.take_group(tenant, group, at));
    }

    fn collect(&mut self, at: At) -> Vec<(TenantId, Data)> {
        if let Some(after) = self.config.metrics_expiration {
            let after = i64::try_from(after.as_nanos()).unwrap_or(i64::MAX);
            for resources in self.tenants.values_mut() {
                resources.retain(|_, counted| at.now.0.saturating_sub(counted.touched.0) < after);
            }
        }
        self.tenants.retain(|_, resources| !resources.is_empty());
        let config = &self.config;
        let mut out = Vec::new();
        for (tenant, resources) in &mut self.tenants {
            let mut ordered: Vec<(&Vec<u8>, &mut Counted)> = resources.iter_mut().collect();
            ordered.sort_unstable_by_key(|(key, _)| *key);
            let groups = ordered.into_iter().map(|(_, counted)| resource_metrics(config, counted, at.now)).collect();
            out.push((tenant.clone(), Data::Metrics(groups)));
        }
        if config.is_delta {
            self.tenants.clear();
        }
        self.room.used = self.tenants.values().flat_map(|resources| resources.values()).map(Counted::n_series).sum();
        out
    }

    fn is_delta(&self) -> bool {
        self.config.is_delta
    }

    fn outcomes(&self) -> Outcomes {
        let stats = &self.stats;
        vec![
            ("counted", stats.counted),
            ("folded", stats.folded),
            ("dropped", stats.dropped),
            ("without_service_name", stats.without_service),
            ("evicted_resources", stats.evicted),
        ]
    }
}

fn resource_metrics(config: &SpanMetricsConfig, counted: &mut Counted, now: Nanos) -> ResourceMetrics {
    let durations = config.histogram.as_ref().and_then(|shape| {
        let families = (&mut counted.durations, shape);
        histograms(&config.name("duration"), config.unit.name(), families, now, config.is_delta)
    });
    let calls = numbers(&config.name("calls"), &mut counted.calls, now, config.is_delta);
    let events = numbers(&config.name("events"), &mut counted.events, now, config.is_delta);
    let scope = InstrumentationScope { name: "spanmetricsconnector".to_owned(), ..InstrumentationScope::default() };
    let metrics = [calls, durations, events].into_iter().flatten().collect();
    ResourceMetrics {
        resource: Some(Resource { attributes: counted.attributes.clone(), ..Resource::default() }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    }
}
