//! `GET` and `POST /api/weir/v1/changes`: deployments, flags, configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_model::{Change, ChangeKind, EntityId, TimeRange, Timestamp};

use crate::App;
use crate::diagnose::{ApiError, parse_time};
use crate::tenant::Tenant;

/// Changes in one POST.
const BATCH_MAX: usize = 1000;
/// Bytes of any one text of a change.
const TEXT_MAX: usize = 4096;

#[derive(Deserialize)]
pub(crate) struct RangeQuery {
    start: Option<String>,
    end: Option<String>,
}

impl RangeQuery {
    /// The last hour when nothing is said.
    pub(crate) fn range(&self, now: Timestamp, default_seconds: u64) -> Result<TimeRange, ApiError> {
        let end = self.end.as_deref().map_or(Ok(now), |t| parse_time("end", t))?;
        let default = end.minus(std::time::Duration::from_secs(default_seconds));
        let start = self.start.as_deref().map_or(Ok(default), |t| parse_time("start", t))?;
        if start > end {
            return Err(ApiError::bad_request("`start` must not be after `end`"));
        }
        Ok(TimeRange::new(start, end))
    }
}

pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/weir/v1/changes", get(list).post(record))
}

pub(crate) fn to_json(change: &Change) -> Value {
    let mut value = serde_json::to_value(change).unwrap_or(Value::Null);
    value["at"] = change.at.rfc3339().into();
    value
}

/// Waits until something is on disk; what a full disk refuses stands in memory and is written later.
pub(crate) async fn written(
    what: &str,
    flush: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), ApiError> {
    let told = |reason: String| {
        ApiError(StatusCode::SERVICE_UNAVAILABLE, format!("{what}: kept in memory, and not on disk yet: {reason}"))
    };
    match tokio::task::spawn_blocking(flush).await {
        Ok(flushed) => flushed.map_err(told),
        Err(stopped) => Err(told(stopped.to_string())),
    }
}

async fn list(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Query(query): Query<RangeQuery>,
) -> Result<Json<Value>, ApiError> {
    let range = query.range(app.clock.now(), 3600)?;
    let changes: Vec<Value> = app.changes.changes(&tenant, range).iter().map(to_json).collect();
    Ok(Json(json!({ "changes": changes })))
}

/// A change as it is sent; times as text, most fields optional.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    at: Option<Value>,
    kind: ChangeKind,
    entity: EntityId,
    #[serde(default)]
    title: String,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    instances: Vec<String>,
    source: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

impl Told {
    fn check(self, now: Timestamp) -> Result<Change, ApiError> {
        let at = match &self.at {
            None | Some(Value::Null) => now,
            Some(Value::String(text)) => parse_time("at", text)?,
            Some(other) => parse_time("at", &other.to_string())?,
        };
        let optional = [&self.from, &self.to, &self.source];
        let texts = optional.into_iter().flatten().chain([&self.title]).chain(&self.instances);
        let pairs = self.attributes.iter().flat_map(|(k, v)| [k, v]);
        let too_long = texts.chain(pairs).any(|t| t.len() > TEXT_MAX) || self.entity.name.len() > TEXT_MAX;
        if too_long || self.instances.len() > 1000 || self.attributes.len() > 100 {
            return Err(ApiError::bad_request(format!(
                "a change holds texts of at most {TEXT_MAX} bytes, 1000 instances and 100 attributes"
            )));
        }
        if self.entity.name.is_empty() {
            return Err(ApiError::bad_request("`entity.name` is empty"));
        }
        let name = &self.entity.name;
        let title = match (self.title.is_empty(), &self.to) {
            (false, _) => self.title,
            (true, Some(to)) => format!("{name} went to {to}"),
            (true, None) => format!("{name} changed"),
        };
        Ok(Change {
            at,
            kind: self.kind,
            title,
            entity: self.entity,
            from: self.from,
            to: self.to,
            instances: self.instances,
            source: self.source.unwrap_or_else(|| "api".to_owned()),
            attributes: self.attributes,
        })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

async fn record(State(app): State<Arc<App>>, Tenant(tenant): Tenant, body: Bytes) -> Result<StatusCode, ApiError> {
    let bad = |e: serde_json::Error| ApiError::bad_request(format!("body of changes: {e}"));
    let told = match serde_json::from_slice(&body).map_err(bad)? {
        OneOrMany::Many(many) => many,
        OneOrMany::One(one) => vec![one],
    };
    if told.len() > BATCH_MAX {
        return Err(ApiError::bad_request(format!("at most {BATCH_MAX} changes in one request")));
    }
    let now = app.clock.now();
    let check = |(k, value): (usize, Value)| {
        let told: Told =
            serde_json::from_value(value).map_err(|e| ApiError::bad_request(format!("change {}: {e}", k + 1)))?;
        told.check(now)
    };
    let changes: Vec<Change> = told.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
    changes.into_iter().for_each(|change| app.change_sink.record(&tenant, change));
    let sink = app.change_sink.clone();
    written("changes", move || sink.flush()).await?;
    Ok(StatusCode::NO_CONTENT)
}
