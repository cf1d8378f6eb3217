//! One request to another server: how it is written, and what its answer means.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use weir_collector::config::{Common, LokiLabels, Tls, Url};
use weir_collector::{Data, ExporterConfig, Signal, loki_push, loki_streams};
use weir_ingest::otlp::{DeltaState, convert_metrics};
use weir_ingest::remote_write::encode_v1;
use weir_ingest::{LabelCache, Limits};
use weir_model::sink::MetricBatch;
use weir_model::{Clock as _, SystemClock, TenantId};

/// Where an exporter sends.
pub struct Target {
    kind: Kind,
    headers: HeaderMap,
    gzip: bool,
}

enum Kind {
    Grpc(Channel),
    OtlpHttp {
        client: reqwest::Client,
        to: [Option<String>; 3],
        is_json: bool,
    },
    Loki {
        client: reqwest::Client,
        to: String,
        labels: LokiLabels,
    },
    RemoteWrite {
        client: reqwest::Client,
        to: String,
        labels: Vec<(String, String)>,
        state: Box<(DeltaState, LabelCache)>,
    },
}

/// A request that can be sent again.
pub enum Prepared {
    Grpc(Data, TenantId),
    Http {
        url: String,
        body: Bytes,
        headers: Vec<(&'static str, &'static str)>,
        tenant: TenantId,
    },
    /// There is nothing left to send.
    Nothing,
}

pub enum Failed {
    Permanent(String),
    Later { reason: String, after: Option<Duration> },
}

