//! `weir demo` and `weir demo-service`: the whole thing with one command, and one process of its pipeline.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use weir_demo::topology::{Assignment, Topology};
use weir_demo::{Demo, DemoOptions, Fault, WeirOptions};

#[derive(Args, Clone)]
pub struct DemoArgs {
    /// Address of the page and of every HTTP API.
    #[arg(long, default_value = "127.0.0.1:9090")]
    listen: String,
    /// Address of OTLP over gRPC; a free port by default.
    #[arg(long, default_value = "127.0.0.1:0")]
    otlp_grpc_listen: String,
    /// Address of OTLP over HTTP; a free port by default.
    #[arg(long, default_value = "127.0.0.1:0")]
    otlp_http_listen: String,
    /// Where people reach the page; stands in every link of a page.
    #[arg(long = "web.external-url", value_name = "URL")]
    external_url: Option<String>,
    /// Address of the broker, for a Kafka client of your own; a free port by default.
    #[arg(long, default_value = "127.0.0.1:0")]
    kafka_listen: SocketAddr,
    /// Databases, logs and generated configuration; made anew by each start.
    #[arg(long, default_value = "./weir-data/demo")]
    data_dir: PathBuf,
    #[arg(long, default_value_t = 300.0, value_parser = events_per_second)]
    events_per_second: f64,
    /// Share of traces to record, 0 to 1.
    #[arg(long, default_value_t = 1.0, value_parser = ratio)]
    trace_ratio: f64,
    /// Break something every two minutes and heal it after one, in turn.
    #[arg(long)]
    schedule: bool,
}

fn events_per_second(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (1.0..=20_000.0).contains(&n) => Ok(n),
        _ => Err("give a number from 1 to 20000".to_owned()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.0..=1.0).contains(&n) => Ok(n),
        _ => Err("give a number from 0 to 1".to_owned()),
    }
}

pub fn main(args: DemoArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr("warn");
    crate::runtime()?.block_on(run(args))?;
    Ok(ExitCode::SUCCESS)
}

pub fn log_to_stderr(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let mut options = DemoOptions::new(std::env::current_exe()?, args.data_dir);
    options.events_per_second = args.events_per_second;
    options.trace_ratio = args.trace_ratio;
    options.kafka_listen = args.kafka_listen;
    options.weir = Some(WeirOptions {
        listen: args.listen,
        otlp_grpc_listen: args.otlp_grpc_listen,
        otlp_http_listen: args.otlp_http_listen,
        external_url: args.external_url,
    });
    let started = tokio::select! {
        started = Demo::start(options) => started,
        () = signal() => return Ok(()),
    };
    let demo = started.context("the demo did not start")?;
    announce(&demo)?;
    if args.schedule {
        tokio::spawn(break_in_turn(demo.clone()));
    }
    let ended = tokio::select! {
        error = demo.watch() => Err(error.into()),
        () = signal() => Ok(()),
    };
    demo.stop().await;
    ended
}

fn announce(demo: &Demo) -> anyhow::Result<()> {
    let topology = demo.topology();
    let mut out = std::io::stdout().lock();
    writeln!(out, "weir demo ready {}", demo.url().unwrap_or_default())?;
    writeln!(out, "  the page          {}", demo.url().unwrap_or_default())?;
    writeln!(out, "  Kafka bootstrap   {}", topology.broker)?;
    writeln!(out, "  logs and config   {}", topology.data_dir.display())?;
    writeln!(out, "  events a second   {}; Ctrl-C ends everything", topology.events_per_second)?;
    Ok(out.flush()?)
}

/// Each fault for a minute, with a minute's rest after it.
async fn break_in_turn(demo: Arc<Demo>) {
    loop {
        for fault in Fault::all().into_iter().filter(|f| !f.is_decoy()) {
            tokio::time::sleep(Duration::from_secs(60)).await;
            if let Err(error) = demo.break_it(fault, None).await {
                tracing::warn!(fault = %fault.id(), error = %error.chain(), "not broken");
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            if let Err(error) = demo.heal(fault).await {
                tracing::warn!(fault = %fault.id(), error = %error.chain(), "not healed");
            }
        }
    }
}

pub async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}

#[derive(Args, Clone)]
pub struct ServiceArgs {
    #[arg(long)]
    topology: PathBuf,
    #[arg(long)]
    pod: String,
    #[arg(long)]
    version: String,
    /// Prepare everything, then wait for a line on standard input.
    #[arg(long)]
    standby: bool,
}

/// More than a service has partitions. Each blocking call of a consumer hands its worker to another thread, and
/// hundreds of calls a second would make hundreds of threads, each with a heap of its own.
const BLOCKING_THREADS: usize = 32;

pub fn service(args: ServiceArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr("warn");
    let assignment = assignment(&args.topology, &args.pod, &args.version)?;
    // Two threads: one may be busy with the database while the other keeps the process answering.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(weir_demo::service::run(assignment, args.standby))?;
    runtime.shutdown_timeout(Duration::from_millis(500));
    Ok(ExitCode::SUCCESS)
}

fn assignment(topology: &Path, pod: &str, version: &str) -> anyhow::Result<Assignment> {
    Ok(Assignment::new(Topology::load(topology)?, pod, version)?)
}
