//! Robust statistics over few samples: how far did something move, measured against its own past?

use weir_model::Timestamp;

/// One reading: time and value.
pub type Point = (Timestamp, f64);

/// Middle value; of an even count the mean of both. `None` when empty.
pub fn median(values: &mut [f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Linear interpolation between the nearest ranks; reorders `values`. `q` in 0..=1.
pub fn quantile(values: &mut [f64], q: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let rank = q.clamp(0.0, 1.0) * (values.len() - 1) as f64;
    let (lo, hi) = (rank.floor() as usize, rank.ceil() as usize);
    Some(values[lo] + (values[hi] - values[lo]) * (rank - lo as f64))
}

/// Mean without the largest twentieth: one garbage collection must not look like a fault.
pub fn trimmed_mean(values: &mut [f32]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    values.sort_unstable_by(f32::total_cmp);
    let kept = &values[..values.len() - values.len() / 20];
    Some(kept.iter().map(|v| f64::from(*v)).sum::<f64>() / kept.len() as f64)
}

/// What counts as no change at all.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    /// Least spread, as a share of the level.
    pub relative: f64,
    /// Least spread, in the unit of the values.
    pub absolute: f64,
}

/// A move of one reading between the baseline and the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// Median of the baseline.
    pub before: f64,
    /// Level that the window's most moved 40 % of readings reach.
    pub during: f64,
    /// Signed distance in robust standard deviations.
    pub z: f64,
    /// First reading of the window that is beyond half of the way.
    pub since: Timestamp,
}

impl Shift {
    /// Natural logarithm of the factor of change, bounded; below an absolute floor things count as
    /// equal to it, so that from nothing to something is finite.
    pub fn effect(&self, floor: f64) -> f64 {
        let (a, b) = (self.before.abs().max(floor), self.during.abs().max(floor));
        (b / a).ln().abs().min(4.0)
    }
    /// How unusual: 0 for nothing, about 1 for six deviations, growing with the logarithm.
    pub fn surprise(&self) -> f64 {
        (self.z.abs() / 3.0).ln_1p().min(4.0)
    }
}

/// Share of the window that a fault must last to count in full: windows begin before the fault.
const HELD_SHARE: f64 = 0.4;

