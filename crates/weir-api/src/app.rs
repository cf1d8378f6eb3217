//! What the handlers share, and the list of surfaces.

use std::sync::Arc;

use axum::Router;
use prometheus_client::registry::Registry;
use tower_http::compression::CompressionLayer;
use weir_alert::{Alerts, OnCall};
use weir_collect::Collector;
use weir_collect::pushed::Pushed;
use weir_diagnose::{Graph, Incidents};
use weir_ingest::Ingest;
use weir_ingest::cardinality::Gate;
use weir_kafka::LagHandle;
use weir_model::admin::MetricAdmin;
use weir_model::source::{LogSource, MetricSource, SpanSource};
use weir_model::usage::Usage;
use weir_model::{Budget, ChangeSink, ChangeSource, Clock, CommitFeed, LogDeletions, Timestamp};
use weir_rules::Rules;

use crate::demo::{self, DemoControl};
use crate::flush::{self, Flush};
use crate::prometheus::ShownConfig;
use crate::slos::Slos;
use crate::stores::Stores;
use crate::targets::Reload;
use crate::{
    alertmanager, cardinality, changes, cors, data_in, diagnose, escalations, incidents, lag, link, log_contract, loki,
    map, notifications, oncall, page, prometheus, push, ruler, rules, runbooks, self_metrics, slos, targets, tempo,
};

/// Handles to everything that answers requests. Built once by the binary.
pub struct App {
    pub clock: Arc<dyn Clock>,
    /// The account that queries draw from.
    pub query_budget: Budget,
    pub metrics: Arc<dyn MetricSource>,
    /// Figures, deletion and snapshots of the same store; the latter two only with `--web.enable-admin-api`.
    pub metric_admin: Arc<dyn MetricAdmin>,
    pub admin_api: bool,
    /// Logs and traces accepted so far into blocks.
    pub flush: Flush,
    /// Without what `log_deletions` hides.
    pub logs: Arc<dyn LogSource>,
    pub log_deletions: Arc<dyn LogDeletions>,
    pub spans: Arc<dyn SpanSource>,
    pub changes: Arc<dyn ChangeSource>,
    pub change_sink: Arc<dyn ChangeSink>,
    pub feed: Arc<CommitFeed>,
    /// The way in for every signal; senders and entities hang on it.
    pub ingest: Arc<Ingest>,
    pub usage: Arc<Usage>,
    /// Who calls whom, learned from the feed.
    pub graph: Arc<Graph>,
    pub incidents: Incidents,
    pub rules: Rules,
    pub slos: Slos,
    /// What `--prometheus-config` says.
    pub config: ShownConfig,
    /// Routing, silences and notifications.
    pub alerts: Alerts,
    /// Budgets of series.
    pub gate: Arc<Gate>,
    /// Schedules and pages.
    pub oncall: OnCall,
    /// Consumer lag of the Kafka clusters that are polled.
    pub lag: LagHandle,
    /// What weir measures of itself.
    pub registry: Arc<Registry>,
    /// Base of every link that leaves the program, without a slash at the end.
    pub external_url: String,
    /// The targets that are scraped.
    pub collector: Collector,
    /// Groups of pushed metrics.
    pub pushed: Pushed,
    pub reload: Reload,
    /// The accounts that `/status` shows.
    pub budgets: Vec<Budget>,
    pub started_at: Timestamp,
    /// The demo that started this server, if one did.
    pub demo: Option<DemoControl>,
}

/// Every surface, one line each.
pub fn router(app: Arc<App>) -> Router {
    let prometheus = prometheus::Prometheus::new(
        app.clock.clone(),
        app.metrics.clone(),
        app.query_budget.clone(),
        app.external_url.clone(),
        app.config.clone(),
    );
    let admin = prometheus::admin::Admin { store: app.metric_admin.clone(), is_enabled: app.admin_api };
    let stores = Stores::of(&app);
    let asked = prometheus.asked();
    Router::new()
        .merge(prometheus::router(Arc::new(prometheus)))
        .merge(prometheus::admin::router(Arc::new(admin)))
        .merge(alertmanager::router())
        .merge(log_contract::router())
        .merge(cardinality::router(asked))
        .merge(diagnose::router())
        .merge(flush::router())
        .merge(changes::router())
        .merge(incidents::router())
        .merge(lag::router())
        .merge(loki::router(&stores))
        .merge(tempo::router(&stores))
        .merge(map::router())
        .merge(rules::router())
        .merge(runbooks::router())
        .merge(ruler::router())
        .merge(slos::router())
        .merge(self_metrics::router())
        .merge(notifications::router())
        .merge(oncall::router())
        .merge(escalations::router())
        .merge(link::router())
        .merge(page::router())
        .merge(push::router())
        .merge(data_in::router())
        .merge(demo::router())
        .merge(targets::router())
        .layer(CompressionLayer::new())
        .layer(axum::middleware::from_fn(cors::allow))
        .with_state(app)
}
