//! Syslog over TCP and UDP: listens, takes messages apart, and hands entries on.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use weir_collect::logs::syslog::{Frames, SyslogConfig, SyslogPipe, SyslogProtocol};
use weir_collect::logs::{LogMetrics, Outgoing, PromtailConfig};
use weir_model::Clock;

use crate::tail::LogReceiver;

/// Connections open at once on one listener; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 1000;
/// Messages that wait to be delivered. When there are more, connections wait, and datagrams are dropped and counted.
const WAITING_MAX: usize = 1024;
/// How long messages gather.
const GATHER: Duration = Duration::from_millis(100);
const BATCH_BYTES: usize = 1 << 20;
const BACKOFF_MAX: Duration = Duration::from_secs(10);
const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// What every listener works with.
pub struct SyslogOptions {
    pub clock: Arc<dyn Clock>,
    pub shutdown: CancellationToken,
    pub metrics: LogMetrics,
    /// Listen off loopback: syslog has neither TLS nor authentication here.
    pub insecure_open: bool,
}

/// Listeners by protocol and address; one that stays takes over what is said of its messages.
pub struct Syslog {
    options: Arc<SyslogOptions>,
    running: Mutex<HashMap<Key, Running>>,
}

/// Whether it is UDP, and the address as it is written.
type Key = (bool, String);

struct Running {
    settings: Arc<Settings>,
    stop: CancellationToken,
}

/// What the configuration says now.
struct Settings {
    config: Mutex<SyslogConfig>,
    /// To be taken over with the next batch.
    next: Mutex<Option<Consumer>>,
}

type Message = (Vec<u8>, IpAddr);

impl Syslog {
    pub fn new(options: SyslogOptions) -> Self {
        Self { options: Arc::new(options), running: Mutex::default() }
    }

    /// Listens where the configuration says; `receiver` makes one for each listener. When it cannot, everything
    /// stays as it was.
    pub fn apply(
        &self,
        config: &PromtailConfig,
        receiver: &dyn Fn() -> Result<Box<dyn LogReceiver>, String>,
    ) -> anyhow::Result<()> {
        let mut running = self.running.lock();
        let mut next: HashMap<Key, (SyslogConfig, Consumer, Option<Running>)> = HashMap::new();
        let result = config.syslog().try_for_each(|config| {
            let key = (config.protocol == SyslogProtocol::Udp, config.address.clone());
            let fault = || format!("scrape config `{}`: syslog {}", config.job(), config.address);
            if next.contains_key(&key) {
                bail!("{}: another scrape config listens there", fault());
            }
            let consumer = Consumer {
                pipe: SyslogPipe::new(config.clone(), self.options.metrics.clone()),
                receiver: receiver().map_err(anyhow::Error::msg)?,
                options: self.options.clone(),
            };
            let fresh = (!running.contains_key(&key)).then(|| self.listen(config)).transpose().with_context(fault)?;
            next.insert(key, (config.clone(), consumer, fresh));
            Ok(())
        });
        if result.is_err() {
            next.values().filter_map(|(.., fresh)| fresh.as_ref()).for_each(|fresh| fresh.stop.cancel());
            return result;
        }
        let mut before = std::mem::take(&mut *running);
        for (key, (config, consumer, fresh)) in next {
            let Some(entry) = fresh.or_else(|| before.remove(&key)) else { continue };
            *entry.settings.config.lock() = config;
            *entry.settings.next.lock() = Some(consumer);
            running.insert(key, entry);
        }
        before.values().for_each(|gone| gone.stop.cancel());
        Ok(())
    }

    fn listen(&self, config: &SyslogConfig) -> anyhow::Result<Running> {
        let addresses: Vec<SocketAddr> = config.address.to_socket_addrs().context("not an address")?.collect();
        if let Some(open) = addresses.iter().find(|a| !a.ip().is_loopback() && !self.options.insecure_open) {
            bail!(
                "{open} can be reached from other machines, without TLS and authentication: listen on 127.0.0.1, or accept the risk with --insecure-open"
            );
        }
        let (messages, waiting) = mpsc::channel(WAITING_MAX);
        let stop = self.options.shutdown.child_token();
        let settings = Arc::new(Settings { config: Mutex::new(config.clone()), next: Mutex::default() });
        let reader = Reader { settings: settings.clone(), messages, metrics: self.options.metrics.clone() };
        let token = stop.clone();
        match config.protocol {
            SyslogProtocol::Tcp => {
                let listener = std::net::TcpListener::bind(&addresses[..])?;
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                tracing::info!(address = %listener.local_addr()?, "syslog over TCP");
                tokio::spawn(async move {
                    token.run_until_cancelled(accept(listener, Arc::new(reader), token.clone())).await
                });
            }
            SyslogProtocol::Udp => {
                let socket = std::net::UdpSocket::bind(&addresses[..])?;
                socket.set_nonblocking(true)?;
                let socket = UdpSocket::from_std(socket)?;
                tracing::info!(address = %socket.local_addr()?, "syslog over UDP");
                tokio::spawn(async move { token.run_until_cancelled(reader.datagrams(socket)).await });
            }
        }
        tokio::spawn(consume(settings.clone(), waiting, stop.clone()));
        Ok(Running { settings, stop })
    }
}

