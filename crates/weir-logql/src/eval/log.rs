//! Log queries: the best `limit` entries of all streams, kept while the streams go by.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use weir_model::source::{Direction, LogCursor, LogFragment, LogSource, ReadContext};
use weir_model::{Labels, LabelsBuilder, LogEntry, Nanos, Reservation, TenantId};

use super::columns::row_filter;
use super::{LogEntryResult, LogParams, LogResult, LogStream, QueryError, Statistics};
use crate::ast::{LogExpr, Stage};
use crate::pipeline::{Needed, Origin, Row, Scratch, apply, predicates};

/// A log query whose data is within reach.
pub struct OpenLogQuery {
    stages: Vec<Stage>,
    params: LogParams,
    cursor: Box<dyn LogCursor>,
    context: ReadContext,
    now: Nanos,
}

impl OpenLogQuery {
    pub(super) async fn open(
        source: &dyn LogSource,
        tenant: &TenantId,
        expr: LogExpr,
        params: LogParams,
        context: &ReadContext,
        now: Nanos,
    ) -> Result<Self, QueryError> {
        let fragment = LogFragment {
            matchers: expr.matchers,
            start: params.start,
            end: params.end,
            direction: params.direction,
            predicates: predicates(&expr.stages),
        };
        let cursor = match row_filter(&expr.stages) {
            Some(filter) => source.open_filtered(tenant, &fragment, filter, context).await?,
            None => source.open(tenant, &fragment, context).await?,
        };
        Ok(Self { stages: expr.stages, params, cursor, context: context.clone(), now })
    }

    pub fn run(mut self) -> Result<LogResult, QueryError> {
        let mut best = Best::new(self.params, self.context.budget.try_reserve(0)?);
        let mut statistics = Statistics::default();
        let mut scratch = Scratch::new(self.now);
        let mut batch_no = 0_u64;
        while let Some(batch) = self.cursor.next(best.bound())? {
            self.context.cancel.check()?;
            for (idx, entry) in batch.entries.iter().enumerate() {
                if !(self.params.start <= entry.at && entry.at < self.params.end) {
                    continue;
                }
                // Entries come in the query's direction, so the rest of the batch is worse still.
                if best.bound().is_some_and(|bound| is_beyond(self.params.direction, entry.at, bound)) {
                    break;
                }
                statistics.lines += 1;
                statistics.bytes += entry.line.len() as u64;
                statistics.metadata_bytes += (entry.size_bytes() - entry.line.len()) as u64;
                let mut row = Row::new(&batch.labels, entry, &mut scratch);
                if apply(&self.stages, Needed::ALL, &mut row) {
                    statistics.lines_passed += 1;
                    best.offer(&row, (batch_no, idx))?;
                }
            }
            batch_no += 1;
        }
        Ok(LogResult { streams: best.into_streams(), statistics })
    }
}

fn is_beyond(direction: Direction, at: Nanos, bound: Nanos) -> bool {
    match direction {
        Direction::Backward => at < bound,
        Direction::Forward => at > bound,
    }
}

/// What a stage pipeline made of an entry, materialised.
pub(crate) fn materialise(row: &Row<'_>) -> (Labels, LogEntryResult) {
    let mut metadata: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    let mut parsed: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    let labels = if row.keeps_stream() {
        row.for_each(|origin, name, value| match origin {
            Origin::Parsed => parsed.push((name.into(), value.into())),
            Origin::Metadata => metadata.push((name.into(), value.into())),
            Origin::Stream => {}
        });
        row.stream.clone()
    } else {
        let mut stream = LabelsBuilder::default();
        row.for_each(|origin, name, value| match origin {
            Origin::Parsed => parsed.push((name.into(), value.into())),
            Origin::Metadata => metadata.push((name.into(), value.into())),
            Origin::Stream => {
                stream.set(name, value);
            }
        });
        stream.build()
    };
    parsed.extend(row.error_labels().map(|(name, value)| (name.into(), value.into())));
    parsed.sort();
    metadata.sort();
    let unchanged = std::ptr::eq(row.line(), &*row.entry.line);
    let line: Arc<str> = if unchanged { row.entry.line.clone() } else { row.line().into() };
    (labels, LogEntryResult { at: row.entry.at, line, metadata, parsed })
}

struct Candidate {
    /// Ascending means better, whatever the direction.
    rank: i64,
    stream: Labels,
    /// Order of arrival from the source: batch, place in the batch.
    arrival: (u64, usize),
    labels: Labels,
    entry: LogEntryResult,
}

impl Candidate {
    /// Equal times fall back on the stream's labels, so that which entry is cut does not depend on
    /// the order in which a source hands out its streams.
    fn key(&self) -> (i64, &Labels, (u64, usize)) {
        (self.rank, &self.stream, self.arrival)
    }
    fn size_bytes(&self) -> u64 {
        entry_size_bytes(&self.entry)
    }
}

fn entry_size_bytes(entry: &LogEntryResult) -> u64 {
    let pairs = |pairs: &[(Arc<str>, Arc<str>)]| pairs.iter().map(|(n, v)| n.len() + v.len() + 64).sum::<usize>();
    (128 + entry.line.len() + pairs(&entry.metadata) + pairs(&entry.parsed)) as u64
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Candidate {}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// The best entries so far, the worst of them on top.
struct Best {
    params: LogParams,
    heap: BinaryHeap<Candidate>,
    memory: Reservation,
}

impl Best {
    fn new(params: LogParams, memory: Reservation) -> Self {
        Self { params, heap: BinaryHeap::new(), memory }
    }

    fn rank(&self, at: Nanos) -> i64 {
        match self.params.direction {
            Direction::Forward => at.0,
            Direction::Backward => -at.0.max(-i64::MAX),
        }
    }

    /// The time of the worst entry once the limit is reached.
    fn bound(&self) -> Option<Nanos> {
        let full = self.heap.len() >= self.params.limit.max(1);
        full.then(|| self.heap.peek().expect("a full heap is not empty").entry.at)
    }

    fn offer(&mut self, row: &Row<'_>, arrival: (u64, usize)) -> Result<(), QueryError> {
        let rank = self.rank(row.entry.at);
        let full = self.heap.len() >= self.params.limit.max(1);
        if full && self.heap.peek().is_some_and(|worst| (rank, row.stream, arrival) >= worst.key()) {
            return Ok(());
        }
        let (labels, entry) = materialise(row);
        let candidate = Candidate { rank, stream: row.stream.clone(), arrival, labels, entry };
        self.memory.grow(candidate.size_bytes())?;
        self.heap.push(candidate);
        if full && let Some(gone) = self.heap.pop() {
            self.memory.shrink(gone.size_bytes());
        }
        Ok(())
    }

    fn into_streams(self) -> Vec<LogStream> {
        let mut streams: BTreeMap<Labels, Vec<LogEntryResult>> = BTreeMap::new();
        for candidate in self.heap.into_sorted_vec() {
            streams.entry(candidate.labels).or_default().push(candidate.entry);
        }
        streams.into_iter().map(|(labels, entries)| LogStream { labels, entries }).collect()
    }
}

/// For the tail: one entry through a pipeline.
pub(crate) fn through(
    stages: &[Stage],
    stream: &Labels,
    entry: &LogEntry,
    now: Nanos,
) -> Option<(Labels, LogEntryResult)> {
    let mut scratch = Scratch::new(now);
    let mut row = Row::new(stream, entry, &mut scratch);
    apply(stages, Needed::ALL, &mut row).then(|| materialise(&row))
}
