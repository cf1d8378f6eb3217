//! Compaction: blocks cut from memory become blocks of a class each, and small blocks of a class larger ones.
//! What is due is decided by a pure function; the store executes it.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use weir_model::{Nanos, Span, TraceId};
use weir_wal::Dir;

use super::block::{Block, BlockError};
use super::build::{Builder, fixed, unordered};
use super::class::{Class, Limits, Operations};
use super::contents::Contents;
use super::cursor::{OpenBlocks, WINDOW_NANOS};
use super::join;

/// Blocks merged at once, and how many of one class wait for it.
const INPUTS_MAX: usize = 16;
const INPUTS_MIN: usize = 8;
/// A block with more spans is not merged again, and none is made larger.
const SPANS_MAX: u64 = 1 << 19;
/// Fresh blocks become blocks of a class after this, few as they may be.
const FRESH_NANOS: i64 = 3_600_000_000_000;
/// Blocks of a class are merged within a day, so that they go when their day is over.
const DAY_NANOS: i64 = 24 * FRESH_NANOS;
/// Traces in memory as spans.
const BATCH: usize = 256;

/// How long blocks are kept, by class.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub normal: Duration,
    pub slow: Duration,
    pub errors: Duration,
}

impl Retention {
    /// A class is never kept shorter than a lower one; what has no class yet is kept as the longest.
    pub fn of(&self, class: Class) -> Duration {
        match class {
            Class::Normal => self.normal,
            Class::Slow => self.slow.max(self.normal),
            Class::Error | Class::Fresh => self.errors.max(self.slow).max(self.normal),
        }
    }

    /// Whether a block of the class whose last span starts at `last` is past its time.
    pub fn is_past(&self, class: Class, last: Nanos, now: Nanos) -> bool {
        let kept = i64::try_from(self.of(class).as_nanos()).unwrap_or(i64::MAX);
        last.0 < now.0.saturating_sub(kept)
    }
}

/// The blocks of one tenant that should become others now, by place; none when nothing is due. `idle`: a trace
/// that had no span for so long is not expected to get any.
pub fn plan(blocks: &[Arc<Block>], now: Nanos, idle: Duration) -> Vec<usize> {
    let idle = i64::try_from(idle.as_nanos()).unwrap_or(i64::MAX);
    let of_class = |class: Class| blocks.iter().enumerate().filter(move |(_, block)| block.class == class);
    let quiet = |(_, block): &(usize, &Arc<Block>)| block.last.0.saturating_add(idle) <= now.0;
    let mut fresh: Vec<(usize, &Arc<Block>)> = of_class(Class::Fresh).filter(quiet).collect();
    fresh.sort_by_key(|(_, block)| block.last);
    let is_old = fresh.first().is_some_and(|(_, block)| block.last.0.saturating_add(FRESH_NANOS) <= now.0);
    if fresh.len() >= INPUTS_MIN || is_old {
        return bounded(fresh.into_iter());
    }
    for class in [Class::Normal, Class::Slow, Class::Error] {
        let mut small: Vec<(usize, &Arc<Block>)> =
            of_class(class).filter(|(_, block)| block.n_spans < SPANS_MAX / 2).collect();
        small.sort_by_key(|(_, block)| (block.last.0.div_euclid(DAY_NANOS), block.n_spans));
        for day in small.chunk_by(|a, b| a.1.last.0.div_euclid(DAY_NANOS) == b.1.last.0.div_euclid(DAY_NANOS)) {
            // Of like size, so that a span is written again few times.
            let like =
                |least: u64| day.iter().filter(move |(_, b)| (least..=least.saturating_mul(4)).contains(&b.n_spans));
            let of_many = day.iter().map(|(_, first)| first.n_spans).find(|least| like(*least).count() >= INPUTS_MIN);
            if let Some(least) = of_many {
                return bounded(like(least).copied());
            }
        }
    }
    Vec::new()
}

/// As many as are merged at once: what else a store has to do waits for it.
fn bounded<'a>(blocks: impl Iterator<Item = (usize, &'a Arc<Block>)>) -> Vec<usize> {
    let mut n_spans = 0;
    let fits = |(_, block): &(usize, &Arc<Block>)| {
        let is_first = n_spans == 0;
        n_spans += block.n_spans;
        is_first || n_spans <= SPANS_MAX
    };
    blocks.take(INPUTS_MAX).take_while(fits).map(|(place, _)| place).collect()
}

/// A trace of the inputs: its first start, its id, and where its parts are.
type Place = (Nanos, TraceId, Vec<(usize, u32)>);

/// Reads blocks and writes their traces anew.
pub struct Compaction<'a> {
    pub dir: &'a dyn Dir,
    pub open: &'a OpenBlocks,
    pub inputs: &'a [Arc<Block>],
    /// Blocks that stay, which may hold parts of the same traces.
    pub others: &'a [Arc<Block>],
    pub slow_nanos: i64,
    pub group_rows: usize,
}

