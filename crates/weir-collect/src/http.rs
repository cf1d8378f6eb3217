//! Requests to other servers: a client per way to reach them, with its authentication.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;

use crate::config::{Auth, HttpConfig, OAuth2, Proxy, Secret, Tls, TlsVersion};

/// A token is renewed this long before it ends.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
/// A token endpoint answers some hundred bytes.
const TOKEN_BYTES_MAX: usize = 1 << 20;

/// A client and what its requests carry. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    pub client: reqwest::Client,
    config: Arc<HttpConfig>,
    token: Arc<tokio::sync::Mutex<Option<Token>>>,
    token_client: Option<reqwest::Client>,
}

struct Token {
    text: String,
    ends: Option<Instant>,
}

impl Http {
    pub fn new(config: &HttpConfig) -> Result<Self, String> {
        let builder = tls(reqwest::Client::builder(), &config.tls)?
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .redirect(if config.follow_redirects {
                reqwest::redirect::Policy::limited(10)
            } else {
                reqwest::redirect::Policy::none()
            });
        let builder = if config.enable_http2 { builder } else { builder.http1_only() };
        let client = proxy(builder, &config.proxy)?.build().map_err(|e| chain(&e))?;
        let token_client = match &config.auth {
            Auth::OAuth2(oauth) => {
                let builder = proxy(tls(reqwest::Client::builder(), &oauth.tls)?, &oauth.proxy)?;
                Some(builder.build().map_err(|e| chain(&e))?)
            }
            _ => None,
        };
        Ok(Self { client, config: Arc::new(config.clone()), token: Arc::default(), token_client })
    }

    /// The request with what the configuration adds to it.
    pub async fn dress(&self, mut request: reqwest::RequestBuilder) -> Result<reqwest::RequestBuilder, String> {
        for (name, values) in &self.config.headers {
            let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
            for value in values {
                request = request.header(&name, hidden(&secret(value)?)?);
            }
        }
        Ok(match &self.config.auth {
            Auth::None => request,
            Auth::Basic { username, password } => request.basic_auth(secret(username)?, Some(secret(password)?)),
            Auth::Header { kind, credentials } => {
                request.header(AUTHORIZATION, hidden(&format!("{kind} {}", secret(credentials)?))?)
            }
            Auth::OAuth2(oauth) => {
                request.header(AUTHORIZATION, hidden(&format!("Bearer {}", self.token(oauth).await?))?)
            }
        })
    }

    async fn token(&self, oauth: &OAuth2) -> Result<String, String> {
        // A mutex made to be held over waiting: others want the same token.
        let mut known = self.token.lock().await;
        if let Some(token) = known.as_ref().filter(|t| t.ends.is_none_or(|ends| Instant::now() < ends)) {
            return Ok(token.text.clone());
        }
        let client = self.token_client.as_ref().unwrap_or(&self.client);
        let token = fetch_token(client, oauth).await.map_err(|e| format!("oauth2: {}: {e}", oauth.token_url))?;
        let text = token.text.clone();
        *known = Some(token);
        Ok(text)
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: Option<u64>,
}

async fn fetch_token(client: &reqwest::Client, oauth: &OAuth2) -> Result<Token, String> {
    let scopes = oauth.scopes.join(" ");
    let mut form = vec![("grant_type", "client_credentials")];
    if !scopes.is_empty() {
        form.push(("scope", &scopes));
    }
    form.extend(oauth.endpoint_params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let request = client
        .post(&oauth.token_url)
        .timeout(Duration::from_secs(30))
        .basic_auth(&oauth.client_id, Some(secret(&oauth.client_secret)?))
        .form(&form);
    let response = request.send().await.map_err(|e| chain(&e))?;
    if !response.status().is_success() {
        return Err(format!("server returned HTTP status {}", response.status()));
    }
    let body = bounded(response, TOKEN_BYTES_MAX).await?;
    let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
    let ends = answer.expires_in.map(|s| Instant::now() + Duration::from_secs(s).saturating_sub(TOKEN_MARGIN));
    Ok(Token { text: answer.access_token, ends })
}

/// The body, or an error when it is larger than that.
pub(crate) async fn bounded(mut response: reqwest::Response, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| chain(&e))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("body size limit of {bytes_max} bytes exceeded"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn tls(mut builder: reqwest::ClientBuilder, tls: &Tls) -> Result<reqwest::ClientBuilder, String> {
    let version = |v: TlsVersion| match v {
        TlsVersion::Tls12 => reqwest::tls::Version::TLS_1_2,
        TlsVersion::Tls13 => reqwest::tls::Version::TLS_1_3,
    };
    if let Some(min) = tls.min_version {
        builder = builder.tls_version_min(version(min));
    }
    if let Some(max) = tls.max_version {
        builder = builder.tls_version_max(version(max));
    }
    if tls.insecure_skip_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(ca) = &tls.ca {
        let pem = secret(ca)?;
        let found =
            reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|e| format!("tls_config: ca: {e}"))?;
        // Only these: a private CA must not widen what is trusted.
        builder = builder.tls_certs_only(found);
    }
    if let Some((cert, key)) = &tls.client {
        let pem = format!("{}\n{}", secret(cert)?, secret(key)?);
        let identity =
            reqwest::Identity::from_pem(pem.as_bytes()).map_err(|e| format!("tls_config: cert, key: {e}"))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

fn proxy(builder: reqwest::ClientBuilder, proxy: &Proxy) -> Result<reqwest::ClientBuilder, String> {
    Ok(match proxy {
        Proxy::None => builder.no_proxy(),
        Proxy::Environment => builder,
        Proxy::Url { url, except } => {
            let proxy = reqwest::Proxy::all(url).map_err(|e| format!("proxy_url `{url}`: {e}"))?;
            builder.no_proxy().proxy(proxy.no_proxy(reqwest::NoProxy::from_string(except)))
        }
    })
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

pub(crate) fn secret(secret: &Secret) -> Result<String, String> {
    match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::File(path) => read(path).map(|text| text.trim().to_owned()),
    }
}

fn hidden(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "a secret cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The error with its causes: the first says little more than "error sending request".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
