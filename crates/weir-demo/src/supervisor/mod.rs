//! `weir demo`: broker, weir and pipeline as real processes, started in order, kept running, broken on demand.

mod act;
mod child;
mod config;
mod control;
mod fans;
mod fault;
mod logship;
mod pods;
mod usage;

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, BrokerOptions};
use crate::database;
use crate::error::DemoError;
use crate::naming::Names;
use crate::pager::{Page, Pager};
use crate::topology::{Instance, N_PARTITIONS, Role, Topology};

use child::{Child, Start};
use control::Door;
use logship::LogShipper;
use pods::Pods;

pub use config::RULES;
pub use fault::{BLOCKABLE, DEPLOYABLE, Fault, FaultView, Thing, Truth, WITH_INDEX};
pub(crate) use pods::STANDING_BY;
pub use usage::ProcessUsage;

/// Simulated fans, spread over the leagues.
const N_FANS: usize = 12;

/// How a demo is started.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    pub names: Names,
    /// The `weir` program, which is also every process of the pipeline.
    pub program: PathBuf,
    /// Emptied of an earlier demo's files.
    pub data_dir: PathBuf,
    /// Over all producers.
    pub events_per_second: f64,
    /// Share of traces recorded.
    pub trace_ratio: f64,
    /// Rows of each table that is looked up by key; a scan of them is what a dropped index costs.
    pub n_rows: usize,
    pub kafka_listen: SocketAddr,
    /// `None` runs the pipeline without weir.
    pub weir: Option<WeirOptions>,
}

/// Addresses of the weir that watches the pipeline.
#[derive(Clone, Debug)]
pub struct WeirOptions {
    pub listen: String,
    pub otlp_grpc_listen: String,
    pub otlp_http_listen: String,
    pub external_url: Option<String>,
}

impl Default for WeirOptions {
    fn default() -> Self {
        let any = || "127.0.0.1:0".to_owned();
        Self { listen: any(), otlp_grpc_listen: any(), otlp_http_listen: any(), external_url: None }
    }
}

impl DemoOptions {
    pub fn new(program: PathBuf, data_dir: PathBuf) -> Self {
        Self {
            names: Names::standard(),
            program,
            data_dir,
            events_per_second: 300.0,
            trace_ratio: 1.0,
            // A scan of this many rows takes some 25 to 60 ms, and every process looks up 75 times a second or more.
            n_rows: 800_000,
            kafka_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            weir: Some(WeirOptions::default()),
        }
    }
}

/// What is broken, and how to undo it.
struct Active {
    since_ms: i64,
    undo: Undo,
}

#[derive(Clone)]
enum Undo {
    Nothing,
    CreateIndex,
    Skip(i32),
    RollBack(String),
    UsualRate,
}

/// A running demo. Dropping it kills its processes; [`Demo::stop`] ends them in order.
pub struct Demo {
    topology: Arc<Topology>,
    pods: Pods,
    pager: Arc<Pager>,
    weir_url: Option<String>,
    weir: tokio::sync::Mutex<Option<Child>>,
    client: reqwest::Client,
    active: Mutex<HashMap<Fault, Active>>,
    acting: tokio::sync::Mutex<()>,
    n_received: Arc<AtomicU64>,
    door: Door,
    stop: CancellationToken,
}

impl Demo {
    /// Starts everything and returns when events flow.
    pub async fn start(options: DemoOptions) -> Result<Arc<Self>, DemoError> {
        let stop = CancellationToken::new();
        let ended_early = stop.clone().drop_guard();
        let folder = &options.data_dir;
        std::fs::create_dir_all(folder).map_err(DemoError::io(format!("make {}", folder.display())))?;
        let broker = start_broker(&options, stop.clone()).await?;
        let mut topology = lay_out(&options, broker)?;
        let _ = std::fs::remove_file(topology.checkpoint_path());
        // What an earlier demo stored is about processes that are gone.
        let _ = std::fs::remove_dir_all(weir_data_dir(&topology));
        create_databases(&topology).await?;

        let door = Door { pager: Arc::default(), demo: Arc::default() };
        let control_url = start_control(&door, stop.clone()).await?;
        let client = crate::http::client(Duration::from_secs(10))?;
        let (mut weir, mut weir_url, mut shipper) = (None, None, None);
        if let Some(wanted) = &options.weir {
            let files = config::write(&topology, &format!("{control_url}/v2/enqueue"))?;
            let (child, ready) = start_weir(&options, wanted, &topology, &files, &control_url).await?;
            topology.otlp = Some(format!("http://{}", ready.otlp_grpc));
            let namespace = topology.names.namespace.clone();
            shipper = Some(LogShipper::start(ready.url.clone(), namespace, client.clone()));
            (weir, weir_url) = (Some(child), Some(ready.url));
        }
        let file = folder.join("topology.json");
        topology.save(&file)?;
        let topology = Arc::new(topology);
        let pods = Pods::new(topology.clone(), file, options.program.clone(), shipper, client.clone());
        let n_received = Arc::new(AtomicU64::new(0));
        start_pipeline(&topology, &pods, &n_received, &stop).await?;
        let demo = Arc::new(Self {
            topology,
            pods,
            pager: door.pager.clone(),
            weir_url,
            weir: tokio::sync::Mutex::new(weir),
            client,
            active: Mutex::default(),
            acting: tokio::sync::Mutex::default(),
            n_received,
            door,
            stop: ended_early.disarm(),
        });
        *demo.door.demo.lock() = Some(demo.clone());
        tokio::spawn(demo.clone().keep_running());
        Ok(demo)
    }

