//! The HTTP surface: the APIs of Prometheus, Loki, Tempo and Alertmanager, weir's own, and the page.
//!
//! Each surface is one module with a `router()`; [`App`] is what they share. JSON and protobuf types
//! live here and in `weir-ingest`, never in stores or engines.

mod alertmanager;
mod app;
mod changes;
mod cors;
mod data_in;
mod demo;
mod diagnose;
mod incidents;
mod lag;
mod loki;
mod map;
mod notifications;
mod page;
pub mod prometheus;
mod push;
mod rules;
mod self_metrics;
mod stores;
mod targets;
mod tempo;
pub mod tenant;

pub use app::{App, router};
pub use demo::DemoControl;
pub use push::grpc_router;
pub use targets::Reload;
