//! `http_config`: who we are to a receiver, and how it is reached.
//!
//! Source: Prometheus `common/config/http_config.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::raw::Text;
use super::read::Reader;
use super::{ConfigError, Secret};

/// Checked settings; what decides which connections may be shared is [`Transport`].
#[derive(Clone, Debug, Default)]
pub struct HttpConfig {
    pub basic_auth: Option<(String, Secret)>,
    /// Type (`Bearer`) and credentials.
    pub authorization: Option<(String, Secret)>,
    pub(crate) oauth2: Option<Oauth2>,
    pub(crate) headers: Vec<(String, Secret)>,
    pub(crate) transport: Transport,
}

/// Two integrations with equal transports share connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Transport {
    pub stays: bool,
    pub http1_only: bool,
    pub proxy: Proxy,
    pub tls: TlsConfig,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Proxy {
    #[default]
    None,
    Environment,
    Url {
        url: Secret,
        no_proxy: String,
        connect_headers: Vec<(String, Secret)>,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TlsConfig {
    /// PEM.
    pub ca: Option<String>,
    /// Certificate and key, PEM.
    pub identity: Option<(String, Secret)>,
    pub insecure: bool,
    pub server_name: Option<String>,
    /// 12 or 13.
    pub min: Option<u8>,
    pub max: Option<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Oauth2 {
    pub client_id: String,
    pub client_secret: Secret,
    pub token_url: String,
    pub scopes: Vec<String>,
    pub params: BTreeMap<String, String>,
    pub transport: Transport,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawHttp {
    basic_auth: Option<RawBasicAuth>,
    authorization: Option<RawAuthorization>,
    bearer_token: Text,
    bearer_token_file: Text,
    oauth2: Option<RawOauth2>,
    proxy_url: Text,
    no_proxy: Text,
    proxy_from_environment: bool,
    proxy_connect_header: BTreeMap<String, Vec<String>>,
    follow_redirects: Option<bool>,
    enable_http2: Option<bool>,
    tls_config: RawTls,
    http_headers: BTreeMap<String, RawHeader>,
}

/// Where a proxy's keys stand, in `http_config` as in `oauth2`.
struct RawProxy<'a> {
    proxy_url: &'a Text,
    no_proxy: &'a Text,
    proxy_from_environment: bool,
    proxy_connect_header: &'a BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct RawBasicAuth {
    username: Text,
    username_file: Text,
    password: Text,
    password_file: Text,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct RawAuthorization {
    #[serde(rename = "type")]
    kind: Text,
    credentials: Text,
    credentials_file: Text,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct RawOauth2 {
    client_id: String,
    client_secret: Text,
    client_secret_file: Text,
    scopes: Vec<String>,
    token_url: String,
    endpoint_params: BTreeMap<String, String>,
    tls_config: RawTls,
    proxy_url: Text,
    no_proxy: Text,
    proxy_from_environment: bool,
    proxy_connect_header: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
struct RawHeader {
    values: Vec<String>,
    secrets: Vec<String>,
    files: Vec<String>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTls {
    ca: Text,
    ca_file: Text,
    cert: Text,
    cert_file: Text,
    key: Text,
    key_file: Text,
    server_name: Text,
    insecure_skip_verify: bool,
    min_version: Text,
    max_version: Text,
}

/// How long a token is used when its issuer does not say.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(300);

impl Reader<'_> {
    pub(crate) fn http(&mut self, line: u64, raw: &Option<RawHttp>) -> Result<HttpConfig, ConfigError> {
        let raw = raw.clone().unwrap_or_else(|| self.global_http.clone());
        let basic_auth = match &raw.basic_auth {
            Some(auth) => {
                let user = self.text_or_file(line, "username", &auth.username, &auth.username_file)?;
                let password = self.secret(line, "password", &auth.password, &auth.password_file)?;
                Some((user.unwrap_or_default(), password.unwrap_or(Secret(String::new()))))
            }
            None => None,
        };
        let mut authorization = match &raw.authorization {
            Some(auth) => {
                let kind = auth.kind.clone().unwrap_or_else(|| "Bearer".to_owned());
                if kind.eq_ignore_ascii_case("basic") {
                    return Err(
                        self.fail(line, "authorization type cannot be set to \"basic\", use \"basic_auth\" instead")
                    );
                }
                self.secret(line, "credentials", &auth.credentials, &auth.credentials_file)?.map(|s| (kind, s))
            }
            None => None,
        };
        if let Some(token) = self.secret(line, "bearer_token", &raw.bearer_token, &raw.bearer_token_file)? {
            authorization = Some(("Bearer".to_owned(), token));
        }
        let oauth2 = raw.oauth2.as_ref().map(|o| self.oauth2(line, o)).transpose()?;
        let n =
            [basic_auth.is_some(), authorization.is_some(), oauth2.is_some()].iter().filter(|given| **given).count();
        if n > 1 {
            return Err(self.fail(line, "at most one of basic_auth, authorization and oauth2 must be configured"));
        }
        let proxy = RawProxy {
            proxy_url: &raw.proxy_url,
            no_proxy: &raw.no_proxy,
            proxy_from_environment: raw.proxy_from_environment,
            proxy_connect_header: &raw.proxy_connect_header,
        };
        Ok(HttpConfig {
            basic_auth,
            authorization,
            oauth2,
            headers: self.headers(line, &raw.http_headers)?,
            transport: Transport {
                stays: raw.follow_redirects == Some(false),
                http1_only: raw.enable_http2 == Some(false),
                proxy: self.proxy(line, &proxy)?,
                tls: self.tls(line, &raw.tls_config)?,
            },
        })
    }

    fn headers(&mut self, line: u64, raw: &BTreeMap<String, RawHeader>) -> Result<Vec<(String, Secret)>, ConfigError> {
        let mut headers = Vec::new();
        for (name, header) in raw {
            if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(self.fail(line, format!("http_headers: {name:?} is not a header's name")));
            }
            headers.extend(header.values.iter().map(|v| (name.clone(), Secret(v.clone()))));
            for secret in &header.secrets {
                let secret = self.secret(line, "secrets", &Some(secret.clone()), &None)?;
                headers.extend(secret.map(|s| (name.clone(), s)));
            }
            for file in &header.files {
                let secret = self.secret(line, "files", &None, &Some(file.clone()))?;
                headers.extend(secret.map(|s| (name.clone(), s)));
            }
        }
        Ok(headers)
    }

    fn proxy(&mut self, line: u64, raw: &RawProxy<'_>) -> Result<Proxy, ConfigError> {
        let no_proxy = raw.no_proxy.clone().unwrap_or_default();
        let Some(url) = raw.proxy_url else {
            if !no_proxy.is_empty() || !raw.proxy_connect_header.is_empty() {
                return Err(self.fail(line, "no_proxy and proxy_connect_header need proxy_url"));
            }
            return Ok(if raw.proxy_from_environment { Proxy::Environment } else { Proxy::None });
        };
        if raw.proxy_from_environment {
            return Err(self.fail(line, "if proxy_from_environment is configured, proxy_url must not be configured"));
        }
        if !url::Url::parse(url).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host()) {
            return Err(self.fail(line, "proxy_url is not a valid http or https URL"));
        }
        let mut connect_headers = Vec::new();
        for (name, values) in raw.proxy_connect_header {
            for value in values {
                let secret = self.secret(line, "proxy_connect_header", &Some(value.clone()), &None)?;
                connect_headers.extend(secret.map(|s| (name.clone(), s)));
            }
        }
        Ok(Proxy::Url { url: Secret(url.clone()), no_proxy, connect_headers })
    }

    fn oauth2(&mut self, line: u64, raw: &RawOauth2) -> Result<Oauth2, ConfigError> {
        let secret = self.secret(line, "client_secret", &raw.client_secret, &raw.client_secret_file)?;
        let secret =
            secret.ok_or_else(|| self.fail(line, "oauth2: client_secret or client_secret_file must be given"))?;
        if raw.client_id.is_empty() {
            return Err(self.fail(line, "oauth2: client_id must be given"));
        }
        self.url(line, "oauth2 token_url", &raw.token_url)?;
        let proxy = RawProxy {
            proxy_url: &raw.proxy_url,
            no_proxy: &raw.no_proxy,
            proxy_from_environment: raw.proxy_from_environment,
            proxy_connect_header: &raw.proxy_connect_header,
        };
        Ok(Oauth2 {
            client_id: raw.client_id.clone(),
            client_secret: secret,
            token_url: raw.token_url.clone(),
            scopes: raw.scopes.clone(),
            params: raw.endpoint_params.clone(),
            transport: Transport {
                proxy: self.proxy(line, &proxy)?,
                tls: self.tls(line, &raw.tls_config)?,
                ..Transport::default()
            },
        })
    }

    pub(crate) fn tls(&mut self, line: u64, raw: &RawTls) -> Result<TlsConfig, ConfigError> {
        let ca = self.text_or_file(line, "ca", &raw.ca, &raw.ca_file)?;
        let cert = self.text_or_file(line, "cert", &raw.cert, &raw.cert_file)?;
        let key = self.secret(line, "key", &raw.key, &raw.key_file)?;
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(self.fail(line, "tls_config: give both the certificate and its key, or none")),
        };
        let version = |key: &str, text: &Text| match text.as_deref() {
            None | Some("") => Ok(None),
            Some("TLS12") => Ok(Some(12)),
            Some("TLS13") => Ok(Some(13)),
            Some(other) => Err(self.fail(
                line,
                format!(
                    "tls_config: {key}: {other:?} is not supported; give TLS12 or TLS13, older versions are broken"
                ),
            )),
        };
        let (min, max) = (version("min_version", &raw.min_version)?, version("max_version", &raw.max_version)?);
        if min.zip(max).is_some_and(|(min, max)| min > max) {
            return Err(self.fail(line, "tls_config: max_version must be at least min_version"));
        }
        let tls = TlsConfig {
            ca,
            identity,
            insecure: raw.insecure_skip_verify,
            server_name: raw.server_name.clone().filter(|n| !n.is_empty()),
            min,
            max,
        };
        crate::tls::check(&tls).map_err(|e| self.fail(line, format!("tls_config: {e}")))?;
        Ok(tls)
    }
}
