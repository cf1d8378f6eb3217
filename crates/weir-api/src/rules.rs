//! `/api/v1/rules`, `/api/v1/alerts`, `/api/v1/alertmanagers`: rules and alerts as Prometheus shows them.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use weir_go::format_e;
use weir_model::matcher::all_match;
use weir_model::{AlertPhase, Labels, Matcher, Timestamp};
use weir_rules::{AlertView, GroupView, Health, RuleKindView, RuleView};

use crate::App;
use crate::tenant::Tenant;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/rules", get(rules))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/alertmanagers", get(alertmanagers))
}

pub(crate) fn success(data: Value) -> Response {
    Json(json!({ "status": "success", "data": data })).into_response()
}

fn bad_data(parameter: &str, cause: impl std::fmt::Display) -> Response {
    let error = format!("invalid parameter \"{parameter}\": {cause}");
    (StatusCode::BAD_REQUEST, Json(json!({ "status": "error", "errorType": "bad_data", "error": error })))
        .into_response()
}

/// What `/api/v1/rules` shows.
#[derive(Default)]
struct Wanted {
    kind: Option<String>,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    /// Alternatives, each a list of which all must hold.
    matchers: Vec<Vec<Matcher>>,
    exclude_alerts: bool,
    group_limit: Option<usize>,
    next_token: Option<String>,
}

impl Wanted {
    #[allow(clippy::result_large_err, reason = "an answer is built once per wrong request")]
    fn parse(query: Option<String>) -> Result<Self, Response> {
        let mut wanted = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let value = value.into_owned();
            match &*key {
                "type" if matches!(&*value, "alert" | "record") => wanted.kind = Some(value),
                "type" if value.is_empty() => {}
                "type" => return Err(bad_data("type", format!("not supported value {value:?}"))),
                "rule_name[]" => wanted.names.push(value),
                "rule_group[]" => wanted.groups.push(value),
                "file[]" => wanted.files.push(value),
                "match[]" => {
                    wanted.matchers.push(weir_promql::parse_selector(&value).map_err(|e| bad_data("match[]", e))?)
                }
                "exclude_alerts" => {
                    wanted.exclude_alerts = match &*value {
                        "true" | "1" | "t" => true,
                        "false" | "0" | "f" | "" => false,
                        other => return Err(bad_data("exclude_alerts", format!("not a boolean: {other:?}"))),
                    }
                }
                "group_limit" => {
                    let limit = value.parse().ok().filter(|n| *n > 0);
                    let limit =
                        limit.ok_or_else(|| bad_data("group_limit", "group_limit needs to be greater than 0"))?;
                    wanted.group_limit = Some(limit);
                }
                "group_next_token" if !value.is_empty() => wanted.next_token = Some(value),
                _ => {}
            }
        }
        if wanted.next_token.is_some() && wanted.group_limit.is_none() {
            return Err(bad_data("group_limit", "group_limit needs to be set in order to paginate over the groups"));
        }
        Ok(wanted)
    }

    fn rule(&self, rule: &RuleView) -> bool {
        let is_alert = matches!(rule.kind, RuleKindView::Alerting { .. });
        let labels = || Labels::from_pairs(rule.labels.iter().map(|(k, v)| (&**k, &**v)));
        self.kind.as_deref().is_none_or(|kind| (kind == "alert") == is_alert)
            && (self.names.is_empty() || self.names.contains(&rule.name))
            && (self.matchers.is_empty() || self.matchers.iter().any(|m| all_match(m, &labels())))
    }

    fn group(&self, group: &GroupView) -> bool {
        (self.groups.is_empty() || self.groups.contains(&group.name))
            && (self.files.is_empty() || self.files.contains(&group.file))
    }
}

/// Names a group for the next page.
fn token(group: &GroupView) -> String {
    format!("{:016x}", Labels::from_pairs([("file", &*group.file), ("name", &*group.name)]).fingerprint())
}

async fn rules(State(app): State<Arc<App>>, Tenant(tenant): Tenant, RawQuery(query): RawQuery) -> Response {
    let groups = app.rules.groups(&tenant);
    answer(groups, query)
}