    /// Where the page is; `None` without weir.
    pub fn url(&self) -> Option<&str> {
        self.weir_url.as_deref()
    }

    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Newest first.
    pub fn pages(&self) -> Vec<Page> {
        self.pager.pages()
    }

    /// Messages that fans have got so far.
    pub fn n_received(&self) -> u64 {
        self.n_received.load(Ordering::Relaxed)
    }

    /// Every process with what it has used; the supervisor with the broker counts as `demo`.
    pub async fn usage(&self) -> Vec<ProcessUsage> {
        let mut pids = self.pods.pids().await;
        pids.push(("demo".to_owned(), std::process::id()));
        if let Some(pid) = self.weir.lock().await.as_ref().and_then(|w| w.pid) {
            pids.push(("weir".to_owned(), pid));
        }
        pids.iter().filter_map(|(name, pid)| usage::read(name, *pid)).collect()
    }

    /// Ends with an error when weir does.
    pub async fn watch(&self) -> DemoError {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if let Some(weir) = self.weir.lock().await.as_mut()
                && let Some(status) = weir.ended()
            {
                return weir.end_error(status);
            }
        }
    }

    async fn keep_running(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
            self.pods.revive().await;
        }
    }

    /// Ends all processes in order: the pipeline, weir, the broker.
    pub async fn stop(&self) {
        self.door.demo.lock().take();
        let _nothing_else = self.acting.lock().await;
        self.pods.stop().await;
        if let Some(weir) = self.weir.lock().await.take() {
            weir.stop(Duration::from_secs(5)).await;
        }
        self.stop.cancel();
    }
}

async fn start_broker(options: &DemoOptions, stop: CancellationToken) -> Result<SocketAddr, DemoError> {
    let topics = options.names.topics().map(|t| (t.to_owned(), N_PARTITIONS)).to_vec();
    let broker_options = BrokerOptions { listen: options.kafka_listen, topics, ..BrokerOptions::default() };
    let broker =
        Broker::bind(broker_options).await.map_err(DemoError::io(format!("listen on {}", options.kafka_listen)))?;
    let address = broker.local_addr();
    tokio::spawn(broker.run(stop));
    Ok(address)
}

/// Gives every process its pod name and a free port.
fn lay_out(options: &DemoOptions, broker: SocketAddr) -> Result<Topology, DemoError> {
    let n: usize = Role::ALL.iter().map(|r| r.n_instances()).sum();
    let ports = free_ports(n).map_err(DemoError::io("find free ports"))?;
    let mut ports = ports.into_iter();
    let mut instances = Vec::new();
    for role in Role::ALL {
        for ordinal in 0..role.n_instances() {
            let pod = format!("{}-{ordinal}", options.names.service(role));
            let port = ports.next().expect("as many ports as processes");
            instances.push(Instance { role, ordinal, pod, port });
        }
    }
    Ok(Topology {
        names: options.names.clone(),
        instances,
        broker: broker.to_string(),
        otlp: None,
        data_dir: std::path::absolute(&options.data_dir).map_err(DemoError::io("find the data folder"))?,
        events_per_second: options.events_per_second,
        trace_ratio: options.trace_ratio,
        n_rows: options.n_rows,
    })
}

/// Ports that were free a moment ago; all are held at once so that they differ.
fn free_ports(n: usize) -> std::io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..n).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect()
}

async fn create_databases(topology: &Topology) -> Result<(), DemoError> {
    let names = topology.names.clone();
    let (players, matches) = (topology.database_path(Role::Enricher), topology.database_path(Role::Sink));
    let n_rows = topology.n_rows;
    let make = move || -> rusqlite::Result<()> {
        for path in [&players, &matches] {
            remove_database(path);
        }
        let register = database::open(&players)?;
        database::create_players(&register, &names.players_table, &names.players_key, n_rows)?;
        let store = database::open(&matches)?;
        database::create_matches(&store, &names.matches_table, &names.matches_key, n_rows)
    };
    tokio::task::spawn_blocking(make).await?.map_err(DemoError::database("make the databases"))
}

