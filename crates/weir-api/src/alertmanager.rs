//! Alertmanager's API, version 2: alerts, groups, silences, receivers, status.
//!
//! Errors are a JSON string as body; what violates the schema is 422 with a code, as upstream's
//! generated server answers.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_alert::{AlertStatus, PostedAlert, Silence, SilenceError, SilenceRequest, SilenceState, parse_matchers};
use weir_model::matcher::all_match;
use weir_model::{Labels, MatchOp, Matcher, Timestamp};

use crate::App;
use crate::tenant::Tenant;

/// Largest body of posted alerts.
const BODY_BYTES_MAX: usize = 16 << 20;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v2/status", get(status))
        .route("/api/v2/receivers", get(receivers))
        .route("/api/v2/alerts", get(alerts).post(post_alerts))
        .route("/api/v2/alerts/groups", get(groups))
        .route("/api/v2/silences", get(silences).post(post_silence))
        .route("/api/v2/silence/{id}", get(silence).delete(delete_silence))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::map_response(|mut response: Response| async {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }))
}

fn bad(text: impl Into<String>) -> Response {
    (StatusCode::BAD_REQUEST, Json(Value::from(text.into()))).into_response()
}

/// The body or a parameter is not what the schema says.
fn unprocessable(text: impl Into<String>) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "code": 602, "message": text.into() }))).into_response()
}

/// Parameters of the alert lists.
struct Filter {
    active: bool,
    silenced: bool,
    inhibited: bool,
    muted: bool,
    matchers: Vec<Matcher>,
    receiver: Option<Matcher>,
    /// Over a receiver's labels and its `name`.
    receiver_matchers: Vec<Matcher>,
}

impl Filter {
    #[allow(clippy::result_large_err, reason = "an answer is built once per wrong request")]
    fn parse(query: Option<String>) -> Result<Self, Response> {
        let mut filter = Self {
            active: true,
            silenced: true,
            inhibited: true,
            muted: true,
            matchers: Vec::new(),
            receiver: None,
            receiver_matchers: Vec::new(),
        };
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let flag = || match &*value {
                "true" | "1" => Ok(true),
                "false" | "0" => Ok(false),
                _ => Err(unprocessable(format!("{key} in query must be of type bool: {value:?}"))),
            };
            match &*key {
                "active" => filter.active = flag()?,
                "silenced" => filter.silenced = flag()?,
                "inhibited" => filter.inhibited = flag()?,
                "muted" => filter.muted = flag()?,
                // Alerts are routed when they come in, so none is ever unprocessed.
                "unprocessed" => drop(flag()?),
                "filter" => filter.matchers.extend(parse_matchers(&value).map_err(|e| bad(e.to_string()))?),
                "receiver_matchers" => {
                    filter.receiver_matchers.extend(parse_matchers(&value).map_err(|e| bad(e.to_string()))?)
                }
                "receiver" if !value.is_empty() => {
                    let matcher = Matcher::new("receiver", MatchOp::Regex, &*value);
                    filter.receiver = Some(matcher.map_err(|e| bad(format!("failed to parse receiver param: {e}")))?);
                }
                _ => {}
            }
        }
        Ok(filter)
    }

    fn receiver(&self, app: &App, name: &str) -> bool {
        let labels = || {
            let config = app.alerts.config();
            let found = config.receivers.iter().find(|r| r.name == name).map(|r| r.labels.clone()).unwrap_or_default();
            Labels::from_pairs(found).with("name", name)
        };
        self.receiver.as_ref().is_none_or(|m| m.matches(name))
            && (self.receiver_matchers.is_empty() || all_match(&self.receiver_matchers, &labels()))
    }

    fn alert(&self, alert: &AlertStatus) -> bool {
        let active = !suppressed(alert);
        (self.active || !active)
            && (self.silenced || alert.silenced_by.is_empty())
            && (self.inhibited || alert.inhibited_by.is_empty())
    }
}

fn suppressed(alert: &AlertStatus) -> bool {
    !(alert.silenced_by.is_empty() && alert.inhibited_by.is_empty() && alert.muted_by.is_empty())
}

fn alert_json(status: &AlertStatus) -> Value {
    let alert = &status.alert;
    let muted = suppressed(status);
    json!({
        "annotations": alert.annotations,
        "endsAt": alert.ends_at.rfc3339(),
        "fingerprint": alert.fingerprint(),
        "receivers": status.receivers.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "startsAt": alert.starts_at.rfc3339(),
        "status": {
            "inhibitedBy": status.inhibited_by,
            "mutedBy": status.muted_by,
            "silencedBy": status.silenced_by,
            "state": if muted { "suppressed" } else { "active" },
        },
        "updatedAt": alert.updated_at.rfc3339(),
        "generatorURL": alert.generator_url,
        "labels": alert.labels,
    })
}