impl Compaction<'_> {
    /// Hands each new block's bytes to `put`. Fails with nothing lost: the inputs are as they were.
    pub fn run<E: From<BlockError>>(&self, mut put: impl FnMut(Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let contents = self.inputs.iter().map(|block| self.open.get(self.dir, block)).collect::<Result<Vec<_>, _>>()?;
        let is_fresh = self.inputs.iter().any(|block| block.class == Class::Fresh);
        let limits = if is_fresh { self.limits(&contents)? } else { Limits::default() };
        let raised = self.raised(&contents)?;
        let mut builders: AHashMap<u8, Builder> = AHashMap::new();
        for batch in self.places(&contents)?.chunks(BATCH) {
            let mut traces = self.read(&contents, batch)?;
            for (_, id, parts) in batch {
                let Some(spans) = traces.remove(id) else { continue };
                let held = parts.iter().map(|(input, _)| self.inputs[*input].class).max().unwrap_or(Class::Normal);
                let own = if is_fresh { limits.class_of(&spans, self.slow_nanos) } else { held };
                let class = own.max(held).max(raised.get(id).copied().unwrap_or(Class::Normal));
                let builder = builders.entry(class.code()).or_insert_with(|| Builder::new(self.group_rows, class));
                builder.push(*id, &spans);
                if builder.n_spans() >= SPANS_MAX
                    && let Some(full) = builders.remove(&class.code())
                {
                    put(full.finish())?;
                }
            }
        }
        builders.into_values().try_for_each(|builder| put(builder.finish()))
    }

    fn limits(&self, contents: &[Arc<Contents>]) -> Result<Limits, BlockError> {
        let mut operations = Operations::default();
        for (block, contents) in self.inputs.iter().zip(contents) {
            let file = block.file(self.dir)?;
            operations.add_block(contents, &*file).map_err(|fault| block.damaged(fault))?;
        }
        Ok(operations.limits())
    }

    /// Traces of the inputs that have a part of a higher class in a block that stays: they go where it is.
    fn raised(&self, contents: &[Arc<Contents>]) -> Result<AHashMap<TraceId, Class>, BlockError> {
        let mut raised = AHashMap::new();
        let first = self.inputs.iter().map(|block| block.first.0).min().unwrap_or(0).saturating_sub(WINDOW_NANOS);
        let last = self.inputs.iter().map(|block| block.last.0).max().unwrap_or(0).saturating_add(WINDOW_NANOS);
        let near = |block: &&Arc<Block>| block.first.0 <= last && first <= block.last.0 && block.class > Class::Normal;
        for block in self.others.iter().filter(near) {
            let other = self.open.get(self.dir, block)?;
            for id in contents.iter().flat_map(|contents| contents.ids().map(|(id, _)| id)) {
                if other.find(id).is_some() {
                    let class = raised.entry(id).or_insert(block.class);
                    *class = block.class.max(*class);
                }
            }
        }
        Ok(raised)
    }

    /// All traces of the inputs in the order of a block.
    fn places(&self, contents: &[Arc<Contents>]) -> Result<Vec<Place>, BlockError> {
        let mut found: Vec<(TraceId, Nanos, usize, u32)> = Vec::new();
        for (input, (block, contents)) in self.inputs.iter().zip(contents).enumerate() {
            let file = block.file(self.dir)?;
            let groups = 0..contents.groups.len();
            let starts = contents.load(&*file, fixed::STARTS, groups).map_err(|fault| block.damaged(fault))?;
            for (id, ordinal) in contents.ids() {
                let group = contents.group_of(ordinal);
                let row = contents.rows(ordinal).start - contents.groups[group].rows.start;
                let start = starts.group(group).and_then(|starts| starts.get(row as usize)).map_or(0, unordered);
                found.push((id, Nanos(start), input, ordinal));
            }
        }
        found.sort_unstable();
        let mut places: Vec<Place> = found
            .chunk_by(|a, b| a.0 == b.0)
            .map(|parts| {
                let first = parts.iter().map(|(_, first, ..)| *first).min().unwrap_or_default();
                (first, parts[0].0, parts.iter().map(|(_, _, input, ordinal)| (*input, *ordinal)).collect())
            })
            .collect();
        places.sort_unstable_by_key(|(first, id, _)| (std::cmp::Reverse(*first), *id));
        Ok(places)
    }

    fn read(
        &self,
        contents: &[Arc<Contents>],
        batch: &[Place],
    ) -> Result<AHashMap<TraceId, Vec<Arc<Span>>>, BlockError> {
        let mut wanted: Vec<(usize, u32)> = batch.iter().flat_map(|(_, _, parts)| parts.iter().copied()).collect();
        wanted.sort_unstable();
        let mut traces: AHashMap<TraceId, Vec<Arc<Span>>> = AHashMap::with_capacity(batch.len());
        for of_input in wanted.chunk_by(|a, b| a.0 == b.0) {
            let input = of_input[0].0;
            let ordinals: Vec<u32> = of_input.iter().map(|(_, ordinal)| *ordinal).collect();
            for (id, spans) in self.inputs[input].traces(self.dir, &contents[input], &ordinals)? {
                match traces.get_mut(&id) {
                    Some(known) => join(known, spans),
                    None => {
                        traces.insert(id, spans);
                    }
                }
            }
        }
        Ok(traces)
    }
}

/// The traces of a block past its retention that a later part has raised above its class: anew, as a block of that
/// class. `None` when there are none, as mostly.
pub fn promoted(
    dir: &dyn Dir,
    open: &OpenBlocks,
    block: &Arc<Block>,
    others: &[Arc<Block>],
    group_rows: usize,
) -> Result<Option<Vec<u8>>, BlockError> {
    let one = std::slice::from_ref(block);
    let compaction = Compaction { dir, open, inputs: one, others, slow_nanos: 0, group_rows };
    let contents = [open.get(dir, block)?];
    let raised = compaction.raised(&contents)?;
    let Some(class) = raised.values().copied().filter(|class| *class > block.class).max() else { return Ok(None) };
    let mut places = compaction.places(&contents)?;
    places.retain(|(_, id, _)| raised.get(id).is_some_and(|class| *class > block.class));
    let mut builder = Builder::new(group_rows, class);
    for batch in places.chunks(BATCH) {
        let mut traces = compaction.read(&contents, batch)?;
        for (_, id, _) in batch {
            if let Some(spans) = traces.remove(id) {
                builder.push(*id, &spans);
            }
        }
    }
    Ok(Some(builder.finish()))
}
