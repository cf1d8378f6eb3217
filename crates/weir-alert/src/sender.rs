//! Sends one notification: attempts with growing pauses within the group's time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use weir_model::{Clock, TenantId, Timestamp};

use crate::config::Integration;
use crate::config::http::{HttpConfig, Oauth2, Proxy, TOKEN_LIFE, Transport};
use crate::notify::{Answer, Request, Say, Step, Verdict};
use crate::smtp;
use crate::template::Notification;
use weir_go::template::Templates;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Of an answer; Jira's list of transitions is the longest that is read.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Requests of one attempt; Jira needs four.
const STEPS_MAX: usize = 8;

/// One notification to one integration.
pub(crate) struct Delivery<'a> {
    pub notification: &'a Notification,
    pub tenant: &'a TenantId,
    pub templates: &'a Templates,
    /// What the last delivery of the same kept.
    pub kept: &'a str,
    /// No attempt starts later.
    pub deadline: Timestamp,
}

pub(crate) struct Sender {
    clock: Arc<dyn Clock>,
    clients: Mutex<BTreeMap<Transport, Client>>,
    /// By issuer, client and scopes.
    tokens: Mutex<BTreeMap<String, (String, Timestamp)>>,
}

impl Sender {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, clients: Mutex::default(), tokens: Mutex::default() }
    }

    /// After a reload: files of certificates may have changed.
    pub fn forget_connections(&self) {
        self.clients.lock().clear();
        self.tokens.lock().clear();
    }

    /// What the receiver wants remembered for later notifications of the group. An error names the
    /// last failure, never a URL or a key.
    pub async fn send(
        &self,
        job: Delivery<'_>,
        integration: &Integration,
        retries: &Counter,
    ) -> Result<String, String> {
        let say = Say::new(job.notification, job.tenant, job.templates, job.kept, self.clock.now());
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
            let verdict = match tokio::time::timeout(limit, self.attempt(integration, &say)).await {
                Ok(verdict) => verdict,
                Err(_) => Verdict::retry(format!("no answer within {}", show(limit))),
            };
            match verdict {
                Verdict::Delivered { kept } => return Ok(kept),
                Verdict::Refused(reason) => return Err(reason),
                Verdict::Retry { reason, after } => {
                    last = format!("{reason} (attempt {})", attempt + 1);
                    tracing::debug!(reason = %last, "notification will be tried again");
                    pause = pause.max(after.unwrap_or_default());
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

    /// One conversation with the receiver.
    async fn attempt(&self, integration: &Integration, say: &Say<'_>) -> Verdict {
        let mut answers = Vec::new();
        while answers.len() <= STEPS_MAX {
            match integration.kind.step(say, &answers) {
                Ok(Step::Http(request)) => match self.exchange(&integration.http, &request).await {
                    Ok(answer) => answers.push(answer),
                    Err(reason) => return Verdict::retry(reason),
                },
                Ok(Step::Mail(mail)) => return smtp::deliver(&mail).await,
                Ok(Step::End(verdict)) => return verdict,
                // The same template fails again.
                Err(reason) => return Verdict::Refused(reason),
            }
        }
        Verdict::Refused(format!("no end after {STEPS_MAX} requests"))
    }

    async fn exchange(&self, http: &HttpConfig, request: &Request) -> Result<Answer, String> {
        let client = self.client(&http.transport)?;
        let mut builder = client.request(request.method.clone(), &request.url).body(request.body.clone());
        if !request.body.is_empty() {
            builder = builder.header("content-type", request.content_type);
        }
        builder = match (&http.basic_auth, &http.authorization, &http.oauth2) {
            (Some((user, password)), _, _) => builder.basic_auth(user, Some(&password.0)),
            (None, Some((kind, credentials)), _) => {
                builder.header("authorization", format!("{kind} {}", credentials.0))
            }
            (None, None, Some(oauth2)) => builder.bearer_auth(self.token(oauth2).await?),
            (None, None, None) => builder,
        };
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        for (name, value) in &http.headers {
            builder = builder.header(name, &value.0);
        }
        let mut response = builder.send().await.map_err(plain)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let mut body = Vec::new();
        while body.len() < ANSWER_BYTES_MAX {
            match response.chunk().await.map_err(plain)? {
                Some(chunk) => body.extend_from_slice(&chunk),
                None => break,
            }
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status, body, retry_after: retry_after.map(Duration::from_secs) })
    }

    fn client(&self, transport: &Transport) -> Result<Client, String> {
        if let Some(client) = self.clients.lock().get(transport) {
            return Ok(client.clone());
        }
        let client = build(transport)?;
        self.clients.lock().insert(transport.clone(), client.clone());
        Ok(client)
    }

    /// A token of the client credentials flow, kept until shortly before its end.
    async fn token(&self, oauth2: &Oauth2) -> Result<String, String> {
        let key = format!("{}\n{}\n{}", oauth2.token_url, oauth2.client_id, oauth2.scopes.join(" "));
        if let Some((token, until)) = self.tokens.lock().get(&key)
            && self.clock.now() < *until
        {
            return Ok(token.clone());
        }
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        if !oauth2.scopes.is_empty() {
            form.push(("scope", oauth2.scopes.join(" ")));
        }
        form.extend(oauth2.params.iter().map(|(k, v)| (k.as_str(), v.clone())));
        let request = self.client(&oauth2.transport)?.post(&oauth2.token_url).form(&form);
        let request = request.basic_auth(&oauth2.client_id, Some(&oauth2.client_secret.0));
        let response = request.send().await.map_err(|e| format!("oauth2: {}", plain(e)))?;
        let status = response.status();
        let answer: serde_json::Value = response.json().await.map_err(|e| format!("oauth2: {}", plain(e)))?;
        let Some(token) = answer["access_token"].as_str().filter(|_| status.is_success()) else {
            let said = answer["error"].as_str().unwrap_or("no access_token in the answer");
            return Err(format!("oauth2: the token was refused with status {status}: {said}"));
        };
        let life = answer["expires_in"].as_u64().map_or(TOKEN_LIFE, Duration::from_secs);
        let until = self.clock.now().plus(life.saturating_sub(Duration::from_secs(10)));
        self.tokens.lock().insert(key, (token.to_owned(), until));
        Ok(token.to_owned())
    }
}

fn build(transport: &Transport) -> Result<Client, String> {
    let mut tls = crate::tls::client_config(&transport.tls)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !transport.http1_only {
        tls.alpn_protocols.insert(0, b"h2".to_vec());
    }
    let mut builder = Client::builder()
        .user_agent(concat!("Alertmanager/weir-", env!("CARGO_PKG_VERSION")))
        .redirect(if transport.stays { Policy::none() } else { Policy::limited(10) })
        .connect_timeout(Duration::from_secs(10))
        .tls_backend_preconfigured(tls);
    if transport.http1_only {
        builder = builder.http1_only();
    }
    match &transport.proxy {
        Proxy::None => builder = builder.no_proxy(),
        // What the client library does by itself.
        Proxy::Environment => {}
        Proxy::Url { url, no_proxy, connect_headers } => {
            let mut headers = HeaderMap::new();
            for (name, value) in connect_headers {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| e.to_string())?;
                headers.append(name, HeaderValue::from_str(&value.0).map_err(|e| e.to_string())?);
            }
            let proxy = reqwest::Proxy::all(&url.0).map_err(plain)?;
            let proxy = proxy.no_proxy(reqwest::NoProxy::from_string(no_proxy)).headers(headers);
            builder = builder.no_proxy().proxy(proxy);
        }
    }
    builder.build().map_err(plain)
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
