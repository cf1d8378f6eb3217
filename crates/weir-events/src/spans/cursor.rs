//! Finding traces: windows of time from new to old; in each, the traces that the heads and the blocks'
//! indexes say may match; then their spans, joined from all the places that hold a part.

use std::ops::Range;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use weir_model::source::{ReadContext, ReadError, SpanCursor, SpanFragment, TraceData};
use weir_model::{Nanos, Reservation, Span, TraceId};
use weir_wal::Dir;

use super::block::{Block, BlockError};
use super::build::{fixed, unordered};
use super::contents::Loaded;
use super::contents::{Contents, Group};
use super::find;
use super::head::Head;
use super::section::Fault;
use super::{join, meets};

/// Length of a window. The parts of a trace that begin longer than this before or after a window are not
/// looked for, so that a search over an hour does not read the blocks of two weeks; by id all are found.
pub const WINDOW_NANOS: i64 = 3_600_000_000_000;
/// Traces read at once: few at first, as many searches want only the newest.
const BATCH_MIN: usize = 32;
const BATCH_MAX: usize = 1024;
/// What a candidate costs while it waits.
const CANDIDATE_BYTES: u64 = 64;

#[derive(Clone)]
pub enum Source {
    Head(Arc<RwLock<Head>>),
    Block(Arc<Block>),
}

impl Source {
    pub fn bounds(&self) -> (Nanos, Nanos) {
        match self {
            Self::Head(head) => {
                let head = head.read();
                (head.first, head.last)
            }
            Self::Block(block) => (block.first, block.last),
        }
    }
}

/// What is in the blocks that were read last.
pub struct OpenBlocks {
    limit_bytes: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_path: AHashMap<String, (Arc<Contents>, u64)>,
    bytes: u64,
    uses: u64,
}

impl OpenBlocks {
    pub fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, held: Mutex::default() }
    }

    pub fn get(&self, dir: &dyn Dir, block: &Block) -> Result<Arc<Contents>, BlockError> {
        {
            let mut held = self.held.lock();
            held.uses += 1;
            let now = held.uses;
            if let Some((contents, used)) = held.by_path.get_mut(&block.path) {
                *used = now;
                return Ok(contents.clone());
            }
        }
        let contents = Arc::new(block.contents(dir)?);
        let mut held = self.held.lock();
        let now = held.uses;
        if held.by_path.insert(block.path.clone(), (contents.clone(), now)).is_none() {
            held.bytes += contents.size_bytes() as u64;
        }
        while held.bytes > self.limit_bytes && held.by_path.len() > 1 {
            let oldest = held.by_path.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone());
            let Some((gone, _)) = oldest.and_then(|path| held.by_path.remove(&path)) else { break };
            held.bytes -= gone.size_bytes() as u64;
        }
        Ok(contents)
    }
}

/// Times of a trace's part in a source.
#[derive(Clone, Copy, Debug)]
struct TraceTimes {
    first: Nanos,
    /// Of the starts.
    last: Nanos,
}

/// What a source has for one window: its traces, and for each predicate those that may meet it.
struct View {
    traces: Traces,
    /// Ascending ordinals; `None` when any trace may.
    meeting: Vec<Option<Vec<u32>>>,
    source: usize,
}

enum Traces {
    /// Ascending by id.
    Head(Vec<(TraceId, TraceTimes)>),
    /// Those of some groups, with the starts of their spans.
    Block { contents: Arc<Contents>, groups: Range<usize>, starts: Loaded },
}

