//! Exporters, and what they have in common.

use std::time::Duration;

use super::section::{Field, Section};

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub is_tls: bool,
    pub host: String,
    pub port: u16,
    /// With its leading `/`; empty without one.
    pub path: String,
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    pub is_enabled: bool,
    pub initial: Duration,
    pub max: Duration,
    /// Zero is for ever.
    pub elapsed_max: Duration,
    pub multiplier: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests that wait; more are refused.
    pub size: usize,
    pub n_consumers: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub ca_file: Option<String>,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub skip_verify: bool,
}

/// Labels of the old `loki` exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LokiLabels {
    pub exporter: bool,
    pub job: bool,
    pub instance: bool,
    pub level: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExporterConfig {
    /// weir's own stores, without a network.
    Weir,
    /// Nothing.
    Nop,
    /// A line per batch in the log.
    Debug,
    Otlp {
        to: Url,
        common: Common,
    },
    /// Traces, metrics, logs: each with its whole path.
    OtlpHttp {
        to: [Option<Url>; 3],
        is_json: bool,
        common: Common,
    },
    Loki {
        to: Url,
        labels: LokiLabels,
        common: Common,
    },
    RemoteWrite {
        to: Url,
        external_labels: Vec<(String, String)>,
        common: Common,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    pub timeout: Duration,
    pub headers: Vec<(String, String)>,
    pub gzip: bool,
    pub tls: Tls,
    pub retry: Retry,
    pub queue: Queue,
}

impl ExporterConfig {
    pub(super) fn read(kind: &str, section: Section<'_>) -> Option<Self> {
        match kind {
            "weir" | "nop" => {
                section.finish();
                Some(if kind == "weir" { Self::Weir } else { Self::Nop })
            }
            "debug" => {
                section.without_effect(
                    &["sampling_initial", "sampling_thereafter", "use_internal_logger"],
                    "weir logs a line per batch",
                );
                section.without_effect(&["verbosity", "loglevel"], "weir logs a line per batch");
                section.finish();
                Some(Self::Debug)
            }
            "otlp" => otlp(section),
            "otlphttp" => otlphttp(section),
            "loki" => loki(section),
            _ => remote_write(section),
        }
    }

    /// Of those that send over the network.
    pub fn common(&self) -> Option<&Common> {
        match self {
            Self::Weir | Self::Nop | Self::Debug => None,
            Self::Otlp { common, .. }
            | Self::OtlpHttp { common, .. }
            | Self::Loki { common, .. }
            | Self::RemoteWrite { common, .. } => Some(common),
        }
    }

    /// Where it sends to over the network.
    pub fn urls(&self) -> Vec<&Url> {
        match self {
            Self::Weir | Self::Nop | Self::Debug => Vec::new(),
            Self::Otlp { to, .. } | Self::Loki { to, .. } | Self::RemoteWrite { to, .. } => vec![to],
            Self::OtlpHttp { to, .. } => to.iter().flatten().collect(),
        }
    }
}

fn url(field: &Field<'_>, default_port: Option<u16>, is_tls: bool) -> Option<Url> {
    let text = field.text()?;
    let (is_tls, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some((scheme, _)) => {
            field.error(format!("`{scheme}` is not supported: http or https"));
            return None;
        }
        None => (is_tls, &*text),
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, default_port),
    };
    match (host.is_empty() || host.contains(char::is_whitespace), port) {
        (false, Some(port)) => Some(Url { is_tls, host: host.to_owned(), port, path: path.to_owned() }),
        _ => {
            field.error(format!("`{text}` is no address: give host:port"));
            None
        }
    }
}

