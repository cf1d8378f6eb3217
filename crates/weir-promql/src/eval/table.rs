//! An instant vector over all steps: a column of values per series.

use ahash::AHashMap;
use weir_model::{Labels, Reservation, STALE_NAN_BITS, is_stale};

use super::Eval;
use crate::result::QueryError;

/// No value at this step. Stale markers are never values of a vector, and arithmetic never
/// produces one (it sets the quiet bit), so the pattern is free.
pub(super) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

pub(super) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

pub(super) struct Series {
    pub labels: Labels,
    /// One per step.
    pub values: Vec<f64>,
}

/// Between nodes no two series have equal labels.
pub(super) struct Table {
    pub series: Vec<Series>,
    /// Memory of the columns.
    pub held: Reservation,
}

impl Table {
    /// Applies `f` to every value that is present.
    pub fn map_values(&mut self, f: impl Fn(f64) -> f64) {
        for value in self.series.iter_mut().flat_map(|s| &mut s.values) {
            if !is_absent(*value) {
                *value = f(*value);
            }
        }
    }

    /// Calls `f` with the step's index and the value; `None` takes the value away.
    pub fn map_steps(&mut self, f: impl Fn(usize, f64) -> Option<f64>) {
        for series in &mut self.series {
            for (idx, value) in series.values.iter_mut().enumerate() {
                if !is_absent(*value) {
                    *value = f(idx, *value).unwrap_or(ABSENT);
                }
            }
        }
    }

    pub fn drop_names(&mut self) {
        for series in &mut self.series {
            series.labels = series.labels.without_name();
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
            for (into, value) in merged[idx].values.iter_mut().zip(series.values) {
                if is_absent(value) {
                    continue;
                }
                if !is_absent(*into) {
                    return Err(duplicate());
                }
                *into = value;
            }
        }
        let columns = n_before - merged.len();
        let steps = merged.first().map_or(0, |s| s.values.len());
        self.held.shrink((columns * steps * size_of::<f64>()) as u64);
        self.series = merged;
        Ok(self)
    }
}
