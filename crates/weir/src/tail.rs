//! Follows log files: does what `weir_collect::logs::Tailer` asks for, on a thread of its own, as files,
//! the disk and the store may all be waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use weir_collect::logs::push::{self, PushClient};
use weir_collect::logs::{
    Effect, Input, LogDiscovery, LogMetrics, LogTargets, OsFiles, Outgoing, PositionsConfig, PromtailConfig, Tailer,
    TailerOptions,
};
use weir_collect::remote::Verdict;
use weir_ingest::{Ingest, Protocol, SenderRef};
use weir_model::{Clock, Labels, LogEntry, TenantId};
use weir_wal::{Dir, DirErrorKind, OsDir};

use crate::syslog::{Syslog, SyslogOptions};

/// How long changes of discovery gather before files follow them.
const GATHER: Duration = Duration::from_millis(200);
/// Of the positions in the data folder.
const POSITIONS: &str = "log-positions.json";

/// Takes what was read from files.
pub trait LogReceiver: Send {
    /// What a configuration says about receivers.
    fn configure(&mut self, config: &PromtailConfig) -> Result<(), String>;
    /// All of it, or an error, and then it comes again as it was.
    fn deliver(&mut self, streams: &[Outgoing]) -> Result<(), String>;
}

pub type Receivers = Arc<dyn Fn() -> Box<dyn LogReceiver> + Send + Sync>;

/// What the loop works with.
pub struct TailOptions {
    /// Where positions are kept unless the configuration says otherwise.
    pub data: Arc<dyn Dir>,
    /// Makes a receiver, for files and for each listener.
    pub receivers: Receivers,
    /// Listen for syslog off loopback.
    pub insecure_open: bool,
    pub clock: Arc<dyn Clock>,
    pub shutdown: CancellationToken,
    pub metrics: LogMetrics,
}

/// Handle of the loop, which begins with the first configuration. Cheap to clone.
#[derive(Clone)]
pub struct Tail(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    config: Mutex<Option<Arc<PromtailConfig>>>,
    discovery: LogDiscovery,
    syslog: Syslog,
    receivers: Receivers,
    shutdown: CancellationToken,
    host: String,
}

enum State {
    /// Nothing to follow so far.
    New(Option<TailOptions>),
    Running(Sender<Arc<Followed>>),
}

/// What is followed: again when the configuration changes, or what its sources know.
struct Followed {
    config: Arc<PromtailConfig>,
    targets: LogTargets,
}

impl Tail {
    pub fn new(options: TailOptions) -> Self {
        Self(Arc::new(Shared {
            shutdown: options.shutdown.clone(),
            receivers: options.receivers.clone(),
            syslog: Syslog::new(SyslogOptions {
                clock: options.clock.clone(),
                shutdown: options.shutdown.clone(),
                metrics: options.metrics.clone(),
                insecure_open: options.insecure_open,
            }),
            state: Mutex::new(State::New(Some(options))),
            config: Mutex::default(),
            discovery: LogDiscovery::default(),
            host: host(),
        }))
    }

    /// Follows what the configuration names from now on. Where positions are kept is decided by the first one.
    pub fn apply(&self, config: PromtailConfig) -> anyhow::Result<()> {
        let config = Arc::new(config);
        self.start(&config)?;
        let receiver = || {
            let mut receiver = (self.0.receivers)();
            receiver.configure(&config).map(|()| receiver)
        };
        self.0.syslog.apply(&config, &receiver)?;
        for watch in self.0.discovery.apply(&config, &self.0.host, &self.0.shutdown) {
            tokio::spawn(watch);
        }
        *self.0.config.lock() = Some(config);
        self.refresh()
    }

    /// The first time: the thread that follows files, and the task that hears of changes.
    fn start(&self, config: &PromtailConfig) -> anyhow::Result<()> {
        let mut state = self.0.state.lock();
        let State::New(options) = &mut *state else { return Ok(()) };
        let (dir, name) = positions_dir(&config.positions, options.as_ref())?;
        let (tailer, options) = match options.take() {
            Some(options) => (open(&*dir, &name, config, options.metrics.clone()), options),
            None => anyhow::bail!("log files could not be followed before; start weir again"),
        };
        let (sender, changes) = channel();
        let receiver = (options.receivers)();
        let running = Loop { tailer: tailer?, dir, name, receiver, options, changes, is_save_failing: false };
        let handle = tokio::runtime::Handle::current();
        let run = move || {
            // Whoever hears of stored lines may start tasks.
            let _runtime = handle.enter();
            running.run();
        };
        std::thread::Builder::new()
            .name("tail".to_owned())
            .spawn(run)
            .context("start the thread that follows files")?;
        tokio::spawn(self.clone().follow_changes());
        *state = State::Running(sender);
        Ok(())
    }

    async fn follow_changes(self) {
        while self.0.shutdown.run_until_cancelled(self.0.discovery.changed()).await.is_some() {
            // Changes come in bursts.
            tokio::time::sleep(GATHER).await;
            if self.refresh().is_err() {
                return;
            }
        }
    }