/// Those of the groups that are asked for.
pub(crate) fn answer(mut groups: Vec<GroupView>, query: Option<String>) -> Response {
    let wanted = match Wanted::parse(query) {
        Ok(wanted) => wanted,
        Err(response) => return response,
    };
    groups.retain_mut(|g| {
        g.rules.retain(|r| wanted.rule(r));
        wanted.group(g) && !g.rules.is_empty()
    });
    groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
    if let Some(next) = &wanted.next_token {
        let Some(at) = groups.iter().position(|g| token(g) == *next) else {
            return bad_data("group_next_token", "invalid group_next_token. were rule groups changed?");
        };
        groups.drain(..at);
    }
    let mut data = Map::new();
    let next = wanted.group_limit.and_then(|limit| groups.get(limit)).map(token);
    groups.truncate(wanted.group_limit.unwrap_or(usize::MAX));
    data.insert("groups".into(), groups.iter().map(|g| group_json(g, wanted.exclude_alerts)).collect());
    if let Some(next) = next {
        data.insert("groupNextToken".into(), next.into());
    }
    success(data.into())
}

/// Go's zero time stands for "never".
fn time(t: Option<Timestamp>) -> Value {
    t.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), Timestamp::rfc3339).into()
}

pub(crate) fn group_json(group: &GroupView, exclude_alerts: bool) -> Value {
    json!({
        "name": group.name,
        "file": group.file,
        "rules": group.rules.iter().map(|r| rule_json(r, exclude_alerts)).collect::<Vec<_>>(),
        "interval": group.interval.as_secs_f64(),
        "limit": group.limit,
        "evaluationTime": group.evaluation_time.as_secs_f64(),
        "lastEvaluation": time(group.last_evaluation),
        "language": group.language.as_str(),
    })
}

fn phase_text(phase: Option<AlertPhase>, evaluated: bool) -> &'static str {
    match phase {
        Some(AlertPhase::Firing) => "firing",
        Some(AlertPhase::Pending) => "pending",
        Some(AlertPhase::Unknown) => "unknown",
        Some(AlertPhase::Resolved) | None if evaluated => "inactive",
        _ => "unknown",
    }
}

fn rule_json(rule: &RuleView, exclude_alerts: bool) -> Value {
    let (health, error) = match &rule.health {
        Health::Unknown => ("unknown", None),
        Health::Ok => ("ok", None),
        Health::Failed(error) => ("err", Some(error)),
    };
    let mut json = json!({ "name": rule.name, "query": rule.query });
    match &rule.kind {
        RuleKindView::Recording => {
            if !rule.labels.is_empty() {
                json["labels"] = json!(rule.labels);
            }
            json["type"] = "recording".into();
        }
        RuleKindView::Alerting { hold, keep_firing_for, annotations, alerts } => {
            json["state"] = phase_text(rule.phase(), rule.last_evaluation.is_some()).into();
            json["duration"] = hold.as_secs_f64().into();
            json["keepFiringFor"] = keep_firing_for.as_secs_f64().into();
            json["labels"] = json!(rule.labels);
            json["annotations"] = json!(annotations);
            let shown = if exclude_alerts { &[][..] } else { alerts };
            json["alerts"] = shown.iter().map(alert_json).collect();
            json["type"] = "alerting".into();
        }
    }
    json["health"] = health.into();
    if let Some(error) = error {
        json["lastError"] = error.as_str().into();
    }
    json["evaluationTime"] = rule.evaluation_time.as_secs_f64().into();
    json["lastEvaluation"] = time(rule.last_evaluation);
    json
}

pub(crate) fn alert_json(alert: &AlertView) -> Value {
    let mut json = json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": phase_text(Some(alert.phase), true),
        "activeAt": alert.active_at.rfc3339(),
        "value": format_e(alert.value),
    });
    if let Some(since) = alert.keep_firing_since {
        json["keepFiringSince"] = since.rfc3339().into();
    }
    json
}

async fn alerts(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Response {
    let alerts: Vec<Value> = app.rules.alerts(&tenant).iter().map(alert_json).collect();
    success(json!({ "alerts": alerts }))
}

/// The built-in one.
async fn alertmanagers(State(app): State<Arc<App>>) -> Response {
    let own = json!({ "url": format!("{}/api/v2/alerts", app.external_url) });
    success(json!({ "activeAlertmanagers": [own], "droppedAlertmanagers": [] }))
}
