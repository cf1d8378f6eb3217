//! A run of native histograms of one shape (schema, spans, bounds): what they share once, then a column
//! per number, each encoded like the numbers of other series.

use std::sync::Arc;

use weir_model::Histogram;
use weir_model::histogram::{BUCKETS_MAX, BucketCounts, BucketSpan, Counts, ResetHint};

use super::reader::{Reader, put_varint, put_zigzag};
use super::{CHUNK_SAMPLES_MAX, ChunkError, Scratch, floats, ints};

/// Most numbers in a chunk; a bound for what foreign bytes can ask for.
const CELLS_MAX: usize = 1 << 22;
const IS_FLOAT: u8 = 1;

/// How many histograms like this one fit into a chunk.
pub(crate) fn fitting(histogram: &Histogram) -> usize {
    ((CELLS_MAX / 4) / (histogram.n_buckets() + 4)).max(1)
}

pub(crate) fn same_shape(a: &Histogram, b: &Histogram) -> bool {
    let bits = |v: &[f64]| v.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && a.is_float() == b.is_float()
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && (Arc::ptr_eq(&a.custom_bounds, &b.custom_bounds) || bits(&a.custom_bounds) == bits(&b.custom_bounds))
}

fn put_spans(spans: &[BucketSpan], out: &mut Vec<u8>) {
    put_varint(out, spans.len() as u64);
    for span in spans {
        put_zigzag(out, i64::from(span.offset));
        put_varint(out, u64::from(span.length));
    }
}

/// `all`: at least one, all of one shape. How many there are is kept by the caller.
pub(crate) fn encode(all: &[&Histogram], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let Some(first) = all.first() else { return };
    out.push(if first.is_float() { IS_FLOAT } else { 0 });
    put_zigzag(out, i64::from(first.schema));
    out.extend_from_slice(&first.zero_threshold.to_bits().to_le_bytes());
    put_spans(&first.positive_spans, out);
    put_spans(&first.negative_spans, out);
    put_varint(out, first.custom_bounds.len() as u64);
    first.custom_bounds.iter().for_each(|b| out.extend_from_slice(&b.to_bits().to_le_bytes()));
    put_ints(all.iter().map(|h| i64::from(h.hint.number())), scratch, out);
    put_floats(all.iter().map(|h| h.sum), scratch, out);
    let (n_positive, n_negative) = match &first.counts {
        Counts::Integer(c) => (c.positive.len(), c.negative.len()),
        Counts::Float(c) => (c.positive.len(), c.negative.len()),
    };
    put_varint(out, n_positive as u64);
    put_varint(out, n_negative as u64);
    for cell in 0..2 + n_positive + n_negative {
        if first.is_float() {
            put_floats(all.iter().filter_map(|h| float(h, cell, n_positive)), scratch, out);
        } else {
            put_ints(all.iter().filter_map(|h| integer(h, cell, n_positive)), scratch, out);
        }
    }
}

fn cell_of<T: Copy>(counts: &BucketCounts<T>, cell: usize, n_positive: usize) -> Option<T> {
    match cell {
        0 => Some(counts.count),
        1 => Some(counts.zero),
        _ if cell - 2 < n_positive => counts.positive.get(cell - 2).copied(),
        _ => counts.negative.get(cell - 2 - n_positive).copied(),
    }
}

fn float(histogram: &Histogram, cell: usize, n_positive: usize) -> Option<f64> {
    let Counts::Float(counts) = &histogram.counts else { return None };
    cell_of(counts, cell, n_positive)
}

fn integer(histogram: &Histogram, cell: usize, n_positive: usize) -> Option<i64> {
    let Counts::Integer(counts) = &histogram.counts else { return None };
    cell_of(counts, cell, n_positive).map(u64::cast_signed)
}

fn put_ints(column: impl Iterator<Item = i64>, scratch: &mut Scratch, out: &mut Vec<u8>) {
    scratch.relative.clear();
    scratch.relative.extend(column);
    ints::encode(&scratch.relative, &mut scratch.ints, out);
}

fn put_floats(column: impl Iterator<Item = f64>, scratch: &mut Scratch, out: &mut Vec<u8>) {
    let mut encoded = Vec::new();
    floats::encode(&column.collect::<Vec<_>>(), &mut scratch.floats, &mut encoded);
    out.extend_from_slice(&encoded);
}

fn read_spans(reader: &mut Reader<'_>) -> Result<Vec<BucketSpan>, ChunkError> {
    let n = reader.count(BUCKETS_MAX, "too many spans")?;
    let mut spans = Vec::with_capacity(n.min(reader.rest().len()));
    for _ in 0..n {
        let offset = i32::try_from(reader.zigzag("a span is cut short")?);
        let offset = offset.map_err(|_| reader.error("a span's offset is out of range"))?;
        let length = reader.count(BUCKETS_MAX, "a span is too long")? as u32;
        spans.push(BucketSpan { offset, length });
    }
    Ok(spans)
}

fn read_float(reader: &mut Reader<'_>) -> Result<f64, ChunkError> {
    let raw = reader.take(8, "a number is cut short")?;
    Ok(f64::from_bits(u64::from_le_bytes(raw.try_into().expect("eight bytes were taken"))))
}

