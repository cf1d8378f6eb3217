//! Histograms with buckets at the powers of two.

/// Counts, which need not be whole, by the exponent of the bucket's upper bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Log2Histogram {
    counts: Vec<f64>,
}

impl Log2Histogram {
    pub(super) fn add(&mut self, value: f64, weight: f64) {
        if !value.is_nan() {
            let exponent = exponent(value);
            if exponent >= self.counts.len() {
                self.counts.resize(exponent + 1, 0.0);
            }
            self.counts[exponent] += weight;
        }
    }

    /// The upper bound of a value's bucket.
    pub(super) fn bound(value: f64) -> f64 {
        2_f64.powi(exponent(value) as i32)
    }

    /// Upper bounds and counts, ascending.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (f64, f64)> {
        self.held().map(|(exponent, count)| (2_f64.powi(exponent as i32), count))
    }

    /// Exponents with a count.
    fn held(&self) -> impl DoubleEndedIterator<Item = (usize, f64)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0.0)
    }

    /// Interpolated within a bucket as if values grew exponentially in it; `None` when empty.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let total: f64 = self.counts.iter().sum();
        if total == 0.0 {
            return None;
        }
        let rank = q * total;
        let mut below = 0.0;
        for (exponent, count) in self.held() {
            let reached = below + count;
            if reached >= rank {
                let share = (rank - below) / count;
                return Some(2_f64.powf(exponent as f64 - 1.0 + share));
            }
            below = reached;
        }
        self.held().next_back().map(|(exponent, _)| 2_f64.powi(exponent as i32))
    }
}

/// Values below 1 share the lowest bucket.
fn exponent(value: f64) -> usize {
    let bits = value.max(1.0).to_bits();
    // The exponent of the next power of two, as the mantissa is above that of a power or not.
    let exponent = (bits >> 52) as usize - 1023;
    exponent + usize::from(bits << 12 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_rank() {
        let mut histogram = Log2Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for value in [100.0, 100.0, 100.0, 1000.0] {
            histogram.add(value, 1.0);
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(128.0, 3.0), (1024.0, 1.0)]);
        assert_eq!(histogram.quantile(0.75), Some(128.0));
        assert_eq!(histogram.quantile(1.0), Some(1024.0));
        assert!((64.0..128.0).contains(&histogram.quantile(0.5).unwrap()));
    }
}
