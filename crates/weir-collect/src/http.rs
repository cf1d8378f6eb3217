//! One request to a target: headers of the protocol, a bounded body.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use weir_ingest::exposition::Format;

use crate::config::{Auth, ScrapeConfig, Secret};

/// OpenMetrics first, as it has exemplars and units.
const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// The client that all targets of one configuration share.
pub(crate) fn client(config: &ScrapeConfig) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .gzip(config.enable_compression)
        .no_proxy()
        .redirect(if config.follow_redirects {
            reqwest::redirect::Policy::limited(10)
        } else {
            reqwest::redirect::Policy::none()
        });
    if config.tls.insecure_skip_verify {
        builder = builder.danger_accept_invalid_certs(true);
    }
    if let Some(path) = &config.tls.ca_file {
        let pem = read(path)?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|e| format!("{}: {e}", path.display()))?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|e| chain(&e))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

fn secret(secret: &Secret) -> Result<String, String> {
    match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::File(path) => read(path).map(|text| text.trim().to_owned()),
    }
}

/// The text and its format, or why the scrape failed.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    config: &ScrapeConfig,
    url: &str,
    timeout: Duration,
) -> Result<(String, Format), String> {
    let mut request = client
        .get(url)
        .timeout(timeout)
        .header(ACCEPT, ACCEPTED)
        .header("X-Prometheus-Scrape-Timeout-Seconds", timeout.as_secs_f64().to_string());
    if !config.enable_compression {
        request = request.header(ACCEPT_ENCODING, "identity");
    }
    request = match &config.auth {
        Auth::None => request,
        Auth::Basic { username, password } => request.basic_auth(username, Some(secret(password)?)),
        Auth::Header { kind, credentials } => {
            let text = format!("{kind} {}", secret(credentials)?);
            let mut value = HeaderValue::from_str(&text).map_err(|_| "authorization is no header value".to_owned())?;
            value.set_sensitive(true);
            request.header(AUTHORIZATION, value)
        }
    };
    let mut response = request.send().await.map_err(|e| chain(&e))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("server returned HTTP status {}", response.status()));
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let format = Format::of_content_type(&kind).or(config.fallback).ok_or_else(|| {
        format!("received unsupported Content-Type {kind:?} and no fallback_scrape_protocol specified for target")
    })?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| chain(&e))? {
        if body.len() + chunk.len() > config.limits.body_bytes_max {
            return Err(format!("body size limit of {} bytes exceeded", config.limits.body_bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(body)
        .map_err(|e| format!("the body is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))?;
    Ok((text, format))
}

/// The error with its causes: the first says little more than "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
