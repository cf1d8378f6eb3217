//! Twilio, and what speaks its API: telephone calls and text messages. Weir's own; upstream has no such receiver.
//!
//! Source: Twilio's REST API 2010-04-01, resources `Calls` and `Messages`, and TwiML.

use serde_json::Value as Json;
use weir_go::template::escape_html;

use super::{Answer, Receive, Request, Say, Step, base, once, or, truncate};
use crate::base64;
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const API: &str = "https://api.twilio.com";
/// Characters of a text message, over all of its parts.
const MESSAGE_MAX: usize = 1600;
/// Characters that are read out: about a minute.
const SPOKEN_MAX: usize = 900;

const TEXT: &str = "[{{ .Status | toUpper }}] {{ with .CommonLabels.alertname }}{{ . }}{{ else }}{{ len .Alerts }} alerts{{ end }}\
{{ with .CommonAnnotations.summary }}: {{ . }}{{ end }}{{ with .Cause }}. Cause: {{ .Title }}{{ end }} {{ .IncidentURL }}";
const SPOKEN: &str = "{{ with .CommonLabels.alertname }}{{ . }}{{ else }}{{ len .Alerts }} alerts{{ end }} is {{ .Status }}.\
{{ with .CommonAnnotations.summary }} {{ . }}.{{ end }}{{ with .Cause }} Cause: {{ .Title }}.{{ end }}";

receiver_keys!(Raw {
    account_sid, auth_token, auth_token_file, api_key, api_url, from, messaging_service_sid, to, message, voice, language,
} #[serde(rename = "type")] kind: Option<String>);

#[derive(Debug)]
struct Twilio {
    /// Of the resource.
    url: String,
    auth: Secret,
    call: bool,
    from: String,
    service: String,
    to: Secret,
    message: String,
    voice: String,
    language: String,
}

pub(crate) fn read(r: &mut Reader<'_>, _: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let call = match raw.kind.as_deref() {
        Some("call") => true,
        Some("sms") => false,
        _ => return Err(r.fail(line, "type on twilio_config must be call or sms")),
    };
    let account = raw.account_sid.clone().filter(|a| !a.is_empty() && a.bytes().all(|b| b.is_ascii_alphanumeric()));
    let account =
        account.ok_or_else(|| r.fail(line, "missing account_sid on twilio_config, or not letters and digits"))?;
    let token = r.secret(line, "auth_token", &raw.auth_token, &raw.auth_token_file)?;
    let token = token.ok_or_else(|| r.fail(line, "missing auth_token or auth_token_file on twilio_config"))?;
    let to = raw.to.clone().filter(|to| !to.is_empty()).ok_or_else(|| r.fail(line, "missing to on twilio_config"))?;
    let (from, service) = (or(&raw.from, ""), or(&raw.messaging_service_sid, ""));
    if from.is_empty() && (call || service.is_empty()) {
        return Err(r.fail(line, "missing from on twilio_config"));
    }
    let api = or(&raw.api_url, API);
    r.url(line, "twilio api_url", &api)?;
    let user = raw.api_key.as_ref().unwrap_or(&account);
    let twilio = Twilio {
        url: format!("{}2010-04-01/Accounts/{account}/{}.json", base(&api), if call { "Calls" } else { "Messages" }),
        auth: Secret(format!("Basic {}", base64::encode(format!("{user}:{}", token.0).as_bytes()))),
        call,
        from,
        service,
        to: Secret(to),
        message: or(&raw.message, if call { SPOKEN } else { TEXT }),
        voice: or(&raw.voice, ""),
        language: or(&raw.language, ""),
    };
    // Nobody wants a call at night to hear that there is nothing to do.
    r.integration(line, raw.send_resolved.unwrap_or(false), &raw.http_config, twilio)
}

impl Receive for Twilio {
    fn name(&self) -> &'static str {
        "twilio"
    }
    fn target(&self) -> &str {
        &self.url
    }
    fn templates(&self) -> Vec<&str> {
        vec![&self.message, &self.to.0]
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        // A refusal says why in the body; the number that it names is personal data.
        if let Some(answer) = answers.first().filter(|a| a.status == 400 || a.status == 404) {
            let code = match &answer.json()["code"] {
                Json::Null => String::new(),
                code => format!(", code {code}"),
            };
            return Err(format!("refused with status {}{code}", answer.status));
        }
        once(answers, &[], || {
            let text = say.text(&self.message)?;
            let mut form = vec![("To".to_owned(), say.text(&self.to.0)?)];
            match self.service.is_empty() || self.call {
                true => form.push(("From".to_owned(), self.from.clone())),
                false => form.push(("MessagingServiceSid".to_owned(), self.service.clone())),
            }
            form.push(match self.call {
                true => ("Twiml".to_owned(), self.spoken(truncate(text, SPOKEN_MAX))),
                false => ("Body".to_owned(), truncate(text, MESSAGE_MAX)),
            });
            Ok(Request::form(&self.url, &form).header("authorization", self.auth.0.clone()))
        })
    }
}

impl Twilio {
    /// Said twice, as the first seconds of a call at night are lost.
    fn spoken(&self, text: String) -> String {
        let mut attributes = String::new();
        for (name, value) in [("voice", &self.voice), ("language", &self.language)] {
            if !value.is_empty() {
                attributes.push_str(&format!(" {name}=\"{}\"", xml(value)));
            }
        }
        let say = format!("<Say{attributes}>{}</Say>", xml(&text));
        format!("<Response>{say}<Pause length=\"1\"/>{say}</Response>")
    }
}

/// What is said holds no markup and no control characters.
fn xml(text: &str) -> String {
    escape_html(&text.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_cannot_change_the_call() {
        assert_eq!(xml("a<b>&\"c\"\n"), "a&lt;b&gt;&amp;&#34;c&#34; ");
    }
}
