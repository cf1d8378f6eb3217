//! Rolling up a stretch: its blocks are read side by side, and six of the same form are written.

use std::collections::BTreeMap;

use weir_model::source::Cancel;
use weir_model::{Labels, Sample, TenantId, TimeRange, Timestamp, is_stale};

use super::manifest::{Deletion, Tombstone};
use super::merge::{BlockCursor, Samples, deleted_in, next_series};
use super::rollup::{Before, Columns, bucket_of};
use super::store::meta;
use super::stretch::stretch_range;
use super::write::BlockWriter;
use super::{BlockError, BlockMeta, Blocks, Column, Level, RollupPlan, Stretch, plan_rollup};

/// How far before the stretch a sample is looked for with which its first one is compared.
const BEFORE_MS: i64 = 2 * 3_600_000;

/// The sources of a stretch, read side by side.
struct Sources<'a> {
    blocks: &'a Blocks,
    cursors: Vec<BlockCursor>,
    metas: Vec<BlockMeta>,
    deletions: Vec<Deletion>,
    level: Level,
    /// With what lies before.
    range: TimeRange,
}

impl Blocks {
    /// What to roll up next.
    pub fn plan_rollup(&self, now: Timestamp) -> Option<RollupPlan> {
        plan_rollup(&self.manifest(), &self.options.rollup, now)
    }

    /// Rolls up the plan's stretch and lists the new blocks in place of those that it had. Cancelling stops between
    /// two series and changes nothing; what is damaged of the sources costs itself.
    pub fn roll(&self, plan: &RollupPlan, cancel: &Cancel) -> Result<(), BlockError> {
        let tenant = TenantId::parse(&plan.tenant).map_err(|_| BlockError::Misuse("the plan's tenant is not valid"))?;
        let version = self.take_id();
        let mut writers = Vec::with_capacity(Column::ALL.len());
        for column in Column::ALL {
            let (id, writer) = self.new_block(&tenant)?;
            writers.push((column, id, writer.with_long_chunks()));
        }
        // After the ids were taken: a later tombstone has a higher one, and concerns the new blocks.
        let mut sources = Sources::open(self, plan)?;
        while let Some((labels, at)) = next_series(&sources.cursors) {
            if cancel.is_cancelled() {
                return Err(BlockError::Cancelled);
            }
            sources.roll_series(&labels, &at, plan, &mut writers)?;
        }
        let mut written = Vec::new();
        for (column, id, writer) in writers {
            written.extend(writer.finish()?.map(|done| BlockMeta {
                resolution_ms: plan.level.resolution_ms(),
                column,
                ..meta(id, id, &plan.tenant, done)
            }));
        }
        self.list_rolled(plan, version, written, &sources.metas)
    }

    fn list_rolled(
        &self,
        plan: &RollupPlan,
        version: u64,
        written: Vec<BlockMeta>,
        sources: &[BlockMeta],
    ) -> Result<(), BlockError> {
        let stretch = Stretch {
            tenant: plan.tenant.clone(),
            level: plan.level,
            start_ms: plan.start_ms,
            newest: plan.newest,
            version,
        };
        let mut replaced = Vec::new();
        self.swap(|manifest| {
            // Merged or cleaned of deletions meanwhile: a deletion may have been forgotten with them.
            if !sources.iter().all(|source| manifest.blocks.iter().any(|b| b.id == source.id)) {
                return Err(BlockError::Misuse("a block that is rolled up is not listed any more"));
            }
            replaced.extend(manifest.blocks.iter().filter(|b| b.is_of(&stretch)).map(|b| b.id));
            manifest.blocks.retain(|b| !replaced.contains(&b.id));
            manifest.rolled.retain(|s| !s.is(&plan.tenant, plan.level, plan.start_ms));
            manifest.blocks.extend(written.iter().cloned());
            manifest.rolled.push(stretch);
            Ok(())
        })?;
        self.remove_files(&plan.tenant, &replaced);
        let n_samples: u64 = written.iter().map(|b| b.n_samples).sum();
        let n_bytes: u64 = written.iter().map(|b| b.n_bytes).sum();
        let (start, level) = (Timestamp(plan.start_ms).rfc3339(), plan.level);
        tracing::info!(tenant = plan.tenant, start, ?level, n_samples, n_bytes, "metrics rolled up");
        Ok(())
    }
}

