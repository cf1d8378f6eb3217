//! Receivers, a file for each kind: its keys, what it is sent, what its answers mean.
//!
//! A receiver is pure: from the notification and the answers so far it says what to do next. Sending,
//! time and retries are `sender.rs`.

pub(crate) mod discord;
pub(crate) mod email;
pub(crate) mod incidentio;
pub(crate) mod jira;
pub(crate) mod mattermost;
pub(crate) mod msteams;
pub(crate) mod msteamsv2;
pub(crate) mod opsgenie;
pub(crate) mod pagerduty;
pub(crate) mod pushover;
pub(crate) mod rocketchat;
pub(crate) mod slack;
pub(crate) mod sns;
pub(crate) mod telegram;
pub(crate) mod twilio;
pub(crate) mod victorops;
pub(crate) mod webex;
pub(crate) mod webhook;
pub(crate) mod wechat;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};
use weir_go::template::{Templates, Value};
use weir_model::{TenantId, Timestamp};

use crate::config::Config;
use crate::config::read::is_placeholder;
use crate::smtp::Mail;
use crate::template::Notification;

/// Texts of a receiver by key; most are templates.
pub(crate) type Texts = BTreeMap<&'static str, String>;

/// One kind of receiver, configured.
pub(crate) trait Receive: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;

    /// Where it sends to; may hold a secret.
    fn target(&self) -> &str;

    /// Every template, so that a typo is found at start and not at three in the morning.
    fn templates(&self) -> Vec<&str>;

    /// What to do next in one attempt. `answers`: to the requests of this attempt so far. An error is
    /// final.
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String>;
}

#[derive(Debug)]
pub(crate) enum Step {
    Http(Request),
    Mail(Box<Mail>),
    End(Verdict),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub method: Method,
    /// May hold a secret: never logged.
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Request {
    pub fn post(url: impl Into<String>, body: &Json) -> Self {
        Self {
            method: Method::POST,
            url: url.into(),
            headers: Vec::new(),
            content_type: "application/json",
            body: body.to_string().into_bytes(),
        }
    }

    pub fn form(url: impl Into<String>, pairs: &[(String, String)]) -> Self {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let content_type = "application/x-www-form-urlencoded; charset=utf-8";
        Self { method: Method::POST, url: url.into(), headers: Vec::new(), content_type, body: body.into_bytes() }
    }

    pub fn get(url: impl Into<String>) -> Self {
        Self { method: Method::GET, url: url.into(), headers: Vec::new(), content_type: "", body: Vec::new() }
    }

    pub fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub status: u16,
    /// The first part, if it is long.
    pub body: String,
    pub retry_after: Option<Duration>,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// What the status means. 429 is worth another try with every receiver: upstream gives up with
    /// most of them, and a page that waits for the next flush comes minutes late.
    pub fn verdict(&self, also_retried: &[u16]) -> Verdict {
        let shown: String = self.body.chars().take(200).collect();
        let said = format!("unexpected status code {}: {shown}", self.status);
        match self.status {
            200..=299 => Verdict::delivered(),
            429 | 500.. => Verdict::Retry { reason: said, after: self.retry_after },
            other if also_retried.contains(&other) => Verdict::Retry { reason: said, after: self.retry_after },
            _ => Verdict::Refused(said),
        }
    }

    /// An end if the status is no success.
    pub fn failure(&self, also_retried: &[u16]) -> Option<Step> {
        match self.verdict(also_retried) {
            Verdict::Delivered { .. } => None,
            other => Some(Step::End(other)),
        }
    }
}

/// What a receiver's answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `kept`: for later notifications of the same group.
    Delivered { kept: String },
    /// Worth another try.
    Retry { reason: String, after: Option<Duration> },
    /// Trying again would give the same.
    Refused(String),
}

impl Verdict {
    pub fn delivered() -> Self {
        Self::Delivered { kept: String::new() }
    }
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }
}

/// The receiver that wants one request and knows by the status whether it came.
pub(crate) fn once(
    answers: &[Answer],
    also_retried: &[u16],
    request: impl FnOnce() -> Result<Request, String>,
) -> Result<Step, String> {
    match answers.first() {
        Some(answer) => Ok(Step::End(answer.verdict(also_retried))),
        None => Ok(Step::Http(request()?)),
    }
}

/// One notification, and the means to render texts about it.
pub(crate) struct Say<'a> {
    pub notification: &'a Notification,
    pub tenant: &'a TenantId,
    /// What the last delivery to this integration about this group kept.
    pub kept: &'a str,
    pub now: Timestamp,
    templates: &'a Templates,
    data: Value,
}