async fn accept(listener: TcpListener, reader: Arc<Reader>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let (reader, stop) = (reader.clone(), stop.clone());
                tokio::spawn(async move {
                    let _place = place;
                    if let Some(Err(error)) = stop.run_until_cancelled(reader.connection(stream, from.ip())).await {
                        tracing::warn!(%from, %error, "a syslog connection was closed");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a syslog connection was not accepted");
                tokio::time::sleep(GATHER).await;
            }
        }
    }
}

struct Reader {
    settings: Arc<Settings>,
    messages: mpsc::Sender<Message>,
    metrics: LogMetrics,
}

impl Reader {
    async fn connection(&self, mut stream: TcpStream, from: IpAddr) -> anyhow::Result<()> {
        let (bytes_max, idle_timeout) = {
            let config = self.settings.config.lock();
            (config.message_bytes_max, config.idle_timeout)
        };
        let mut frames = Frames::new(bytes_max);
        let mut buffer = vec![0; 16 << 10];
        let mut found = Vec::new();
        loop {
            let read = tokio::time::timeout(idle_timeout, stream.read(&mut buffer)).await;
            let n = match read {
                Ok(read) => read?,
                // Silence, and nothing that could be lost.
                Err(_) => 0,
            };
            let pushed = match n {
                0 => {
                    frames.end(|message| found.push(message.to_vec()));
                    Ok(())
                }
                n => frames.push(&buffer[..n], |message| found.push(message.to_vec())),
            };
            for message in found.drain(..) {
                self.messages.send((message, from)).await.context("stopping")?;
            }
            pushed?;
            if n == 0 {
                return Ok(());
            }
        }
    }

    async fn datagrams(&self, socket: UdpSocket) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((n, from)) => {
                    let bytes_max = self.settings.config.lock().message_bytes_max;
                    let message = buffer[..n.min(bytes_max)].to_vec();
                    if self.messages.try_send((message, from.ip())).is_err() {
                        self.metrics.drop_lines("syslog_queue_full", 1);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a syslog datagram was not read");
                    tokio::time::sleep(GATHER).await;
                }
            }
        }
    }
}

/// What becomes of messages.
struct Consumer {
    pipe: SyslogPipe,
    receiver: Box<dyn LogReceiver>,
    options: Arc<SyslogOptions>,
}

async fn consume(settings: Arc<Settings>, mut waiting: mpsc::Receiver<Message>, stop: CancellationToken) {
    let mut current: Option<Consumer> = None;
    let (mut batch, mut is_over) = (Vec::new(), false);
    while !is_over {
        is_over = gather(&mut batch, &mut waiting, &stop).await;
        let next = settings.next.lock().take();
        if let Some(next) = next
            && let Some(mut last) = current.replace(next)
        {
            let held = last.pipe.finish(last.options.clock.now_nanos());
            deliver(last, held).await;
        }
        // There is one before the first message: whoever listens gives it.
        let Some(mut consumer) = current.take() else { continue };
        let now = consumer.options.clock.now_nanos();
        batch.drain(..).for_each(|(message, from): Message| consumer.pipe.push(&message, from, now));
        let out = if is_over { consumer.pipe.finish(now) } else { consumer.pipe.take(now) };
        current = Some(deliver(consumer, out).await);
    }
}

/// What comes within a moment; whether nothing follows.
async fn gather(batch: &mut Vec<Message>, waiting: &mut mpsc::Receiver<Message>, stop: &CancellationToken) -> bool {
    let until = Instant::now() + GATHER;
    let mut n_bytes = 0;
    while n_bytes < BATCH_BYTES {
        let next = tokio::select! {
            next = timeout_at(until, waiting.recv()) => next,
            () = stop.cancelled() => {
                // What was read from connections before is not lost with them.
                waiting.close();
                while let Ok(message) = waiting.try_recv() {
                    batch.push(message);
                }
                return true;
            }
        };
        match next {
            Ok(Some(message)) => {
                n_bytes += message.0.len();
                batch.push(message);
            }
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// Until it is taken, or the program stops.
async fn deliver(mut consumer: Consumer, batch: Vec<Outgoing>) -> Consumer {
    let batch = Arc::new(batch);
    let mut backoff = GATHER;
    while !batch.is_empty() {
        let streams = batch.clone();
        let done = tokio::task::spawn_blocking(move || {
            let delivered = consumer.receiver.deliver(&streams);
            (consumer, delivered)
        });
        let delivered;
        (consumer, delivered) = match done.await {
            Ok(done) => done,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let metrics = &consumer.options.metrics;
        let Err(error) = delivered else {
            let n: usize = batch.iter().map(|stream| stream.entries.len()).sum();
            metrics.delivered_entries.inc_by(n as u64);
            break;
        };
        metrics.failed_deliveries.inc();
        tracing::warn!(error, "syslog messages are not taken yet; tried again");
        if consumer.options.shutdown.run_until_cancelled(tokio::time::sleep(backoff)).await.is_none() {
            break;
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    consumer
}
