//! `remote_write` as `prometheus.yml` writes it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::file::Dur;
use super::http::{HttpConfig, http_section};
use crate::relabel::{RelabelConfig, RelabelFile};

/// One receiver of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteWriteConfig {
    /// Given, or made from the URL; distinct within a file. Names the queue on disk.
    pub name: String,
    pub url: String,
    pub version: RemoteWriteVersion,
    pub timeout: Duration,
    pub headers: BTreeMap<String, String>,
    pub write_relabel_configs: Vec<RelabelConfig>,
    pub send_exemplars: bool,
    pub send_native_histograms: bool,
    pub queue: QueueConfig,
    pub metadata: Option<Duration>,
    pub http: HttpConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum RemoteWriteVersion {
    #[serde(rename = "prometheus.WriteRequest")]
    V1,
    #[serde(rename = "io.prometheus.write.v2.Request")]
    V2,
}

/// Defaults are Prometheus 3's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    pub capacity: usize,
    pub max_shards: usize,
    pub min_shards: usize,
    pub max_samples_per_send: usize,
    pub batch_send_deadline: Duration,
    pub min_backoff: Duration,
    pub max_backoff: Duration,
    pub retry_on_http_429: bool,
    pub sample_age_limit: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct QueueFile {
    capacity: usize,
    max_shards: usize,
    min_shards: usize,
    max_samples_per_send: usize,
    batch_send_deadline: Dur,
    min_backoff: Dur,
    max_backoff: Dur,
    retry_on_http_429: bool,
    sample_age_limit: Option<Dur>,
}

impl Default for QueueFile {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2000,
            batch_send_deadline: Dur(Duration::from_secs(5)),
            min_backoff: Dur(Duration::from_millis(30)),
            max_backoff: Dur(Duration::from_secs(5)),
            retry_on_http_429: false,
            sample_age_limit: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MetadataFile {
    send: bool,
    send_interval: Dur,
    max_samples_per_send: usize,
}

impl Default for MetadataFile {
    fn default() -> Self {
        Self { send: true, send_interval: Dur(Duration::from_secs(60)), max_samples_per_send: 2000 }
    }
}

http_section! {
    pub(super) struct RemoteWriteFile {
        url: String,
        name: Option<String>,
        remote_timeout: Option<Dur>,
        #[serde(default)]
        headers: BTreeMap<String, String>,
        #[serde(default)]
        write_relabel_configs: Vec<RelabelFile>,
        #[serde(default)]
        send_exemplars: bool,
        #[serde(default)]
        send_native_histograms: bool,
        protobuf_message: Option<RemoteWriteVersion>,
        #[serde(default)]
        queue_config: QueueFile,
        #[serde(default)]
        metadata_config: MetadataFile,
        #[serde(default)]
        round_robin_dns: bool,
    }
}

impl RemoteWriteFile {
    pub fn check(mut self, base: &Path, warnings: &mut Vec<String>) -> Result<RemoteWriteConfig, String> {
        let fail = |url: &str, text: String| format!("remote_write `{url}`: {text}");
        let http = self.take_http(base).map_err(|e| fail(&self.url, e))?;
        let url = url::Url::parse(&self.url).map_err(|e| fail(&self.url, e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fail(&self.url, "use http or https".to_owned()));
        }
        for name in self.headers.keys() {
            let lower = name.to_ascii_lowercase();
            let reserved = ["authorization", "content-encoding", "content-type", "host", "user-agent"];
            if reserved.contains(&lower.as_str()) || lower.starts_with("x-prometheus-remote-write") {
                return Err(fail(&self.url, format!("headers: `{name}` is set by other keys")));
            }
        }
        if self.round_robin_dns {
            warnings.push(format!("remote_write `{}`: round_robin_dns has no effect here", self.url));
        }
        let queue = self.queue_config;
        if queue.max_samples_per_send == 0 || queue.capacity == 0 || queue.max_shards == 0 {
            let text = "queue_config: capacity, max_shards and max_samples_per_send must be above 0";
            return Err(fail(&self.url, text.to_owned()));
        }
        if queue.min_shards > queue.max_shards {
            return Err(fail(&self.url, "queue_config: min_shards is above max_shards".to_owned()));
        }
        if self.metadata_config.max_samples_per_send == 0 {
            return Err(fail(&self.url, "metadata_config: max_samples_per_send must be above 0".to_owned()));
        }
        let steps: Result<Vec<_>, String> = self.write_relabel_configs.into_iter().map(RelabelFile::check).collect();
        Ok(RemoteWriteConfig {
            name: self.name.unwrap_or_else(|| made_name(&self.url)),
            version: self.protobuf_message.unwrap_or(RemoteWriteVersion::V1),
            timeout: self.remote_timeout.map_or(Duration::from_secs(30), |d| d.0),
            headers: self.headers,
            write_relabel_configs: steps.map_err(|e| fail(&self.url, format!("write_relabel_configs: {e}")))?,
            send_exemplars: self.send_exemplars,
            send_native_histograms: self.send_native_histograms,
            queue: QueueConfig {
                capacity: queue.capacity,
                max_shards: queue.max_shards,
                min_shards: queue.min_shards.max(1),
                max_samples_per_send: queue.max_samples_per_send,
                batch_send_deadline: queue.batch_send_deadline.0,
                min_backoff: queue.min_backoff.0,
                max_backoff: queue.max_backoff.0,
                retry_on_http_429: queue.retry_on_http_429,
                sample_age_limit: queue.sample_age_limit.map(|d| d.0).filter(|d| !d.is_zero()),
            },
            metadata: self.metadata_config.send.then_some(self.metadata_config.send_interval.0),
            http,
            url: self.url,
        })
    }
}

/// The same for the same URL after each start.
fn made_name(url: &str) -> String {
    let digest = crate::md5::md5(url.as_bytes());
    digest[..3].iter().map(|b| format!("{b:02x}")).collect()
}
