//! The OpenTelemetry Collector inside: requests of OTLP through the pipelines of `--collector-config`.

mod kube;
mod queue;
mod send;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_collector::config::{LokiLabels, Url};
use weir_collector::{
    CollectorConfig, ComponentId, Data, Export, ExporterConfig, Pipelines, Refusal, Surroundings, loki_streams,
};
use weir_ingest::otlp::{convert_logs, convert_metrics, convert_traces};
use weir_ingest::{Ingest, OtlpPipelines, Protocol, SenderRef};
use weir_model::sink::{Outcome, Refused, RefusedReason, WriteError};
use weir_model::usage::{Amount, Signal};
use weir_model::{Budget, Commit, CommitFeed, CommitListener, TenantId};
use weir_wal::{Dir, SyncMode};

use queue::Queue;

/// Batches may wait shorter than the second in which traces are decided.
const TICK: Duration = Duration::from_millis(100);
/// Where undecided traces wait, below the data folder.
const FOLDER: &str = "collector";

/// Reads the file; its warnings go to the log.
pub fn read(path: &Path) -> anyhow::Result<CollectorConfig> {
    let config = CollectorConfig::load(path, &|name| std::env::var(name).ok()).context("--collector-config")?;
    for warning in &config.warnings {
        tracing::warn!(file = %path.display(), "{warning}");
    }
    Ok(config)
}

/// Where no other threshold is given, a trace is slow from here on.
const SLOW: Duration = Duration::from_secs(1);

/// weir's own policy for traces: all with an error, all that are slow, and a percentage of the others. Errors and slow
/// roots are kept as they come, the rest is decided after ten seconds.
pub fn sampling(percent: f64, slow: Duration) -> anyhow::Result<CollectorConfig> {
    anyhow::ensure!((0.0..=100.0).contains(&percent), "--traces.sample {percent}: give a percentage from 0 to 100");
    let slow_ms = if slow.is_zero() { SLOW } else { slow }.as_millis().max(1);
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: , http: }}}}}}\nexporters: {{weir: }}\nprocessors:\n  tail_sampling:\n    \
         decision_wait: 10s\n    num_traces: 1000000\n    early_decision: true\n    \
         decision_cache: {{sampled_cache_size: 100000, non_sampled_cache_size: 1000000}}\n    policies:\n    \
         - {{name: errors, type: status_code, status_code: {{status_codes: [ERROR]}}}}\n    \
         - {{name: slow, type: latency, latency: {{threshold_ms: {slow_ms}}}}}\n    \
         - {{name: share, type: probabilistic, probabilistic: {{sampling_percentage: {percent}}}}}\n\
         service: {{pipelines: {{traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [weir]}}}}}}\n"
    );
    CollectorConfig::parse(&text, &|_| None).map_err(|problems| {
        anyhow::anyhow!("--traces.sample: {}", problems.iter().map(ToString::to_string).collect::<String>())
    })
}

/// Where spans of the main feed are not counted: they were when they arrived, before any was dropped.
pub struct WithoutSpans(pub Arc<dyn CommitListener>);

impl CommitListener for WithoutSpans {
    fn on_commit(&self, tenant: &TenantId, commit: &Commit<'_>) {
        if !matches!(commit, Commit::Spans { .. }) {
            self.0.on_commit(tenant, commit);
        }
    }
}

enum Exporter {
    /// weir's stores. Records may take the shape that the exporter would give them.
    Store {
        sender: SenderRef,
        loki: Option<LokiLabels>,
        labels: Vec<(String, String)>,
    },
    Nothing,
    Log,
    Network(Queue),
}

/// Pipelines at work.
pub struct Running {
    pipelines: Arc<Pipelines>,
    exporters: BTreeMap<ComponentId, Exporter>,
    ingest: Arc<Ingest>,
    /// Hears every span that arrives.
    arrivals: Arc<CommitFeed>,
    /// In the user agent of what this process sends: what comes back by whatever way is stored and not sent again.
    instance: String,
}

