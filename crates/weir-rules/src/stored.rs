//! Where alerts of rules stand, as it is written down: a record per rule.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_model::{TenantId, Timestamp};
use weir_state::{Batch, State};

use crate::file::{Rule, RuleGroup, RuleKind};
use crate::machine::{StoredAlert, Transition};

pub const TABLE: &str = "rules.alerts";
pub const VERSION: u8 = 1;
/// How often what did not change is written again.
pub const STORED_EVERY: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
pub struct Stored {
    pub v: u8,
    pub saved_at: Timestamp,
    pub alerts: Vec<StoredAlert>,
}

/// Alerts of an earlier run, by tenant and rule, until the rules that they belong to are loaded.
#[derive(Default)]
pub struct Restored {
    alerts: HashMap<(TenantId, String), Stored>,
    now: Timestamp,
}

impl Restored {
    pub fn read(state: &State, now: Timestamp) -> Self {
        let mut alerts = HashMap::new();
        for (tenant, name, bytes) in state.scan(TABLE) {
            match serde_json::from_slice::<Stored>(&bytes) {
                Ok(stored) if stored.v == VERSION => {
                    alerts.insert((tenant, name), stored);
                }
                Ok(stored) => tracing::error!(%tenant, version = stored.v, "alerts of another version are left alone"),
                Err(error) => tracing::error!(%tenant, %error, "alerts of an earlier run cannot be read"),
            }
        }
        Self { alerts, now }
    }

    /// What was written down of a rule; asked once.
    pub fn take(&mut self, tenant: &TenantId, group: &RuleGroup, rule: &Rule) -> Option<Stored> {
        self.alerts.remove(&(tenant.clone(), stored_name(group, rule)))
    }

    pub fn tenants(&self) -> Vec<TenantId> {
        self.alerts.keys().map(|(tenant, _)| tenant.clone()).collect()
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What belongs to none of the tenant's rules as they are now: its records, and the ends of its alerts.
    pub fn forget(&mut self, tenant: &TenantId) -> (Batch, Vec<Transition>) {
        let (mut batch, mut ended) = (Batch::default(), Vec::new());
        let now = self.now;
        for ((of, name), stored) in self.alerts.extract_if(|(of, _), _| of == tenant) {
            batch.remove(TABLE, &of, name);
            ended.extend(stored.alerts.into_iter().filter_map(|alert| alert.ended(now)));
        }
        (batch, ended)
    }
}

/// Names a rule by all that decides whether its state may be carried over, as [`Rule::same_as`].
pub fn stored_name(group: &RuleGroup, rule: &Rule) -> String {
    let hold = match &rule.kind {
        RuleKind::Record { .. } => None,
        RuleKind::Alert { hold, keep_firing_for, .. } => Some((hold, keep_firing_for)),
    };
    let text = format!("{:?}", (&group.file, &group.name, rule.name(), &rule.query, &rule.labels, hold));
    hex::encode(Sha256::digest(text))
}
