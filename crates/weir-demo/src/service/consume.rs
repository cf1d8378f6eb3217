//! The consumer that every stage shares: one worker per partition, order kept within it, positions kept
//! only for what is done, either at the broker or in a checkpoint file.
//!
//! Invariants: a position never passes a record that is not done; a partition that waits does not hold up others;
//! what waits in memory is bounded, since a full partition is paused at the broker.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use parking_lot::Mutex;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use serde_json::json;
use tokio::sync::mpsc;

use super::send::{Ack, Outgoing, Sender};
use super::{Shared, Task};
use crate::error::DemoError;
use crate::logs::{At, Level};
use crate::metrics::{Every, Topic, now_ms};
use crate::propagate;
use crate::telemetry::{messaging, position};
use crate::topology::{N_PARTITIONS, Role};

/// Records of one partition that wait in memory; it is paused when fewer than `ROOM_MIN` places are left.
const QUEUE: usize = 512;
const ROOM_MIN: usize = 64;
/// Records of one partition whose outputs wait for the broker.
const IN_FLIGHT: usize = 256;

/// A record as a handler sees it.
pub(crate) struct Record {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub payload: Vec<u8>,
    parent: Context,
    epoch: u64,
}

impl Record {
    pub fn at(&self) -> At<'_> {
        At { topic: &self.topic, partition: self.partition, offset: self.offset }
    }
}

/// Why a record is not done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It never will be: it goes to the dead-letter topic.
    Reject(String),
    /// It must not be passed over: it is tried again until it works or an operator skips it.
    Retry(String),
}

/// The work of one stage.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Works on one record under `span`; the acknowledgement may come later.
    fn handle(&self, record: &Record, span: &Context) -> impl Future<Output = Result<Ack, Failure>> + Send;
}

/// Starts reading the role's topic; ends when `shared.stop` is cancelled.
pub(crate) fn start<H: Handler>(
    shared: Shared,
    stage: &'static str,
    handler: impl Into<Arc<H>>,
) -> Result<Task, DemoError>
where
    Arc<H>: Send,
{
    let assignment = &shared.assignment;
    let role = assignment.instance.role;
    shared.metrics.start_errors(stage);
    let (topic, group) = assignment.topology.input(role).expect("consuming roles have an input");
    let (topic, group): (Arc<str>, String) = (topic.into(), group.to_owned());
    let epoch = Arc::new(AtomicU64::new(0));
    let consumer = make_consumer(&shared, &group, epoch.clone())?;
    let positions = if role == Role::Tracker {
        let path = assignment.topology.checkpoint_path();
        let checkpoint = Checkpoint::load(&path)?;
        let mut list = TopicPartitionList::new();
        for partition in 0..N_PARTITIONS {
            let offset = checkpoint.next.lock().get(&partition).map_or(Offset::Beginning, |o| Offset::Offset(*o));
            list.add_partition_offset(&topic, partition, offset)
                .map_err(DemoError::kafka("put a position on the list"))?;
        }
        consumer.assign(&list).map_err(DemoError::kafka("take partitions"))?;
        shared.controls.ready.store(true, Ordering::Relaxed);
        Positions::Checkpoint(checkpoint)
    } else {
        consumer.subscribe(&[&topic]).map_err(DemoError::kafka("subscribe"))?;
        Positions::Committed
    };
    let dead_letters = Sender::new(
        &assignment.topology.broker,
        &format!("{}-dead-letters", assignment.instance.pod),
        shared.telemetry.clone(),
    )?;
    let stage = Stage {
        handler: handler.into(),
        consumer,
        positions,
        stage,
        topic,
        group,
        dead_letters,
        epoch,
        seen: Every::default(),
        shared,
    };
    Ok(tokio::spawn(Arc::new(stage).run()))
}

