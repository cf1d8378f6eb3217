//! What the broker's tests share.

use tokio_util::sync::{CancellationToken, DropGuard};
use weir_demo::broker::{Broker, BrokerOptions};

/// A broker that ends when this is dropped.
pub struct Running {
    pub address: String,
    _stop: DropGuard,
}

pub async fn start_broker(change: impl FnOnce(&mut BrokerOptions)) -> Running {
    let mut options = BrokerOptions::default();
    change(&mut options);
    let broker = Broker::bind(options).await.unwrap();
    let address = broker.local_addr().to_string();
    let stop = CancellationToken::new();
    tokio::spawn(broker.run(stop.clone()));
    Running { address, _stop: stop.drop_guard() }
}

pub fn unix_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
