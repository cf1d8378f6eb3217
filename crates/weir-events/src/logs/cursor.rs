//! Reading: stretch by stretch, the next in time first; a part is decoded when its first row is
//! wanted and let go after its last.

use std::sync::Arc;

use memchr::memmem;
use weir_model::columns::RowFilter;
use weir_model::source::{
    Direction, LinePredicate, LogCursor, LogFragment, LogStats, ReadContext, ReadError, StreamData,
};
use weir_model::{Labels, LogEntry, Nanos, Reservation};

use super::bits::Rows;
use super::head::Frozen;
use super::load::Loader;
use super::plan::{Part, Plan, RunRef, Stretch};
use super::slot::Slot;
use super::view::{Refine, View, is_excluded};

/// Entries in the first batch of a stretch; batches double up to the most.
const BATCH_FIRST: usize = 64;
const BATCH_MAX: usize = 4096;

/// What is wanted of the rows of the streams and the time that the plan covers.
pub(crate) struct Query {
    pub direction: Direction,
    pub predicates: Vec<LinePredicate>,
    pub filter: Option<Arc<dyn RowFilter>>,
}

impl Query {
    pub(crate) fn new(fragment: &LogFragment, filter: Option<Arc<dyn RowFilter>>) -> Self {
        Self { direction: fragment.direction, predicates: fragment.predicates.clone(), filter }
    }
}

pub(crate) struct Cursor {
    plan: Plan,
    loader: Arc<Loader>,
    query: Query,
    finders: Vec<(memmem::Finder<'static>, bool)>,
    /// One for each part that is a segment, while it is read.
    views: Vec<Seen>,
    current: Option<Current>,
    batch: usize,
    memory: Reservation,
    context: ReadContext,
}

/// What the cursor knows of a part.
enum Seen {
    Unread,
    /// Nothing in it is wanted, or it is damaged.
    Nothing,
    View(Box<View>),
}

impl Seen {
    fn view(&self) -> Option<&View> {
        if let Self::View(view) = self { Some(view) } else { None }
    }
}

/// What is left of a stretch: rows of one run, next first, or entries already merged.
struct Current {
    stream: usize,
    rest: Rest,
    parts: Vec<usize>,
}

enum Rest {
    Rows { part: usize, rows: Vec<u32>, next: usize },
    Entries(std::vec::IntoIter<LogEntry>),
}

impl Cursor {
    pub(crate) fn new(plan: Plan, loader: Arc<Loader>, query: Query, context: &ReadContext) -> Result<Self, ReadError> {
        let finder = |p: &LinePredicate| match p {
            LinePredicate::Contains(text) => (memmem::Finder::new(text.as_bytes()).into_owned(), true),
            LinePredicate::NotContains(text) => (memmem::Finder::new(text.as_bytes()).into_owned(), false),
        };
        Ok(Self {
            views: plan.parts.iter().map(|_| Seen::Unread).collect(),
            plan,
            loader,
            finders: query.predicates.iter().map(finder).collect(),
            query,
            current: None,
            batch: BATCH_FIRST,
            memory: context.budget.try_reserve(0)?,
            context: context.clone(),
        })
    }

    fn is_beyond(&self, stretch: &Stretch, bound: Option<Nanos>) -> bool {
        bound.is_some_and(|bound| match self.query.direction {
            Direction::Forward => stretch.from > bound.0,
            Direction::Backward => stretch.to < bound.0,
        })
    }

    /// Rows of the run within the stretch that the predicates leave, ascending.
    fn rows(&mut self, stretch: &Stretch, run: &RunRef) -> Result<Vec<u32>, ReadError> {
        let (first, end) = (run.first, run.first + run.n);
        match &self.plan.parts[run.part] {
            Part::Frozen(_, frozen) => {
                let wants = |idx: &usize| {
                    let at = frozen.at(*idx).0;
                    stretch.from <= at && at <= stretch.to && self.wants(frozen, *idx)
                };
                Ok((first..end).filter(wants).map(|idx| idx as u32).collect())
            }
            Part::Segment(slot) => {
                if let Seen::Unread = self.views[run.part] {
                    let slot = slot.clone();
                    self.views[run.part] = self.look(run.part, &slot)?;
                }
                let Seen::View(view) = &self.views[run.part] else { return Ok(Vec::new()) };
                let matched = view.matched(&self.query.predicates, None)?;
                let times = &view.times()?[first..end];
                let from = first + times.partition_point(|t| *t < stretch.from);
                let to = first + times.partition_point(|t| *t <= stretch.to);
                Ok(match matched {
                    Rows::None => Vec::new(),
                    Rows::All => (from as u32..to as u32).collect(),
                    Rows::Some(bits) => bits.iter_in(from..to).map(|row| row as u32).collect(),
                })
            }
        }
    }

    /// Reads the segment, if its filter does not make that needless, and finds its rows.
    fn look(&mut self, part: usize, slot: &Slot) -> Result<Seen, ReadError> {
        let Query { predicates, filter, .. } = &self.query;
        if !predicates.is_empty() {
            let Some(filter) = self.loader.filter(slot)? else { return Ok(Seen::Nothing) };
            if is_excluded(&slot.head, &filter, predicates)? {
                return Ok(Seen::Nothing);
            }
        }
        let Some(segment) = self.loader.segment(slot)? else { return Ok(Seen::Nothing) };
        let view = View::new(segment);
        let refine = filter.as_ref().map(|filter| {
            let streams = self.plan.streams_of[part].iter().map(|s| &self.plan.streams[*s]).collect();
            Refine { filter: &**filter, streams }
        });
        if *view.matched(predicates, refine.as_ref())? == Rows::None {
            return Ok(Seen::Nothing);
        }
        self.memory.grow(view.size_bytes() as u64)?;
        Ok(Seen::View(Box::new(view)))
    }