impl View {
    fn ordinals(&self) -> Range<u32> {
        match &self.traces {
            Traces::Head(traces) => 0..traces.len() as u32,
            Traces::Block { contents, groups, .. } => match &contents.groups[groups.clone()] {
                [] => 0..0,
                [first, .., last] => first.ordinals.start..last.ordinals.end,
                [one] => one.ordinals.clone(),
            },
        }
    }
    fn id(&self, ordinal: u32) -> TraceId {
        match &self.traces {
            Traces::Head(traces) => traces[ordinal as usize].0,
            Traces::Block { contents, .. } => contents.id(ordinal),
        }
    }
    fn times(&self, ordinal: u32) -> TraceTimes {
        match &self.traces {
            Traces::Head(traces) => traces[ordinal as usize].1,
            Traces::Block { contents, starts, .. } => {
                let group = contents.group_of(ordinal);
                let (rows, first) = (contents.rows(ordinal), contents.groups[group].rows.start);
                let start = |row: u32| {
                    let start = starts.group(group).and_then(|starts| starts.get((row - first) as usize));
                    Nanos(start.map_or(0, unordered))
                };
                TraceTimes { first: start(rows.start), last: start(rows.end - 1) }
            }
        }
    }
    /// The trace, if its group is one of these.
    fn find(&self, id: TraceId) -> Option<u32> {
        match &self.traces {
            Traces::Head(traces) => traces.binary_search_by(|(of, _)| of.cmp(&id)).ok().map(|at| at as u32),
            Traces::Block { contents, .. } => contents.find(id).filter(|ordinal| self.ordinals().contains(ordinal)),
        }
    }
    /// Ordinals that may meet predicate `k`.
    fn meeting(&self, k: usize) -> Box<dyn Iterator<Item = u32> + '_> {
        match &self.meeting[k] {
            Some(list) => Box::new(list.iter().copied()),
            None => Box::new(self.ordinals()),
        }
    }
    fn may_meet(&self, k: usize, ordinal: u32) -> bool {
        self.meeting[k].as_ref().is_none_or(|list| list.binary_search(&ordinal).is_ok())
    }
    /// Ordinals of traces of which a span may start within [from, to).
    fn overlapping(&self, from: Nanos, to: Nanos) -> Box<dyn Iterator<Item = u32> + '_> {
        let overlaps = move |ordinal: &u32| {
            let times = self.times(*ordinal);
            times.first < to && from <= times.last
        };
        match &self.traces {
            Traces::Head(_) => Box::new(self.ordinals().filter(overlaps)),
            Traces::Block { contents, groups, .. } => {
                let near = contents.groups[groups.clone()].iter().filter(move |g| g.first < to && from <= g.last);
                Box::new(near.flat_map(|group| group.ordinals.clone()).filter(overlaps))
            }
        }
    }
    /// When the newest trace before `at` begins, or a time between that and `at`.
    fn newest_before(&self, at: i64) -> Option<i64> {
        let of = |ordinals: Range<u32>| ordinals.map(|k| self.times(k).first.0).filter(|first| *first < at).max();
        match &self.traces {
            Traces::Head(_) => of(self.ordinals()),
            Traces::Block { contents, groups, .. } => {
                let of_group = |group: &Group| match (group.first.0 < at, group.last.0 < at) {
                    (false, _) => None,
                    (true, true) => Some(group.last.0),
                    (true, false) => of(group.ordinals.clone()),
                };
                contents.groups[groups.clone()].iter().filter_map(of_group).max()
            }
        }
    }
    /// Ends of the groups that are not in view.
    fn other_ends(&self) -> impl Iterator<Item = Nanos> + '_ {
        let groups: &[Group] = match &self.traces {
            Traces::Head(_) => &[],
            Traces::Block { contents, .. } => &contents.groups,
        };
        let seen = match &self.traces {
            Traces::Head(_) => 0..0,
            Traces::Block { groups, .. } => groups.clone(),
        };
        groups.iter().enumerate().filter(move |(k, _)| !seen.contains(k)).map(|(_, group)| group.last)
    }
}

/// A trace to be read, and where its parts are: source and ordinal.
struct Candidate {
    first: Nanos,
    id: TraceId,
    parts: Vec<(usize, u32)>,
}

pub struct Cursor {
    sources: Vec<Source>,
    dir: Arc<dyn Dir>,
    blocks: Arc<OpenBlocks>,
    fragment: SpanFragment,
    context: ReadContext,
    /// Where the windows not yet looked at end.
    before: Nanos,
    /// Ascending by first start: the next one is the last.
    waiting: Vec<Candidate>,
    memory: Reservation,
    batch: usize,
}

impl Cursor {
    pub fn new(
        sources: Vec<Source>,
        dir: Arc<dyn Dir>,
        blocks: Arc<OpenBlocks>,
        fragment: &SpanFragment,
        context: &ReadContext,
    ) -> Result<Self, ReadError> {
        Ok(Self {
            sources,
            dir,
            blocks,
            before: fragment.end,
            fragment: fragment.clone(),
            context: context.clone(),
            waiting: Vec::new(),
            memory: context.budget.try_reserve(0)?,
            batch: BATCH_MIN,
        })
    }

