//! The ruler's part of Loki's API: rules with LogQL expressions, to read. They are written in files.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use weir_rules::{GroupView, Language, RuleKindView, RuleView};

use crate::App;
use crate::rules::{alert_json, answer, success};
use crate::tenant::Tenant;

pub fn router() -> Router<Arc<App>> {
    let mut router = Router::new()
        .route("/prometheus/api/v1/rules", get(state_of_rules))
        .route("/prometheus/api/v1/alerts", get(state_of_alerts));
    for base in ["/loki/api/v1/rules", "/api/prom/rules"] {
        router = router
            .route(base, get(all))
            .route(&format!("{base}/{{namespace}}"), get(of_namespace).post(read_only).delete(read_only))
            .route(&format!("{base}/{{namespace}}/{{group}}"), get(one).delete(read_only));
    }
    router
}

fn groups(app: &App, tenant: &weir_model::TenantId) -> Vec<GroupView> {
    let mut groups = app.rules.groups(tenant);
    groups.retain(|g| g.language == Language::Logql);
    groups
}

async fn state_of_rules(State(app): State<Arc<App>>, Tenant(tenant): Tenant, RawQuery(query): RawQuery) -> Response {
    answer(groups(&app, &tenant), query)
}

async fn state_of_alerts(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Response {
    let groups = groups(&app, &tenant);
    let alerts = groups.iter().flat_map(|g| g.rules.iter().flat_map(|r| r.alerts()));
    success(json!({ "alerts": alerts.map(alert_json).collect::<Vec<_>>() }))
}

async fn all(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Response {
    by_namespace(&groups(&app, &tenant))
}

async fn of_namespace(State(app): State<Arc<App>>, Tenant(tenant): Tenant, Path(namespace): Path<String>) -> Response {
    let mut groups = groups(&app, &tenant);
    groups.retain(|g| namespace_of(g) == namespace);
    by_namespace(&groups)
}

async fn one(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    let groups = groups(&app, &tenant);
    match groups.iter().find(|g| namespace_of(g) == namespace && g.name == name) {
        Some(group) => yaml(&as_written(group)),
        None => (StatusCode::NOT_FOUND, "group does not exist\n").into_response(),
    }
}

async fn read_only() -> Response {
    let text = "rules are kept in files: change those under --ruler.storage.local.directory, then POST /-/reload\n";
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")], text).into_response()
}

/// The file's name, as Loki has it for rules in files.
fn namespace_of(group: &GroupView) -> &str {
    FilePath::new(&group.file).file_name().and_then(|n| n.to_str()).unwrap_or(&group.file)
}

fn by_namespace(groups: &[GroupView]) -> Response {
    if groups.is_empty() {
        return (StatusCode::NOT_FOUND, "no rule groups found\n").into_response();
    }
    let mut namespaces: Map<String, Value> = Map::new();
    for group in groups {
        let list = namespaces.entry(namespace_of(group)).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(as_written(group));
        }
    }
    yaml(&Value::Object(namespaces))
}

/// JSON, which is YAML.
fn yaml(value: &Value) -> Response {
    let text = format!("{value:#}\n");
    ([(header::CONTENT_TYPE, "application/yaml")], text).into_response()
}

fn as_written(group: &GroupView) -> Value {
    let mut out = json!({ "name": group.name, "interval": go_duration(group.interval) });
    if group.limit > 0 {
        out["limit"] = group.limit.into();
    }
    out["rules"] = group.rules.iter().map(rule).collect();
    out
}

fn rule(rule: &RuleView) -> Value {
    let mut out = match &rule.kind {
        RuleKindView::Recording => json!({ "record": rule.name, "expr": &*rule.query }),
        RuleKindView::Alerting { hold, keep_firing_for, annotations, .. } => {
            let mut out = json!({ "alert": rule.name, "expr": &*rule.query });
            for (key, length) in [("for", hold), ("keep_firing_for", keep_firing_for)] {
                if !length.is_zero() {
                    out[key] = go_duration(*length).into();
                }
            }
            if !annotations.is_empty() {
                out["annotations"] = json!(annotations);
            }
            out
        }
    };
    if !rule.labels.is_empty() {
        out["labels"] = json!(rule.labels);
    }
    out
}

/// As rule files have it: `90s`.
fn go_duration(length: std::time::Duration) -> String {
    match length.subsec_millis() {
        0 => format!("{}s", length.as_secs()),
        _ => format!("{}ms", length.as_millis()),
    }
}
