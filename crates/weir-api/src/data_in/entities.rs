//! `GET /entities` and `GET /entities/{kind}/{name}`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use weir_model::entity::EntityInfo;
use weir_model::source::{ReadContext, ReadError, SpanFragment, SpanPredicate};
use weir_model::{AttrValue, EntityId, EntityKind, MatchOp, Matcher, Nanos, TenantId, TimeRange};

use super::error;
use super::golden::{self, Golden};
use crate::App;
use crate::tenant::Tenant;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;
/// Selectors are offered for data that young.
const RECENT: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
pub struct ListParams {
    kind: Option<String>,
    #[serde(default)]
    q: String,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct RowJson {
    id: String,
    kind: EntityKind,
    name: Arc<str>,
    last_seen: String,
}

pub async fn list(State(app): State<Arc<App>>, Tenant(tenant): Tenant, Query(params): Query<ListParams>) -> Response {
    let kind = match params.kind.as_deref().filter(|kind| !kind.is_empty()) {
        None => None,
        Some(name) => match EntityKind::parse(name) {
            Some(kind) => Some(kind),
            None => return error(StatusCode::BAD_REQUEST, unknown_kind(name)),
        },
    };
    let limit = params.limit.filter(|limit| *limit > 0).unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let rows = app.ingest.entities().list(&tenant, kind, &params.q, limit).into_iter().map(|info| RowJson {
        id: info.id.to_string(),
        kind: info.id.kind,
        name: info.id.name,
        last_seen: info.last_seen.rfc3339(),
    });
    Json(serde_json::json!({ "entities": rows.collect::<Vec<_>>() })).into_response()
}

fn unknown_kind(name: &str) -> String {
    let known: Vec<&str> = EntityKind::ALL.iter().map(|kind| kind.as_str()).collect();
    format!("`{name}` is no kind of entity; use one of {}", known.join(", "))
}

#[derive(Serialize)]
struct VersionJson {
    version: Arc<str>,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

#[derive(Serialize)]
struct EntityJson {
    id: String,
    kind: EntityKind,
    name: Arc<str>,
    first_seen: String,
    last_seen: String,
    instances: Vec<Arc<str>>,
    namespaces: Vec<Arc<str>>,
    versions: Vec<VersionJson>,
    upstream: Vec<String>,
    downstream: Vec<String>,
    selectors: Selectors,
    golden: Vec<Golden>,
}

/// Each empty where there is no data.
#[derive(Default, Serialize)]
struct Selectors {
    metrics: String,
    logs: String,
    traces: String,
}

pub async fn one(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Path((kind, name)): Path<(String, String)>,
) -> Response {
    let Some(kind) = EntityKind::parse(&kind) else { return error(StatusCode::NOT_FOUND, unknown_kind(&kind)) };
    let id = EntityId::new(kind, name);
    let Some(info) = app.ingest.entities().get(&tenant, &id) else {
        return error(StatusCode::NOT_FOUND, format!("nothing was received about {id} yet"));
    };
    match describe(&app, &tenant, info).await {
        Ok(json) => Json(json).into_response(),
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, failed.to_string()),
    }
}

async fn describe(app: &App, tenant: &TenantId, info: EntityInfo) -> Result<EntityJson, ReadError> {
    let matcher = metric_matcher(app, tenant, &info.id).await?;
    let golden = match &matcher {
        Some(matcher) => golden::find(app, tenant, matcher, recent(app)).await?,
        None => Vec::new(),
    };
    let selectors = Selectors {
        metrics: matcher.as_ref().map(|m| format!("{{{m}}}")).unwrap_or_default(),
        logs: log_selector(app, tenant, &info.id).await?,
        traces: trace_filter(app, tenant, &info.id).await?,
    };
    let (upstream, downstream) = app.graph.neighbours(tenant, &info.id);
    let text = |ids: Vec<EntityId>| ids.iter().map(ToString::to_string).collect();
    let versions = info.versions.into_iter().map(|v| VersionJson {
        version: v.version,
        from: v.from.rfc3339(),
        to: v.to.map(|to| to.rfc3339()),
    });
    Ok(EntityJson {
        id: info.id.to_string(),
        kind: info.id.kind,
        name: info.id.name,
        first_seen: info.first_seen.rfc3339(),
        last_seen: info.last_seen.rfc3339(),
        instances: info.instances,
        namespaces: info.namespaces,
        versions: versions.collect(),
        upstream: text(upstream),
        downstream: text(downstream),
        selectors,
        golden,
    })
}

fn recent(app: &App) -> TimeRange {
    let now = app.clock.now();
    TimeRange::new(now.minus(RECENT), now)
}

/// Label names that may hold an entity of this kind, likeliest first.
fn label_names(app: &App, kind: EntityKind) -> Vec<String> {
    let aliases = app.ingest.aliases();
    let names = match kind {
        EntityKind::Service => vec![&aliases.service],
        EntityKind::Instance => vec![&aliases.instance],
        EntityKind::Node => vec![&aliases.node],
        EntityKind::Topic | EntityKind::Partition => vec![&aliases.topic],
        EntityKind::ConsumerGroup => vec![&aliases.consumer_group, &aliases.consumer_group_weak],
        EntityKind::Database => vec![&aliases.database, &aliases.database_weak],
        EntityKind::Endpoint => vec![],
    };
    // Labels have no dots in what weir stores.
    names.into_iter().flatten().filter(|name| !name.contains(['.', '/'])).cloned().collect()
}

/// A matcher for each way a sender may have named the entity.
fn candidates(app: &App, id: &EntityId) -> Vec<Matcher> {
    let topic = id.name.rsplit_once('/').map_or(&*id.name, |(topic, _)| topic);
    let value = if id.kind == EntityKind::Partition { topic } else { &id.name };
    let mut out = Vec::new();
    for name in label_names(app, id.kind) {
        // `job` may be `namespace/service`.
        let in_namespace = name == "job" && id.kind == EntityKind::Service;
        out.extend(Matcher::new(&name, MatchOp::Equal, value).ok());
        if in_namespace {
            out.extend(Matcher::new(&name, MatchOp::Regex, format!(".+/{}", escape(value))).ok());
        }
    }
    out
}

/// Escapes what has a meaning in a regular expression.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

async fn metric_matcher(app: &App, tenant: &TenantId, id: &EntityId) -> Result<Option<Matcher>, ReadError> {
    for matcher in candidates(app, id) {
        let names = app.metrics.label_names(tenant, std::slice::from_ref(&matcher), recent(app)).await?;
        if !names.is_empty() {
            return Ok(Some(matcher));
        }
    }
    Ok(None)
}

async fn log_selector(app: &App, tenant: &TenantId, id: &EntityId) -> Result<String, ReadError> {
    let range = recent(app);
    for matcher in candidates(app, id) {
        let matchers = std::slice::from_ref(&matcher);
        let streams = app.logs.streams(tenant, matchers, range.start.nanos(), Nanos(range.end.nanos().0 + 1)).await?;
        if !streams.is_empty() {
            return Ok(format!("{{{matcher}}}"));
        }
    }
    Ok(String::new())
}

async fn trace_filter(app: &App, tenant: &TenantId, id: &EntityId) -> Result<String, ReadError> {
    let name = id.name.to_string();
    let candidates: Vec<(SpanPredicate, String)> = match id.kind {
        EntityKind::Service => {
            vec![(SpanPredicate::Service(name.clone()), format!("{{ resource.service.name = {name:?} }}"))]
        }
        kind => attribute_names(kind)
            .iter()
            .map(|(scope, attribute)| {
                let predicate = SpanPredicate::Attribute((*attribute).to_owned(), AttrValue::from(name.as_str()));
                (predicate, format!("{{ {scope}.{attribute} = {name:?} }}"))
            })
            .collect(),
    };
    let range = recent(app);
    let context = ReadContext { budget: app.query_budget.clone(), ..ReadContext::unlimited() };
    for (predicate, filter) in candidates {
        let fragment =
            SpanFragment { start: range.start.nanos(), end: range.end.nanos(), predicates: vec![predicate.clone()] };
        let mut cursor = app.spans.open(tenant, &fragment, &context).await?;
        // A source may return more than asked: what it returns is looked at again.
        if let Some(traces) = cursor.next()?
            && traces.iter().flat_map(|t| &t.spans).any(|span| holds(&predicate, span))
        {
            return Ok(filter);
        }
    }
    Ok(String::new())
}

fn holds(predicate: &SpanPredicate, span: &weir_model::Span) -> bool {
    match predicate {
        SpanPredicate::Service(name) => span.resource.service() == name,
        SpanPredicate::Attribute(name, value) => span.get(name).or_else(|| span.resource.get(name)) == Some(value),
        _ => false,
    }
}

fn attribute_names(kind: EntityKind) -> &'static [(&'static str, &'static str)] {
    match kind {
        EntityKind::Instance => &[("resource", "service.instance.id"), ("resource", "k8s.pod.name")],
        EntityKind::Node => &[("resource", "host.name"), ("resource", "k8s.node.name")],
        EntityKind::Topic => &[("span", "messaging.destination.name")],
        EntityKind::ConsumerGroup => {
            &[("span", "messaging.consumer.group.name"), ("span", "messaging.kafka.consumer.group")]
        }
        EntityKind::Database => &[("span", "db.namespace"), ("span", "db.name")],
        EntityKind::Service | EntityKind::Partition | EntityKind::Endpoint => &[],
    }
}
