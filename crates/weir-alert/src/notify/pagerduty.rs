//! PagerDuty's Events API, version 2 and the older version 1.

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};
use weir_model::TenantId;

use super::{Renderer, truncate};
use crate::config::{Pagerduty, PagerdutyKey};
use crate::template::Notification;

const SUMMARY_MAX: usize = 1024;
/// Largest event that PagerDuty takes.
const BODY_BYTES_MAX: usize = 512_000;

/// The status beside 5xx that is worth another try.
pub(super) fn retried_status(pagerduty: &Pagerduty) -> u16 {
    match pagerduty.key {
        PagerdutyKey::Routing(_) => 429,
        PagerdutyKey::Service(_) => 403,
    }
}

/// The same for every notification of a group, so that they all end in one incident.
pub(crate) fn dedup_key(tenant: &TenantId, group_key: &str) -> String {
    let mut hash = Sha256::new();
    // Upstream knows no tenants; theirs is the key of the tenant without a name.
    if *tenant != TenantId::anonymous() {
        hash.update(tenant.as_str());
        hash.update([0]);
    }
    hash.update(group_key);
    hex::encode(hash.finalize())
}

pub(super) fn body(
    pagerduty: &Pagerduty,
    notification: &Notification,
    tenant: &TenantId,
    render: &Renderer<'_>,
) -> Result<Json, String> {
    let text = |key: &str| render.text(pagerduty.texts.get(key).map_or("", String::as_str));
    let dedup_key = dedup_key(tenant, &notification.group_key);
    let mut details = Map::new();
    // What the reader wants first stands first: PagerDuty keeps the order.
    if let Some(cause) = &notification.cause {
        details.insert("cause".into(), cause.title.clone().into());
        details.insert("cause_confidence".into(), format!("{:.0}%", cause.confidence * 100.0).into());
        details.insert("cause_evidence".into(), cause.lines.clone().into());
    }
    details.insert("incident".into(), notification.incident_url.clone().into());
    for (key, value) in &pagerduty.details {
        details.insert(key.clone(), detail(value, render)?);
    }
    let description = truncate(text("description")?, SUMMARY_MAX);
    let firing = notification.firing();
    let routing = match &pagerduty.key {
        PagerdutyKey::Routing(key) => key,
        PagerdutyKey::Service(key) => {
            return Ok(json!({
                "service_key": render.text(&key.0)?,
                "event_type": if firing { "trigger" } else { "resolve" },
                "incident_key": dedup_key,
                "description": description,
                "client": text("client")?,
                "client_url": text("client_url")?,
                "details": details,
            }));
        }
    };
    let mut payload = Map::new();
    payload.insert("summary".into(), description.into());
    payload.insert("source".into(), text("source")?.into());
    payload.insert("severity".into(), text("severity")?.into());
    for key in ["class", "component", "group"] {
        let value = text(key)?;
        if !value.is_empty() {
            payload.insert(key.into(), value.into());
        }
    }
    payload.insert("custom_details".into(), details.into());
    let incident = json!({"href": notification.incident_url, "text": "incident in weir"});
    let mut links = vec![incident];
    links.extend(list(&pagerduty.links, "href", render)?);
    let mut body = json!({
        "routing_key": render.text(&routing.0)?,
        "dedup_key": dedup_key,
        "event_action": if firing { "trigger" } else { "resolve" },
        "client": text("client")?,
        "client_url": text("client_url")?,
        "payload": payload,
        "links": links,
    });
    let images = list(&pagerduty.images, "src", render)?;
    if !images.is_empty() {
        body["images"] = images.into();
    }
    if body.to_string().len() > BODY_BYTES_MAX {
        body["payload"]["custom_details"] = json!({
            "error": format!("custom details were left out: the event was larger than {BODY_BYTES_MAX} bytes"),
            "incident": notification.incident_url,
        });
    }
    Ok(body)
}

/// A string may render to JSON, which is then sent as structure.
fn detail(value: &Json, render: &Renderer<'_>) -> Result<Json, String> {
    Ok(match value {
        Json::String(text) => {
            let rendered = render.text(text)?;
            let structured = rendered.trim_start().starts_with(['{', '[']);
            match serde_json::from_str(&rendered) {
                Ok(json) if structured => json,
                _ => rendered.into(),
            }
        }
        Json::Array(items) => items.iter().map(|v| detail(v, render)).collect::<Result<Vec<_>, _>>()?.into(),
        Json::Object(map) => {
            let pairs = map.iter().map(|(k, v)| Ok((k.clone(), detail(v, render)?)));
            Json::Object(pairs.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

/// Rendered entries; those without their main part are dropped, as PagerDuty refuses them.
fn list(
    entries: &[std::collections::BTreeMap<&'static str, String>],
    main: &str,
    render: &Renderer<'_>,
) -> Result<Vec<Json>, String> {
    let mut out = Vec::new();
    for entry in entries {
        let mut json = Map::new();
        for (key, text) in entry {
            let value = render.text(text)?;
            if !value.is_empty() {
                json.insert((*key).to_owned(), value.into());
            }
        }
        if json.contains_key(main) {
            out.push(json.into());
        }
    }
    Ok(out)
}
