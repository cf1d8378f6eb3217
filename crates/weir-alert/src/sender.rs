//! Sends one notification: attempts with growing pauses within the group's time.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use reqwest::redirect::Policy;
use weir_model::Clock;

use crate::config::{HttpConfig, Integration};
use crate::machine::Job;
use crate::notify::{Request, Verdict, judge, request};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Of an answer, which matters only for its `ok` and for the log.
const ANSWER_BYTES_MAX: usize = 16 << 10;

pub(crate) struct Sender {
    clock: Arc<dyn Clock>,
    following: reqwest::Client,
    staying: reqwest::Client,
}

impl Sender {
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let client = |policy: Policy| {
            reqwest::Client::builder()
                .user_agent(concat!("Alertmanager/weir-", env!("CARGO_PKG_VERSION")))
                .redirect(policy)
                .no_proxy()
                .connect_timeout(Duration::from_secs(10))
                .build()
        };
        Ok(Self { clock, following: client(Policy::limited(10))?, staying: client(Policy::none())? })
    }

    /// An error names the last failure, never a URL or a key.
    pub async fn send(&self, job: &Job, integration: &Integration, retries: &Counter) -> Result<(), String> {
        let templates = &job.config.templates;
        let request = request(&integration.kind, &job.notification, &job.tenant, templates)?;
        let mut pause = FIRST_PAUSE;
        let mut last = "no time left to send".to_owned();
        for attempt in 0_u32.. {
            let left = job.deadline.since(self.clock.now());
            if left.is_zero() {
                break;
            }
            if attempt > 0 {
                retries.inc();
            }
            let limit = integration.timeout.unwrap_or(left).min(left);
            let verdict = match tokio::time::timeout(limit, self.attempt(integration, &request)).await {
                Ok(verdict) => verdict,
                Err(_) => Verdict::Retry(format!("no answer within {}", show(limit))),
            };
            match verdict {
                Verdict::Delivered => return Ok(()),
                Verdict::Refused(reason) => return Err(reason),
                Verdict::Retry(reason) => {
                    last = format!("{reason} (attempt {})", attempt + 1);
                    tracing::debug!(reason = %last, "notification will be tried again");
                }
            }
            if self.clock.now().plus(pause) >= job.deadline {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
        Err(last)
    }

    async fn attempt(&self, integration: &Integration, request: &Request) -> Verdict {
        let http = &integration.http;
        let client = if http.follow_redirects { &self.following } else { &self.staying };
        let builder = client.post(&request.url).header("content-type", "application/json").body(request.body.clone());
        let mut response = match authorized(builder, http).send().await {
            Ok(response) => response,
            Err(error) => return Verdict::Retry(plain(error)),
        };
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while body.len() < ANSWER_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Verdict::Retry(plain(error)),
            }
        }
        judge(&integration.kind, status, &String::from_utf8_lossy(&body))
    }
}

fn authorized(builder: reqwest::RequestBuilder, http: &HttpConfig) -> reqwest::RequestBuilder {
    match (&http.basic_auth, &http.authorization) {
        (Some((user, password)), _) => builder.basic_auth(user, Some(&password.0)),
        (None, Some((kind, credentials))) => builder.header("authorization", format!("{kind} {}", credentials.0)),
        (None, None) => builder,
    }
}

/// The error and its causes without the URL, which may hold a token.
fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn show(d: Duration) -> String {
    weir_go::format_prometheus_duration(d)
}
