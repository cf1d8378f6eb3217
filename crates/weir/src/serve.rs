//! `weir serve`: builds every component, connects them, runs until a signal.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_api::{App, DemoControl, ShownConfig, Slos};
use weir_collect::logs::LogMetrics;
use weir_collect::pushed::{PUSHED_EVERY, Pushed};
use weir_collect::remote::QUEUE_BYTES_DEFAULT;
use weir_collect::{Collector, CollectorOptions, RemoteOptions, RemoteWrites, Tee};
use weir_collector::{CollectorConfig, CollectorMetrics, SpanMetrics, SpanMetricsOptions};
use weir_diagnose::{DiagnoseMetrics, Graph, IncidentOptions, Incidents, Sources};
use weir_events::{ChangeLog, SpanStore};
use weir_ingest::cardinality::{CardinalityConfig, Gate};
use weir_ingest::{Ingest, IngestOptions, Limits};
use weir_kafka::{ClusterOptions, LagOptions, LagPoller};
use weir_logql::HidingSource;
use weir_model::entity::{Aliases, EntityTable};
use weir_model::usage::Usage;
use weir_model::{Budget, ChangeSink, Clock, CommitFeed, CommitListener, SystemClock, TenantId};

use crate::alerting::{self, Alerting};
use crate::collector::{self, WithoutSpans};
use crate::config_files::{ConfigFiles, Configured, Loaded, reload_on_hangup};
use crate::data::{self, DataArgs, DataDir};
use crate::listen::{self, Protection};
use crate::memory;
use crate::own_metrics::OwnMetrics;
use crate::own_series::write_every;
use crate::tail::{IntoStore, Tail, TailOptions};
use crate::web_config::WebConfig;
use crate::{cardinality, log_contract};

/// How long the last batches of the Collector's exporters may take once the program stops.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args, Clone)]
pub struct ServeArgs {
    /// Address of every HTTP API and of the page.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: String,
    /// Address of OTLP over gRPC.
    #[arg(long, default_value = "127.0.0.1:4317")]
    otlp_grpc_listen: String,
    /// Address of OTLP over HTTP; the main port answers the same paths.
    #[arg(long, default_value = "127.0.0.1:4318")]
    otlp_http_listen: String,
    /// Where people reach this server; stands in every link that leaves the program.
    #[arg(long = "web.external-url", value_name = "URL")]
    external_url: Option<String>,
    /// Prometheus' web configuration: TLS and basic authentication.
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config: Option<PathBuf>,
    /// Listen off loopback without TLS and authentication.
    #[arg(long)]
    insecure_open: bool,
    /// A Kafka cluster whose consumer lag is polled, as name=host:port[,host:port]; may be repeated.
    #[arg(long, value_name = "NAME=BROKERS")]
    kafka: Vec<ClusterOptions>,
    #[command(flatten)]
    files: ConfigFiles,
    /// An OpenTelemetry Collector's configuration, run in place of a Collector: what comes in by OTLP goes through
    /// its pipelines; the exporter `weir` is these stores. Read at start alone.
    #[arg(long, value_name = "FILE")]
    collector_config: Option<PathBuf>,
    /// Percentage of traces to keep, drawn by their ids, beside all with an error and all that are slow (`--traces.slow`,
    /// 1s where it is not given). 100 keeps every trace. Metrics of spans count all of them either way.
    #[arg(
        long = "traces.sample",
        value_name = "PERCENT",
        default_value_t = 100.0,
        conflicts_with = "collector_config"
    )]
    traces_sample: f64,
    #[command(flatten)]
    data: DataArgs,
    /// Memory for what is stored and queried, such as 2GiB; 60 % of what there is by default.
    #[arg(long, value_parser = memory::parse_bytes)]
    memory_limit: Option<u64>,
    /// Address of the demo that this server belongs to; `weir demo` gives it.
    #[arg(long, value_name = "URL", hide = true)]
    demo_control: Option<String>,
    /// End when standard input does, so that a server never outlives the program that started it.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

pub fn main(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    crate::runtime()?.block_on(run(args))?;
    Ok(ExitCode::SUCCESS)
}

struct Listeners {
    http: TcpListener,
    otlp_http: TcpListener,
    otlp_grpc: TcpListener,
}