    /// Gathers the candidates of the next window that can have any; `false` at the end.
    fn next_window(&mut self) -> Result<bool, ReadError> {
        let oldest = self.fragment.start.0.saturating_sub(WINDOW_NANOS);
        let bounds: Vec<(Nanos, Nanos)> = self.sources.iter().map(Source::bounds).collect();
        // A gap without any data is one step.
        let newest = bounds.iter().filter(|(first, _)| first.0 < self.before.0).map(|(_, last)| last.0).max();
        let end = newest.map_or(i64::MIN, |last| last.saturating_add(1)).min(self.before.0);
        if newest.is_none() || end <= oldest {
            return Ok(false);
        }
        let start = end.saturating_sub(WINDOW_NANOS).max(oldest);
        self.before = Nanos(start);
        let (from, to) = (start.saturating_sub(WINDOW_NANOS), end.saturating_add(WINDOW_NANOS));
        let near = |(first, last): &(Nanos, Nanos)| first.0 < to && from <= last.0;
        let views: Vec<View> =
            bounds.iter().enumerate().filter(|(_, b)| near(b)).filter_map(|(k, _)| self.view(k, from, to)).collect();
        self.context.cancel.check()?;
        let mut waiting = self.candidates(&views);
        waiting.retain(|candidate| start <= candidate.first.0 && candidate.first.0 < end);
        if waiting.is_empty() {
            // A source may span years with nothing in between: the next window ends where something begins.
            let begins = views.iter().filter_map(|view| view.newest_before(start));
            let others = views.iter().flat_map(View::other_ends).map(|last| last.0);
            let elsewhere = bounds.iter().filter(|b| !near(b)).map(|(_, last)| last.0);
            let newest = begins.chain(others).chain(elsewhere).filter(|at| *at < start).max();
            self.before = Nanos(newest.map_or(i64::MIN, |at| at.saturating_add(1)));
        }
        self.memory.shrink(self.memory.bytes());
        self.memory.grow(waiting.len() as u64 * CANDIDATE_BYTES)?;
        waiting.sort_unstable_by_key(|candidate| (candidate.first, candidate.id));
        self.waiting = waiting;
        Ok(true)
    }

    /// What begins in [from, to) or is in a group with such; `None` when the block is damaged.
    fn view(&self, source: usize, from: i64, to: i64) -> Option<View> {
        let predicates = &self.fragment.predicates;
        match &self.sources[source] {
            Source::Head(head) => {
                let head = head.read();
                let mut traces: Vec<(TraceId, &[Arc<Span>])> = head.traces().collect();
                traces.sort_unstable_by_key(|(id, _)| *id);
                let meeting = |predicate| {
                    let meets = |(_, (_, spans)): &(usize, &(TraceId, &[Arc<Span>]))| meets(spans, predicate);
                    Some(traces.iter().enumerate().filter(meets).map(|(k, _)| k as u32).collect())
                };
                let meeting = predicates.iter().map(meeting).collect();
                let times = |spans: &[Arc<Span>]| TraceTimes {
                    first: spans.first().map_or(Nanos::MAX, |s| s.start),
                    last: spans.last().map_or(Nanos::MIN, |s| s.start),
                };
                let traces = traces.iter().map(|(id, spans)| (*id, times(spans))).collect();
                Some(View { traces: Traces::Head(traces), meeting, source })
            }
            Source::Block(block) => {
                let view = self.block_view(block, source, from, to);
                view.inspect_err(|error| tracing::error!(%error, "spans: a block cannot be read and is left out")).ok()
            }
        }
    }

    fn block_view(&self, block: &Block, source: usize, from: i64, to: i64) -> Result<View, BlockError> {
        let contents = self.blocks.get(&*self.dir, block)?;
        let file = block.file(&*self.dir)?;
        let near = |group: &Group| group.first.0 < to && from <= group.last.0;
        let first = contents.groups.iter().position(near).unwrap_or(contents.groups.len());
        let end = contents.groups.iter().rposition(near).map_or(first, |last| last + 1);
        let groups = first..end;
        let read = || -> Result<_, Fault> {
            let starts = contents.load(&*file, fixed::STARTS, groups.clone())?;
            Ok((starts, find::meeting(&contents, &*file, groups.clone(), &self.fragment.predicates)?))
        };
        let (starts, meeting) = read().map_err(|fault| block.damaged(fault))?;
        Ok(View { traces: Traces::Block { contents, groups, starts }, meeting, source })
    }