fn make_consumer(shared: &Shared, group: &str, epoch: Arc<AtomicU64>) -> Result<StreamConsumer<Watch>, DemoError> {
    let watch = Watch { epoch, shared: shared.clone() };
    ClientConfig::new()
        .set("bootstrap.servers", &shared.assignment.topology.broker)
        .set("client.id", &shared.assignment.instance.pod)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        // Only what `Positions::done` stores is committed, four times a second.
        .set("enable.auto.offset.store", "false")
        .set("enable.auto.commit", if shared.assignment.instance.role == Role::Tracker { "false" } else { "true" })
        .set("auto.commit.interval.ms", "250")
        .set("session.timeout.ms", "6000")
        // A rebalance is noticed with the next heartbeat.
        .set("heartbeat.interval.ms", "200")
        .set("fetch.wait.max.ms", "250")
        .set("fetch.error.backoff.ms", "50")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("queued.max.messages.kbytes", "8192")
        .create_with_context(watch)
        .map_err(DemoError::kafka("make a Kafka consumer"))
}

/// Notices rebalances: what was fetched before one is no longer ours to work on.
struct Watch {
    epoch: Arc<AtomicU64>,
    shared: Shared,
}

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Revoke(_)) {
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
    }
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            self.shared.controls.ready.store(true, Ordering::Relaxed);
            let partitions: Vec<i32> = list.elements().iter().map(|e| e.partition()).collect();
            self.shared.logger.log(
                Level::Info,
                "partitions assigned",
                None,
                None,
                &[("partitions", json!(partitions))],
            );
        }
    }
}

enum Positions {
    Committed,
    Checkpoint(Checkpoint),
}

struct Stage<H> {
    handler: Arc<H>,
    consumer: StreamConsumer<Watch>,
    positions: Positions,
    stage: &'static str,
    topic: Arc<str>,
    group: String,
    dead_letters: Sender,
    epoch: Arc<AtomicU64>,
    seen: Every,
    shared: Shared,
}

/// A worker as the reader sees it.
struct Worker {
    queue: mpsc::Sender<Record>,
    paused: Arc<AtomicBool>,
    task: Task,
}

type Done = (i64, Result<(), String>);