async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let web = args.web_config.as_deref().map(WebConfig::load).transpose()?.unwrap_or_default();
    let protection = Protection { web, insecure_open: args.insecure_open };
    let listeners = Listeners {
        http: listen::bind("listen", &args.listen, &protection).await?,
        otlp_http: listen::bind("otlp-http-listen", &args.otlp_http_listen, &protection).await?,
        otlp_grpc: listen::bind("otlp-grpc-listen", &args.otlp_grpc_listen, &protection).await?,
    };
    let scheme = if protection.web.tls.is_some() { "https" } else { "http" };
    let own_url = format!("{scheme}://{}", listeners.http.local_addr()?);
    let external_url = external_url(args.external_url.as_deref(), &own_url)?;

    let shutdown = CancellationToken::new();
    let limit_bytes = args.memory_limit.unwrap_or_else(memory::default_limit_bytes);
    let demo = args.demo_control.as_deref().map(DemoControl::new).transpose()?;
    let data = args.data.open()?;
    let sending = TaskTracker::new();
    let pipelines = match &args.collector_config {
        Some(path) => {
            let listeners = [&listeners.http, &listeners.otlp_http, &listeners.otlp_grpc];
            let own = listeners.iter().map(|l| l.local_addr()).collect::<Result<_, _>>()?;
            Some((collector::read(path)?, own, sending.clone()))
        }
        None if args.traces_sample == 100.0 => None,
        None => Some((collector::sampling(args.traces_sample, data.traces_slow)?, Vec::new(), sending.clone())),
    };
    let mut files = args.files;
    files.insecure_open = args.insecure_open;
    let app = build(limit_bytes, external_url, args.kafka, files, pipelines, &data, demo, &shutdown)?;

    tracing::info!(limit_mib = limit_bytes >> 20, "metrics, logs and traces are kept on disk");
    announce(&own_url, &listeners)?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = signal() => {}
            () = end_of_stdin(), if args.exit_with_stdin => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    let grpc = weir_api::grpc_router(app.ingest.clone());
    let router = weir_api::router(app);
    tokio::try_join!(
        listen::serve(listeners.http, router.clone(), &protection, shutdown.clone()),
        listen::serve(listeners.otlp_http, router, &protection, shutdown.clone()),
        listen::serve(listeners.otlp_grpc, grpc, &protection, shutdown.clone()),
    )?;
    sending.close();
    // What waits for other servers gets one more chance.
    let _ = tokio::time::timeout(SEND_TIMEOUT, sending.wait()).await;
    Ok(())
}

