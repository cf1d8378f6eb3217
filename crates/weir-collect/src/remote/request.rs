//! One request of remote write, and what its answer means.
//!
//! Source: Prometheus remote write 1.0 and 2.0 specifications.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use weir_model::TenantId;

use crate::config::{RemoteWriteConfig, RemoteWriteVersion};
use crate::http::{Http, bounded, chain};

/// Of an answer's text, for the log.
const ANSWER_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    /// For good: sending it again would not help.
    Refused(String),
    /// `after`: as the receiver wishes.
    Again {
        why: String,
        after: Option<Duration>,
    },
}

/// What an answer means for what was sent.
pub fn verdict(status: u16, retry_after: Option<&str>, retry_on_429: bool, text: &str) -> Verdict {
    let why = || format!("server returned HTTP status {status}: {}", text.trim());
    // Only seconds: a date needs a clock that both sides agree on.
    let after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    match status {
        200..=299 => Verdict::Taken,
        429 if retry_on_429 => Verdict::Again { why: why(), after },
        500.. => Verdict::Again { why: why(), after },
        _ => Verdict::Refused(why()),
    }
}

/// Sends a plain body.
pub(super) async fn send(http: &Http, config: &RemoteWriteConfig, tenant: &TenantId, plain: &[u8]) -> Verdict {
    let again = |why: String| Verdict::Again { why, after: None };
    let body = match snap::raw::Encoder::new().compress_vec(plain) {
        Ok(body) => body,
        Err(error) => return Verdict::Refused(error.to_string()),
    };
    let (kind, version) = match config.version {
        RemoteWriteVersion::V1 => ("application/x-protobuf", "0.1.0"),
        RemoteWriteVersion::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    };
    let mut request = http
        .client
        .post(&config.url)
        .timeout(config.timeout)
        .header(CONTENT_TYPE, kind)
        .header(CONTENT_ENCODING, "snappy")
        .header("X-Prometheus-Remote-Write-Version", version);
    let names_tenant = config.headers.keys().any(|name| name.eq_ignore_ascii_case("x-scope-orgid"));
    if *tenant != TenantId::anonymous() && !names_tenant {
        request = request.header("X-Scope-OrgID", tenant.as_str());
    }
    for (name, value) in &config.headers {
        request = request.header(name, value);
    }
    let request = match http.dress(request).await {
        Ok(request) => request.body(body),
        // A secret's file may come back.
        Err(error) => return again(error),
    };
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return again(chain(&error)),
    };
    let status: StatusCode = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let text =
        if status.is_success() { Vec::new() } else { bounded(response, ANSWER_BYTES_MAX).await.unwrap_or_default() };
    let text = String::from_utf8_lossy(&text);
    verdict(status.as_u16(), retry_after.as_deref(), config.queue.retry_on_http_429, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let kind = |status, after, on_429| match verdict(status, after, on_429, "x\n") {
            Verdict::Taken => "taken".to_owned(),
            Verdict::Refused(_) => "refused".to_owned(),
            Verdict::Again { after, .. } => format!("again {after:?}"),
        };
        assert_eq!(kind(204, None, false), "taken");
        assert_eq!(kind(400, None, false), "refused");
        assert_eq!(kind(415, None, false), "refused");
        assert_eq!(kind(429, Some("3"), false), "refused");
        assert_eq!(kind(429, Some("3"), true), "again Some(3s)");
        assert_eq!(kind(503, Some("7"), false), "again Some(7s)");
        assert_eq!(kind(500, Some("Fri, 31 Dec 1999 23:59:59 GMT"), false), "again None");
    }
}