    fn refresh(&self) -> anyhow::Result<()> {
        let Some(config) = self.0.config.lock().clone() else { return Ok(()) };
        let targets = self.0.discovery.targets(&config, &self.0.host);
        match &*self.0.state.lock() {
            State::Running(sender) => {
                let followed = Arc::new(Followed { config, targets });
                sender.send(followed).ok().context("the thread that follows files has ended")
            }
            State::New(_) => Ok(()),
        }
    }
}

/// The folder and name that positions are written to. Promtail's own file is read, and left as it is.
fn positions_dir(config: &PositionsConfig, options: Option<&TailOptions>) -> anyhow::Result<(Arc<dyn Dir>, String)> {
    let Some(path) = &config.filename else {
        let data = options.map(|options| options.data.clone()).context("no data folder")?;
        return Ok((data, POSITIONS.to_owned()));
    };
    let cannot = || format!("positions.filename {}", path.display());
    let name = path.file_name().and_then(|name| name.to_str()).with_context(cannot)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = OsDir::open(folder).with_context(cannot)?;
    Ok((Arc::new(dir), format!("{name}.weir")))
}

fn open(dir: &dyn Dir, name: &str, config: &PromtailConfig, metrics: LogMetrics) -> anyhow::Result<Tailer> {
    let saved = match dir.read(name) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind == DirErrorKind::NotFound => None,
        Err(error) => return Err(error).context("read the positions of log files"),
    };
    let make = |saved: Option<&[u8]>| Tailer::new(saved, options(config), metrics.clone());
    let mut tailer = match make(saved.as_deref()) {
        Ok(tailer) => tailer,
        Err(error) if config.positions.ignores_invalid => {
            tracing::warn!(error, name, "the positions of log files cannot be read and count as none");
            make(None).map_err(anyhow::Error::msg)?
        }
        Err(error) => anyhow::bail!(
            "{name}: the positions of log files cannot be read: {error}; remove the file to read all files from their start"
        ),
    };
    if let (None, Some(path)) = (&saved, &config.positions.filename)
        && let Ok(text) = std::fs::read_to_string(path)
    {
        tailer.import(&text).map_err(anyhow::Error::msg).with_context(|| PathBuf::from(path).display().to_string())?;
        tracing::info!(path = %path.display(), "goes on where Promtail stood");
    }
    Ok(tailer)
}

struct Loop {
    tailer: Tailer,
    dir: Arc<dyn Dir>,
    name: String,
    receiver: Box<dyn LogReceiver>,
    options: TailOptions,
    changes: Receiver<Arc<Followed>>,
    is_save_failing: bool,
}

impl Loop {
    fn run(mut self) {
        let mut input = Input::Tick;
        while !self.options.shutdown.is_cancelled() {
            let now = self.options.clock.now_nanos();
            input = match self.tailer.step(input, now, &OsFiles) {
                Effect::Save(bytes) => Input::Saved { is_ok: self.save(&bytes) },
                Effect::Deliver(streams) => match self.receiver.deliver(&streams) {
                    Ok(()) => Input::Delivered,
                    Err(error) => {
                        self.options.metrics.failed_deliveries.inc();
                        tracing::warn!(error, "lines of files are not taken yet; tried again");
                        Input::Failed
                    }
                },
                Effect::Wait(wait) => {
                    match self.changes.recv_timeout(wait) {
                        Ok(followed) => self.follow(&followed),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                    Input::Tick
                }
            };
        }
        let last = self.tailer.checkpoint(self.options.clock.now_nanos());
        self.save(&last);
    }

    fn follow(&mut self, followed: &Followed) {
        let Followed { config, targets } = followed;
        for why in &targets.dropped {
            tracing::debug!("not followed: {why}");
        }
        tracing::info!(n_targets = targets.active.len(), n_dropped = targets.dropped.len(), "follows log files");
        if let Err(error) = self.receiver.configure(config) {
            tracing::error!(error, "the receivers of log lines stay as they were");
        }
        self.tailer.set_options(options(config));
        self.tailer.set_targets(targets.active.clone(), self.options.clock.now_nanos());
    }

    fn save(&mut self, bytes: &[u8]) -> bool {
        let saved = self.dir.replace(&self.name, bytes);
        if let Err(error) = &saved {
            self.options.metrics.failed_saves.inc();
            if !self.is_save_failing {
                tracing::error!(%error, "positions of log files are not written: after a crash some lines come twice");
            }
        }
        self.is_save_failing = saved.is_err();
        saved.is_ok()
    }
}

/// Of the files that the process may open, half are for everything else.
fn options(config: &PromtailConfig) -> TailerOptions {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open_files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft: Option<usize> = open_files.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let files_max = soft.map_or(config.tailer.files_max, |soft| config.tailer.files_max.min(soft / 2));
    TailerOptions { files_max, ..config.tailer }
}

/// As Promtail names this machine.
fn host() -> String {
    let given = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let own = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    given.or_else(own).unwrap_or_default()
}

/// Lines go into the store, by the way that pushed ones take.
pub struct IntoStore {
    ingest: Arc<Ingest>,
    tenant: TenantId,
    external: Labels,
    metrics: LogMetrics,
}

impl IntoStore {
    pub fn new(ingest: Arc<Ingest>, metrics: LogMetrics) -> Self {
        Self { ingest, tenant: TenantId::anonymous(), external: Labels::empty(), metrics }
    }
}

impl LogReceiver for IntoStore {
    fn configure(&mut self, config: &PromtailConfig) -> Result<(), String> {
        if config.clients.len() > 1 {
            tracing::warn!("clients: lines are stored here, with labels and tenant of the first client");
        }
        let first = config.clients.first();
        self.tenant = first.and_then(|client| client.tenant.clone()).unwrap_or_else(TenantId::anonymous);
        self.external = first.map_or_else(Labels::empty, |client| client.external_labels.clone());
        Ok(())
    }

