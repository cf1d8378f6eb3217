//! `weir test`: test files of others, run without a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use weir_model::Labels;
use weir_promql::script::Script;

use crate::{test_routes, test_rules};

#[derive(Args)]
pub struct TestArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Unit tests of rules in promtool's format.
    Rules {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Which receivers an alert reaches, by an alertmanager.yml; or, from files of tests, who is notified and paged of
    /// alerts over simulated time.
    Routes {
        /// Alertmanager's configuration; files of tests name their own.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Receivers that it must reach, with commas between; status 1 if it reaches others.
        #[arg(long, value_name = "NAMES")]
        expect: Option<String>,
        /// Labels of the alert, or files of tests.
        #[arg(required = true, value_name = "NAME=VALUE|FILE")]
        what: Vec<String>,
    },
    /// PromQL cases in Prometheus' script format (`load`, `eval`, `expect`).
    Promql {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub fn main(args: TestArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Rules { files } => rules(&files),
        What::Routes { config: Some(config), expect, what } => routes(&config, expect.as_deref(), &what),
        What::Routes { config: None, expect: None, what } => route_tests(&what),
        What::Routes { config: None, .. } => anyhow::bail!("--expect needs --config"),
        What::Promql { files } => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start")?;
            let mut n_failed = 0;
            for file in &files {
                n_failed += runtime.block_on(promql(file));
            }
            Ok(if n_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
fn rules(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start")?;
    let mut wrong = false;
    for file in files {
        println!("Unit Testing:  {}", file.display());
        match runtime.block_on(test_rules::run(file)) {
            Ok(failures) if failures.is_empty() => println!("  SUCCESS"),
            Ok(failures) => {
                wrong = true;
                eprintln!("  FAILED:");
                failures.iter().for_each(|failure| eprintln!("    {failure}"));
            }
            Err(error) => {
                wrong = true;
                eprintln!("  FAILED:\n{}: {error}", file.display());
            }
        }
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
fn routes(config: &Path, expect: Option<&str>, labels: &[String]) -> anyhow::Result<ExitCode> {
    let config = weir_alert::read_config(config)?;
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').with_context(|| format!("label {text:?}: write it as name=value"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let labels = Labels::from_pairs(labels.iter().map(pair).collect::<anyhow::Result<Vec<_>>>()?);
    let routes = config.routes_of(&labels);
    let names: Vec<&str> = routes.iter().map(|r| config.receivers[config.routes[*r].receiver].name.as_str()).collect();
    println!("{}", names.join(","));
    let Some(expect) = expect else { return Ok(ExitCode::SUCCESS) };
    let wanted: Vec<&str> = expect.split(',').map(str::trim).collect();
    if wanted == names {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("WARNING: expected receivers did not match resolved receivers: {expect}");
    Ok(ExitCode::FAILURE)
}

#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
fn route_tests(files: &[String]) -> anyhow::Result<ExitCode> {
    if let Some(label) = files.iter().find(|f| f.contains('=')) {
        anyhow::bail!("{label} is a label: give --config with the alertmanager.yml whose routes it takes");
    }
    let mut wrong = false;
    for file in files {
        match test_routes::run(Path::new(file)) {
            Ok((n, failures)) => {
                for failure in &failures {
                    println!("{file}:{}: {}", failure.line, failure.name);
                    failure.diff.iter().for_each(|line| println!("    {line}"));
                }
                wrong |= !failures.is_empty();
                println!("{file}: {} of {n} passed", n - failures.len());
            }
            Err(error) => {
                wrong = true;
                eprintln!("{file}: {error:#}");
            }
        }
    }
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Number of cases that failed; a file that cannot be read counts as one.
#[allow(clippy::print_stdout, reason = "the report is what the command is for")]
async fn promql(file: &Path) -> usize {
    let name = file.display();
    let read = std::fs::read_to_string(file).map_err(|e| e.to_string());
    let script = match read.and_then(|text| Script::parse(&text).map_err(|e| e.to_string())) {
        Ok(script) => script,
        Err(error) => {
            println!("{name}: {error}");
            return 1;
        }
    };
    let outcomes = script.run().await;
    let mut n_failed = 0;
    for outcome in &outcomes {
        if let Err(reason) = &outcome.result {
            n_failed += 1;
            println!("{name}:{}: {}\n    {reason}", outcome.line, outcome.query);
        }
    }
    println!("{name}: {} of {} passed", outcomes.len() - n_failed, outcomes.len());
    n_failed
}
