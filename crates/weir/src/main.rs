//! The `weir` program: flags, signals, wiring. Everything else lives in the crates it wires.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod alerting;
mod listen;
mod memory;
mod serve;
mod web_config;

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
    Serve(serve::ServeArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS stack for everything; a second call would only say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match cli.command {
        Command::Serve(args) => serve::main(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
