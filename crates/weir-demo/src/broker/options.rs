//! What a broker is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::log::Retention;

#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Port 0 takes a free one; ask [`super::Broker::local_addr`].
    pub listen: SocketAddr,
    pub node_id: i32,
    pub cluster_id: String,
    /// Whether asking for a topic's metadata creates it.
    pub auto_create_topics: bool,
    /// Partitions of a topic when its creator does not say.
    pub default_partitions: i32,
    /// Topics there from the start, with their partitions.
    pub topics: Vec<(String, i32)>,
    /// What each partition keeps.
    pub retention: Retention,
    /// How long the first join of an empty group waits for others.
    pub initial_rebalance_delay: Duration,
    /// Shortest session a group member may ask for.
    pub session_timeout_min: Duration,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            node_id: 1,
            cluster_id: "weir-demo-broker-00000".to_owned(),
            auto_create_topics: true,
            default_partitions: 4,
            topics: Vec::new(),
            // 16 partitions of the demo then stay under 128 MiB, and keep about ten minutes of its events.
            retention: Retention { bytes: 8 << 20, records: 200_000 },
            // Apache Kafka waits 3 s; members of the demo start within a tenth of that.
            initial_rebalance_delay: Duration::from_millis(150),
            session_timeout_min: Duration::from_millis(500),
        }
    }
}