/// Stores and services, connected. The one place that knows all of them. `pipelines`: the Collector's configuration,
/// where this program listens, and what sends to others.
#[allow(clippy::too_many_arguments, reason = "what the command line says, taken apart once")]
fn build(
    limit_bytes: u64,
    external_url: String,
    kafka: Vec<ClusterOptions>,
    files: ConfigFiles,
    pipelines: Option<(CollectorConfig, Vec<SocketAddr>, TaskTracker)>,
    data: &DataDir,
    demo: Option<DemoControl>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Arc<App>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let root = Budget::root(limit_bytes);
    let part = |name: &str, percent: u64| root.child(name, limit_bytes / 100 * percent);
    let parts = [
        part("metrics", 30),
        part("logs", 25),
        part("traces", 25),
        part("queries", 14),
        part("rules", 3),
        part("graph", 2),
        part("lag", 1),
    ];
    let [metrics, logs, spans_budget, query_budget, rules, graph, lag] = &parts;
    let metrics = data.metrics(metrics, clock.clone())?;
    let logs = data.logs(logs, clock.clone(), shutdown)?;
    let log_deletions = data.log_deletions()?;
    // Whoever reads logs reads them without what was deleted.
    let log_source = Arc::new(HidingSource::new(logs.clone(), log_deletions.clone()));
    let spans = data.spans(spans_budget)?;
    tokio::spawn(tick_spans(spans.clone(), clock.clone(), shutdown.clone()));
    let state = data.state()?;
    let changes = Arc::new(ChangeLog::open(state.clone()));
    tokio::spawn(write_changes(changes.clone(), shutdown.clone()));
    // Every component adds its own; the prefix stands in each name.
    let mut registry = Registry::default();
    let accounts = [&root].into_iter().chain(&parts).cloned().collect();
    registry.register_collector(Box::new(OwnMetrics::new(accounts)));
    let (feed, usage) = (Arc::new(CommitFeed::default()), Arc::new(Usage::default()));
    let remote = RemoteWrites::new(RemoteOptions {
        folder: Some(data.remote_queue.clone()),
        clock: clock.clone(),
        shutdown: shutdown.clone(),
        queue_bytes_max: QUEUE_BYTES_DEFAULT,
    });
    remote.metrics().register(&mut registry);
    let into = Arc::new(Tee { store: metrics.clone(), remote: remote.clone() });
    let ingest = Arc::new(Ingest::new(IngestOptions {
        clock: clock.clone(),
        metrics: into.clone(),
        series: Some(into),
        logs: logs.clone(),
        spans: spans.clone(),
        feed: feed.clone(),
        usage: usage.clone(),
        entities: Arc::new(EntityTable::new(changes.clone())),
        aliases: Aliases::default(),
        limits: Limits::default(),
    }));
    ingest.metrics().register(&mut registry);
    if let Some(redactor) = data.redactor() {
        redactor.register(&mut registry);
        ingest.use_redactor(redactor);
    }
    if let Some(sampler) = data.sampler() {
        ingest.use_sampler(sampler);
    }
    // Before anything else writes, and before there are receivers to forward to.
    data::start_metrics(&metrics, &ingest, &*clock, shutdown)?;
    // With pipelines spans are counted as they arrive, not as they are stored: most may be dropped between.
    let arrivals = match &pipelines {
        Some((config, ..)) if config.receives(weir_collector::Signal::Traces) => Some(Arc::new(CommitFeed::default())),
        _ => None,
    };
    let count_spans = |listener: Arc<dyn CommitListener>| match &arrivals {
        Some(arrivals) => {
            feed.subscribe(Arc::new(WithoutSpans(listener.clone())));
            arrivals.subscribe(listener);
        }
        None => feed.subscribe(listener),
    };
    let graph = Arc::new(Graph::new(graph.clone(), Aliases::default()));
    count_spans(graph.clone());
    if !data.traces_metrics_interval.is_zero() {
        // A `servicegraph` that writes here has the same names: together each request would count twice.
        let graph = !pipelines.as_ref().is_some_and(|(config, own, _)| collector::stores_service_graph(config, own));
        let options = SpanMetricsOptions { graph, ..SpanMetricsOptions::default() };
        let span_metrics = Arc::new(SpanMetrics::new(options, clock.clone()));
        count_spans(span_metrics.clone());
        let (interval, stop) = (data.traces_metrics_interval, shutdown.clone());
        let due = move |now| span_metrics.collect(now);
        tokio::spawn(write_every(interval, "span metrics", ingest.clone(), stop, due));
    }
    let diagnose_metrics = DiagnoseMetrics::default();
    diagnose_metrics.register(&mut registry);
    let (incidents, incident_runner) = Incidents::new(IncidentOptions {
        clock: clock.clone(),
        sources: Sources {
            metrics: metrics.clone(),
            logs: log_source.clone(),
            spans: spans.clone(),
            changes: changes.clone(),
        },
        budget: query_budget.child("diagnose", query_budget.limit_bytes()),
        graph: graph.clone(),
        aliases: Aliases::default(),
        external_url: external_url.clone(),
        metrics: diagnose_metrics,
        state: state.clone(),
    });
    tokio::spawn(incident_runner.run(shutdown.clone()));
    let lag_options = LagOptions { clusters: kafka, tenant: TenantId::anonymous(), budget: lag.clone() };
    let poller = LagPoller::new(lag_options, ingest.clone(), clock.clone());
    poller.metrics().register(&mut registry);
    count_spans(poller.observer());
    let lag = poller.handle();
    tokio::spawn(poller.run(shutdown.clone()));
    if let Some((config, own, tasks)) = pipelines {
        let running = collector::Running::start(collector::Start {
            config,
            ingest: ingest.clone(),
            arrivals: arrivals.clone().unwrap_or_default(),
            dir: data.dir.clone(),
            // Undecided traces are traces: they share the room of those that are stored.
            budget: spans_budget,
            memory: root.clone(),
            own,
            shutdown: shutdown.clone(),
            tasks,
        })?;
        registry.register_collector(Box::new(CollectorMetrics(running.pipelines().clone())));
        ingest.use_pipelines(running);
    }
    let pushed = Pushed::new(state.clone());
    let kept = pushed.clone();
    tokio::spawn(write_every(PUSHED_EVERY, "pushed metrics", ingest.clone(), shutdown.clone(), move |now| {
        kept.due(now)
    }));
    let Loaded { prometheus, promtail, groups, alertmanager, oncall, slos, cardinality: budgets } = files.read()?;
    let gate = Arc::new(Gate::new(metrics.clone(), CardinalityConfig::default()));
    ingest.use_gate(gate.clone());
    let lines = ingest.clone();
    let due = move |now| log_contract::series(&lines, now);
    tokio::spawn(write_every(log_contract::EVERY, "log contract", ingest.clone(), shutdown.clone(), due));
    tokio::spawn(cardinality::watch(gate.clone(), ingest.clone(), shutdown.clone()));
    let Alerting { rules, alerts, oncall } = alerting::start(
        alertmanager,
        oncall,
        prometheus.as_ref(),
        alerting::Surroundings {
            clock: clock.clone(),
            metrics: metrics.clone(),
            logs: log_source.clone(),
            spans: spans.clone(),
            feed: &feed,
            budget: rules.clone(),
            incidents: &incidents,
            external_url: external_url.clone(),
            state,
            missing_input: files.missing_input,
            registry: &mut registry,
            shutdown,
        },
    )?;
    let collector = Collector::new(CollectorOptions {
        ingest: ingest.clone(),
        tenant: TenantId::anonymous(),
        shutdown: shutdown.clone(),
    });
    collector.metrics().register(&mut registry);
    let log_metrics = LogMetrics::default();
    log_metrics.register(&mut registry);
    let tail = Tail::new(TailOptions {
        data: data.dir.clone(),
        receivers: {
            let (ingest, metrics) = (ingest.clone(), log_metrics.clone());
            Arc::new(move || Box::new(IntoStore::new(ingest.clone(), metrics.clone())))
        },
        insecure_open: files.insecure_open,
        clock: clock.clone(),
        shutdown: shutdown.clone(),
        metrics: log_metrics,
    });
    let configured = Configured {
        collector: collector.clone(),
        tail,
        remote,
        rules: rules.clone(),
        alerts: alerts.clone(),
        oncall: oncall.clone(),
        slos: Slos::default(),
        shown: ShownConfig::default(),
        gate: gate.clone(),
    };
    configured.apply(prometheus, promtail, groups, slos, budgets)?;
    let (slos, shown) = (configured.slos.clone(), configured.shown.clone());
    let reload = configured.reload(files);
    tokio::spawn(reload_on_hangup(reload.clone(), shutdown.clone()));
    let flush = {
        let (logs, spans) = (logs.clone(), spans.clone());
        move || {
            logs.cut().map_err(|e| e.to_string())?;
            spans.flush().map_err(|e| e.to_string())
        }
    };
    Ok(Arc::new(App {
        metric_admin: metrics.clone(),
        admin_api: data.admin_api,
        flush: Arc::new(flush),
        collector,
        reload,
        started_at: clock.now(),
        clock,
        query_budget: query_budget.clone(),
        budgets: std::iter::once(root).chain(parts).collect(),
        metrics,
        logs: log_source,
        log_deletions,
        spans,
        changes: changes.clone(),
        change_sink: changes,
        feed,
        ingest,
        usage,
        graph,
        incidents,
        rules,
        slos,
        config: shown,
        pushed,
        alerts,
        gate,
        oncall,
        lag,
        registry: Arc::new(registry),
        external_url,
        demo,
    }))
}

