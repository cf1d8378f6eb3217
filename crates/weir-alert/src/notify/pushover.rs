//! Pushover: a push message with a priority.

use super::{Answer, Receive, Request, Say, Step, Texts, all, named, once, or, truncate};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const API: &str = "https://api.pushover.net/1/messages.json";
const TITLE_MAX: usize = 250;
const MESSAGE_MAX: usize = 1024;
const URL_MAX: usize = 512;
const URL_TITLE_MAX: usize = 100;

receiver_keys!(Raw {
    user_key, user_key_file, token, token_file, title, message, url, url_title, device, sound, priority, retry, expire,
    ttl,
} html: bool, monospace: bool);

#[derive(Debug)]
struct Pushover {
    user: Secret,
    token: Secret,
    texts: Texts,
    html: bool,
    monospace: bool,
    /// `retry`, `expire`, `ttl`, in seconds; 0 is not sent.
    seconds: [(&'static str, u64); 3],
}

pub(crate) fn read(r: &mut Reader<'_>, _: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let user = r.secret(line, "user_key", &raw.user_key, &raw.user_key_file)?;
    let user = user.ok_or_else(|| r.fail(line, "one of user_key or user_key_file must be configured"))?;
    let token = r.secret(line, "token", &raw.token, &raw.token_file)?;
    let token = token.ok_or_else(|| r.fail(line, "one of token or token_file must be configured"))?;
    if raw.html && raw.monospace {
        return Err(r.fail(line, "at most one of monospace & html must be configured"));
    }
    let seconds = |key: &str, text: &Option<String>, default: u64| match text {
        Some(text) => r.duration(line, key, text).map(|d| d.as_secs()),
        None => Ok(default),
    };
    let seconds = [
        ("retry", seconds("retry", &raw.retry, 60)?),
        ("expire", seconds("expire", &raw.expire, 3600)?),
        ("ttl", seconds("ttl", &raw.ttl, 0)?),
    ];
    let texts = Texts::from([
        ("title", named(&raw.title, "pushover.default.title")),
        ("message", named(&raw.message, "pushover.default.message")),
        ("url", named(&raw.url, "pushover.default.url")),
        ("url_title", or(&raw.url_title, "")),
        ("device", or(&raw.device, "")),
        ("sound", or(&raw.sound, "")),
        // 2 wants an answer, 0 is quiet.
        ("priority", or(&raw.priority, r#"{{ if eq .Status "firing" }}2{{ else }}0{{ end }}"#)),
    ]);
    let pushover = Pushover { user, token, texts, html: raw.html, monospace: raw.monospace, seconds };
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, pushover)
}

impl Receive for Pushover {
    fn name(&self) -> &'static str {
        "pushover"
    }
    fn target(&self) -> &str {
        API
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts)
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let text = |key: &str| say.of(&self.texts, key);
            let message = if self.html { say.html(&self.texts["message"])? } else { text("message")? };
            let message = match truncate(message, MESSAGE_MAX).trim() {
                "" => "(no details)".to_owned(),
                message => message.to_owned(),
            };
            let mut form = vec![
                ("token".to_owned(), say.text(&self.token.0)?),
                ("user".to_owned(), say.text(&self.user.0)?),
                ("title".to_owned(), truncate(text("title")?, TITLE_MAX)),
                ("message".to_owned(), message),
                ("url".to_owned(), truncate(text("url")?, URL_MAX)),
                ("url_title".to_owned(), truncate(text("url_title")?, URL_TITLE_MAX)),
                ("priority".to_owned(), text("priority")?),
                ("device".to_owned(), text("device")?),
                ("sound".to_owned(), text("sound")?),
            ];
            for (name, given) in [("html", self.html), ("monospace", self.monospace)] {
                form.extend(given.then(|| (name.to_owned(), "1".to_owned())));
            }
            form.extend(self.seconds.iter().filter(|(_, s)| *s > 0).map(|(k, s)| ((*k).to_owned(), s.to_string())));
            form.retain(|(_, value)| !value.is_empty());
            Ok(Request::form(API, &form))
        })
    }
}
