//! What runs where: names, ports, releases and sizes of one demo, drawn once and handed to every process as a file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::naming::Names;
use crate::release::Build;

/// Partitions of every topic of the pipeline.
pub const N_PARTITIONS: i32 = 4;

/// A part of the pipeline; one or more processes play it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Emits match events of some leagues.
    Producer,
    /// Looks players up in a database.
    Enricher,
    /// Keeps windows per match; commits its offsets to the broker.
    Aggregator,
    /// Keeps a form per player; keeps its offsets in a checkpoint file.
    Tracker,
    /// Writes updates to a database.
    Sink,
    /// Pushes updates to fans over WebSocket.
    Delivery,
}

impl Role {
    pub const ALL: [Role; 6] =
        [Role::Producer, Role::Enricher, Role::Aggregator, Role::Tracker, Role::Sink, Role::Delivery];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Enricher => "enricher",
            Role::Aggregator => "aggregator",
            Role::Tracker => "tracker",
            Role::Sink => "sink",
            Role::Delivery => "delivery",
        }
    }

    /// Processes that share the work: two where a rolling deployment should be seen to roll.
    pub fn n_instances(self) -> usize {
        match self {
            Role::Producer | Role::Enricher => 2,
            Role::Aggregator | Role::Tracker | Role::Sink | Role::Delivery => 1,
        }
    }
}

/// One process, before a build is chosen for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    pub role: Role,
    /// Number among the processes of its role, from 0.
    pub ordinal: usize,
    pub pod: String,
    /// Loopback port of `/metrics`, `/ready` and `/control`.
    pub port: u16,
}

/// Everything that the processes of one demo must agree on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Topology {
    pub names: Names,
    pub instances: Vec<Instance>,
    /// `host:port` of the broker.
    pub broker: String,
    /// `http://host:port` of an OTLP gRPC receiver; without one spans are made and dropped.
    pub otlp: Option<String>,
    pub data_dir: PathBuf,
    /// Over all producers.
    pub events_per_second: f64,
    /// Share of traces that are recorded, decided at the producer.
    pub trace_ratio: f64,
    /// Rows of each database table that is looked up by key.
    pub n_rows: usize,
}

impl Topology {
    pub fn service(&self, role: Role) -> &str {
        self.names.service(role)
    }

    pub fn instances_of(&self, role: Role) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(move |i| i.role == role)
    }

    /// Database file of a role that has one.
    pub fn database_path(&self, role: Role) -> PathBuf {
        self.data_dir.join(format!("{}.db", self.service(role)))
    }

    pub fn checkpoint_path(&self) -> PathBuf {
        self.data_dir.join("checkpoints").join(format!("{}.json", self.service(Role::Tracker)))
    }

    /// The topic that a role reads and the name it reads under.
    pub fn input(&self, role: Role) -> Option<(&str, &str)> {
        let topic = match role {
            Role::Producer => return None,
            Role::Enricher => &self.names.topic_raw,
            Role::Aggregator | Role::Tracker => &self.names.topic_enriched,
            Role::Sink | Role::Delivery => &self.names.topic_updates,
        };
        Some((topic, self.names.group(role)))
    }

    pub fn load(path: &Path) -> Result<Self, TopologyError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TopologyError::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| TopologyError::Parse { path: path.to_owned(), source })
    }

    pub fn save(&self, path: &Path) -> Result<(), TopologyError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|source| TopologyError::Parse { path: path.to_owned(), source })?;
        std::fs::write(path, text).map_err(|source| TopologyError::Read { path: path.to_owned(), source })
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error("cannot read or write the topology file {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the topology file {path} is not what `weir demo` writes")]
    Parse { path: PathBuf, source: serde_json::Error },
}

/// What one process is told on its command line.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub topology: Topology,
    pub instance: Instance,
    pub version: String,
    pub build: Build,
}

impl Assignment {
    /// Finds the instance by its pod name and the code variant by its version.
    pub fn new(topology: Topology, pod: &str, version: &str) -> Result<Self, AssignmentError> {
        let instance = topology
            .instances
            .iter()
            .find(|i| i.pod == pod)
            .cloned()
            .ok_or_else(|| AssignmentError::Pod { pod: pod.to_owned() })?;
        let build = topology.names.releases(instance.role).build(version).ok_or_else(|| AssignmentError::Version {
            service: topology.service(instance.role).to_owned(),
            version: version.to_owned(),
        })?;
        Ok(Self { topology, instance, version: version.to_owned(), build })
    }

    pub fn service(&self) -> &str {
        self.topology.service(self.instance.role)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AssignmentError {
    #[error("no pod `{pod}` in the topology file")]
    Pod { pod: String },
    #[error("`{service}` has no release `{version}`")]
    Version { service: String, version: String },
}
