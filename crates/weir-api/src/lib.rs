//! The HTTP surface: the APIs of Prometheus, Loki, Tempo and Alertmanager, weir's own, and the page.
//!
//! Each surface is one module with a `router()`; [`App`] is what they share. JSON and protobuf types
//! live here and in `weir-ingest`, never in stores or engines. This crate evaluates and stores nothing
//! itself: engines do, over the stores and services that the binary hands in.
//!
//! Read first: [`App`], [`router`], `tenant.rs`.
//!
//! Invariants: what is read or written belongs to the tenant of the request; an error has the shape of
//! the API that it belongs to; bodies are bounded; a client that leaves cancels its query; a path that
//! no API knows is a 404, never the page.

mod alertmanager;
mod app;
mod cardinality;
mod changes;
mod cors;
mod data_in;
mod demo;
mod diagnose;
mod escalations;
mod flush;
mod incidents;
mod lag;
mod link;
mod log_contract;
mod loki;
mod map;
mod notifications;
mod oncall;
mod page;
pub mod prometheus;
mod push;
mod ruler;
mod rules;
mod runbooks;
mod self_metrics;
mod slos;
mod stores;
mod targets;
mod tempo;
pub mod tenant;

pub use app::{App, router};
pub use demo::DemoControl;
pub use flush::Flush;
pub use prometheus::ShownConfig;
pub use push::grpc_router;
pub use slos::Slos;
pub use targets::Reload;
