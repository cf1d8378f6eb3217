//! `weir smoke URL`: a quick check of a running server with its own data; each failure is named.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;

#[derive(Args, Clone)]
pub struct SmokeArgs {
    /// Base of the server's HTTP port, such as http://127.0.0.1:9090.
    url: String,
}

pub fn main(args: SmokeArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checks = runtime.block_on(weir_demo::smoke(&args.url))?;
    let mut out = std::io::stdout().lock();
    let mut all_well = true;
    for check in &checks {
        match &check.failure {
            None => writeln!(out, "ok      {}", check.name)?,
            Some(why) => writeln!(out, "FAILED  {}: {why}", check.name)?,
        }
        all_well &= check.failure.is_none();
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
