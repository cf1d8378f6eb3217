//! Counters and histograms as they become samples.

use weir_model::sink::SeriesBatch;
use weir_model::{Exemplar, Labels, Sample, Timestamp, TraceId};

/// Upper bounds in seconds: 0.002·2ⁿ and 0.1·2ⁿ, as Tempo has them.
pub const SPAN_BOUNDS: [f64; 14] =
    [0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
pub const EDGE_BOUNDS: [f64; 8] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8];

/// When samples are taken, and when they were before.
#[derive(Clone, Copy)]
pub struct At {
    pub now: Timestamp,
    pub before: Timestamp,
}

/// Takes the samples of a collection.
pub struct Samples {
    pub at: At,
    pub series: Vec<SeriesBatch>,
}

impl Samples {
    /// `is_new`: the series has no sample yet and begins at zero.
    pub fn push(&mut self, labels: Labels, value: f64, is_new: bool, exemplar: Option<Exemplar>) {
        let zero = is_new.then(|| Sample::new(self.at.before.0, 0.0));
        let samples = zero.into_iter().chain([Sample::new(self.at.now.0, value)]).collect();
        self.series.push(SeriesBatch {
            labels,
            samples,
            exemplars: exemplar.into_iter().collect(),
            ..SeriesBatch::default()
        });
    }
}

pub fn named(name: &str, labels: &[(&str, &str)]) -> Labels {
    Labels::from_pairs([("__name__", name)].iter().chain(labels).filter(|(_, v)| !v.is_empty()).copied())
}

#[derive(Clone, Copy)]
struct Seen {
    trace_id: TraceId,
    seconds: f64,
    at: Timestamp,
}

/// Durations in seconds.
pub struct Histogram {
    bounds: &'static [f64],
    /// Of each bound, then of what is above all.
    counts: Vec<u64>,
    sum: f64,
    /// Of each bucket the newest since the last collection.
    seen: Vec<Option<Seen>>,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0, seen: vec![None; bounds.len() + 1] }
    }

    pub fn add(&mut self, seconds: f64, trace_id: TraceId, at: Timestamp) {
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket] += 1;
        self.sum += seconds;
        self.seen[bucket] = Some(Seen { trace_id, seconds, at });
    }

    pub fn collect(&mut self, name: &str, labels: &[(&str, &str)], is_new: bool, out: &mut Samples) {
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            let le = self.bounds.get(bucket).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let all: Vec<(&str, &str)> = labels.iter().copied().chain([("le", le.as_str())]).collect();
            let exemplar = self.seen[bucket].take().map(|seen| Exemplar {
                labels: Labels::from_pairs([("traceID", seen.trace_id.to_string().as_str())]),
                at: seen.at,
                value: seen.seconds,
            });
            out.push(named(&format!("{name}_bucket"), &all), below as f64, is_new, exemplar);
        }
        out.push(named(&format!("{name}_sum"), labels), self.sum, is_new, None);
        out.push(named(&format!("{name}_count"), labels), below as f64, is_new, None);
    }
}
