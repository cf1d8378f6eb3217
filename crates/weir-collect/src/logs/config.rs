//! Promtail's configuration: what was written, then a checked form.
//!
//! Keys that would change what is collected and are not supported are refused by name with their line; keys
//! without effect here are accepted with a warning. Source: Promtail's configuration reference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use weir_model::{Labels, TenantId};

use super::stage::{self, StageFile};
use super::syslog::{SyslogConfig, SyslogProtocol};
use super::tailed::{LINE_BYTES_MAX, LineLimit};
use super::tailer::TailerOptions;
use super::targets::Job;
use crate::config::http::http_section;
use crate::config::sd::{ConsulSdFile, FileSdFile, KubernetesSdFile};
use crate::config::{ConfigError, HttpConfig, SdConfig, parse_size};
use crate::discover::TargetGroup;
use crate::relabel::RelabelFile;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct PromtailConfig {
    pub clients: Vec<LogClient>,
    pub positions: PositionsConfig,
    pub scrape_configs: Vec<LogScrape>,
    pub tailer: TailerOptions,
    /// What was accepted and has no effect here, for the log.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionsConfig {
    /// `None`: in the data folder.
    pub filename: Option<PathBuf>,
    /// Whether a file that cannot be read counts as none.
    pub ignores_invalid: bool,
}

/// A receiver in Loki's push format.
#[derive(Clone, Debug, PartialEq)]
pub struct LogClient {
    pub name: String,
    pub url: String,
    pub tenant: Option<TenantId>,
    /// Whether lines that are refused with 429 are given up.
    pub drops_rate_limited: bool,
    pub timeout: Duration,
    pub external_labels: Labels,
    pub headers: BTreeMap<String, String>,
    pub http: HttpConfig,
}

#[derive(Clone, Debug)]
pub struct LogScrape {
    pub(crate) job: Arc<Job>,
    pub(crate) groups: Vec<Arc<TargetGroup>>,
    pub(crate) sd: Vec<SdConfig>,
    pub(crate) syslog: Option<SyslogConfig>,
}