    fn deliver(&mut self, streams: &[Outgoing]) -> Result<(), String> {
        let sender = SenderRef::new(Protocol::Tail, "files", "weir");
        for (tenant, streams) in by_tenant(streams, &self.tenant, &self.external, &self.metrics) {
            let streams = streams.iter().map(|(labels, entries)| (labels, *entries));
            let decoded = weir_ingest::loki::collected(streams, self.ingest.limits(), &self.ingest.stream_cache);
            self.ingest.write_logs(&tenant, &sender, decoded).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// Lines go to every receiver that the configuration names. One that is away holds the others back, and what is
/// read waits in its files.
pub struct IntoLoki {
    clients: Vec<PushClient>,
    runtime: tokio::runtime::Handle,
    metrics: LogMetrics,
    /// Clients that took the batch that is under way.
    n_done: usize,
}

impl IntoLoki {
    pub fn new(runtime: tokio::runtime::Handle, metrics: LogMetrics) -> Self {
        Self { clients: Vec::new(), runtime, metrics, n_done: 0 }
    }
}

impl LogReceiver for IntoLoki {
    fn configure(&mut self, config: &PromtailConfig) -> Result<(), String> {
        // Whenever targets change this is said again.
        if self.clients.iter().map(PushClient::config).eq(&config.clients) {
            return Ok(());
        }
        let clients: Result<Vec<_>, String> = config.clients.iter().cloned().map(PushClient::new).collect();
        (self.clients, self.n_done) = (clients?, 0);
        Ok(())
    }

    fn deliver(&mut self, streams: &[Outgoing]) -> Result<(), String> {
        for client in self.clients.iter().skip(self.n_done) {
            let config = client.config();
            let tenant = config.tenant.clone().unwrap_or_else(TenantId::anonymous);
            for (tenant, streams) in by_tenant(streams, &tenant, &config.external_labels, &self.metrics) {
                let body = push::encode(streams.iter().map(|(labels, entries)| (labels, *entries)));
                match self.runtime.block_on(client.send(&tenant, &body)) {
                    Verdict::Taken => {}
                    Verdict::Again { why, .. } => return Err(format!("{}: {why}", config.url)),
                    Verdict::Refused(why) => {
                        let n = streams.iter().map(|(_, entries)| entries.len()).sum();
                        self.metrics.drop_lines("refused_by_receiver", n);
                        tracing::error!(url = %config.url, n, why, "lines were refused for good and are lost");
                    }
                }
            }
            self.n_done += 1;
        }
        self.n_done = 0;
        Ok(())
    }
}

type Streams<'a> = Vec<(Labels, &'a [LogEntry])>;

/// Streams with the labels of a client, which those of the line win over.
fn by_tenant<'a>(
    streams: &'a [Outgoing],
    default: &TenantId,
    external: &Labels,
    metrics: &LogMetrics,
) -> Vec<(TenantId, Streams<'a>)> {
    let mut out: Vec<(TenantId, Streams<'a>)> = Vec::new();
    for stream in streams {
        let tenant = match stream.tenant.as_deref().map(TenantId::parse) {
            None => default.clone(),
            Some(Ok(tenant)) => tenant,
            Some(Err(error)) => {
                tracing::warn!(%error, "lines of a tenant with a bad name are dropped");
                metrics.drop_lines("bad_tenant", stream.entries.len());
                continue;
            }
        };
        let mut labels = stream.labels.to_builder();
        for label in external.iter().filter(|label| stream.labels.get(&label.name).is_none()) {
            labels.set(label.name.clone(), label.value.clone());
        }
        let stream = (labels.build(), &*stream.entries);
        match out.iter_mut().find(|(known, _)| *known == tenant) {
            Some((_, streams)) => streams.push(stream),
            None => out.push((tenant, vec![stream])),
        }
    }
    out
}
