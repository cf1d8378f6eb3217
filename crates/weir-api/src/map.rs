//! `GET /api/weir/v1/map`: the pipeline with its rates, errors, latencies, lag and alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use weir_diagnose::{EdgeKey, EdgeKind, FlowStat, GraphView, is_counted_from_spans};
use weir_model::entity::Aliases;
use weir_model::source::{Cancel, MetricFragment, Projection, ReadContext};
use weir_model::{AlertPhase, EntityId, EntityKind, MatchOp, Matcher, TenantId, TimeRange};

use crate::App;
use crate::changes::RangeQuery;
use crate::diagnose::ApiError;
use crate::tenant::Tenant;

/// Without a range, the map shows the last minute.
const DEFAULT_SECONDS: u64 = 60;
/// A lag reading older than this says nothing of now.
const LAG_STALE: Duration = Duration::from_secs(300);
/// Label pairs by which series tell of a call: caller, callee.
const CALL_LABELS: [(&str, &str); 2] = [("client", "server"), ("source", "destination")];
const EDGES_FROM_SERIES_MAX: usize = 2_000;

pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/weir/v1/map", get(map))
}

/// Lag of a group on a topic over its partitions.
#[derive(Clone, Copy, Default)]
struct Lag {
    messages: Option<f64>,
    seconds: Option<f64>,
}

async fn map(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Query(query): Query<RangeQuery>,
) -> Result<Json<Value>, ApiError> {
    let range = query.range(app.clock.now(), DEFAULT_SECONDS)?;
    let view = app.graph.view(&tenant, range);
    let cancel = Cancel::default();
    let guard = cancel.on_drop();
    let context = ReadContext { budget: app.query_budget.clone(), cancel };
    let lag = lag(&app, &tenant, range, &context).await?;
    let told = calls_in_series(&app, &tenant, range, &context).await?;
    guard.disarm();
    Ok(Json(answer(&app, &tenant, &view, &lag, &told)))
}

type LagByGroup = BTreeMap<(String, String), Lag>;

async fn lag(app: &App, tenant: &TenantId, range: TimeRange, context: &ReadContext) -> Result<LagByGroup, ApiError> {
    let mut out = LagByGroup::new();
    let from = range.end.minus(LAG_STALE).max(range.start.minus(LAG_STALE));
    for (name, seconds) in [("kafka_consumergroup_group_lag", false), ("kafka_consumergroup_group_lag_seconds", true)] {
        let fragment = MetricFragment {
            matchers: vec![Matcher::equal("__name__", name)],
            range: TimeRange::new(from, range.end),
            projection: Projection::Samples,
            ..MetricFragment::default()
        };
        let mut cursor = app.metrics.open(tenant, &fragment, context).await?;
        while let Some(batch) = cursor.next()? {
            for series in &batch {
                let labels = &series.labels;
                let (Some(group), Some(topic)) = (labels.get("group"), labels.get("topic")) else { continue };
                let Some(last) = series.samples.last().filter(|s| s.value.is_finite()) else { continue };
                let entry = out.entry((group.to_owned(), topic.to_owned())).or_default();
                // Messages add up over partitions; a group is as late as its latest partition.
                if seconds {
                    entry.seconds = Some(entry.seconds.map_or(last.value, |v: f64| v.max(last.value)));
                } else {
                    entry.messages = Some(entry.messages.unwrap_or(0.0) + last.value);
                }
            }
        }
    }
    Ok(out)
}

/// A call that series tell of.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    from: String,
    to: String,
    counted_from_spans: bool,
}

/// Calls that series tell of, as service meshes and recorded graphs do.
async fn calls_in_series(
    app: &App,
    tenant: &TenantId,
    range: TimeRange,
    context: &ReadContext,
) -> Result<BTreeSet<Told>, ApiError> {
    let mut out = BTreeSet::new();
    let from = range.start.min(range.end.minus(LAG_STALE));
    for (from_label, to_label) in CALL_LABELS {
        let present = |name: &str| Matcher::new(name, MatchOp::NotEqual, "").expect("no regular expression in it");
        let fragment = MetricFragment {
            matchers: vec![present(from_label), present(to_label)],
            range: TimeRange::new(from, range.end),
            projection: Projection::Series,
            ..MetricFragment::default()
        };
        let mut cursor = app.metrics.open(tenant, &fragment, context).await?;
        while let Some(batch) = cursor.next()? {
            for series in batch {
                if out.len() < EDGES_FROM_SERIES_MAX {
                    let value = |name: &str| series.labels.value(name).to_owned();
                    let counted_from_spans = is_counted_from_spans(&series.labels);
                    out.insert(Told { from: value(from_label), to: value(to_label), counted_from_spans });
                }
            }
        }
    }
    Ok(out)
}

