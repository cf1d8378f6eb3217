//! How to reach a server: the keys that Prometheus shares between scraping, discovery and remote
//! write. Source: Prometheus `common/config/http_config.go`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A checked way to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    pub auth: Auth,
    pub tls: Tls,
    pub proxy: Proxy,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    /// Headers of every request, by name.
    pub headers: BTreeMap<String, Vec<Secret>>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            tls: Tls::default(),
            proxy: Proxy::None,
            follow_redirects: true,
            enable_http2: true,
            headers: BTreeMap::new(),
        }
    }
}

/// Files are read at each request, as secrets rotate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    None,
    Basic {
        username: Secret,
        password: Secret,
    },
    Header {
        kind: String,
        credentials: Secret,
    },
    OAuth2(Box<OAuth2>),
}

/// The client credentials grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2 {
    pub client_id: String,
    pub client_secret: Secret,
    pub scopes: Vec<String>,
    pub token_url: String,
    pub endpoint_params: BTreeMap<String, String>,
    pub tls: Tls,
    pub proxy: Proxy,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Text(String),
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub ca: Option<Secret>,
    /// Certificate and key, both in PEM.
    pub client: Option<(Secret, Secret)>,
    pub insecure_skip_verify: bool,
    pub min_version: Option<TlsVersion>,
    pub max_version: Option<TlsVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Proxy {
    #[default]
    None,
    Environment,
    Url {
        url: String,
        /// Hosts, domains and networks that are reached directly, separated by commas.
        except: String,
    },
}

