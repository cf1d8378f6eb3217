//! The generic webhook, version 4.

use serde_json::{Value as Json, json};
use weir_model::Timestamp;

use crate::config::Webhook;
use crate::template::{AlertData, Notification};

/// Go's zero time, which stands for "not ended".
pub(crate) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

pub(super) fn body(webhook: &Webhook, notification: &Notification) -> Json {
    let n_all = notification.alerts.len();
    let n = if webhook.max_alerts == 0 { n_all } else { n_all.min(webhook.max_alerts) };
    let mut body = json!({
        "version": "4",
        "groupKey": notification.group_key,
        "truncatedAlerts": n_all - n,
        "status": notification.status(),
        "receiver": notification.receiver,
        "groupLabels": notification.group_labels,
        "commonLabels": notification.common_labels(),
        "commonAnnotations": notification.common_annotations(),
        "routeLabels": {},
        "externalURL": notification.external_url,
        "notification_reason": notification.reason,
        "alerts": notification.alerts[..n].iter().map(alert).collect::<Vec<_>>(),
    });
    if let Some(cause) = &notification.cause {
        body["cause"] = json!({
            "title": cause.title, "lines": cause.lines, "confidence": cause.confidence, "url": cause.url,
        });
    }
    body
}

fn alert(alert: &AlertData) -> Json {
    json!({
        "status": if alert.firing { "firing" } else { "resolved" },
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": go_rfc3339(alert.starts_at),
        "endsAt": if alert.firing { ZERO_TIME.to_owned() } else { go_rfc3339(alert.ends_at) },
        "generatorURL": alert.generator_url,
        "fingerprint": alert.fingerprint,
        "incidentURL": alert.incident_url,
    })
}

/// RFC 3339 with as many decimals as needed, as Go writes times into JSON.
pub(crate) fn go_rfc3339(t: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(t.0).map_or_else(|_| t.rfc3339(), |t| t.to_string())
}
