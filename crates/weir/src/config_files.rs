//! The configuration files of the command line: read and checked together, then applied together, at
//! start, on SIGHUP and on `/-/reload`. A bad file leaves everything as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use weir_alert::oncall::OnCallConfig;
use weir_alert::{Alerts, Config, OnCall};
use weir_api::{Reload, ShownConfig, Slos};
use weir_collect::logs::PromtailConfig;
use weir_collect::{Collector, PrometheusConfig, RemoteWrites};
use weir_ingest::cardinality::{CardinalityConfig, Gate};
use weir_model::TenantId;
use weir_rules::pack::{PACKS, Pack};
use weir_rules::{Language, MissingInput, RuleGroup, Rules, read_rules};
use weir_slo::Slo;

use crate::cardinality;
use crate::slo;
use crate::tail::Tail;

#[derive(clap::Args, Clone)]
pub struct ConfigFiles {
    /// Prometheus' configuration: scraping and rule files.
    #[arg(long, value_name = "FILE")]
    prometheus_config: Option<PathBuf>,
    /// Promtail's configuration: log files to follow, and what is made of their lines; they are stored here,
    /// whatever its `clients` say.
    #[arg(long, value_name = "FILE")]
    promtail_config: Option<PathBuf>,
    /// Alloy's configuration, in its own language: its components of logs, stored here as well.
    #[arg(long, value_name = "FILE", conflicts_with = "promtail_config")]
    alloy_config: Option<PathBuf>,
    /// Alertmanager's configuration: routes, receivers, inhibition.
    #[arg(long, value_name = "FILE")]
    alertmanager_config: Option<PathBuf>,
    /// Who is on call, how to reach them, and what happens to a page that nobody acknowledges.
    #[arg(long, value_name = "FILE")]
    oncall_config: Option<PathBuf>,
    /// Rule files of Loki, with LogQL expressions, as its ruler keeps them: a folder per tenant, `fake` for
    /// requests without one.
    #[arg(long = "ruler.storage.local.directory", value_name = "DIR")]
    loki_rules: Option<PathBuf>,
    /// Rule files with TraceQL expressions, `*` and `?` in the last part of the path; may be repeated.
    #[arg(long = "rules.traceql", value_name = "FILES")]
    traceql_rules: Vec<PathBuf>,
    /// Objectives: weir's short form, OpenSLO or Sloth; may be repeated.
    #[arg(long = "slos", value_name = "FILE")]
    slos: Vec<PathBuf>,
    /// Alerts that weir ships, by field; `weir rules` prints them. Several with commas.
    #[arg(long = "rules.pack", value_name = "NAME", value_delimiter = ',', value_parser = rule_pack)]
    packs: Vec<&'static Pack>,
    /// Budgets of series: how many a metric or a tenant may have, and what is done with more. Without the file budgets
    /// are told, not enforced.
    #[arg(long = "cardinality.config", value_name = "FILE")]
    cardinality: Option<PathBuf>,
    /// What becomes of a firing alert whose input stops arriving, unless its group says `missing_input`: `unknown`,
    /// of which nobody is told that it resolved, or `resolve`, as in Prometheus.
    #[arg(long = "rules.missing-input", value_name = "unknown|resolve", default_value = "resolve", value_parser = MissingInput::parse)]
    pub missing_input: MissingInput,
    /// Whether receivers that files name may listen off loopback.
    #[arg(skip)]
    pub insecure_open: bool,
}

/// What the files say, checked.
pub struct Loaded {
    pub prometheus: Option<PrometheusConfig>,
    pub promtail: Option<PromtailConfig>,
    /// By tenant; there is one for requests that name none.
    pub groups: BTreeMap<TenantId, Vec<RuleGroup>>,
    pub alertmanager: Config,
    pub oncall: OnCallConfig,
    pub slos: Vec<Slo>,
    pub cardinality: CardinalityConfig,
}

impl ConfigFiles {
    pub fn read(&self) -> anyhow::Result<Loaded> {
        let alertmanager = match &self.alertmanager_config {
            Some(path) => weir_alert::read_config(path).context("--alertmanager-config")?,
            None => Config::silent(),
        };
        let oncall = match &self.oncall_config {
            Some(path) => weir_alert::oncall::read_oncall(path).context("--oncall-config")?,
            None => OnCallConfig::none(),
        };
        oncall.check_receivers(&alertmanager).context("--oncall-config")?;
        let prometheus = self.prometheus_config.as_deref().map(read_prometheus).transpose()?;
        let promtail = read_logs(self.promtail_config.as_deref(), self.alloy_config.as_deref())?;
        let mut groups = match &self.loki_rules {
            Some(folder) => read_loki_rules(folder).context("--ruler.storage.local.directory")?,
            None => BTreeMap::new(),
        };
        let own = groups.entry(TenantId::anonymous()).or_default();
        if let Some(config) = &prometheus {
            own.extend(read_groups(&config.rule_files, Language::Promql).context("rule_files")?);
        }
        own.extend(read_groups(&self.traceql_rules, Language::Traceql).context("--rules.traceql")?);
        for pack in &self.packs {
            let groups = pack.groups().map_err(|errors| anyhow::anyhow!("pack {}: {errors:?}", pack.name))?;
            own.extend(groups);
        }
        let slos = slo::read(&self.slos).context("--slos")?;
        own.extend(slo::groups(&slos)?);
        let cardinality = match &self.cardinality {
            Some(path) => cardinality::read(path).context("--cardinality.config")?,
            None => CardinalityConfig::default(),
        };
        // Rules that nobody asked for would stand among one's own.
        if self.cardinality.is_some() && cardinality.alert {
            own.extend(cardinality::alert()?);
        }
        Ok(Loaded { prometheus, promtail, groups, alertmanager, oncall, slos, cardinality })
    }
}

