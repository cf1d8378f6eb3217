//! Requests to receivers: pure functions from a notification to what is sent, and from the answer to
//! what it means.

mod pagerduty;
mod slack;
mod webhook;

use serde_json::Value as Json;
use weir_go::template::{Templates, Value};
use weir_model::TenantId;

use crate::config::{Config, IntegrationKind};
use crate::template::Notification;

/// Sent as JSON by POST.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// May hold a secret: never logged.
    pub url: String,
    pub body: Vec<u8>,
}

/// What a receiver's answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    /// Worth another try.
    Retry(String),
    /// Trying again would give the same.
    Refused(String),
}

/// An error is final: the same template fails again.
pub fn request(
    kind: &IntegrationKind,
    notification: &Notification,
    tenant: &TenantId,
    templates: &Templates,
) -> Result<Request, String> {
    let data = notification.value();
    let render = Renderer { templates, data: &data };
    let (url, body) = match kind {
        IntegrationKind::Webhook(w) => (w.url.0.clone(), webhook::body(w, notification)),
        IntegrationKind::Slack(s) => (s.api_url.0.clone(), slack::body(s, &render)?),
        IntegrationKind::Pagerduty(p) => (p.url.clone(), pagerduty::body(p, notification, tenant, &render)?),
    };
    Ok(Request { url, body: body.to_string().into_bytes() })
}

/// `body`: the answer's first few kilobytes.
pub fn judge(kind: &IntegrationKind, status: u16, body: &str) -> Verdict {
    let shown: String = body.chars().take(200).collect();
    let said = format!("unexpected status code {status}: {shown}");
    let retried = status >= 500
        || match kind {
            IntegrationKind::Pagerduty(p) => status == pagerduty::retried_status(p),
            _ => false,
        };
    match status {
        200..=299 => match kind {
            IntegrationKind::Slack(_) => slack::judge(body),
            _ => Verdict::Delivered,
        },
        _ if retried => Verdict::Retry(said),
        _ => Verdict::Refused(said),
    }
}

/// Renders the texts of one notification.
pub(crate) struct Renderer<'a> {
    templates: &'a Templates,
    data: &'a Value,
}

impl Renderer<'_> {
    pub fn text(&self, text: &str) -> Result<String, String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let template = self.templates.parse("notification", text).map_err(|e| e.to_string())?;
        self.templates.render(&template, self.data).map_err(|e| e.to_string())
    }
}

/// Every text of every receiver must at least parse, so that a typo is found at start and not at
/// three in the morning.
pub(crate) fn check_templates(config: &Config) -> Result<(), String> {
    let check = |receiver: &str, text: &str| {
        let parsed = config.templates.parse("notification", text);
        parsed.map(|_| ()).map_err(|e| format!("receiver {receiver:?}: {e}"))
    };
    for receiver in &config.receivers {
        for integration in &receiver.integrations {
            let mut texts: Vec<&str> = Vec::new();
            match &integration.kind {
                IntegrationKind::Webhook(_) => {}
                IntegrationKind::Slack(s) => {
                    texts.extend(s.texts.values().map(String::as_str));
                    texts.extend(s.fields.iter().flat_map(|f| [&*f.title, &*f.value]));
                    texts.extend(s.actions.iter().flat_map(|a| a.texts.values().map(String::as_str)));
                    texts.extend(
                        s.actions.iter().filter_map(|a| a.confirm.as_ref()).flat_map(|c| c.values().map(|t| &**t)),
                    );
                }
                IntegrationKind::Pagerduty(p) => {
                    texts.extend(p.texts.values().map(String::as_str));
                    texts.extend(p.images.iter().chain(&p.links).flat_map(|m| m.values().map(String::as_str)));
                    p.details.values().for_each(|v| strings(v, &mut texts));
                }
            }
            for text in texts {
                check(&receiver.name, text)?;
            }
        }
    }
    Ok(())
}

fn strings<'a>(json: &'a Json, out: &mut Vec<&'a str>) {
    match json {
        Json::String(s) => out.push(s),
        Json::Array(items) => items.iter().for_each(|v| strings(v, out)),
        Json::Object(map) => map.values().for_each(|v| strings(v, out)),
        _ => {}
    }
}

/// The first `max` characters; what is cut is marked.
fn truncate(text: String, max: usize) -> String {
    if text.chars().count() <= max {
        return text;
    }
    let mut cut: String = text.chars().take(max - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests;
