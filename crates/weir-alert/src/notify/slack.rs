//! Slack: an incoming webhook, or an app's token, which lets a message be changed later.

use serde_json::{Map, Value as Json, json};

use super::{Answer, Receive, Request, Say, Step, Texts, Verdict, all, named, or, truncate};
use crate::config::raw::{RawGlobal, Text, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const TITLE_MAX: usize = 1024;
const APP_URL: &str = "https://slack.com/api/chat.postMessage";

receiver_keys!(Raw {
    api_url, api_url_file, app_token, app_token_file, app_url, channel, username, color, title, title_link, pretext,
    text, fallback, callback_id, icon_emoji, icon_url, image_url, thumb_url, footer, message_text, timeout,
} link_names: bool, short_fields: bool, mrkdwn_in: Option<Vec<String>>, fields: Vec<RawField>,
   actions: Vec<RawAction>, update_message: bool);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawField {
    title: String,
    value: String,
    short: Option<bool>,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAction {
    #[serde(rename = "type")]
    kind: Text,
    text: Text,
    url: Text,
    style: Text,
    name: Text,
    value: Text,
    confirm: Option<RawConfirm>,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfirm {
    title: Text,
    text: Text,
    ok_text: Text,
    dismiss_text: Text,
}

#[derive(Debug)]
struct Slack {
    door: Door,
    texts: Texts,
    link_names: bool,
    update_message: bool,
    message: Attachment,
}

#[derive(Debug)]
enum Door {
    Webhook(Secret),
    App { url: String, token: Secret },
}

/// The parts of an attachment that Slack and Rocket.Chat have in common.
#[derive(Debug)]
pub(super) struct Attachment {
    pub short_fields: bool,
    pub fields: Vec<Field>,
    pub actions: Vec<Action>,
    pub mrkdwn_in: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Field {
    pub title: String,
    pub value: String,
    pub short: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Action {
    /// `type`, `text`, `url`, `style`, `name`, `value`.
    texts: Texts,
    /// `title`, `text`, `ok_text`, `dismiss_text`.
    confirm: Option<Texts>,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let texts = Texts::from([
        ("channel", or(&raw.channel, "")),
        ("username", named(&raw.username, "slack.default.username")),
        ("color", or(&raw.color, r#"{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}"#)),
        ("title", named(&raw.title, "slack.default.title")),
        ("title_link", named(&raw.title_link, "slack.default.titlelink")),
        ("pretext", named(&raw.pretext, "slack.default.pretext")),
        ("text", named(&raw.text, "slack.default.text")),
        ("fallback", named(&raw.fallback, "slack.default.fallback")),
        ("callback_id", named(&raw.callback_id, "slack.default.callbackid")),
        ("icon_emoji", named(&raw.icon_emoji, "slack.default.iconemoji")),
        ("icon_url", named(&raw.icon_url, "slack.default.iconurl")),
        ("footer", named(&raw.footer, "slack.default.footer")),
        ("image_url", or(&raw.image_url, "")),
        ("thumb_url", or(&raw.thumb_url, "")),
        ("message_text", or(&raw.message_text, "")),
    ]);
    let door = door(r, global, line, raw)?;
    if raw.update_message && matches!(door, Door::Webhook(_)) {
        return Err(r.fail(line, "update_message needs an app_token: a webhook cannot change a message"));
    }
    let mrkdwn = || ["fallback", "pretext", "text"].map(str::to_owned).to_vec();
    let slack = Slack {
        door,
        texts,
        link_names: raw.link_names,
        update_message: raw.update_message,
        message: Attachment {
            short_fields: raw.short_fields,
            fields: raw.fields.iter().map(Field::read).collect(),
            actions: raw.actions.iter().map(Action::read).collect(),
            mrkdwn_in: raw.mrkdwn_in.clone().unwrap_or_else(mrkdwn),
        },
    };
    let timeout = r.timeout(line, &raw.timeout)?;
    let integration = r.integration(line, raw.send_resolved.unwrap_or(false), &raw.http_config, slack)?;
    Ok(Integration { timeout, ..integration })
}

/// The receiver's own URL or token decides; without either, the global ones.
fn door(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Door, ConfigError> {
    let url = r.secret(line, "api_url", &raw.api_url, &raw.api_url_file)?;
    let token = r.secret(line, "app_token", &raw.app_token, &raw.app_token_file)?;
    let (url, token) = match (url, token) {
        (Some(_), Some(_)) => return Err(r.fail(line, "at most one of api_url & app_token must be configured")),
        (None, None) => (
            r.secret(line, "slack_api_url", &global.slack_api_url, &global.slack_api_url_file)?,
            r.secret(line, "slack_app_token", &global.slack_app_token, &global.slack_app_token_file)?,
        ),
        own => own,
    };
    match (url, token) {
        (_, Some(token)) => {
            let url = raw.app_url.clone().or_else(|| global.slack_app_url.clone());
            let url = url.unwrap_or_else(|| APP_URL.to_owned());
            r.url(line, "slack app_url", &url)?;
            if raw.channel.as_deref().unwrap_or_default().is_empty() {
                return Err(r.fail(line, "channel must be configured with app_token"));
            }
            Ok(Door::App { url, token })
        }
        (Some(url), None) => {
            r.secret_url(line, "slack api_url", &url)?;
            Ok(Door::Webhook(url))
        }
        (None, None) => Err(r.fail(line, "no global Slack API URL set: give api_url or global.slack_api_url")),
    }
}

impl Receive for Slack {
    fn name(&self) -> &'static str {
        "slack"
    }
    fn target(&self) -> &str {
        match &self.door {
            Door::Webhook(url) => &url.0,
            Door::App { url, .. } => url,
        }
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts).into_iter().chain(self.message.templates()).collect()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        if let Some(answer) = answers.first() {
            return Ok(Step::End(answer.failure(&[]).map_or_else(|| said(say, &answer.body), |_| answer.verdict(&[]))));
        }
        let mut body = self.body(say)?;
        let (url, token) = match &self.door {
            Door::Webhook(url) => return Ok(Step::Http(Request::post(say.url(&url.0)?, &body.into()))),
            Door::App { url, token } => (url, token),
        };
        // What was said before about these alerts, if this is not the group's first word.
        let before = say.kept.split_once(' ').filter(|_| say.notification.reason != "first notification");
        let url = match before {
            Some((channel, ts)) if self.update_message => {
                body.insert("channel".into(), channel.into());
                body.insert("ts".into(), ts.into());
                url.replace("chat.postMessage", "chat.update")
            }
            // News about the cause belong to the page they explain.
            Some((channel, ts)) if say.notification.reason == "cause known" => {
                body.insert("channel".into(), channel.into());
                body.insert("thread_ts".into(), ts.into());
                url.clone()
            }
            _ => url.clone(),
        };
        Ok(Step::Http(Request::post(url, &body.into()).header("authorization", format!("Bearer {}", token.0))))
    }
}

impl Slack {
    fn body(&self, say: &Say<'_>) -> Result<Map<String, Json>, String> {
        let text = |key: &str| say.of(&self.texts, key);
        let mut attachment = Map::new();
        attachment.insert("title".into(), truncate(text("title")?, TITLE_MAX).into());
        say.fill(&mut attachment, &self.texts, &["title_link", "pretext", "image_url", "thumb_url", "color"])?;
        // Upstream sends these even when they are empty.
        for key in ["text", "fallback", "callback_id", "footer"] {
            attachment.insert(key.into(), text(key)?.into());
        }
        self.message.add(&mut attachment, say)?;
        attachment.insert("mrkdwn_in".into(), self.message.mrkdwn_in.clone().into());
        let mut message = Map::new();
        say.fill(&mut message, &self.texts, &["channel", "username", "icon_emoji", "icon_url"])?;
        let above = text("message_text")?;
        if !above.is_empty() {
            message.insert("text".into(), above.into());
        }
        if self.link_names {
            message.insert("link_names".into(), true.into());
        }
        message.insert("attachments".into(), vec![Json::Object(attachment)].into());
        Ok(message)
    }
}

impl Field {
    pub fn read(raw: &RawField) -> Self {
        Self { title: raw.title.clone(), value: raw.value.clone(), short: raw.short }
    }
}

impl Action {
    pub fn read(raw: &RawAction) -> Self {
        let texts = Texts::from([
            ("type", or(&raw.kind, "button")),
            ("text", or(&raw.text, "")),
            ("url", or(&raw.url, "")),
            ("style", or(&raw.style, "")),
            ("name", or(&raw.name, "")),
            ("value", or(&raw.value, "")),
        ]);
        let confirm = raw.confirm.as_ref().map(|c| {
            Texts::from([
                ("title", or(&c.title, "")),
                ("text", or(&c.text, "")),
                ("ok_text", or(&c.ok_text, "")),
                ("dismiss_text", or(&c.dismiss_text, "")),
            ])
        });
        Self { texts, confirm }
    }
}

impl Attachment {
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter().flat_map(|f| [&*f.title, &*f.value]);
        let actions = self.actions.iter().flat_map(|a| all(&a.texts).into_iter().chain(a.confirm.iter().flat_map(all)));
        fields.chain(actions)
    }

    pub fn add(&self, attachment: &mut Map<String, Json>, say: &Say<'_>) -> Result<(), String> {
        if !self.fields.is_empty() {
            let field = |f: &Field| {
                let short = f.short.unwrap_or(self.short_fields);
                Ok(json!({ "title": say.text(&f.title)?, "value": say.text(&f.value)?, "short": short }))
            };
            let fields = self.fields.iter().map(field).collect::<Result<Vec<_>, String>>()?;
            attachment.insert("fields".into(), fields.into());
        }
        if !self.actions.is_empty() {
            let mut actions = Vec::new();
            for action in &self.actions {
                let mut json = say.filled(&action.texts)?;
                if let Some(confirm) = &action.confirm {
                    json.insert("confirm".into(), say.filled(confirm)?.into());
                }
                actions.push(Json::Object(json));
            }
            attachment.insert("actions".into(), actions.into());
        }
        Ok(())
    }
}

/// Slack says `ok`, or JSON with `ok`; a refusal may come with status 200. A message that can be
/// changed later has a channel and a time stamp; a reply in a thread does not take its place.
fn said(say: &Say<'_>, body: &str) -> Verdict {
    match serde_json::from_str::<Json>(body) {
        Ok(Json::Object(answer)) if answer.get("ok") == Some(&Json::Bool(false)) => {
            match answer.get("error").and_then(Json::as_str).unwrap_or("no reason given") {
                reason
                @ ("ratelimited" | "rate_limited" | "internal_error" | "service_unavailable" | "fatal_error") => {
                    Verdict::retry(format!("slack refused: {reason}"))
                }
                reason => Verdict::Refused(format!("slack refused: {reason}")),
            }
        }
        Ok(Json::Object(answer)) => {
            let part = |key: &str| answer.get(key).and_then(Json::as_str);
            let in_thread = say.notification.reason == "cause known" && !say.kept.is_empty();
            match (part("channel"), part("ts")) {
                (Some(channel), Some(ts)) if !in_thread => Verdict::Delivered { kept: format!("{channel} {ts}") },
                _ => Verdict::Delivered { kept: say.kept.to_owned() },
            }
        }
        _ if body.trim() == "ok" || body.trim().is_empty() => Verdict::delivered(),
        _ => Verdict::Refused(format!("slack answered {:?}", body.chars().take(100).collect::<String>())),
    }
}
