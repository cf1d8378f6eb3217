//! Discord: a webhook's message with one embed.

use serde_json::json;

use super::{Answer, Receive, Request, Say, Step, Texts, all, named, once, or, truncate};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const TITLE_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 4096;
const CONTENT_MAX: usize = 2000;
const RED: u32 = 0x0099_2d22;
const GREEN: u32 = 0x002e_cc71;

receiver_keys!(Raw { webhook_url, webhook_url_file, title, message, content, username, avatar_url });

#[derive(Debug)]
struct Discord {
    url: Secret,
    texts: Texts,
}

pub(crate) fn read(r: &mut Reader<'_>, _: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let url = r.secret(line, "webhook_url", &raw.webhook_url, &raw.webhook_url_file)?;
    let url = url.ok_or_else(|| r.fail(line, "one of webhook_url or webhook_url_file must be configured"))?;
    r.secret_url(line, "discord webhook_url", &url)?;
    let texts = Texts::from([
        ("title", named(&raw.title, "discord.default.title")),
        ("message", named(&raw.message, "discord.default.message")),
        ("content", named(&raw.content, "discord.default.content")),
        ("username", or(&raw.username, "")),
        ("avatar_url", or(&raw.avatar_url, "")),
    ]);
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, Discord { url, texts })
}

impl Receive for Discord {
    fn name(&self) -> &'static str {
        "discord"
    }
    fn target(&self) -> &str {
        &self.url.0
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts)
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let text = |key: &str, max: usize| Ok::<_, String>(truncate(say.of(&self.texts, key)?, max));
            let mut body = json!({
                "content": text("content", CONTENT_MAX)?,
                "embeds": [{
                    "title": text("title", TITLE_MAX)?,
                    "description": text("message", DESCRIPTION_MAX)?,
                    "color": if say.firing() { RED } else { GREEN },
                }],
            });
            for key in ["username", "avatar_url"] {
                let value = say.of(&self.texts, key)?;
                if !value.is_empty() {
                    body[key] = value.into();
                }
            }
            Ok(Request::post(say.url(&self.url.0)?, &body))
        })
    }
}
