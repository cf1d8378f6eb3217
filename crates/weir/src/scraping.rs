//! Scraping: the `prometheus.yml` of the command line, read at start, on SIGHUP and on request.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use weir_api::Reload;
use weir_collect::{Collector, CollectorOptions, PrometheusConfig};
use weir_ingest::Ingest;
use weir_model::TenantId;

/// Starts the targets of the file; without one, nothing is scraped.
pub fn start(
    prometheus_config: Option<&Path>,
    ingest: Arc<Ingest>,
    registry: &mut Registry,
    shutdown: &CancellationToken,
) -> anyhow::Result<(Collector, Reload)> {
    let collector =
        Collector::new(CollectorOptions { ingest, tenant: TenantId::anonymous(), shutdown: shutdown.clone() });
    collector.metrics().register(registry);
    let reload = reload(collector.clone(), prometheus_config.map(Path::to_owned));
    reload().map_err(anyhow::Error::msg)?;
    tokio::spawn(reload_on_hangup(reload.clone(), shutdown.clone()));
    Ok((collector, reload))
}

fn reload(collector: Collector, prometheus_config: Option<PathBuf>) -> Reload {
    Arc::new(move || {
        let Some(path) = &prometheus_config else { return Ok(()) };
        let config = PrometheusConfig::load(path).map_err(|e| e.to_string())?;
        for warning in &config.warnings {
            tracing::warn!(file = %path.display(), "{warning}");
        }
        let n_configs = config.scrape_configs.len();
        collector.apply(config).map_err(|e| format!("{}: {e}", path.display()))?;
        tracing::info!(file = %path.display(), n_configs, "scrape configuration read");
        Ok(())
    })
}

async fn reload_on_hangup(reload: Reload, shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while shutdown.run_until_cancelled(hangup.recv()).await.flatten().is_some() {
        if let Err(error) = reload() {
            tracing::error!(%error, "configuration not read; the old one stays");
        }
    }
}
