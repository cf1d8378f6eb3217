//! The file as it is written, and its check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, Visitor};
use weir_ingest::exposition::{Format, Histograms};
use weir_model::Labels;

use super::http::http_section;
use super::remote::{RemoteWriteConfig, RemoteWriteFile};
use super::sd::{ConsulSdFile, DnsSdFile, FileSdFile, HttpSdFile, KubernetesSdFile, SdConfig};
use super::{PrometheusConfig, ScrapeConfig, ScrapeLimits, ScrapeProtocol, StaticGroup};
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
    scrape_config_files: Vec<String>,
    rule_files: Vec<String>,
    remote_write: Vec<RemoteWriteFile>,
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
    keep_dropped_targets: usize,
    metric_name_validation_scheme: Option<NameValidation>,
    metric_name_escaping_scheme: Option<NameEscaping>,
    scrape_protocols: Option<Vec<ScrapeProtocolFile>>,
    scrape_native_histograms: bool,
    extra_scrape_metrics: bool,
    always_scrape_classic_histograms: bool,
    convert_classic_histograms_to_nhcb: bool,
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
            keep_dropped_targets: 0,
            metric_name_validation_scheme: None,
            metric_name_escaping_scheme: None,
            scrape_protocols: None,
            scrape_native_histograms: false,
            extra_scrape_metrics: false,
            always_scrape_classic_histograms: false,
            convert_classic_histograms_to_nhcb: false,
        }
    }
}

/// Only an empty section is harmless: weir routes alerts itself.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Alerting {
    alertmanagers: Vec<serde_json::Value>,
}

