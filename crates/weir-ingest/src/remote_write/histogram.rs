//! The `Histogram` message, the same in both versions but for the start time of 2.0.

use std::sync::Arc;

use weir_model::histogram::{BucketCounts, BucketSpan, Counts, ResetHint};
use weir_model::sink::{Refused, RefusedReason};
use weir_model::{Histogram, HistogramSample, Labels, Timestamp};

use crate::DecodeError;
use crate::decoded::refuse;
use crate::proto::{Message, Value};

/// The sound ones; each other one is refused and counted.
pub(super) fn decode_all(
    parts: &[Message<'_>],
    labels: &Labels,
    refused: &mut Vec<Refused>,
) -> Result<Vec<HistogramSample>, DecodeError> {
    let mut out = Vec::with_capacity(parts.len());
    for part in parts {
        match decode(*part)? {
            Ok(sample) => out.push(sample),
            Err(reason) => refuse(refused, RefusedReason::Malformed, 1, || format!("{labels}: {reason}")),
        }
    }
    Ok(out)
}

/// The fields as they come, before they are put together.
#[derive(Default)]
pub(crate) struct Raw {
    pub is_float: bool,
    pub count_int: u64,
    pub count_float: f64,
    pub zero_int: u64,
    pub zero_float: f64,
    pub sum: f64,
    pub schema: i32,
    pub zero_threshold: f64,
    pub positive: Side,
    pub negative: Side,
    pub hint: u64,
    pub at: i64,
    pub custom_bounds: Vec<f64>,
}

#[derive(Default)]
pub(crate) struct Side {
    pub spans: Vec<BucketSpan>,
    /// For integer counts: difference to the bucket before.
    pub deltas: Vec<i64>,
    pub counts: Vec<f64>,
}

fn decode(mut message: Message<'_>) -> Result<Result<HistogramSample, String>, DecodeError> {
    let mut raw = Raw::default();
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Varint(n)) => raw.count_int = n,
            (2, Value::Fixed64(bits)) => (raw.is_float, raw.count_float) = (true, f64::from_bits(bits)),
            (3, Value::Fixed64(bits)) => raw.sum = f64::from_bits(bits),
            (4, Value::Varint(n)) => raw.schema = zigzag(n) as i32,
            (5, Value::Fixed64(bits)) => raw.zero_threshold = f64::from_bits(bits),
            (6, Value::Varint(n)) => raw.zero_int = n,
            (7, Value::Fixed64(bits)) => raw.zero_float = f64::from_bits(bits),
            (8, Value::Bytes(part)) => raw.negative.spans.push(read_span(part)?),
            (9, Value::Bytes(part)) => raw.negative.deltas.extend(part.packed_varints()?.into_iter().map(zigzag)),
            (9, Value::Varint(n)) => raw.negative.deltas.push(zigzag(n)),
            (10, Value::Bytes(part)) => raw.negative.counts.extend(part.packed_doubles()?),
            (10, Value::Fixed64(bits)) => raw.negative.counts.push(f64::from_bits(bits)),
            (11, Value::Bytes(part)) => raw.positive.spans.push(read_span(part)?),
            (12, Value::Bytes(part)) => raw.positive.deltas.extend(part.packed_varints()?.into_iter().map(zigzag)),
            (12, Value::Varint(n)) => raw.positive.deltas.push(zigzag(n)),
            (13, Value::Bytes(part)) => raw.positive.counts.extend(part.packed_doubles()?),
            (13, Value::Fixed64(bits)) => raw.positive.counts.push(f64::from_bits(bits)),
            (14, Value::Varint(n)) => raw.hint = n,
            (15, Value::Varint(ms)) => raw.at = ms as i64,
            (16, Value::Bytes(part)) => raw.custom_bounds.extend(part.packed_doubles()?),
            (16, Value::Fixed64(bits)) => raw.custom_bounds.push(f64::from_bits(bits)),
            (1..=16, _) => return Err(message.error(format!("field {field} of a histogram has the wrong wire type"))),
            _ => {}
        }
    }
    Ok(raw.checked())
}

pub(crate) fn read_span(mut message: Message<'_>) -> Result<BucketSpan, DecodeError> {
    let mut span = BucketSpan { offset: 0, length: 0 };
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Varint(n)) => span.offset = zigzag(n) as i32,
            (2, Value::Varint(n)) => span.length = n as u32,
            (1 | 2, _) => return Err(message.error("a span's field has the wrong wire type")),
            _ => {}
        }
    }
    Ok(span)
}

pub(crate) fn zigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

