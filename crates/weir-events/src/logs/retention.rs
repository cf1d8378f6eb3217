//! How long lines are kept, by stream, and the removal of what is older.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use weir_model::matcher::all_match;
use weir_model::{Labels, Matcher, Nanos, TenantId, Timestamp};

use super::compact::{Gone, append, of_files};
use super::durable::{Durable, LogStoreError};
use super::head::Open;
use super::load::Loader;
use super::manifest::FileMeta;
use super::segment::{Run, Segment};
use super::slot::Slot;
use super::store::{LogStore, Tenant};

/// Which streams are past their retention is looked up so often: it goes over the heads of all files that are old enough.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Streams that are kept for a time of their own.
#[derive(Clone, Debug)]
pub struct RetentionRule {
    pub matchers: Vec<Matcher>,
    /// Of several rules for a stream the highest counts, of equal ones the shortest time, as in Loki.
    pub priority: i64,
    /// `None`: for ever.
    pub period: Option<Duration>,
}

/// How long a tenant's lines are kept.
#[derive(Clone, Debug, Default)]
pub struct RetentionLimits {
    /// Of streams without a rule; `None`: for ever.
    pub period: Option<Duration>,
    pub rules: Vec<RetentionRule>,
}

/// How long lines are kept. Rows go at the end of the file they are in, so up to a day late and never early.
#[derive(Clone, Debug, Default)]
pub struct LogRetention {
    pub limits: RetentionLimits,
    /// Of tenants with limits of their own.
    pub tenants: AHashMap<TenantId, RetentionLimits>,
}

impl From<Option<Duration>> for LogRetention {
    fn from(period: Option<Duration>) -> Self {
        Self { limits: RetentionLimits { period, rules: Vec::new() }, tenants: AHashMap::new() }
    }
}

impl RetentionLimits {
    fn of(&self, labels: &Labels) -> Option<Duration> {
        let longest = Duration::MAX;
        let matching = self.rules.iter().filter(|rule| all_match(&rule.matchers, labels));
        let best = matching.min_by_key(|rule| (std::cmp::Reverse(rule.priority), rule.period.unwrap_or(longest)));
        best.map_or(self.period, |rule| rule.period)
    }

    /// `None`: something is kept for ever.
    fn longest(&self) -> Option<Duration> {
        let all = self.rules.iter().map(|rule| rule.period).chain([self.period]);
        all.collect::<Option<Vec<Duration>>>().and_then(|periods| periods.into_iter().max())
    }

    fn shortest(&self) -> Option<Duration> {
        self.rules.iter().map(|rule| rule.period).chain([self.period]).flatten().min()
    }
}

impl LogRetention {
    pub fn of(&self, tenant: &TenantId, labels: &Labels) -> Option<Duration> {
        self.of_tenant(tenant).of(labels)
    }
    fn of_tenant(&self, tenant: &TenantId) -> &RetentionLimits {
        self.tenants.get(tenant).unwrap_or(&self.limits)
    }
}

/// What of a file is past its time: rows of streams for which every row of the file is.
struct Past<'r> {
    limits: &'r RetentionLimits,
    now: Timestamp,
    known: AHashMap<Labels, Option<Duration>>,
}

impl Past<'_> {
    fn is(&mut self, run: &Run, file: &FileMeta) -> bool {
        let limits = self.limits;
        let period = *self.known.entry(run.labels.clone()).or_insert_with(|| limits.of(&run.labels));
        period.is_some_and(|period| file.max < self.now.minus(period).nanos())
    }
}

impl LogStore {
    pub(super) fn delete_old(&self, now: Timestamp) -> Result<(), LogStoreError> {
        let Some(durable) = &self.durable else { return Ok(()) };
        let retention = &durable.options.retention;
        let is_due = {
            let mut looked_at = durable.retention_looked_at.lock();
            let is_due = looked_at.is_none_or(|at| now.since(at) >= LOOK_EVERY);
            if is_due {
                *looked_at = Some(now);
            }
            is_due
        };
        let is_old = |file: &FileMeta, period: Option<Duration>| {
            period.is_some_and(|period| file.max < now.minus(period).nanos())
        };
        let is_over = |file: &FileMeta| is_old(file, retention.of_tenant(&file.tenant).longest());
        let may_be_over = |file: &FileMeta| is_due && is_old(file, retention.of_tenant(&file.tenant).shortest());
        let old: Vec<FileMeta> = {
            let manifest = durable.manifest.lock();
            manifest.files.iter().filter(|file| is_over(file) || may_be_over(file)).cloned().collect()
        };
        if old.is_empty() {
            return Ok(());
        }
        let _one = durable.cutting.lock();
        // A merge may have come between.
        let still_there = |file: &FileMeta| durable.manifest.lock().files.contains(file);
        for file in old.iter().filter(|file| still_there(file)) {
            if is_over(file) {
                self.delete_file(durable, file)?;
            } else if !durable.left_alone.lock().contains(&file.number) {
                let limits = retention.of_tenant(&file.tenant);
                self.delete_streams(durable, file, Past { limits, now, known: AHashMap::new() })?;
            }
        }
        self.remove_gone(durable)
    }