async fn alerts(State(app): State<Arc<App>>, Tenant(tenant): Tenant, RawQuery(query): RawQuery) -> Response {
    let filter = match Filter::parse(query) {
        Ok(filter) => filter,
        Err(response) => return response,
    };
    let mut found = app.alerts.alerts(&tenant, &filter.matchers);
    found.retain(|a| filter.alert(a) && a.receivers.iter().any(|r| filter.receiver(&app, r)));
    Json(found.iter().map(alert_json).collect::<Vec<_>>()).into_response()
}

async fn groups(State(app): State<Arc<App>>, Tenant(tenant): Tenant, RawQuery(query): RawQuery) -> Response {
    let filter = match Filter::parse(query) {
        Ok(filter) => filter,
        Err(response) => return response,
    };
    let mut found = app.alerts.groups(&tenant, &filter.matchers);
    found.retain_mut(|g| {
        let all_muted = g.alerts.iter().all(suppressed);
        g.alerts.retain(|a| filter.alert(a));
        filter.receiver(&app, &g.receiver) && !g.alerts.is_empty() && (filter.muted || !all_muted)
    });
    let json = |g: &weir_alert::GroupView| {
        json!({
            "labels": g.labels,
            "routeLabels": g.route_labels,
            "receiver": { "name": g.receiver },
            "alerts": g.alerts.iter().map(alert_json).collect::<Vec<_>>(),
        })
    };
    Json(found.iter().map(json).collect::<Vec<_>>()).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody {
    labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

/// RFC 3339; Go's zero time is no time.
fn parse_time(text: &str) -> Result<Option<Timestamp>, String> {
    if text.is_empty() || text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    let time: jiff::Timestamp = text.parse().map_err(|e| format!("{text:?} is not an RFC 3339 time: {e}"))?;
    Ok(Some(Timestamp(time.as_millisecond())))
}

impl AlertBody {
    fn posted(self) -> Result<PostedAlert, String> {
        let time = |text: Option<String>| text.map_or(Ok(None), |t| parse_time(&t));
        if let Some(name) = self.labels.keys().find(|name| name.is_empty()) {
            return Err(format!("invalid label set: invalid name {name:?}"));
        }
        Ok(PostedAlert {
            labels: Labels::from_pairs(self.labels),
            annotations: Labels::from_pairs(self.annotations.unwrap_or_default()),
            starts_at: time(self.starts_at)?,
            ends_at: time(self.ends_at)?,
            generator_url: self.generator_url.unwrap_or_default(),
        })
    }
}

/// Valid alerts are kept, whatever stands beside them.
async fn post_alerts(State(app): State<Arc<App>>, Tenant(tenant): Tenant, body: Bytes) -> Response {
    let alerts: Vec<AlertBody> = match serde_json::from_slice(&body) {
        Ok(alerts) => alerts,
        Err(e) => return unprocessable(format!("parsing alerts body: {e}")),
    };
    let mut errors = Vec::new();
    for alert in alerts {
        let result = alert.posted().and_then(|a| app.alerts.post(&tenant, a).map_err(|e| e.to_string()));
        errors.extend(result.err());
    }
    if errors.is_empty() { StatusCode::OK.into_response() } else { bad(errors.join("; ")) }
}

fn silence_json(silence: &Silence, now: Timestamp) -> Value {
    let matcher = |m: &Matcher| {
        json!({
            "name": m.name,
            "value": m.value,
            "isRegex": matches!(m.op, MatchOp::Regex | MatchOp::NotRegex),
            "isEqual": matches!(m.op, MatchOp::Equal | MatchOp::Regex),
        })
    };
    json!({
        "id": silence.id,
        "status": { "state": silence.state(now).as_str() },
        "updatedAt": silence.updated_at.rfc3339(),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": silence.ends_at.rfc3339(),
        "matchers": silence.matchers.iter().map(matcher).collect::<Vec<_>>(),
        "startsAt": silence.starts_at.rfc3339(),
    })
}

async fn silences(State(app): State<Arc<App>>, Tenant(tenant): Tenant, RawQuery(query): RawQuery) -> Response {
    let (mut filter, mut states) = (Vec::new(), [true, true, true]);
    for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "filter" => match parse_matchers(&value) {
                Ok(matchers) => filter.extend(matchers),
                Err(e) => return bad(e.to_string()),
            },
            "active" => states[0] = value != "false",
            "pending" => states[1] = value != "false",
            "expired" => states[2] = value != "false",
            _ => {}
        }
    }
    let now = app.clock.now();
    let mut found = app.alerts.silences(&tenant);
    // The filter looks at what a silence's own matchers say.
    found.retain(|s| {
        let said = Labels::from_pairs(s.matchers.iter().map(|m| (&*m.name, &*m.value)));
        let shown = match s.state(now) {
            SilenceState::Active => states[0],
            SilenceState::Pending => states[1],
            SilenceState::Expired => states[2],
        };
        shown && all_match(&filter, &said)
    });
    found.sort_by_key(|s| match s.state(now) {
        SilenceState::Active => (0, s.ends_at.0),
        SilenceState::Pending => (1, s.starts_at.0),
        SilenceState::Expired => (2, -s.ends_at.0),
    });
    Json(found.iter().map(|s| silence_json(s, now)).collect::<Vec<_>>()).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SilenceBody {
    id: Option<String>,
    matchers: Vec<MatcherBody>,
    starts_at: String,
    ends_at: String,
    created_by: String,
    comment: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MatcherBody {
    name: String,
    value: String,
    is_regex: bool,
    is_equal: Option<bool>,
}

impl SilenceBody {
    fn request(self, now: Timestamp) -> Result<SilenceRequest, String> {
        let matcher = |m: MatcherBody| {
            let op = match (m.is_regex, m.is_equal.unwrap_or(true)) {
                (false, true) => MatchOp::Equal,
                (false, false) => MatchOp::NotEqual,
                (true, true) => MatchOp::Regex,
                (true, false) => MatchOp::NotRegex,
            };
            Matcher::new(m.name, op, m.value).map_err(|e| format!("invalid silence: {e}"))
        };
        Ok(SilenceRequest {
            id: self.id,
            matchers: self.matchers.into_iter().map(matcher).collect::<Result<_, _>>()?,
            starts_at: parse_time(&self.starts_at)?.unwrap_or(now),
            ends_at: parse_time(&self.ends_at)?.ok_or("invalid silence: end time is missing")?,
            created_by: self.created_by,
            comment: self.comment,
        })
    }
}

async fn post_silence(State(app): State<Arc<App>>, Tenant(tenant): Tenant, body: Bytes) -> Response {
    let body: SilenceBody = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(e) => return unprocessable(format!("parsing silence body: {e}")),
    };
    let request = match body.request(app.clock.now()) {
        Ok(request) => request,
        Err(text) => return bad(text),
    };
    match app.alerts.silence(&tenant, request, fresh_id()).await {
        Ok(id) => Json(json!({ "silenceID": id })).into_response(),
        Err(e @ SilenceError::NotFound { .. }) => {
            (StatusCode::NOT_FOUND, Json(Value::from(e.to_string()))).into_response()
        }
        Err(e) => bad(e.to_string()),
    }
}

/// A version 4 UUID.
pub(crate) fn fresh_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    let [a, b] = [0, 1].map(|n: u8| RandomState::new().hash_one(n));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        ((b >> 48) & 0x3fff) | 0x8000,
        b & 0xffff_ffff_ffff
    )
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, Json(Value::from("silence not found"))).into_response()
}

