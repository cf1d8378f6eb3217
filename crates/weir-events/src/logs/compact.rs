//! Small files of segments made one: a quiet service's ten minutes become a segment of their own, and
//! thousands of them would cost more than their rows.
//!
//! Files that lie next to one another are merged group by group, so that arrival keeps its order: a merged
//! segment takes the place, and the id, of the first. The new file is durable before the manifest names it
//! instead of the old ones, which go when no reader is left.

use std::sync::Arc;
use std::time::Duration;

use weir_model::{Nanos, TenantId};

use super::durable::{Durable, LogStoreError};
use super::head::Open;
use super::load::Loader;
use super::manifest::FileMeta;
use super::segment::Segment;
use super::slot::{Saved, Slot};
use super::store::{HEAD_ROWS, LogStore, Tenant};
use super::view::View;

/// Fewer files are not worth a merge.
const FILES_MIN: usize = 8;
/// Of the merged file, before repeated rows and headers are saved.
const MERGED_BYTES_MAX: u64 = 16 << 20;
/// A file goes when its last row is past its retention, so it must not span too much.
const SPAN_MAX: Duration = Duration::from_secs(86_400);

/// A file that no manifest lists any more, and its segments, which a query may still read.
pub(crate) struct Gone {
    pub path: String,
    pub slots: Vec<Arc<Slot>>,
}

/// Numbers of the next files of one tenant to merge. Each holds at most half of the whole, so that a row is
/// rewritten once for each doubling and not at each merge. `left_alone`: files that must stay.
pub(crate) fn plan(files: &[FileMeta], left_alone: impl Fn(u64) -> bool) -> Option<(TenantId, Vec<u64>)> {
    let mut tenants: Vec<&TenantId> = files.iter().map(|f| &f.tenant).collect();
    tenants.sort_unstable_by_key(|t| t.as_str());
    tenants.dedup();
    for tenant in tenants {
        let of_tenant: Vec<&FileMeta> = files.iter().filter(|f| f.tenant == *tenant).collect();
        for from in 0..of_tenant.len() {
            let run = run_from(&of_tenant[from..], &left_alone);
            let (bytes, largest) = run.iter().fold((0, 0), |(sum, most), f| (sum + f.bytes, f.bytes.max(most)));
            if run.len() >= FILES_MIN && 2 * largest <= bytes {
                return Some((tenant.clone(), run.iter().map(|f| f.number).collect()));
            }
        }
    }
    None
}

/// The files from the first on that fit into one.
fn run_from<'f>(files: &[&'f FileMeta], left_alone: &impl Fn(u64) -> bool) -> Vec<&'f FileMeta> {
    let (mut run, mut bytes, mut min, mut max): (Vec<&FileMeta>, _, _, _) = (Vec::new(), 0, Nanos::MAX, Nanos::MIN);
    for file in files {
        bytes += file.bytes;
        (min, max) = (min.min(file.min), max.max(file.max));
        let span = max.0.saturating_sub(min.0).unsigned_abs();
        if left_alone(file.number) || bytes > MERGED_BYTES_MAX || u128::from(span) > SPAN_MAX.as_nanos() {
            break;
        }
        run.push(file);
    }
    run
}

/// Segments of a group, in their order, into fewer; one that finds no partner stays as it is.
fn merge(slots: &[Arc<Slot>], loader: &Loader) -> Result<Option<Vec<Arc<Segment>>>, LogStoreError> {
    let mut merged = Vec::new();
    let mut rest = slots;
    while let Some(first) = rest.first() {
        let mut rows = 0;
        let fits = |slot: &&Arc<Slot>| {
            rows += slot.head.n_rows as usize;
            rows <= HEAD_ROWS
        };
        let n = rest.iter().take_while(fits).count().max(1);
        let mut open = Open::default();
        for slot in &rest[..n] {
            let Some(segment) = loader.segment_once(slot)? else { return Ok(None) };
            if n == 1 {
                merged.push(segment);
            } else {
                append(&mut open, segment, |_| true)?;
            }
        }
        if n > 1 {
            let all = open.freeze(|_| true, Nanos::MIN, Nanos::MAX);
            merged.push(Arc::new(all.to_segment(first.id).map_err(LogStoreError::Segment)?));
        }
        rest = &rest[n..];
    }
    Ok(Some(merged))
}

/// Rows of the runs that `stays` says so of, by their place.
pub(crate) fn append(
    open: &mut Open,
    segment: Arc<Segment>,
    stays: impl Fn(usize) -> bool,
) -> Result<(), LogStoreError> {
    let view = View::new(segment.clone());
    for (_, run) in segment.head.runs.iter().enumerate().filter(|(idx, _)| stays(*idx)) {
        for row in run.first..run.first + run.n {
            let entry = view.entry(row as usize).map_err(LogStoreError::Segment)?;
            open.append(&run.labels, std::slice::from_ref(&entry));
        }
    }
    Ok(())
}

