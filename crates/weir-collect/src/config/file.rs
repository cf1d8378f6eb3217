//! The file as it is written, and its check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, Visitor};
use weir_ingest::exposition::Format;
use weir_model::Labels;

use super::{Auth, PrometheusConfig, ScrapeConfig, ScrapeLimits, Secret, StaticGroup, Tls};
use crate::relabel::RelabelFile;

/// A body without a configured limit: no exporter is that large, and memory must be bounded.
const BODY_BYTES_DEFAULT: usize = 64 << 20;
/// Below this a scrape costs more than it tells.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct File {
    global: Global,
    scrape_configs: Vec<Scrape>,
    rule_files: Vec<String>,
    alerting: Option<Alerting>,
    storage: Option<IgnoredAny>,
    runtime: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Global {
    scrape_interval: Dur,
    scrape_timeout: Option<Dur>,
    evaluation_interval: Dur,
    /// Read by the rules.
    rule_query_offset: Option<Dur>,
    external_labels: BTreeMap<String, String>,
    body_size_limit: Option<Size>,
    sample_limit: usize,
    label_limit: usize,
    label_name_length_limit: usize,
    label_value_length_limit: usize,
    target_limit: usize,
    query_log_file: Option<IgnoredAny>,
    scrape_failure_log_file: Option<IgnoredAny>,
    keep_dropped_targets: Option<IgnoredAny>,
    metric_name_validation_scheme: Option<IgnoredAny>,
    scrape_protocols: Option<IgnoredAny>,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            scrape_interval: Dur(Duration::from_secs(60)),
            scrape_timeout: None,
            evaluation_interval: Dur(Duration::from_secs(60)),
            rule_query_offset: None,
            external_labels: BTreeMap::new(),
            body_size_limit: None,
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            query_log_file: None,
            scrape_failure_log_file: None,
            keep_dropped_targets: None,
            metric_name_validation_scheme: None,
            scrape_protocols: None,
        }
    }
}

