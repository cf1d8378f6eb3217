//! Batches into remote write bodies, before compression.
//!
//! Source: Prometheus `prompb/types.proto` (1.0), `prompb/io/prometheus/write/v2/types.proto` (2.0).

use std::collections::HashMap;

use weir_model::histogram::Counts;
use weir_model::labels::METRIC_NAME;
use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{Exemplar, HistogramSample, Label, MetricKind, MetricMetadata, Sample};

use crate::proto::write;

/// Remote write 1.0: `WriteRequest`.
pub fn encode_v1(batch: &MetricBatch) -> Vec<u8> {
    let mut out = Vec::new();
    for series in &batch.series {
        let mut body = Vec::new();
        for label in &series.labels {
            write_label(&mut body, label);
        }
        write_samples(&mut body, &series.samples);
        series.histograms.iter().for_each(|h| write::bytes(&mut body, 4, &histogram(h)));
        for exemplar in &series.exemplars {
            let mut part = Vec::new();
            for label in &exemplar.labels {
                write_label(&mut part, label);
            }
            write::double(&mut part, 2, exemplar.value);
            write::int(&mut part, 3, exemplar.at.0 as u64);
            write::bytes(&mut body, 3, &part);
        }
        write::bytes(&mut out, 1, &body);
    }
    for metadata in &batch.metadata {
        let mut body = Vec::new();
        write::int(&mut body, 1, kind(metadata.kind));
        write::bytes(&mut body, 2, metadata.family.as_bytes());
        write::bytes(&mut body, 4, metadata.help.as_bytes());
        write::bytes(&mut body, 5, metadata.unit.as_bytes());
        write::bytes(&mut out, 3, &body);
    }
    out
}

fn write_label(out: &mut Vec<u8>, label: &Label) {
    let mut body = Vec::with_capacity(label.name.len() + label.value.len() + 4);
    write::bytes(&mut body, 1, label.name.as_bytes());
    write::bytes(&mut body, 2, label.value.as_bytes());
    write::bytes(out, 1, &body);
}

fn write_samples(out: &mut Vec<u8>, samples: &[Sample]) {
    for sample in samples {
        let mut body = Vec::with_capacity(20);
        write::double(&mut body, 1, sample.value);
        write::int(&mut body, 2, sample.at.0 as u64);
        write::bytes(out, 2, &body);
    }
}

/// The `Histogram` message, the same in both versions.
fn histogram(sample: &HistogramSample) -> Vec<u8> {
    let HistogramSample { at, histogram } = sample;
    let mut out = Vec::new();
    let (negative, positive) = match &histogram.counts {
        Counts::Integer(counts) => {
            write::int(&mut out, 1, counts.count);
            write::int(&mut out, 6, counts.zero);
            ((9, deltas(&counts.negative)), (12, deltas(&counts.positive)))
        }
        Counts::Float(counts) => {
            write::double(&mut out, 2, counts.count);
            write::double(&mut out, 7, counts.zero);
            ((10, doubles(&counts.negative)), (13, doubles(&counts.positive)))
        }
    };
    write::double(&mut out, 3, histogram.sum);
    write::int(&mut out, 4, zigzag(i64::from(histogram.schema)));
    write::double(&mut out, 5, histogram.zero_threshold);
    for (field, spans, (counts_field, counts)) in
        [(8, &histogram.negative_spans, negative), (11, &histogram.positive_spans, positive)]
    {
        for span in spans {
            let mut part = Vec::new();
            write::int(&mut part, 1, zigzag(i64::from(span.offset)));
            write::int(&mut part, 2, u64::from(span.length));
            write::bytes(&mut out, field, &part);
        }
        if !counts.is_empty() {
            write::bytes(&mut out, counts_field, &counts);
        }
    }
    write::int(&mut out, 14, u64::from(histogram.hint.number()));
    write::int(&mut out, 15, at.0 as u64);
    if !histogram.custom_bounds.is_empty() {
        write::bytes(&mut out, 16, &doubles(&histogram.custom_bounds));
    }
    out
}

/// Integer counts go as the difference to the bucket before.
fn deltas(counts: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut before = 0;
    for count in counts {
        write::varint(&mut out, zigzag(count.wrapping_sub(before) as i64));
        before = *count;
    }
    out
}

fn doubles(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

/// Remote write 2.0: texts stand once in a table. `metadata` tells what is known of a series by its name.
pub fn encode_v2<'a>(batch: &'a MetricBatch, metadata: impl Fn(&str) -> Option<&'a MetricMetadata>) -> Vec<u8> {
    let mut symbols = Symbols::default();
    symbols.of("");
    let mut series_part = Vec::new();
    for series in &batch.series {
        let body = series_v2(series, &metadata, &mut symbols);
        write::bytes(&mut series_part, 5, &body);
    }
    let mut out = Vec::new();
    for symbol in &symbols.list {
        write::bytes(&mut out, 4, symbol.as_bytes());
    }
    out.extend(series_part);
    out
}

