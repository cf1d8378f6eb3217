//! Where buckets begin and end.

use super::CUSTOM_SCHEMA;

/// Between two bounds, for readers that do not care about schemas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
}

/// Upper bound of the positive bucket `idx`, and its lower bound is that of `idx - 1`. Exponential
/// buckets take the absolute value; the bucket after the last finite one holds infinities.
pub fn bound(idx: i32, schema: i32, custom_bounds: &[f64]) -> f64 {
    if schema == CUSTOM_SCHEMA {
        return match usize::try_from(idx) {
            Err(_) => f64::NEG_INFINITY,
            Ok(idx) => custom_bounds.get(idx).copied().unwrap_or(f64::INFINITY),
        };
    }
    let exponent = f64::from(idx) * f64::from(-schema).exp2();
    // The bound that would be 2^1024 is the largest float: infinities have a bucket of their own.
    if exponent == 1024.0 { f64::MAX } else { exponent.exp2() }
}

/// Index of the bucket that takes in `idx` when buckets are `2^shift` times as wide.
pub(super) fn coarser(idx: i32, shift: i32) -> i32 {
    let shift = shift.clamp(0, 31) as u32;
    // Upper bounds are inclusive, so that bucket 0 ends at 1.
    idx.saturating_sub(1).wrapping_shr(shift).saturating_add(1)
}
