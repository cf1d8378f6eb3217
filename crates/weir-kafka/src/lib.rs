//! Consumer lag of Kafka clusters, in messages and in seconds, polled over connections of our own.
//!
//! Each interval the poller reads the groups' committed offsets, then the logs' start and end offsets,
//! and writes the series that kafka-lag-exporter users know. Seconds come from an offset-to-time index
//! kept here; a consumer that keeps its offsets itself is followed by its spans. This crate is *not* a
//! Kafka client for records, and speaks neither TLS nor SASL yet.
//!
//! Read first: [`LagPoller`], [`LagTable`] (the pure core), [`OffsetTimes`].
//!
//! Invariants: committed offsets are read before end offsets, so lag is never negative by a race; an
//! idle topic's lag is 0 s; memory that grows with the number of partitions draws from a budget.

mod client;
mod cluster;
mod metrics;
mod observed;
mod offset_times;
mod options;
mod poller;
mod series;
mod table;

pub use client::KafkaError;
pub use metrics::KafkaMetrics;
pub use observed::ObservedPositions;
pub use offset_times::{OffsetTimes, TimeOf};
pub use options::{ClusterOptions, LagOptions, OptionsError};
pub use poller::{LagHandle, LagPoller, LagSink};
pub use table::{
    GroupOffsets, LagTable, Lookup, Observed, PartitionId, PartitionLag, PartitionOffsets, Snapshot, Source,
};
