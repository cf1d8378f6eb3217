//! Rules, alerts and incidents, connected.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use weir_alert::oncall::OnCallConfig;
use weir_alert::{Alerts, CauseNote, Config, Enricher, OnCall};
use weir_collect::PrometheusConfig;
use weir_diagnose::Incidents;
use weir_model::sink::{MetricBatch, MetricSink, Outcome, WriteError};
use weir_model::source::{LogSource, SpanSource};
use weir_model::{Budget, Clock, Commit, CommitFeed, Labels, TenantId, Timestamp};
use weir_promql::{Engine, EngineOptions};
use weir_rules::{Evaluators, MissingInput, Options, PromqlEvaluator, Rules};
use weir_state::State;
use weir_tsdb::MetricStore;

/// What rules and alerts are connected to.
pub struct Surroundings<'a> {
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<MetricStore>,
    pub logs: Arc<dyn LogSource>,
    pub spans: Arc<dyn SpanSource>,
    pub feed: &'a Arc<CommitFeed>,
    /// For evaluating rules alone, so that queries cannot starve them.
    pub budget: Budget,
    pub incidents: &'a Incidents,
    pub external_url: String,
    /// Silences, what was notified and where alerts stand.
    pub state: State,
    pub missing_input: MissingInput,
    pub registry: &'a mut Registry,
    pub shutdown: &'a CancellationToken,
}

pub struct Alerting {
    pub rules: Rules,
    pub alerts: Alerts,
    pub oncall: OnCall,
}

/// Starts rules, alerts and what passes between them; the rules come with [`crate::config_files`].
pub fn start(
    config: Config,
    oncall: OnCallConfig,
    prometheus: Option<&PrometheusConfig>,
    around: Surroundings<'_>,
) -> anyhow::Result<Alerting> {
    let alerts = Alerts::new(around.clock.clone(), config, around.external_url.clone(), around.state.clone());
    for warning in &oncall.warnings {
        tracing::warn!("on-call configuration: {warning}");
    }
    let oncall =
        OnCall::new(around.clock.clone(), oncall, alerts.clone(), around.external_url.clone(), around.state.clone())?;
    oncall.metrics().register(around.registry);
    alerts.set_enricher(Arc::new(Causes(around.incidents.clone())));
    let clock = around.clock.clone();
    let engine = Engine::new(EngineOptions { clock: around.clock.clone(), ..EngineOptions::default() });
    let rules = Rules::new(Options {
        evaluator: Arc::new(Evaluators {
            metrics: PromqlEvaluator {
                engine: Arc::new(engine),
                source: around.metrics.clone(),
                budget: around.budget.clone(),
            },
            logs: around.logs,
            spans: around.spans,
            clock: around.clock.clone(),
            budget: around.budget,
        }),
        sink: Arc::new(PublishingSink { metrics: around.metrics, feed: around.feed.clone() }),
        surroundings: weir_rules::Surroundings {
            external_labels: prometheus.map(|p| p.external_labels.clone()).unwrap_or_default(),
            external_url: around.external_url,
        },
        interval: prometheus.map_or(Duration::from_secs(60), |p| p.evaluation_interval),
        query_offset: prometheus.map_or(Duration::ZERO, |p| p.rule_query_offset),
        missing_input: around.missing_input,
        clock: around.clock,
        state: around.state,
    });
    rules.metrics().register(around.registry);
    alerts.metrics().register(around.registry);
    // Incidents first, so that a cause may be under way when the notification is made.
    rules.add_listener(Arc::new(around.incidents.clone()));
    rules.add_listener(Arc::new(alerts.clone()));
    around.feed.subscribe(Arc::new(rules.clone()));
    tokio::spawn(alerts.clone().run(around.shutdown.clone()));
    tokio::spawn(oncall.clone().run(around.shutdown.clone()));
    let (watched, started) = (rules.clone(), clock.now());
    tokio::spawn(oncall.clone().watch(move |now| late_group(&watched, started, now), around.shutdown.clone()));
    let (stopping, stop) = (rules.clone(), around.shutdown.clone());
    tokio::spawn(async move {
        stop.cancelled().await;
        stopping.shutdown().await;
    });
    Ok(Alerting { rules, alerts, oncall })
}

/// A group of rules that was not evaluated for three of its intervals, and a minute at least.
fn late_group(rules: &Rules, started: Timestamp, now: Timestamp) -> Option<String> {
    let groups = rules.tenants().into_iter().flat_map(|tenant| rules.groups(&tenant));
    let mut late = groups.filter_map(|group| {
        let since = now.since(group.last_evaluation.unwrap_or(started).max(started));
        (since > (group.interval * 3).max(Duration::from_secs(60))).then_some((group.name, since))
    });
    late.next().map(|(name, since)| format!("rules of group {name} were not evaluated for {} s", since.as_secs()))
}

/// Recorded series are commits like all others, so that alerts on them are looked at at once.
struct PublishingSink {
    metrics: Arc<MetricStore>,
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
