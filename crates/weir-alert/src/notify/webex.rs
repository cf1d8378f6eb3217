//! Webex: a bot's message to a room.

use serde_json::json;

use super::{Answer, Receive, Request, Say, Step, named, once, truncate_bytes};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration};

const API: &str = "https://webexapis.com/v1/messages";
const MESSAGE_BYTES_MAX: usize = 7439;

receiver_keys!(Raw { api_url, room_id, message });

#[derive(Debug)]
struct Webex {
    api: String,
    room: String,
    message: String,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let room = raw.room_id.clone().filter(|id| !id.is_empty());
    let room = room.ok_or_else(|| r.fail(line, "missing room_id on webex_config"))?;
    let api = raw.api_url.clone().or_else(|| global.webex_api_url.clone()).unwrap_or_else(|| API.to_owned());
    r.url(line, "webex api_url", &api)?;
    let webex = Webex { api, room, message: named(&raw.message, "webex.default.message") };
    let integration = r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, webex)?;
    if integration.http.authorization.is_none() {
        return Err(r.fail(line, "missing webex_configs.http_config.authorization: the bot's token"));
    }
    Ok(integration)
}

impl Receive for Webex {
    fn name(&self) -> &'static str {
        "webex"
    }
    fn target(&self) -> &str {
        &self.api
    }
    fn templates(&self) -> Vec<&str> {
        vec![&self.room, &self.message]
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let message = truncate_bytes(say.text(&self.message)?, MESSAGE_BYTES_MAX);
            Ok(Request::post(&*self.api, &json!({ "markdown": message, "roomId": say.text(&self.room)? })))
        })
    }
}
