//! A collector whose samples go nowhere, and servers on loopback.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;
use weir_collect::{Collector, CollectorOptions, PrometheusConfig};
use weir_ingest::{Ingest, IngestOptions, Limits};
use weir_model::entity::{Aliases, EntityTable};
use weir_model::sink::{LogSink, MetricBatch, MetricSink, Outcome, SpanSink, StreamBatch, WriteError};
use weir_model::usage::Usage;
use weir_model::{Change, ChangeSink, CommitFeed, Span, SystemClock, TenantId};

struct Nowhere;

impl MetricSink for Nowhere {
    fn append(&self, _: &TenantId, _: &MetricBatch) -> Result<Outcome, WriteError> {
        Ok(Outcome::default())
    }
}

impl LogSink for Nowhere {
    fn append(&self, _: &TenantId, _: &[StreamBatch]) -> Result<Outcome, WriteError> {
        Ok(Outcome::default())
    }
}

impl SpanSink for Nowhere {
    fn append(&self, _: &TenantId, _: &[Arc<Span>]) -> Result<Outcome, WriteError> {
        Ok(Outcome::default())
    }
}

impl ChangeSink for Nowhere {
    fn record(&self, _: &TenantId, _: Change) {}
}

pub fn collector() -> Collector {
    // One TLS stack; a second call would only say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sink = Arc::new(Nowhere);
    Collector::new(CollectorOptions {
        ingest: Arc::new(Ingest::new(IngestOptions {
            clock: Arc::new(SystemClock),
            metrics: sink.clone(),
            series: None,
            logs: sink.clone(),
            spans: sink.clone(),
            feed: Arc::new(CommitFeed::default()),
            usage: Arc::new(Usage::default()),
            entities: Arc::new(EntityTable::new(sink)),
            aliases: Aliases::default(),
            limits: Limits::default(),
        })),
        tenant: TenantId::anonymous(),
        shutdown: CancellationToken::new(),
    })
}

/// A collector that runs one job, written in YAML's flow style; its targets are never scraped.
pub fn discovering(job: &str, base: &Path) -> Collector {
    let text = format!("global: {{scrape_interval: 1h}}\nscrape_configs:\n- {{job_name: j, {job}}}\n");
    let collector = collector();
    collector.apply(&PrometheusConfig::parse(&text, base).unwrap()).unwrap();
    collector
}

/// The address that a router is served on.
pub async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

/// Waits until a condition holds; after half a minute the test fails with what `seen` says.
pub async fn wait_for(what: &str, is_done: impl Fn() -> bool, seen: impl Fn() -> String) {
    for _ in 0..1200 {
        if is_done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what}: {}", seen());
}

/// Waits until the targets' addresses are these, sorted.
pub async fn until(collector: &Collector, want: &[&str]) {
    let seen = || format!("{:?}; {:?}", addresses(collector), collector.discovery());
    wait_for(&format!("targets {want:?}"), || addresses(collector) == want, seen).await;
}

fn addresses(collector: &Collector) -> Vec<String> {
    let mut out: Vec<String> =
        collector.targets().iter().map(|t| t.target.discovered.value("__address__").to_owned()).collect();
    out.sort();
    out
}

/// Labels of the target with that address, those of discovery without the shared prefix.
pub fn labels_of(collector: &Collector, address: &str, prefix: &str) -> Vec<String> {
    let all = collector.targets();
    let target = all.iter().find(|t| t.target.discovered.value("__address__") == address).unwrap();
    let named = target.target.discovered.iter().filter_map(|l| Some((l.name.strip_prefix(prefix)?, &l.value)));
    named.map(|(name, value)| format!("{name}={value}")).collect()
}
