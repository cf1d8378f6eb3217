//! incident.io: the webhook's data, with a token.

use super::{Answer, Receive, Request, Say, Step, once, webhook};
use crate::config::raw::{RawGlobal, receiver_keys};
use crate::config::read::Reader;
use crate::config::{ConfigError, Integration, Secret};

const BODY_BYTES_MAX: usize = 512_000;

receiver_keys!(Raw { url, url_file, alert_source_token, alert_source_token_file, timeout } max_alerts: usize);

#[derive(Debug)]
struct IncidentIo {
    url: Secret,
    token: Option<Secret>,
    max_alerts: usize,
}

pub(crate) fn read(r: &mut Reader<'_>, _: &RawGlobal, line: u64, raw: &Raw) -> Result<Integration, ConfigError> {
    let url = r.secret(line, "url", &raw.url, &raw.url_file)?;
    let url = url.ok_or_else(|| r.fail(line, "one of url or url_file must be configured"))?;
    r.secret_url(line, "incidentio url", &url)?;
    let token = r.secret(line, "alert_source_token", &raw.alert_source_token, &raw.alert_source_token_file)?;
    let timeout = r.timeout(line, &raw.timeout)?;
    let has_token = token.is_some();
    let kind = IncidentIo { url, token, max_alerts: raw.max_alerts };
    let integration = r.integration(line, raw.send_resolved.unwrap_or(true), &raw.http_config, kind)?;
    if has_token == integration.http.authorization.is_some() {
        let reason = "give exactly one of alert_source_token, alert_source_token_file and http_config.authorization";
        return Err(r.fail(line, reason));
    }
    Ok(Integration { timeout, ..integration })
}

impl Receive for IncidentIo {
    fn name(&self) -> &'static str {
        "incidentio"
    }
    fn target(&self) -> &str {
        &self.url.0
    }
    fn templates(&self) -> Vec<&str> {
        Vec::new()
    }
    fn step(&self, say: &Say<'_>, answers: &[Answer]) -> Result<Step, String> {
        once(answers, &[], || {
            let mut body = webhook::body(say, self.max_alerts, "1");
            let mut n = say.notification.alerts.len();
            // Fewer alerts until it fits: half of them are better than a refusal.
            while n > 1 && body.to_string().len() > BODY_BYTES_MAX {
                n /= 2;
                body = webhook::body(say, n, "1");
            }
            let request = Request::post(say.url(&self.url.0)?, &body);
            Ok(match &self.token {
                Some(token) => request.header("authorization", format!("Bearer {}", token.0)),
                None => request,
            })
        })
    }
}
