//! Microsoft Teams: the connector's message card, which Microsoft retires for [`super::msteamsv2`].

use serde_json::json;

use super::{Answer, Receive, Request, Say, Step, Texts, all, named, once};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

receiver_keys!(Raw { webhook_url, webhook_url_file, title, summary, text });

#[derive(Debug)]
struct Teams {
    url: Secret,
    texts: Texts,
}

pub(crate) fn read(r: &mut Reader<'_>, _: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let url = r.secret(line, "webhook_url", &raw.webhook_url, &raw.webhook_url_file)?;
    let url = url.ok_or_else(|| r.fail(line, "one of webhook_url or webhook_url_file must be configured"))?;
    r.secret_url(line, "msteams webhook_url", &url)?;
    let texts = Texts::from([
        ("title", named(&raw.title, "msteams.default.title")),
        ("summary", named(&raw.summary, "msteams.default.summary")),
        ("text", named(&raw.text, "msteams.default.text")),
    ]);
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, Teams { url, texts })
}

impl Receive for Teams {
    fn name(&self) -> &'static str {
        "msteams"
    }
    fn target(&self) -> &str {
        &self.url.0
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts)
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let body = json!({
                "@context": "http://schema.org/extensions",
                "@type": "MessageCard",
                "title": say.of(&self.texts, "title")?,
                "summary": say.of(&self.texts, "summary")?,
                "text": say.of(&self.texts, "text")?,
                "themeColor": if say.firing() { "8C1A1A" } else { "2DC72D" },
            });
            Ok(Request::post(say.url(&self.url.0)?, &body))
        })
    }
}
