//! `prometheus.yml`: what was written, then a checked form.
//!
//! Keys that would change behaviour and are not supported are refused by name with their line; keys
//! without effect here are accepted with a warning.

mod effective;
mod file;
pub(crate) mod http;
mod remote;
pub(crate) mod sd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_model::Labels;
use weir_model::histogram::{SCHEMA_MAX, SCHEMA_MIN};

use crate::relabel::RelabelConfig;

pub(crate) use file::size as parse_size;
pub use http::{Auth, HttpConfig, OAuth2, Proxy, Secret, Tls, TlsVersion};
pub use remote::{QueueConfig, RemoteWriteConfig, RemoteWriteVersion};
pub use sd::{ConsulSd, DnsSd, DnsType, FileSd, HttpSd, KubernetesRole, KubernetesSd, SdConfig};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}: {reason}")]
    Invalid { path: String, reason: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct PrometheusConfig {
    pub evaluation_interval: Duration,
    /// How far behind the clock rules are evaluated.
    pub rule_query_offset: Duration,
    /// Added to what leaves the program; not to stored series.
    pub external_labels: Labels,
    /// Globs, already relative to the file's folder.
    pub rule_files: Vec<PathBuf>,
    pub scrape_configs: Vec<ScrapeConfig>,
    pub remote_write: Vec<RemoteWriteConfig>,
    /// What was accepted and has no effect here, for the log.
    pub warnings: Vec<String>,
    /// The text as it was read.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    pub job_name: String,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub params: BTreeMap<String, Vec<String>>,
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    pub metrics_path: String,
    pub scheme: String,
    pub enable_compression: bool,
    /// What is asked for, best first.
    pub protocols: Vec<ScrapeProtocol>,
    /// Names in UTF-8 are asked for.
    pub allow_utf8: bool,
    /// Names outside `[a-zA-Z_:][a-zA-Z0-9_:]*` fail the scrape.
    pub legacy_names: bool,
    /// Timeout, limit and size of each scrape as series.
    pub extra_metrics: bool,
    /// Which series histograms become.
    pub histograms: weir_ingest::exposition::Histograms,
    /// The format of answers without a usable `Content-Type`.
    pub fallback: Option<weir_ingest::exposition::Format>,
    pub http: HttpConfig,
    pub sd: Vec<SdConfig>,
    pub groups: Vec<StaticGroup>,
    pub relabel_configs: Vec<RelabelConfig>,
    pub metric_relabel_configs: Vec<RelabelConfig>,
    pub limits: ScrapeLimits,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaticGroup {
    pub targets: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// A format that a target may answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrapeProtocol {
    Protobuf,
    Text004,
    Text100,
    OpenMetrics001,
    OpenMetrics100,
}

impl ScrapeProtocol {
    /// OpenMetrics first, as it has exemplars and units.
    pub const DEFAULT: [Self; 4] = [Self::OpenMetrics100, Self::OpenMetrics001, Self::Text100, Self::Text004];
}

/// Zero is no limit, as upstream has it, but for the body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScrapeLimits {
    pub body_bytes_max: usize,
    pub sample_limit: usize,
    pub label_limit: usize,
    pub label_name_length_limit: usize,
    pub label_value_length_limit: usize,
    pub target_limit: usize,
    /// Of one native histogram; with more, its resolution is reduced.
    pub histogram_buckets: usize,
    /// Each bucket of a native histogram is at least so many times as wide as the one before.
    pub histogram_factor_min: f64,
    /// How many targets that relabelling took out are remembered per pool; 0 is all.
    pub keep_dropped_targets: usize,
}

impl ScrapeLimits {
    /// The finest schema whose buckets grow by the wanted factor: schema `n` grows by 2 to the 2 to the `-n`.
    pub fn histogram_schema_max(&self) -> i32 {
        if self.histogram_factor_min <= 1.0 {
            return SCHEMA_MAX;
        }
        let schema = (-self.histogram_factor_min.log2().log2()).floor();
        (schema as i32).clamp(SCHEMA_MIN, SCHEMA_MAX)
    }
}

/// What `parse` makes of a file; it is given the folder that relative paths start from.
pub(crate) fn load<T>(path: &Path, parse: impl FnOnce(&str, &Path) -> Result<T, String>) -> Result<T, ConfigError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
    parse(&text, path.parent().unwrap_or(Path::new("."))).map_err(|reason| ConfigError::Invalid { path: shown, reason })
}

