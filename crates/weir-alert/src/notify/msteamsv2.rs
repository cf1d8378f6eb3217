//! Microsoft Teams: a workflow's adaptive card.

use serde_json::json;

use super::{Answer, Receive, Request, Say, Step, Texts, all, named, once};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

receiver_keys!(Raw { webhook_url, webhook_url_file, title, text });

#[derive(Debug)]
struct TeamsV2 {
    url: Secret,
    texts: Texts,
}

pub(crate) fn read(r: &mut Reader<'_>, _: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let url = r.secret(line, "webhook_url", &raw.webhook_url, &raw.webhook_url_file)?;
    let url = url.ok_or_else(|| r.fail(line, "one of webhook_url or webhook_url_file must be configured"))?;
    r.secret_url(line, "msteamsv2 webhook_url", &url)?;
    let texts = Texts::from([
        ("title", named(&raw.title, "msteamsv2.default.title")),
        ("text", named(&raw.text, "msteamsv2.default.text")),
    ]);
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, TeamsV2 { url, texts })
}

impl Receive for TeamsV2 {
    fn name(&self) -> &'static str {
        "msteamsv2"
    }
    fn target(&self) -> &str {
        &self.url.0
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts)
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let title = json!({
                "type": "TextBlock", "text": say.of(&self.texts, "title")?, "weight": "Bolder", "size": "Medium",
                "wrap": true, "style": "heading", "color": if say.firing() { "Attention" } else { "Good" },
            });
            let text = json!({ "type": "TextBlock", "text": say.of(&self.texts, "text")?, "wrap": true });
            let body = json!({
                "type": "message",
                "attachments": [{
                    "contentType": "application/vnd.microsoft.card.adaptive",
                    "contentUrl": null,
                    "content": {
                        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                        "type": "AdaptiveCard",
                        "version": "1.2",
                        "body": [title, text],
                        "msteams": { "width": "full" },
                    },
                }],
            });
            Ok(Request::post(say.url(&self.url.0)?, &body))
        })
    }
}
