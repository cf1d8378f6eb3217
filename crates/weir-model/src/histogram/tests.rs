#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn span(offset: i32, length: u32) -> BucketSpan {
    BucketSpan { offset, length }
}

fn integer(schema: i32, spans: &[BucketSpan], counts: &[u64]) -> Histogram {
    let count = counts.iter().sum();
    Histogram {
        schema,
        positive_spans: spans.to_vec(),
        sum: 1.0,
        counts: Counts::Integer(BucketCounts { count, zero: 0, positive: counts.to_vec(), negative: vec![] }),
        ..Histogram::stale()
    }
}

#[test]
fn bounds_are_powers_of_two_and_end_at_the_largest_float() {
    for (idx, schema, want) in [
        (0, 0, 1.0),
        (1, 0, 2.0),
        (-1, 0, 0.5),
        (3, -1, 64.0),
        (2, 1, 2.0),
        (1024, 0, f64::MAX),
        (1025, 0, f64::INFINITY),
        (64, -4, f64::MAX),
        (2048, 1, f64::MAX),
    ] {
        assert_eq!(bound(idx, schema, &[]), want, "{idx} {schema}");
    }
    // 2^(1/256), from the specification's formula.
    assert!((bound(1, 8, &[]) - 1.0027112750502025).abs() < 1e-15);
    assert_eq!(bound(1, CUSTOM_SCHEMA, &[0.5, 1.0]), 1.0);
    assert_eq!(bound(2, CUSTOM_SCHEMA, &[0.5, 1.0]), f64::INFINITY);
    assert_eq!(bound(-1, CUSTOM_SCHEMA, &[0.5, 1.0]), f64::NEG_INFINITY);
}

#[test]
fn bad_histograms_are_named() {
    let check = |h: Histogram, want: &str| {
        let text = h.check().unwrap_err().to_string();
        assert!(text.contains(want), "{text}");
    };
    let good = integer(0, &[span(0, 2), span(1, 1)], &[1, 2, 3]);
    assert!(good.clone().check().is_ok());
    check(Histogram { schema: -5, ..good.clone() }, "got schema -5");
    check(integer(0, &[span(0, 2)], &[1]), "spans need 2 buckets, have 1");
    check(integer(0, &[span(0, 1), span(-1, 1)], &[1, 1]), "offset is negative");
    check(integer(0, &[span(i32::MAX, 2)], &[1, 1]), "past the range");
    let mut count = good.clone();
    if let Counts::Integer(c) = &mut count.counts {
        c.count = 7;
    }
    check(count, "6 observations found in buckets, but the Count field is 7");
    check(Histogram { custom_bounds: Arc::from([1.0]), ..good.clone() }, "must not have custom bounds");
    let custom = |bounds: &[f64]| Histogram {
        custom_bounds: Arc::from(bounds),
        ..integer(CUSTOM_SCHEMA, &[span(0, 2)], &[1, 1])
    };
    assert!(custom(&[1.0]).check().is_ok());
    check(custom(&[]), "too few");
    check(custom(&[2.0, 1.0]), "increasing");
    check(custom(&[f64::NAN]), "NaN");
    check(custom(&[f64::INFINITY]), "finite");
    let float = BucketCounts { count: 1.0, zero: 0.0, positive: vec![-1.0], negative: vec![] };
    check(
        Histogram { positive_spans: vec![span(0, 1)], counts: Counts::Float(float), ..Histogram::stale() },
        "positive side: histogram has a bucket whose observation count is negative",
    );
}

#[test]
fn a_fine_schema_is_reduced_to_eight() {
    // Index 1 at schema 9 ends where index 1 at schema 8 does, index 3 where 2 does.
    let h = integer(9, &[span(1, 3)], &[1, 2, 4]).check().unwrap();
    assert_eq!((h.schema, h.to_float().positive), (8, vec![(1, 3.0), (2, 4.0)]));
}

#[test]
fn a_wider_zero_bucket_takes_its_neighbours_in() {
    let h = |zero_threshold, positive: &[(i32, f64)]| FloatHistogram::<f64> {
        zero_threshold,
        zero_count: 1.0,
        count: 1.0 + positive.iter().map(|p| p.1).sum::<f64>(),
        positive: positive.to_vec(),
        ..FloatHistogram::default()
    };
    // 3.0 cuts the bucket (2, 4], so that the zero bucket grows to 4.
    let mut sum = h(0.001, &[(1, 2.0), (2, 3.0), (3, 5.0)]);
    sum.add(&h(3.0, &[(4, 7.0)])).unwrap();
    assert_eq!((sum.zero_threshold, sum.zero_count), (4.0, 7.0));
    assert_eq!(sum.positive, [(3, 5.0), (4, 7.0)]);
    assert_eq!(sum.count, 11.0 + 8.0);
}

