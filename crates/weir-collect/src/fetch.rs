//! One request to a target: headers of the protocol, a bounded body.

use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use weir_ingest::exposition::Format;

use crate::config::{ScrapeConfig, ScrapeProtocol};
use crate::http::{Http, bounded, chain};

/// What a target answered.
pub(crate) struct Fetched {
    pub body: Vec<u8>,
    pub format: Format,
}

/// What is asked for, in the configured order. Source: Prometheus `scrape.go`, `acceptHeader`.
pub(crate) fn accept(protocols: &[ScrapeProtocol], allow_utf8: bool) -> String {
    let escaping = if allow_utf8 { ";escaping=allow-utf-8" } else { ";escaping=underscores" };
    let mut weight = protocols.len() + 1;
    let mut parts = Vec::new();
    for protocol in protocols {
        let (kind, is_escaping_known) = match protocol {
            ScrapeProtocol::Protobuf => {
                ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", false)
            }
            ScrapeProtocol::OpenMetrics100 => ("application/openmetrics-text;version=1.0.0", true),
            ScrapeProtocol::OpenMetrics001 => ("application/openmetrics-text;version=0.0.1", false),
            ScrapeProtocol::Text100 => ("text/plain;version=1.0.0", true),
            ScrapeProtocol::Text004 => ("text/plain;version=0.0.4", false),
        };
        let escaping = if is_escaping_known { escaping } else { "" };
        parts.push(format!("{kind}{escaping};q=0.{weight}"));
        weight -= 1;
    }
    parts.push(format!("*/*;q=0.{weight}"));
    parts.join(",")
}

/// The body and its format, or why the scrape failed.
pub(crate) async fn fetch(http: &Http, config: &ScrapeConfig, url: &str, timeout: Duration) -> Result<Fetched, String> {
    let request = http
        .client
        .get(url)
        .timeout(timeout)
        .header(ACCEPT, accept(&config.protocols, config.allow_utf8))
        .header(ACCEPT_ENCODING, if config.enable_compression { "gzip" } else { "identity" })
        .header("X-Prometheus-Scrape-Timeout-Seconds", timeout.as_secs_f64().to_string());
    let response = http.dress(request).await?.send().await.map_err(|e| chain(&e))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("server returned HTTP status {}", response.status()));
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let format = Format::of_content_type(&kind).or(config.fallback).ok_or_else(|| {
        format!("received unsupported Content-Type {kind:?} and no fallback_scrape_protocol specified for target")
    })?;
    let body = bounded(response, config.limits.body_bytes_max).await?;
    Ok(Fetched { body, format })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_asked_for_in_order() {
        let check = |protocols: &[ScrapeProtocol], utf8, want: &str| assert_eq!(accept(protocols, utf8), want);
        check(
            &[ScrapeProtocol::OpenMetrics100, ScrapeProtocol::Text004],
            true,
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        );
        check(&[ScrapeProtocol::Text100], false, "text/plain;version=1.0.0;escaping=underscores;q=0.2,*/*;q=0.1");
    }
}
