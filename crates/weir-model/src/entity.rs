//! Entities: the things that telemetry is about, how they are found in what senders say
//! ([`Aliases`]), and what is known of each over time ([`EntityTable`]).

mod aliases;
mod resolve;
mod table;

pub use aliases::Aliases;
pub use resolve::EntityRefs;
pub use table::{EntityInfo, EntityTable, VersionInterval};

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    Service,
    Instance,
    Node,
    Topic,
    Partition,
    ConsumerGroup,
    Database,
    Endpoint,
}

impl EntityKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Instance => "instance",
            Self::Node => "node",
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::ConsumerGroup => "consumer_group",
            Self::Database => "database",
            Self::Endpoint => "endpoint",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    pub const ALL: [Self; 8] = [
        Self::Service,
        Self::Instance,
        Self::Node,
        Self::Topic,
        Self::Partition,
        Self::ConsumerGroup,
        Self::Database,
        Self::Endpoint,
    ];
}

/// A kind and a name; a partition's name is `topic/number`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntityId {
    pub kind: EntityKind,
    pub name: Arc<str>,
}

impl EntityId {
    pub fn new(kind: EntityKind, name: impl Into<Arc<str>>) -> Self {
        Self { kind, name: name.into() }
    }
}

/// `kind:name`, the form in URLs.
impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.name)
    }
}