/// Declares a section with the shared keys beside its own; a flattened structure would let unknown
/// keys pass.
macro_rules! http_section {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $field:ident : $type:ty),* $(,)? }) => {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        $(#[$meta])*
        $vis struct $name {
            $($(#[$fmeta])* $field: $type,)*
            basic_auth: Option<$crate::config::http::BasicAuthFile>,
            authorization: Option<$crate::config::http::AuthorizationFile>,
            oauth2: Option<$crate::config::http::OAuth2File>,
            bearer_token: Option<String>,
            bearer_token_file: Option<std::path::PathBuf>,
            tls_config: Option<$crate::config::http::TlsFile>,
            proxy_url: Option<String>,
            no_proxy: Option<String>,
            #[serde(default)]
            proxy_from_environment: bool,
            follow_redirects: Option<bool>,
            enable_http2: Option<bool>,
            #[serde(default)]
            http_headers: std::collections::BTreeMap<String, $crate::config::http::HeaderFile>,
        }
        impl $name {
            fn take_http(&mut self, base: &std::path::Path) -> Result<$crate::config::http::HttpConfig, String> {
                $crate::config::http::HttpFile {
                    basic_auth: self.basic_auth.take(),
                    authorization: self.authorization.take(),
                    oauth2: self.oauth2.take(),
                    bearer_token: self.bearer_token.take(),
                    bearer_token_file: self.bearer_token_file.take(),
                    tls_config: self.tls_config.take(),
                    proxy: $crate::config::http::ProxyFile {
                        url: self.proxy_url.take(),
                        except: self.no_proxy.take(),
                        from_environment: self.proxy_from_environment,
                    },
                    follow_redirects: self.follow_redirects,
                    enable_http2: self.enable_http2,
                    http_headers: std::mem::take(&mut self.http_headers),
                }
                .check(base)
            }
        }
    };
}
pub(crate) use http_section;

pub(crate) struct HttpFile {
    pub basic_auth: Option<BasicAuthFile>,
    pub authorization: Option<AuthorizationFile>,
    pub oauth2: Option<OAuth2File>,
    pub bearer_token: Option<String>,
    pub bearer_token_file: Option<PathBuf>,
    pub tls_config: Option<TlsFile>,
    pub proxy: ProxyFile,
    pub follow_redirects: Option<bool>,
    pub enable_http2: Option<bool>,
    pub http_headers: BTreeMap<String, HeaderFile>,
}

pub(crate) struct ProxyFile {
    pub url: Option<String>,
    pub except: Option<String>,
    pub from_environment: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BasicAuthFile {
    username: Option<String>,
    username_file: Option<PathBuf>,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuthorizationFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    credentials: Option<String>,
    credentials_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OAuth2File {
    client_id: String,
    client_secret: Option<String>,
    client_secret_file: Option<PathBuf>,
    #[serde(default)]
    scopes: Vec<String>,
    token_url: String,
    #[serde(default)]
    endpoint_params: BTreeMap<String, String>,
    tls_config: Option<TlsFile>,
    proxy_url: Option<String>,
    no_proxy: Option<String>,
    #[serde(default)]
    proxy_from_environment: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFile {
    ca: Option<String>,
    ca_file: Option<PathBuf>,
    cert: Option<String>,
    cert_file: Option<PathBuf>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    #[serde(default)]
    insecure_skip_verify: bool,
    min_version: Option<TlsVersion>,
    max_version: Option<TlsVersion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeaderFile {
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    secrets: Vec<String>,
    #[serde(default)]
    files: Vec<PathBuf>,
}

/// Headers that the scraper itself decides on. Source: `reservedHeaders` of `http_config.go`.
const RESERVED_HEADERS: [&str; 21] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "accept",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "transfer-encoding",
    "te",
];

impl HttpFile {
    pub fn check(self, base: &Path) -> Result<HttpConfig, String> {
        let mut headers = BTreeMap::new();
        for (name, file) in self.http_headers {
            if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("http_headers: `{name}` is set by other keys"));
            }
            if name.parse::<reqwest::header::HeaderName>().is_err() {
                return Err(format!("http_headers: `{name}` is no name of a header"));
            }
            let texts = file.values.into_iter().chain(file.secrets).map(Secret::Text);
            headers.insert(name, texts.chain(file.files.into_iter().map(|f| Secret::File(base.join(f)))).collect());
        }
        let mut auths = Vec::new();
        if let Some(basic) = self.basic_auth {
            auths.push(Auth::Basic {
                username: secret("username", basic.username, basic.username_file, base)?,
                password: secret("password", basic.password, basic.password_file, base)?,
            });
        }
        if let Some(header) = self.authorization {
            let kind = header.kind.map(|k| k.trim().to_owned()).filter(|k| !k.is_empty());
            let kind = kind.unwrap_or_else(|| "Bearer".to_owned());
            if kind.eq_ignore_ascii_case("basic") {
                return Err("authorization: type is \"basic\"; use `basic_auth`".to_owned());
            }
            let credentials = secret("credentials", header.credentials, header.credentials_file, base)?;
            auths.push(Auth::Header { kind, credentials });
        }
        if self.bearer_token.is_some() || self.bearer_token_file.is_some() {
            let credentials = secret("bearer_token", self.bearer_token, self.bearer_token_file, base)?;
            auths.push(Auth::Header { kind: "Bearer".to_owned(), credentials });
        }
        if let Some(file) = self.oauth2 {
            auths.push(Auth::OAuth2(Box::new(file.check(base)?)));
        }
        if auths.len() > 1 {
            return Err("give one of basic_auth, authorization, oauth2 and bearer_token".to_owned());
        }
        Ok(HttpConfig {
            auth: auths.pop().unwrap_or_default(),
            tls: self.tls_config.map(|tls| tls.check(base)).transpose()?.unwrap_or_default(),
            proxy: self.proxy.check()?,
            follow_redirects: self.follow_redirects.unwrap_or(true),
            enable_http2: self.enable_http2.unwrap_or(true),
            headers,
        })
    }
}

fn secret(key: &str, text: Option<String>, file: Option<PathBuf>, base: &Path) -> Result<Secret, String> {
    match (text, file) {
        (Some(_), Some(_)) => Err(format!("give `{key}` or `{key}_file`, not both")),
        (_, Some(file)) => Ok(Secret::File(base.join(file))),
        (text, None) => Ok(Secret::Text(text.unwrap_or_default())),
    }
}

impl OAuth2File {
    fn check(self, base: &Path) -> Result<OAuth2, String> {
        if self.client_id.is_empty() {
            return Err("oauth2: client_id is empty".to_owned());
        }
        url::Url::parse(&self.token_url).map_err(|e| format!("oauth2: token_url `{}`: {e}", self.token_url))?;
        Ok(OAuth2 {
            client_id: self.client_id,
            client_secret: secret("client_secret", self.client_secret, self.client_secret_file, base)?,
            scopes: self.scopes,
            token_url: self.token_url,
            endpoint_params: self.endpoint_params,
            tls: self.tls_config.map(|tls| tls.check(base)).transpose()?.unwrap_or_default(),
            proxy: ProxyFile {
                url: self.proxy_url,
                except: self.no_proxy,
                from_environment: self.proxy_from_environment,
            }
            .check()?,
        })
    }
}

impl ProxyFile {
    fn check(self) -> Result<Proxy, String> {
        match (self.url.filter(|url| !url.is_empty()), self.except, self.from_environment) {
            (Some(_), _, true) => Err("give proxy_url or proxy_from_environment, not both".to_owned()),
            (Some(url), except, false) => {
                reqwest::Proxy::all(&url).map_err(|e| format!("proxy_url `{url}`: {e}"))?;
                Ok(Proxy::Url { url, except: except.unwrap_or_default() })
            }
            (None, Some(_), _) => Err("no_proxy needs proxy_url".to_owned()),
            (None, None, true) => Ok(Proxy::Environment),
            (None, None, false) => Ok(Proxy::None),
        }
    }
}

impl TlsFile {
    pub fn check(self, base: &Path) -> Result<Tls, String> {
        let one = |key: &str, text: Option<String>, file: Option<PathBuf>| {
            let is_set = text.is_some() || file.as_ref().is_some_and(|f| !f.as_os_str().is_empty());
            is_set.then(|| secret(key, text, file, base)).transpose().map_err(|e| format!("tls_config: {e}"))
        };
        let client = match (one("cert", self.cert, self.cert_file)?, one("key", self.key, self.key_file)?) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => return Err("tls_config: a client certificate needs both `cert` and `key`".to_owned()),
        };
        Ok(Tls {
            ca: one("ca", self.ca, self.ca_file)?,
            client,
            insecure_skip_verify: self.insecure_skip_verify,
            min_version: self.min_version,
            max_version: self.max_version,
        })
    }
}