impl<'a> Say<'a> {
    pub fn new(
        notification: &'a Notification,
        tenant: &'a TenantId,
        templates: &'a Templates,
        kept: &'a str,
        now: Timestamp,
    ) -> Self {
        Self { notification, tenant, kept, now, templates, data: notification.value() }
    }

    pub fn text(&self, text: &str) -> Result<String, String> {
        self.render(text, false)
    }

    /// The text as HTML: what comes from alerts is escaped.
    pub fn html(&self, text: &str) -> Result<String, String> {
        self.render(text, true)
    }

    fn render(&self, text: &str, html: bool) -> Result<String, String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let template = self.templates.parse("notification", text).map_err(|e| e.to_string())?;
        let rendered = if html {
            self.templates.render_html(&template, &self.data, &self.now)
        } else {
            self.templates.render_with(&template, &self.data, &self.now)
        };
        rendered.map_err(|e| e.to_string())
    }

    pub fn of(&self, texts: &Texts, key: &str) -> Result<String, String> {
        self.text(texts.get(key).map_or("", String::as_str))
    }

    /// Rendered texts that are not empty.
    pub fn filled(&self, texts: &Texts) -> Result<Map<String, Json>, String> {
        let mut out = Map::new();
        for (key, text) in texts {
            let value = self.text(text)?;
            if !value.is_empty() {
                out.insert((*key).to_owned(), value.into());
            }
        }
        Ok(out)
    }

    /// Adds those of `keys` that do not render to nothing, under the same names.
    pub fn fill(&self, into: &mut Map<String, Json>, texts: &Texts, keys: &[&str]) -> Result<(), String> {
        for key in keys {
            let value = self.of(texts, key)?;
            if !value.is_empty() {
                into.insert((*key).to_owned(), value.into());
            }
        }
        Ok(())
    }

    /// A tree whose strings are templates; a string that renders to a JSON object or list becomes one.
    pub fn tree(&self, value: &Json) -> Result<Json, String> {
        Ok(match value {
            Json::String(text) => {
                let rendered = self.text(text)?;
                match serde_json::from_str(&rendered) {
                    Ok(json) if rendered.trim_start().starts_with(['{', '[']) => json,
                    _ => rendered.into(),
                }
            }
            Json::Array(items) => items.iter().map(|v| self.tree(v)).collect::<Result<Vec<_>, _>>()?.into(),
            Json::Object(map) => {
                let pairs = map.iter().map(|(k, v)| Ok((k.clone(), self.tree(v)?)));
                Json::Object(pairs.collect::<Result<_, String>>()?)
            }
            other => other.clone(),
        })
    }

    pub fn firing(&self) -> bool {
        self.notification.firing()
    }

    /// The same for every notification of a group, so that they all end in one incident.
    pub fn dedup_key(&self) -> String {
        dedup_key(self.tenant, &self.notification.group_key)
    }

    /// A URL that may be a placeholder, which nothing is sent to.
    pub fn url(&self, url: &str) -> Result<String, String> {
        if is_placeholder(url) {
            return Err("the URL in the configuration is still a placeholder; fill it in".to_owned());
        }
        Ok(url.to_owned())
    }
}

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

pub(crate) fn check_templates(config: &Config) -> Result<(), String> {
    for receiver in &config.receivers {
        for text in receiver.integrations.iter().flat_map(|i| i.kind.templates()) {
            let parsed = config.templates.parse("notification", text);
            parsed.map_err(|e| format!("receiver {:?}: {e}", receiver.name))?;
        }
    }
    for text in config.routes.iter().flat_map(|r| r.labels.values()) {
        config.templates.parse("route label", text).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// All strings in a tree.
fn strings(json: &Json) -> Vec<&str> {
    match json {
        Json::String(s) => vec![s],
        Json::Array(items) => items.iter().flat_map(strings).collect(),
        Json::Object(map) => map.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

fn all(texts: &Texts) -> Vec<&str> {
    texts.values().map(String::as_str).collect()
}

/// What was written, else the default.
fn or(text: &Option<String>, default: &str) -> String {
    text.clone().unwrap_or_else(|| default.to_owned())
}

/// What was written, else upstream's template of that name.
fn named(text: &Option<String>, template: &str) -> String {
    text.clone().unwrap_or_else(|| format!("{{{{ template \"{template}\" . }}}}"))
}

/// A base URL with a slash at its end, so that paths can be appended.
fn base(url: &str) -> String {
    if url.ends_with('/') { url.to_owned() } else { format!("{url}/") }
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

/// The first `max` bytes, cut between characters.
fn truncate_bytes(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mark = "…";
        let mut end = max - mark.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(mark);
    }
    text
}

#[cfg(test)]
mod tests;
