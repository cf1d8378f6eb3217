//! What rules tell the rest of the program about an alert.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::tenant::TenantId;
use crate::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertPhase {
    Pending,
    Firing,
    /// It fired, and what it was made of stopped arriving: whether it still holds nobody knows.
    Unknown,
    Resolved,
}

/// A transition of one alert, or its repetition while it fires.
#[derive(Clone, Debug)]
pub struct AlertEvent {
    pub tenant: TenantId,
    /// With `alertname`; the alert's identity.
    pub labels: Labels,
    pub annotations: Labels,
    pub phase: AlertPhase,
    /// Since when the expression holds.
    pub active_at: Timestamp,
    /// When this phase began.
    pub at: Timestamp,
    pub value: f64,
    /// Source text of the expression and its threshold, for charts and evidence.
    pub expr: Arc<str>,
    /// Page that shows the expression.
    pub generator_url: String,
}

/// Must not block: it runs inside the evaluation loop.
pub trait AlertListener: Send + Sync {
    fn on_alert(&self, event: &AlertEvent);
}
