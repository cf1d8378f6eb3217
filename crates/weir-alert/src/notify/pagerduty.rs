//! PagerDuty's Events API, version 2 and the older version 1.

use serde_json::{Map, Value as Json, json};

use super::{Answer, Receive, Request, Say, Step, Texts, all, named, once, or, strings, truncate};
use crate::config::raw::{RawGlobal, Text, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const V2: &str = "https://events.pagerduty.com/v2/enqueue";
const V1: &str = "https://events.pagerduty.com/generic/2010-04-15/create_event.json";
const SUMMARY_MAX: usize = 1024;
/// Largest event that PagerDuty takes.
const BODY_BYTES_MAX: usize = 512_000;

receiver_keys!(Raw {
    routing_key, routing_key_file, service_key, service_key_file, url, client, client_url, description, severity,
    source, class, component, group,
} details: std::collections::BTreeMap<String, Json>, images: Vec<RawImage>, links: Vec<RawLink>, timeout: Text);

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawImage {
    src: Text,
    alt: Text,
    href: Text,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLink {
    href: Text,
    text: Text,
}

#[derive(Debug)]
struct Pagerduty {
    url: String,
    key: Key,
    /// `client`, `client_url`, `description`, `severity`, `source`, `class`, `component`, `group`.
    texts: Texts,
    details: Json,
    images: Vec<Texts>,
    links: Vec<Texts>,
}

#[derive(Debug)]
enum Key {
    /// Events API v2.
    Routing(Secret),
    /// Events API v1.
    Service(Secret),
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let routing = r.secret(line, "routing_key", &raw.routing_key, &raw.routing_key_file)?;
    let service = r.secret(line, "service_key", &raw.service_key, &raw.service_key_file)?;
    let (key, default_url) = match (routing, service) {
        (Some(key), None) => (Key::Routing(key), V2),
        (None, Some(key)) => (Key::Service(key), V1),
        (None, None) => return Err(r.fail(line, "missing service or routing key in PagerDuty config")),
        (Some(_), Some(_)) => return Err(r.fail(line, "at most one of routing_key & service_key must be configured")),
    };
    let url = raw.url.clone().or_else(|| global.pagerduty_url.clone()).unwrap_or_else(|| default_url.to_owned());
    r.url(line, "pagerduty url", &url)?;
    let client = named(&raw.client, "pagerduty.default.client");
    let texts = Texts::from([
        ("client_url", named(&raw.client_url, "pagerduty.default.clientURL")),
        ("description", named(&raw.description, "pagerduty.default.description")),
        ("severity", or(&raw.severity, "error")),
        ("source", or(&raw.source, &client)),
        ("client", client),
        ("class", or(&raw.class, "")),
        ("component", or(&raw.component, "")),
        ("group", or(&raw.group, "")),
    ]);
    let mut details = Map::new();
    for (name, text) in [
        ("firing", r#"{{ template "pagerduty.default.instances" .Alerts.Firing }}"#),
        ("resolved", r#"{{ template "pagerduty.default.instances" .Alerts.Resolved }}"#),
        ("num_firing", "{{ .Alerts.Firing | len }}"),
        ("num_resolved", "{{ .Alerts.Resolved | len }}"),
    ] {
        details.insert(name.to_owned(), text.into());
    }
    details.extend(raw.details.clone());
    let given = |pairs: &[(&'static str, &Text)]| -> Texts {
        pairs.iter().filter_map(|(key, text)| Some((*key, (*text).clone()?))).collect()
    };
    let pagerduty = Pagerduty {
        url,
        key,
        texts,
        details: details.into(),
        images: raw.images.iter().map(|i| given(&[("src", &i.src), ("alt", &i.alt), ("href", &i.href)])).collect(),
        links: raw.links.iter().map(|l| given(&[("href", &l.href), ("text", &l.text)])).collect(),
    };
    let timeout = r.timeout(line, &raw.timeout)?;
    let integration = r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, pagerduty)?;
    Ok(Integration { timeout, ..integration })
}

impl Receive for Pagerduty {
    fn name(&self) -> &'static str {
        "pagerduty"
    }
    fn target(&self) -> &str {
        &self.url
    }
    fn templates(&self) -> Vec<&str> {
        let lists = self.images.iter().chain(&self.links).flat_map(all);
        all(&self.texts).into_iter().chain(lists).chain(strings(&self.details)).collect()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        // Version 1 says 403 where version 2 says 429.
        let retried: &[u16] = if matches!(self.key, Key::Service(_)) { &[403] } else { &[] };
        once(answers, retried, || Ok(Request::post(&self.url, &self.body(say)?)))
    }
}

impl Pagerduty {
    fn body(&self, say: &Say<'_>) -> Result<Json, String> {
        let notification = say.notification;
        let text = |key: &str| say.of(&self.texts, key);
        // What the reader wants first stands first: PagerDuty keeps the order.
        let mut details = Map::new();
        if let Some(cause) = &notification.cause {
            details.insert("cause".into(), cause.title.clone().into());
            details.insert("cause_confidence".into(), format!("{:.0}%", cause.confidence * 100.0).into());
            details.insert("cause_evidence".into(), cause.lines.clone().into());
        }
        details.insert("incident".into(), notification.incident_url.clone().into());
        if let Json::Object(written) = say.tree(&self.details)? {
            details.extend(written);
        }
        let description = truncate(text("description")?, SUMMARY_MAX);
        let action = if say.firing() { "trigger" } else { "resolve" };
        let routing = match &self.key {
            Key::Routing(key) => key,
            Key::Service(key) => {
                return Ok(json!({
                    "service_key": say.text(&key.0)?,
                    "event_type": action,
                    "incident_key": say.dedup_key(),
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
        say.fill(&mut payload, &self.texts, &["class", "component", "group"])?;
        payload.insert("custom_details".into(), details.into());
        let mut links = vec![json!({"href": notification.incident_url, "text": "incident in weir"})];
        links.extend(list(&self.links, "href", say)?);
        let mut body = json!({
            "routing_key": say.text(&routing.0)?,
            "dedup_key": say.dedup_key(),
            "event_action": action,
            "client": text("client")?,
            "client_url": text("client_url")?,
            "payload": payload,
            "links": links,
        });
        let images = list(&self.images, "src", say)?;
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
}

/// Rendered entries; those without their main part are dropped, as PagerDuty refuses them.
fn list(entries: &[Texts], main: &str, say: &Say<'_>) -> Result<Vec<Json>, String> {
    let mut out = Vec::new();
    for entry in entries {
        let json = say.filled(entry)?;
        if json.contains_key(main) {
            out.push(json.into());
        }
    }
    Ok(out)
}
