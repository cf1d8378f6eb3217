//! `weir slo`: rules from objectives, and a gate for release pipelines.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Deserialize;
use weir_alert::Config;
use weir_model::Labels;
use weir_rules::{RuleGroup, RuleKind, parse_rule_file};
use weir_slo::{Slo, Timing, page_times};

#[derive(Args)]
pub struct SloArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print the rules that follow from objectives, as a rule file of Prometheus.
    Rules {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Status 0 while an objective's budget is left and does not burn; 1 when it does, or nobody knows.
    Gate {
        /// The objective, as `/api/weir/v1/slos` names it.
        name: String,
        /// Base of the server's HTTP port.
        #[arg(long, default_value = "http://127.0.0.1:9090")]
        url: String,
    },
}

pub fn main(args: SloArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Rules { files } => print_rules(&files),
        What::Gate { name, url } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(gate(&name, &url))
        }
    }
}

pub fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Slo>> {
    let mut slos: Vec<Slo> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        for slo in weir_slo::parse(&file.display().to_string(), &text)? {
            if let Some(first) = slos.iter().find(|s| s.id == slo.id) {
                bail!(
                    "{}:{}: objective `{}` stands in {}:{} already",
                    slo.file,
                    slo.line,
                    slo.id,
                    first.file,
                    first.line
                );
            }
            slos.push(slo);
        }
    }
    Ok(slos)
}

/// The groups to be evaluated.
pub fn groups(slos: &[Slo]) -> anyhow::Result<Vec<RuleGroup>> {
    parse_rule_file("slos", &weir_slo::rules(slos)).map_err(|errors| {
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("rules made from objectives: {}", told.join("\n"))
    })
}

#[allow(clippy::print_stdout, reason = "the rules are what the command is for")]
fn print_rules(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let slos = read(files)?;
    groups(&slos)?;
    print!("{}", weir_slo::rules(&slos));
    Ok(ExitCode::SUCCESS)
}

#[derive(Deserialize)]
struct Shown {
    state: String,
    budget_left: Option<f64>,
    burn_rate: Option<f64>,
}

#[allow(clippy::print_stdout, reason = "the verdict is what the command is for")]
async fn gate(name: &str, url: &str) -> anyhow::Result<ExitCode> {
    let mut address = url::Url::parse(url).with_context(|| format!("--url {url}"))?;
    match address.path_segments_mut() {
        Ok(mut path) => path.pop_if_empty().extend(["api", "weir", "v1", "slos", name]),
        Err(()) => bail!("--url {url}: give the base of a server, such as http://127.0.0.1:9090"),
    };
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
    let answer = client.get(address.clone()).send().await.with_context(|| format!("ask {address}"))?;
    let status = answer.status();
    let body = answer.bytes().await.with_context(|| format!("ask {address}"))?;
    if !status.is_success() {
        bail!("{address}: {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    let shown: Shown = serde_json::from_slice(&body).with_context(|| format!("{address}: not an objective"))?;
    let figures = match (shown.budget_left, shown.burn_rate) {
        (Some(left), Some(rate)) => format!(", {:.1} % of the budget left, burning at {rate:.2}", left * 100.0),
        _ => ", no data yet".to_owned(),
    };
    println!("{name}: {}{figures}", shown.state);
    Ok(if shown.state == "ok" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Kinds of receivers that reach a person who sleeps; webhooks and SMS topics may.
const PAGING: [&str; 7] = ["pagerduty", "opsgenie", "victorops", "pushover", "sns", "incidentio", "webhook"];

/// What is wrong with where an objective's pages go, and what deserves a look. A T1 is to page within a minute.
pub fn check_routes(slo: &Slo, config: &Config) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let place = format!("{}:{}: objective `{}`", slo.file, slo.line, slo.id);
    let mut waits = Vec::new();
    for rule in groups(std::slice::from_ref(slo))?.iter().flat_map(|g| &g.rules) {
        let RuleKind::Alert { name, .. } = &rule.kind else { continue };
        let pages = slo.burns().iter().any(|b| {
            b.severity == weir_slo::Severity::Page
                && rule.labels.get("long_window") == Some(&weir_slo::window_text(b.long))
        });
        if !pages {
            continue;
        }
        let mut labels = rule.labels.clone();
        labels.insert("alertname".to_owned(), name.clone());
        let labels = Labels::from_pairs(labels);
        let routes = config.routes_of(&labels);
        let paging = |idx: &&usize| {
            let receiver = &config.receivers[config.routes[**idx].receiver];
            receiver.integrations.iter().any(|i| PAGING.contains(&i.kind_name()))
        };
        let reached: Vec<&str> =
            routes.iter().map(|idx| &*config.receivers[config.routes[*idx].receiver].name).collect();
        let Some(idx) = routes.iter().find(paging) else {
            errors.push(format!("{place}: its page {labels} reaches {}, which pages nobody", reached.join(", ")));
            continue;
        };
        let route = &config.routes[*idx];
        if !route.mute_time_intervals.is_empty() || !route.active_time_intervals.is_empty() {
            warnings.push(format!("{place}: the route of its page is muted at times ({})", route.key));
        }
        waits.push(route.group_wait);
    }
    if let (Some(group_wait), "T1") = (waits.into_iter().min(), &*slo.tier) {
        let timing = Timing { group_wait, ..Timing::default() };
        for time in page_times(slo, &timing) {
            let told = match (time.window, time.total) {
                (Some(window), Some(total)) if total > Duration::from_secs(60) => format!(
                    "takes {} s to page: window {} s, scrape {} s, evaluation {} s, group_wait {} s",
                    total.as_secs(),
                    window.as_secs(),
                    timing.scrape.as_secs(),
                    timing.evaluation.as_secs(),
                    group_wait.as_secs()
                ),
                (None, _) => "does not page".to_owned(),
                _ => continue,
            };
            warnings.push(format!("{place}: a failure of {} % of its events {told}", time.ratio * 100.0));
        }
    }
    Ok((errors, warnings))
}

/// For `weir check slos`.
pub fn check(file: &Path, config: Option<&Config>) -> Result<(usize, Vec<String>), Vec<String>> {
    let slos = read(&[file.to_owned()]).map_err(|e| vec![format!("{e:#}")])?;
    groups(&slos).map_err(|e| vec![format!("{e:#}")])?;
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for slo in &slos {
        let Some(config) = config else { break };
        let (wrong, odd) = check_routes(slo, config).map_err(|e| vec![format!("{e:#}")])?;
        errors.extend(wrong);
        warnings.extend(odd);
    }
    if errors.is_empty() { Ok((slos.len(), warnings)) } else { Err(errors) }
}
