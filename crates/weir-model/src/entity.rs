//! Entities: the things that telemetry is about.

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