/// The histograms at `wanted` of a column of `n`.
pub(crate) fn decode(
    bytes: &[u8],
    n: usize,
    wanted: std::ops::Range<usize>,
    scratch: &mut Scratch,
) -> Result<Vec<Histogram>, ChunkError> {
    let mut reader = Reader::new(bytes);
    if n > CHUNK_SAMPLES_MAX || wanted.end > n || wanted.start > wanted.end {
        return Err(reader.error("too many histograms"));
    }
    let is_float = match reader.u8("a histogram's kind is missing")? {
        0 => false,
        IS_FLOAT => true,
        _ => return Err(reader.error("unknown kind of histogram")),
    };
    let schema = i32::try_from(reader.zigzag("a schema is cut short")?);
    let schema = schema.map_err(|_| reader.error("a schema is out of range"))?;
    let zero_threshold = read_float(&mut reader)?;
    let (positive_spans, negative_spans) = (read_spans(&mut reader)?, read_spans(&mut reader)?);
    let n_bounds = reader.count(BUCKETS_MAX.min(bytes.len()), "too many bounds")?;
    let bounds = (0..n_bounds).map(|_| read_float(&mut reader)).collect::<Result<Vec<_>, _>>()?;
    let custom_bounds: Arc<[f64]> = bounds.into();
    let mut hints = Vec::new();
    ints::decode(&mut reader, n, n, &mut hints)?;
    let mut sums = Vec::new();
    floats::decode(&mut reader, n, n, &mut scratch.floats, &mut sums)?;
    let n_positive = reader.count(BUCKETS_MAX, "too many buckets")?;
    let n_negative = reader.count(BUCKETS_MAX, "too many buckets")?;
    let listed = |spans: &[BucketSpan]| spans.iter().map(|s| s.length as usize).sum::<usize>();
    if (n_positive, n_negative) != (listed(&positive_spans), listed(&negative_spans)) {
        return Err(reader.error("spans list other buckets than there are"));
    }
    if (n_positive + n_negative + 4).saturating_mul(n) > CELLS_MAX && n > 1 {
        return Err(reader.error("too many buckets for so many histograms"));
    }
    let mut found = Vec::with_capacity(wanted.len());
    for k in wanted.clone() {
        let hint = u64::try_from(hints[k]).ok().and_then(ResetHint::from_number);
        let counts = if is_float {
            Counts::Float(BucketCounts::<f64>::default())
        } else {
            Counts::Integer(BucketCounts::<u64>::default())
        };
        found.push(Histogram {
            schema,
            hint: hint.ok_or_else(|| reader.error("unknown reset hint"))?,
            zero_threshold,
            sum: sums[k],
            positive_spans: positive_spans.clone(),
            negative_spans: negative_spans.clone(),
            counts,
            custom_bounds: custom_bounds.clone(),
        });
    }
    let (mut integers, mut numbers) = (Vec::new(), Vec::new());
    for cell in 0..2 + n_positive + n_negative {
        integers.clear();
        numbers.clear();
        if is_float {
            floats::decode(&mut reader, n, n, &mut scratch.floats, &mut numbers)?;
        } else {
            ints::decode(&mut reader, n, n, &mut integers)?;
        }
        for (histogram, k) in found.iter_mut().zip(wanted.clone()) {
            match &mut histogram.counts {
                Counts::Float(counts) => put_cell(counts, cell, n_positive, numbers[k]),
                Counts::Integer(counts) => put_cell(counts, cell, n_positive, integers[k].cast_unsigned()),
            }
        }
    }
    Ok(found)
}

fn put_cell<T>(counts: &mut BucketCounts<T>, cell: usize, n_positive: usize, value: T) {
    match cell {
        0 => counts.count = value,
        1 => counts.zero = value,
        _ if cell - 2 < n_positive => counts.positive.push(value),
        _ => counts.negative.push(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histograms() -> impl Strategy<Value = Vec<Histogram>> {
        let row = (any::<u64>(), any::<u64>(), prop::collection::vec(any::<u64>(), 5), 0u64..4);
        (any::<bool>(), prop::collection::vec(row, 1..40)).prop_map(|(is_float, rows)| {
            let one = |(sum, count, buckets, hint): (u64, u64, Vec<u64>, u64)| {
                let float = |v: &u64| f64::from_bits(*v);
                let counts = if is_float {
                    let (positive, negative) = (buckets[..3].iter().map(float).collect(), vec![float(&buckets[3])]);
                    Counts::Float(BucketCounts { count: float(&count), zero: float(&buckets[4]), positive, negative })
                } else {
                    let (positive, negative) = (buckets[..3].to_vec(), vec![buckets[3]]);
                    Counts::Integer(BucketCounts { count, zero: buckets[4], positive, negative })
                };
                Histogram {
                    schema: 3,
                    hint: ResetHint::from_number(hint).expect("one of four"),
                    zero_threshold: 1e-128,
                    sum: f64::from_bits(sum),
                    positive_spans: vec![BucketSpan { offset: -2, length: 1 }, BucketSpan { offset: 4, length: 2 }],
                    negative_spans: vec![BucketSpan { offset: 0, length: 1 }],
                    counts,
                    custom_bounds: Arc::from([]),
                }
            };
            rows.into_iter().map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn histograms_come_back_to_the_bit(all in histograms(), from in 0usize..40, cut in any::<prop::sample::Index>(), flip in 1u8..) {
            let (mut bytes, mut scratch) = (Vec::new(), Scratch::default());
            encode(&all.iter().collect::<Vec<_>>(), &mut scratch, &mut bytes);
            let from = from.min(all.len());
            let got = decode(&bytes, all.len(), from..all.len(), &mut scratch).expect("own bytes");
            prop_assert_eq!(got.len(), all.len() - from);
            prop_assert!(got.iter().zip(&all[from..]).all(|(a, b)| a.same_bits(b)));
            // Damage is an error or other histograms.
            let at = cut.index(bytes.len());
            prop_assert!(decode(&bytes[..at], all.len(), 0..all.len(), &mut scratch).is_err());
            bytes[at] ^= flip;
            if let Ok(got) = decode(&bytes, all.len(), 0..all.len(), &mut scratch) {
                prop_assert_eq!(got.len(), all.len());
            }
        }
    }
}
