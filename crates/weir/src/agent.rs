//! `weir agent`: scrapes, takes OTLP metrics, follows log files, and forwards them; stores and evaluates nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Args;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use weir_collect::logs::push::PushClient;
use weir_collect::logs::{LogMetrics, PromtailConfig};
use weir_collect::remote::QUEUE_BYTES_DEFAULT;
use weir_collect::{Collector, CollectorOptions, Health, PrometheusConfig, RemoteOptions, RemoteWrites};
use weir_events::ChangeLog;
use weir_ingest::{Ingest, IngestOptions, Limits};
use weir_model::entity::{Aliases, EntityTable};
use weir_model::sink::{LogSink, Outcome, SpanSink, StreamBatch, WriteError};
use weir_model::usage::Usage;
use weir_model::{Clock, CommitFeed, Span, SystemClock, TenantId};
use weir_wal::OsDir;

use crate::config_files;
use crate::listen::{self, Protection};
use crate::memory;
use crate::own_metrics::OwnMetrics;
use crate::serve;
use crate::tail::{IntoLoki, Tail, TailOptions};
use crate::web_config::WebConfig;

#[derive(Args, Clone)]
pub struct AgentArgs {
    /// Prometheus' configuration: what to scrape, and where to send it (`remote_write`).
    #[arg(long, value_name = "FILE", required_unless_present_any = ["promtail_config", "alloy_config"])]
    prometheus_config: Option<PathBuf>,
    /// Promtail's configuration: log files to follow, and where to send their lines (`clients`).
    #[arg(long, value_name = "FILE")]
    promtail_config: Option<PathBuf>,
    /// Alloy's configuration, in its own language: its components of logs, up to `loki.write`.
    #[arg(long, value_name = "FILE", conflicts_with = "promtail_config")]
    alloy_config: Option<PathBuf>,
    /// Holds the queue of what was not sent yet, and how far log files were read.
    #[arg(long, value_name = "DIR", default_value = "weir-agent-data")]
    data_dir: PathBuf,
    /// Size of that queue; beyond it the oldest samples are given up.
    #[arg(long, value_parser = memory::parse_bytes, default_value_t = QUEUE_BYTES_DEFAULT)]
    queue_limit: u64,
    /// Address of health, targets and metrics of the agent itself.
    #[arg(long, default_value = "127.0.0.1:9091")]
    listen: String,
    /// Address of OTLP over gRPC; metrics only.
    #[arg(long, default_value = "127.0.0.1:4317")]
    otlp_grpc_listen: String,
    /// Prometheus' web configuration: TLS and basic authentication.
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config: Option<PathBuf>,
    /// Listen off loopback without TLS and authentication.
    #[arg(long)]
    insecure_open: bool,
}

pub fn main(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    crate::runtime()?.block_on(run(args))?;
    Ok(ExitCode::SUCCESS)
}

/// What the agent runs, and what its handlers show.
struct Agent {
    prometheus: Option<PathBuf>,
    promtail: Option<PathBuf>,
    alloy: Option<PathBuf>,
    tail: Tail,
    collector: Collector,
    remote: RemoteWrites,
    registry: Registry,
}

async fn run(args: AgentArgs) -> anyhow::Result<()> {
    let web = args.web_config.as_deref().map(WebConfig::load).transpose()?.unwrap_or_default();
    let protection = Protection { web, insecure_open: args.insecure_open };
    let http = listen::bind("listen", &args.listen, &protection).await?;
    let grpc = listen::bind("otlp-grpc-listen", &args.otlp_grpc_listen, &protection).await?;
    let shutdown = CancellationToken::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let remote = RemoteWrites::new(RemoteOptions {
        folder: Some(args.data_dir.join("remote-write")),
        clock: clock.clone(),
        shutdown: shutdown.clone(),
        queue_bytes_max: args.queue_limit,
    });
    let ingest = ingest(clock.clone(), &remote);
    let options =
        CollectorOptions { ingest: ingest.clone(), tenant: TenantId::anonymous(), shutdown: shutdown.clone() };
    let collector = Collector::new(options);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(OwnMetrics::new(Vec::new())));
    ingest.metrics().register(&mut registry);
    collector.metrics().register(&mut registry);
    remote.metrics().register(&mut registry);
    let log_metrics = LogMetrics::default();
    log_metrics.register(&mut registry);
    let tail = Tail::new(TailOptions {
        data: Arc::new(OsDir::open(&args.data_dir).with_context(|| format!("--data-dir {}", args.data_dir.display()))?),
        receivers: {
            let (runtime, metrics) = (tokio::runtime::Handle::current(), log_metrics.clone());
            Arc::new(move || Box::new(IntoLoki::new(runtime.clone(), metrics.clone())))
        },
        insecure_open: args.insecure_open,
        clock,
        shutdown: shutdown.clone(),
        metrics: log_metrics,
    });
    let (prometheus, promtail, alloy) = (args.prometheus_config, args.promtail_config, args.alloy_config);
    let agent = Arc::new(Agent { prometheus, promtail, alloy, tail, collector, remote, registry });
    agent.load()?;
    announce(&http, &grpc, &protection)?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        serve::signal().await;
        tracing::info!("stopping");
        stop.cancel();
    });
    let router = Router::new()
        .route("/-/healthy", get(async || "weir agent is healthy\n"))
        .route("/-/ready", get(async || "weir agent is ready\n"))
        .route("/-/reload", post(reload).put(reload))
        .route("/metrics", get(metrics))
        .route("/api/v1/targets", get(targets))
        .route("/api/weir/v1/remote_write", get(receivers))
        .with_state(agent);
    tokio::try_join!(
        listen::serve(http, router, &protection, shutdown.clone()),
        listen::serve(grpc, weir_api::grpc_router(ingest), &protection, shutdown.clone()),
    )?;
    Ok(())
}

