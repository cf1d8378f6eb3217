//! Between spans with counts, and pairs of index and count.

use super::BucketSpan;

/// Index of each bucket that the spans list.
pub(super) fn indexes(spans: &[BucketSpan]) -> impl Iterator<Item = i32> + '_ {
    let mut next = 0i64;
    spans.iter().flat_map(move |span| {
        let start = next + i64::from(span.offset);
        next = start + i64::from(span.length);
        (start..next).map(|idx| idx as i32)
    })
}

/// The buckets that hold something.
pub(super) fn pairs<T: Copy>(spans: &[BucketSpan], counts: &[T], to_float: impl Fn(T) -> f64) -> Vec<(i32, f64)> {
    let all = indexes(spans).zip(counts).map(|(idx, count)| (idx, to_float(*count)));
    all.filter(|(_, count)| *count != 0.0).collect()
}

/// Spans and counts after buckets took the indexes `idx` (ascending); those of equal index are added up.
pub(super) fn merge<T: Copy + std::ops::AddAssign>(idx: &[i32], counts: &[T]) -> (Vec<BucketSpan>, Vec<T>) {
    let mut kept: Vec<i32> = Vec::with_capacity(idx.len());
    let mut sums: Vec<T> = Vec::with_capacity(idx.len());
    for (idx, count) in idx.iter().zip(counts) {
        match (kept.last(), sums.last_mut()) {
            (Some(last), Some(sum)) if last == idx => *sum += *count,
            _ => {
                kept.push(*idx);
                sums.push(*count);
            }
        }
    }
    (spans(kept.into_iter()), sums)
}

/// Spans of ascending indexes.
pub(super) fn spans(indexes: impl Iterator<Item = i32>) -> Vec<BucketSpan> {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next = 0;
    for idx in indexes {
        match spans.last_mut() {
            Some(last) if idx == next => last.length += 1,
            _ => spans.push(BucketSpan { offset: idx.wrapping_sub(next), length: 1 }),
        }
        next = idx.wrapping_add(1);
    }
    spans
}
