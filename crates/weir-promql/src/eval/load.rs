//! Pulls everything that the plan reads, counting samples against the query's account.

use weir_model::Reservation;
use weir_model::matcher::all_match;
use weir_model::source::SeriesData;

use super::{BYTES_PER_SAMPLE, Eval, Evaluator};
use crate::engine::Read;

impl Evaluator {
    /// The evaluator with its input, and the memory that this takes.
    pub(super) fn load(mut self, reads: Vec<Read>) -> Eval<(Self, Vec<Reservation>)> {
        let mut held = Vec::new();
        for Read { fragment, mut cursor } in reads {
            let mut series: Vec<SeriesData> = Vec::new();
            loop {
                self.tick()?;
                let Some(batch) = cursor.next()? else { break };
                let n: usize = batch.iter().map(|s| s.samples.len()).sum();
                held.push(self.reserve_bytes((n as u64).saturating_mul(BYTES_PER_SAMPLE))?);
                // A source may return too much.
                series.extend(batch.into_iter().filter(|s| all_match(&fragment.matchers, &s.labels)));
            }
            self.loaded.push(series);
        }
        Ok((self, held))
    }
}
