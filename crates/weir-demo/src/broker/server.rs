//! Accepts connections and owns what they share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connection;
use super::group_api::Coordinator;
use super::options::BrokerOptions;
use super::topics::Topics;

/// Clients of a demo are a dozen; a leak of sockets must not take the machine.
const CONNECTIONS_MAX: usize = 2_000;

/// What all connections see.
pub struct Shared {
    pub options: BrokerOptions,
    pub topics: Topics,
    pub coordinator: Coordinator,
    pub next_producer_id: AtomicI64,
}

/// A bound broker. Clients can connect from [`Broker::bind`] on; they are answered during [`Broker::run`].
pub struct Broker {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Broker {
    /// Binds and creates the topics of the options. Errors: address taken, invalid topic.
    pub async fn bind(options: BrokerOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let local_addr = listener.local_addr()?;
        let topics = Topics::new(options.retention);
        for (name, n_partitions) in &options.topics {
            topics.create(name, *n_partitions).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        }
        let coordinator = Coordinator::new(&options);
        let shared = Arc::new(Shared { options, topics, coordinator, next_producer_id: AtomicI64::new(1000) });
        Ok(Self { listener, local_addr, shared })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown`; then closes every connection.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        let timer = self.shared.coordinator.run_timer();
        tokio::pin!(timer);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = &mut timer => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, peer)) if connections.len() < CONNECTIONS_MAX => {
                        let shared = Arc::clone(&self.shared);
                        connections.spawn(async move {
                            match connection::serve(socket, peer, shared).await {
                                Ok(()) => debug!(%peer, "connection closed by the client"),
                                Err(error) => warn!(%peer, %error, "connection closed"),
                            }
                        });
                    }
                    Ok((_, peer)) => warn!(%peer, limit = CONNECTIONS_MAX, "connection refused: too many"),
                    Err(error) => {
                        // Out of file descriptors, most likely: without a pause this would spin.
                        warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
            }
        }
        connections.shutdown().await;
    }
}