impl PrometheusConfig {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        load(path, Self::parse)
    }

    /// `base`: the folder that relative paths start from.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        file::parse(text, base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PrometheusConfig, String> {
        PrometheusConfig::parse(text, Path::new("/etc/p"))
    }

    #[test]
    fn a_file_as_people_have_it() {
        let config = parse(
            r#"
global:
  scrape_interval: 15s
  evaluation_interval: 15s
  external_labels: {region: eu}
alerting:
  alertmanagers:
    - static_configs:
        - targets:
          # - alertmanager:9093
rule_files:
  - "rules/*.yml"
scrape_configs:
  - job_name: "prometheus"
    static_configs:
      - targets: ["localhost:9090"]
        labels: {env: prod}
  - job_name: fast
    scrape_interval: 100ms
    metrics_path: /m
    params: {module: [a, b]}
    basic_auth: {username: u, password: p}
    relabel_configs:
      - source_labels: [__address__]
        target_label: host
    metric_relabel_configs:
      - {source_labels: [__name__], regex: 'go_.*', action: drop}
    static_configs: [{targets: ['a:1']}]
"#,
        )
        .unwrap();
        assert_eq!(config.rule_files, [PathBuf::from("/etc/p/rules/*.yml")]);
        assert_eq!(config.evaluation_interval, Duration::from_secs(15));
        let [slow, fast] = &config.scrape_configs[..] else { panic!("two jobs") };
        assert_eq!((slow.scrape_interval, slow.scrape_timeout), (Duration::from_secs(15), Duration::from_secs(10)));
        assert_eq!(slow.metrics_path, "/metrics");
        assert_eq!(
            (fast.scrape_interval, fast.scrape_timeout),
            (Duration::from_millis(100), Duration::from_millis(100))
        );
        assert!(matches!(&fast.http.auth, Auth::Basic { username: Secret::Text(name), .. } if name == "u"));
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        assert!(!format!("{fast:?}").contains("\"p\""));
    }

    /// The file of the capstone document, as its blocks stand there.
    #[test]
    fn a_platform_file_loads_as_it_stands() {
        let config = parse(
            r#"
global:
  scrape_interval: 15s
  evaluation_interval: 15s
  external_labels:
    cluster: prod-us-east-1
    env: production
rule_files:
  - /etc/prometheus/rules/*.yml
remote_write:
  - url: http://mimir-distributor.monitoring.svc:9009/api/v1/push
    queue_config:
      max_samples_per_send: 10000
      capacity: 100000
      max_shards: 30
    metadata_config:
      send: true
scrape_configs:
  - job_name: kubernetes-pods
    kubernetes_sd_configs:
      - role: pod
    relabel_configs:
      - source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape]
        action: keep
        regex: "true"
      - source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path]
        action: replace
        target_label: __metrics_path__
        regex: (.+)
      - source_labels: [__meta_kubernetes_namespace]
        target_label: namespace
      - source_labels: [__meta_kubernetes_pod_name]
        target_label: pod
"#,
        )
        .unwrap();
        assert_eq!(config.warnings, Vec::<String>::new());
        let [remote] = &config.remote_write[..] else { panic!("one receiver") };
        assert_eq!((remote.queue.max_samples_per_send, remote.queue.max_shards), (10_000, 30));
        assert_eq!(remote.metadata, Some(Duration::from_secs(60)));
        let [SdConfig::Kubernetes(sd)] = &config.scrape_configs[0].sd[..] else { panic!("kubernetes") };
        assert_eq!(sd.role, KubernetesRole::Pod);
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name_and_line() {
        let check = |text: &str, wants: &[&str]| {
            let got = parse(text).unwrap_err();
            for want in wants {
                assert!(got.contains(want), "{text}: {got}");
            }
        };
        check(
            "scrape_configs:\n- job_name: a\n  ec2_sd_configs: []\n",
            &["ec2_sd_configs", "line 3", "file_sd_configs"],
        );
        check("scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n", &["scrape_intervall", "line 3"]);
        check("global:\n  nonsense: 1\n", &["nonsense", "line 2"]);
        check("remote_read:\n- url: http://x\n", &["remote_read", "line 1"]);
        check("remote_write:\n- url: ftp://x\n", &["remote_write `ftp://x`", "http or https"]);
        check("remote_write:\n- url: http://x\n- url: http://x\n", &["remote_write", "same name"]);
        check("remote_write:\n- url: http://x\n  sigv4: {}\n", &["sigv4", "line 3"]);
        check("scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: [{role: pods}]\n", &["pods", "line 3"]);
        check("scrape_configs:\n- job_name: a\n  dns_sd_configs: [{names: [a], type: A}]\n", &["type A", "port"]);
        check("scrape_configs:\n- job_name: a\n  file_sd_configs: [{files: [a.txt]}]\n", &["a.txt", ".json"]);
        check(
            "scrape_configs:\n- job_name: a\n  convert_classic_histograms_to_nhcb: true\n",
            &["convert_classic_histograms_to_nhcb"],
        );
        check(
            "alerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['am:9093']\n",
            &["alerting", "--alertmanager-config"],
        );
        check("scrape_configs:\n- job_name: a\n- job_name: a\n", &["job_name `a` occurs twice"]);
        check("scrape_configs:\n- static_configs: []\n", &["job_name"]);
        check("scrape_configs:\n- job_name: a\n  scrape_interval: 5x\n", &["5x", "line 3"]);
        check(
            "scrape_configs:\n- job_name: a\n  scrape_interval: 5s\n  scrape_timeout: 6s\n",
            &["scrape_timeout", "greater"],
        );
        check(
            "scrape_configs:\n- job_name: a\n  relabel_configs: [{action: keep, regex: '('}]\n",
            &["scrape config `a`", "regexp"],
        );
        check("scrape_configs: 5\n", &["line 1"]);
    }
}
