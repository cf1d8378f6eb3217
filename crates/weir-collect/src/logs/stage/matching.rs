//! `match`: stages for some streams only.

use std::sync::Arc;

use serde::Deserialize;
use weir_logql::TailFilter;
use weir_model::{LogEntry, Nanos};

use super::{Stage, StageFile, not_empty, required};
use crate::logs::entry::Entry;

/// A `match` within a `match` within …
const DEPTH_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatchFile {
    selector: Option<String>,
    pipeline_name: Option<String>,
    action: Option<String>,
    drop_counter_reason: Option<String>,
    #[serde(default)]
    stages: Vec<StageFile>,
}

pub struct Match {
    filter: TailFilter,
    has_stages: bool,
    /// Empty when matching lines are dropped.
    pub(super) stages: Vec<Arc<Stage>>,
    pub(super) reason: String,
}

impl std::fmt::Debug for Match {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Match").field("stages", &self.stages).finish_non_exhaustive()
    }
}

impl MatchFile {
    pub fn check(self, depth: usize) -> Result<Match, String> {
        if depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} stages within each other"));
        }
        let selector = required("selector", self.selector)?;
        not_empty("pipeline_name", self.pipeline_name)?;
        let filter = weir_logql::parse_log(&selector).map_err(|e| format!("selector: {e}"))?;
        let drops = match self.action.as_deref() {
            None | Some("" | "keep") => false,
            Some("drop") => true,
            Some(other) => return Err(format!("action `{other}`; use keep or drop")),
        };
        if drops && !self.stages.is_empty() {
            return Err("action drop goes without `stages`".to_owned());
        }
        if !drops && self.stages.is_empty() {
            return Err("`stages` is missing or empty".to_owned());
        }
        Ok(Match {
            filter: TailFilter::new(filter),
            has_stages: !drops,
            stages: super::check_at(self.stages, depth + 1)?,
            reason: self.drop_counter_reason.filter(|r| !r.is_empty()).unwrap_or_else(|| "match_stage".to_owned()),
        })
    }
}

impl Match {
    pub fn selects(&self, entry: &Entry, now: Nanos) -> bool {
        if !self.filter.selects(&entry.labels) {
            return false;
        }
        let log = LogEntry { at: entry.at, line: entry.line.as_str().into(), metadata: Vec::new() };
        self.filter.apply(&entry.labels, &log, now).is_some()
    }

    pub fn drops(&self) -> bool {
        !self.has_stages
    }
}
