//! Change events: the fourth, small signal. "What changed?" is the first question of an incident.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::entity::EntityId;
use crate::tenant::TenantId;
use crate::time::{TimeRange, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Deployment,
    Config,
    Flag,
    Scaling,
    Restart,
    Kubernetes,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub at: Timestamp,
    pub kind: ChangeKind,
    /// What was changed, usually a service.
    pub entity: EntityId,
    pub title: String,
    /// For a deployment: the version that went, and the one that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Instances touched, where known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<String>,
    /// Who said so: `api`, or `telemetry` when derived from a version attribute.
    pub source: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

pub trait ChangeSink: Send + Sync {
    fn record(&self, tenant: &TenantId, change: Change);

    /// Makes durable what was recorded, where there is something to make it so. Blocks.
    fn flush(&self) -> Result<(), String> {
        Ok(())
    }
}

pub trait ChangeSource: Send + Sync {
    /// Oldest first.
    fn changes(&self, tenant: &TenantId, range: TimeRange) -> Vec<Change>;
}
