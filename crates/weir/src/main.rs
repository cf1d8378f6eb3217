//! The `weir` program: flags, signals, wiring. Everything else lives in the crates it wires.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod agent;
mod alerting;
mod cardinality;
mod check;
mod collector;
mod config_files;
mod data;
mod demo;
mod drill;
mod listen;
mod log_contract;
mod log_retention;
mod memory;
mod own_metrics;
mod own_series;
mod rules;
mod serve;
mod slo;
mod smoke;
mod syslog;
mod tail;
mod test;
mod test_routes;
mod test_rules;
mod web_config;

/// For servers. A thread for blocking work that has nothing to do ends at once: each holds pages of memory that no other
/// thread can use, and the threads of a busy minute would otherwise take turns for ever.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let idle = std::time::Duration::from_millis(100);
    tokio::runtime::Builder::new_multi_thread().thread_keep_alive(idle).enable_all().build()
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures real-time data pipelines: metrics, logs and traces in, the cause of a failure out.
#[derive(Parser)]
#[command(name = "weir", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take in telemetry, evaluate rules, answer queries, show the page.
    Serve(Box<serve::ServeArgs>),
    /// Scrape, take OTLP metrics, follow log files, and forward them.
    Agent(agent::AgentArgs),
    /// Everything at once: a Kafka-protocol broker, a live pipeline over it, and weir watching it.
    Demo(demo::DemoArgs),
    /// Break a fresh demo in drawn ways, and score how it is found, paged and explained.
    Drill(drill::DrillArgs),
    /// Check a running server: three signals, lag, the page and one alert path.
    Smoke(smoke::SmokeArgs),
    /// Check configuration files without starting anything; status 1 when one is wrong.
    Check(check::CheckArgs),
    /// Rules from objectives, and a gate for release pipelines.
    Slo(slo::SloArgs),
    /// The alerts that weir ships, with their runbooks.
    Rules(rules::RulesArgs),
    /// Run test cases from files, without a server.
    Test(test::TestArgs),
    /// One process of the demo's pipeline; the demo starts it.
    #[command(name = "demo-service", hide = true)]
    DemoService(demo::ServiceArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS stack for everything; a second call would only say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match cli.command {
        Command::Serve(args) => serve::main(*args),
        Command::Agent(args) => agent::main(args),
        Command::Demo(args) => demo::main(args),
        Command::Drill(args) => drill::main(args),
        Command::Smoke(args) => smoke::main(args),
        Command::Check(args) => check::main(args),
        Command::Slo(args) => slo::main(args),
        Command::Rules(args) => rules::main(args),
        Command::Test(args) => test::main(args),
        Command::DemoService(args) => demo::service(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
