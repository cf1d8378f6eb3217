//! Pipelines at work: a request through its processors to the exporters, and what becomes due with time.
//!
//! No thread, no clock, no network: time is handed in, and so is what exports ([`Export`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use parking_lot::Mutex;
use weir_model::sink::WriteError;
use weir_model::{Budget, Nanos, TenantId};
use weir_wal::{Dir, SyncMode};

use crate::batch::{BatchConfig, Batcher};
use crate::config::{CollectorConfig, ComponentId, ExporterConfig, ProcessorConfig, Target};
use crate::connect::{Connector, Outcomes};
use crate::data::{Data, Signal};
use crate::kube::Pods;
use crate::limiter::LimiterConfig;
use crate::ottl::EvalError;
use crate::process::Stateless;
use crate::tail::{TailError, TailSampling, TailStats};

/// Why a request is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The sender should try again.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An expression failed whose `error_mode` is propagate: it would fail again.
    #[error("the Collector's configuration refuses this batch: {0}")]
    Expression(#[from] EvalError),
}

impl From<TailError> for Refusal {
    fn from(error: TailError) -> Self {
        Self::Write(error.into())
    }
}

/// Takes a batch to an exporter. `Ok` means that it is stored, or in the exporter's queue.
pub trait Export: Sync {
    fn export(&self, exporter: &ComponentId, tenant: &TenantId, data: Data) -> Result<(), WriteError>;
}

/// What pipelines need of their surroundings.
pub struct Surroundings<'a> {
    pub dir: Arc<dyn Dir>,
    /// Folder of what waits, below which each processor has its own.
    pub folder: &'a str,
    pub sync: SyncMode,
    /// For what waits.
    pub budget: &'a Budget,
    /// Of the whole program, which `memory_limiter` watches.
    pub memory: Budget,
    /// Exporters that write at once: what goes there is not gathered into batches.
    pub is_local: &'a dyn Fn(&ComponentId, &ExporterConfig) -> bool,
}

enum Stage {
    Stateless(Box<dyn Stateless>),
    Kube(Arc<Pods>),
    Limiter(LimiterConfig),
    Tail(ComponentId, Box<TailSampling>),
}

enum To {
    Exporter(ComponentId, Option<Mutex<Batcher>>),
    Pipelines(Vec<usize>),
    /// A position in [`Pipelines::connectors`].
    Connector(usize),
}

/// A connector between two signals, with the pipelines that it begins.
struct Joint {
    id: ComponentId,
    connector: Connector,
    to: Vec<usize>,
}

/// A batch on its way. What ends in connectors waits here until all else took it: a sender that has to try again
/// would be counted twice.
struct Pass<'a> {
    tenant: &'a TenantId,
    /// Who sent it; nobody where it was held meanwhile.
    peer: Option<IpAddr>,
    now: Nanos,
    export: &'a dyn Export,
    ended: Vec<(usize, Data)>,
}

struct Pipeline {
    signal: Signal,
    has_receiver: bool,
    stages: Vec<Stage>,
    to: Vec<To>,
}

/// The pipelines of a configuration.
pub struct Pipelines {
    all: Vec<Pipeline>,
    connectors: Vec<Joint>,
    kubes: BTreeMap<ComponentId, Arc<Pods>>,
    memory: Budget,
}

