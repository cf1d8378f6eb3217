//! Pulls everything that the plan reads, counting samples against the query's account.

use std::sync::Arc;

use weir_model::census::FOLDED_LABEL;
use weir_model::histogram::ResetHint;
use weir_model::matcher::all_match;
use weir_model::source::SeriesData;
use weir_model::{FloatHistogram, Labels, Reservation, Sample, Timestamp};

use super::buckets::Buckets;
use super::table::Hist;
use super::{BYTES_PER_SAMPLE, Eval, Evaluator};
use crate::engine::Read;

/// A histogram at a time.
#[derive(Clone, Debug)]
pub(crate) struct HistPoint {
    pub at: Timestamp,
    pub h: Hist,
}

/// What was read of one series. Stale markers of either kind are among the floats.
pub(super) struct Loaded {
    pub labels: Labels,
    pub floats: Vec<Sample>,
    /// Of how many samples each float is the sum; empty when each stands for itself.
    pub weights: Vec<f64>,
    pub histograms: Vec<HistPoint>,
}

impl Evaluator {
    /// The evaluator with its input, and the memory that this takes.
    pub(super) fn load(mut self, reads: Vec<Read>) -> Eval<(Self, Vec<Reservation>)> {
        let mut held = Vec::new();
        for Read { fragment, mut cursor, only_counts } in reads {
            let mut series: Vec<Loaded> = Vec::new();
            loop {
                self.tick()?;
                let Some(batch) = cursor.next()? else { break };
                let n: usize = batch.iter().map(|s| s.samples.len()).sum();
                let mut bytes = (n as u64).saturating_mul(BYTES_PER_SAMPLE);
                // A source may return too much.
                for data in batch.into_iter().filter(|s| all_match(&fragment.matchers, &s.labels)) {
                    if let Some(folded) = data.labels.get(FOLDED_LABEL) {
                        self.notes.borrow_mut().folded(data.labels.metric_name(), folded);
                    }
                    let mut data = loaded(data);
                    if only_counts {
                        find_resets(&mut data.histograms);
                    }
                    bytes += data.histograms.iter().map(|p| p.h.size_bytes() as u64).sum::<u64>();
                    series.push(data);
                }
                held.push(self.reserve_bytes(bytes)?);
            }
            self.loaded.push(series);
            let coarse = cursor.coarse();
            coarse.iter().for_each(|stretch| self.notes.borrow_mut().coarse(stretch, fragment.range));
            self.buckets.push(Buckets::new(&coarse));
        }
        Ok((self, held))
    }
}

/// Puts into hints what the samples themselves say.
fn find_resets(points: &mut [HistPoint]) {
    for idx in 1..points.len() {
        if points[idx].h.hint == ResetHint::Unknown {
            let hint = match points[idx].h.is_reset_after(&points[idx - 1].h) {
                true => ResetHint::Reset,
                false => ResetHint::NotReset,
            };
            points[idx].h = Arc::new(FloatHistogram { hint, ..(*points[idx].h).clone() });
        }
    }
}

fn loaded(data: SeriesData) -> Loaded {
    let SeriesData { labels, samples: mut floats, histograms, mut weights } = data;
    let mut points = Vec::with_capacity(histograms.len());
    let mut any_stale = false;
    for sample in histograms {
        if sample.histogram.is_stale() {
            floats.push(Sample::stale(sample.at));
            any_stale = true;
        } else {
            points.push(HistPoint { at: sample.at, h: Arc::new(sample.histogram.to_float()) });
        }
    }
    if any_stale && weights.is_empty() {
        floats.sort_by_key(|s| s.at);
    } else if any_stale {
        let sums = floats.into_iter().zip(weights.into_iter().chain(std::iter::repeat(0.0)));
        let mut sums: Vec<(Sample, f64)> = sums.collect();
        sums.sort_by_key(|(s, _)| s.at);
        (floats, weights) = sums.into_iter().unzip();
    }
    Loaded { labels, floats, weights, histograms: points }
}