/// What pipelines are started with.
pub struct Start<'a> {
    pub config: CollectorConfig,
    pub ingest: Arc<Ingest>,
    pub arrivals: Arc<CommitFeed>,
    pub dir: Arc<dyn Dir>,
    pub budget: &'a Budget,
    pub memory: Budget,
    /// Where this program listens: what is sent there is stored without a network.
    pub own: Vec<SocketAddr>,
    pub shutdown: CancellationToken,
    /// Ends when what waits for other servers was sent, after `shutdown`.
    pub tasks: TaskTracker,
}

impl Running {
    pub fn start(start: Start<'_>) -> anyhow::Result<Arc<Self>> {
        let Start { config, ingest, arrivals, dir, budget, memory, own, shutdown, tasks } = start;
        let instance = format!("{:016x}", RandomState::new().build_hasher().finish());
        let user_agent = format!("weir/{} collector/{instance}", env!("CARGO_PKG_VERSION"));
        let drain = CancellationToken::new();
        warn_of_left_behind(&*dir, &config)?;
        let is_local = |_: &ComponentId, exporter: &ExporterConfig| writes_here(exporter, &own);
        let around = Surroundings { dir, folder: FOLDER, sync: SyncMode::Always, budget, memory, is_local: &is_local };
        let pipelines = Arc::new(Pipelines::open(&config, &around).context("--collector-config")?);
        let mut exporters = BTreeMap::new();
        for (id, exporter) in &config.exporters {
            let sender = SenderRef::new(Protocol::Internal, format!("collector {id}"), "weir");
            let made = match exporter {
                exporter if is_local(id, exporter) => {
                    let loki = if let ExporterConfig::Loki { labels, .. } = exporter { Some(*labels) } else { None };
                    let labels = match exporter {
                        ExporterConfig::RemoteWrite { external_labels, .. } => external_labels.clone(),
                        _ => Vec::new(),
                    };
                    Exporter::Store { sender, loki, labels }
                }
                ExporterConfig::Nop => Exporter::Nothing,
                ExporterConfig::Debug => Exporter::Log,
                exporter => {
                    let context = || format!("--collector-config: exporter {id}");
                    let queue = Queue::start(id, exporter, &user_agent, drain.clone(), &tasks);
                    Exporter::Network(queue.with_context(context)?)
                }
            };
            exporters.insert(id.clone(), made);
        }
        let running = Arc::new(Self { pipelines, exporters, ingest, arrivals, instance });
        kube::start(running.pipelines.kubes(), running.ingest.clock(), &shutdown, &tasks);
        tasks.spawn(tick(running.clone(), shutdown, drain));
        Ok(running)
    }

    pub fn pipelines(&self) -> &Arc<Pipelines> {
        &self.pipelines
    }

    fn store(
        &self,
        (sender, loki, labels): (&SenderRef, Option<LokiLabels>, &[(String, String)]),
        tenant: &TenantId,
        data: Data,
    ) -> Result<(), WriteError> {
        let ingest = &self.ingest;
        let outcome = match data {
            Data::Traces(resource_spans) => {
                ingest.write_spans(tenant, sender, convert_traces(ExportTraceServiceRequest { resource_spans }))?
            }
            Data::Logs(groups) => match loki {
                Some(labels) => {
                    let (streams, dropped) = loki_streams(&groups, labels, ingest.clock().now_nanos());
                    if dropped > 0 {
                        tracing::warn!(dropped, "records without any label are not for Loki");
                    }
                    ingest.write_logs(tenant, sender, streams)?
                }
                None => {
                    let request = ExportLogsServiceRequest { resource_logs: groups };
                    ingest.write_logs(
                        tenant,
                        sender,
                        convert_logs(request, ingest.clock().now_nanos(), &ingest.stream_cache),
                    )?
                }
            },
            Data::Metrics(resource_metrics) => {
                let request = ExportMetricsServiceRequest { resource_metrics };
                let mut decoded = convert_metrics(request, tenant, &ingest.deltas, &ingest.series_cache);
                send::add_labels(&mut decoded.batch, labels);
                ingest.write_metrics(tenant, sender, decoded)?
            }
        };
        for refused in &outcome.refused {
            tracing::debug!(reason = refused.reason.as_str(), example = refused.example, "the store refused items");
        }
        Ok(())
    }

