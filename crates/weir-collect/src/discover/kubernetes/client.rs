//! How to reach the API server: a given address, a kubeconfig, or the cluster that weir runs in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::{Auth, HttpConfig, KubernetesSd, Secret, Tls};
use crate::http::{Http, bounded, chain};

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// One page of a list; a thousand large pods are some ten megabytes.
const PAGE_BYTES_MAX: usize = 256 << 20;
/// For the answer's head and for a page; a watch lasts longer.
pub(super) const ANSWER_IN: Duration = Duration::from_secs(60);

pub(super) struct Api {
    http: Http,
    base: String,
    /// Empty: all.
    pub namespaces: Vec<String>,
}

/// Why a request failed.
pub(super) enum ApiError {
    /// The version to go on from is not known any more: list again.
    Gone,
    Other(String),
}

impl Api {
    pub fn new(config: &KubernetesSd) -> Result<Self, String> {
        let (base, http) = match (&config.api_server, &config.kubeconfig_file) {
            (Some(server), _) => (server.clone(), config.http.clone()),
            (None, Some(path)) => kubeconfig(path)?,
            (None, None) => in_cluster()?,
        };
        let mut namespaces = config.namespaces.clone();
        if config.own_namespace {
            let path = format!("{SERVICE_ACCOUNT}/namespace");
            let own = std::fs::read_to_string(&path).map_err(|e| format!("own_namespace: cannot read {path}: {e}"))?;
            namespaces.push(own.trim().to_owned());
        }
        namespaces.sort();
        namespaces.dedup();
        Ok(Self { http: Http::new(&http)?, base, namespaces })
    }

    /// The answer's head; the body is still to come.
    pub async fn open(&self, path: &str, query: &[(&str, String)]) -> Result<reqwest::Response, ApiError> {
        let url = format!("{}{path}", self.base);
        let fail = |e: String| ApiError::Other(format!("{url}: {e}"));
        let request = self.http.client.get(&url).query(query).header(reqwest::header::ACCEPT, "application/json");
        let request = self.http.dress(request).await.map_err(fail)?;
        let response = match tokio::time::timeout(ANSWER_IN, request.send()).await {
            Ok(answer) => answer.map_err(|e| fail(chain(&e)))?,
            Err(_) => return Err(fail(format!("no answer in {} s", ANSWER_IN.as_secs()))),
        };
        match response.status() {
            status if status.is_success() => Ok(response),
            reqwest::StatusCode::GONE => Err(ApiError::Gone),
            status => {
                let body = bounded(response, 1 << 16).await.unwrap_or_default();
                let status_text = serde_json::from_slice::<StatusBody>(&body).map(|s| s.message).unwrap_or_default();
                Err(fail(format!("server returned HTTP status {status} {status_text}").trim_end().to_owned()))
            }
        }
    }

    pub async fn page(&self, path: &str, query: &[(&str, String)]) -> Result<Vec<u8>, ApiError> {
        let response = self.open(path, query).await?;
        let body = tokio::time::timeout(ANSWER_IN, bounded(response, PAGE_BYTES_MAX)).await;
        let fail = |e: String| ApiError::Other(format!("{}{path}: {e}", self.base));
        body.map_err(|_| fail("the list did not end in time".to_owned()))?.map_err(fail)
    }
}

#[derive(Deserialize)]
struct StatusBody {
    #[serde(default)]
    message: String,
}

fn in_cluster() -> Result<(String, HttpConfig), String> {
    let variable = |name: &str| {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty());
        text.ok_or_else(|| {
            format!("{name} is not set: weir does not run in a cluster; give `api_server` or `kubeconfig_file`")
        })
    };
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let file = |name: &str| Secret::File(PathBuf::from(format!("{SERVICE_ACCOUNT}/{name}")));
    let http = HttpConfig {
        auth: Auth::Header { kind: "Bearer".to_owned(), credentials: file("token") },
        tls: Tls { ca: Some(file("ca.crt")), ..Tls::default() },
        ..HttpConfig::default()
    };
    Ok((format!("https://{}", super::super::group::host_port(&host, port)), http))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: String,
    contexts: Vec<Named<NamedContext>>,
    clusters: Vec<Named<NamedCluster>>,
    #[serde(default)]
    users: Vec<Named<NamedUser>>,
}