    fn delete_file(&self, durable: &Durable, file: &FileMeta) -> Result<(), LogStoreError> {
        durable.swap_manifest(|manifest| manifest.files.retain(|f| f != file))?;
        let slots = self.tenant_or_new(&file.tenant).remove_file(file.number);
        self.release(slots.iter().map(|slot| slot.let_go()).sum());
        durable.gone.lock().push(Gone { path: file.path(), slots });
        tracing::info!(path = file.path(), until = %file.max.millis().rfc3339(), "logs past their retention deleted");
        Ok(())
    }

    /// Writes the file anew without the streams whose time is over; a file of which nothing is left goes.
    fn delete_streams(&self, durable: &Durable, file: &FileMeta, mut past: Past<'_>) -> Result<(), LogStoreError> {
        let tenant: Arc<Tenant> = self.tenant_or_new(&file.tenant);
        let numbers = [file.number];
        let groups: Vec<Vec<Arc<Slot>>> = tenant.groups.iter().map(|g| of_files(&g.read().slots, &numbers)).collect();
        let (mut n_past, mut n_all) = (0, 0);
        for run in groups.iter().flatten().flat_map(|slot| &slot.head.runs) {
            n_all += 1;
            n_past += usize::from(past.is(run, file));
        }
        if n_past == 0 {
            return Ok(());
        }
        if n_past == n_all {
            return self.delete_file(durable, file);
        }
        let mut kept = Vec::with_capacity(groups.len());
        for slots in &groups {
            let Some(segments) = without(slots, &self.loader, |run| past.is(run, file))? else {
                // A damaged segment stays where it was reported, and its neighbours with it, until no stream's time lasts longer.
                durable.left_alone.lock().insert(file.number);
                return Ok(());
            };
            kept.push(segments);
        }
        tracing::info!(path = file.path(), n_past, n_all, "streams past their retention deleted");
        self.replace(durable, (&file.tenant, &tenant), &numbers, (groups, kept))
    }
}

/// Segments without the runs that go; `None` when one is damaged.
fn without(
    slots: &[Arc<Slot>],
    loader: &Loader,
    mut goes: impl FnMut(&Run) -> bool,
) -> Result<Option<Vec<Arc<Segment>>>, LogStoreError> {
    let mut kept = Vec::with_capacity(slots.len());
    for slot in slots {
        let stays: Vec<bool> = slot.head.runs.iter().map(|run| !goes(run)).collect();
        if !stays.contains(&true) {
            continue;
        }
        let Some(segment) = loader.segment_once(slot)? else { return Ok(None) };
        if !stays.contains(&false) {
            kept.push(segment);
            continue;
        }
        let mut open = Open::default();
        append(&mut open, segment, |idx| stays[idx])?;
        let rest = open.freeze(|_| true, Nanos::MIN, Nanos::MAX);
        kept.push(Arc::new(rest.to_segment(slot.id).map_err(LogStoreError::Segment)?));
    }
    Ok(Some(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_priority_counts_then_the_shortest_time() {
        let days = |n: u64| Some(Duration::from_secs(n * 86_400));
        let rule = |name: &str, value: &str, priority, period| RetentionRule {
            matchers: vec![Matcher::equal(name, value)],
            priority,
            period,
        };
        let rules = vec![
            rule("namespace", "dev", 0, days(3)),
            rule("app", "audit", 1, days(90)),
            rule("app", "audit", 1, None),
            rule("level", "debug", 0, days(1)),
            rule("app", "law", 2, None),
        ];
        let own = RetentionLimits { period: days(7), rules: Vec::new() };
        let tenant = TenantId::parse("own").unwrap();
        let retention = LogRetention {
            limits: RetentionLimits { period: days(30), rules },
            tenants: [(tenant.clone(), own)].into_iter().collect(),
        };
        let of =
            |labels: &[(&str, &str)]| retention.of(&TenantId::anonymous(), &Labels::from_pairs(labels.iter().copied()));
        assert_eq!(of(&[("app", "web")]), days(30));
        assert_eq!(of(&[("namespace", "dev")]), days(3));
        assert_eq!(of(&[("namespace", "dev"), ("level", "debug")]), days(1));
        assert_eq!(of(&[("namespace", "dev"), ("app", "audit")]), days(90));
        assert_eq!(of(&[("namespace", "dev"), ("app", "law")]), None);
        assert_eq!(retention.of(&tenant, &Labels::from_pairs([("namespace", "dev")])), days(7));
    }
}
