//! Slack's incoming webhook: one message with one attachment.

use serde_json::{Map, Value as Json, json};

use super::{Renderer, Verdict, truncate};
use crate::config::Slack;

const TITLE_MAX: usize = 1024;

pub(super) fn body(slack: &Slack, render: &Renderer<'_>) -> Result<Json, String> {
    let text = |key: &str| render.text(slack.texts.get(key).map_or("", String::as_str));
    let mut attachment = Map::new();
    attachment.insert("title".into(), truncate(text("title")?, TITLE_MAX).into());
    for key in ["title_link", "pretext", "text", "fallback", "callback_id", "image_url", "thumb_url", "footer", "color"]
    {
        let value = text(key)?;
        // Upstream leaves these out when empty, and sends the others always.
        let optional = !matches!(key, "text" | "fallback" | "callback_id" | "footer");
        if !(optional && value.is_empty()) {
            attachment.insert(key.into(), value.into());
        }
    }
    if !slack.fields.is_empty() {
        let field = |f: &crate::config::SlackField| {
            Ok(json!({
                "title": render.text(&f.title)?, "value": render.text(&f.value)?,
                "short": f.short.unwrap_or(slack.short_fields),
            }))
        };
        attachment.insert("fields".into(), slack.fields.iter().map(field).collect::<Result<Vec<_>, String>>()?.into());
    }
    if !slack.actions.is_empty() {
        let mut actions = Vec::new();
        for action in &slack.actions {
            let mut json = rendered(&action.texts, render)?;
            if let Some(confirm) = &action.confirm {
                json.insert("confirm".into(), rendered(confirm, render)?.into());
            }
            actions.push(Json::Object(json));
        }
        attachment.insert("actions".into(), actions.into());
    }
    attachment.insert("mrkdwn_in".into(), slack.mrkdwn_in.clone().into());
    let mut message = Map::new();
    for (key, name) in [
        ("channel", "channel"),
        ("username", "username"),
        ("icon_emoji", "icon_emoji"),
        ("icon_url", "icon_url"),
        ("text", "message_text"),
    ] {
        let value = text(name)?;
        if !value.is_empty() {
            message.insert(key.into(), value.into());
        }
    }
    if slack.link_names {
        message.insert("link_names".into(), true.into());
    }
    message.insert("attachments".into(), vec![Json::Object(attachment)].into());
    Ok(Json::Object(message))
}

fn rendered(
    texts: &std::collections::BTreeMap<&'static str, String>,
    render: &Renderer<'_>,
) -> Result<Map<String, Json>, String> {
    let mut out = Map::new();
    for (key, text) in texts {
        let value = render.text(text)?;
        if !value.is_empty() {
            out.insert((*key).to_owned(), value.into());
        }
    }
    Ok(out)
}

/// Slack says `ok`, or JSON with `ok`; a refusal may come with status 200.
pub(super) fn judge(body: &str) -> Verdict {
    match serde_json::from_str::<Json>(body) {
        Ok(Json::Object(answer)) if answer.get("ok") == Some(&Json::Bool(false)) => {
            let error = answer.get("error").and_then(Json::as_str).unwrap_or("no reason given");
            Verdict::Refused(format!("slack refused: {error}"))
        }
        Ok(Json::Object(_)) => Verdict::Delivered,
        _ if body.trim() == "ok" || body.trim().is_empty() => Verdict::Delivered,
        _ => Verdict::Refused(format!("slack answered {:?}", body.chars().take(100).collect::<String>())),
    }
}
