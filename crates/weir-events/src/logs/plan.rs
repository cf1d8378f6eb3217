//! Which rows a query reads, in which order: time is cut where parts of a stream overlap, so that
//! only overlapping stretches are merged row by row.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::matcher::all_match;
use weir_model::source::Direction;
use weir_model::{Labels, Matcher, Nanos};

use super::head::Frozen;
use super::slot::Slot;

/// Something that holds rows. Of equal times, the rows of the part with the lower id came first.
#[derive(Clone)]
pub(crate) enum Part {
    Segment(Arc<Slot>),
    Frozen(u64, Arc<Frozen>),
}

/// A stream's rows in a part.
pub(crate) struct RunOf {
    pub labels: Labels,
    pub first: usize,
    pub n: usize,
    pub min: Nanos,
    pub max: Nanos,
    pub line_bytes: u64,
}

impl Part {
    fn id(&self) -> u64 {
        match self {
            Self::Segment(slot) => slot.id,
            Self::Frozen(id, _) => *id,
        }
    }

    fn runs(&self) -> Box<dyn Iterator<Item = RunOf> + '_> {
        match self {
            Self::Segment(slot) => Box::new(slot.head.runs.iter().map(|r| RunOf {
                labels: r.labels.clone(),
                first: r.first as usize,
                n: r.n as usize,
                min: r.min,
                max: r.max,
                line_bytes: r.line_bytes,
            })),
            Self::Frozen(_, frozen) => Box::new(frozen.runs.iter().map(|r| RunOf {
                labels: r.labels.clone(),
                first: r.first,
                n: r.n,
                min: r.min,
                max: r.max,
                line_bytes: r.line_bytes,
            })),
        }
    }
}

/// Rows of one stream in one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunRef {
    pub part: usize,
    pub first: usize,
    pub n: usize,
    pub min: i64,
    pub max: i64,
    /// Of all its rows.
    pub line_bytes: u64,
}

/// A stretch of a stream's time, both ends included, and the runs that have rows there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub stream: usize,
    pub from: i64,
    pub to: i64,
    /// In order of arrival.
    pub runs: Vec<RunRef>,
}

pub(crate) struct Plan {
    pub parts: Vec<Part>,
    pub streams: Vec<Labels>,
    /// For each part the streams that have rows in it.
    pub streams_of: Vec<Vec<usize>>,
    /// The next one last.
    pub stretches: Vec<Stretch>,
    /// How many stretches still need each part.
    pub uses: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(
        mut parts: Vec<Part>,
        matchers: &[Matcher],
        start: Nanos,
        end: Nanos,
        direction: Direction,
    ) -> Self {
        parts.sort_by_key(Part::id);
        let mut index: AHashMap<Labels, usize> = AHashMap::new();
        let (mut streams, mut runs): (Vec<Labels>, Vec<Vec<RunRef>>) = (Vec::new(), Vec::new());
        for (part, p) in parts.iter().enumerate() {
            for run in p.runs() {
                if run.max < start || end <= run.min || !all_match(matchers, &run.labels) {
                    continue;
                }
                let stream = *index.entry(run.labels).or_insert_with_key(|labels| {
                    streams.push(labels.clone());
                    runs.push(Vec::new());
                    streams.len() - 1
                });
                runs[stream].push(RunRef {
                    part,
                    first: run.first,
                    n: run.n,
                    min: run.min.0,
                    max: run.max.0,
                    line_bytes: run.line_bytes,
                });
            }
        }
        let mut streams_of = vec![Vec::new(); parts.len()];
        for (stream, runs) in runs.iter().enumerate() {
            runs.iter().for_each(|run| streams_of[run.part].push(stream));
        }
        let mut stretches = Vec::new();
        for (stream, runs) in runs.iter().enumerate() {
            cut(stream, runs, &mut stretches);
        }
        for stretch in &mut stretches {
            stretch.from = stretch.from.max(start.0);
            stretch.to = stretch.to.min(end.0.saturating_sub(1));
        }
        stretches.retain(|s| s.from <= s.to);
        match direction {
            Direction::Forward => stretches.sort_by_key(|s| std::cmp::Reverse((s.from, s.stream))),
            Direction::Backward => stretches.sort_by_key(|s| (s.to, s.stream)),
        }
        let mut uses = vec![0; parts.len()];
        stretches.iter().flat_map(|s| &s.runs).for_each(|r| uses[r.part] += 1);
        Self { parts, streams, streams_of, stretches, uses }
    }
}

/// `runs` of one stream, in order of arrival.
fn cut(stream: usize, runs: &[RunRef], out: &mut Vec<Stretch>) {
    let mut by_start: Vec<&RunRef> = runs.iter().collect();
    by_start.sort_by_key(|r| r.min);
    // Where two or more have rows: disjoint, ascending.
    let mut shared: Vec<(i64, i64)> = Vec::new();
    let mut reach = i64::MIN;
    for (i, run) in by_start.iter().enumerate() {
        if i > 0 && run.min <= reach {
            let (from, to) = (run.min, run.max.min(reach));
            match shared.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => shared.push((from, to)),
            }
        }
        reach = if i == 0 { run.max } else { reach.max(run.max) };
    }
    for run in runs {
        let mut from = Some(run.min);
        for (lo, hi) in &shared[shared.partition_point(|(_, hi)| *hi < run.min)..] {
            if *lo > run.max {
                break;
            }
            if let Some(from) = from
                && from < *lo
            {
                out.push(Stretch { stream, from, to: lo - 1, runs: vec![*run] });
            }
            from = hi.checked_add(1);
        }
        if let Some(from) = from
            && from <= run.max
        {
            out.push(Stretch { stream, from, to: run.max, runs: vec![*run] });
        }
    }
    let first_shared = out.len();
    out.extend(shared.iter().map(|(from, to)| Stretch { stream, from: *from, to: *to, runs: Vec::new() }));
    let shared = &mut out[first_shared..];
    for run in runs {
        let from = shared.partition_point(|s| s.to < run.min);
        shared[from..].iter_mut().take_while(|s| s.from <= run.max).for_each(|s| s.runs.push(*run));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every instant of every run lies in exactly one stretch, with all runs that cover it.
        #[test]
        fn stretches_cover_each_instant_once(spans in prop::collection::vec((0_i64..30, 0_i64..10), 1..8)) {
            let runs: Vec<RunRef> = spans.iter().enumerate()
                .map(|(part, (min, len))| RunRef { part, first: 0, n: 1, min: *min, max: min + len, line_bytes: 1 }).collect();
            let mut stretches = Vec::new();
            cut(0, &runs, &mut stretches);
            for at in -1..45 {
                let want: Vec<RunRef> = runs.iter().copied().filter(|r| r.min <= at && at <= r.max).collect();
                let there: Vec<&Stretch> = stretches.iter().filter(|s| s.from <= at && at <= s.to).collect();
                if want.is_empty() {
                    prop_assert!(there.iter().all(|s| s.runs.len() > 1), "at {}", at);
                    continue;
                }
                prop_assert_eq!(there.len(), 1, "at {}", at);
                prop_assert!(want.iter().all(|r| there[0].runs.contains(r)), "at {}", at);
            }
        }
    }
}
