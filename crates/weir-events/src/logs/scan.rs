//! Reading for aggregations: segment by segment, as columns; only what overlaps is merged row by row.

use std::sync::Arc;

use weir_model::columns::{LogColumns, LogScan, LogScans, Matched, ScanRun};
use weir_model::source::{LinePredicate, LogFragment, ReadContext, ReadError};
use weir_model::{Labels, LogEntry, Reservation};

use super::bits::Rows;
use super::cursor::{Cursor, Query};
use super::load::Loader;
use super::plan::{Part, Plan, RunRef};
use super::slot::Slot;
use super::view::{View, is_excluded};

/// A scan for each segment, with the stretches that no other part shares.
pub(crate) fn scans(
    mut plan: Plan,
    loader: &Arc<Loader>,
    fragment: &LogFragment,
    context: &ReadContext,
) -> Result<LogScans, ReadError> {
    let mut own: Vec<Vec<Own>> = plan.parts.iter().map(|_| Vec::new()).collect();
    let (mut shared, stretches) = (Vec::new(), std::mem::take(&mut plan.stretches));
    for stretch in stretches {
        match stretch.runs.as_slice() {
            [run] if matches!(plan.parts[run.part], Part::Segment(_)) => {
                plan.uses[run.part] -= 1;
                own[run.part].push(Own { stream: stretch.stream, from: stretch.from, to: stretch.to, run: *run });
            }
            _ => shared.push(stretch),
        }
    }
    let mut scans: Vec<Box<dyn LogScan>> = Vec::new();
    for (part, mut stretches) in plan.parts.iter().zip(own) {
        let Part::Segment(slot) = part else { continue };
        if stretches.is_empty() {
            continue;
        }
        stretches.sort_by_key(|o| (o.run.first, o.from));
        let runs = stretches.into_iter().map(|own| (plan.streams[own.stream].clone(), own)).collect();
        scans.push(Box::new(Scan {
            slot: slot.clone(),
            loader: loader.clone(),
            predicates: fragment.predicates.clone(),
            runs,
            memory: context.budget.try_reserve(0)?,
            view: None,
        }));
    }
    plan.stretches = shared;
    let rest = Cursor::new(plan, loader.clone(), Query::new(fragment, None), context)?;
    Ok(LogScans { scans, rest: Box::new(rest) })
}

/// A stretch of a run that no other part shares.
struct Own {
    stream: usize,
    from: i64,
    to: i64,
    run: RunRef,
}

struct Scan {
    slot: Arc<Slot>,
    loader: Arc<Loader>,
    predicates: Vec<LinePredicate>,
    runs: Vec<(Labels, Own)>,
    memory: Reservation,
    view: Option<View>,
}

impl Scan {
    fn view(&self) -> Result<&View, ReadError> {
        self.view.as_ref().ok_or_else(not_open)
    }
}

fn not_open() -> ReadError {
    ReadError::Storage("a log segment is read that was not opened".to_owned())
}

impl LogScan for Scan {
    fn may_match(&mut self) -> Result<bool, ReadError> {
        if self.predicates.is_empty() {
            return Ok(true);
        }
        let Some(filter) = self.loader.filter(&self.slot)? else { return Ok(false) };
        Ok(!is_excluded(&self.slot.head, &filter, &self.predicates)?)
    }

    fn open(&mut self) -> Result<Vec<ScanRun>, ReadError> {
        let Some(segment) = self.loader.segment(&self.slot)? else { return Ok(Vec::new()) };
        let view = View::new(segment);
        // Columns that are read later come on top; they are no more than the segment's text.
        self.memory.grow(view.size_bytes() as u64 + 4 * self.slot.bytes)?;
        let times = view.times()?;
        let mut runs = Vec::with_capacity(self.runs.len());
        for (labels, Own { from, to, run, .. }) in &self.runs {
            let of_run = &times[run.first..run.first + run.n];
            let first = run.first + of_run.partition_point(|t| t < from);
            let end = run.first + of_run.partition_point(|t| t <= to);
            if first < end {
                let line_bytes = run.line_bytes * (end - first) as u64 / run.n as u64;
                runs.push(ScanRun { labels: labels.clone(), rows: first as u32..end as u32, line_bytes });
            }
        }
        self.view = Some(view);
        Ok(runs)
    }

    fn matched(&self) -> Result<Matched<'_>, ReadError> {
        Ok(match self.view()?.matched(&self.predicates, None)? {
            Rows::None => Matched::None,
            Rows::All => Matched::All,
            Rows::Some(bits) => Matched::Some(bits.words()),
        })
    }

    fn columns(&self) -> Result<&dyn LogColumns, ReadError> {
        Ok(self.view()?)
    }

    fn entry(&self, row: u32) -> Result<LogEntry, ReadError> {
        Ok(self.view()?.entry(row as usize)?)
    }
}
