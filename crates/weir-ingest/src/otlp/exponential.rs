//! Exponential histograms as native ones.

use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, exponential_histogram_data_point::Buckets,
};
use weir_model::Histogram;
use weir_model::histogram::{
    BUCKETS_MAX, BucketCounts, BucketSpan, Counts, ResetHint, SCHEMA_MIN, SCHEMA_RESERVED_MAX,
};

/// What Prometheus takes for a sender that names no threshold.
const ZERO_THRESHOLD: f64 = 1e-128;

/// A point's histogram, checked; `Err` says why it is none.
///
/// A scale finer than 8 is reduced. OTLP's bucket 0 begins at 1, Prometheus' ends there, so that
/// indexes are one apart. Minimum and maximum have no place and are dropped.
pub(super) fn histogram(point: &ExponentialHistogramDataPoint) -> Result<Histogram, String> {
    if !(SCHEMA_MIN..=SCHEMA_RESERVED_MAX).contains(&point.scale) {
        return Err(format!("scale {} is outside {SCHEMA_MIN} to {SCHEMA_RESERVED_MAX}", point.scale));
    }
    let (positive_spans, positive) = side(point.positive.as_ref())?;
    let (negative_spans, negative) = side(point.negative.as_ref())?;
    let zero_threshold = if point.zero_threshold > 0.0 { point.zero_threshold } else { ZERO_THRESHOLD };
    let counts = BucketCounts { count: point.count, zero: point.zero_count, positive, negative };
    let histogram = Histogram {
        schema: point.scale,
        hint: ResetHint::Unknown,
        zero_threshold,
        sum: point.sum.unwrap_or(0.0),
        positive_spans,
        negative_spans,
        counts: Counts::Integer(counts),
        custom_bounds: Arc::from([]),
    };
    histogram.check().map_err(|e| e.to_string())
}

fn side(buckets: Option<&Buckets>) -> Result<(Vec<BucketSpan>, Vec<u64>), String> {
    let Some(buckets) = buckets.filter(|b| b.bucket_counts.iter().any(|n| *n > 0)) else {
        return Ok(Default::default());
    };
    let counts = &buckets.bucket_counts;
    if counts.len() > BUCKETS_MAX {
        return Err(format!("{} buckets; the limit is {BUCKETS_MAX}", counts.len()));
    }
    let first = buckets.offset.checked_add(1).ok_or("a bucket offset past the range of its type")?;
    let (mut spans, mut kept): (Vec<BucketSpan>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut gap = i64::from(first);
    for count in counts {
        if *count == 0 {
            gap += 1;
            continue;
        }
        match spans.last_mut() {
            Some(last) if gap == 0 => last.length += 1,
            _ => {
                let offset = i32::try_from(gap).map_err(|_| "bucket indexes past the range of their type")?;
                spans.push(BucketSpan { offset, length: 1 });
            }
        }
        kept.push(*count);
        gap = 0;
    }
    Ok((spans, kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(scale: i32, offset: i32, counts: &[u64]) -> ExponentialHistogramDataPoint {
        ExponentialHistogramDataPoint {
            scale,
            count: counts.iter().sum(),
            sum: Some(1.0),
            positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
            ..ExponentialHistogramDataPoint::default()
        }
    }

    #[test]
    fn buckets_keep_their_bounds() {
        // Scale 0: OTLP's bucket 0 is (1, 2], which is index 1 of schema 0.
        let h = histogram(&point(0, 0, &[3, 0, 0, 1])).unwrap();
        assert_eq!((h.schema, h.to_float().positive), (0, vec![(1, 3.0), (4, 1.0)]));
        assert_eq!(h.zero_threshold, ZERO_THRESHOLD);
        let h = histogram(&point(-1, -2, &[1, 2])).unwrap();
        assert_eq!(h.to_float().positive, [(-1, 1.0), (0, 2.0)]);
    }

    #[test]
    fn fine_scales_are_reduced_and_foreign_ones_refused() {
        // Scale 10: four buckets make one of scale 8; index 1..=4 is OTLP's 0..=3.
        let h = histogram(&point(10, 0, &[1, 2, 3, 4, 5])).unwrap();
        assert_eq!((h.schema, h.to_float().positive), (8, vec![(1, 10.0), (2, 5.0)]));
        assert!(histogram(&point(-5, 0, &[1])).unwrap_err().contains("scale -5"));
        assert!(histogram(&point(0, i32::MAX, &[1])).unwrap_err().contains("range"));
        let mut wrong = point(0, 0, &[1]);
        wrong.count = 9;
        assert!(histogram(&wrong).unwrap_err().contains("the Count field is 9"));
    }
}
