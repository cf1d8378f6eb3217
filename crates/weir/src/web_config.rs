//! Prometheus' `web.config.file`: TLS and basic authentication of all listeners.
//!
//! Source: prometheus/exporter-toolkit `docs/web-configuration.md`. Keys that would change
//! behaviour and are not supported are refused by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WebConfigFile {
    tls_server_config: Option<TlsServerConfig>,
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsServerConfig {
    cert_file: PathBuf,
    key_file: PathBuf,
    /// Accepted values only: TLS 1.2 is the least that is ever spoken.
    #[serde(default)]
    min_version: Option<String>,
}

#[derive(Clone, Default)]
pub struct WebConfig {
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub auth: Option<Arc<BasicAuth>>,
}

impl WebConfig {
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: WebConfigFile =
            serde_saphyr::from_str(&text).with_context(|| format!("{}: not a web configuration", path.display()))?;
        // Relative paths are relative to the file, as upstream has it.
        let beside = |p: &Path| path.parent().unwrap_or(Path::new(".")).join(p);
        let tls = file.tls_server_config.map(|tls| server_config(&tls, beside)).transpose()?.map(Arc::new);
        let auth = match file.basic_auth_users.is_empty() {
            true => None,
            false => Some(Arc::new(BasicAuth::new(file.basic_auth_users)?)),
        };
        Ok(Self { tls, auth })
    }
}

fn server_config(tls: &TlsServerConfig, beside: impl Fn(&Path) -> PathBuf) -> anyhow::Result<rustls::ServerConfig> {
    if let Some(version) = tls.min_version.as_deref().filter(|v| !matches!(*v, "TLS10" | "TLS11" | "TLS12" | "TLS13")) {
        bail!("tls_server_config.min_version: unknown version `{version}`, use TLS12 or TLS13");
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version.as_deref() {
        Some("TLS13") => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS12, &rustls::version::TLS13],
    };
    let (cert_file, key_file) = (beside(&tls.cert_file), beside(&tls.key_file));
    let certificates = CertificateDer::pem_file_iter(&cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("tls_server_config.cert_file {}", cert_file.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key_file)
        .with_context(|| format!("tls_server_config.key_file {}", key_file.display()))?;
    let mut config = rustls::ServerConfig::builder_with_protocol_versions(versions)
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .context("tls_server_config: certificate and key do not fit")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Users and the bcrypt hashes of their passwords.
pub struct BasicAuth {
    users: BTreeMap<String, String>,
    /// Header values that were right, because bcrypt takes a tenth of a second by design and a page
    /// asks twenty times. At most as many as there are users.
    known_good: Mutex<BTreeMap<String, String>>,
}

impl BasicAuth {
    fn new(users: BTreeMap<String, String>) -> anyhow::Result<Self> {
        for (user, hash) in &users {
            if !["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
                bail!("basic_auth_users.{user}: not a bcrypt hash; make one with `htpasswd -nBC 10 {user}`");
            }
        }
        Ok(Self { users, known_good: Mutex::default() })
    }

    async fn allows(self: &Arc<Self>, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()) else { return false };
        let Some(encoded) = value.strip_prefix("Basic ") else { return false };
        let decoded =
            base64::engine::general_purpose::STANDARD.decode(encoded).ok().and_then(|b| String::from_utf8(b).ok());
        let Some((user, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) else { return false };
        let Some(hash) = self.users.get(user).cloned() else { return false };
        if self.known_good.lock().get(user).is_some_and(|good| good == value) {
            return true;
        }
        let password = password.to_owned();
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        let good = checked.unwrap_or(false);
        if good {
            self.known_good.lock().insert(user.to_owned(), value.to_owned());
        }
        good
    }
}

/// Middleware: every path but the two probes asks for the password.
pub async fn require(auth: Arc<BasicAuth>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // A link in a page is signed, for the one page, and expires.
    let open = matches!(path, "/-/healthy" | "/-/ready") || path.starts_with("/link/");
    if open || auth.allows(request.headers()).await {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"weir\"")], "Unauthorized\n").into_response()
}
