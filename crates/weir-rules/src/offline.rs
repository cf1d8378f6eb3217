//! Rules evaluated at times that the caller gives: for unit tests of rules and for trying them out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use weir_model::{TenantId, Timestamp};

use crate::file::RuleGroup;
use crate::group::{Feed, Group};
use crate::manager::{Options, Shared};
use crate::stored::Restored;
use crate::view::{AlertView, GroupView, Health};

/// Groups without a clock of their own: nothing runs but through [`Offline::evaluate`].
pub struct Offline {
    shared: Shared,
    groups: Vec<Group>,
}

impl Offline {
    pub fn new(options: Options, tenant: &TenantId, configs: Vec<RuleGroup>) -> Self {
        let (interval, query_offset) = (options.interval, options.query_offset);
        let group = |config: RuleGroup| {
            let feeds = config.rules.iter().map(|_| Feed::default()).collect();
            let interval = config.interval.unwrap_or(interval).max(Duration::from_millis(1));
            let wake = Arc::new(Notify::new());
            Group::new(tenant.clone(), config, interval, query_offset, feeds, wake, None, &mut Restored::default())
        };
        let groups = configs.into_iter().map(group).collect();
        Self { shared: Shared::new(options), groups }
    }

    /// Evaluates all groups in their order, and names the rules that failed.
    pub async fn evaluate(&self, at: Timestamp) -> Vec<String> {
        let mut failed = Vec::new();
        for group in &self.groups {
            group.evaluate_grid(&self.shared, at).await;
            let view = group.view();
            for rule in &view.rules {
                if let Health::Failed(reason) = &rule.health {
                    failed.push(format!(
                        "rule: {}, time: {:?}, err: {reason}",
                        rule.name,
                        Duration::from_millis(at.0.max(0).unsigned_abs())
                    ));
                }
            }
        }
        failed
    }

    pub fn groups(&self) -> Vec<GroupView> {
        self.groups.iter().map(Group::view).collect()
    }

    /// Pending and firing alerts of the rules of that name.
    pub fn alerts(&self, name: &str) -> Vec<AlertView> {
        let groups = self.groups();
        let rules = groups.iter().flat_map(|g| &g.rules).filter(|r| r.name == name);
        rules.flat_map(|r| r.alerts().to_vec()).collect()
    }
}
