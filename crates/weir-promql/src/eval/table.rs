//! An instant vector over all steps: a column of values per series.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::{FloatHistogram, Labels, Reservation, STALE_NAN_BITS, is_stale};

use super::Eval;
use crate::result::QueryError;

/// No value at this step. Stale markers are never values of a vector, and arithmetic never
/// produces one (it sets the quiet bit), so the pattern is free.
pub(super) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

pub(super) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

pub(crate) type Hist = Arc<FloatHistogram>;

/// A value of one series at one step.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Float(f64),
    Histogram(Hist),
}

impl From<FloatHistogram> for Cell {
    fn from(h: FloatHistogram) -> Self {
        Self::Histogram(Arc::new(h))
    }
}

#[derive(Clone)]
pub(super) struct Series {
    pub labels: Labels,
    /// The metric's name (and what else describes the metric) goes at the end of the query.
    pub drop_name: bool,
    /// One per step; absent where `histograms` has something.
    pub values: Vec<f64>,
    /// Empty, or one per step.
    pub histograms: Vec<Option<Hist>>,
}

impl Series {
    pub fn floats(labels: Labels, values: Vec<f64>) -> Self {
        Self { labels, drop_name: false, values, histograms: Vec::new() }
    }

    pub fn empty(labels: Labels, n_steps: usize) -> Self {
        Self::floats(labels, vec![ABSENT; n_steps])
    }

    pub fn histogram(&self, step: usize) -> Option<&Hist> {
        self.histograms.get(step)?.as_ref()
    }

    pub fn has(&self, step: usize) -> bool {
        !is_absent(self.values[step]) || self.histogram(step).is_some()
    }

    pub fn is_empty(&self) -> bool {
        (0..self.values.len()).all(|step| !self.has(step))
    }

    pub fn cell(&self, step: usize) -> Option<Cell> {
        match self.histogram(step) {
            Some(h) => Some(Cell::Histogram(h.clone())),
            None => Some(self.values[step]).filter(|v| !is_absent(*v)).map(Cell::Float),
        }
    }

    pub fn set(&mut self, step: usize, cell: Option<Cell>) {
        let (value, histogram) = match cell {
            None => (ABSENT, None),
            Some(Cell::Float(value)) => (value, None),
            Some(Cell::Histogram(h)) => (ABSENT, Some(h)),
        };
        self.values[step] = value;
        if histogram.is_some() && self.histograms.is_empty() {
            self.histograms = vec![None; self.values.len()];
        }
        if let Some(slot) = self.histograms.get_mut(step) {
            *slot = histogram;
        }
    }
}

/// Between nodes no two series have equal labels.
pub(super) struct Table {
    pub series: Vec<Series>,
    /// Memory of the columns.
    pub held: Reservation,
}

impl Table {
    /// Applies `f` to every float; histograms go.
    pub fn map_values(&mut self, f: impl Fn(f64) -> f64) {
        for series in &mut self.series {
            series.histograms = Vec::new();
            for value in &mut series.values {
                if !is_absent(*value) {
                    *value = f(*value);
                }
            }
        }
    }

    /// Calls `f` with the step's index and the float; `None` takes the value away. Histograms go.
    pub fn map_steps(&mut self, f: impl Fn(usize, f64) -> Option<f64>) {
        for series in &mut self.series {
            series.histograms = Vec::new();
            for (idx, value) in series.values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = f(idx, *value).unwrap_or(ABSENT);
                }
            }
        }
    }

    /// Calls `f` for every value of either kind.
    pub fn map_cells(&mut self, mut f: impl FnMut(usize, Cell) -> Option<Cell>) {
        for series in &mut self.series {
            for step in 0..series.values.len() {
                if let Some(cell) = series.cell(step) {
                    series.set(step, f(step, cell));
                }
            }
        }
    }

    /// Takes the names off, at once or (`late`) at the end of the query.
    pub fn drop_names(&mut self, late: bool) {
        for series in &mut self.series {
            if late {
                series.drop_name = true;
            } else {
                series.labels = without_metadata(&series.labels);
            }
        }
    }

    /// After labels changed: series that became equal are one, and may not meet at any step.
    pub fn merged(self) -> Eval<Self> {
        let duplicate = || QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned());
        self.merged_or(duplicate)
    }

    pub fn merged_or(mut self, duplicate: impl Fn() -> QueryError) -> Eval<Self> {
        let mut seen: AHashMap<Labels, usize> = AHashMap::with_capacity(self.series.len());
        if self.series.iter().enumerate().all(|(idx, s)| seen.insert(s.labels.clone(), idx).is_none()) {
            return Ok(self);
        }
        seen.clear();
        let n_before = self.series.len();
        let mut merged: Vec<Series> = Vec::new();
        for series in std::mem::take(&mut self.series) {
            let Some(&idx) = seen.get(&series.labels) else {
                seen.insert(series.labels.clone(), merged.len());
                merged.push(series);
                continue;
            };
            let into = &mut merged[idx];
            for step in 0..series.values.len() {
                let Some(cell) = series.cell(step) else { continue };
                if into.has(step) {
                    return Err(duplicate());
                }
                into.set(step, Some(cell));
            }
            into.drop_name |= series.drop_name;
        }
        let columns = n_before - merged.len();
        let steps = merged.first().map_or(0, |s| s.values.len());
        self.held.shrink((columns * steps * size_of::<f64>()) as u64);
        self.series = merged;
        Ok(self)
    }
}

/// Labels that say what the metric is, and no longer hold once something was computed from it.
const METADATA_LABELS: [&str; 3] = ["__name__", "__type__", "__unit__"];

pub(super) fn without_metadata(labels: &Labels) -> Labels {
    if METADATA_LABELS.iter().all(|name| labels.get(name).is_none()) {
        return labels.clone();
    }
    labels.filter(|name| !METADATA_LABELS.contains(&name))
}
