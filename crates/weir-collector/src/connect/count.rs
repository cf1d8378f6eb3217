//! `count`: how many spans, events, metrics, data points and records there are, of which attributes and conditions.

use std::time::Duration;

use ahash::AHashMap;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use weir_model::{Nanos, TenantId};

use super::family::{Family, Room, number, sum};
use super::resource::{IDENTITY, attribute, identity, keep_common, put_value};
use super::{At, Machine, Outcomes};
use crate::config::{Field, Node, Scalar, Section};
use crate::data::{Data, get};
use crate::ottl::{Condition, Context, EvalError, Paths, Scene, Subject};
use crate::process::conditions;
use crate::process::walk::retain;

/// Counts are added up for so long before they go on, so that their times ascend however many batches come at once.
pub(super) const EVERY: Duration = Duration::from_secs(1);
/// A series that is silent for so long is forgotten, and begins at zero when it comes again.
const FORGET_NANOS: i64 = 3600 * 1_000_000_000;

const SECTIONS: [(Context, &str, &str, &str); 5] = [
    (Context::Span, "spans", "trace.span.count", "The number of spans observed."),
    (Context::SpanEvent, "spanevents", "trace.span.event.count", "The number of span events observed."),
    (Context::Metric, "metrics", "metric.count", "The number of metrics observed."),
    (Context::DataPoint, "datapoints", "metric.datapoint.count", "The number of data points observed."),
    (Context::Log, "logs", "log.record.count", "The number of log records observed."),
];

/// One metric of a `count`.
#[derive(Clone, Debug)]
struct Counter {
    context: Context,
    name: String,
    description: String,
    /// Any of them; none counts everything.
    conditions: Vec<Condition>,
    /// An item that lacks one without a default is not counted.
    attributes: Vec<(String, Option<Any>)>,
}

/// `count` as a file has it.
#[derive(Clone, Debug)]
pub struct CountConfig {
    counters: Vec<Counter>,
}

impl CountConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let mut counters = Vec::new();
        for (context, key, name, description) in SECTIONS {
            let Some(written) = section.written(key) else {
                let (name, description) = (name.to_owned(), description.to_owned());
                counters.push(Counter { context, name, description, conditions: Vec::new(), attributes: Vec::new() });
                continue;
            };
            for (name, field) in written.section().entries() {
                counters.push(counter(context, name, &field));
            }
        }
        section.unsupported(&["profiles"]);
        section.finish();
        Self { counters }
    }
}

fn counter(context: Context, name: &str, field: &Field<'_>) -> Counter {
    let section = field.section();
    if name.is_empty() {
        section.error("a metric without a name");
    }
    let description = section.text("description").unwrap_or_default();
    let conditions = conditions(&section.items("conditions"), Paths::Of(context));
    let mut attributes = Vec::new();
    for item in section.items("attributes") {
        if context == Context::Metric {
            item.error("metrics have no attributes: count `datapoints` by theirs");
        }
        let inner = item.section();
        let default = inner.get("default_value").and_then(|field| scalar(&field));
        inner.unsupported(&["any_depth"]);
        if let Some(key) = inner.required("key").and_then(|field| field.text()) {
            attributes.push((key, default));
        }
        inner.finish();
    }
    section.finish();
    Counter { context, name: name.to_owned(), description, conditions, attributes }
}

fn scalar(field: &Field<'_>) -> Option<Any> {
    match field.node {
        Node::Scalar(Scalar::Bool(v)) => Some(Any::BoolValue(*v)),
        Node::Scalar(Scalar::Int(v)) => Some(Any::IntValue(*v)),
        Node::Scalar(Scalar::Float(v)) => Some(Any::DoubleValue(*v)),
        // Upstream takes an empty text for none.
        _ => field.text().filter(|text| !text.is_empty()).map(Any::StringValue),
    }
}

/// Counts of one resource, by the position of their counter.
struct Counted {
    attributes: Vec<KeyValue>,
    families: Vec<Family<u64>>,
    touched: Nanos,
}

#[derive(Default)]
struct Stats {
    counted: u64,
    folded: u64,
    dropped: u64,
    failed: u64,
}

pub(super) struct Count {
    config: CountConfig,
    tenants: AHashMap<TenantId, AHashMap<Vec<u8>, Counted>>,
    room: Room,
    stats: Stats,
}

impl Count {
    pub fn new(config: CountConfig) -> Self {
        Self { config, tenants: AHashMap::new(), room: Room { limit: 0, used: 0 }, stats: Stats::default() }
    }