    fn wants(&self, frozen: &Frozen, idx: usize) -> bool {
        let line = frozen.line(idx).as_bytes();
        self.finders.iter().all(|(finder, wanted)| finder.find(line).is_some() == *wanted)
    }

    fn entry(&mut self, part: usize, row: usize) -> Result<LogEntry, ReadError> {
        match (&self.plan.parts[part], &mut self.views[part]) {
            (Part::Frozen(_, frozen), _) => Ok(frozen.entry(row)),
            (Part::Segment(_), Seen::View(view)) => Ok(view.entry(row)?),
            (Part::Segment(_), _) => Err(ReadError::Storage("a log segment was let go while it was read".to_owned())),
        }
    }

    fn begin(&mut self, stretch: Stretch) -> Result<(), ReadError> {
        let parts = stretch.runs.iter().map(|r| r.part).collect();
        let rest = if let [run] = stretch.runs.as_slice() {
            let mut rows = self.rows(&stretch, run)?;
            if self.query.direction == Direction::Backward {
                rows.reverse();
            }
            Rest::Rows { part: run.part, rows, next: 0 }
        } else {
            Rest::Entries(self.merge(&stretch)?.into_iter())
        };
        self.current = Some(Current { stream: stretch.stream, rest, parts });
        self.batch = BATCH_FIRST;
        Ok(())
    }

    /// The entries of runs that overlap: by time, equal times as they came, repeated ones dropped.
    fn merge(&mut self, stretch: &Stretch) -> Result<Vec<LogEntry>, ReadError> {
        let mut all: Vec<LogEntry> = Vec::new();
        for run in &stretch.runs {
            for row in self.rows(stretch, run)? {
                all.push(self.entry(run.part, row as usize)?);
            }
        }
        all.sort_by_key(|e| e.at);
        let mut kept: Vec<LogEntry> = Vec::with_capacity(all.len());
        for entry in all {
            let same_time = kept.iter().rev().take_while(|k| k.at == entry.at);
            if !same_time.into_iter().any(|k| k.line == entry.line) {
                kept.push(entry);
            }
        }
        if self.query.direction == Direction::Backward {
            kept.reverse();
        }
        Ok(kept)
    }

    /// Up to a batch of the current stretch; whether that was all of it.
    fn take(&mut self) -> Result<Vec<LogEntry>, ReadError> {
        let Some(mut current) = self.current.take() else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        let is_done = match &mut current.rest {
            Rest::Rows { part, rows, next } => {
                let end = (*next + self.batch).min(rows.len());
                for row in &rows[*next..end] {
                    entries.push(self.entry(*part, *row as usize)?);
                }
                *next = end;
                end == rows.len()
            }
            Rest::Entries(rest) => {
                entries.extend(rest.take(self.batch));
                rest.len() == 0
            }
        };
        self.batch = (self.batch * 4).min(BATCH_MAX);
        if is_done {
            current.parts.iter().for_each(|part| self.let_go(*part));
        } else {
            self.current = Some(current);
        }
        Ok(entries)
    }

    /// Entries of each stream. Bytes of a run that is only partly read are its share of them.
    pub(crate) fn stats(mut self) -> Result<Vec<(Labels, LogStats)>, ReadError> {
        let mut stats = vec![LogStats::default(); self.plan.streams.len()];
        while let Some(stretch) = self.plan.stretches.pop() {
            self.context.cancel.check()?;
            let (entries, bytes) = match stretch.runs.as_slice() {
                [run] if stretch.from <= run.min && run.max <= stretch.to => (run.n as u64, run.line_bytes),
                [run] => {
                    let n = self.rows(&stretch, run)?.len() as u64;
                    (n, run.line_bytes * n / run.n.max(1) as u64)
                }
                _ => {
                    let merged = self.merge(&stretch)?;
                    (merged.len() as u64, merged.iter().map(|e| e.line.len() as u64).sum())
                }
            };
            let of_stream = &mut stats[stretch.stream];
            *of_stream = LogStats { streams: 1, entries: of_stream.entries + entries, bytes: of_stream.bytes + bytes };
            stretch.runs.iter().for_each(|run| self.let_go(run.part));
        }
        let all = self.plan.streams.drain(..).zip(stats);
        Ok(all.filter(|(_, stats)| stats.entries > 0).collect())
    }

    fn let_go(&mut self, part: usize) {
        self.plan.uses[part] -= 1;
        if self.plan.uses[part] == 0 && matches!(std::mem::replace(&mut self.views[part], Seen::Nothing), Seen::View(_))
        {
            let held: usize = self.views.iter().filter_map(Seen::view).map(View::size_bytes).sum();
            self.memory.shrink(self.memory.bytes().saturating_sub(held as u64));
        }
    }
}

impl LogCursor for Cursor {
    fn next(&mut self, bound: Option<Nanos>) -> Result<Option<StreamData>, ReadError> {
        loop {
            self.context.cancel.check()?;
            if self.current.is_none() {
                let Some(stretch) = self.plan.stretches.pop() else { return Ok(None) };
                if self.is_beyond(&stretch, bound) {
                    stretch.runs.iter().for_each(|run| self.let_go(run.part));
                    continue;
                }
                self.begin(stretch)?;
            }
            let stream = self.current.as_ref().map_or(0, |c| c.stream);
            let entries = self.take()?;
            if !entries.is_empty() {
                return Ok(Some(StreamData { labels: self.plan.streams[stream].clone(), entries }));
            }
        }
    }
}