/// Firing and pending alerts per entity.
fn alerts(app: &App, tenant: &TenantId) -> BTreeMap<EntityId, (usize, usize)> {
    let aliases = Aliases::default();
    let mut out: BTreeMap<EntityId, (usize, usize)> = BTreeMap::new();
    for alert in app.incidents.active_alerts(tenant) {
        for entity in aliases.resolve_labels(&alert.labels).entities() {
            let counts = out.entry(entity).or_default();
            match alert.phase {
                AlertPhase::Firing | AlertPhase::Unknown => counts.0 += 1,
                AlertPhase::Pending => counts.1 += 1,
                AlertPhase::Resolved => {}
            }
        }
    }
    out
}

fn flow(stat: Option<&FlowStat>, seconds: f64) -> Value {
    let quantile = |q: f64| stat.and_then(|s| s.duration.quantile_ms(q));
    json!({
        "rate": stat.map_or(0.0, |s| s.count as f64 / seconds),
        "error_ratio": stat.map_or(0.0, FlowStat::error_ratio),
        "p50_ms": quantile(0.5),
        "p95_ms": quantile(0.95),
        "p99_ms": quantile(0.99),
    })
}

fn with_lag(value: &mut Value, lag: Lag) {
    for (name, number) in [("lag_messages", lag.messages), ("lag_seconds", lag.seconds)] {
        if let Some(number) = number {
            value[name] = number.into();
        }
    }
}

fn answer(app: &App, tenant: &TenantId, view: &GraphView, lag: &LagByGroup, told: &BTreeSet<Told>) -> Value {
    let service = |name: &str| EntityId::new(EntityKind::Service, name);
    let mut edges: BTreeMap<EdgeKey, Option<&FlowStat>> =
        view.edges.iter().map(|(key, stat)| (key.clone(), Some(stat))).collect();
    let has_spans = |id: &EntityId| view.nodes.binary_search_by(|(known, _)| known.cmp(id)).is_ok();
    for told in told {
        let (from, to) = (service(&told.from), service(&told.to));
        if told.counted_from_spans && has_spans(&from) {
            continue;
        }
        let key = EdgeKey { from, to, kind: EdgeKind::Call, group: None };
        edges.entry(key).or_insert(None);
    }
    let mut nodes: BTreeMap<EntityId, Option<&FlowStat>> =
        view.nodes.iter().map(|(id, stat)| (id.clone(), Some(stat))).collect();
    for key in edges.keys() {
        nodes.entry(key.from.clone()).or_insert(None);
        nodes.entry(key.to.clone()).or_insert(None);
    }
    let alerts = alerts(app, tenant);
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|(id, stat)| {
            let mut value = flow(*stat, view.seconds);
            let (firing, pending) = alerts.get(id).copied().unwrap_or_default();
            value["id"] = id.to_string().into();
            value["kind"] = id.kind.as_str().into();
            value["name"] = (*id.name).into();
            value["firing"] = firing.into();
            value["pending"] = pending.into();
            let versions = view.versions.get(&id.name).filter(|_| id.kind == EntityKind::Service);
            value["versions"] = versions.into_iter().flatten().map(|v| Value::from(&**v)).collect();
            if id.kind == EntityKind::Topic {
                with_lag(&mut value, lag_of(lag, |_, topic| *topic == *id.name));
            }
            value
        })
        .collect();
    let edges: Vec<Value> = edges
        .iter()
        .map(|(key, stat)| {
            let mut value = flow(*stat, view.seconds);
            value["from"] = key.from.to_string().into();
            value["to"] = key.to.to_string().into();
            value["kind"] = key.kind.as_str().into();
            if let Some(share) = stat.and_then(FlowStat::continuity) {
                value["continuity"] = share.into();
                if let Some(library) = view.context_lost_by.get(key).filter(|_| share < 1.0) {
                    value["context_lost_by"] = (**library).into();
                }
            }
            if let Some(group) = &key.group {
                value["group"] = (**group).into();
                with_lag(&mut value, lag_of(lag, |g, topic| *g == **group && *topic == *key.from.name));
            }
            value
        })
        .collect();
    json!({ "nodes": nodes, "edges": edges })
}

fn lag_of(lag: &LagByGroup, of: impl Fn(&str, &str) -> bool) -> Lag {
    lag.iter().filter(|((group, topic), _)| of(group, topic)).fold(Lag::default(), |sum, (_, one)| Lag {
        messages: one.messages.map(|m| m + sum.messages.unwrap_or(0.0)).or(sum.messages),
        seconds: one.seconds.map(|s| s.max(sum.seconds.unwrap_or(0.0))).or(sum.seconds),
    })
}
