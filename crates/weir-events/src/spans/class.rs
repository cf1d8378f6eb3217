//! How much a trace is worth keeping: decided once, when it has been quiet for a while.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::{Span, SpanId};

use super::build::{fixed, unordered};
use super::bytes::Corrupt;
use super::contents::Contents;
use super::section::Fault;
use weir_wal::DirFile;

/// Of a block: all its traces are of one class, or not looked at yet. A later one is kept rather than an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Cut from memory; of all classes.
    Fresh,
    Normal,
    Slow,
    Error,
}

impl Class {
    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn of_code(code: u8) -> Result<Self, Corrupt> {
        match code {
            0 => Ok(Self::Fresh),
            1 => Ok(Self::Normal),
            2 => Ok(Self::Slow),
            3 => Ok(Self::Error),
            _ => Err(Corrupt("a block has an unknown class")),
        }
    }
}

/// Fewer traces than this say nothing of an operation's slowest hundredth.
const TRACES_MIN: u64 = 100;
const SLOWEST_SHARE: f64 = 0.01;

/// Durations of whole traces by operation: the service and name of the root.
#[derive(Default)]
pub struct Operations {
    by_name: AHashMap<(String, String), AHashMap<u64, u64>>,
}

/// Durations that differ by about three in a hundred.
fn bucket(nanos: i64) -> u64 {
    (nanos.max(0) as f64).to_bits() >> 47
}

impl Operations {
    pub fn add(&mut self, service: &str, name: &str, nanos: i64) {
        let buckets = self.by_name.entry((service.to_owned(), name.to_owned())).or_default();
        *buckets.entry(bucket(nanos)).or_default() += 1;
    }

    /// The roots of a block, from its columns.
    pub fn add_block(&mut self, contents: &Contents, file: &dyn DirFile) -> Result<(), Fault> {
        let groups = 0..contents.groups.len();
        let load = |column: usize| contents.load(file, column, groups.clone());
        let (forms, parents, durations) = (load(fixed::FORMS)?, load(fixed::PARENTS)?, load(fixed::DURATIONS)?);
        let has_foreign = contents.times_in(fixed::FOREIGN);
        let mut texts = contents.texts.reader(file);
        let mut found: AHashMap<(u32, i64), u64> = AHashMap::new();
        for group in groups.clone() {
            let all = |packed: Option<&super::packed::Packed>| {
                let mut out = Vec::new();
                packed.ok_or(Corrupt("a column is missing"))?.unpack(&mut out, |v| v);
                Ok::<_, Corrupt>(out)
            };
            let (forms, parents) = (all(forms.group(group))?, all(parents.group(group))?);
            for ((form, parent), nanos) in forms.iter().zip(parents).zip(all(durations.group(group))?) {
                let is_root = parent == 0 && has_foreign.get(*form as usize) == Some(&0);
                if is_root {
                    *found.entry((*form as u32, unordered(nanos))).or_default() += 1;
                }
            }
        }
        for ((form, nanos), n) in found {
            let form = &contents.forms[form as usize];
            let name = texts.text(form.name)?;
            let service = contents.resources[form.resource as usize].service();
            (0..n).for_each(|_| self.add(service, &name, nanos));
        }
        Ok(())
    }

    /// Of each operation with enough traces, the duration above which a trace is among its slowest hundredth.
    pub fn limits(self) -> Limits {
        let limit = |buckets: AHashMap<u64, u64>| {
            let total: u64 = buckets.values().sum();
            let mut buckets: Vec<(u64, u64)> = buckets.into_iter().collect();
            buckets.sort_unstable();
            let mut above = (total as f64 * SLOWEST_SHARE) as u64;
            let at = buckets.iter().rev().find(|(_, n)| {
                let is_here = *n > above;
                above = above.saturating_sub(*n);
                is_here
            });
            at.filter(|_| total >= TRACES_MIN).map(|(bucket, _)| *bucket)
        };
        Limits { by_name: self.by_name.into_iter().filter_map(|(key, b)| Some((key, limit(b)?))).collect() }
    }
}

#[derive(Default)]
pub struct Limits {
    by_name: AHashMap<(String, String), u64>,
}

impl Limits {
    /// `slow_nanos`: from here on a trace is slow whatever its operation is used to; 0 for never.
    pub fn class_of(&self, spans: &[Arc<Span>], slow_nanos: i64) -> Class {
        if spans.iter().any(|span| span.is_error()) {
            return Class::Error;
        }
        let ids: ahash::AHashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
        // A root that has not arrived leaves the first of those that lack their parent.
        let is_top = |span: &&Arc<Span>| span.parent.is_none_or(|parent| !ids.contains(&parent));
        let root = spans.iter().find(|span| span.parent.is_none()).or_else(|| spans.iter().find(is_top));
        let Some(root) = root else { return Class::Normal };
        let nanos = root.duration_nanos();
        if slow_nanos > 0 && nanos >= slow_nanos {
            return Class::Slow;
        }
        let key = (root.resource.service().to_owned(), root.name.to_string());
        let is_slow = root.parent.is_none() && self.by_name.get(&key).is_some_and(|limit| bucket(nanos) > *limit);
        if is_slow { Class::Slow } else { Class::Normal }
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{AttrValue, Nanos, Resource, SpanStatus, StatusCode};

    use super::*;

    fn root(name: &str, ms: i64) -> Arc<Span> {
        let resource = Resource { attributes: vec![("service.name".into(), AttrValue::from("shop"))] };
        let span_id = SpanId([1; 8]);
        let end = Nanos(ms * 1_000_000);
        Arc::new(Span { name: name.into(), span_id, end, resource: Arc::new(resource), ..Span::default() })
    }

    #[test]
    fn slow_is_what_is_slow_for_its_operation() {
        let mut operations = Operations::default();
        (0..200).for_each(|k| operations.add("shop", "search", (100 + k % 50) * 1_000_000));
        (0..200).for_each(|k| operations.add("shop", "report", (10_000 + k * 10) * 1_000_000));
        (0..20).for_each(|_| operations.add("shop", "rare", 1_000_000));
        let limits = operations.limits();
        let check = |name: &str, ms: i64, want: Class| {
            assert_eq!(limits.class_of(&[root(name, ms)], 60_000_000_000), want, "{name} {ms}");
        };
        check("search", 140, Class::Normal);
        check("search", 200, Class::Slow);
        check("report", 10_500, Class::Normal);
        check("report", 20_000, Class::Slow);
        check("rare", 50_000, Class::Normal);
        check("rare", 60_000, Class::Slow);
        check("unknown", 59_000, Class::Normal);
        let mut failed = Span::clone(&root("search", 1));
        failed.status = SpanStatus { code: StatusCode::Error, message: "".into() };
        assert_eq!(limits.class_of(&[root("search", 500), Arc::new(failed)], 0), Class::Error);
    }

    #[test]
    fn about_a_hundredth_is_slow() {
        let mut operations = Operations::default();
        let all: Vec<i64> = (0..5000).map(|k: i64| 1_000_000 + k * k * 1000).collect();
        all.iter().for_each(|nanos| operations.add("shop", "x", *nanos));
        let limits = operations.limits();
        let is_slow = |nanos: &&i64| limits.class_of(&[root("x", **nanos / 1_000_000)], 0) == Class::Slow;
        let n = all.iter().filter(is_slow).count();
        assert!((1..=50).contains(&n), "{n}");
    }
}
