//! The listed blocks of all tenants, and what changes the list.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use weir_model::source::{Cancel, Coarse, Rollup};
use weir_model::{Matcher, TenantId, TimeRange, Timestamp};
use weir_wal::{Dir, DirErrorKind, Position, folder_of};

use super::cache::Cache;
use super::manifest::{self, Deletion, Manifest, Tombstone};
use super::merge::{BlockCursor, EVER, Samples, columns, deleted_in, next_series};
use super::stretch::{layout, merged};
use super::write::{BlockWriter, Written};
use super::{BlockError, BlockIndex, BlockMeta, CHUNK_SAMPLES, CompactionOptions, CompactionPlan, Cut, WINDOW_MS};
use super::{Column, Level, RollupOptions, Stretch, expiry, plan_compaction};
use crate::chunk::ChunkHead;

/// Reports of damage that are kept; the log has all.
const DAMAGE_MAX: usize = 100;
/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct BlocksOptions {
    /// Memory for the indexes of opened blocks.
    pub cache_bytes: usize,
    pub compaction: CompactionOptions,
    /// None by default.
    pub rollup: RollupOptions,
}

impl Default for BlocksOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, compaction: CompactionOptions::default(), rollup: RollupOptions::default() }
    }
}

/// The listed blocks. Cheap to read beside one cut and one compaction; it starts no thread and reads no
/// clock.
pub struct Blocks {
    dir: Arc<dyn Dir>,
    folder: String,
    pub(super) options: BlocksOptions,
    manifest: RwLock<Arc<Manifest>>,
    /// Held while the manifest is swapped.
    swapping: Mutex<()>,
    next_id: AtomicU64,
    cache: Cache,
    /// Blocks that cannot be opened or have a chunk that cannot be read, and the first reports.
    damaged: Mutex<(BTreeSet<u64>, Vec<String>)>,
}

/// A block that a read goes over.
pub(super) struct Part {
    pub id: u64,
    pub index: Arc<BlockIndex>,
    pub column: Column,
    /// Which stretch it is rolled up of; 0 for a raw block.
    pub version: u64,
    /// What is read of it, ascending.
    pub clips: Vec<TimeRange>,
}

/// What a read of one tenant's blocks goes over.
#[derive(Default)]
pub(super) struct Snapshot {
    /// Raw blocks in their order, then rolled ones.
    pub parts: Vec<Part>,
    pub deletions: Vec<Deletion>,
    /// Where rolled blocks answer.
    pub coarse: Vec<Coarse>,
}

/// A store that has just been opened.
pub struct Opened {
    pub blocks: Blocks,
    /// Files that were listed nowhere and are gone.
    pub n_removed: usize,
}

pub(super) fn meta(id: u64, order: u64, tenant: &str, written: Written) -> BlockMeta {
    BlockMeta {
        id,
        order,
        tenant: tenant.to_owned(),
        min_ms: written.range.start.0,
        max_ms: written.range.end.0,
        n_series: written.n_series,
        n_samples: written.n_samples,
        n_bytes: written.n_bytes,
        newest: id,
        ..BlockMeta::default()
    }
}

impl Blocks {
    /// Reads the manifest and removes files that it does not list. `folder` is this store's alone.
    pub fn open(dir: Arc<dyn Dir>, folder: &str, options: BlocksOptions) -> Result<Opened, BlockError> {
        dir.create_folder(folder)?;
        let manifest = Manifest::load(&*dir, folder)?;
        let blocks = Self {
            folder: folder.to_owned(),
            next_id: AtomicU64::new(manifest.next_id),
            cache: Cache::new(options.cache_bytes),
            options,
            manifest: RwLock::new(Arc::new(manifest)),
            swapping: Mutex::default(),
            damaged: Mutex::default(),
            dir,
        };
        let n_removed = blocks.remove_unlisted()?;
        Ok(Opened { blocks, n_removed })
    }

    fn remove_unlisted(&self) -> Result<usize, BlockError> {
        let manifest = self.manifest();
        let listed: BTreeSet<String> = manifest.blocks.iter().map(|b| self.path(&b.tenant, b.id)).collect();
        let mut n_removed = 0;
        for name in self.dir.list(&self.folder)? {
            let Some(tenant) = name.strip_suffix('/') else {
                if name.ends_with(weir_wal::TEMPORARY) {
                    self.dir.remove(&format!("{}/{name}", self.folder))?;
                }
                continue;
            };
            for file in self.dir.list(&format!("{}/{tenant}", self.folder))? {
                let path = format!("{}/{tenant}/{file}", self.folder);
                if !file.ends_with('/') && !listed.contains(&path) {
                    self.dir.remove(&path)?;
                    n_removed += 1;
                }
            }
        }
        Ok(n_removed)
    }

