//! Opsgenie: alerts with an alias, closed by it.

use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use super::{Answer, Receive, Request, Say, Step, Texts, Verdict, all, base, named, or, truncate};
use crate::config::raw::{RawGlobal, Text, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const API: &str = "https://api.opsgenie.com/";
const MESSAGE_MAX: usize = 130;
const DESCRIPTION_MAX: usize = 15_000;

receiver_keys!(Raw {
    api_key, api_key_file, api_url, message, description, source, entity, actions, tags, note, priority,
} details: std::collections::BTreeMap<String, String>, responders: Vec<RawResponder>, update_alerts: bool);

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawResponder {
    id: Text,
    name: Text,
    username: Text,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug)]
struct Opsgenie {
    api: String,
    key: Secret,
    texts: Texts,
    details: Vec<(String, String)>,
    responders: Vec<Texts>,
    update_alerts: bool,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let own = (&raw.api_key, &raw.api_key_file);
    let global_key = ("opsgenie_api_key", &global.opsgenie_api_key, &global.opsgenie_api_key_file);
    let key = r.secret_or(line, "api_key", own, global_key)?;
    let key =
        key.ok_or_else(|| r.fail(line, "no global OpsGenie API key set: give api_key or global.opsgenie_api_key"))?;
    let api = raw.api_url.clone().or_else(|| global.opsgenie_api_url.clone()).unwrap_or_else(|| API.to_owned());
    r.url(line, "opsgenie api_url", &api)?;
    let mut responders = Vec::new();
    for responder in &raw.responders {
        if responder.id.is_none() && responder.name.is_none() && responder.username.is_none() {
            return Err(r.fail(line, "opsgenie responder has no id, name or username"));
        }
        let kinds = ["team", "teams", "user", "escalation", "schedule"];
        if !responder.kind.contains("{{") && !kinds.contains(&responder.kind.to_lowercase().as_str()) {
            let kind = &responder.kind;
            return Err(r.fail(line, format!("opsgenie responder type {kind:?} is not one of {}", kinds.join(", "))));
        }
        responders.push(Texts::from([
            ("id", or(&responder.id, "")),
            ("name", or(&responder.name, "")),
            ("username", or(&responder.username, "")),
            ("type", responder.kind.clone()),
        ]));
    }
    let texts = Texts::from([
        ("message", named(&raw.message, "opsgenie.default.message")),
        ("description", named(&raw.description, "opsgenie.default.description")),
        ("source", named(&raw.source, "opsgenie.default.source")),
        ("entity", or(&raw.entity, "")),
        ("actions", or(&raw.actions, "")),
        ("tags", or(&raw.tags, "")),
        ("note", or(&raw.note, "")),
        ("priority", or(&raw.priority, "")),
    ]);
    let details = raw.details.clone().into_iter().collect();
    let opsgenie = Opsgenie { api: base(&api), key, texts, details, responders, update_alerts: raw.update_alerts };
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, opsgenie)
}

impl Receive for Opsgenie {
    fn name(&self) -> &'static str {
        "opsgenie"
    }
    fn target(&self) -> &str {
        &self.api
    }
    fn templates(&self) -> Vec<&str> {
        let details = self.details.iter().map(|(_, text)| text.as_str());
        all(&self.texts).into_iter().chain(details).chain(self.responders.iter().flat_map(all)).collect()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        if let Some(step) = answers.last().and_then(|a| a.failure(&[])) {
            return Ok(step);
        }
        let alias = say.dedup_key();
        let of_alias = |what: &str| format!("{}v2/alerts/{alias}/{what}?identifierType=alias", self.api);
        let message = || Ok::<_, String>(truncate(say.of(&self.texts, "message")?, MESSAGE_MAX));
        let description = || Ok::<_, String>(truncate(say.of(&self.texts, "description")?, DESCRIPTION_MAX));
        let request = match (answers.len(), say.firing()) {
            (0, false) => Request::post(of_alias("close"), &json!({ "source": say.of(&self.texts, "source")? })),
            (0, true) => {
                let body = self.create(say, &alias, message()?, description()?)?;
                Request::post(format!("{}v2/alerts", self.api), &body)
            }
            // An alert that is there already keeps its texts unless they are changed one by one.
            (1, true) if self.update_alerts => {
                Request::post(of_alias("message"), &json!({ "message": message()? })).method(Method::PUT)
            }
            (2, true) if self.update_alerts => {
                Request::post(of_alias("description"), &json!({ "description": description()? })).method(Method::PUT)
            }
            _ => return Ok(Step::End(Verdict::delivered())),
        };
        Ok(Step::Http(request.header("authorization", format!("GenieKey {}", self.key.0))))
    }
}

impl Opsgenie {
    fn create(&self, say: &Say<'_>, alias: &str, message: String, description: String) -> Result<Json, String> {
        let mut details = Map::new();
        for label in say.notification.common_labels().iter() {
            details.insert(label.name.to_string(), (*label.value).into());
        }
        for (name, text) in &self.details {
            details.insert(name.clone(), say.text(text)?.into());
        }
        let split = |text: String| {
            let parts = text.split(',').map(|p| p.trim().to_owned()).filter(|p| !p.is_empty());
            parts.collect::<Vec<String>>()
        };
        let mut body = Map::from_iter([
            ("alias".to_owned(), alias.into()),
            ("message".to_owned(), message.into()),
            ("description".to_owned(), description.into()),
            ("details".to_owned(), details.into()),
        ]);
        say.fill(&mut body, &self.texts, &["source", "entity", "note", "priority"])?;
        for key in ["tags", "actions"] {
            let parts = split(say.of(&self.texts, key)?);
            if !parts.is_empty() {
                body.insert(key.to_owned(), parts.into());
            }
        }
        let mut responders = Vec::new();
        for responder in &self.responders {
            let mut json = say.filled(responder)?;
            if json.get("type").is_some_and(|t| t == "teams") {
                let names = json.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
                responders.extend(split(names).into_iter().map(|name| json!({ "name": name, "type": "team" })));
            } else if json.len() > 1 {
                let kind = json.get("type").and_then(Json::as_str).unwrap_or_default().to_lowercase();
                json.insert("type".to_owned(), kind.into());
                responders.push(json.into());
            }
        }
        if !responders.is_empty() {
            body.insert("responders".to_owned(), responders.into());
        }
        Ok(body.into())
    }
}
