//! `prometheus.yml`: what was written, then a checked form.
//!
//! Keys that would change behaviour and are not supported are refused by name with their line; keys
//! without effect here are accepted with a warning.

mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_model::Labels;

use crate::relabel::RelabelConfig;

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
    pub follow_redirects: bool,
    /// The format of answers without a usable `Content-Type`.
    pub fallback: Option<weir_ingest::exposition::Format>,
    pub auth: Auth,
    pub tls: Tls,
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

/// Files are read at each scrape, as secrets rotate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    None,
    Basic {
        username: String,
        password: Secret,
    },
    Header {
        kind: String,
        credentials: Secret,
    },
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
    pub ca_file: Option<PathBuf>,
    pub insecure_skip_verify: bool,
}

/// Zero is no limit, as upstream has it, but for the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeLimits {
    pub body_bytes_max: usize,
    pub sample_limit: usize,
    pub label_limit: usize,
    pub label_name_length_limit: usize,
    pub label_value_length_limit: usize,
    pub target_limit: usize,
}

impl PrometheusConfig {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")))
            .map_err(|reason| ConfigError::Invalid { path: shown, reason })
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
        assert!(matches!(&fast.auth, Auth::Basic { username, .. } if username == "u"));
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        assert!(!format!("{fast:?}").contains("\"p\""));
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
            "scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: []\n",
            &["kubernetes_sd_configs", "line 3", "static_configs"],
        );
        check("scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n", &["scrape_intervall", "line 3"]);
        check("global:\n  nonsense: 1\n", &["nonsense", "line 2"]);
        check("remote_write:\n- url: http://x\n", &["remote_write", "line 1"]);
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