/// Changes that telemetry told of reach the disk within a second; those of the API before its answer.
async fn write_changes(changes: Arc<ChangeLog>, shutdown: CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_failing = false;
    while !shutdown.is_cancelled() {
        tokio::select! {
            _ = every.tick() => {}
            // Once more, for what came since.
            () = shutdown.cancelled() => {}
        }
        let changes = changes.clone();
        let written = tokio::task::spawn_blocking(move || changes.flush()).await;
        let error = written.map_err(|e| e.to_string()).flatten().err();
        if let Some(error) = error.as_ref().filter(|_| !was_failing) {
            tracing::error!(error, "changes are in memory and not on disk yet");
        }
        was_failing = error.is_some();
    }
}

/// What the store has to do from time to time: blocks, retention, repair of its log.
async fn tick_spans(spans: Arc<SpanStore>, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = every.tick() => {}
        }
        let (store, now) = (spans.clone(), clock.now_nanos());
        match tokio::task::spawn_blocking(move || store.tick(now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "span store: will be tried again"),
            Err(error) => tracing::error!(%error, "span store: its upkeep ended early"),
        }
    }
}

fn external_url(given: Option<&str>, own: &str) -> anyhow::Result<String> {
    let Some(given) = given else { return Ok(own.to_owned()) };
    let url = url::Url::parse(given).with_context(|| format!("--web.external-url {given}"))?;
    anyhow::ensure!(matches!(url.scheme(), "http" | "https"), "--web.external-url {given}: give an http or https URL");
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// One line on standard output that says where everything listens; programs that start weir on
/// port 0 read it.
fn announce(own_url: &str, listeners: &Listeners) -> anyhow::Result<()> {
    use std::io::Write;
    let (grpc, http) = (listeners.otlp_grpc.local_addr()?, listeners.otlp_http.local_addr()?);
    let mut out = std::io::stdout().lock();
    writeln!(out, "weir ready {own_url} otlp-grpc={grpc} otlp-http={http}")?;
    Ok(out.flush()?)
}

pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}

/// A thread of its own reads: a blocking read cannot be cancelled, and it ends with the process.
async fn end_of_stdin() {
    let (sender, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = sender.send(());
    });
    let _ = ended.await;
}
