//! Scraping, service discovery and remote write, as a `prometheus.yml` says, and following of log files
//! ([`logs`]), as a Promtail configuration says.
//!
//! [`PrometheusConfig`] is a checked `prometheus.yml`; [`Collector`] keeps one loop per target and
//! writes through `weir_ingest::Ingest`. What a scrape becomes is decided by the pure
//! [`scrape::Scraped`]; only the loops touch network and clock.
//!
//! This crate evaluates no rules and serves no HTTP.
//!
//! Read first: [`PrometheusConfig`], [`Collector`], [`scrape::Scraped`].
//!
//! Invariants: a series that a target no longer gives ends with a stale marker; two scrapes of one
//! target never overlap; bodies are bounded.

mod collector;
mod config;
mod discover;
mod fetch;
mod glob;
mod http;
pub mod logs;
mod md5;
mod metrics;
pub mod pushed;
mod relabel;
pub mod remote;
pub mod scrape;
mod target;

pub use collector::{Collector, CollectorOptions, DiscoveryStatus, Health, PoolDropped, TargetStatus};
pub use config::{
    ConfigError, HttpConfig, PrometheusConfig, QueueConfig, RemoteWriteConfig, RemoteWriteVersion, ScrapeConfig,
    ScrapeProtocol, SdConfig,
};
pub use discover::{TargetGroup, parse_dns_answer};
pub use metrics::{CollectMetrics, RemoteMetrics};
pub use relabel::{Action, RelabelConfig, RelabelStep, explain, parse_relabel, relabel};
pub use remote::{RemoteOptions, RemoteStatus, RemoteWrites, Tee};
/// Pods of a cluster for others than targets.
pub mod kubernetes {
    pub use crate::discover::kubernetes::follow::{FollowOptions, Follower, follow};
    pub use crate::discover::kubernetes::object::{Container, Meta, OwnerReference, Pod};
}

pub use target::{DroppedTarget, Target, Targets, targets};