    /// Counts a batch of one resource.
    fn take_group(&mut self, tenant: &TenantId, resource: &[KeyValue], mut data: Data, at: At) {
        let resources = self.tenants.entry(tenant.clone()).or_default();
        let key = identity(resource, IDENTITY);
        if self.room.is_full() && !resources.contains_key(&key) {
            self.stats.dropped += data.n_items() as u64;
            return;
        }
        let counters = &self.config.counters;
        let counted = resources.entry(key).or_insert_with(|| Counted {
            attributes: resource.to_vec(),
            families: counters.iter().map(|_| Family::default()).collect(),
            touched: at.now,
        });
        counted.touched = at.now;
        keep_common(&mut counted.attributes, resource);
        let mut key = Vec::new();
        for (counter, family) in counters.iter().zip(&mut counted.families) {
            let (room, stats) = (&mut self.room, &mut self.stats);
            // Counting drops nothing, and an expression that fails fails for its item alone.
            let looked = retain(&mut data, counter.context, at.now, &mut |scene| {
                match counter.applies(scene) {
                    Ok(Some(values)) => {
                        key.clear();
                        values.iter().for_each(|value| put_value(&mut key, Some(value)));
                        let attributes = || {
                            let names = counter.attributes.iter().map(|(name, _)| name);
                            names.zip(&values).map(|(name, value)| attribute(name, value.clone())).collect()
                        };
                        let (series, is_over) = family.at(&key, room, at, attributes, u64::default);
                        series.value += 1;
                        stats.counted += 1;
                        stats.folded += u64::from(is_over);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        if stats.failed == 0 {
                            tracing::warn!(%error, "an item is not counted; further ones are told by weir's metrics");
                        }
                        stats.failed += 1;
                    }
                }
                Ok::<bool, EvalError>(true)
            });
            debug_assert!(looked.is_ok());
        }
    }
}

impl Counter {
    /// The values of its attributes, if the item is to be counted.
    fn applies(&self, scene: &mut Scene<'_>) -> Result<Option<Vec<Any>>, EvalError> {
        let mut values = Vec::with_capacity(self.attributes.len());
        for (name, default) in &self.attributes {
            let found = own(scene, name)
                .or_else(|| get(&scene.scope.attributes, name).cloned())
                .or_else(|| get(&scene.resource.attributes, name).cloned())
                .or_else(|| default.clone());
            match found {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        if self.conditions.is_empty() {
            return Ok(Some(values));
        }
        for condition in &self.conditions {
            if condition.is_true(scene)? {
                return Ok(Some(values));
            }
        }
        Ok(None)
    }
}

/// An attribute of the item itself.
fn own(scene: &mut Scene<'_>, name: &str) -> Option<Any> {
    let attributes = match &mut scene.subject {
        Subject::Span(span) => &span.attributes,
        Subject::SpanEvent(_, event) => &event.attributes,
        Subject::Point(_, point) => &*point.attributes(),
        Subject::Log(record) => &record.attributes,
        Subject::Metric(_) | Subject::None => return None,
    };
    get(attributes, name).cloned()
}

impl Machine for Count {
    fn take(&mut self, tenant: &TenantId, data: Data, at: At) {
        macro_rules! each {
            ($groups:ident, $kind:ident) => {
                for group in $groups {
                    let resource = group.resource.clone().unwrap_or_default().attributes;
                    self.take_group(tenant, &resource, Data::$kind(vec![group]), at);
                }
            };
        }
        match data {
            Data::Traces(groups) => each!(groups, Traces),
            Data::Metrics(groups) => each!(groups, Metrics),
            Data::Logs(groups) => each!(groups, Logs),
        }
    }

    fn collect(&mut self, at: At) -> Vec<(TenantId, Data)> {
        let counters = &self.config.counters;
        let mut out = Vec::new();
        for (tenant, resources) in &mut self.tenants {
            let mut ordered: Vec<(&Vec<u8>, &mut Counted)> = resources.iter_mut().collect();
            ordered.sort_unstable_by_key(|(key, _)| *key);
            let groups = ordered.into_iter().filter_map(|(_, counted)| resource_metrics(counters, counted, at));
            let groups: Vec<ResourceMetrics> = groups.collect();
            if !groups.is_empty() {
                out.push((tenant.clone(), Data::Metrics(groups)));
            }
        }
        let oldest = Nanos(at.now.0.saturating_sub(FORGET_NANOS));
        for resources in self.tenants.values_mut() {
            resources.retain(|_, counted| counted.touched >= oldest);
            let families = resources.values_mut().flat_map(|counted| &mut counted.families);
            families.for_each(|family| family.forget_before(oldest));
        }
        self.tenants.retain(|_, resources| !resources.is_empty());
        let families =
            self.tenants.values().flat_map(|resources| resources.values()).flat_map(|counted| &counted.families);
        self.room.used = families.map(Family::len).sum();
        out
    }

    fn is_delta(&self) -> bool {
        true
    }

    fn outcomes(&self) -> Outcomes {
        let stats = &self.stats;
        vec![("counted", stats.counted), ("folded", stats.folded), ("dropped", stats.dropped), ("failed", stats.failed)]
    }
}

fn resource_metrics(counters: &[Counter], counted: &mut Counted, at: At) -> Option<ResourceMetrics> {
    let mut metrics = Vec::new();
    for (counter, family) in counters.iter().zip(&mut counted.families) {
        let mut points: Vec<NumberDataPoint> = Vec::new();
        let take = |attributes: &[KeyValue], value: &mut u64, begins: Option<Nanos>| {
            if *value > 0 {
                points.extend(begins.map(|begin| number(attributes, begin, begin, 0)));
                points.push(number(attributes, at.before, at.now, std::mem::take(value)));
            }
        };
        family.drain_values(take, at.now);
        if !points.is_empty() {
            let mut metric = sum(&counter.name, points, true);
            metric.description.clone_from(&counter.description);
            metrics.push(metric);
        }
    }
    if metrics.is_empty() {
        return None;
    }
    let scope = Some(InstrumentationScope { name: "countconnector".to_owned(), ..InstrumentationScope::default() });
    Some(ResourceMetrics {
        resource: Some(Resource { attributes: counted.attributes.clone(), ..Resource::default() }),
        scope_metrics: vec![ScopeMetrics { scope, metrics, ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    })
}