impl Raw {
    /// Counts made absolute, and checked; else why not.
    pub fn checked(self) -> Result<HistogramSample, String> {
        let hint = ResetHint::from_number(self.hint).unwrap_or_default();
        let counts = if self.is_float {
            if !self.positive.deltas.is_empty() || !self.negative.deltas.is_empty() {
                return Err("a histogram of float counts with integer buckets".to_owned());
            }
            let (positive, negative) = (self.positive.counts, self.negative.counts);
            Counts::Float(BucketCounts { count: self.count_float, zero: self.zero_float, positive, negative })
        } else {
            if !self.positive.counts.is_empty() || !self.negative.counts.is_empty() {
                return Err("a histogram of integer counts with float buckets".to_owned());
            }
            let positive = absolute("positive", &self.positive.deltas)?;
            let negative = absolute("negative", &self.negative.deltas)?;
            Counts::Integer(BucketCounts { count: self.count_int, zero: self.zero_int, positive, negative })
        };
        let histogram = Histogram {
            schema: self.schema,
            hint,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive_spans: self.positive.spans,
            negative_spans: self.negative.spans,
            counts,
            custom_bounds: Arc::from(self.custom_bounds),
        };
        // A marker carries nothing but its sum, whatever else the sender put there.
        let histogram =
            if histogram.is_stale() { Histogram::stale() } else { histogram.check().map_err(|e| e.to_string())? };
        Ok(HistogramSample { at: Timestamp(self.at), histogram: Arc::new(histogram) })
    }
}

fn absolute(side: &str, deltas: &[i64]) -> Result<Vec<u64>, String> {
    let mut count = 0i64;
    let step = |delta: &i64| {
        count = count.checked_add(*delta).ok_or_else(|| format!("{side} side: a bucket's count overflows"))?;
        u64::try_from(count)
            .map_err(|_| format!("{side} side: histogram has a bucket whose observation count is negative: {count}"))
    };
    deltas.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::write;
    use proptest::prelude::*;

    const FORMAT: &str = "test";

    fn zig(n: i64) -> u64 {
        ((n << 1) ^ (n >> 63)) as u64
    }

    fn body(spans: &[(i32, u32)], deltas: &[i64], count: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write::int(&mut out, 1, count);
        write::double(&mut out, 3, 1.5);
        write::int(&mut out, 4, zig(1));
        for (offset, length) in spans {
            let mut span = Vec::new();
            write::int(&mut span, 1, zig(i64::from(*offset)));
            write::int(&mut span, 2, u64::from(*length));
            write::bytes(&mut out, 11, &span);
        }
        let mut packed = Vec::new();
        deltas.iter().for_each(|d| write::varint(&mut packed, zig(*d)));
        write::bytes(&mut out, 12, &packed);
        write::int(&mut out, 14, 2);
        write::int(&mut out, 15, 7000);
        out
    }

    #[test]
    fn deltas_become_counts() {
        let body = body(&[(-1, 2), (3, 1)], &[5, -2, 1], 12);
        let got = decode(Message::new(FORMAT, &body)).unwrap().unwrap();
        assert_eq!(got.at, Timestamp(7000));
        assert_eq!((got.histogram.schema, got.histogram.hint), (1, ResetHint::NotReset));
        let want = BucketCounts { count: 12, zero: 0, positive: vec![5, 3, 4], negative: vec![] };
        assert_eq!(got.histogram.counts, Counts::Integer(want));
        assert_eq!(got.histogram.to_float().positive, [(-1, 5.0), (0, 3.0), (4, 4.0)]);
    }

    #[test]
    fn bad_ones_are_refused_by_reason() {
        let labels = Labels::from_pairs([("__name__", "h")]);
        let check = |body: Vec<u8>, want: &str| {
            let mut refused = Vec::new();
            let got = decode_all(&[Message::new(FORMAT, &body)], &labels, &mut refused).unwrap();
            assert!(got.is_empty() && refused[0].example.contains(want), "{refused:?}");
        };
        check(body(&[(0, 1)], &[1, 1], 3), "h: positive side: spans need 1 buckets, have 2");
        check(body(&[(0, 2)], &[1, -2], 0), "observation count is negative");
        check(body(&[(0, 1)], &[1], 3), "the Count field is 3");
        check(body(&[(0, 2)], &[i64::MAX, 1], 3), "overflows");
        let mut float = body(&[(0, 1)], &[1], 1);
        write::double(&mut float, 2, 1.0);
        check(float, "integer buckets");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Message::new(FORMAT, &body));
        }

        #[test]
        fn arbitrary_fields_never_panic(
            spans in proptest::collection::vec((any::<i32>(), any::<u32>()), 0..4),
            deltas in proptest::collection::vec(any::<i64>(), 0..6),
            count in any::<u64>(),
        ) {
            let _ = decode(Message::new(FORMAT, &body(&spans, &deltas, count)));
        }
    }
}