fn series_v2<'a>(
    series: &'a SeriesBatch,
    metadata: &impl Fn(&str) -> Option<&'a MetricMetadata>,
    symbols: &mut Symbols<'a>,
) -> Vec<u8> {
    let mut body = Vec::new();
    write::bytes(&mut body, 1, &symbols.refs(series.labels.iter()));
    write_samples(&mut body, &series.samples);
    series.histograms.iter().for_each(|h| write::bytes(&mut body, 3, &histogram(h)));
    for Exemplar { labels, at, value } in &series.exemplars {
        let mut part = Vec::new();
        write::bytes(&mut part, 1, &symbols.refs(labels.iter()));
        write::double(&mut part, 2, *value);
        write::int(&mut part, 3, at.0 as u64);
        write::bytes(&mut body, 4, &part);
    }
    if let Some(known) = metadata(series.labels.value(METRIC_NAME)) {
        let mut part = Vec::new();
        write::int(&mut part, 1, kind(known.kind));
        write::int(&mut part, 3, symbols.of(&known.help));
        write::int(&mut part, 4, symbols.of(&known.unit));
        write::bytes(&mut body, 5, &part);
    }
    body
}

#[derive(Default)]
struct Symbols<'a> {
    list: Vec<&'a str>,
    known: HashMap<&'a str, u64, ahash::RandomState>,
}

impl<'a> Symbols<'a> {
    fn of(&mut self, text: &'a str) -> u64 {
        let next = self.list.len() as u64;
        *self.known.entry(text).or_insert_with(|| {
            self.list.push(text);
            next
        })
    }

    fn refs(&mut self, labels: impl Iterator<Item = &'a Label>) -> Vec<u8> {
        let mut packed = Vec::new();
        for label in labels {
            write::varint(&mut packed, self.of(&label.name));
            write::varint(&mut packed, self.of(&label.value));
        }
        packed
    }
}

/// `MetricMetadata.MetricType`, the same in both versions.
fn kind(kind: MetricKind) -> u64 {
    match kind {
        MetricKind::Unknown => 0,
        MetricKind::Counter => 1,
        MetricKind::Gauge => 2,
        MetricKind::Histogram => 3,
        MetricKind::GaugeHistogram => 4,
        MetricKind::Summary => 5,
        MetricKind::Info => 6,
        MetricKind::Stateset => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode_v1, decode_v2};
    use super::*;
    use crate::{LabelCache, Limits};
    use proptest::prelude::*;
    use std::sync::Arc;
    use weir_model::histogram::{BucketCounts, BucketSpan, ResetHint};
    use weir_model::{Histogram, Labels, Timestamp};

    /// One of integers and one of floats; every second series has them.
    fn histograms(n: u8) -> Vec<HistogramSample> {
        if n.is_multiple_of(2) {
            return Vec::new();
        }
        let spans = vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 1, length: 1 }];
        let integers = Histogram {
            schema: 3,
            hint: ResetHint::NotReset,
            zero_threshold: 0.25,
            sum: 18.4,
            positive_spans: spans.clone(),
            negative_spans: Vec::new(),
            counts: Counts::Integer(BucketCounts { count: 9, zero: 2, positive: vec![4, 1, 2], negative: Vec::new() }),
            custom_bounds: Arc::from([]),
        };
        let floats = Histogram {
            negative_spans: spans.clone(),
            counts: Counts::Float(BucketCounts {
                count: 9.5,
                zero: 0.5,
                positive: vec![1.0, 2.0, 1.5],
                negative: vec![1.5, 2.0, 1.0],
            }),
            ..integers.clone()
        };
        let at = |ms, histogram| HistogramSample { at: Timestamp(ms), histogram: Arc::new(histogram) };
        vec![at(1, integers), at(2, floats)]
    }

    fn batch(series: &[(u8, Vec<(i64, f64)>)]) -> MetricBatch {
        let one = |(n, samples): &(u8, Vec<(i64, f64)>)| SeriesBatch {
            labels: Labels::from_pairs([("__name__", format!("m{n}")), ("l", format!("v{n}"))]),
            samples: samples.iter().map(|(at, value)| Sample { at: Timestamp(*at), value: *value }).collect(),
            exemplars: vec![Exemplar { labels: Labels::from_pairs([("trace_id", "t")]), at: Timestamp(5), value: 2.0 }],
            histograms: histograms(*n),
        };
        let metadata = vec![MetricMetadata {
            family: "m1".to_owned(),
            kind: MetricKind::Counter,
            help: "h".to_owned(),
            unit: "s".to_owned(),
        }];
        MetricBatch { series: series.iter().map(one).collect(), metadata }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            series in proptest::collection::vec(
                (any::<u8>(), proptest::collection::vec((any::<i64>(), -1e9..1e9f64), 1..4)), 0..5)
        ) {
            let cache = LabelCache::new(Limits::default().series_labels);
            let batch = batch(&series);
            prop_assert_eq!(&decode_v1(&encode_v1(&batch), &cache).unwrap().decoded.batch, &batch);
            let body = encode_v2(&batch, |name| batch.metadata.iter().find(|m| m.family == name));
            let got = decode_v2(&body, &cache).unwrap().decoded;
            prop_assert_eq!(&got.refused, &[]);
            prop_assert_eq!(&got.batch.series, &batch.series);
        }
    }
}
