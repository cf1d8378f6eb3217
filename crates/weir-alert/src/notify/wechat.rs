//! WeChat Work: a token for the company's app, then the message.

use serde_json::json;

use super::{Answer, Receive, Request, Say, Step, Texts, Verdict, all, base, named};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const API: &str = "https://qyapi.weixin.qq.com/cgi-bin/";
/// The token is not valid any more.
const TOKEN_EXPIRED: i64 = 42_001;

receiver_keys!(Raw {
    api_secret,
    api_secret_file,
    corp_id,
    agent_id,
    to_user,
    to_party,
    to_tag,
    message,
    message_type,
    api_url,
});

#[derive(Debug)]
struct Wechat {
    api: String,
    secret: Secret,
    markdown: bool,
    texts: Texts,
}

pub(crate) fn read(r: &mut Reader<'_>, global: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let shared = ("wechat_api_secret", &global.wechat_api_secret, &global.wechat_api_secret_file);
    let secret = r.secret_or(line, "api_secret", (&raw.api_secret, &raw.api_secret_file), shared)?;
    let secret = secret.ok_or_else(|| r.fail(line, "no global Wechat Api Secret set: give api_secret"))?;
    let corp_id = raw.corp_id.clone().or_else(|| global.wechat_api_corp_id.clone());
    let corp_id = corp_id.ok_or_else(|| r.fail(line, "no global Wechat CorpID set: give corp_id"))?;
    let markdown = match raw.message_type.as_deref() {
        None | Some("" | "text") => false,
        Some("markdown") => true,
        Some(other) => {
            return Err(
                r.fail(line, format!("weChat message type {other:?} does not match valid options markdown, text"))
            );
        }
    };
    let api = raw.api_url.clone().or_else(|| global.wechat_api_url.clone()).unwrap_or_else(|| API.to_owned());
    r.url(line, "wechat api_url", &api)?;
    let texts = Texts::from([
        ("corp_id", corp_id),
        ("message", named(&raw.message, "wechat.default.message")),
        ("agent_id", named(&raw.agent_id, "wechat.default.agent_id")),
        ("to_user", named(&raw.to_user, "wechat.default.to_user")),
        ("to_party", named(&raw.to_party, "wechat.default.to_party")),
        ("to_tag", named(&raw.to_tag, "wechat.default.to_tag")),
    ]);
    let wechat = Wechat { api: base(&api), secret, markdown, texts };
    r.integration(line, raw.send_resolved.unwrap_or(false), &raw.http_config, wechat)
}

impl Receive for Wechat {
    fn name(&self) -> &'static str {
        "wechat"
    }
    fn target(&self) -> &str {
        &self.api
    }
    fn templates(&self) -> Vec<&str> {
        all(&self.texts)
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        if let Some(step) = answers.last().and_then(|a| a.failure(&[])) {
            return Ok(step);
        }
        let text = |key: &str| say.of(&self.texts, key);
        let [first, rest @ ..] = answers else {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("corpsecret", &say.text(&self.secret.0)?)
                .append_pair("corpid", &text("corp_id")?)
                .finish();
            return Ok(Step::Http(Request::get(format!("{}gettoken?{query}", self.api))));
        };
        if let Some(answer) = rest.first() {
            let said = answer.json();
            return Ok(Step::End(match said["errcode"].as_i64().unwrap_or(0) {
                0 => Verdict::delivered(),
                TOKEN_EXPIRED => Verdict::retry("wechat: the token expired"),
                _ => Verdict::Refused(format!("wechat refused: {}", said["errmsg"].as_str().unwrap_or("no reason"))),
            }));
        }
        let said = first.json();
        let Some(token) = said["access_token"].as_str().filter(|t| !t.is_empty()) else {
            let reason = said["errmsg"].as_str().unwrap_or("no access_token in the answer");
            return Ok(Step::End(Verdict::Refused(format!("wechat: invalid API secret for CorpID: {reason}"))));
        };
        let kind = if self.markdown { "markdown" } else { "text" };
        let mut body = json!({
            "touser": text("to_user")?, "toparty": text("to_party")?, "totag": text("to_tag")?,
            "agentid": text("agent_id")?, "msgtype": kind, "safe": "0",
        });
        body[kind] = json!({ "content": text("message")? });
        for key in ["touser", "toparty", "totag", "agentid"] {
            if body[key] == ""
                && let Some(body) = body.as_object_mut()
            {
                body.remove(key);
            }
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("access_token", token).finish();
        Ok(Step::Http(Request::post(format!("{}message/send?{query}", self.api), &body)))
    }
}
