//! Scraping: targets from a Prometheus configuration, relabelling, staleness.
//!
//! [`PrometheusConfig`] is a checked `prometheus.yml`; [`Collector`] keeps one loop per target and
//! writes through `weir_ingest::Ingest`. What a scrape becomes is decided by the pure
//! [`scrape::Scraped`]; only the loops touch network and clock.
//!
//! This crate does *not* discover services beyond `static_configs`, evaluates no rules and serves no
//! HTTP.
//!
//! Read first: [`PrometheusConfig`], [`Collector`], [`scrape::Scraped`].
//!
//! Invariants: a series that a target no longer gives ends with a stale marker; two scrapes of one
//! target never overlap; bodies are bounded.

mod collector;
mod config;
mod http;
mod md5;
mod metrics;
mod relabel;
pub mod scrape;
mod target;

pub use collector::{Collector, CollectorOptions, Health, TargetStatus};
pub use config::{ConfigError, PrometheusConfig, ScrapeConfig};
pub use metrics::CollectMetrics;
pub use relabel::{Action, RelabelConfig, relabel};
pub use target::{DroppedTarget, Target, targets};
