//! Telegram: a bot's message to a chat.

use serde_json::{Value as Json, json};

use super::{Answer, Receive, Request, Say, Step, base, named, once, truncate};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const API: &str = "https://api.telegram.org";
const MESSAGE_MAX: usize = 4096;

receiver_keys!(Raw { bot_token, bot_token_file, chat_id_file, api_url, message, parse_mode }
    chat_id: Json, message_thread_id: i64, disable_notifications: bool);

#[derive(Debug)]
struct Telegram {
    api: String,
    token: Secret,
    chat_id: String,
    thread: i64,
    message: String,
    parse_mode: String,
    silent: bool,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let own = (&raw.bot_token, &raw.bot_token_file);
    let global_token = ("telegram_bot_token", &global.telegram_bot_token, &global.telegram_bot_token_file);
    let token = r.secret_or(line, "bot_token", own, global_token)?;
    let token = token.ok_or_else(|| r.fail(line, "missing bot_token or bot_token_file on telegram_config"))?;
    let chat_id = match &raw.chat_id {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let chat_id = r.text_or_file(line, "chat_id", &chat_id, &raw.chat_id_file)?;
    let chat_id = chat_id.filter(|id| !matches!(&**id, "" | "0"));
    let chat_id = chat_id.ok_or_else(|| r.fail(line, "missing chat_id or chat_id_file on telegram_config"))?;
    let parse_mode = raw.parse_mode.clone().unwrap_or_else(|| "HTML".to_owned());
    if !matches!(&*parse_mode, "" | "Markdown" | "MarkdownV2" | "HTML") {
        return Err(
            r.fail(line, "unknown parse_mode on telegram_config, must be Markdown, MarkdownV2, HTML or empty string")
        );
    }
    let api = raw.api_url.clone().or_else(|| global.telegram_api_url.clone()).unwrap_or_else(|| API.to_owned());
    r.url(line, "telegram api_url", &api)?;
    let telegram = Telegram {
        api: base(&api),
        token,
        chat_id,
        thread: raw.message_thread_id,
        message: named(&raw.message, "telegram.default.message"),
        parse_mode,
        silent: raw.disable_notifications,
    };
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, telegram)
}

impl Receive for Telegram {
    fn name(&self) -> &'static str {
        "telegram"
    }
    fn target(&self) -> &str {
        &self.api
    }
    fn templates(&self) -> Vec<&str> {
        vec![&self.message, &self.chat_id]
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let html = self.parse_mode == "HTML";
            let text = if html { say.html(&self.message)? } else { say.text(&self.message)? };
            let mut body = json!({
                "chat_id": say.text(&self.chat_id)?,
                "text": truncate(text, MESSAGE_MAX),
                "disable_web_page_preview": true,
            });
            if !self.parse_mode.is_empty() {
                body["parse_mode"] = (*self.parse_mode).into();
            }
            if self.thread != 0 {
                body["message_thread_id"] = self.thread.into();
            }
            if self.silent {
                body["disable_notification"] = true.into();
            }
            Ok(Request::post(format!("{}bot{}/sendMessage", self.api, self.token.0), &body))
        })
    }
}