impl Pipelines {
    pub fn open(config: &CollectorConfig, around: &Surroundings<'_>) -> Result<Self, TailError> {
        let mut all = Vec::new();
        let joints = config.connectors.iter().map(|(id, connector)| Joint {
            id: id.clone(),
            connector: Connector::new(connector),
            to: begun_by(config, id),
        });
        let connectors: Vec<Joint> = joints.collect();
        let kubes = config.processors.iter().filter_map(|(id, processor)| match processor {
            ProcessorConfig::Kube(config) => Some((id.clone(), Arc::new(Pods::new((**config).clone())))),
            _ => None,
        });
        let kubes: BTreeMap<ComponentId, Arc<Pods>> = kubes.collect();
        for written in &config.pipelines {
            let mut stages = Vec::new();
            let mut batch: Option<BatchConfig> = None;
            for id in &written.processors {
                match config.processors.get(id) {
                    // Batches change nothing in what they hold, so that they are gathered last, in front of
                    // the exporters that profit.
                    Some(ProcessorConfig::Batch(config)) => batch = Some(*config),
                    Some(ProcessorConfig::Kube(_)) => stages.extend(kubes.get(id).cloned().map(Stage::Kube)),
                    Some(processor) => stages.push(stage(&written.id, id, processor, around)?),
                    None => debug_assert!(false, "the check finds processors that are not defined"),
                }
            }
            let to = written.targets.iter().map(|target| match target {
                Target::Pipelines(to) => To::Pipelines(to.clone()),
                Target::Connector(id, _) => match connectors.iter().position(|joint| joint.id == *id) {
                    Some(k) => To::Connector(k),
                    None => unreachable!("connectors that are used are read"),
                },
                Target::Exporter(id) => {
                    let local = config.exporters.get(id).is_some_and(|exporter| (around.is_local)(id, exporter));
                    To::Exporter(id.clone(), batch.filter(|_| !local).map(|b| Mutex::new(Batcher::new(b))))
                }
            });
            let to = to.collect();
            all.push(Pipeline { signal: written.signal, has_receiver: written.has_receiver, stages, to });
        }
        Ok(Self { all, connectors, kubes, memory: around.memory.clone() })
    }

    /// The account that `memory_limiter` watches.
    pub fn memory(&self) -> &Budget {
        &self.memory
    }

    /// What each `k8sattributes` knows: to be told of the cluster's pods.
    pub fn kubes(&self) -> Vec<Arc<Pods>> {
        self.kubes.values().cloned().collect()
    }

    /// Whether any pipeline takes this signal from receivers.
    pub fn receives(&self, signal: Signal) -> bool {
        self.all.iter().any(|p| p.has_receiver && p.signal == signal)
    }

    /// Takes a received batch through every pipeline of its signal. `peer`: who sent it. On an error some of them may
    /// have stored it.
    pub fn receive(
        &self,
        (tenant, peer): (&TenantId, Option<IpAddr>),
        data: Data,
        now: Nanos,
        export: &dyn Export,
    ) -> Result<(), Refusal> {
        let signal = data.signal();
        let takers: Vec<usize> =
            (0..self.all.len()).filter(|k| self.all[*k].has_receiver && self.all[*k].signal == signal).collect();
        self.pass(&takers, data, Pass { tenant, peer, now, export, ended: Vec::new() })
    }

    /// A batch through some pipelines, then into the connectors at their ends.
    fn pass(&self, to: &[usize], data: Data, mut pass: Pass<'_>) -> Result<(), Refusal> {
        self.fan_out(to, data, &mut pass)?;
        self.connect(pass);
        Ok(())
    }

    fn connect(&self, pass: Pass<'_>) {
        for (k, data) in pass.ended {
            self.connectors[k].connector.take(pass.tenant, data, pass.now);
        }
    }

    fn fan_out(&self, to: &[usize], data: Data, pass: &mut Pass<'_>) -> Result<(), Refusal> {
        let Some((last, others)) = to.split_last() else { return Ok(()) };
        for k in others {
            self.run(*k, 0, data.clone(), pass)?;
        }
        self.run(*last, 0, data, pass)
    }

    /// The stages from one on, then the exporters.
    fn run(&self, pipeline: usize, from: usize, mut data: Data, pass: &mut Pass<'_>) -> Result<(), Refusal> {
        let pipeline = &self.all[pipeline];
        for stage in &pipeline.stages[from..] {
            match stage {
                Stage::Kube(pods) => pods.process(&mut data, pass.peer, pass.now)?,
                Stage::Limiter(limiter) => limiter.check(&self.memory).map_err(WriteError::from)?,
                Stage::Stateless(processor) => processor.process(&mut data, pass.now)?,
                Stage::Tail(_, tail) => {
                    if let Data::Traces(groups) = data {
                        data = Data::Traces(tail.offer(pass.tenant, groups, pass.now)?);
                    }
                }
            }
            if data.is_empty() {
                return Ok(());
            }
        }
        let Some((last, others)) = pipeline.to.split_last() else { return Ok(()) };
        for to in others {
            self.send(to, data.clone(), pass)?;
        }
        self.send(last, data, pass)
    }

