//! A small single-node broker that speaks Kafka's protocol: the demo's stand-in for a cluster.
//!
//! It keeps record batches in memory as the producers sent them, bounded per partition, and runs
//! consumer groups by the classic protocol. It is *not* durable, replicated or transactional, and has
//! no authentication: it belongs on loopback.
//!
//! Read first: [`Broker`], `log::PartitionLog`, `group::Group`.
//!
//! ```no_run
//! # async fn start() -> std::io::Result<()> {
//! use weir_demo::broker::{Broker, BrokerOptions};
//! let broker = Broker::bind(BrokerOptions::default()).await?;
//! println!("bootstrap.servers={}", broker.local_addr());
//! broker.run(tokio_util::sync::CancellationToken::new()).await;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants: the high watermark is the log's end at all times; one request per connection is worked
//! on at a time, answers leave in the order of requests; nothing polls: fetches wait for an append,
//! groups for their next deadline; the log's lock is never held across an await.

mod admin;
mod batch;
mod connection;
mod dispatch;
mod fetch;
mod group;
mod group_api;
mod log;
mod metadata;
mod offsets;
mod options;
mod produce;
mod producers;
mod server;
mod skim;
mod topics;

pub use log::Retention;
pub use options::BrokerOptions;
pub use server::Broker;