impl<H: Handler> Stage<H> {
    async fn run(self: Arc<Self>) {
        let mut workers: HashMap<i32, Worker> = HashMap::new();
        let (resume, mut resumed) = mpsc::channel::<i32>(64);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut flush = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                _ = second.tick() => self.roll_second(&workers),
                _ = flush.tick() => self.flush(),
                Some(partition) = resumed.recv() => self.resume(&workers, partition),
                message = self.consumer.recv() => match message {
                    Ok(message) => {
                        let record = self.record(&message);
                        let worker = workers
                            .entry(record.partition)
                            .or_insert_with(|| self.clone().worker(record.partition, resume.clone()));
                        self.enqueue(worker, record).await;
                    }
                    Err(error) => tracing::debug!(%error, "reading from the broker"),
                },
            }
        }
        self.leave(workers).await;
    }

    /// Lets workers finish, keeps the positions and leaves the group.
    async fn leave(self: Arc<Self>, workers: HashMap<i32, Worker>) {
        // Whatever is queued and not begun belongs to the successor.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for (_, worker) in workers {
            drop(worker.queue);
            let mut task = worker.task;
            if tokio::time::timeout(Duration::from_millis(500), &mut task).await.is_err() {
                task.abort();
            }
        }
        let left = tokio::task::spawn_blocking(move || {
            self.flush();
            if matches!(self.positions, Positions::Committed) {
                let _ = self.consumer.commit_consumer_state(rdkafka::consumer::CommitMode::Sync);
                self.consumer.unsubscribe();
            }
        });
        let _ = left.await;
    }

    fn record(&self, message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
        Record {
            topic: self.topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or_else(now_ms),
            payload: message.payload().unwrap_or_default().to_vec(),
            parent: propagate::extract(message.headers()),
            epoch: self.epoch.load(Ordering::SeqCst),
        }
    }

    async fn enqueue(&self, worker: &Worker, record: Record) {
        let partition = record.partition;
        if worker.queue.capacity() <= ROOM_MIN
            && !worker.paused.swap(true, Ordering::SeqCst)
            && let Err(error) = self.one_partition(partition).and_then(|list| self.consumer.pause(&list))
        {
            tracing::warn!(%error, partition, "cannot pause a full partition");
        }
        // What librdkafka had handed out before the pause still fits into `ROOM_MIN`; were it full, reading waits.
        let _ = worker.queue.send(record).await;
    }

    fn resume(&self, workers: &HashMap<i32, Worker>, partition: i32) {
        let Some(worker) = workers.get(&partition) else { return };
        if worker.paused.swap(false, Ordering::SeqCst)
            && let Err(error) = self.one_partition(partition).and_then(|list| self.consumer.resume(&list))
        {
            tracing::warn!(%error, partition, "cannot resume a partition");
        }
    }

    fn one_partition(&self, partition: i32) -> rdkafka::error::KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        Ok(list)
    }

    fn roll_second(&self, workers: &HashMap<i32, Worker>) {
        self.shared.metrics.roll_second(&self.topic, self.stage);
        let depth: usize = workers.values().map(|w| QUEUE - w.queue.capacity()).sum();
        let label = Topic { topic: self.topic.to_string() };
        self.shared.metrics.queue_depth.get_or_create(&label).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    fn flush(&self) {
        if let Positions::Checkpoint(checkpoint) = &self.positions
            && let Err(error) = checkpoint.save()
        {
            self.shared.logger.log(Level::Error, &format!("checkpoint not written: {error}"), None, None, &[]);
        }
    }

    fn worker(self: Arc<Self>, partition: i32, resume: mpsc::Sender<i32>) -> Worker {
        let (queue, records) = mpsc::channel(QUEUE);
        let paused = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(self.work(partition, records, paused.clone(), resume));
        Worker { queue, paused, task }
    }

    async fn work(
        self: Arc<Self>,
        partition: i32,
        mut records: mpsc::Receiver<Record>,
        paused: Arc<AtomicBool>,
        resume: mpsc::Sender<i32>,
    ) {
        let mut acks = FuturesOrdered::new();
        loop {
            if paused.load(Ordering::SeqCst) && records.len() < QUEUE / 4 {
                let _ = resume.try_send(partition);
            }
            tokio::select! {
                biased;
                Some(done) = acks.next() => self.done(partition, done),
                record = records.recv(), if acks.len() < IN_FLIGHT => {
                    let Some(record) = record else { break };
                    if record.epoch != self.epoch.load(Ordering::SeqCst) {
                        continue;
                    }
                    let ack = self.process(&record, &mut acks).await;
                    let offset = record.offset;
                    acks.push_back(Box::pin(async move { (offset, ack.await) })
                        as futures_util::future::BoxFuture<'static, Done>);
                }
            }
        }
        while let Some(done) = acks.next().await {
            self.done(partition, done);
        }
    }

    /// Works on one record until it is done, dead or skipped. Acknowledgements of earlier ones go on meanwhile.
    async fn process(
        &self,
        record: &Record,
        acks: &mut FuturesOrdered<futures_util::future::BoxFuture<'static, Done>>,
    ) -> Ack {
        let mut attributes = messaging(&self.topic, "process");
        attributes.push(KeyValue::new("messaging.operation.name", "process"));
        attributes.push(KeyValue::new("messaging.consumer.group.name", self.group.clone()));
        attributes.extend(position(record.partition, record.offset));
        let telemetry = &self.shared.telemetry;
        let context =
            telemetry.start_span(format!("process {}", self.topic), SpanKind::Consumer, attributes, &record.parent);
        let begun = Instant::now();
        let age = Duration::from_millis(u64::try_from(now_ms() - record.timestamp_ms).unwrap_or(0));
        let mut n_tries = 0u32;
        let ack = loop {
            match self.handler.handle(record, &context).await {
                Ok(ack) => break ack,
                Err(Failure::Reject(why)) => break self.reject(record, &context, &why),
                Err(Failure::Retry(why)) => {
                    n_tries += 1;
                    if self.shared.controls.take_skip(record.partition) {
                        self.log(Level::Warn, "record skipped by an operator", record, &context);
                        break self.reject(record, &context, &why);
                    }
                    if n_tries.is_power_of_two() || n_tries.is_multiple_of(16) {
                        self.log(Level::Warn, &format!("{why}; trying again"), record, &context);
                    }
                    let pause = Duration::from_millis(u64::from(100 * n_tries.min(5)));
                    self.wait(record.partition, pause, acks).await;
                }
            }
        };
        self.shared.metrics.observe(self.stage, age, begun.elapsed());
        if self.seen.nth(40) {
            self.log(Level::Info, "record processed", record, &context);
        }
        context.span().end();
        ack
    }

    async fn wait(
        &self,
        partition: i32,
        pause: Duration,
        acks: &mut FuturesOrdered<futures_util::future::BoxFuture<'static, Done>>,
    ) {
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                Some(done) = acks.next() => self.done(partition, done),
            }
        }
    }

    fn log(&self, level: Level, message: &str, record: &Record, context: &Context) {
        self.shared.logger.log(level, message, Some(context), Some(record.at()), &[]);
    }

    /// Counts the error, marks the span and puts the record aside.
    fn reject(&self, record: &Record, context: &Context, why: &str) -> Ack {
        self.shared.metrics.error(self.stage);
        self.shared.metrics.dead_letters.inc();
        self.log(Level::Error, why, record, context);
        let span = context.span();
        span.set_attribute(KeyValue::new("error.type", "rejected"));
        span.set_status(Status::error(why.to_owned()));
        let outgoing = Outgoing {
            topic: &self.shared.assignment.topology.names.topic_dead,
            partition: record.partition,
            key: self.stage,
            payload: &record.payload,
        };
        self.dead_letters.send(outgoing, context, Vec::new())
    }

    fn done(&self, partition: i32, (offset, result): Done) {
        if let Err(why) = result {
            self.shared.metrics.error(self.stage);
            let at = At { topic: &self.topic, partition, offset };
            self.shared.logger.log(Level::Error, &format!("output lost: {why}"), None, Some(at), &[]);
        }
        match &self.positions {
            Positions::Committed => {
                // Fails when the partition was taken away meanwhile; its new owner does the record again.
                if let Err(error) = self.consumer.store_offset(&self.topic, partition, offset) {
                    tracing::debug!(%error, partition, offset, "position not stored");
                }
            }
            Positions::Checkpoint(checkpoint) => checkpoint.set(partition, offset + 1),
        }
    }
}

