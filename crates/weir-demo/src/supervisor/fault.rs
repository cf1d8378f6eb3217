//! The faults and decoys of a demo: what can be broken, and where.

use serde::Serialize;

use crate::topology::{Role, Topology};

/// Something that can be done to the pipeline, and undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Drops the index of the role's database.
    DropIndex(Role),
    /// Puts a record into a partition that the role cannot process and must not pass over.
    BlockPartition(Role),
    /// Replaces the role's processes by a build with a bug.
    DeployFaulty(Role),
    /// Replaces the role's processes by a build without one.
    DeploySound(Role),
    /// Doubles the traffic.
    Burst,
}

/// Roles whose builds are exchanged.
pub const DEPLOYABLE: [Role; 5] = [Role::Enricher, Role::Aggregator, Role::Tracker, Role::Sink, Role::Delivery];
pub const WITH_INDEX: [Role; 2] = [Role::Enricher, Role::Sink];
pub const BLOCKABLE: [Role; 2] = [Role::Aggregator, Role::Tracker];

impl Fault {
    /// All of them, faults first.
    pub fn all() -> Vec<Fault> {
        let mut all: Vec<Fault> = WITH_INDEX.map(Fault::DropIndex).to_vec();
        all.extend(BLOCKABLE.map(Fault::BlockPartition));
        all.extend(DEPLOYABLE.map(Fault::DeployFaulty));
        all.extend(DEPLOYABLE.map(Fault::DeploySound));
        all.push(Fault::Burst);
        all
    }

    /// The name in URLs.
    pub fn id(self) -> String {
        match self {
            Fault::DropIndex(role) => format!("index-{}", role.as_str()),
            Fault::BlockPartition(role) => format!("block-{}", role.as_str()),
            Fault::DeployFaulty(role) => format!("release-{}", role.as_str()),
            Fault::DeploySound(role) => format!("good-release-{}", role.as_str()),
            Fault::Burst => "burst".to_owned(),
        }
    }

    pub fn parse(id: &str) -> Option<Fault> {
        Self::all().into_iter().find(|f| f.id() == id)
    }

    /// Harmless: nothing may be paged for it.
    pub fn is_decoy(self) -> bool {
        matches!(self, Fault::DeploySound(_) | Fault::Burst)
    }

    pub fn title(self, topology: &Topology) -> String {
        match self {
            Fault::DropIndex(role) => format!("Drop an index of {}", topology.service(role)),
            Fault::BlockPartition(role) => format!("Block a partition of {}", topology.service(role)),
            Fault::DeployFaulty(role) => format!("Release a bug in {}", topology.service(role)),
            Fault::DeploySound(role) => format!("Release {} (harmless)", topology.service(role)),
            Fault::Burst => "Double the traffic (harmless)".to_owned(),
        }
    }

    pub fn detail(self, topology: &Topology) -> String {
        let names = &topology.names;
        match self {
            Fault::DropIndex(Role::Enricher) => {
                format!("each look-up in {} then reads the whole table", names.players_table)
            }
            Fault::DropIndex(_) => format!("each update of {} then reads the whole table", names.matches_table),
            Fault::BlockPartition(_) => {
                format!("a record in {} that it cannot process and tries again for ever", names.topic_enriched)
            }
            Fault::DeployFaulty(_) => "a rolling deployment of a build whose code has a bug".to_owned(),
            Fault::DeploySound(_) => "a rolling deployment of a build that works".to_owned(),
            Fault::Burst => "twice the events a second".to_owned(),
        }
    }
}

/// A fault as the control API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct FaultView {
    pub id: String,
    pub title: String,
    pub detail: String,
    pub active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What was really done: the truth that a drill compares answers with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Truth {
    pub service: String,
    #[serde(flatten)]
    pub thing: Thing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Thing {
    Statement { table: String },
    Partition { group: String, topic: String, partition: i32 },
    Version { version: String, previous: String },
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back() {
        let all = Fault::all();
        assert_eq!(all.len(), 15);
        for fault in all {
            assert_eq!(Fault::parse(&fault.id()), Some(fault), "{}", fault.id());
        }
        assert_eq!(Fault::parse("index-producer"), None);
    }
}