    /// Whether it came from this process, by way of a name or an address that was not known as its own.
    fn is_from_here(&self, sender: &SenderRef) -> bool {
        sender.user_agent.contains(&self.instance)
    }

    /// Through the pipelines, with the accounts of the sender.
    fn receive(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        data: Data,
        amount: Amount,
        mut refused: Vec<Refused>,
    ) -> Result<Outcome, WriteError> {
        let clock = self.ingest.clock();
        let n = data.n_items() as u64;
        let mut accepted = amount;
        let peer = sender.address.parse().ok();
        match self.pipelines.receive((tenant, peer), data, clock.now_nanos(), self) {
            Ok(()) => {}
            Err(Refusal::Write(error)) => {
                let failed = Refused { reason: RefusedReason::Limit, example: error.to_string(), count: 1 };
                self.ingest.senders().note(tenant, sender, clock.now(), Amount::default(), &[failed]);
                return Err(error);
            }
            Err(error @ Refusal::Expression(_)) => {
                accepted = Amount::default();
                refused.push(Refused { reason: RefusedReason::Unsupported, example: error.to_string(), count: n });
            }
        }
        self.ingest.senders().note(tenant, sender, clock.now(), accepted, &refused);
        Ok(Outcome { accepted: accepted.items, refused })
    }
}

impl Export for Running {
    fn export(&self, exporter: &ComponentId, tenant: &TenantId, data: Data) -> Result<(), WriteError> {
        match self.exporters.get(exporter) {
            Some(Exporter::Store { sender, loki, labels }) => self.store((sender, *loki, labels), tenant, data),
            Some(Exporter::Network(queue)) => queue.put(tenant, data),
            Some(Exporter::Log) => {
                let (signal, items) = (data.signal().as_str(), data.n_items());
                tracing::info!(%exporter, signal, items, %tenant, "a batch");
                Ok(())
            }
            Some(Exporter::Nothing) | None => Ok(()),
        }
    }
}

impl OtlpPipelines for Running {
    fn takes(&self, signal: Signal) -> bool {
        self.pipelines.receives(match signal {
            Signal::Traces => weir_collector::Signal::Traces,
            Signal::Metrics => weir_collector::Signal::Metrics,
            Signal::Logs => weir_collector::Signal::Logs,
        })
    }

    fn traces(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        request: ExportTraceServiceRequest,
    ) -> Result<Outcome, WriteError> {
        if self.is_from_here(sender) {
            return self.ingest.write_spans(tenant, sender, convert_traces(request));
        }
        let bytes = request.encoded_len() as u64;
        let mut groups = request.resource_spans.clone();
        let converted = convert_traces(request);
        if !converted.refused.is_empty() {
            drop_invalid(&mut groups);
        }
        let spans = converted.batch;
        let amount = Amount { items: spans.len() as u64, bytes };
        let outcome = self.receive(tenant, sender, Data::Traces(groups), amount, converted.refused)?;
        // All of them, before any is dropped; once they are accepted, as they come again otherwise.
        self.arrivals.publish(tenant, &Commit::Spans { spans: &spans });
        Ok(outcome)
    }

    fn metrics(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        request: ExportMetricsServiceRequest,
    ) -> Result<Outcome, WriteError> {
        if self.is_from_here(sender) {
            let decoded = convert_metrics(request, tenant, &self.ingest.deltas, &self.ingest.series_cache);
            return self.ingest.write_metrics(tenant, sender, decoded);
        }
        let bytes = request.encoded_len() as u64;
        let data = Data::Metrics(request.resource_metrics);
        let amount = Amount { items: data.n_items() as u64, bytes };
        self.receive(tenant, sender, data, amount, Vec::new())
    }