/// A pack by its name.
pub fn rule_pack(name: &str) -> Result<&'static Pack, String> {
    let known = || PACKS.iter().map(|pack| pack.name).collect::<Vec<_>>().join(", ");
    Pack::named(name).ok_or_else(|| format!("there is no such pack; there are {}", known()))
}

fn read_prometheus(path: &Path) -> anyhow::Result<PrometheusConfig> {
    let config = PrometheusConfig::load(path).context("--prometheus-config")?;
    for warning in &config.warnings {
        tracing::warn!(file = %path.display(), "{warning}");
    }
    Ok(config)
}

/// What logs are collected: of one of the two files, if any is given.
pub fn read_logs(promtail: Option<&Path>, alloy: Option<&Path>) -> anyhow::Result<Option<PromtailConfig>> {
    let (path, config) = match (promtail, alloy) {
        (Some(path), _) => (path, PromtailConfig::load(path).context("--promtail-config")?),
        (None, Some(path)) => (path, read_alloy(path).context("--alloy-config")?),
        (None, None) => return Ok(None),
    };
    for warning in &config.warnings {
        tracing::warn!(file = %path.display(), "{warning}");
    }
    Ok(Some(config))
}

pub fn read_alloy(path: &Path) -> anyhow::Result<PromtailConfig> {
    Ok(PromtailConfig::load_alloy(path, &|name| std::env::var(name).ok())?)
}

/// `folder/<tenant>/<file>`, as Loki's ruler has it.
fn read_loki_rules(folder: &Path) -> anyhow::Result<BTreeMap<TenantId, Vec<RuleGroup>>> {
    let cannot = || format!("cannot list {}", folder.display());
    let mut groups: BTreeMap<TenantId, Vec<RuleGroup>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if !path.is_dir() {
            bail!("{}: rule files stand in a folder per tenant, such as {}/fake", path.display(), folder.display());
        }
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let tenant = if name == "fake" { Ok(TenantId::anonymous()) } else { TenantId::parse(name) };
        let tenant = tenant.map_err(|e| anyhow::anyhow!("{}: not a tenant: {e}", path.display()))?;
        let found = read_groups(&[path.join("*")], Language::Logql)?;
        groups.entry(tenant).or_default().extend(found);
    }
    Ok(groups)
}

fn read_groups(patterns: &[PathBuf], language: Language) -> anyhow::Result<Vec<RuleGroup>> {
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for pattern in patterns {
        // The patterns are relative to the configuration's folder already.
        match read_rules(&pattern.to_string_lossy(), Path::new(""), language) {
            Ok(found) => groups.extend(found),
            Err(found) => errors.extend(found.iter().map(ToString::to_string)),
        }
    }
    if !errors.is_empty() {
        bail!("{}", errors.join("\n"));
    }
    Ok(groups)
}

/// What the files configure. Targets belong to the tenant of requests without one, and so do rules but Loki's.
#[derive(Clone)]
pub struct Configured {
    pub collector: Collector,
    pub tail: Tail,
    pub remote: RemoteWrites,
    pub rules: Rules,
    pub alerts: Alerts,
    pub oncall: OnCall,
    pub slos: Slos,
    /// What the first of the files says, as the API shows it.
    pub shown: ShownConfig,
    pub gate: Arc<Gate>,
}

impl Configured {
    /// Targets and rules; without a `prometheus.yml` there are none.
    pub fn apply(
        &self,
        prometheus: Option<PrometheusConfig>,
        promtail: Option<PromtailConfig>,
        mut groups: BTreeMap<TenantId, Vec<RuleGroup>>,
        slos: Vec<Slo>,
        cardinality: CardinalityConfig,
    ) -> anyhow::Result<()> {
        self.gate.set_used_labels(cardinality::labels_used(groups.values().flatten()));
        self.gate.set_config(cardinality);
        let n_groups: usize = groups.values().map(Vec::len).sum();
        let mut n_scrapes = 0;
        if let Some(config) = prometheus {
            n_scrapes = config.scrape_configs.len();
            *self.shown.write() = config.effective().into();
            self.remote.apply(&config).map_err(anyhow::Error::msg).context("--prometheus-config")?;
            self.collector.apply(&config).map_err(anyhow::Error::msg).context("--prometheus-config")?;
        }
        // Also when there are none: alerts of an earlier run end with their rules.
        for tenant in self.rules.tenants() {
            groups.entry(tenant).or_default();
        }
        for (tenant, groups) in groups {
            self.rules.load(&tenant, groups);
        }
        if let Some(config) = promtail {
            self.tail.apply(config).context("collection of logs")?;
        }
        *self.slos.write() = slos.into();
        tracing::info!(n_scrapes, n_groups, "scrape configuration and rules read");
        Ok(())
    }

    /// Reads the files again. Intervals and external labels of rules are those of the start.
    pub fn reload(self, files: ConfigFiles) -> Reload {
        Arc::new(move || {
            let loaded = files.read().map_err(|e| format!("{e:#}"))?;
            let Loaded { prometheus, promtail, groups, alertmanager, oncall, slos, cardinality } = loaded;
            self.apply(prometheus, promtail, groups, slos, cardinality).map_err(|e| format!("{e:#}"))?;
            self.alerts.reload(alertmanager);
            self.oncall.reload(oncall);
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
