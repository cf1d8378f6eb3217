//! Mattermost: an incoming webhook.

use serde_json::{Map, Value as Json};

use super::{Answer, Receive, Request, Say, Step, Texts, all, named, once, or, strings};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

receiver_keys!(Raw { webhook_url, webhook_url_file, channel, username, text, icon_url, icon_emoji }
    attachments: Json, props: Json, priority: Json);

#[derive(Debug)]
struct Mattermost {
    url: Secret,
    texts: Texts,
    /// `attachments`, `props`, `priority`: trees whose strings are templates.
    trees: Vec<(&'static str, Json)>,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let own = (&raw.webhook_url, &raw.webhook_url_file);
    let shared = ("mattermost_webhook_url", &global.mattermost_webhook_url, &global.mattermost_webhook_url_file);
    let url = r.secret_or(line, "webhook_url", own, shared)?;
    let url = url.ok_or_else(|| r.fail(line, "one of webhook_url or webhook_url_file must be configured"))?;
    r.secret_url(line, "mattermost webhook_url", &url)?;
    let texts = Texts::from([
        ("channel", or(&raw.channel, "")),
        ("username", named(&raw.username, "mattermost.default.username")),
        ("text", named(&raw.text, "mattermost.default.text")),
        ("icon_url", or(&raw.icon_url, "")),
        ("icon_emoji", or(&raw.icon_emoji, "")),
    ]);
    let trees = [("attachments", &raw.attachments), ("props", &raw.props), ("priority", &raw.priority)];
    let trees = trees.into_iter().filter(|(_, t)| !t.is_null()).map(|(k, t)| (k, t.clone())).collect();
    r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, Mattermost { url, texts, trees })
}

impl Receive for Mattermost {
    fn name(&self) -> &'static str {
        "mattermost"
    }
    fn target(&self) -> &str {
        &self.url.0
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts).into_iter().chain(self.trees.iter().flat_map(|(_, tree)| strings(tree))).collect()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let mut body = Map::new();
            say.fill(&mut body, &self.texts, &["channel", "username", "text", "icon_url", "icon_emoji"])?;
            for (key, tree) in &self.trees {
                body.insert((*key).to_owned(), say.tree(tree)?);
            }
            Ok(Request::post(say.url(&self.url.0)?, &body.into()))
        })
    }
}