    fn logs(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        request: ExportLogsServiceRequest,
    ) -> Result<Outcome, WriteError> {
        if self.is_from_here(sender) {
            let decoded = convert_logs(request, self.ingest.clock().now_nanos(), &self.ingest.stream_cache);
            return self.ingest.write_logs(tenant, sender, decoded);
        }
        let bytes = request.encoded_len() as u64;
        let data = Data::Logs(request.resource_logs);
        let amount = Amount { items: data.n_items() as u64, bytes };
        self.receive(tenant, sender, data, amount, Vec::new())
    }
}

/// Spans whose ids are none were refused already.
fn drop_invalid(groups: &mut [ResourceSpans]) {
    let is_id = |bytes: &[u8], len: usize| bytes.len() == len && bytes.iter().any(|b| *b != 0);
    let is_valid = |span: &Span| {
        is_id(&span.trace_id, 16) && is_id(&span.span_id, 8) && matches!(span.parent_span_id.len(), 0 | 8)
    };
    groups.iter_mut().flat_map(|g| &mut g.scope_spans).for_each(|scope| scope.spans.retain(is_valid));
}

/// Whether an exporter writes to this program's own stores.
fn writes_here(exporter: &ExporterConfig, own: &[SocketAddr]) -> bool {
    let urls = exporter.urls();
    !matches!(exporter, ExporterConfig::Debug | ExporterConfig::Nop) && urls.iter().all(|url| is_own(url, own))
}

/// Whether a `servicegraph` of the file writes to this program's own stores.
pub fn stores_service_graph(config: &CollectorConfig, own: &[SocketAddr]) -> bool {
    let exporters = config.takes_service_graph();
    exporters.iter().any(|id| config.exporters.get(*id).is_some_and(|exporter| writes_here(exporter, own)))
}

/// Whether an address is this program's own.
fn is_own(url: &Url, own: &[SocketAddr]) -> bool {
    own.iter().any(|listens| {
        let host = url.host.trim_matches(['[', ']']);
        let is_here = match host.parse::<std::net::IpAddr>() {
            Ok(ip) => {
                ip == listens.ip()
                    || (ip.is_loopback() && (listens.ip().is_loopback() || listens.ip().is_unspecified()))
            }
            Err(_) => host == "localhost",
        };
        is_here && listens.port() == url.port
    })
}

/// Traces of a processor that the configuration no longer has wait for ever: that must be seen.
fn warn_of_left_behind(dir: &dyn Dir, config: &CollectorConfig) -> anyhow::Result<()> {
    let known = weir_collector::folders(config);
    for name in dir.list(FOLDER)? {
        let name = name.trim_end_matches('/');
        if !known.contains_key(name) {
            tracing::warn!(
                folder = format!("{FOLDER}/{name}"),
                "traces may wait there for a tail_sampling that the configuration no longer has: bring it back, or \
                 remove the folder"
            );
        }
    }
    Ok(())
}

async fn tick(running: Arc<Running>, shutdown: CancellationToken, drain: CancellationToken) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_failing = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = every.tick() => {}
        }
        let of_tick = running.clone();
        let ticked = tokio::task::spawn_blocking(move || {
            let now = of_tick.ingest.clock().now_nanos();
            of_tick.pipelines.tick(now, &*of_tick).map_err(|e| e.to_string())
        });
        let error = ticked.await.map_err(|e| e.to_string()).flatten().err();
        if let Some(error) = error.as_ref().filter(|_| !was_failing) {
            tracing::error!(error, "the Collector's pipelines: will be tried again");
        }
        was_failing = error.is_some();
    }
    let flushed = tokio::task::spawn_blocking(move || {
        let now = running.ingest.clock().now_nanos();
        running.pipelines.flush(now, &*running).map_err(|e| e.to_string())
    });
    if let Err(error) = flushed.await.map_err(|e| e.to_string()).flatten() {
        tracing::error!(error, "the Collector's pipelines: the last batches are lost");
    }
    drain.cancel();
}
