//! Targets in files. Source: Prometheus `discovery/file`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Found;
use super::group::{TargetGroup, read};
use crate::config::FileSd;

/// How often files are looked at; a look costs a `stat` per file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What tells that a file was written.
type Stamp = (Option<SystemTime>, u64);

pub(super) async fn run(config: &FileSd, found: &Found) {
    let mut known: BTreeMap<PathBuf, Stamp> = BTreeMap::new();
    let mut groups: BTreeMap<PathBuf, Vec<TargetGroup>> = BTreeMap::new();
    let mut is_first = true;
    let every = LOOK_EVERY.min(config.refresh_interval);
    loop {
        let now = look(&config.files);
        if is_first || now != known {
            let error = take(&now, &known, &mut groups);
            found.replace(groups.values().flatten().cloned().collect());
            match error {
                // Read again at the next look: it may be half written.
                Some((path, text)) => {
                    found.failed("file", text);
                    known = now;
                    known.remove(&path);
                }
                None => known = now,
            }
            is_first = false;
        }
        tokio::time::sleep(every).await;
    }
}

fn look(patterns: &[PathBuf]) -> BTreeMap<PathBuf, Stamp> {
    let mut out = BTreeMap::new();
    for path in patterns.iter().filter_map(|pattern| crate::glob::files(pattern).ok()).flatten() {
        if let Ok(about) = std::fs::metadata(&path) {
            out.insert(path, (about.modified().ok(), about.len()));
        }
    }
    out
}

/// Reads what changed. A file that cannot be read keeps its last groups; its path and why are given.
fn take(
    now: &BTreeMap<PathBuf, Stamp>,
    known: &BTreeMap<PathBuf, Stamp>,
    groups: &mut BTreeMap<PathBuf, Vec<TargetGroup>>,
) -> Option<(PathBuf, String)> {
    groups.retain(|path, _| now.contains_key(path));
    let mut error = None;
    for (path, stamp) in now {
        if known.get(path) == Some(stamp) && groups.contains_key(path) {
            continue;
        }
        match read_file(path) {
            Ok(read) => drop(groups.insert(path.clone(), read)),
            Err(text) => error = Some((path.clone(), text)),
        }
    }
    error
}

fn read_file(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    read(&text, &shown, ("__meta_filepath", &shown)).map_err(|e| format!("{shown}: {e}"))
}
