//! The real program, talked to with what users use. One binary, so that it links once: each area is
//! a module beside this file, started through [`harness`].
#![allow(clippy::unwrap_used, reason = "tests")]

mod agent;
mod alerting;
mod bad_input;
mod cardinality;
mod collector;
mod harness;
mod incidents;
mod lag;
mod log_durability;
mod log_retention;
mod log_sampling;
mod logs_traces;
mod metrics_blocks;
mod metrics_restart;
mod native_scrape;
mod node_exporter;
mod oncall;
mod otel_python;
mod pack;
mod pipeline;
mod prometheus_differential;
mod promtool;
mod propagate;
mod pushgateway;
mod redact;
mod remote_write;
mod rollup;
mod ruler;
mod slos;
mod syslog;
mod tail;
mod traces_restart;
mod unknown;
mod web_config;
