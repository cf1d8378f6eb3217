//! `weir test`: test files of others, run without a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use weir_promql::script::Script;

#[derive(Args)]
pub struct TestArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// PromQL cases in Prometheus' script format (`load`, `eval`, `expect`).
    Promql {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

pub fn main(args: TestArgs) -> anyhow::Result<ExitCode> {
    let What::Promql { files } = args.what;
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start")?;
    let mut n_failed = 0;
    for file in &files {
        n_failed += runtime.block_on(promql(file));
    }
    Ok(if n_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