/// Compares a window with its baseline in the direction in which it moved more.
///
/// `None` when either is empty. Spread is the larger of the scaled median absolute deviation, the
/// upper decile's distance and the floor; few baseline samples widen it.
pub fn shift(baseline: &[Point], window: &[Point], floor: Floor) -> Option<Shift> {
    let mut base: Vec<f64> = baseline.iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
    let before = median(&mut base)?;
    let mut values: Vec<f64> = window.iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
    if values.is_empty() {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let held = ((values.len() as f64 * HELD_SHARE).round() as usize).max(1);
    let (low, high) = (values[held - 1], values[values.len() - held]);
    let up = high - before >= before - low;
    let during = if up { high } else { low };

    let tail = quantile(&mut base, if up { 0.9 } else { 0.1 })?;
    let mut deviations: Vec<f64> = base.iter().map(|v| (v - before).abs()).collect();
    let mad = median(&mut deviations)? * 1.4826;
    let few = if base.len() < 5 { 0.25 * before.abs() } else { 0.0 };
    let spread = mad
        .max((tail - before).abs() / 1.2816)
        .max(floor.relative * before.abs())
        .max(floor.absolute)
        .max(few)
        .max(f64::MIN_POSITIVE);
    let half = before + (during - before) / 2.0;
    let beyond = |v: f64| if up { v >= half } else { v <= half };
    let since = window.iter().find(|p| beyond(p.1)).map_or(window[0].0, |p| p.0);
    Some(Shift { before, during, z: ((during - before) / spread).clamp(-1e6, 1e6), since })
}

/// Events among trials, per slice.
pub type Tally = (Timestamp, u32, u32);

/// Compares shares of events among trials: all counts of a side together, as rare events leave most
/// slices empty. The deviation is a Poisson count's, widened by how much the baseline's slices vary
/// beyond it.
pub fn count_shift(baseline: &[Tally], window: &[Tally]) -> Option<Shift> {
    let sum = |side: &[Tally]| side.iter().fold((0.0, 0.0), |s, t| (s.0 + f64::from(t.1), s.1 + f64::from(t.2)));
    let ((events_b, trials_b), (events_w, trials_w)) = (sum(baseline), sum(window));
    if trials_b <= 0.0 || trials_w <= 0.0 {
        return None;
    }
    let (before, during) = (events_b / trials_b, events_w / trials_w);
    // Half an event each keeps a share of nothing from being certain.
    let pooled = (events_b + 0.5) / trials_b;
    let excess: Vec<f64> = baseline
        .iter()
        .filter(|t| t.2 > 0)
        .map(|t| (f64::from(t.1) - before * f64::from(t.2)).powi(2) / (pooled * f64::from(t.2)))
        .collect();
    let n = excess.len().max(1) as f64;
    // What happens each time, once or more, varies less than chance: one that is missing is news.
    let least = if before >= 0.5 && events_b >= 20.0 { 0.05 } else { 1.0 };
    let dispersion = (excess.iter().sum::<f64>() / n).clamp(least, 100.0);
    let spread = (dispersion * pooled * (1.0 / trials_w + 1.0 / trials_b)).sqrt().max(0.01 * before);
    let half = before + (during - before) / 2.0;
    let beyond = |t: &Tally| {
        let share = f64::from(t.1) / f64::from(t.2.max(1));
        t.2 > 0 && if during > before { share >= half } else { share <= half }
    };
    let since = window.iter().find(|t| beyond(t)).or(window.first())?.0;
    Some(Shift { before, during, z: ((during - before) / spread).clamp(-1e6, 1e6), since })
}

/// A count histogram over logarithmic bins: 8 per doubling, from 1 µs to over an hour.
#[derive(Clone, Debug, Default)]
pub struct LogHistogram {
    /// Sparse, ascending by bin.
    bins: Vec<(u16, u32)>,
    count: u64,
}

const BINS_PER_DOUBLING: f64 = 8.0;

impl LogHistogram {
    pub fn add_nanos(&mut self, nanos: i64) {
        let micros = (nanos as f64 / 1e3).max(1.0);
        let bin = (micros.log2() * BINS_PER_DOUBLING) as u16;
        match self.bins.binary_search_by_key(&bin, |b| b.0) {
            Ok(idx) => self.bins[idx].1 += 1,
            Err(idx) => self.bins.insert(idx, (bin, 1)),
        }
        self.count += 1;
    }
    pub fn merge(&mut self, other: &Self) {
        for (bin, n) in &other.bins {
            match self.bins.binary_search_by_key(bin, |b| b.0) {
                Ok(idx) => self.bins[idx].1 += n,
                Err(idx) => self.bins.insert(idx, (*bin, *n)),
            }
        }
        self.count += other.count;
    }
    /// Milliseconds; within 9 % of the true quantile. `None` when empty.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let rank = (q * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bin, n) in &self.bins {
            seen += u64::from(*n);
            if seen >= rank {
                return Some(((f64::from(*bin) + 0.5) / BINS_PER_DOUBLING).exp2() / 1e3);
            }
        }
        None
    }
    pub fn n_bins(&self) -> usize {
        self.bins.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Floor = Floor { relative: 0.05, absolute: 0.0 };

    fn points(values: &[f64]) -> Vec<Point> {
        values.iter().enumerate().map(|(k, v)| (Timestamp(k as i64 * 1000), *v)).collect()
    }

    #[track_caller]
    fn check(baseline: &[f64], window: &[f64], during: f64, z: std::ops::Range<f64>) {
        let got = shift(&points(baseline), &points(window), FLOOR).unwrap();
        assert_eq!(got.during, during, "{got:?}");
        assert!(z.contains(&got.z), "{got:?}");
    }

    #[test]
    fn a_shift_is_measured_against_the_baselines_own_spread() {
        let steady = [10.0, 10.1, 9.9, 10.0, 10.2, 9.8];
        let noisy = [10.0, 14.0, 6.0, 12.0, 8.0, 15.0];
        check(&steady, &[10.0, 10.0, 14.0, 14.0, 14.0], 14.0, 7.0..9.0);
        check(&noisy, &[10.0, 10.0, 14.0, 14.0, 14.0], 14.0, 0.5..1.5);
        check(&steady, &[10.0, 4.0, 4.0, 4.0], 4.0, -13.0..-10.0);
        check(&steady, &[10.0, 10.0, 30.0, 10.0, 10.0], 10.0, -1.0..1.0);
        check(&[0.0; 6], &[5.0, 5.0], 5.0, 1e5..2e6);
    }

    #[test]
    fn since_is_where_the_step_is() {
        let got = shift(&points(&[1.0; 8]), &points(&[1.0, 1.0, 9.0, 9.0, 9.0]), FLOOR).unwrap();
        assert_eq!(got.since, Timestamp(2000));
    }

    #[test]
    fn rare_events_count_together() {
        let tally = |events: &[u32]| -> Vec<Tally> { events.iter().map(|e| (Timestamp(0), *e, 100)).collect() };
        let steady = tally(&[3, 4, 2, 3, 3, 4, 2, 3]);
        let gone = count_shift(&steady, &tally(&[0, 0, 0, 0, 0])).unwrap();
        assert!(gone.z < -3.0, "{gone:?}");
        let same = count_shift(&steady, &tally(&[2, 4, 3, 3, 2])).unwrap();
        assert!(same.z.abs() < 1.0, "{same:?}");
        let bursty = tally(&[0, 20, 0, 0, 0, 0, 0, 4]);
        assert!(count_shift(&bursty, &tally(&[0, 0, 0, 0, 0])).unwrap().z > -3.0);
        assert_eq!(count_shift(&[], &steady), None);
    }

    #[test]
    fn empty_sides_say_nothing() {
        assert_eq!(shift(&[], &points(&[1.0]), FLOOR), None);
        assert_eq!(shift(&points(&[1.0]), &[], FLOOR), None);
        assert_eq!(shift(&points(&[f64::NAN]), &points(&[1.0]), FLOOR), None);
    }

    proptest::proptest! {
        #[test]
        fn quantiles_of_the_histogram_are_near(mut values in proptest::collection::vec(2_000i64..10_000_000_000, 1..300), q in 0.01f64..0.99) {
            let mut histogram = LogHistogram::default();
            values.iter().for_each(|v| histogram.add_nanos(*v));
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1) - 1;
            let want = values[rank] as f64 / 1e6;
            let got = histogram.quantile_ms(q).unwrap();
            proptest::prop_assert!((got / want - 1.0).abs() < 0.1, "{got} {want}");
        }
    }
}