impl PromtailConfig {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        crate::config::load(path, Self::parse)
    }

    /// Reads and checks a file in Alloy's language. `env`: what its `sys.env` asks for.
    pub fn load_alloy(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        crate::config::load(path, |text, _| Self::parse_alloy(text, env))
    }

    pub fn parse_alloy(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        super::alloy::parse(text, env)
    }

    /// Receivers of syslog.
    pub fn syslog(&self) -> impl Iterator<Item = &SyslogConfig> {
        self.scrape_configs.iter().filter_map(|scrape| scrape.syslog.as_ref())
    }

    /// `base`: the folder that relative paths start from.
    pub fn parse(text: &str, base: &Path) -> Result<Self, String> {
        let is_blank = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        let file: File = if is_blank {
            File::default()
        } else {
            serde_saphyr::from_str(text).map_err(|e| explain(&e.to_string()))?
        };
        file.check(base)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    global: Option<Global>,
    server: Option<IgnoredAny>,
    client: Option<ClientFile>,
    clients: Vec<ClientFile>,
    positions: PositionsFile,
    scrape_configs: Vec<ScrapeFile>,
    limits_config: LimitsFile,
    target_config: TargetFile,
    tracing: Option<IgnoredAny>,
    options: Option<OptionsFile>,
    wal: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Global {
    file_watch_config: WatchFile,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WatchFile {
    min_poll_frequency: Option<GoDur>,
    max_poll_frequency: Option<GoDur>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct PositionsFile {
    filename: Option<PathBuf>,
    /// Positions are written with each batch.
    sync_period: Option<GoDur>,
    ignore_invalid_yaml: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LimitsFile {
    max_line_size: Option<Size>,
    max_line_size_truncate: bool,
    readline_rate_enabled: bool,
    readline_rate: Option<f64>,
    readline_burst: Option<u64>,
    readline_rate_drop: Option<bool>,
    max_streams: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct TargetFile {
    /// Files are looked for every second.
    sync_period: Option<GoDur>,
    stdin: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct OptionsFile {
    stream_lag_labels: Option<IgnoredAny>,
}

http_section! {
    pub(super) struct ClientFile {
        name: Option<String>,
        url: Option<String>,
        tenant_id: Option<String>,
        batchwait: Option<IgnoredAny>,
        batchsize: Option<IgnoredAny>,
        backoff_config: Option<IgnoredAny>,
        drop_rate_limited_batches: Option<bool>,
        timeout: Option<GoDur>,
        #[serde(default)]
        external_labels: BTreeMap<String, String>,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        stream_lag_labels: Option<IgnoredAny>,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScrapeFile {
    job_name: String,
    #[serde(default)]
    pipeline_stages: Vec<StageFile>,
    #[serde(default)]
    static_configs: Vec<StaticFile>,
    #[serde(default)]
    file_sd_configs: Vec<FileSdFile>,
    #[serde(default)]
    kubernetes_sd_configs: Vec<KubernetesSdFile>,
    #[serde(default)]
    consul_sd_configs: Vec<ConsulSdFile>,
    #[serde(default)]
    relabel_configs: Vec<RelabelFile>,
    syslog: Option<SyslogFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SyslogFile {
    listen_address: String,
    listen_protocol: Option<String>,
    idle_timeout: Option<GoDur>,
    #[serde(default)]
    label_structured_data: bool,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    use_incoming_timestamp: bool,
    #[serde(default)]
    use_rfc5424_message: bool,
    max_message_length: Option<usize>,
    /// Either is understood, whatever stands here.
    syslog_format: Option<SyslogFormat>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum SyslogFormat {
    Rfc5424,
    Rfc3164,
}

impl SyslogFile {
    pub(super) fn check(self, job: &Arc<Job>, limit: LineLimit) -> Result<SyslogConfig, String> {
        let protocol = match self.listen_protocol.as_deref() {
            None | Some("" | "tcp") => SyslogProtocol::Tcp,
            Some("udp") => SyslogProtocol::Udp,
            Some(other) => return Err(format!("syslog: listen_protocol `{other}`; use tcp or udp")),
        };
        if self.listen_address.is_empty() {
            return Err("syslog: listen_address is empty".to_owned());
        }
        let (None | Some(SyslogFormat::Rfc5424 | SyslogFormat::Rfc3164)) = self.syslog_format;
        Ok(SyslogConfig {
            address: self.listen_address,
            protocol,
            idle_timeout: self.idle_timeout.map_or(Duration::from_secs(120), |d| d.0),
            message_bytes_max: self.max_message_length.filter(|n| *n > 0).unwrap_or(8192).min(LINE_BYTES_MAX),
            labels: Labels::from_pairs(self.labels),
            labels_data: self.label_structured_data,
            takes_time: self.use_incoming_timestamp,
            keeps_header: self.use_rfc5424_message,
            job: job.clone(),
            limit,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticFile {
    targets: Option<Vec<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// `1m30s`, `250ms`
#[derive(Clone, Copy)]
pub(super) struct GoDur(pub Duration);

impl<'de> Deserialize<'de> for GoDur {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Go's own durations have no days; those of Prometheus, which other keys take, do.
        let nanos = weir_go::parse_go_duration(&text).ok().and_then(|nanos| u64::try_from(nanos).ok());
        match nanos {
            Some(nanos) => Ok(Self(Duration::from_nanos(nanos))),
            None => weir_go::parse_prometheus_duration(&text).map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// `256kb` or a number of bytes.
#[derive(Clone, Copy)]
struct Size(usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bad = || serde::de::Error::custom(format_args!("`{text}` is no size; write it as 256kb"));
        parse_size(&text).map(Self).ok_or_else(bad)
    }
}

/// Ways out for keys that weir does not have, by a part of the key's name.
const WAYS_OUT: [(&str, &str); 12] = [
    ("windows_events", "Windows' event log cannot be read here; forward it as syslog or OTLP"),
    ("eventlogmessage", "Windows' event log cannot be read here; remove the stage"),
    ("geoip", "there is no GeoIP database here; remove the stage"),
    ("loki_push_api", "weir serve takes Loki's push API at its main address; remove the section"),
    ("kafka", "read topics with Kafka Connect or an OpenTelemetry Collector, and send OTLP"),
    ("gcplog", "send GCP's logs as OTLP"),
    ("gelf", "send GELF through a forwarder as syslog or OTLP"),
    ("cloudflare", "send Cloudflare's logs with Logpush as JSON over Loki's push API"),
    (
        "docker_sd_configs",
        "name the files of the containers, /var/lib/docker/containers/*/*-json.log, with the docker stage",
    ),
    ("journal", "let `journalctl --follow --output json` write a file, and follow that with the json stage"),
    ("decompression", "packed files are not read: rotation packs what was read before"),
    ("encoding", "files are read as UTF-8; convert others"),
];

/// Adds the way out for keys that are known upstream.
fn explain(error: &str) -> String {
    let key = error.split('`').nth(1);
    match key.and_then(|key| WAYS_OUT.iter().find(|(part, _)| key.contains(part))) {
        Some((_, text)) => format!("{text}: {error}"),
        None => error.to_owned(),
    }
}

impl File {
    fn check(self, base: &Path) -> Result<PromtailConfig, String> {
        let mut warnings = Vec::new();
        let no_effect = [
            ("server", "weir has its own --listen", self.server.is_some()),
            ("tracing", "", self.tracing.is_some()),
            ("wal", "what was read waits in its file", self.wal.is_some()),
            ("options", "", self.options.is_some()),
            (
                "target_config.sync_period",
                "files are looked for every second",
                self.target_config.sync_period.is_some(),
            ),
            ("positions.sync_period", "positions are written with each batch", self.positions.sync_period.is_some()),
        ];
        for (key, why, _) in no_effect.iter().filter(|(.., is_set)| *is_set) {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            warnings.push(format!("{key} has no effect here{why}"));
        }
        if self.target_config.stdin {
            return Err("target_config: stdin is not read; write to a file, and name it".to_owned());
        }
        let tailer = TailerOptions {
            poll: poll(self.global.as_ref())?,
            limit: self.limits_config.check(&mut warnings)?,
            ..TailerOptions::default()
        };
        let mut clients = Vec::new();
        for (idx, client) in self.client.into_iter().chain(self.clients).enumerate() {
            let client = client.check(idx, base, &mut warnings)?;
            if clients.iter().any(|known: &LogClient| known.name == client.name) {
                return Err(format!("clients: two are called `{}`; give each a `name`", client.name));
            }
            clients.push(client);
        }
        let mut scrape_configs: Vec<LogScrape> = Vec::new();
        for scrape in self.scrape_configs {
            let name = scrape.job_name.clone();
            if scrape_configs.iter().any(|known| known.job.name == name) {
                return Err(format!("scrape_configs: job_name `{name}` occurs twice"));
            }
            scrape_configs.push(scrape.check(base, tailer.limit).map_err(|e| format!("scrape config `{name}`: {e}"))?);
        }
        stage::metrics::check_names(scrape_configs.iter().flat_map(|scrape| &scrape.job.stages))?;
        Ok(PromtailConfig {
            clients,
            positions: PositionsConfig {
                filename: self.positions.filename.map(|path| base.join(path)),
                ignores_invalid: self.positions.ignore_invalid_yaml,
            },
            scrape_configs,
            tailer,
            warnings,
        })
    }
}

/// Every look is at the shortest distance.
fn poll(global: Option<&Global>) -> Result<Duration, String> {
    let watch = global.map(|global| &global.file_watch_config);
    let given = |key: fn(&WatchFile) -> Option<GoDur>| watch.and_then(key).map(|d| d.0);
    let (min, max) = (given(|w| w.min_poll_frequency), given(|w| w.max_poll_frequency));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        return Err("global.file_watch_config: min_poll_frequency is above max_poll_frequency".to_owned());
    }
    let poll = min.or(max).unwrap_or(TailerOptions::default().poll);
    if poll < Duration::from_millis(10) {
        return Err("global.file_watch_config: min_poll_frequency is below 10ms".to_owned());
    }
    Ok(poll)
}

impl LimitsFile {
    fn check(&self, warnings: &mut Vec<String>) -> Result<LineLimit, String> {
        let _ = (self.readline_rate, self.readline_burst, self.readline_rate_drop);
        if self.readline_rate_enabled {
            return Err("limits_config.readline_rate_enabled: use a `limit` stage in the scrape configs that need it"
                .to_owned());
        }
        if self.max_streams > 0 {
            warnings.push(
                "limits_config.max_streams has no effect here: streams are limited where they are stored".to_owned(),
            );
        }
        match self.max_line_size {
            None | Some(Size(0)) => Ok(LineLimit::default()),
            Some(Size(bytes)) => {
                if bytes > LINE_BYTES_MAX {
                    warnings.push(format!("limits_config.max_line_size: lines are cut at {LINE_BYTES_MAX} bytes"));
                }
                Ok(LineLimit { bytes_max: bytes, cuts: self.max_line_size_truncate || bytes > LINE_BYTES_MAX })
            }
        }
    }
}

impl ClientFile {
    pub(super) fn check(mut self, idx: usize, base: &Path, warnings: &mut Vec<String>) -> Result<LogClient, String> {
        let url = self.url.take().filter(|url| !url.is_empty()).ok_or("clients: one has no `url`")?;
        let fail = |text: String| format!("client `{url}`: {text}");
        let parsed = url::Url::parse(&url).map_err(|e| fail(e.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(fail("use http or https".to_owned()));
        }
        let http = self.take_http(base).map_err(fail)?;
        let without_effect = [
            ("stream_lag_labels", self.stream_lag_labels.is_some()),
            ("batchwait", self.batchwait.is_some()),
            ("batchsize", self.batchsize.is_some()),
            ("backoff_config", self.backoff_config.is_some()),
        ];
        for (key, _) in without_effect.iter().filter(|(_, is_set)| *is_set) {
            warnings.push(format!(
                "client `{url}`: {key} has no effect here: what is read is sent at once, until it is taken"
            ));
        }
        let tenant = self.tenant_id.filter(|text| !text.is_empty());
        let tenant =
            tenant.map(|text| TenantId::parse(&text)).transpose().map_err(|e| fail(format!("tenant_id: {e}")))?;
        Ok(LogClient {
            name: self.name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("{idx}:{url}")),
            tenant,
            drops_rate_limited: self.drop_rate_limited_batches.unwrap_or(false),
            timeout: self.timeout.map_or(Duration::from_secs(10), |d| d.0),
            external_labels: Labels::from_pairs(self.external_labels),
            headers: self.headers,
            http,
            url,
        })
    }
}

impl ScrapeFile {
    fn check(self, base: &Path, limit: LineLimit) -> Result<LogScrape, String> {
        if self.job_name.is_empty() {
            return Err("job_name is empty".to_owned());
        }
        let group = |(idx, file): (usize, StaticFile)| {
            let target = |address: String| BTreeMap::from([("__address__".to_owned(), address)]);
            // A group without targets is one of this machine.
            let given =
                file.targets.filter(|targets| !targets.is_empty()).unwrap_or_else(|| vec!["localhost".to_owned()]);
            let targets = given.into_iter().map(target).collect();
            Arc::new(TargetGroup { source: idx.to_string(), labels: file.labels, targets })
        };
        let mut sd = Vec::new();
        for file in self.file_sd_configs {
            sd.push(file.check(base)?);
        }
        for file in self.kubernetes_sd_configs {
            sd.push(file.check(base)?);
        }
        for file in self.consul_sd_configs {
            sd.push(file.check(base)?);
        }
        let relabel = self.relabel_configs.into_iter().map(RelabelFile::check).collect::<Result<_, _>>();
        let job = Job {
            name: self.job_name,
            stages: stage::check(self.pipeline_stages)?,
            relabel: relabel.map_err(|e| format!("relabel_configs: {e}"))?,
        };
        let job = Arc::new(job);
        Ok(LogScrape {
            syslog: self.syslog.map(|file| file.check(&job, limit)).transpose()?,
            job,
            groups: self.static_configs.into_iter().enumerate().map(group).collect(),
            sd,
        })
    }
}