    /// Traces of which some part overlaps the range, and for each predicate some part may meet it.
    fn candidates(&self, views: &[View]) -> Vec<Candidate> {
        let n_predicates = self.fragment.predicates.len();
        let size =
            |k: usize| views.iter().map(|v| v.meeting[k].as_ref().map_or(v.ordinals().len(), Vec::len)).sum::<usize>();
        let rarest = (0..n_predicates).min_by_key(|k| size(*k));
        let (from, to) = (self.fragment.start, self.fragment.end);
        let places = |view: usize| -> Box<dyn Iterator<Item = u32> + '_> {
            match rarest {
                Some(k) => views[view].meeting(k),
                None => views[view].overlapping(from, to),
            }
        };
        let mut found: Vec<(TraceId, u32, u32)> =
            (0..views.len()).flat_map(|view| places(view).map(move |k| (views[view].id(k), view as u32, k))).collect();
        found.sort_unstable();
        let mut out = Vec::new();
        for group in found.chunk_by(|a, b| a.0 == b.0) {
            let id = group[0].0;
            // Other parts may be elsewhere, and at other times.
            let parts: Vec<(usize, u32)> =
                views.iter().enumerate().filter_map(|(v, view)| Some((v, view.find(id)?))).collect();
            let times = || parts.iter().map(|(view, k)| views[*view].times(*k));
            let overlaps = times().any(|t| t.first < to && from <= t.last);
            let may_meet = |p: usize| Some(p) == rarest || parts.iter().any(|(view, k)| views[*view].may_meet(p, *k));
            if overlaps && (0..n_predicates).all(may_meet) {
                let first = times().map(|t| t.first).min().unwrap_or(Nanos::MAX);
                let parts = parts.iter().map(|(view, k)| (views[*view].source, *k)).collect();
                out.push(Candidate { first, id, parts });
            }
        }
        out
    }

    /// The spans of candidates, by id, a block's together.
    fn read(&self, candidates: &[Candidate]) -> AHashMap<TraceId, Vec<Arc<Span>>> {
        let mut wanted: Vec<(usize, u32, TraceId)> =
            candidates.iter().flat_map(|c| c.parts.iter().map(|(source, k)| (*source, *k, c.id))).collect();
        wanted.sort_unstable();
        let mut traces: AHashMap<TraceId, Vec<Arc<Span>>> = AHashMap::with_capacity(candidates.len());
        let mut add = |id: TraceId, more: Vec<Arc<Span>>| match traces.get_mut(&id) {
            Some(spans) => join(spans, more),
            None => {
                traces.insert(id, more);
            }
        };
        for group in wanted.chunk_by(|a, b| a.0 == b.0) {
            match &self.sources[group[0].0] {
                Source::Head(head) => {
                    let head = head.read();
                    for (_, _, id) in group {
                        add(*id, head.trace(*id).unwrap_or_default().to_vec());
                    }
                }
                Source::Block(block) => {
                    let ordinals: Vec<u32> = group.iter().map(|(_, k, _)| *k).collect();
                    let read = self.blocks.get(&*self.dir, block);
                    match read.and_then(|contents| block.traces(&*self.dir, &contents, &ordinals)) {
                        Ok(found) => found.into_iter().for_each(|(id, spans)| add(id, spans)),
                        Err(error) => {
                            tracing::error!(%error, "spans: spans of a block cannot be read and are left out")
                        }
                    }
                }
            }
        }
        traces
    }
}

impl SpanCursor for Cursor {
    fn next(&mut self) -> Result<Option<Vec<TraceData>>, ReadError> {
        loop {
            self.context.cancel.check()?;
            if self.waiting.is_empty() {
                if self.next_window()? {
                    continue;
                }
                return Ok(None);
            }
            let rest = self.waiting.len().saturating_sub(self.batch);
            let candidates = self.waiting.split_off(rest);
            self.batch = (self.batch + self.batch / 2).min(BATCH_MAX);
            let mut traces = self.read(&candidates);
            let in_range = |span: &Arc<Span>| self.fragment.start <= span.start && span.start < self.fragment.end;
            let mut found = Vec::with_capacity(candidates.len());
            for candidate in candidates.iter().rev() {
                let Some(spans) = traces.remove(&candidate.id) else { continue };
                let matches = self.fragment.predicates.iter().all(|predicate| meets(&spans, predicate));
                if matches && spans.iter().any(in_range) {
                    found.push(TraceData { trace_id: candidate.id, spans });
                }
            }
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
    }
}