    fn path(&self, tenant: &str, id: u64) -> String {
        format!("{}/{tenant}/{id:016x}.block", self.folder)
    }

    pub fn manifest(&self) -> Arc<Manifest> {
        self.manifest.read().clone()
    }

    /// Where replay of the log starts.
    pub fn covered(&self) -> Position {
        self.manifest().covered()
    }

    /// Reports of damage so far, the first hundred.
    pub fn damage(&self) -> Vec<String> {
        self.damaged.lock().1.clone()
    }

    pub(super) fn note_damage(&self, id: u64, error: &BlockError) {
        let mut damaged = self.damaged.lock();
        let text = error.to_string();
        if damaged.1.contains(&text) {
            return;
        }
        tracing::error!(block = id, %error, "metrics block damaged: answers lack what it cost");
        damaged.0.insert(id);
        if damaged.1.len() < DAMAGE_MAX {
            damaged.1.push(text);
        }
    }

    /// Starts a cut of the head.
    pub fn cut(&self) -> Cut<'_> {
        Cut::new(self)
    }

    pub(super) fn take_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::SeqCst)
    }

    pub(super) fn new_block(&self, tenant: &TenantId) -> Result<(u64, BlockWriter), BlockError> {
        let id = self.take_id();
        Ok((id, BlockWriter::create(self.dir.clone(), &self.path(tenant.as_str(), id))?))
    }

    /// Replaces the manifest on disk, then in memory; the new one is in force when this returns `Ok`.
    pub(super) fn swap(&self, change: impl FnOnce(&mut Manifest) -> Result<(), BlockError>) -> Result<(), BlockError> {
        let _swapping = self.swapping.lock();
        let mut next = Manifest::clone(&self.manifest());
        change(&mut next)?;
        next.next_id = self.next_id.load(Ordering::SeqCst);
        next.forget_tombstones();
        self.dir.replace(&format!("{}/{}", self.folder, manifest::FILE), &next.to_bytes())?;
        *self.manifest.write() = Arc::new(next);
        Ok(())
    }

    /// Deletes the samples of matching series in the range from all blocks listed now: at once for
    /// readers, from the disk with the next compaction.
    pub fn delete(&self, tenant: &TenantId, matchers: &[Matcher], range: TimeRange) -> Result<(), BlockError> {
        let id = self.take_id();
        self.swap(|manifest| {
            manifest.tombstones.push(Tombstone::new(id, tenant, matchers, range));
            Ok(())
        })
    }

    pub(super) fn index(&self, meta: &BlockMeta) -> Result<Arc<BlockIndex>, BlockError> {
        if let Some(known) = self.cache.get(meta.id) {
            return Ok(known);
        }
        let index = Arc::new(BlockIndex::open(&*self.dir, &self.path(&meta.tenant, meta.id))?);
        self.cache.put(meta.id, index.clone());
        Ok(index)
    }

    /// The tenant's blocks that a read of the range goes over, opened. A damaged one is reported and left out.
    pub(super) fn snapshot(
        &self,
        tenant: &TenantId,
        range: TimeRange,
        rollup: Rollup,
        accepted: Option<Duration>,
    ) -> Result<Snapshot, BlockError> {
        loop {
            let manifest = self.manifest();
            let layout = layout(&manifest, tenant.as_str(), range, accepted);
            match self.snapshot_of(&manifest, tenant.as_str(), range, rollup, &layout) {
                // Merged or expired between the listing and the opening.
                Err(BlockError::Dir(error))
                    if error.kind == DirErrorKind::NotFound && !Arc::ptr_eq(&manifest, &self.manifest()) => {}
                other => return other,
            }
        }
    }

    fn snapshot_of(
        &self,
        manifest: &Manifest,
        tenant: &str,
        range: TimeRange,
        rollup: Rollup,
        layout: &[&Stretch],
    ) -> Result<Snapshot, BlockError> {
        let coarse = merged(layout);
        let raw_clips = outside(&coarse, range);
        let overlap = |b: &&BlockMeta, clip: &TimeRange| b.min_ms <= clip.end.0 && clip.start.0 <= b.max_ms;
        let own = || manifest.blocks.iter().filter(|b| b.tenant == tenant);
        let raw = own().filter(|b| b.resolution_ms == 0 && raw_clips.iter().any(|clip| overlap(b, clip)));
        let mut metas: Vec<(&BlockMeta, u64)> = raw.map(|b| (b, 0)).collect();
        metas.sort_unstable_by_key(|(b, _)| b.order);
        for stretch in layout {
            let wanted = own().filter(|b| b.is_of(stretch) && is_wanted(b.column, rollup) && overlap(b, &range));
            metas.extend(wanted.map(|b| (b, stretch.version)));
        }
        let mut parts = Vec::with_capacity(metas.len());
        for (meta, version) in &metas {
            let clips = if *version == 0 { raw_clips.clone() } else { vec![range] };
            match self.index(meta) {
                Ok(index) => {
                    parts.push(Part { id: meta.id, index, column: meta.column, version: *version, clips });
                }
                Err(error @ BlockError::Damaged { .. }) => self.note_damage(meta.id, &error),
                Err(error) => return Err(error),
            }
        }
        let concern = manifest.tombstones.iter().filter(|t| metas.iter().any(|(b, _)| t.concerns(b)));
        Ok(Snapshot { parts, deletions: concern.filter_map(Tombstone::compile).collect(), coarse })
    }

    /// Length of the longest buckets that a read of the range meets.
    pub(super) fn coarsest(&self, tenant: &TenantId, range: TimeRange, accepted: Option<Duration>) -> Duration {
        let manifest = self.manifest();
        let found = layout(&manifest, tenant.as_str(), range, accepted);
        let longest = found.iter().map(|s| s.level.resolution_ms()).max().unwrap_or(0);
        Duration::from_millis(longest.unsigned_abs())
    }

    /// What to merge next.
    pub fn plan(&self, now: Timestamp) -> Option<CompactionPlan> {
        let skip = self.damaged.lock().0.clone();
        plan_compaction(&self.manifest().blocks, &skip, &self.options.compaction, now)
    }

    /// Merges the plan's blocks into one and lists it instead of them. `None` when all was deleted.
    /// Cancelling stops between two series and changes nothing.
    pub fn compact(&self, plan: &CompactionPlan, cancel: &Cancel) -> Result<Option<BlockMeta>, BlockError> {
        let tenant = TenantId::parse(&plan.tenant).map_err(|_| BlockError::Misuse("the plan's tenant is not valid"))?;
        let (id, mut writer) = self.new_block(&tenant)?;
        // After the id was taken: a later tombstone has a higher one, and concerns the new block.
        let manifest = self.manifest();
        let mut metas: Vec<_> = manifest.blocks.iter().filter(|b| plan.ids.contains(&b.id)).collect();
        metas.sort_unstable_by_key(|b| b.order);
        if metas.len() != plan.ids.len() {
            return Err(BlockError::Misuse("a block of the plan is not listed any more"));
        }
        let resolution_ms = metas.first().map_or(0, |b| b.resolution_ms);
        if resolution_ms > 0 {
            writer = writer.with_long_chunks();
        }
        let concern = manifest.tombstones.iter().filter(|t| metas.iter().any(|b| t.concerns(b)));
        let deletions: Vec<_> = concern.filter_map(Tombstone::compile).collect();
        let mut cursors = Vec::new();
        for meta in &metas {
            let opened = self.index(meta).and_then(|index| {
                let all = (0..index.n_series()).collect();
                BlockCursor::new(meta.id, index, &all)
            });
            cursors.push(opened.inspect_err(|error| self.note_if_damaged(meta.id, error))?);
        }
        while let Some((labels, at)) = next_series(&cursors) {
            if cancel.is_cancelled() {
                return Err(BlockError::Cancelled);
            }
            self.merge_series(&mut cursors, &labels, &at, &deletions, &mut writer)?;
        }
        let order = metas.first().map_or(id, |b| b.order);
        let written = writer.finish()?.map(|written| BlockMeta {
            newest: metas.iter().map(|b| b.newest_cut()).max().unwrap_or(id),
            resolution_ms,
            column: metas.first().map_or(Column::Last, |b| b.column),
            ..meta(id, order, &plan.tenant, written)
        });
        self.swap(|manifest| {
            let current = up_to_date(manifest, &plan.tenant);
            let before = manifest.blocks.len();
            manifest.blocks.retain(|b| !plan.ids.contains(&b.id));
            if before - manifest.blocks.len() != plan.ids.len() {
                return Err(BlockError::Misuse("a block of the plan is not listed any more"));
            }
            manifest.blocks.extend(written.clone());
            // Nothing new came in by merging.
            for idx in current {
                let stretch = &manifest.rolled[idx];
                let newest = manifest.newest_raw(&plan.tenant, stretch.range());
                manifest.rolled[idx].newest = newest.unwrap_or(stretch.newest);
            }
            Ok(())
        })?;
        self.remove_files(&plan.tenant, &plan.ids);
        Ok(written)
    }

    /// Writes every block anew that something is deleted from, without it.
    pub fn clean_tombstones(&self, cancel: &Cancel) -> Result<(), BlockError> {
        loop {
            let manifest = self.manifest();
            let skip = self.damaged.lock().0.clone();
            let concerned =
                |block: &&BlockMeta| !skip.contains(&block.id) && manifest.tombstones.iter().any(|t| t.concerns(block));
            let Some(block) = manifest.blocks.iter().find(concerned) else { return Ok(()) };
            let plan = CompactionPlan { tenant: block.tenant.clone(), ids: vec![block.id] };
            match self.compact(&plan, cancel) {
                Ok(_) => {}
                // Merged or expired by somebody else meanwhile.
                Err(BlockError::Misuse(_)) if !Arc::ptr_eq(&manifest, &self.manifest()) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes files that no manifest on the disk can list.
    pub(super) fn discard(&self, blocks: &[BlockMeta]) {
        blocks.iter().for_each(|b| self.remove_files(&b.tenant, &[b.id]));
    }

    fn note_if_damaged(&self, id: u64, error: &BlockError) {
        if matches!(error, BlockError::Damaged { .. }) {
            self.note_damage(id, error);
        }
    }

    fn merge_series(
        &self,
        cursors: &mut [BlockCursor],
        labels: &weir_model::Labels,
        at: &[usize],
        deletions: &[Deletion],
        writer: &mut BlockWriter,
    ) -> Result<(), BlockError> {
        let mut parts = Vec::with_capacity(at.len());
        for idx in at {
            let cursor = &mut cursors[*idx];
            let (_, entry) = cursor.current.take().expect("a cursor that was chosen stands at a series");
            let deleted = deleted_in(deletions, cursor.id, labels);
            parts.push((*idx, entry, deleted));
            let (id, advanced) = (cursor.id, cursor.advance());
            advanced.inspect_err(|error| self.note_if_damaged(id, error))?;
        }
        // Chunks that neither overlap nor are short are copied as they are.
        let mut chunks = Vec::new();
        for (idx, entry, _) in &parts {
            for chunk in &entry.chunks {
                chunks.push((cursors[*idx].index.times_head(chunk.times)?, *idx, *chunk));
            }
        }
        chunks.sort_by_key(|(head, ..)| head.range.start);
        let untouched = parts.iter().all(|(_, entry, deleted)| deleted.is_empty() && entry.histograms.is_empty());
        if untouched && chunks.windows(2).all(|w| stand_alone(&w[0].0, &w[1].0)) {
            let mut encoded = Vec::with_capacity(chunks.len());
            for (head, idx, chunk) in &chunks {
                let cursor = &mut cursors[*idx];
                let (id, values) = (cursor.id, cursor.decoder.encoded(chunk));
                let values = values.inspect_err(|error| self.note_if_damaged(id, error))?;
                encoded.push((*head, *idx, chunk.times, values));
            }
            let mut refs = Vec::with_capacity(encoded.len());
            for (head, idx, times, values) in &encoded {
                refs.push((*head, cursors[*idx].index.times_bytes(*times)?, &values[..]));
            }
            return writer.add_encoded(labels, &refs);
        }
        let mut samples = Samples::default();
        for (idx, entry, deleted) in &parts {
            let id = cursors[*idx].id;
            // A merge that cannot read everything must not take the place of what it read.
            let read = cursors[*idx].decoder.read(entry, EVER, deleted, &mut samples, &mut Err);
            read.inspect_err(|error| self.note_if_damaged(id, error))?;
        }
        samples.settle();
        let (times, values) = columns(&samples.floats);
        writer.add(labels, &times, &values, &samples.histograms)
    }

    /// Drops what is old: raw blocks after `retention`, others after theirs; how many blocks.
    pub fn expire(&self, retention: Option<Duration>, now: Timestamp) -> Result<usize, BlockError> {
        let manifest = self.manifest();
        let old = expiry(&manifest, retention, &self.options.rollup, now);
        if old.ids.is_empty() && old.stretches.is_empty() {
            return Ok(0);
        }
        self.swap(|manifest| {
            manifest.blocks.retain(|b| !old.ids.contains(&b.id));
            manifest.rolled.retain(|s| !old.stretches.contains(&s.version));
            manifest.gone.extend(old.gone.clone());
            Ok(())
        })?;
        for block in manifest.blocks.iter().filter(|b| old.ids.contains(&b.id)) {
            self.remove_files(&block.tenant, &[block.id]);
        }
        if old.n_lost > 0 {
            tracing::error!(stretches = old.n_lost, "metrics expired that could not be rolled up for a week");
        }
        tracing::info!(n_blocks = old.ids.len(), "metric blocks expired");
        Ok(old.ids.len())
    }

    /// Readers that have a file open keep it; what fails here is removed at the next start.
    pub(super) fn remove_files(&self, tenant: &str, ids: &[u64]) {
        for id in ids {
            self.cache.remove(*id);
            let path = self.path(tenant, *id);
            if let Err(error) = self.dir.remove(&path) {
                tracing::warn!(%error, "cannot remove a block that is not listed any more");
            }
        }
    }

    /// Copies everything that is listed now into `folder` of the same disk, which can then be opened
    /// as a store of its own.
    pub fn snapshot_to(&self, folder: &str) -> Result<Arc<Manifest>, BlockError> {
        // Nothing listed is removed while it is copied.
        let _swapping = self.swapping.lock();
        let manifest = self.manifest();
        for block in &manifest.blocks {
            let from = self.path(&block.tenant, block.id);
            let to = format!("{folder}/{}", &from[self.folder.len() + 1..]);
            self.dir.create_folder(folder_of(&to))?;
            let (from, to_file) = (self.dir.open(&from)?, self.dir.create(&to)?);
            let (mut buffer, mut at) = (vec![0; COPY_BYTES], 0);
            loop {
                let n = from.read_at(at, &mut buffer)?;
                if n == 0 {
                    break;
                }
                to_file.write_at(at, &buffer[..n])?;
                at += n as u64;
            }
            to_file.sync()?;
            self.dir.sync_folder(folder_of(&to))?;
        }
        self.dir.put_new(&format!("{folder}/{}", manifest::FILE), &manifest.to_bytes())?;
        Ok(manifest)
    }
}

/// What is left of a range.
fn outside(coarse: &[Coarse], range: TimeRange) -> Vec<TimeRange> {
    let mut left = Vec::new();
    let mut from = range.start.0;
    for one in coarse {
        if from < one.range.start.0 {
            left.push(TimeRange::new(Timestamp(from), Timestamp(one.range.start.0 - 1)));
        }
        from = from.max(one.range.end.0.saturating_add(1));
    }
    if from <= range.end.0 {
        left.push(TimeRange::new(Timestamp(from), range.end));
    }
    left
}

fn is_wanted(column: Column, rollup: Rollup) -> bool {
    match column {
        Column::Last => true,
        Column::Counter => rollup == Rollup::Counter,
        Column::Min => rollup == Rollup::Min,
        Column::Max => rollup == Rollup::Max,
        Column::Sum | Column::Count => rollup == Rollup::Sum,
    }
}

/// Stretches of five minutes that hold everything of the blocks that there are.
fn up_to_date(manifest: &Manifest, tenant: &str) -> Vec<usize> {
    let own = manifest.rolled.iter().enumerate().filter(|(_, s)| s.level == Level::Five && s.tenant == tenant);
    let current = own.filter(|(_, s)| manifest.newest_raw(tenant, s.range()) == Some(s.newest));
    current.map(|(idx, _)| idx).collect()
}

/// Whether two chunks that follow each other are best left as they are.
fn stand_alone(a: &ChunkHead, b: &ChunkHead) -> bool {
    let apart = a.range.end < b.range.start;
    let same_window = a.range.start.0.div_euclid(WINDOW_MS) == b.range.start.0.div_euclid(WINDOW_MS);
    apart && (!same_window || a.n_samples + b.n_samples > CHUNK_SAMPLES)
}