/// Next offset per partition, in a file of our own that is replaced as a whole.
struct Checkpoint {
    path: PathBuf,
    next: Mutex<BTreeMap<i32, i64>>,
    changed: AtomicBool,
}

impl Checkpoint {
    fn load(path: &Path) -> Result<Self, DemoError> {
        let next = match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|e| DemoError::io(format!("read the checkpoint {}", path.display()))(e.into()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(DemoError::io(format!("read the checkpoint {}", path.display()))(error)),
        };
        Ok(Self { path: path.to_owned(), next: Mutex::new(next), changed: AtomicBool::new(false) })
    }

    fn set(&self, partition: i32, next: i64) {
        self.next.lock().insert(partition, next);
        self.changed.store(true, Ordering::SeqCst);
    }

    fn save(&self) -> std::io::Result<()> {
        if !self.changed.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_vec(&*self.next.lock())?;
        let new = self.path.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/positions.json");
        let checkpoint = Checkpoint::load(&path).unwrap();
        checkpoint.set(3, 17);
        checkpoint.set(0, 4);
        checkpoint.set(3, 18);
        checkpoint.save().unwrap();
        let again = Checkpoint::load(&path).unwrap();
        assert_eq!(*again.next.lock(), BTreeMap::from([(0, 4), (3, 18)]));
    }

    #[test]
    fn a_torn_checkpoint_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("positions.json");
        std::fs::write(&path, "{\"0\":1").unwrap();
        assert!(Checkpoint::load(&path).is_err());
    }
}