http_section! {
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
        scrape_protocols: Option<Vec<ScrapeProtocolFile>>,
        fallback_scrape_protocol: Option<ScrapeProtocolFile>,
        metrics_path: Option<String>,
        scheme: Option<String>,
        enable_compression: Option<bool>,
        #[serde(default)]
        static_configs: Vec<Group>,
        #[serde(default)]
        file_sd_configs: Vec<FileSdFile>,
        #[serde(default)]
        http_sd_configs: Vec<HttpSdFile>,
        #[serde(default)]
        dns_sd_configs: Vec<DnsSdFile>,
        #[serde(default)]
        consul_sd_configs: Vec<ConsulSdFile>,
        #[serde(default)]
        kubernetes_sd_configs: Vec<KubernetesSdFile>,
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
        keep_dropped_targets: Option<usize>,
        metric_name_validation_scheme: Option<NameValidation>,
        metric_name_escaping_scheme: Option<NameEscaping>,
        native_histogram_bucket_limit: Option<usize>,
        native_histogram_min_bucket_factor: Option<f64>,
        scrape_native_histograms: Option<bool>,
        extra_scrape_metrics: Option<bool>,
        always_scrape_classic_histograms: Option<bool>,
        convert_classic_histograms_to_nhcb: Option<bool>,
        scrape_failure_log_file: Option<IgnoredAny>,
    }
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum NameValidation {
    Utf8,
    Legacy,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum NameEscaping {
    #[serde(rename = "allow-utf-8")]
    AllowUtf8,
    Underscores,
    Dots,
    Values,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
enum ScrapeProtocolFile {
    PrometheusProto,
    #[serde(rename = "PrometheusText0.0.4")]
    Text004,
    #[serde(rename = "PrometheusText1.0.0")]
    Text100,
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetrics001,
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetrics100,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    targets: Option<Vec<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// `1m30s`
#[derive(Clone, Copy)]
pub(crate) struct Dur(pub Duration);

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

pub(crate) fn size(text: &str) -> Option<usize> {
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
const WAYS_OUT: [(&str, &str); 3] = [
    (
        "_sd_config",
        "weir discovers by static, file, http, dns, consul and kubernetes; let another tool write files for file_sd_configs",
    ),
    ("remote_read", "weir does not read from other servers; remove the section"),
    ("server_name", "reach the target by the name in its certificate"),
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
    ] {
        if is_set {
            warnings.push(format!("{key} has no effect here"));
        }
    }
    let mut jobs = BTreeSet::new();
    let mut scrape_configs = Vec::new();
    let mut scrapes = file.scrape_configs;
    for pattern in &file.scrape_config_files {
        scrapes.extend(included(&base.join(pattern), &mut warnings)?);
    }
    for scrape in scrapes {
        let job = scrape.job_name.clone();
        if !jobs.insert(job.clone()) {
            return Err(format!("scrape_configs: job_name `{job}` occurs twice"));
        }
        scrape_configs
            .push(check(scrape, global, base, &mut warnings).map_err(|e| format!("scrape config `{job}`: {e}"))?);
    }
    let mut remote_write = Vec::new();
    for remote in file.remote_write {
        let remote = remote.check(base, &mut warnings)?;
        if remote_write.iter().any(|r: &RemoteWriteConfig| r.name == remote.name) {
            return Err(format!("remote_write `{}`: another one has the same name; give each a `name`", remote.url));
        }
        remote_write.push(remote);
    }
    Ok(PrometheusConfig {
        remote_write,
        evaluation_interval: file.global.evaluation_interval.0,
        rule_query_offset: file.global.rule_query_offset.map_or(Duration::ZERO, |d| d.0),
        external_labels: Labels::from_pairs(file.global.external_labels),
        rule_files: file.rule_files.iter().map(|path| base.join(path)).collect(),
        scrape_configs,
        warnings,
        text: text.to_owned(),
    })
}

/// Scrape configurations from the files of `scrape_config_files`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Included {
    scrape_configs: Vec<Scrape>,
}

fn included(pattern: &Path, warnings: &mut Vec<String>) -> Result<Vec<Scrape>, String> {
    let files = crate::glob::files(pattern).map_err(|e| format!("scrape_config_files: {}: {e}", pattern.display()))?;
    if files.is_empty() {
        warnings.push(format!("scrape_config_files: nothing matches {}", pattern.display()));
    }
    let mut out = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let file: Included =
            serde_saphyr::from_str(&text).map_err(|e| format!("{}: {}", path.display(), explain(&e.to_string())))?;
        out.extend(file.scrape_configs);
    }
    Ok(out)
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

fn check(mut scrape: Scrape, global: &Global, base: &Path, warnings: &mut Vec<String>) -> Result<ScrapeConfig, String> {
    if scrape.job_name.is_empty() {
        return Err("job_name is empty".to_owned());
    }
    let histograms = histograms(&scrape, global)?;
    if scrape.scrape_failure_log_file.is_some() {
        warnings.push(format!("scrape config `{}`: scrape_failure_log_file has no effect here", scrape.job_name));
    }
    let http = scrape.take_http(base)?;
    let (scrape_interval, scrape_timeout) = times(&scrape, global)?;
    let scheme = scrape.scheme.clone().unwrap_or_else(|| "http".to_owned());
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(format!("scheme `{scheme}`; use http or https"));
    }
    let escaping = scrape.metric_name_escaping_scheme.or(global.metric_name_escaping_scheme);
    let validation = scrape.metric_name_validation_scheme.or(global.metric_name_validation_scheme);
    let legacy = validation == Some(NameValidation::Legacy);
    if legacy && escaping == Some(NameEscaping::AllowUtf8) {
        return Err(
            "metric_name_escaping_scheme allow-utf-8 goes against metric_name_validation_scheme legacy".to_owned()
        );
    }
    if matches!(escaping, Some(NameEscaping::Dots | NameEscaping::Values)) {
        return Err("metric_name_escaping_scheme: use allow-utf-8 or underscores".to_owned());
    }
    let steps = |files: Vec<RelabelFile>| files.into_iter().map(RelabelFile::check).collect::<Result<Vec<_>, String>>();
    Ok(ScrapeConfig {
        honor_labels: scrape.honor_labels,
        honor_timestamps: scrape.honor_timestamps.unwrap_or(true),
        track_timestamps_staleness: scrape.track_timestamps_staleness,
        scrape_interval,
        scrape_timeout,
        scheme,
        enable_compression: scrape.enable_compression.unwrap_or(true),
        protocols: protocols(&scrape, global, histograms)?,
        histograms,
        allow_utf8: !legacy && escaping != Some(NameEscaping::Underscores),
        legacy_names: legacy,
        extra_metrics: scrape.extra_scrape_metrics.unwrap_or(global.extra_scrape_metrics),
        fallback: scrape.fallback_scrape_protocol.map(fallback),
        http,
        limits: limits(&scrape, global),
        sd: discovery(&mut scrape, base)?,
        metrics_path: scrape.metrics_path.unwrap_or_else(|| "/metrics".to_owned()),
        params: scrape.params,
        groups: scrape.static_configs.into_iter().map(group).collect(),
        relabel_configs: steps(scrape.relabel_configs).map_err(|e| format!("relabel_configs: {e}"))?,
        metric_relabel_configs: steps(scrape.metric_relabel_configs)
            .map_err(|e| format!("metric_relabel_configs: {e}"))?,
        job_name: scrape.job_name,
    })
}

fn histograms(scrape: &Scrape, global: &Global) -> Result<Histograms, String> {
    if scrape.convert_classic_histograms_to_nhcb.unwrap_or(global.convert_classic_histograms_to_nhcb) {
        return Err(
            "convert_classic_histograms_to_nhcb: classic histograms are stored as they come; remove the key".into()
        );
    }
    Ok(Histograms {
        native: scrape.scrape_native_histograms.unwrap_or(global.scrape_native_histograms),
        classic_beside: scrape.always_scrape_classic_histograms.unwrap_or(global.always_scrape_classic_histograms),
    })
}

fn times(scrape: &Scrape, global: &Global) -> Result<(Duration, Duration), String> {
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
    Ok((interval, timeout))
}

fn protocols(scrape: &Scrape, global: &Global, histograms: Histograms) -> Result<Vec<ScrapeProtocol>, String> {
    let Some(given) = scrape.scrape_protocols.as_ref().or(global.scrape_protocols.as_ref()) else {
        // Only protobuf carries native histograms.
        let first = histograms.native.then_some(ScrapeProtocol::Protobuf);
        return Ok(first.into_iter().chain(ScrapeProtocol::DEFAULT).collect());
    };
    let mut out = Vec::new();
    for protocol in given {
        let protocol = match protocol {
            ScrapeProtocolFile::PrometheusProto => ScrapeProtocol::Protobuf,
            ScrapeProtocolFile::Text004 => ScrapeProtocol::Text004,
            ScrapeProtocolFile::Text100 => ScrapeProtocol::Text100,
            ScrapeProtocolFile::OpenMetrics001 => ScrapeProtocol::OpenMetrics001,
            ScrapeProtocolFile::OpenMetrics100 => ScrapeProtocol::OpenMetrics100,
        };
        if out.contains(&protocol) {
            return Err("scrape_protocols: one stands there twice".to_owned());
        }
        out.push(protocol);
    }
    if out.is_empty() {
        return Err("scrape_protocols: name a format such as PrometheusText0.0.4".to_owned());
    }
    Ok(out)
}

fn fallback(protocol: ScrapeProtocolFile) -> Format {
    match protocol {
        ScrapeProtocolFile::Text004 | ScrapeProtocolFile::Text100 => Format::Text,
        ScrapeProtocolFile::OpenMetrics001 | ScrapeProtocolFile::OpenMetrics100 => Format::OpenMetrics,
        ScrapeProtocolFile::PrometheusProto => Format::Protobuf,
    }
}

fn limits(scrape: &Scrape, global: &Global) -> ScrapeLimits {
    ScrapeLimits {
        body_bytes_max: match scrape.body_size_limit.or(global.body_size_limit) {
            Some(Size(bytes)) if bytes > 0 => bytes,
            _ => BODY_BYTES_DEFAULT,
        },
        sample_limit: scrape.sample_limit.unwrap_or(global.sample_limit),
        label_limit: scrape.label_limit.unwrap_or(global.label_limit),
        label_name_length_limit: scrape.label_name_length_limit.unwrap_or(global.label_name_length_limit),
        label_value_length_limit: scrape.label_value_length_limit.unwrap_or(global.label_value_length_limit),
        target_limit: scrape.target_limit.unwrap_or(global.target_limit),
        histogram_buckets: scrape.native_histogram_bucket_limit.unwrap_or(0),
        histogram_factor_min: scrape.native_histogram_min_bucket_factor.unwrap_or(0.0),
        keep_dropped_targets: scrape.keep_dropped_targets.unwrap_or(global.keep_dropped_targets),
    }
}

fn discovery(scrape: &mut Scrape, base: &Path) -> Result<Vec<SdConfig>, String> {
    let mut out = Vec::new();
    for sd in scrape.file_sd_configs.drain(..) {
        out.push(sd.check(base)?);
    }
    for sd in scrape.http_sd_configs.drain(..) {
        out.push(sd.check(base)?);
    }
    for sd in scrape.dns_sd_configs.drain(..) {
        out.push(sd.check()?);
    }
    for sd in scrape.consul_sd_configs.drain(..) {
        out.push(sd.check(base)?);
    }
    for sd in scrape.kubernetes_sd_configs.drain(..) {
        out.push(sd.check(base)?);
    }
    Ok(out)
}

fn group(group: Group) -> StaticGroup {
    StaticGroup { targets: group.targets.unwrap_or_default(), labels: group.labels }
}
