//! From scrape configurations to the files that are to be followed. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use weir_model::{Labels, LabelsBuilder};

use super::config::PromtailConfig;
use super::pattern::Pattern;
use super::stage::Stage;
use crate::config::SdConfig;
use crate::discover::TargetGroup;
use crate::relabel::{RelabelConfig, relabel};

/// What a scrape configuration says about the lines of its files.
#[derive(Debug)]
pub struct Job {
    pub name: String,
    pub(crate) stages: Vec<Arc<Stage>>,
    pub(crate) relabel: Vec<RelabelConfig>,
}

/// Files that share labels.
#[derive(Clone, Debug)]
pub struct LogTarget {
    pub(crate) job: Arc<Job>,
    pub(crate) pattern: Pattern,
    pub(crate) exclude: Option<Pattern>,
    pub(crate) labels: Labels,
}

impl LogTarget {
    pub fn job(&self) -> &str {
        &self.job.name
    }

    pub fn path(&self) -> &str {
        self.pattern.text()
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Whether a file with that path is one of its files.
    pub(crate) fn holds(&self, path: &str) -> bool {
        self.pattern.matches(path) && !self.exclude.as_ref().is_some_and(|exclude| exclude.matches(path))
    }
}

/// What the groups of a job become.
#[derive(Clone, Debug, Default)]
pub struct LogTargets {
    pub active: Vec<LogTarget>,
    /// Targets that are not followed, and why.
    pub dropped: Vec<String>,
}

impl LogTargets {
    /// Of all scrape configurations; `found`: what a source knows.
    pub(crate) fn of(config: &PromtailConfig, host: &str, found: impl Fn(&SdConfig) -> Vec<Arc<TargetGroup>>) -> Self {
        let mut out = Self::default();
        for scrape in &config.scrape_configs {
            let mut groups = scrape.groups.clone();
            groups.extend(scrape.sd.iter().flat_map(&found));
            out.add(&scrape.job, &groups, host);
        }
        out
    }

    /// `host`: this machine's name; targets that say `__host__` and mean another are not followed.
    fn add(&mut self, job: &Arc<Job>, groups: &[Arc<TargetGroup>], host: &str) {
        let mut seen = HashSet::new();
        for group in groups {
            for target in &group.targets {
                let discovered = group.labels.iter().chain(target);
                match resolve(job, discovered.map(|(n, v)| (n.as_str(), v.as_str())), host) {
                    Ok(target) => {
                        if seen.insert((target.path().to_owned(), target.labels.clone())) {
                            self.active.push(target);
                        }
                    }
                    Err(why) => self.dropped.push(format!("scrape config `{}`: {why}", job.name)),
                }
            }
        }
    }
}

fn resolve<'a>(
    job: &Arc<Job>,
    given: impl Iterator<Item = (&'a str, &'a str)>,
    host: &str,
) -> Result<LogTarget, String> {
    let mut labels = LabelsBuilder::default();
    for (name, value) in given {
        labels.set(name, value);
    }
    let discovered = labels.clone().build();
    let shown = || discovered.to_string();
    let labels = relabel(labels, &job.relabel).ok_or_else(|| format!("{}: dropped by relabelling", shown()))?;
    let labels = labels.build();
    if let Some(meant) = labels.get("__host__").filter(|meant| *meant != host) {
        return Err(format!("{}: it is on host `{meant}`, and this is `{host}`", shown()));
    }
    let path = labels.get("__path__").ok_or_else(|| format!("{}: no __path__", shown()))?;
    let pattern = Pattern::parse(path).map_err(|e| format!("__path__ `{path}`: {e}"))?;
    let exclude = labels.get("__path_exclude__").filter(|text| !text.is_empty());
    let exclude = exclude.map(Pattern::parse).transpose().map_err(|e| format!("__path_exclude__: {e}"))?;
    let labels = labels.filter(|name| !name.starts_with("__"));
    Ok(LogTarget { job: job.clone(), pattern, exclude, labels })
}