async fn silence(State(app): State<Arc<App>>, Tenant(tenant): Tenant, Path(id): Path<String>) -> Response {
    let now = app.clock.now();
    let found = app.alerts.silences(&tenant).into_iter().find(|s| s.id == id);
    found.map_or_else(not_found, |s| Json(silence_json(&s, now)).into_response())
}

async fn delete_silence(State(app): State<Arc<App>>, Tenant(tenant): Tenant, Path(id): Path<String>) -> Response {
    if app.alerts.expire_silence(&tenant, &id).await { StatusCode::OK.into_response() } else { not_found() }
}

async fn receivers(State(app): State<Arc<App>>) -> Response {
    let config = app.alerts.config();
    let receiver = |r: &weir_alert::Receiver| match r.labels.is_empty() {
        true => json!({ "name": r.name }),
        false => json!({ "name": r.name, "labels": r.labels }),
    };
    Json(config.receivers.iter().map(receiver).collect::<Vec<_>>()).into_response()
}

async fn status(State(app): State<Arc<App>>) -> Response {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({
        "cluster": { "status": "disabled", "peers": [] },
        "versionInfo": {
            "version": version, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
        },
        "config": { "original": app.alerts.config().original },
        "uptime": app.started_at.rfc3339(),
    }))
    .into_response()
}
