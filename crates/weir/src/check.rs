//! `weir check`: configuration files of others, read as `weir serve` reads them, for CI.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use weir_collect::PrometheusConfig;
use weir_collect::logs::PromtailConfig;
use weir_collector::CollectorConfig;
use weir_rules::read_rule_files;

#[derive(Args)]
pub struct CheckArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Rule files of Prometheus.
    Rules(Files),
    /// Configurations of Prometheus, with the rule files that they name.
    Config(Files),
    /// Configurations of Alertmanager.
    Alertmanager(Files),
    /// Configurations of the OpenTelemetry Collector.
    Collector(Files),
    /// Configurations of Promtail.
    Promtail(Files),
    /// Configurations of Alloy, in its own language, that collect logs.
    Alloy(Files),
    /// Budgets of series, as `--cardinality.config` reads them.
    Cardinality(Files),
    /// What is kept of log lines, as `--logs.sampling-config` reads it.
    LogSampling(Files),
    /// How long log lines are kept, as `--logs.retention-config` reads it.
    LogRetention(Files),
    /// Whether log lines are JSON and carry trace, service, environment and severity; of files, or of a server's services.
    Logs(crate::log_contract::CheckLogsArgs),
    /// Schedules, escalation chains and channels.
    Oncall {
        /// The alertmanager.yml whose receivers they name.
        #[arg(long, value_name = "FILE")]
        alertmanager_config: Option<PathBuf>,
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Objectives: weir's short form, OpenSLO, Sloth.
    Slos {
        /// The alertmanager.yml whose routes their pages take; they must end at a receiver that pages.
        #[arg(long, value_name = "FILE")]
        alertmanager_config: Option<PathBuf>,
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct Files {
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What is right about a file, and what deserves a look.
struct Found {
    summary: String,
    warnings: Vec<String>,
}

/// Status 1 when a file is wrong; each mistake is a line `file:line: what`.
#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
pub fn main(args: CheckArgs) -> anyhow::Result<ExitCode> {
    type Check = Box<dyn Fn(&Path) -> Result<Found, Vec<String>>>;
    let (files, check): (_, Check) = match args.what {
        What::Rules(Files { files }) => (files, Box::new(rules)),
        What::Config(Files { files }) => (files, Box::new(config)),
        What::Alertmanager(Files { files }) => (files, Box::new(alertmanager)),
        What::Collector(Files { files }) => (files, Box::new(collector)),
        What::Promtail(Files { files }) => (files, Box::new(promtail)),
        What::Alloy(Files { files }) => (files, Box::new(alloy)),
        What::Cardinality(Files { files }) => (files, Box::new(cardinality)),
        What::LogSampling(Files { files }) => (files, Box::new(log_sampling)),
        What::LogRetention(Files { files }) => (files, Box::new(log_retention)),
        What::Logs(args) => return crate::log_contract::check(&args),
        What::Oncall { alertmanager_config, files } => {
            let receivers = alertmanager_config.map(|path| weir_alert::read_config(&path)).transpose()?;
            (files, Box::new(move |file: &Path| oncall(file, receivers.as_ref())))
        }
        What::Slos { alertmanager_config, files } => {
            let routes = alertmanager_config.map(|path| weir_alert::read_config(&path)).transpose()?;
            (files, Box::new(move |file: &Path| slos(file, routes.as_ref())))
        }
    };
    let mut wrong = false;
    for file in &files {
        match check(file) {
            Ok(found) => {
                println!("{}: {}", file.display(), found.summary);
                found.warnings.iter().for_each(|warning| println!("warning: {warning}"));
            }
            Err(errors) => {
                wrong = true;
                errors.iter().for_each(|error| eprintln!("{error}"));
            }
        }
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn counted_as(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn rules(file: &Path) -> Result<Found, Vec<String>> {
    let groups = read_rule_files(&file.to_string_lossy(), Path::new(""));
    let groups = groups.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let n_rules = groups.iter().map(|g| g.rules.len()).sum();
    let summary = format!("{} in {}", counted(n_rules, "rule"), counted(groups.len(), "group"));
    // As promtool's lint: of two rules with one name and the same labels, one is a copy left over.
    let mut seen = std::collections::BTreeMap::new();
    let mut warnings = Vec::new();
    for rule in groups.iter().flat_map(|g| &g.rules) {
        if let Some(first) = seen.insert((rule.name(), &rule.labels), rule.line) {
            let name = rule.name();
            warnings.push(format!(
                "{}:{}: rule {name:?} stands with the same labels in line {first}",
                file.display(),
                rule.line
            ));
        }
    }
    Ok(Found { summary, warnings })
}

fn config(file: &Path) -> Result<Found, Vec<String>> {
    let config = PrometheusConfig::load(file).map_err(|e| vec![format!("{:#}", anyhow::Error::from(e))])?;
    let (mut n_rules, mut errors, mut warnings) = (0, Vec::new(), config.warnings.clone());
    for pattern in &config.rule_files {
        // The patterns are relative to the configuration's folder already.
        match read_rule_files(&pattern.to_string_lossy(), Path::new("")) {
            Ok(groups) if groups.is_empty() => {
                warnings.push(format!("{}: rule_files: {} names no rules", file.display(), pattern.display()));
            }
            Ok(groups) => n_rules += groups.iter().map(|g| g.rules.len()).sum::<usize>(),
            Err(found) => errors.extend(found.iter().map(ToString::to_string)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let summary = format!("{}, {}", counted(config.scrape_configs.len(), "scrape config"), counted(n_rules, "rule"));
    Ok(Found { summary, warnings })
}

fn slos(file: &Path, routes: Option<&weir_alert::Config>) -> Result<Found, Vec<String>> {
    let (n, warnings) = crate::slo::check(file, routes)?;
    Ok(Found { summary: counted(n, "objective"), warnings })
}

fn cardinality(file: &Path) -> Result<Found, Vec<String>> {
    let config = crate::cardinality::read(file).map_err(|e| vec![format!("{e:#}")])?;
    let enforcing = if config.is_enforcing() { "" } else { ", none of which does more than warn" };
    let summary = format!("{}{enforcing}", counted(config.n_budgets(), "budget"));
    Ok(Found { summary, warnings: Vec::new() })
}

fn log_retention(file: &Path) -> Result<Found, Vec<String>> {
    let retention = crate::log_retention::read(file, None).map_err(|e| vec![format!("{e:#}")])?;
    Ok(Found { summary: counted(crate::log_retention::n_rules(&retention), "rule"), warnings: Vec::new() })
}

fn log_sampling(file: &Path) -> Result<Found, Vec<String>> {
    let config = crate::data::sampling(file).map_err(|e| vec![format!("{e:#}")])?;
    Ok(Found { summary: counted(config.n_rules(), "rule"), warnings: Vec::new() })
}

fn alertmanager(file: &Path) -> Result<Found, Vec<String>> {
    let config = weir_alert::read_config(file).map_err(|e| vec![e.to_string()])?;
    let summary = [
        counted(config.routes.len(), "route"),
        counted(config.receivers.len(), "receiver"),
        counted(config.inhibit_rules.len(), "inhibit rule"),
        counted(config.time_intervals.len(), "time interval"),
    ];
    Ok(Found { summary: summary.join(", "), warnings: config.warnings })
}

fn oncall(file: &Path, receivers: Option<&weir_alert::Config>) -> Result<Found, Vec<String>> {
    let config = weir_alert::oncall::read_oncall(file).map_err(|e| vec![e.to_string()])?;
    if let Some(receivers) = receivers {
        config.check_receivers(receivers).map_err(|e| vec![e.to_string()])?;
    }
    let summary = [
        counted_as(config.people.len(), "person", "people"),
        counted(config.schedules.len(), "schedule"),
        counted(config.chains.len(), "chain"),
        counted(config.tiers.len(), "tier"),
    ];
    Ok(Found { summary: summary.join(", "), warnings: config.warnings })
}

fn collector(file: &Path) -> Result<Found, Vec<String>> {
    let config = CollectorConfig::load(file, &|name| std::env::var(name).ok());
    let config = config.map_err(|e| e.to_string().lines().map(str::to_owned).collect::<Vec<_>>())?;
    let summary = [
        counted(config.pipelines.len(), "pipeline"),
        counted(config.processors.len(), "processor"),
        counted(config.exporters.len(), "exporter"),
    ];
    let connectors = (!config.connectors.is_empty()).then(|| counted(config.connectors.len(), "connector"));
    let summary: Vec<String> = summary.into_iter().chain(connectors).collect();
    let warnings = config.warnings.iter().map(|warning| format!("{}: {warning}", file.display())).collect();
    Ok(Found { summary: summary.join(", "), warnings })
}

fn promtail(file: &Path) -> Result<Found, Vec<String>> {
    let config = PromtailConfig::load(file).map_err(|e| vec![format!("{:#}", anyhow::Error::from(e))])?;
    Ok(logs(config, "scrape config", "client"))
}

fn alloy(file: &Path) -> Result<Found, Vec<String>> {
    let config = crate::config_files::read_alloy(file).map_err(|e| vec![format!("{e:#}")])?;
    Ok(logs(config, "source", "endpoint"))
}

fn logs(config: PromtailConfig, source: &str, receiver: &str) -> Found {
    let summary = [counted(config.scrape_configs.len(), source), counted(config.clients.len(), receiver)].join(", ");
    Found { summary, warnings: config.warnings }
}