    fn send(&self, to: &To, data: Data, pass: &mut Pass<'_>) -> Result<(), Refusal> {
        let export = pass.export;
        match to {
            To::Pipelines(to) => self.fan_out(to, data, pass),
            To::Connector(k) => {
                pass.ended.push((*k, data));
                Ok(())
            }
            To::Exporter(id, None) => Ok(export.export(id, pass.tenant, data)?),
            To::Exporter(id, Some(batcher)) => {
                let full = batcher.lock().put(pass.tenant, data, pass.now);
                Ok(full.into_iter().try_for_each(|(tenant, data)| export.export(id, &tenant, data))?)
            }
        }
    }

    /// Decides the traces that are due, collects connectors, and sends the batches that waited long enough. To be called about every
    /// second, and more often where batches have shorter times.
    pub fn tick(&self, now: Nanos, export: &dyn Export) -> Result<(), Refusal> {
        let mut failed = Ok(());
        for (k, pipeline) in self.all.iter().enumerate() {
            for (at, stage) in pipeline.stages.iter().enumerate() {
                if let Stage::Tail(_, tail) = stage
                    && let Err(error) = self.decide(k, at, tail, now, export)
                {
                    failed = Err(error);
                }
            }
        }
        for joint in &self.connectors {
            let due = joint.connector.tick(now);
            if let Err(error) = self.begin(joint, due, now, export) {
                failed = Err(error);
            }
        }
        for pipeline in &self.all {
            for to in &pipeline.to {
                let To::Exporter(id, Some(batcher)) = to else { continue };
                let due = batcher.lock().due(now);
                for (tenant, data) in due {
                    if let Err(error) = export.export(id, &tenant, data) {
                        failed = Err(error.into());
                    }
                }
            }
        }
        failed
    }

    /// What a connector gave, into the pipelines that it begins.
    fn begin(&self, joint: &Joint, due: Vec<(TenantId, Data)>, now: Nanos, export: &dyn Export) -> Result<(), Refusal> {
        let mut failed = Ok(());
        for (tenant, data) in due {
            if failed.is_err() {
                joint.connector.keep_for_later(tenant, data);
                continue;
            }
            let pass = Pass { tenant: &tenant, peer: None, now, export, ended: Vec::new() };
            match self.pass(&joint.to, data.clone(), pass) {
                Ok(()) => {}
                Err(error @ Refusal::Write(_)) => {
                    joint.connector.keep_for_later(tenant, data);
                    failed = Err(error);
                }
                // It would fail again.
                Err(error) => {
                    tracing::error!(%error, connector = %joint.id, "a processor refuses metrics; they are lost")
                }
            }
        }
        failed
    }

    /// Sends what is gathered, whatever its time: nothing more will come. Traces that wait stay in their log.
    pub fn flush(&self, now: Nanos, export: &dyn Export) -> Result<(), Refusal> {
        let mut failed = Ok(());
        // What one connector gives may end in another.
        for _ in 0..self.connectors.len() {
            for joint in &self.connectors {
                let held = joint.connector.flush(now);
                if let Err(error) = self.begin(joint, held, now, export) {
                    failed = Err(error);
                }
            }
        }
        for to in self.all.iter().flat_map(|pipeline| &pipeline.to) {
            let To::Exporter(id, Some(batcher)) = to else { continue };
            let due = batcher.lock().due(Nanos::MAX);
            for (tenant, data) in due {
                if let Err(error) = export.export(id, &tenant, data) {
                    failed = Err(error.into());
                }
            }
        }
        failed
    }

