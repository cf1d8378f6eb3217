//! Targets from an HTTP endpoint. Source: Prometheus `discovery/http`.

use reqwest::header::{ACCEPT, CONTENT_TYPE};

use super::Found;
use super::group::{TargetGroup, read};
use crate::config::HttpSd;
use crate::http::{Http, bounded, chain};

const BODY_BYTES_MAX: usize = 64 << 20;

pub(super) async fn run(config: &HttpSd, found: &Found) {
    let http = match Http::new(&config.http) {
        Ok(http) => http,
        Err(error) => return found.failed("http", error),
    };
    loop {
        match fetch(&http, config).await {
            Ok(groups) => found.replace(groups),
            Err(error) => found.failed("http", format!("{}: {error}", config.url)),
        }
        tokio::time::sleep(config.refresh_interval).await;
    }
}

async fn fetch(http: &Http, config: &HttpSd) -> Result<Vec<TargetGroup>, String> {
    let request = http
        .client
        .get(&config.url)
        .timeout(config.refresh_interval)
        .header(ACCEPT, "application/json")
        .header("X-Prometheus-Refresh-Interval-Seconds", config.refresh_interval.as_secs_f64().to_string());
    let response = http.dress(request).await?.send().await.map_err(|e| chain(&e))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("server returned HTTP status {}", response.status()));
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    if !kind.trim().to_ascii_lowercase().starts_with("application/json") {
        return Err(format!("unsupported content type {kind:?}; answer with application/json"));
    }
    let body = bounded(response, BODY_BYTES_MAX).await?;
    let text = String::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned())?;
    read(&text, &config.url, ("__meta_url", &config.url))
}
