//! Paths with wildcards in any part: `*`, `?`, `[…]`, `{a,b}`, and `**` for any number of folders.
//!
//! Source: `bmatcuk/doublestar`, which `__path__` is written for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::files::{Files, Kind};
use crate::glob::is_match;

/// Alternatives that braces may expand to.
const ALTERNATIVES_MAX: usize = 256;
/// Folders below a `**`.
const DEPTH_MAX: usize = 32;
/// Paths of one pattern.
const FOUND_MAX: usize = 50_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    /// Braces expanded, split into parts.
    alternatives: Vec<Vec<String>>,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        let mut expanded = Vec::new();
        expand(text, &mut expanded)?;
        let split =
            |one: String| one.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
        Ok(Self { text: text.to_owned(), alternatives: expanded.into_iter().map(split).collect() })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Files that match, sorted; folders that cannot be read are passed over, the first one's error is answered.
    pub fn find(&self, files: &dyn Files) -> (Vec<String>, Option<String>) {
        let root = if self.text.starts_with('/') { Path::new("/") } else { Path::new("") };
        let mut walk = Walk { files, found: BTreeSet::new(), error: None };
        for parts in &self.alternatives {
            walk.below(root, parts, 0);
        }
        let found = walk.found.into_iter().filter_map(|path| path.into_os_string().into_string().ok()).collect();
        (found, walk.error)
    }

    pub fn matches(&self, path: &str) -> bool {
        if self.text.starts_with('/') != path.starts_with('/') {
            return false;
        }
        let names: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        self.alternatives.iter().any(|parts| parts_match(parts, &names))
    }
}

fn parts_match(parts: &[String], names: &[&str]) -> bool {
    match (parts.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((part, rest)), _) if part == "**" => {
            let here = if rest.is_empty() { !names.is_empty() } else { parts_match(rest, names) };
            here || (!names.is_empty() && parts_match(parts, &names[1..]))
        }
        (Some((part, rest)), Some((name, names))) => {
            is_match(part.as_bytes(), name.as_bytes()) && parts_match(rest, names)
        }
        _ => false,
    }
}

/// One text per choice in braces, from the left.
fn expand(text: &str, out: &mut Vec<String>) -> Result<(), String> {
    let Some(open) = text.find('{') else {
        if out.len() >= ALTERNATIVES_MAX {
            return Err(format!("the braces of the path make more than {ALTERNATIVES_MAX} paths"));
        }
        out.push(text.to_owned());
        return Ok(());
    };
    let close = text[open..].find('}').ok_or("a brace of the path is not closed")? + open;
    for choice in text[open + 1..close].split(',') {
        expand(&format!("{}{choice}{}", &text[..open], &text[close + 1..]), out)?;
    }
    Ok(())
}

struct Walk<'a> {
    files: &'a dyn Files,
    found: BTreeSet<PathBuf>,
    error: Option<String>,
}

impl Walk<'_> {
    fn below(&mut self, folder: &Path, parts: &[String], depth: usize) {
        let Some((part, rest)) = parts.split_first() else { return };
        if self.found.len() >= FOUND_MAX || depth > DEPTH_MAX {
            let _ = self.error.get_or_insert_with(|| {
                format!(
                    "below {}: more than {FOUND_MAX} files or {DEPTH_MAX} folders deep; name fewer",
                    folder.display()
                )
            });
            return;
        }
        if part == "**" {
            self.any_depth(folder, parts, rest, depth);
        } else if !part.contains(['*', '?', '[', '\\']) {
            self.step(folder.join(part), Kind::Link, rest, depth);
        } else {
            for (name, kind) in self.list(folder) {
                if is_match(part.as_bytes(), name.as_bytes()) {
                    self.step(folder.join(name), kind, rest, depth);
                }
            }
        }
    }

    /// `path` matched so far.
    fn step(&mut self, path: PathBuf, kind: Kind, rest: &[String], depth: usize) {
        match (rest.is_empty(), kind) {
            (true, Kind::Folder) => {}
            (true, Kind::File) => drop(self.found.insert(path)),
            (true, Kind::Link) => {
                if self.files.about(&path).is_ok_and(|about| !about.is_folder) {
                    self.found.insert(path);
                }
            }
            (false, Kind::File) => {}
            (false, _) => self.below(&path, rest, depth + 1),
        }
    }

    /// Links to folders are not followed here: they may lead in circles.
    fn any_depth(&mut self, folder: &Path, parts: &[String], rest: &[String], depth: usize) {
        if !rest.is_empty() {
            self.below(folder, rest, depth + 1);
        }
        for (name, kind) in self.list(folder) {
            match kind {
                Kind::Folder => self.below(&folder.join(name), parts, depth + 1),
                _ if rest.is_empty() => self.step(folder.join(name), kind, rest, depth),
                _ => {}
            }
        }
    }

    fn list(&mut self, folder: &Path) -> Vec<(String, Kind)> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match self.files.list(folder) {
            Ok(names) => names,
            Err(error) => {
                let gone = matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory);
                if !gone {
                    let _ = self.error.get_or_insert_with(|| format!("cannot list {}: {error}", folder.display()));
                }
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::sim::SimFiles;

    #[test]
    fn wildcards_in_every_part() {
        let files = SimFiles::default();
        for path in [
            "/var/log/a.log",
            "/var/log/b.txt",
            "/var/log/pods/ns_web_1/app/0.log",
            "/var/log/pods/ns_web_1/app/0.log.20260101-000000",
            "/var/log/pods/ns_db_2/db/1.log",
        ] {
            files.append(path, "");
        }
        let check = |pattern: &str, want: &[&str]| {
            let pattern = Pattern::parse(pattern).unwrap();
            assert_eq!(pattern.find(&files), (want.iter().map(|p| (*p).to_owned()).collect(), None), "{pattern:?}");
            want.iter().for_each(|path| assert!(pattern.matches(path), "{pattern:?} {path}"));
        };
        check("/var/log/*.log", &["/var/log/a.log"]);
        check("/var/log/*.{log,txt}", &["/var/log/a.log", "/var/log/b.txt"]);
        check("/var/log/a.log", &["/var/log/a.log"]);
        check("/var/log/none.log", &[]);
        check("/none/*/x", &[]);
        check("/var/log/pods/*/*/*.log", &["/var/log/pods/ns_db_2/db/1.log", "/var/log/pods/ns_web_1/app/0.log"]);
        check("/var/log/pods/*2/db/[0-9].log", &["/var/log/pods/ns_db_2/db/1.log"]);
        check("/var/**/0.log", &["/var/log/pods/ns_web_1/app/0.log"]);
        check(
            "/var/log/**/*.log",
            &["/var/log/a.log", "/var/log/pods/ns_db_2/db/1.log", "/var/log/pods/ns_web_1/app/0.log"],
        );
        check("/var/log/pods/ns_db_2/**", &["/var/log/pods/ns_db_2/db/1.log"]);
        assert!(!Pattern::parse("/var/log/*.log").unwrap().matches("/var/log/x/a.log"));
        assert!(Pattern::parse("/a/{b").unwrap_err().contains("not closed"));
        assert!(Pattern::parse(&"{a,b}".repeat(9)).unwrap_err().contains("256"));
    }
}
