//! Rocket.Chat: a message with one attachment.

use serde_json::{Map, Value as Json};

use super::slack::{Action, Attachment, Field, RawAction, RawField};
use super::{Answer, Receive, Request, Say, Step, Texts, Verdict, all, base, named, or, truncate};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const API: &str = "https://open.rocket.chat/";
const TITLE_MAX: usize = 1024;

receiver_keys!(Raw {
    api_url, token, token_file, token_id, token_id_file, channel, color, title, title_link, text, emoji, icon_url,
    image_url, thumb_url,
} fields: Vec<RawField>, actions: Vec<RawAction>, short_fields: bool, link_names: bool);

#[derive(Debug)]
struct RocketChat {
    api: String,
    token: Secret,
    token_id: Secret,
    texts: Texts,
    attachment: Attachment,
    link_names: bool,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let shared = ("rocketchat_token", &global.rocketchat_token, &global.rocketchat_token_file);
    let token = r.secret_or(line, "token", (&raw.token, &raw.token_file), shared)?;
    let token =
        token.ok_or_else(|| r.fail(line, "no global Rocketchat Token set: give token or global.rocketchat_token"))?;
    let shared = ("rocketchat_token_id", &global.rocketchat_token_id, &global.rocketchat_token_id_file);
    let token_id = r.secret_or(line, "token_id", (&raw.token_id, &raw.token_id_file), shared)?;
    let token_id = token_id
        .ok_or_else(|| r.fail(line, "no global Rocketchat TokenID set: give token_id or global.rocketchat_token_id"))?;
    let api = raw.api_url.clone().or_else(|| global.rocketchat_api_url.clone()).unwrap_or_else(|| API.to_owned());
    r.url(line, "rocketchat api_url", &api)?;
    let texts = Texts::from([
        ("channel", or(&raw.channel, "")),
        ("color", or(&raw.color, r#"{{ if eq .Status "firing" }}red{{ else }}green{{ end }}"#)),
        ("title", named(&raw.title, "rocketchat.default.title")),
        ("title_link", named(&raw.title_link, "rocketchat.default.titlelink")),
        ("text", named(&raw.text, "rocketchat.default.text")),
        ("emoji", named(&raw.emoji, "rocketchat.default.emoji")),
        ("icon_url", named(&raw.icon_url, "rocketchat.default.iconurl")),
        ("image_url", or(&raw.image_url, "")),
        ("thumb_url", or(&raw.thumb_url, "")),
    ]);
    let attachment = Attachment {
        short_fields: raw.short_fields,
        fields: raw.fields.iter().map(Field::read).collect(),
        actions: raw.actions.iter().map(Action::read).collect(),
        mrkdwn_in: Vec::new(),
    };
    let kind = RocketChat { api: base(&api), token, token_id, texts, attachment, link_names: raw.link_names };
    r.integration(line, raw.send_resolved.unwrap_or(false), &raw.http_config, kind)
}

impl Receive for RocketChat {
    fn name(&self) -> &'static str {
        "rocketchat"
    }
    fn target(&self) -> &str {
        &self.api
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts).into_iter().chain(self.attachment.templates()).collect()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        if let Some(answer) = answers.first() {
            let said = answer.json();
            let refused = said["success"] == Json::Bool(false);
            return Ok(answer.failure(&[]).unwrap_or_else(|| {
                let reason = said["error"].as_str().unwrap_or("no reason given");
                Step::End(if refused {
                    Verdict::Refused(format!("rocketchat refused: {reason}"))
                } else {
                    Verdict::delivered()
                })
            }));
        }
        let mut attachment = Map::new();
        attachment.insert("title".into(), truncate(say.of(&self.texts, "title")?, TITLE_MAX).into());
        say.fill(&mut attachment, &self.texts, &["title_link", "text", "image_url", "thumb_url", "color"])?;
        self.attachment.add(&mut attachment, say)?;
        let mut body = Map::new();
        say.fill(&mut body, &self.texts, &["channel", "emoji"])?;
        let icon = say.of(&self.texts, "icon_url")?;
        if !icon.is_empty() {
            body.insert("avatar".into(), icon.into());
        }
        if self.link_names {
            body.insert("parseUrls".into(), true.into());
        }
        body.insert("attachments".into(), vec![Json::Object(attachment)].into());
        let request = Request::post(format!("{}api/v1/chat.postMessage", self.api), &body.into());
        Ok(Step::Http(request.header("x-user-id", &*self.token_id.0).header("x-auth-token", &*self.token.0)))
    }
}
