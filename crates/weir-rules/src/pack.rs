//! The rules that weir ships: alerts on what runs under most pipelines, each with tier, runbook and source.
//!
//! A pack is a rule file of `pack/`; `pack/tests/` pushes each alert past its threshold and not past it, `pack/samples/` holds
//! what the sources look like, `pack/runbooks/` what to do. `tests/pack.rs` holds the four together.

use crate::file::{RuleFileError, RuleGroup, parse_rule_file};

/// Rules of one field, off until they are asked for by name.
#[derive(Clone, Copy, Debug)]
pub struct Pack {
    pub name: &'static str,
    /// A rule file of Prometheus.
    pub rules: &'static str,
    /// Markdown; a section `## Alert` per alert.
    pub runbook: &'static str,
}

macro_rules! packs {
    ($($name:literal),*) => {
        [$(Pack {
            name: $name,
            rules: include_str!(concat!("../pack/", $name, ".yml")),
            runbook: include_str!(concat!("../pack/runbooks/", $name, ".md")),
        }),*]
    };
}

pub const PACKS: [Pack; 7] = packs!["application", "cost", "inference", "kafka", "kubernetes", "pipeline", "warehouse"];

impl Pack {
    pub fn named(name: &str) -> Option<&'static Self> {
        PACKS.iter().find(|pack| pack.name == name)
    }

    pub fn groups(&self) -> Result<Vec<RuleGroup>, Vec<RuleFileError>> {
        parse_rule_file(&format!("pack {}", self.name), self.rules)
    }

    /// What to do when this alert fires.
    pub fn runbook_of(&self, alert: &str) -> Option<&'static str> {
        let mut sections = self.runbook.split("\n## ").skip(1);
        let found = sections.find(|section| section.lines().next() == Some(alert))?;
        Some(found.trim_end())
    }
}
