//! A token bucket whose time is handed in.

use weir_model::Nanos;

/// Starts full.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    per_second: f64,
    capacity: f64,
    tokens: f64,
    at: Option<Nanos>,
}

impl Bucket {
    pub fn new(per_second: u64, capacity: u64) -> Self {
        Self { per_second: per_second as f64, capacity: capacity as f64, tokens: capacity as f64, at: None }
    }

    /// Takes `n` tokens, or none.
    pub(crate) fn take(&mut self, n: u64, now: Nanos) -> bool {
        if let Some(at) = self.at.replace(now.max(self.at.unwrap_or(now))) {
            let passed = now.0.saturating_sub(at.0).max(0) as f64 / 1e9;
            self.tokens = (self.tokens + passed * self.per_second).min(self.capacity);
        }
        let fits = n as f64 <= self.tokens;
        if fits {
            self.tokens -= n as f64;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_with_time() {
        let mut bucket = Bucket::new(10, 20);
        let at = |ms: i64| Nanos(1_000_000_000_000 + ms * 1_000_000);
        assert!(bucket.take(15, at(0)));
        assert!(!bucket.take(6, at(0)));
        assert!(bucket.take(6, at(100)));
        assert!(!bucket.take(1, at(50)), "a clock that steps back gives nothing");
        assert!(bucket.take(20, at(10_000)));
        assert!(!bucket.take(21, at(100_000)), "larger than the bucket never passes");
    }
}
