//! `weir drill`: breaks a fresh demo in drawn ways and scores how it is found, paged and explained.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use weir_demo::{DrillOptions, DrillResult};

use crate::demo::{log_to_stderr, signal};

#[derive(Args, Clone)]
pub struct DrillArgs {
    /// Draws names, faults, places and order; one is drawn and printed when none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the result as JSON on standard output; progress goes to standard error.
    #[arg(long)]
    json: bool,
    /// 4 faults instead of 12, for CI.
    #[arg(long)]
    short: bool,
    /// Databases, logs and configuration of the run; a temporary folder by default, removed when the drill passes.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    #[arg(long, default_value_t = 300.0)]
    events_per_second: f64,
    /// Share of traces to record, 0 to 1.
    #[arg(long, default_value_t = 1.0)]
    trace_ratio: f64,
}

pub fn main(args: DrillArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr("warn");
    let seed = args.seed.unwrap_or_else(|| u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs()));
    let temporary = std::env::temp_dir().join(format!("weir-drill-{seed}-{}", std::process::id()));
    let data_dir = args.data_dir.clone().unwrap_or_else(|| temporary.clone());
    let options = DrillOptions {
        seed,
        short: args.short,
        program: std::env::current_exe()?,
        data_dir: data_dir.clone(),
        events_per_second: args.events_per_second,
        trace_ratio: args.trace_ratio,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = weir_demo::drill(options, |line| eprintln!("{} {line}", clock_time())) => Ok(Some(result?)),
            () = signal() => Ok::<_, anyhow::Error>(None),
        }
    })?;
    let Some(result) = result else { return Ok(ExitCode::FAILURE) };
    report(&result, args.json)?;
    if result.verdict.passed && args.data_dir.is_none() {
        let _ = std::fs::remove_dir_all(&temporary);
    } else {
        eprintln!("logs and configuration of the run are in {}", data_dir.display());
    }
    Ok(if result.verdict.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn clock_time() -> String {
    let now = jiff::Timestamp::now().to_string();
    now.get(11..19).unwrap_or_default().to_owned()
}

fn report(result: &DrillResult, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, result)?;
        return Ok(writeln!(out)?);
    }
    let v = &result.verdict;
    writeln!(
        out,
        "seed {}: {}; {} faults, {} paged in time, {} named; {:.2} cores, {:.0} MiB",
        result.seed,
        if v.passed { "passed" } else { "FAILED" },
        v.n_faults,
        v.n_paged_in_time,
        v.n_named,
        result.cost.cores,
        result.cost.rss_mib,
    )?;
    for reason in &v.reasons {
        writeln!(out, "  {reason}")?;
    }
    Ok(())
}