#[derive(Deserialize)]
struct Named<T> {
    name: String,
    #[serde(flatten)]
    value: T,
}

#[derive(Deserialize)]
struct NamedContext {
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize)]
struct NamedUser {
    #[serde(default)]
    user: User,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

fn kubeconfig(path: &Path) -> Result<(String, HttpConfig), String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    read_kubeconfig(&text, path.parent().unwrap_or(Path::new("."))).map_err(|e| format!("{shown}: {e}"))
}

fn read_kubeconfig(text: &str, base: &Path) -> Result<(String, HttpConfig), String> {
    let file: Kubeconfig = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    let context = find(file.contexts, &file.current_context, "context")?.context;
    let cluster = find(file.clusters, &context.cluster, "cluster")?.cluster;
    let user = match context.user.as_str() {
        "" => User::default(),
        name => find(file.users, name, "user")?.user,
    };
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err(format!(
            "user `{}` gets its credentials from a program; use a token or a client certificate",
            context.user
        ));
    }
    let pem = |data: Option<String>, file: Option<PathBuf>| match (data, file) {
        (Some(data), _) => decode_base64(&data).map(|text| Some(Secret::Text(text))),
        (None, Some(file)) => Ok(Some(Secret::File(base.join(file)))),
        (None, None) => Ok(None),
    };
    let certificate = pem(user.client_certificate_data, user.client_certificate)?;
    let key = pem(user.client_key_data, user.client_key)?;
    let bearer = |credentials| Auth::Header { kind: "Bearer".to_owned(), credentials };
    let auth = match (user.token_file, user.token, user.username) {
        (Some(path), _, _) => bearer(Secret::File(base.join(path))),
        (None, Some(token), _) => bearer(Secret::Text(token)),
        (None, None, Some(name)) => {
            Auth::Basic { username: Secret::Text(name), password: Secret::Text(user.password.unwrap_or_default()) }
        }
        (None, None, None) => Auth::None,
    };
    let http = HttpConfig {
        auth,
        tls: Tls {
            ca: pem(cluster.certificate_authority_data, cluster.certificate_authority)?,
            client: certificate.zip(key),
            insecure_skip_verify: cluster.insecure_skip_tls_verify,
            ..Tls::default()
        },
        ..HttpConfig::default()
    };
    Ok((cluster.server.trim_end_matches('/').to_owned(), http))
}

fn find<T>(all: Vec<Named<T>>, name: &str, what: &str) -> Result<T, String> {
    all.into_iter().find(|n| n.name == name).map(|n| n.value).ok_or_else(|| format!("no {what} is named `{name}`"))
}

fn decode_base64(text: &str) -> Result<String, String> {
    use base64::Engine;
    let compact: String = text.split_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(compact).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|_| "certificate data is not PEM".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeconfigs() {
        let file = |user: &str| {
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: k\n  cluster: {{server: 'https://k:6443/', \
                 certificate-authority: ca.pem}}\ncontexts:\n- name: c\n  context: {{cluster: k, user: u, namespace: n}}\n\
                 users:\n- name: u\n  user: {user}\n"
            )
        };
        let (server, http) = read_kubeconfig(&file("{token: t}"), Path::new("/k")).unwrap();
        assert_eq!(server, "https://k:6443");
        assert_eq!(http.tls.ca, Some(Secret::File("/k/ca.pem".into())));
        assert_eq!(http.auth, Auth::Header { kind: "Bearer".to_owned(), credentials: Secret::Text("t".to_owned()) });
        let pair = "{client-certificate-data: 'YQ==', client-key-data: 'Yg=='}";
        let (_, http) = read_kubeconfig(&file(pair), Path::new("/k")).unwrap();
        assert_eq!(http.tls.client, Some((Secret::Text("a".to_owned()), Secret::Text("b".to_owned()))));
        let refused = read_kubeconfig(&file("{exec: {command: x}}"), Path::new("/k")).unwrap_err();
        assert!(refused.contains("from a program"), "{refused}");
        let unknown = read_kubeconfig(&file("{}").replace("current-context: c", "current-context: d"), Path::new("/k"));
        assert!(unknown.unwrap_err().contains("no context is named `d`"));
    }
}