impl<'a> Sources<'a> {
    fn open(blocks: &'a Blocks, plan: &RollupPlan) -> Result<Self, BlockError> {
        let manifest = blocks.manifest();
        let mut range = stretch_range(plan.level, plan.start_ms);
        range.start = Timestamp(range.start.0.saturating_sub(BEFORE_MS));
        let wanted = |b: &&BlockMeta| {
            b.tenant == plan.tenant
                && b.resolution_ms == plan.level.source_ms()
                && b.min_ms <= range.end.0
                && range.start.0 <= b.max_ms
        };
        let mut metas: Vec<BlockMeta> = manifest.blocks.iter().filter(wanted).cloned().collect();
        metas.sort_unstable_by_key(|b| b.order);
        let concern = manifest.tombstones.iter().filter(|t| metas.iter().any(|b| t.concerns(b)));
        let deletions = concern.filter_map(Tombstone::compile).collect();
        let (mut cursors, mut opened) = (Vec::new(), Vec::new());
        for meta in metas {
            let cursor = blocks.index(&meta).and_then(|index| {
                let all = (0..index.n_series()).collect();
                BlockCursor::new(meta.id, index, &all)
            });
            match cursor {
                Ok(cursor) => {
                    cursors.push(cursor);
                    opened.push(meta);
                }
                Err(error @ BlockError::Damaged { .. }) => blocks.note_damage(meta.id, &error),
                Err(error) => return Err(error),
            }
        }
        Ok(Self { blocks, cursors, metas: opened, deletions, level: plan.level, range })
    }

    fn roll_series(
        &mut self,
        labels: &Labels,
        at: &[usize],
        plan: &RollupPlan,
        writers: &mut [(Column, u64, BlockWriter)],
    ) -> Result<(), BlockError> {
        let mut all = match self.level {
            Level::Five => self.read_raw(labels, at)?,
            Level::Hour => self.read_rolled(labels, at)?,
        };
        let before = split_before(&mut all, plan.start_ms);
        let rolled = all.rolled(plan.level.resolution_ms(), &before);
        for (column, _, writer) in writers {
            let (times, values): (Vec<i64>, Vec<f64>) = rolled.get(*column).iter().map(|s| (s.at.0, s.value)).unzip();
            let histograms = if *column == Column::Last { &rolled.histograms[..] } else { &[] };
            writer.add(labels, &times, &values, histograms)?;
        }
        Ok(())
    }

    /// What the block has of the series that its cursor stands at; the cursor goes on.
    fn read(&mut self, idx: usize, labels: &Labels, out: &mut Samples) -> Result<(), BlockError> {
        let cursor = &mut self.cursors[idx];
        let (id, blocks) = (cursor.id, self.blocks);
        let mut excuse = |error: BlockError| match error {
            BlockError::Damaged { .. } => {
                blocks.note_damage(id, &error);
                Ok(())
            }
            other => Err(other),
        };
        let Some((_, entry)) = cursor.current.take() else { return Ok(()) };
        let deleted = deleted_in(&self.deletions, id, labels);
        cursor.decoder.read(&entry, self.range, &deleted, out, &mut excuse)?;
        cursor.advance().or_else(excuse)
    }

    fn read_raw(&mut self, labels: &Labels, at: &[usize]) -> Result<Columns, BlockError> {
        let mut samples = Samples::default();
        for idx in at {
            self.read(*idx, labels, &mut samples)?;
        }
        samples.settle();
        Ok(Columns { last: samples.floats, histograms: samples.histograms, ..Columns::default() })
    }

    /// Where a column of a day says no more than its last samples, these stand for it.
    fn read_rolled(&mut self, labels: &Labels, at: &[usize]) -> Result<Columns, BlockError> {
        let mut days: BTreeMap<i64, Columns> = BTreeMap::new();
        for idx in at {
            let (day, column) = (bucket_of(self.metas[*idx].min_ms, Level::Five.stretch_ms()), self.metas[*idx].column);
            let mut samples = Samples::default();
            self.read(*idx, labels, &mut samples)?;
            let into = days.entry(day).or_default();
            into.get_mut(column).extend(samples.floats);
            into.histograms.extend(samples.histograms);
        }
        let mut all = Columns::default();
        for (_, day) in days {
            let real: Vec<Sample> = day.last.iter().copied().filter(|s| !is_stale(s.value)).collect();
            for column in Column::ALL.into_iter().filter(|c| *c != Column::Last) {
                match (day.get(column), column) {
                    ([], Column::Count) => {
                        all.count.extend(real.iter().map(|s| Sample { at: s.at, value: 1.0 }));
                    }
                    ([], _) => all.get_mut(column).extend(&real),
                    (found, _) => all.get_mut(column).extend(found),
                }
            }
            all.last.extend(day.last);
            all.histograms.extend(day.histograms);
        }
        Ok(all)
    }
}

/// Takes out what lies before the stretch, and answers with its newest.
fn split_before(all: &mut Columns, start_ms: i64) -> Before {
    let mut before = Before::default();
    let is_before = |s: &&Sample| s.at.0 <= start_ms && !is_stale(s.value);
    before.value = all.last.iter().rfind(is_before).map(|s| s.value);
    let histograms = all.histograms.partition_point(|h| h.at.0 <= start_ms);
    before.histogram = all.histograms.drain(..histograms).rfind(|h| !h.histogram.is_stale());
    for column in Column::ALL {
        let samples = all.get_mut(column);
        let n = samples.partition_point(|s| s.at.0 <= start_ms);
        samples.drain(..n);
    }
    before
}
