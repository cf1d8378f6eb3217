//! Service discovery as `prometheus.yml` writes it. Each kind's defaults are upstream's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::file::Dur;
use super::http::{Auth, HttpConfig, Secret, http_section};

/// A source of targets that changes while weir runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SdConfig {
    File(FileSd),
    Http(Box<HttpSd>),
    Dns(DnsSd),
    Consul(Box<ConsulSd>),
    Kubernetes(Box<KubernetesSd>),
}

impl SdConfig {
    /// As the configuration names it, for messages and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Dns(_) => "dns",
            Self::Consul(_) => "consul",
            Self::Kubernetes(_) => "kubernetes",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSd {
    /// Patterns, relative ones already joined with the folder of the configuration.
    pub files: Vec<PathBuf>,
    pub refresh_interval: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSd {
    pub url: String,
    pub refresh_interval: Duration,
    pub http: HttpConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum DnsType {
    #[serde(rename = "SRV")]
    Srv,
    A,
    #[serde(rename = "AAAA")]
    Aaaa,
    #[serde(rename = "MX")]
    Mx,
    #[serde(rename = "NS")]
    Ns,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSd {
    pub names: Vec<String>,
    pub kind: DnsType,
    pub port: u16,
    pub refresh_interval: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulSd {
    /// Scheme, address and prefix, without a slash at the end.
    pub url: String,
    pub token: Option<Secret>,
    pub datacenter: String,
    pub namespace: String,
    pub partition: String,
    pub allow_stale: bool,
    /// Empty: all.
    pub services: Vec<String>,
    pub tags: Vec<String>,
    pub node_meta: BTreeMap<String, String>,
    pub filter: String,
    pub tag_separator: String,
    pub refresh_interval: Duration,
    pub http: HttpConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KubernetesRole {
    Node,
    Service,
    Pod,
    Endpoints,
    EndpointSlice,
    Ingress,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSd {
    pub role: KubernetesRole,
    /// `None`: from the kubeconfig, or the cluster that weir runs in.
    pub api_server: Option<String>,
    pub kubeconfig_file: Option<PathBuf>,
    /// Empty: all.
    pub namespaces: Vec<String>,
    pub own_namespace: bool,
    /// Label and field selectors by role.
    pub selectors: BTreeMap<KubernetesRole, (String, String)>,
    pub attach_node: bool,
    pub attach_namespace: bool,
    pub http: HttpConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSdFile {
    files: Vec<String>,
    refresh_interval: Option<Dur>,
}

impl FileSdFile {
    pub fn check(self, base: &Path) -> Result<SdConfig, String> {
        if self.files.is_empty() {
            return Err("file_sd_configs: `files` is empty".to_owned());
        }
        for file in &self.files {
            let ending = file.rsplit('.').next().unwrap_or("").to_ascii_lowercase();
            if !matches!(ending.as_str(), "json" | "yml" | "yaml") {
                return Err(format!("file_sd_configs: `{file}` must end with .json, .yml or .yaml"));
            }
            let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
            if folder.contains('*') {
                return Err(format!("file_sd_configs: `{file}`: `*` may stand in the last part of the path only"));
            }
        }
        Ok(SdConfig::File(FileSd {
            files: self.files.iter().map(|file| base.join(file)).collect(),
            refresh_interval: self.refresh_interval.map_or(Duration::from_secs(300), |d| d.0),
        }))
    }
}

http_section! {
    pub(super) struct HttpSdFile {
        url: String,
        refresh_interval: Option<Dur>,
    }
}

impl HttpSdFile {
    pub fn check(mut self, base: &Path) -> Result<SdConfig, String> {
        let http = self.take_http(base).map_err(|e| format!("http_sd_configs: {e}"))?;
        let url = url::Url::parse(&self.url).map_err(|e| format!("http_sd_configs: url `{}`: {e}", self.url))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("http_sd_configs: url `{url}`: use http or https"));
        }
        let refresh_interval = refresh("http_sd_configs", self.refresh_interval, 60)?;
        Ok(SdConfig::Http(Box::new(HttpSd { url: self.url, refresh_interval, http })))
    }
}

fn refresh(section: &str, given: Option<Dur>, secs_default: u64) -> Result<Duration, String> {
    match given.map(|d| d.0) {
        Some(Duration::ZERO) => Err(format!("{section}: refresh_interval is zero")),
        Some(given) => Ok(given),
        None => Ok(Duration::from_secs(secs_default)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DnsSdFile {
    names: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<DnsType>,
    port: Option<u16>,
    refresh_interval: Option<Dur>,
}

impl DnsSdFile {
    pub fn check(self) -> Result<SdConfig, String> {
        let kind = self.kind.unwrap_or(DnsType::Srv);
        if self.names.is_empty() {
            return Err("dns_sd_configs: `names` is empty".to_owned());
        }
        if kind != DnsType::Srv && self.port.is_none() {
            return Err(format!("dns_sd_configs: records of type {kind:?} hold no port; give `port`"));
        }
        Ok(SdConfig::Dns(DnsSd {
            names: self.names,
            kind,
            port: self.port.unwrap_or(0),
            refresh_interval: refresh("dns_sd_configs", self.refresh_interval, 30)?,
        }))
    }
}

http_section! {
    pub(crate) struct ConsulSdFile {
        server: Option<String>,
        path_prefix: Option<String>,
        token: Option<String>,
        #[serde(default)]
        datacenter: String,
        #[serde(default)]
        namespace: String,
        #[serde(default)]
        partition: String,
        scheme: Option<String>,
        username: Option<String>,
        password: Option<String>,
        allow_stale: Option<bool>,
        #[serde(default)]
        services: Vec<String>,
        #[serde(default)]
        tags: Vec<String>,
        #[serde(default)]
        node_meta: BTreeMap<String, String>,
        #[serde(default)]
        filter: String,
        tag_separator: Option<String>,
        refresh_interval: Option<Dur>,
    }
}

impl ConsulSdFile {
    pub fn check(mut self, base: &Path) -> Result<SdConfig, String> {
        let mut http = self.take_http(base).map_err(|e| format!("consul_sd_configs: {e}"))?;
        if let Some(username) = self.username {
            if http.auth != Auth::None {
                return Err("consul_sd_configs: give `username` or another authentication, not both".to_owned());
            }
            http.auth = Auth::Basic {
                username: Secret::Text(username),
                password: Secret::Text(self.password.unwrap_or_default()),
            };
        }
        let server = self.server.filter(|s| !s.is_empty()).unwrap_or_else(|| "localhost:8500".to_owned());
        let scheme = self.scheme.unwrap_or_else(|| "http".to_owned());
        let prefix = self.path_prefix.unwrap_or_default();
        let url = format!("{scheme}://{server}/{}", prefix.trim_matches('/'));
        url::Url::parse(&url).map_err(|e| format!("consul_sd_configs: `{url}`: {e}"))?;
        Ok(SdConfig::Consul(Box::new(ConsulSd {
            url: url.trim_end_matches('/').to_owned(),
            token: self.token.map(Secret::Text),
            datacenter: self.datacenter,
            namespace: self.namespace,
            partition: self.partition,
            allow_stale: self.allow_stale.unwrap_or(true),
            services: self.services,
            tags: self.tags,
            node_meta: self.node_meta,
            filter: self.filter,
            tag_separator: self.tag_separator.unwrap_or_else(|| ",".to_owned()),
            refresh_interval: refresh("consul_sd_configs", self.refresh_interval, 30)?,
            http,
        })))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct NamespacesFile {
    own_namespace: bool,
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectorFile {
    role: KubernetesRole,
    #[serde(default)]
    label: String,
    #[serde(default)]
    field: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct AttachFile {
    node: bool,
    namespace: bool,
}

http_section! {
    pub(crate) struct KubernetesSdFile {
        role: KubernetesRole,
        api_server: Option<String>,
        kubeconfig_file: Option<PathBuf>,
        #[serde(default)]
        namespaces: NamespacesFile,
        #[serde(default)]
        selectors: Vec<SelectorFile>,
        #[serde(default)]
        attach_metadata: AttachFile,
    }
}

impl KubernetesRole {
    /// The roles whose objects this one reads, each of which may have a selector.
    pub fn reads(self) -> &'static [Self] {
        match self {
            Self::Pod => &[Self::Pod],
            Self::Service => &[Self::Service],
            Self::Node => &[Self::Node],
            Self::Ingress => &[Self::Ingress],
            Self::Endpoints => &[Self::Endpoints, Self::Service, Self::Pod],
            Self::EndpointSlice => &[Self::EndpointSlice, Self::Service, Self::Pod],
        }
    }
}

impl KubernetesSdFile {
    pub fn check(mut self, base: &Path) -> Result<SdConfig, String> {
        let fail = |text: String| format!("kubernetes_sd_configs: {text}");
        let http = self.take_http(base).map_err(fail)?;
        if self.api_server.is_some() && self.kubeconfig_file.is_some() {
            return Err(fail("give api_server or kubeconfig_file, not both".to_owned()));
        }
        if self.kubeconfig_file.is_some() && http != HttpConfig::default() {
            return Err(fail("a kubeconfig_file holds the authentication; remove the other keys for it".to_owned()));
        }
        if self.api_server.is_none() && self.kubeconfig_file.is_none() && http.auth != Auth::None {
            return Err(fail("authentication of one's own needs `api_server`".to_owned()));
        }
        let mut selectors = BTreeMap::new();
        for selector in self.selectors {
            if !self.role.reads().contains(&selector.role) {
                return Err(fail(format!("role {:?} cannot take a selector for role {:?}", self.role, selector.role)));
            }
            if selectors.insert(selector.role, (selector.label, selector.field)).is_some() {
                return Err(fail(format!("two selectors for role {:?}", selector.role)));
            }
        }
        Ok(SdConfig::Kubernetes(Box::new(KubernetesSd {
            role: self.role,
            api_server: self.api_server.map(|s| s.trim_end_matches('/').to_owned()),
            kubeconfig_file: self.kubeconfig_file.map(|path| base.join(path)),
            namespaces: self.namespaces.names,
            own_namespace: self.namespaces.own_namespace,
            selectors,
            attach_node: self.attach_metadata.node,
            attach_namespace: self.attach_metadata.namespace,
            http,
        })))
    }
}
