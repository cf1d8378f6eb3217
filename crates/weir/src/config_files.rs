//! The configuration files of the command line: read and checked together, then applied together, at
//! start, on SIGHUP and on `/-/reload`. A bad file leaves everything as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use weir_alert::{Alerts, Config};
use weir_api::Reload;
use weir_collect::{Collector, PrometheusConfig, RemoteWrites};
use weir_model::TenantId;
use weir_rules::{RuleGroup, Rules, read_rule_files};

#[derive(clap::Args, Clone)]
pub struct ConfigFiles {
    /// Prometheus' configuration: scraping and rule files.
    #[arg(long, value_name = "FILE")]
    prometheus_config: Option<PathBuf>,
    /// Alertmanager's configuration: routes, receivers, inhibition.
    #[arg(long, value_name = "FILE")]
    alertmanager_config: Option<PathBuf>,
}

/// What the files say, checked.
pub struct Loaded {
    pub prometheus: Option<PrometheusConfig>,
    pub groups: Vec<RuleGroup>,
    pub alertmanager: Config,
}

impl ConfigFiles {
    pub fn read(&self) -> anyhow::Result<Loaded> {
        let alertmanager = match &self.alertmanager_config {
            Some(path) => weir_alert::read_config(path).context("--alertmanager-config")?,
            None => Config::silent(),
        };
        let prometheus = self.prometheus_config.as_deref().map(read_prometheus).transpose()?;
        let groups = match &prometheus {
            Some(config) => read_groups(&config.rule_files)?,
            None => Vec::new(),
        };
        Ok(Loaded { prometheus, groups, alertmanager })
    }
}

fn read_prometheus(path: &Path) -> anyhow::Result<PrometheusConfig> {
    let config = PrometheusConfig::load(path).context("--prometheus-config")?;
    for warning in &config.warnings {
        tracing::warn!(file = %path.display(), "{warning}");
    }
    Ok(config)
}

fn read_groups(patterns: &[PathBuf]) -> anyhow::Result<Vec<RuleGroup>> {
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for pattern in patterns {
        // The patterns are relative to the configuration's folder already.
        match read_rule_files(&pattern.to_string_lossy(), Path::new("")) {
            Ok(found) => groups.extend(found),
            Err(found) => errors.extend(found.iter().map(ToString::to_string)),
        }
    }
    if !errors.is_empty() {
        bail!("rule files: {}", errors.join("\n"));
    }
    Ok(groups)
}

/// What the files configure. Rules and targets belong to the tenant of requests without one.
#[derive(Clone)]
pub struct Configured {
    pub collector: Collector,
    pub remote: RemoteWrites,
    pub rules: Rules,
    pub alerts: Alerts,
}

impl Configured {
    /// Targets and rules; without a `prometheus.yml` there are none.
    pub fn apply(&self, prometheus: Option<PrometheusConfig>, groups: Vec<RuleGroup>) -> anyhow::Result<()> {
        let n_groups = groups.len();
        let mut n_scrapes = 0;
        if let Some(config) = prometheus {
            n_scrapes = config.scrape_configs.len();
            self.remote.apply(&config).map_err(anyhow::Error::msg).context("--prometheus-config")?;
            self.collector.apply(&config).map_err(anyhow::Error::msg).context("--prometheus-config")?;
        }
        // Also when there are none: alerts of an earlier run end with their rules.
        self.rules.load(&TenantId::anonymous(), groups);
        tracing::info!(n_scrapes, n_groups, "scrape configuration and rules read");
        Ok(())
    }

    /// Reads the files again. Intervals and external labels of rules are those of the start.
    pub fn reload(self, files: ConfigFiles) -> Reload {
        Arc::new(move || {
            let loaded = files.read().map_err(|e| format!("{e:#}"))?;
            self.apply(loaded.prometheus, loaded.groups).map_err(|e| format!("{e:#}"))?;
            self.alerts.reload(loaded.alertmanager);
            Ok(())
        })
    }
}

pub async fn reload_on_hangup(reload: Reload, shutdown: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while shutdown.run_until_cancelled(hangup.recv()).await.flatten().is_some() {
        if let Err(error) = reload() {
            tracing::error!(%error, "configuration not read; the old one stays");
        }
    }
}