impl Target {
    pub fn new(exporter: &ExporterConfig, user_agent: &str) -> anyhow::Result<Self> {
        let common = exporter.common().context("has nothing to send to")?;
        let kind = match exporter {
            ExporterConfig::Otlp { to, .. } => {
                let endpoint = Endpoint::from_shared(to.to_string())?.user_agent(user_agent)?.timeout(common.timeout);
                Kind::Grpc(endpoint.connect_timeout(Duration::from_secs(10)).connect_lazy())
            }
            ExporterConfig::OtlpHttp { to, is_json, .. } => Kind::OtlpHttp {
                client: client(common, user_agent)?,
                to: to.clone().map(|url| url.as_ref().map(Url::to_string)),
                is_json: *is_json,
            },
            ExporterConfig::Loki { to, labels, .. } => {
                Kind::Loki { client: client(common, user_agent)?, to: to.to_string(), labels: *labels }
            }
            ExporterConfig::RemoteWrite { to, external_labels, .. } => Kind::RemoteWrite {
                client: client(common, user_agent)?,
                to: to.to_string(),
                labels: external_labels.clone(),
                state: Box::new((DeltaState::default(), LabelCache::new(Limits::default().series_labels))),
            },
            ExporterConfig::Weir | ExporterConfig::Nop | ExporterConfig::Debug => {
                anyhow::bail!("has nothing to send to")
            }
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &common.headers {
            let name = HeaderName::try_from(name).with_context(|| format!("`{name}` is no name of a header"))?;
            let mut value = HeaderValue::try_from(value).with_context(|| format!("the value of header {name}"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self { kind, headers, gzip: common.gzip })
    }

    /// Writes a batch as this server takes it.
    pub fn prepare(&self, tenant: &TenantId, data: Data) -> Result<Prepared, String> {
        let http = |url: &str, body: Vec<u8>, headers: Vec<(&'static str, &'static str)>| Prepared::Http {
            url: url.to_owned(),
            body: body.into(),
            headers,
            tenant: tenant.clone(),
        };
        match &self.kind {
            Kind::Grpc(_) => Ok(Prepared::Grpc(data, tenant.clone())),
            Kind::OtlpHttp { to, is_json, .. } => {
                let signal = data.signal();
                let [traces, metrics, logs] = to;
                let to = match signal {
                    Signal::Traces => traces,
                    Signal::Metrics => metrics,
                    Signal::Logs => logs,
                };
                let url = to.as_deref().ok_or_else(|| format!("there is no endpoint for {}", signal.as_str()))?;
                let kind = if *is_json { "application/json" } else { "application/x-protobuf" };
                let (body, encoding) = self.packed(otlp_body(data, *is_json)?)?;
                Ok(http(url, body, [vec![("content-type", kind)], encoding].concat()))
            }
            Kind::Loki { to, labels, .. } => {
                let Data::Logs(groups) = data else { return Err("only logs go to Loki".to_owned()) };
                let (streams, dropped) = loki_streams(&groups, *labels, SystemClock.now_nanos());
                if dropped > 0 {
                    tracing::warn!(dropped, "records without any label are not for Loki");
                }
                if streams.is_empty() {
                    return Ok(Prepared::Nothing);
                }
                let (body, encoding) = self.packed(loki_push(&streams))?;
                Ok(http(to, body, [vec![("content-type", "application/json")], encoding].concat()))
            }
            Kind::RemoteWrite { to, labels, state, .. } => {
                let Data::Metrics(resource_metrics) = data else { return Err("only metrics go there".to_owned()) };
                let request = ExportMetricsServiceRequest { resource_metrics };
                let mut decoded = convert_metrics(request, tenant, &state.0, &state.1);
                add_labels(&mut decoded.batch, labels);
                let body = snap::raw::Encoder::new().compress_vec(&encode_v1(&decoded.batch));
                let headers = vec![
                    ("content-type", "application/x-protobuf"),
                    ("content-encoding", "snappy"),
                    ("x-prometheus-remote-write-version", "0.1.0"),
                ];
                Ok(http(to, body.map_err(|e| e.to_string())?, headers))
            }
        }
    }

    fn packed(&self, body: Vec<u8>) -> Result<(Vec<u8>, Vec<(&'static str, &'static str)>), String> {
        if !self.gzip {
            return Ok((body, Vec::new()));
        }
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&body).map_err(|e| e.to_string())?;
        Ok((packer.finish().map_err(|e| e.to_string())?, vec![("content-encoding", "gzip")]))
    }

    pub async fn send(&self, prepared: &Prepared) -> Result<(), Failed> {
        match (prepared, &self.kind) {
            (Prepared::Nothing, _) => Ok(()),
            (Prepared::Grpc(data, tenant), Kind::Grpc(channel)) => self.grpc(channel.clone(), data, tenant).await,
            (
                Prepared::Http { url, body, headers, tenant },
                Kind::OtlpHttp { client, .. } | Kind::Loki { client, .. } | Kind::RemoteWrite { client, .. },
            ) => {
                let mut request = client.post(url).headers(self.headers.clone()).body(body.clone());
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                if *tenant != TenantId::anonymous() && !self.headers.contains_key("x-scope-orgid") {
                    request = request.header("x-scope-orgid", tenant.as_str());
                }
                answered(request.send().await).await
            }
            _ => Err(Failed::Permanent("a request for another kind of server".to_owned())),
        }
    }

    async fn grpc(&self, channel: Channel, data: &Data, tenant: &TenantId) -> Result<(), Failed> {
        macro_rules! export {
            ($client:ident, $message:expr) => {{
                let mut client = $client::new(channel);
                if self.gzip {
                    client = client.send_compressed(CompressionEncoding::Gzip);
                }
                client.export(self.dressed($message, tenant)).await.map(drop)
            }};
        }
        let sent = match data.clone() {
            Data::Traces(resource_spans) => {
                export!(TraceServiceClient, ExportTraceServiceRequest { resource_spans })
            }
            Data::Metrics(resource_metrics) => {
                export!(MetricsServiceClient, ExportMetricsServiceRequest { resource_metrics })
            }
            Data::Logs(resource_logs) => export!(LogsServiceClient, ExportLogsServiceRequest { resource_logs }),
        };
        sent.map_err(|status| {
            use tonic::Code;
            let reason = format!("{:?}: {}", status.code(), status.message());
            let later = [
                Code::Unavailable,
                Code::DeadlineExceeded,
                Code::Aborted,
                Code::Cancelled,
                Code::OutOfRange,
                Code::DataLoss,
                Code::ResourceExhausted,
            ];
            match later.contains(&status.code()) {
                true => Failed::Later { reason, after: None },
                false => Failed::Permanent(reason),
            }
        })
    }

    fn dressed<T>(&self, message: T, tenant: &TenantId) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let mut headers = self.headers.clone();
        if *tenant != TenantId::anonymous()
            && let Ok(value) = HeaderValue::try_from(tenant.as_str())
        {
            headers.entry("x-scope-orgid").or_insert(value);
        }
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        request
    }
}

fn otlp_body(data: Data, is_json: bool) -> Result<Vec<u8>, String> {
    macro_rules! body {
        ($message:expr) => {
            if is_json {
                serde_json::to_vec(&$message).map_err(|e| e.to_string())
            } else {
                Ok($message.encode_to_vec())
            }
        };
    }
    match data {
        Data::Traces(resource_spans) => body!(ExportTraceServiceRequest { resource_spans }),
        Data::Metrics(resource_metrics) => body!(ExportMetricsServiceRequest { resource_metrics }),
        Data::Logs(resource_logs) => body!(ExportLogsServiceRequest { resource_logs }),
    }
}

/// Labels that are not there yet.
pub fn add_labels(batch: &mut MetricBatch, labels: &[(String, String)]) {
    if labels.is_empty() {
        return;
    }
    for series in &mut batch.series {
        let mut all = series.labels.to_builder();
        for (name, value) in labels.iter().filter(|(name, _)| series.labels.get(name).is_none()) {
            all.set(name.as_str(), value.as_str());
        }
        series.labels = all.build();
    }
}

async fn answered(answer: Result<reqwest::Response, reqwest::Error>) -> Result<(), Failed> {
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            let mut reason = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                reason.push_str(&format!(": {inner}"));
                cause = inner.source();
            }
            return Err(Failed::Later { reason, after: None });
        }
    };
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let after = response.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let text = response.text().await.unwrap_or_default();
    let reason = format!("{status}: {}", text.chars().take(300).collect::<String>().trim());
    match status.as_u16() {
        429 | 502..=504 => Err(Failed::Later { reason, after: after.map(Duration::from_secs) }),
        _ => Err(Failed::Permanent(reason)),
    }
}

fn client(common: &Common, user_agent: &str) -> anyhow::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(user_agent)
        .connect_timeout(Duration::from_secs(10))
        .timeout(common.timeout);
    let Tls { ca_file, cert_file, key_file, skip_verify } = &common.tls;
    let read = |path: &String| std::fs::read(path).with_context(|| format!("cannot read {path}"));
    if *skip_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(path) = ca_file {
        // Only these: a private CA must not widen what is trusted.
        builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(&read(path)?)?);
    }
    match (cert_file, key_file) {
        (Some(cert), Some(key)) => {
            let pem = [read(cert)?, b"\n".to_vec(), read(key)?].concat();
            builder = builder.identity(reqwest::Identity::from_pem(&pem)?);
        }
        (None, None) => {}
        _ => anyhow::bail!("cert_file and key_file belong together"),
    }
    Ok(builder.build()?)
}