impl LogStore {
    /// Merges the next files that are worth it; whether there were any.
    pub fn compact(&self) -> Result<bool, LogStoreError> {
        let Some(durable) = &self.durable else { return Ok(false) };
        let _one = durable.cutting.lock();
        let planned = {
            let (manifest, left_alone) = (durable.manifest.lock(), durable.left_alone.lock());
            plan(&manifest.files, |number| left_alone.contains(&number))
        };
        let Some((id, numbers)) = planned else { return Ok(false) };
        let tenant = self.tenant_or_new(&id);
        let groups: Vec<Vec<Arc<Slot>>> = tenant.groups.iter().map(|g| of_files(&g.read().slots, &numbers)).collect();
        let mut merged = Vec::with_capacity(groups.len());
        for slots in &groups {
            match merge(slots, &self.loader)? {
                Some(segments) => merged.push(segments),
                None => {
                    // A damaged segment stays where it was reported, and its neighbours with it.
                    durable.left_alone.lock().extend(numbers);
                    return Ok(false);
                }
            }
        }
        self.replace(durable, (&id, &tenant), &numbers, (groups, merged))?;
        Ok(true)
    }

    pub(crate) fn replace(
        &self,
        durable: &Durable,
        (id, tenant): (&TenantId, &Tenant),
        numbers: &[u64],
        (old, new): (Vec<Vec<Arc<Slot>>>, Vec<Vec<Arc<Segment>>>),
    ) -> Result<(), LogStoreError> {
        let new: Vec<Vec<Arc<Slot>>> =
            new.into_iter().map(|of_group| of_group.into_iter().map(|s| Arc::new(Slot::new(s))).collect()).collect();
        let all: Vec<Arc<Slot>> = new.iter().flatten().cloned().collect();
        let saved = if all.is_empty() { None } else { Some(self.save(durable, id, &all)?) };
        let mut paths = Vec::new();
        durable.swap_manifest(|manifest| {
            let at = manifest.files.iter().position(|f| numbers.contains(&f.number)).unwrap_or(0);
            manifest.files.retain(|f| {
                let goes = numbers.contains(&f.number);
                if goes {
                    paths.push((f.number, f.path()));
                }
                !goes
            });
            manifest.files.splice(at..at, saved.iter().map(|(meta, _)| meta.clone()));
        })?;
        for (slot, place) in saved.into_iter().flat_map(|(_, slots)| slots) {
            slot.set_saved(place);
            slot.evict();
            self.account_head(&slot);
        }
        let mut freed = 0;
        for ((group, old), new) in tenant.groups.iter().zip(&old).zip(new) {
            let mut group = group.write();
            group.slots.retain(|slot| !old.iter().any(|o| Arc::ptr_eq(o, slot)));
            group.slots.extend(new);
            drop(group);
            freed += old.iter().map(|slot| slot.let_go()).sum::<u64>();
        }
        self.release(freed);
        let old: Vec<Arc<Slot>> = old.into_iter().flatten().collect();
        let slots_of = |number| of_files(&old, &[number]);
        let gone = paths.into_iter().map(|(number, path)| Gone { path, slots: slots_of(number) }).collect::<Vec<_>>();
        drop(old);
        tracing::debug!(n_files = gone.len(), "log files merged");
        durable.gone.lock().extend(gone);
        self.remove_gone(durable)
    }

    /// Removes files that no query reads any more; what a crash leaves goes at the next start.
    pub(crate) fn remove_gone(&self, durable: &Durable) -> Result<(), LogStoreError> {
        let mut gone = durable.gone.lock();
        while let Some(at) = gone.iter().position(|g| g.slots.iter().all(|slot| Arc::strong_count(slot) == 1)) {
            durable.dir.remove(&gone[at].path)?;
            gone.swap_remove(at);
        }
        Ok(())
    }
}

pub(crate) fn of_files(slots: &[Arc<Slot>], numbers: &[u64]) -> Vec<Arc<Slot>> {
    let is_in = |slot: &&Arc<Slot>| slot.saved().is_some_and(|saved: Saved| numbers.contains(&saved.file));
    let mut found: Vec<Arc<Slot>> = slots.iter().filter(is_in).cloned().collect();
    found.sort_by_key(|slot| slot.id);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: &[u64]) -> Vec<FileMeta> {
        let file = |(i, bytes): (usize, &u64)| FileMeta {
            tenant: TenantId::anonymous(),
            number: i as u64 + 1,
            bytes: *bytes,
            min: Nanos(i as i64),
            max: Nanos(i as i64 + 5),
            segments: vec![i as u64],
        };
        sizes.iter().enumerate().map(file).collect()
    }

    #[test]
    fn small_neighbours_are_merged_once_they_double() {
        let check = |sizes: &[u64], want: Option<Vec<u64>>| {
            assert_eq!(plan(&files(sizes), |_| false).map(|(_, numbers)| numbers), want, "{sizes:?}");
        };
        check(&[10; 7], None);
        check(&[10; 8], Some((1..=8).collect()));
        check(&[80, 10, 10, 10, 10, 10, 10, 10], None);
        check(&[80, 10, 10, 10, 10, 10, 10, 10, 10], Some((1..=9).collect()));
        check(&[800, 10, 10, 10, 10, 10, 10, 10, 10], Some((2..=9).collect()));
        check(&[MERGED_BYTES_MAX; 20], None);
        check(&[MERGED_BYTES_MAX / 4; 20], None);
        let mut wide = files(&[10; 9]);
        wide[4].max = Nanos(SPAN_MAX.as_nanos() as i64 + 100);
        assert_eq!(plan(&wide, |_| false), None);
        assert_eq!(plan(&files(&[10; 10]), |number| number == 1).map(|p| p.1), Some((2..=10).collect()));
    }
}
