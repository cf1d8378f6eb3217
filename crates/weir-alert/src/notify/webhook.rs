//! The generic webhook, version 4.

use serde_json::{Value as Json, json};
use weir_model::Timestamp;

use super::{Answer, Receive, Request, Say, Step, once, strings};
use crate::config::raw::{RawGlobal, Text, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};
use crate::template::AlertData;

/// Go's zero time, which stands for "not ended".
pub(crate) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

receiver_keys!(Raw { url, url_file } max_alerts: usize, timeout: Text, payload: Json);

#[derive(Debug)]
struct Webhook {
    url: Secret,
    /// Most alerts in one body; 0 is all.
    max_alerts: usize,
    /// Instead of the usual body: a tree whose strings are templates.
    payload: Option<Json>,
}

pub(crate) fn read(r: &mut Reader<'_>, _: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let url = r.secret(line, "url", &raw.url, &raw.url_file)?;
    let url = url.ok_or_else(|| r.fail(line, "one of url or url_file must be configured"))?;
    r.secret_url(line, "webhook url", &url)?;
    let payload = Some(raw.payload.clone()).filter(|p| !p.is_null());
    let timeout = r.timeout(line, &raw.timeout)?;
    let webhook = Webhook { url, max_alerts: raw.max_alerts, payload };
    let integration = r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, webhook)?;
    Ok(Integration { timeout, ..integration })
}

impl Receive for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }
    fn target(&self) -> &str {
        &self.url.0
    }
    fn templates(&self) -> Vec<&str> {
        self.payload.as_ref().map(strings).unwrap_or_default()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let body = match &self.payload {
                Some(tree) => say.tree(tree)?,
                None => body(say, self.max_alerts, "4"),
            };
            Ok(Request::post(say.url(&self.url.0)?, &body))
        })
    }
}

pub(super) fn body(say: &Say<'_>, max_alerts: usize, version: &str) -> Json {
    let notification = say.notification;
    let n_all = notification.alerts.len();
    let n = if max_alerts == 0 { n_all } else { n_all.min(max_alerts) };
    let mut body = json!({
        "version": version,
        "groupKey": notification.group_key,
        "truncatedAlerts": n_all - n,
        "status": notification.status(),
        "receiver": notification.receiver,
        "groupLabels": notification.group_labels,
        "commonLabels": notification.common_labels(),
        "commonAnnotations": notification.common_annotations(),
        "routeLabels": notification.route_labels,
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