/// With SQLite's side files, if there.
fn remove_database(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

async fn start_control(door: &Door, stop: CancellationToken) -> Result<String, DemoError> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(DemoError::io("listen for the demo's control"))?;
    let address = listener.local_addr().map_err(DemoError::io("listen for the demo's control"))?;
    let app = control::router(door.clone());
    tokio::spawn(async move {
        let serving = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::warn!(%error, "the demo's control ended");
        }
    });
    Ok(format!("http://{address}"))
}

/// What weir says when it listens.
#[derive(Debug, PartialEq)]
struct Ready {
    url: String,
    otlp_grpc: String,
}

impl Ready {
    /// `weir ready <url> otlp-grpc=<address> otlp-http=<address>`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("weir ready ")?.split_ascii_whitespace();
        let url = words.next()?.to_owned();
        let otlp_grpc = words.find_map(|w| w.strip_prefix("otlp-grpc="))?.to_owned();
        Some(Self { url, otlp_grpc })
    }
}

fn weir_data_dir(topology: &Topology) -> PathBuf {
    topology.data_dir.join("weir")
}

async fn start_weir(
    options: &DemoOptions,
    wanted: &WeirOptions,
    topology: &Topology,
    files: &config::ConfigFiles,
    control_url: &str,
) -> Result<(Child, Ready), DemoError> {
    let mut args: Vec<OsString> = vec!["serve".into(), "--exit-with-stdin".into()];
    let mut give = |flag: &str, value: OsString| args.extend([flag.into(), value]);
    give("--listen", wanted.listen.clone().into());
    give("--otlp-grpc-listen", wanted.otlp_grpc_listen.clone().into());
    give("--otlp-http-listen", wanted.otlp_http_listen.clone().into());
    give("--prometheus-config", files.prometheus.clone().into());
    give("--alertmanager-config", files.alertmanager.clone().into());
    give("--kafka", format!("{}={}", topology.names.cluster, topology.broker).into());
    give("--demo-control", control_url.into());
    give("--data-dir", weir_data_dir(topology).into());
    // With broker and pipeline the whole stays under 1.5 GiB.
    give("--memory-limit", "640MiB".into());
    if let Some(url) = &wanted.external_url {
        give("--web.external-url", url.into());
    }
    let start =
        Start { name: "weir", program: &options.program, args, low_priority: false, logs_dir: &topology.data_dir };
    let (sender, mut lines) = tokio::sync::mpsc::channel(64);
    let mut child = Child::start(start, move |line| {
        let _ = sender.try_send(line);
    })?;
    let patience = Duration::from_secs(30);
    let ready = async {
        while let Some(line) = lines.recv().await {
            if let Some(ready) = Ready::parse(&line) {
                return Some(ready);
            }
        }
        None
    };
    match tokio::time::timeout(patience, ready).await {
        Ok(Some(ready)) => Ok((child, ready)),
        Ok(None) => {
            // Its output is closed; its status follows at once.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let error = child.ended().map(|status| child.end_error(status));
            Err(error.unwrap_or(DemoError::NotReady { what: "weir".into(), seconds: 0, last: "no output".into() }))
        }
        Err(_) => Err(DemoError::NotReady {
            what: "weir".into(),
            seconds: patience.as_secs(),
            last: "it has not said that it listens".into(),
        }),
    }
}

/// From the end of the pipeline to its start, so that the first event already finds everybody there.
async fn start_pipeline(
    topology: &Topology,
    pods: &Pods,
    n_received: &Arc<AtomicU64>,
    stop: &CancellationToken,
) -> Result<(), DemoError> {
    let consumers = Role::ALL.into_iter().filter(|r| *r != Role::Producer);
    let starts = consumers.map(|role| pods.start_role(role, topology.names.releases(role).first()));
    futures_util::future::try_join_all(starts).await?;
    let delivery = topology.instances_of(Role::Delivery).next().expect("there is one delivery process");
    fans::start(N_FANS, delivery.port, &topology.names.leagues, n_received.clone(), stop);
    pods.start_role(Role::Producer, topology.names.releases(Role::Producer).first()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read() {
        let line = "weir ready http://127.0.0.1:9090 otlp-grpc=127.0.0.1:4317 otlp-http=127.0.0.1:4318";
        let want = Ready { url: "http://127.0.0.1:9090".into(), otlp_grpc: "127.0.0.1:4317".into() };
        assert_eq!(Ready::parse(line), Some(want));
        assert_eq!(Ready::parse("INFO weir ready soon"), None);
    }

    #[test]
    fn ports_differ() {
        let ports = free_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<std::collections::HashSet<_>>().len(), 20);
    }
}