/// Only an empty section is harmless: weir routes alerts itself.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Alerting {
    alertmanagers: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scrape {
    job_name: String,
    #[serde(default)]
    honor_labels: bool,
    honor_timestamps: Option<bool>,
    #[serde(default)]
    track_timestamps_staleness: bool,
    #[serde(default)]
    params: BTreeMap<String, Vec<String>>,
    scrape_interval: Option<Dur>,
    scrape_timeout: Option<Dur>,
    scrape_protocols: Option<IgnoredAny>,
    fallback_scrape_protocol: Option<String>,
    metrics_path: Option<String>,
    scheme: Option<String>,
    enable_compression: Option<bool>,
    follow_redirects: Option<bool>,
    enable_http2: Option<IgnoredAny>,
    basic_auth: Option<BasicAuth>,
    authorization: Option<Authorization>,
    bearer_token: Option<String>,
    bearer_token_file: Option<PathBuf>,
    tls_config: Option<TlsConfig>,
    #[serde(default)]
    static_configs: Vec<Group>,
    #[serde(default)]
    relabel_configs: Vec<RelabelFile>,
    #[serde(default)]
    metric_relabel_configs: Vec<RelabelFile>,
    body_size_limit: Option<Size>,
    sample_limit: Option<usize>,
    label_limit: Option<usize>,
    label_name_length_limit: Option<usize>,
    label_value_length_limit: Option<usize>,
    target_limit: Option<usize>,
    keep_dropped_targets: Option<IgnoredAny>,
    metric_name_validation_scheme: Option<IgnoredAny>,
    scrape_failure_log_file: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    targets: Option<Vec<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicAuth {
    #[serde(default)]
    username: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorization {
    #[serde(rename = "type")]
    kind: Option<String>,
    credentials: Option<String>,
    credentials_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsConfig {
    ca_file: Option<PathBuf>,
    #[serde(default)]
    insecure_skip_verify: bool,
}

/// `1m30s`
#[derive(Clone, Copy)]
struct Dur(Duration);

impl<'de> Deserialize<'de> for Dur {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        weir_go::parse_prometheus_duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// `10MB`, `1GiB`, or a plain number of bytes; units count in powers of 1024, as upstream has them.
#[derive(Clone, Copy)]
struct Size(usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 10MB")
            }
            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                usize::try_from(bytes).map(Size).map_err(E::custom)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                size(text).map(Size).ok_or_else(|| E::custom(format_args!("`{text}` is no size; write it as 10MB")))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

fn size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: usize = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// Ways out for keys that weir does not have, by a part of the key's name.
const WAYS_OUT: [(&str, &str); 6] = [
    ("_sd_config", "discovery beyond static_configs is not supported yet; list the targets under static_configs"),
    ("remote_write", "weir does not forward samples; let the senders write to both, or remove the section"),
    ("remote_read", "weir does not read from other servers; remove the section"),
    ("scrape_config_files", "put the scrape configurations into this file"),
    ("oauth2", "use `authorization` or `basic_auth`"),
    ("proxy", "weir reaches targets directly; remove the key"),
];

pub(super) fn parse(text: &str, base: &Path) -> Result<PrometheusConfig, String> {
    // A file of comments alone is an empty configuration.
    let is_blank = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let file: File =
        if is_blank { File::default() } else { serde_saphyr::from_str(text).map_err(|e| explain(&e.to_string()))? };
    let mut warnings = Vec::new();
    if let Some(alerting) = &file.alerting {
        if alerting.alertmanagers.iter().any(has_targets) {
            return Err(
                "alerting: weir routes alerts itself; give the Alertmanager's file with --alertmanager-config \
                        and remove this section"
                    .to_owned(),
            );
        }
        warnings.push(
            "alerting: weir routes alerts itself; the section names no Alertmanager and has no effect".to_owned(),
        );
    }
    let global = &file.global;
    for (key, is_set) in [
        ("storage", file.storage.is_some()),
        ("runtime", file.runtime.is_some()),
        ("global.query_log_file", global.query_log_file.is_some()),
        ("global.scrape_failure_log_file", global.scrape_failure_log_file.is_some()),
        ("global.keep_dropped_targets", global.keep_dropped_targets.is_some()),
        ("global.metric_name_validation_scheme", global.metric_name_validation_scheme.is_some()),
        ("global.scrape_protocols", global.scrape_protocols.is_some()),
    ] {
        if is_set {
            warnings.push(format!("{key} has no effect here"));
        }
    }
    let mut jobs = BTreeSet::new();
    let mut scrape_configs = Vec::new();
    for scrape in file.scrape_configs {
        let job = scrape.job_name.clone();
        if !jobs.insert(job.clone()) {
            return Err(format!("scrape_configs: job_name `{job}` occurs twice"));
        }
        scrape_configs
            .push(check(scrape, global, base, &mut warnings).map_err(|e| format!("scrape config `{job}`: {e}"))?);
    }
    Ok(PrometheusConfig {
        evaluation_interval: file.global.evaluation_interval.0,
        rule_query_offset: file.global.rule_query_offset.map_or(Duration::ZERO, |d| d.0),
        external_labels: Labels::from_pairs(file.global.external_labels),
        rule_files: file.rule_files.iter().map(|path| base.join(path)).collect(),
        scrape_configs,
        warnings,
        text: text.to_owned(),
    })
}

/// Adds the way out for keys that are known upstream. The parser's text may quote the file; its
/// first lines name key and place.
fn explain(error: &str) -> String {
    let way_out = error.split('`').nth(1).and_then(|key| WAYS_OUT.iter().find(|(part, _)| key.contains(part)));
    match way_out {
        Some((_, text)) => format!("{text}: {error}"),
        None => error.to_owned(),
    }
}

fn has_targets(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Array(items) => items.iter().any(has_targets),
        serde_json::Value::Object(fields) => fields.iter().any(|(key, value)| match key.as_str() {
            "targets" => value.as_array().is_some_and(|targets| !targets.is_empty()),
            key if key.ends_with("_sd_configs") => true,
            _ => has_targets(value),
        }),
        _ => false,
    }
}

fn check(scrape: Scrape, global: &Global, base: &Path, warnings: &mut Vec<String>) -> Result<ScrapeConfig, String> {
    for (key, is_set) in [
        ("scrape_protocols", scrape.scrape_protocols.is_some()),
        ("enable_http2", scrape.enable_http2.is_some()),
        ("keep_dropped_targets", scrape.keep_dropped_targets.is_some()),
        ("metric_name_validation_scheme", scrape.metric_name_validation_scheme.is_some()),
        ("scrape_failure_log_file", scrape.scrape_failure_log_file.is_some()),
    ] {
        if is_set {
            warnings.push(format!("scrape config `{}`: {key} has no effect here", scrape.job_name));
        }
    }
    if scrape.job_name.is_empty() {
        return Err("job_name is empty".to_owned());
    }
    let interval = scrape.scrape_interval.map_or(global.scrape_interval.0, |d| d.0);
    if interval < INTERVAL_MIN {
        return Err(format!("scrape_interval is below {} ms", INTERVAL_MIN.as_millis()));
    }
    // A timeout that nobody wrote fits itself to the interval.
    let inherited = global.scrape_timeout.map_or(Duration::from_secs(10), |d| d.0).min(interval);
    let timeout = scrape.scrape_timeout.map_or(inherited, |d| d.0);
    if timeout > interval {
        return Err("scrape_timeout is greater than scrape_interval".to_owned());
    }
    if timeout.is_zero() {
        return Err("scrape_timeout is zero".to_owned());
    }
    let scheme = scrape.scheme.clone().unwrap_or_else(|| "http".to_owned());
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(format!("scheme `{scheme}`; use http or https"));
    }
    let fallback = match scrape.fallback_scrape_protocol.as_deref() {
        None => None,
        Some("PrometheusText0.0.4" | "PrometheusText1.0.0") => Some(Format::Text),
        Some("OpenMetricsText0.0.1" | "OpenMetricsText1.0.0") => Some(Format::OpenMetrics),
        Some(other) => {
            return Err(format!("fallback_scrape_protocol `{other}` is not supported; use PrometheusText0.0.4"));
        }
    };
    let limits = ScrapeLimits {
        body_bytes_max: match scrape.body_size_limit.or(global.body_size_limit) {
            Some(Size(bytes)) if bytes > 0 => bytes,
            _ => BODY_BYTES_DEFAULT,
        },
        sample_limit: scrape.sample_limit.unwrap_or(global.sample_limit),
        label_limit: scrape.label_limit.unwrap_or(global.label_limit),
        label_name_length_limit: scrape.label_name_length_limit.unwrap_or(global.label_name_length_limit),
        label_value_length_limit: scrape.label_value_length_limit.unwrap_or(global.label_value_length_limit),
        target_limit: scrape.target_limit.unwrap_or(global.target_limit),
    };
    let auth = auth(&scrape, base)?;
    let steps = |files: Vec<RelabelFile>| files.into_iter().map(RelabelFile::check).collect::<Result<Vec<_>, String>>();
    Ok(ScrapeConfig {
        honor_labels: scrape.honor_labels,
        honor_timestamps: scrape.honor_timestamps.unwrap_or(true),
        track_timestamps_staleness: scrape.track_timestamps_staleness,
        params: scrape.params,
        scrape_interval: interval,
        scrape_timeout: timeout,
        metrics_path: scrape.metrics_path.unwrap_or_else(|| "/metrics".to_owned()),
        scheme,
        enable_compression: scrape.enable_compression.unwrap_or(true),
        follow_redirects: scrape.follow_redirects.unwrap_or(true),
        fallback,
        auth,
        tls: scrape.tls_config.map_or_else(Tls::default, |tls| Tls {
            ca_file: tls.ca_file.map(|path| base.join(path)),
            insecure_skip_verify: tls.insecure_skip_verify,
        }),
        groups: scrape.static_configs.into_iter().map(group).collect(),
        relabel_configs: steps(scrape.relabel_configs).map_err(|e| format!("relabel_configs: {e}"))?,
        metric_relabel_configs: steps(scrape.metric_relabel_configs)
            .map_err(|e| format!("metric_relabel_configs: {e}"))?,
        limits,
        job_name: scrape.job_name,
    })
}

fn group(group: Group) -> StaticGroup {
    StaticGroup { targets: group.targets.unwrap_or_default(), labels: group.labels }
}

fn auth(scrape: &Scrape, base: &Path) -> Result<Auth, String> {
    let secret = |text: &Option<String>, file: &Option<PathBuf>| match (text, file) {
        (Some(_), Some(_)) => Err("give a secret or a file with it, not both".to_owned()),
        (_, Some(file)) => Ok(Secret::File(base.join(file))),
        (text, None) => Ok(Secret::Text(text.clone().unwrap_or_default())),
    };
    let bearer = scrape.bearer_token.is_some() || scrape.bearer_token_file.is_some();
    if usize::from(bearer) + usize::from(scrape.basic_auth.is_some()) + usize::from(scrape.authorization.is_some()) > 1
    {
        return Err("at most one of basic_auth, authorization and bearer_token may be given".to_owned());
    }
    if let Some(basic) = &scrape.basic_auth {
        return Ok(Auth::Basic {
            username: basic.username.clone(),
            password: secret(&basic.password, &basic.password_file)?,
        });
    }
    if let Some(header) = &scrape.authorization {
        let kind = header.kind.clone().unwrap_or_else(|| "Bearer".to_owned());
        return Ok(Auth::Header { kind, credentials: secret(&header.credentials, &header.credentials_file)? });
    }
    if bearer {
        let credentials = secret(&scrape.bearer_token, &scrape.bearer_token_file)?;
        return Ok(Auth::Header { kind: "Bearer".to_owned(), credentials });
    }
    Ok(Auth::None)
}