#[test]
fn custom_bounds_that_differ_leave_the_common_ones() {
    let h = |bounds: &[f64], counts: &[f64]| FloatHistogram::<f64> {
        schema: CUSTOM_SCHEMA,
        custom_bounds: Arc::from(bounds),
        positive: counts.iter().enumerate().map(|(k, n)| (k as i32, *n)).collect(),
        ..FloatHistogram::default()
    };
    let mut sum = h(&[1.0, 2.0, 3.0], &[1.0, 2.0, 4.0, 8.0]);
    let adjusted = sum.add(&h(&[2.0, 5.0], &[10.0, 20.0, 40.0])).unwrap();
    assert!(adjusted.bounds_differ);
    assert_eq!((&*sum.custom_bounds, &*sum.positive), (&[2.0][..], &[(0, 13.0), (1, 72.0)][..]));
    assert!(sum.add(&FloatHistogram::default()).is_err());
}

#[test]
fn a_reset_is_a_bucket_that_shrank_or_a_finer_schema() {
    let h = |schema, positive: &[(i32, f64)]| FloatHistogram::<f64> {
        schema,
        count: 10.0,
        positive: positive.to_vec(),
        ..FloatHistogram::default()
    };
    let before = h(1, &[(1, 1.0), (2, 2.0)]);
    for (now, want) in [
        (h(1, &[(1, 1.0), (2, 2.0), (3, 1.0)]), false),
        (h(1, &[(1, 1.0)]), true),
        (h(1, &[(1, 0.5), (2, 3.0)]), true),
        (h(0, &[(1, 3.0)]), false),
        (h(0, &[(1, 2.5)]), true),
        (h(2, &[(1, 5.0), (4, 5.0)]), true),
        (FloatHistogram { hint: ResetHint::Reset, ..before.clone() }, true),
        (FloatHistogram { hint: ResetHint::NotReset, ..FloatHistogram::default() }, false),
        (FloatHistogram { zero_threshold: 0.5, ..before.clone() }, false),
    ] {
        assert_eq!(now.is_reset_after(&before), want, "{now:?}");
    }
}

fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    let side = || proptest::collection::btree_map(-40i32..40, (1u32..100).prop_map(f64::from), 0..12);
    (-4i32..=8, 0u32..20, prop_oneof![Just(0.0), Just(1e-128), Just(0.3)], side(), side()).prop_map(
        |(schema, zero, zero_threshold, positive, negative)| {
            let mut h = FloatHistogram {
                schema,
                zero_threshold: 0.0,
                zero_count: f64::from(zero),
                positive: positive.into_iter().collect(),
                negative: negative.into_iter().collect(),
                ..FloatHistogram::default()
            };
            h.count = h.zero_count + h.positive.iter().chain(&h.negative).map(|p| p.1).sum::<f64>();
            h.widen_zero(zero_threshold);
            h
        },
    )
}

proptest! {
    /// Whole counts are exact, so that each is found again in some bucket.
    #[test]
    fn addition_loses_no_observation(a in any_histogram(), b in any_histogram()) {
        let mut sum = a.clone();
        sum.add(&b).unwrap();
        let in_buckets = |h: &FloatHistogram| h.zero_count + h.positive.iter().chain(&h.negative).map(|p| p.1).sum::<f64>();
        prop_assert_eq!(in_buckets(&sum), a.count + b.count);
        prop_assert_eq!(sum.count, a.count + b.count);
        prop_assert!(sum.positive.is_sorted_by(|x, y| x.0 < y.0));
        let mut other = b.clone();
        other.add(&a).unwrap();
        prop_assert!(sum.same_data(&other), "a + b = b + a");
        let mut compensated: FloatHistogram<Kahan> = a.convert();
        compensated.add(&b).unwrap();
        prop_assert!(compensated.convert::<f64>().same_data(&sum));
        prop_assert!(!sum.is_reset_after(&a), "a counter that grew was not reset");
    }

    #[test]
    fn the_stored_form_is_the_same_histogram(h in any_histogram()) {
        let stored = h.to_stored();
        prop_assert_eq!(stored.clone().check(), Ok(stored.clone()));
        prop_assert!(stored.to_float().same_data(&h));
        prop_assert!(stored.same_bits(&stored.clone()));
    }

    #[test]
    fn reducing_in_steps_or_at_once_is_the_same(h in any_histogram(), by in 1i32..6) {
        let target = (h.schema - by).max(SCHEMA_MIN);
        let (mut once, mut steps) = (h.clone(), h.clone());
        once.reduce(target);
        while steps.schema > target {
            let next = steps.schema - 1;
            steps.reduce(next);
        }
        prop_assert!(once.same_data(&steps));
        prop_assert!(h.to_stored().reduced(target).to_float().same_data(&once));
    }
}
