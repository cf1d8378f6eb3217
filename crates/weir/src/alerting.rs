//! Rules, alerts and incidents, connected.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use weir_alert::{Alerts, CauseNote, Config, Enricher};
use weir_diagnose::Incidents;
use weir_model::sink::{MetricBatch, MetricSink, Outcome, WriteError};
use weir_model::{Budget, Clock, Commit, CommitFeed, Labels, TenantId, Timestamp};
use weir_promql::{Engine, EngineOptions};
use weir_rules::{Options, PromqlEvaluator, RuleGroup, Rules, read_rule_files};
use weir_tsdb::MemMetrics;

#[derive(clap::Args, Clone)]
pub struct Args {
    /// Prometheus' configuration: scraping and rule files.
    #[arg(long, value_name = "FILE")]
    pub prometheus_config: Option<PathBuf>,
    /// Alertmanager's configuration: routes, receivers, inhibition.
    #[arg(long, value_name = "FILE")]
    pub alertmanager_config: Option<PathBuf>,
}

/// What `prometheus.yml` says about rules; its other keys belong to scraping.
#[derive(Deserialize, Default)]
#[serde(default)]
struct PrometheusConfig {
    global: Global,
    rule_files: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Global {
    evaluation_interval: Option<String>,
    rule_query_offset: Option<String>,
    external_labels: std::collections::BTreeMap<String, String>,
}

/// What rules and alerts are connected to.
pub struct Surroundings<'a> {
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<MemMetrics>,
    pub feed: &'a Arc<CommitFeed>,
    /// For evaluating rules alone, so that queries cannot starve them.
    pub budget: Budget,
    pub incidents: &'a Incidents,
    pub external_url: String,
    pub registry: &'a mut Registry,
    pub shutdown: &'a CancellationToken,
}

pub struct Alerting {
    pub rules: Rules,
    pub alerts: Alerts,
}

/// Reads the files and starts everything. Rules of the configuration file belong to the tenant of
/// requests without one.
pub fn start(args: &Args, around: Surroundings<'_>) -> anyhow::Result<Alerting> {
    let config = match &args.alertmanager_config {
        Some(path) => weir_alert::read_config(path).context("--alertmanager-config")?,
        None => Config::silent(),
    };
    let prometheus = args.prometheus_config.as_deref().map(read_prometheus_config).transpose()?.unwrap_or_default();
    let groups = match &args.prometheus_config {
        Some(path) => read_groups(path, &prometheus.rule_files)?,
        None => Vec::new(),
    };
    let duration = |key: &str, text: &Option<String>, default: Duration| match text {
        Some(text) => weir_go::parse_prometheus_duration(text).with_context(|| format!("global.{key}")),
        None => Ok(default),
    };
    let alerts = Alerts::new(around.clock.clone(), config, around.external_url.clone())?;
    alerts.set_enricher(Arc::new(Causes(around.incidents.clone())));
    let engine = Engine::new(EngineOptions { clock: around.clock.clone(), ..EngineOptions::default() });
    let rules = Rules::new(Options {
        evaluator: Arc::new(PromqlEvaluator {
            engine: Arc::new(engine),
            source: around.metrics.clone(),
            budget: around.budget,
        }),
        sink: Arc::new(PublishingSink { metrics: around.metrics, feed: around.feed.clone() }),
        surroundings: weir_rules::Surroundings {
            external_labels: Labels::from_pairs(prometheus.global.external_labels),
            external_url: around.external_url,
        },
        interval: duration("evaluation_interval", &prometheus.global.evaluation_interval, Duration::from_secs(60))?,
        query_offset: duration("rule_query_offset", &prometheus.global.rule_query_offset, Duration::ZERO)?,
        clock: around.clock,
    });
    rules.metrics().register(around.registry);
    alerts.metrics().register(around.registry);
    // Incidents first, so that a cause may be under way when the notification is made.
    rules.add_listener(Arc::new(around.incidents.clone()));
    rules.add_listener(Arc::new(alerts.clone()));
    around.feed.subscribe(Arc::new(rules.clone()));
    rules.load(&TenantId::anonymous(), groups);
    tokio::spawn(alerts.clone().run(around.shutdown.clone()));
    let (stopping, stop) = (rules.clone(), around.shutdown.clone());
    tokio::spawn(async move {
        stop.cancelled().await;
        stopping.shutdown().await;
    });
    Ok(Alerting { rules, alerts })
}

fn read_prometheus_config(path: &Path) -> anyhow::Result<PrometheusConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--prometheus-config {}", path.display()))?;
    serde_saphyr::from_str(&text).map_err(|e| {
        let line = e.location().map_or(0, |l| l.line());
        anyhow::anyhow!("{}:{line}: {}", path.display(), e.without_snippet())
    })
}

fn read_groups(config: &Path, patterns: &[String]) -> anyhow::Result<Vec<RuleGroup>> {
    let base = config.parent().unwrap_or(Path::new("."));
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for pattern in patterns {
        match read_rule_files(pattern, base) {
            Ok(found) => groups.extend(found),
            Err(found) => errors.extend(found.iter().map(ToString::to_string)),
        }
    }
    if !errors.is_empty() {
        bail!("rule files: {}", errors.join("\n"));
    }
    tracing::info!(groups = groups.len(), "rules loaded");
    Ok(groups)
}

/// Recorded series are commits like all others, so that alerts on them are looked at at once.
struct PublishingSink {
    metrics: Arc<MemMetrics>,
    feed: Arc<CommitFeed>,
}

impl MetricSink for PublishingSink {
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        let outcome = self.metrics.append(tenant, batch)?;
        let series: Vec<Labels> = batch.series.iter().map(|s| s.labels.clone()).collect();
        let newest = batch.series.iter().flat_map(|s| s.samples.iter().map(|p| p.at)).max();
        self.feed.publish(tenant, &Commit::Metrics { series: &series, newest: newest.unwrap_or(Timestamp::MIN) });
        Ok(outcome)
    }
}

/// Incidents tell notifications what they know.
struct Causes(Incidents);

impl Enricher for Causes {
    fn lines(&self, tenant: &TenantId, fingerprint: u64) -> Option<CauseNote> {
        let fingerprint = format!("{fingerprint:016x}");
        let note = self.0.note(tenant, &fingerprint).filter(|note| note.known)?;
        let incident = self.0.get(tenant, &fingerprint)?;
        let cause = incident.diagnosis.causes.first()?;
        Some(CauseNote {
            key: format!("{} {:?}", cause.service, cause.thing),
            title: note.title,
            lines: note.lines,
            confidence: note.confidence,
            url: note.url,
        })
    }
}
