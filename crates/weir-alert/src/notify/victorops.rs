//! VictorOps (Splunk On-Call): its generic REST integration.

use serde_json::Map;

use super::{Answer, Receive, Request, Say, Step, Texts, all, base, named, once, or, truncate};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const API: &str = "https://alert.victorops.com/integrations/generic/20131114/alert/";
const STATE_MESSAGE_MAX: usize = 20_480;
const RESERVED: [&str; 7] = [
    "routing_key",
    "message_type",
    "state_message",
    "entity_display_name",
    "monitoring_tool",
    "entity_id",
    "entity_state",
];

receiver_keys!(Raw {
    api_key, api_key_file, api_url, routing_key, message_type, entity_display_name, state_message, monitoring_tool,
} custom_fields: std::collections::BTreeMap<String, String>);

#[derive(Debug)]
struct Victorops {
    api: String,
    key: Secret,
    texts: Texts,
    custom: Vec<(String, String)>,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let own = (&raw.api_key, &raw.api_key_file);
    let global_key = ("victorops_api_key", &global.victorops_api_key, &global.victorops_api_key_file);
    let key = r.secret_or(line, "api_key", own, global_key)?;
    let key =
        key.ok_or_else(|| r.fail(line, "no global VictorOps API key set: give api_key or global.victorops_api_key"))?;
    if raw.routing_key.as_deref().unwrap_or_default().is_empty() {
        return Err(r.fail(line, "missing Routing key in VictorOps config"));
    }
    if let Some(name) = raw.custom_fields.keys().find(|k| RESERVED.contains(&k.as_str())) {
        return Err(r.fail(line, format!("VictorOps config contains custom field {name} which cannot be used as it conflicts with the fixed/static fields")));
    }
    let api = raw.api_url.clone().or_else(|| global.victorops_api_url.clone()).unwrap_or_else(|| API.to_owned());
    r.url(line, "victorops api_url", &api)?;
    let texts = Texts::from([
        ("routing_key", or(&raw.routing_key, "")),
        ("message_type", or(&raw.message_type, "CRITICAL")),
        ("entity_display_name", named(&raw.entity_display_name, "victorops.default.entity_display_name")),
        ("state_message", named(&raw.state_message, "victorops.default.state_message")),
        ("monitoring_tool", named(&raw.monitoring_tool, "victorops.default.monitoring_tool")),
    ]);
    let custom = raw.custom_fields.clone().into_iter().collect();
    let victorops = Victorops { api: base(&api), key, texts, custom };
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, victorops)
}

impl Receive for Victorops {
    fn name(&self) -> &'static str {
        "victorops"
    }
    fn target(&self) -> &str {
        &self.api
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts).into_iter().chain(self.custom.iter().map(|(_, t)| t.as_str())).collect()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let text = |key: &str| say.of(&self.texts, key);
            let kind = match text("message_type")? {
                _ if !say.firing() => "RECOVERY".to_owned(),
                kind if matches!(&*kind, "INFO" | "WARNING" | "CRITICAL") => kind,
                _ => "CRITICAL".to_owned(),
            };
            let mut body = Map::from_iter([
                ("message_type".to_owned(), kind.into()),
                ("entity_id".to_owned(), say.dedup_key().into()),
                ("entity_display_name".to_owned(), text("entity_display_name")?.into()),
                ("state_message".to_owned(), truncate(text("state_message")?, STATE_MESSAGE_MAX).into()),
                ("monitoring_tool".to_owned(), text("monitoring_tool")?.into()),
            ]);
            for (name, template) in &self.custom {
                body.insert(name.clone(), say.text(template)?.into());
            }
            let url = format!("{}{}/{}", self.api, self.key.0, text("routing_key")?);
            Ok(Request::post(url, &body.into()))
        })
    }
}