fn common(section: &Section<'_>, timeout: Duration) -> (Common, bool) {
    let mut insecure = false;
    let mut tls = Tls::default();
    if let Some(inner) = section.section("tls") {
        insecure = inner.bool_or("insecure", false);
        tls = Tls {
            ca_file: inner.text("ca_file"),
            cert_file: inner.text("cert_file"),
            key_file: inner.text("key_file"),
            skip_verify: inner.bool_or("insecure_skip_verify", false),
        };
        inner.without_effect(
            &["min_version", "max_version", "reload_interval", "include_system_ca_certs_pool"],
            "TLS is 1.2 or later",
        );
        inner.unsupported(&[
            "server_name_override",
            "ca_pem",
            "cert_pem",
            "key_pem",
            "cipher_suites",
            "curve_preferences",
            "tpm",
        ]);
        inner.finish();
    }
    let headers = section.section("headers").map(|inner| {
        let text = |(key, field): (&str, Field<'_>)| Some((key.to_owned(), field.text()?));
        inner.entries().into_iter().filter_map(text).collect()
    });
    let common = Common {
        timeout: section.duration_or("timeout", timeout),
        headers: headers.unwrap_or_default(),
        gzip: compression(section),
        tls,
        retry: retry(section),
        queue: queue(section),
    };
    section.unsupported(&["auth", "proxy_url"]);
    let keys = [
        "read_buffer_size",
        "write_buffer_size",
        "keepalive",
        "balancer_name",
        "wait_for_ready",
        "max_idle_conns",
        "max_idle_conns_per_host",
        "max_conns_per_host",
        "idle_conn_timeout",
        "disable_keep_alives",
        "http2_read_idle_timeout",
        "http2_ping_timeout",
        "force_attempt_http2",
        "cookies",
        "authority",
    ];
    section.without_effect(&keys, "weir keeps connections its own way");
    (common, insecure)
}

fn compression(section: &Section<'_>) -> bool {
    let Some(field) = section.get("compression") else { return true };
    match field.text().as_deref() {
        Some("gzip") => true,
        Some("none" | "") => false,
        Some(other) => {
            field.error(format!("`{other}` is not supported: gzip or none"));
            true
        }
        None => true,
    }
}

fn retry(section: &Section<'_>) -> Retry {
    let seconds = Duration::from_secs;
    let default =
        Retry { is_enabled: true, initial: seconds(5), max: seconds(30), elapsed_max: seconds(300), multiplier: 1.5 };
    let Some(inner) = section.section("retry_on_failure") else { return default };
    let read = Retry {
        is_enabled: inner.bool_or("enabled", true),
        initial: inner.duration_or("initial_interval", default.initial),
        max: inner.duration_or("max_interval", default.max),
        elapsed_max: inner.duration_or("max_elapsed_time", default.elapsed_max),
        multiplier: inner.float("multiplier").unwrap_or(default.multiplier).max(1.0),
    };
    inner.get("randomization_factor");
    inner.finish();
    read
}

fn queue(section: &Section<'_>) -> Queue {
    let default = Queue { size: 1000, n_consumers: 10 };
    let Some(inner) = section.section("sending_queue") else { return default };
    if let Some(field) = inner.get("sizer")
        && field.text().is_some_and(|text| text != "requests")
    {
        field.error("is not supported: requests");
    }
    let is_enabled = inner.bool_or("enabled", true);
    let read = Queue {
        size: inner.size_or("queue_size", default.size),
        n_consumers: inner.size_or("num_consumers", default.n_consumers).clamp(1, 100),
    };
    inner.unsupported(&["batch", "storage"]);
    inner.get("block_on_overflow").filter(|f| f.bool() == Some(true)).inspect(|f| f.error("is not supported"));
    inner.without_effect(&["wait_for_result"], "a request is acknowledged when it is in the queue");
    inner.finish();
    if is_enabled { read } else { Queue { size: 1, n_consumers: 1 } }
}

fn otlp(section: Section<'_>) -> Option<ExporterConfig> {
    let (common, insecure) = common(&section, Duration::from_secs(5));
    let to = section.required("endpoint").and_then(|field| url(&field, None, !insecure));
    let at = section.at().clone();
    section.finish();
    // `http://` is without TLS, as upstream's dialer has it; `insecure` says the same of any address.
    let to = Url { is_tls: !insecure && to.as_ref()?.is_tls, ..to? };
    if to.is_tls {
        at.error("TLS towards gRPC is not supported: use otlphttp, or tls.insecure");
    }
    Some(ExporterConfig::Otlp { to, common })
}

fn otlphttp(section: Section<'_>) -> Option<ExporterConfig> {
    let (common, insecure) = common(&section, Duration::from_secs(30));
    let read = |field: &Field<'_>| url(field, Some(if insecure { 80 } else { 443 }), !insecure);
    let base = section.get("endpoint").and_then(|field| read(&field));
    let of = |key: &'static str, path: &str| match section.get(key) {
        Some(field) => read(&field),
        None => base.clone().map(|base| Url { path: format!("{}{path}", base.path.trim_end_matches('/')), ..base }),
    };
    let to =
        [of("traces_endpoint", "/v1/traces"), of("metrics_endpoint", "/v1/metrics"), of("logs_endpoint", "/v1/logs")];
    if to.iter().all(Option::is_none) {
        section.error("`endpoint` is missing");
    }
    let is_json = match section.text("encoding").as_deref() {
        None | Some("proto") => false,
        Some("json") => true,
        Some(other) => {
            section.error(format!("encoding `{other}` is not one of proto, json"));
            false
        }
    };
    section.finish();
    Some(ExporterConfig::OtlpHttp { to, is_json, common })
}