    fn decide(
        &self,
        pipeline: usize,
        at: usize,
        tail: &TailSampling,
        now: Nanos,
        export: &dyn Export,
    ) -> Result<(), Refusal> {
        loop {
            let batches = tail.tick(now);
            if batches.is_empty() {
                return Ok(());
            }
            let mut failed = None;
            for batch in batches {
                match failed {
                    None => failed = self.hand_on(pipeline, at, tail, batch, now, export).err(),
                    Some(_) => tail.keep_for_later(batch),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
    }

    fn hand_on(
        &self,
        pipeline: usize,
        at: usize,
        tail: &TailSampling,
        mut batch: crate::tail::Batch,
        now: Nanos,
        export: &dyn Export,
    ) -> Result<(), Refusal> {
        let spans: Vec<ResourceSpans> = std::mem::take(&mut batch.spans);
        if !spans.is_empty() {
            let mut pass = Pass { tenant: &batch.tenant, peer: None, now, export, ended: Vec::new() };
            match self.run(pipeline, at + 1, Data::Traces(spans.clone()), &mut pass) {
                Ok(()) => self.connect(pass),
                // The store is full or failing: tried again at the next tick, before anything else is decided.
                Err(error @ Refusal::Write(_)) => {
                    batch.spans = spans;
                    tail.keep_for_later(batch);
                    return Err(error);
                }
                // It would fail again: said, and settled.
                Err(error) => tracing::error!(%error, "kept traces are refused by a later processor and lost"),
            }
        }
        Ok(tail.settle(&batch)?)
    }

    /// What became of what each connector was given.
    pub fn connector_outcomes(&self) -> Vec<(ComponentId, Outcomes)> {
        self.connectors.iter().map(|joint| (joint.id.clone(), joint.connector.outcomes())).collect()
    }

    /// What each `tail_sampling` has counted.
    pub fn tail_stats(&self) -> Vec<(ComponentId, TailStats)> {
        let stages = self.all.iter().flat_map(|p| &p.stages);
        stages
            .filter_map(|stage| match stage {
                Stage::Tail(id, tail) => Some((id.clone(), tail.stats())),
                _ => None,
            })
            .collect()
    }
}

/// Pipelines of which a connector between two signals is a receiver.
fn begun_by(config: &CollectorConfig, id: &ComponentId) -> Vec<usize> {
    let targets = config.pipelines.iter().flat_map(|pipeline| &pipeline.targets);
    let found = targets.filter_map(|target| match target {
        Target::Connector(connector, to) if connector == id => Some(to.clone()),
        _ => None,
    });
    found.into_iter().next().unwrap_or_default()
}

fn stage(
    pipeline: &str,
    id: &ComponentId,
    processor: &ProcessorConfig,
    around: &Surroundings<'_>,
) -> Result<Stage, TailError> {
    let boxed = |processor: Box<dyn Stateless>| Ok(Stage::Stateless(processor));
    match processor {
        ProcessorConfig::Attributes(config) => boxed(Box::new(config.clone())),
        ProcessorConfig::Filter(config) => boxed(Box::new(config.clone())),
        ProcessorConfig::ProbabilisticSampler(config) => boxed(Box::new(config.clone())),
        ProcessorConfig::Redaction(config) => boxed(Box::new(config.clone())),
        ProcessorConfig::Transform(config) => boxed(Box::new(config.clone())),
        ProcessorConfig::MemoryLimiter(config) => Ok(Stage::Limiter(*config)),
        ProcessorConfig::Kube(_) => unreachable!("one is shared by all pipelines"),
        ProcessorConfig::Batch(_) => unreachable!("batches are gathered in front of the exporters"),
        ProcessorConfig::TailSampling(config) => {
            let folder = format!("{}/{}", around.folder, folder_of(pipeline, id));
            let tail = TailSampling::open(config.clone(), around.budget, around.dir.clone(), &folder, around.sync)?;
            Ok(Stage::Tail(id.clone(), Box::new(tail)))
        }
    }
}

/// A name for files: each pipeline has its own instance of a processor, as upstream has.
pub fn folder_of(pipeline: &str, id: &ComponentId) -> String {
    let mut out = String::new();
    for c in format!("{pipeline}.{id}").chars() {
        match c {
            c if c.is_ascii_alphanumeric() || "-_.".contains(c) => out.push(c),
            c => out.push_str(&format!("%{:x}", u32::from(c))),
        }
    }
    out
}

/// Folders of processors that this configuration has, for those who look for what an earlier one left behind.
pub fn folders(config: &CollectorConfig) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for pipeline in &config.pipelines {
        for id in &pipeline.processors {
            if matches!(config.processors.get(id), Some(ProcessorConfig::TailSampling(_))) {
                found.insert(folder_of(&pipeline.id, id), format!("{} of {}", id, pipeline.id));
            }
        }
    }
    found
}