/// One line on standard output that says where the agent listens, as `weir serve` has it.
fn announce(
    http: &tokio::net::TcpListener,
    grpc: &tokio::net::TcpListener,
    protection: &Protection,
) -> anyhow::Result<()> {
    use std::io::Write;
    let scheme = if protection.web.tls.is_some() { "https" } else { "http" };
    let mut out = std::io::stdout().lock();
    writeln!(out, "weir ready {scheme}://{} otlp-grpc={}", http.local_addr()?, grpc.local_addr()?)?;
    Ok(out.flush()?)
}

fn ingest(clock: Arc<dyn Clock>, remote: &RemoteWrites) -> Arc<Ingest> {
    Arc::new(Ingest::new(IngestOptions {
        clock,
        metrics: Arc::new(remote.clone()),
        series: None,
        logs: Arc::new(NotHere),
        spans: Arc::new(NotHere),
        feed: Arc::new(CommitFeed::default()),
        usage: Arc::new(Usage::default()),
        entities: Arc::new(EntityTable::new(Arc::new(ChangeLog::default()))),
        aliases: Aliases::default(),
        limits: Limits::default(),
    }))
}

/// Signals that the agent has no receiver for.
struct NotHere;

const NOT_HERE: &str = "weir agent takes metrics only; send logs and traces to weir serve";

impl LogSink for NotHere {
    fn append(&self, _: &TenantId, _: &[StreamBatch]) -> Result<Outcome, WriteError> {
        Err(WriteError::Storage(NOT_HERE.to_owned()))
    }
}

impl SpanSink for NotHere {
    fn append(&self, _: &TenantId, _: &[Arc<Span>]) -> Result<Outcome, WriteError> {
        Err(WriteError::Storage(NOT_HERE.to_owned()))
    }
}

impl Agent {
    /// Reads the files, and applies them when both are right.
    fn load(&self) -> anyhow::Result<()> {
        let prometheus = self.prometheus.as_deref().map(read_prometheus).transpose().context("--prometheus-config")?;
        let logs = self.logs()?;
        if let Some(config) = prometheus {
            // Receivers first, so that the first samples have a queue.
            self.remote.apply(&config).map_err(anyhow::Error::msg).context("--prometheus-config")?;
            self.collector.apply(&config).map_err(anyhow::Error::msg).context("--prometheus-config")?;
        }
        if let Some(config) = logs {
            self.tail.apply(config).context("collection of logs")?;
        }
        Ok(())
    }

    fn logs(&self) -> anyhow::Result<Option<PromtailConfig>> {
        let config = config_files::read_logs(self.promtail.as_deref(), self.alloy.as_deref())?;
        if let Some(config) = &config {
            anyhow::ensure!(
                !config.clients.is_empty(),
                "no receiver of logs is named; the agent stores nothing itself"
            );
            for client in &config.clients {
                PushClient::new(client.clone()).map_err(anyhow::Error::msg)?;
            }
        }
        Ok(config)
    }
}

fn read_prometheus(path: &Path) -> anyhow::Result<PrometheusConfig> {
    let config = PrometheusConfig::load(path)?;
    for warning in &config.warnings {
        tracing::warn!(file = %path.display(), "{warning}");
    }
    let shown = path.display();
    anyhow::ensure!(!config.remote_write.is_empty(), "{shown}: no remote_write; the agent stores nothing itself");
    if !config.rule_files.is_empty() {
        tracing::warn!("rule_files: the agent evaluates no rules; give them to weir serve");
    }
    Ok(config)
}

async fn reload(State(agent): State<Arc<Agent>>) -> Response {
    match agent.load() {
        Ok(()) => StatusCode::OK.into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {e:#}\n")).into_response(),
    }
}

async fn metrics(State(agent): State<Arc<Agent>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &agent.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write metrics: {error}\n")).into_response(),
    }
}

async fn targets(State(agent): State<Arc<Agent>>) -> Response {
    let row = |status: weir_collect::TargetStatus| {
        json!({
            "discoveredLabels": &status.target.discovered,
            "labels": &status.target.labels,
            "scrapePool": &status.target.pool,
            "scrapeUrl": &status.target.url,
            "lastError": status.last_error,
            "lastScrapeDuration": status.last_duration.as_secs_f64(),
            "health": match status.health {
                Health::Unknown => "unknown",
                Health::Up => "up",
                Health::Down => "down",
            },
        })
    };
    let active: Vec<_> = agent.collector.targets().into_iter().map(row).collect();
    Json(json!({ "status": "success", "data": { "activeTargets": active } })).into_response()
}

async fn receivers(State(agent): State<Arc<Agent>>) -> Response {
    let row = |status: weir_collect::RemoteStatus| {
        json!({
            "name": status.name,
            "url": status.url,
            "shards": status.n_shards,
            "idle": status.is_idle,
            "last_error": status.last_error,
        })
    };
    let rows: Vec<_> = agent.remote.status().into_iter().map(row).collect();
    Json(json!({ "receivers": rows })).into_response()
}