fn loki(section: Section<'_>) -> Option<ExporterConfig> {
    let (common, _) = common(&section, Duration::from_secs(30));
    let to = section.required("endpoint").and_then(|field| url(&field, Some(80), false));
    let mut labels = LokiLabels { exporter: true, job: true, instance: true, level: true };
    if let Some(inner) = section.section("default_labels_enabled") {
        labels = LokiLabels {
            exporter: inner.bool_or("exporter", true),
            job: inner.bool_or("job", true),
            instance: inner.bool_or("instance", true),
            level: inner.bool_or("level", true),
        };
        inner.finish();
    }
    section.finish();
    to.map(|to| ExporterConfig::Loki { to, labels, common })
}

fn remote_write(section: Section<'_>) -> Option<ExporterConfig> {
    let (common, _) = common(&section, Duration::from_secs(5));
    let to = section.required("endpoint").and_then(|field| url(&field, Some(80), false));
    let labels = section.section("external_labels").map(|inner| {
        let text = |(key, field): (&str, Field<'_>)| Some((key.to_owned(), field.text()?));
        inner.entries().into_iter().filter_map(text).collect()
    });
    for (key, allowed) in [("add_metric_suffixes", true), ("send_metadata", false)] {
        if let Some(field) = section.get(key)
            && field.bool().is_some_and(|v| v != allowed)
            && key == "add_metric_suffixes"
        {
            field.error("is not supported: names have their suffixes");
        }
    }
    if let Some(inner) = section.section("target_info") {
        inner.get("enabled").filter(|f| f.bool() == Some(false)).inspect(|f| f.error("is not supported"));
        inner.finish();
    }
    if let Some(inner) = section.section("resource_to_telemetry_conversion") {
        inner.get("enabled").filter(|f| f.bool() == Some(true)).inspect(|f| f.error("is not supported"));
        inner.unsupported(&["exclude_service_attributes"]);
        inner.finish();
    }
    if let Some(inner) = section.section("remote_write_queue") {
        inner.without_effect(&["enabled", "queue_size", "num_consumers"], "sending_queue is what counts");
        inner.finish();
    }
    section.unsupported(&["namespace", "wal", "export_created_metric", "translation_strategy"]);
    section.without_effect(
        &["max_batch_size_bytes", "max_batch_request_parallelism", "protobuf_message"],
        "a batch is one request of version 1",
    );
    section.finish();
    to.map(|to| ExporterConfig::RemoteWrite { to, external_labels: labels.unwrap_or_default(), common })
}
