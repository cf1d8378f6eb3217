//! What the write-ahead log keeps of a write: tenant, time of receipt, and the request as it came, or a batch.
//!
//! Self-contained, so that the same bytes can be a record of a topic. `docs/format/metric-log.md` draws them.

use std::sync::Arc;

use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{Exemplar, HistogramSample, Label, Labels, MetricKind, MetricMetadata, Sample, TenantId, Timestamp};

use crate::chunk::reader::{Reader, put_varint, put_zigzag};
use crate::chunk::{ChunkError, Scratch, histograms};

/// The kind of a batch; smaller kinds are requests, whose numbers their decoder gives.
pub(crate) const BATCH: u8 = 16;

/// Labels of all series of a batch: half a gigabyte when decoded, far above what a request may hold.
const LABELS_MAX: usize = 1 << 24;
/// Labels whose change is told by one bit each.
const CHANGED_MAX: usize = 60;
const KINDS: [MetricKind; 8] = [
    MetricKind::Unknown,
    MetricKind::Counter,
    MetricKind::Gauge,
    MetricKind::Histogram,
    MetricKind::GaugeHistogram,
    MetricKind::Summary,
    MetricKind::Info,
    MetricKind::Stateset,
];

/// What stands before the request or batch of every frame.
pub(crate) fn head(tenant: &TenantId, received: Timestamp) -> Vec<u8> {
    let name = tenant.as_str();
    let mut out = Vec::with_capacity(name.len() + 11);
    put_text(&mut out, name);
    put_zigzag(&mut out, received.0);
    out
}

/// Takes a frame apart: whose it is, when it came, and the request or batch.
pub(crate) fn split(payload: &[u8]) -> Result<(TenantId, Timestamp, &[u8]), ChunkError> {
    let mut reader = Reader::new(payload);
    let tenant = TenantId::parse(text(&mut reader)?).map_err(|_| reader.error("no name of a tenant"))?;
    let received = Timestamp(reader.zigzag("a time is cut short")?);
    Ok((tenant, received, reader.rest()))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Whole numbers, the most frequent values, have zeros at the end of their bits: reversed they are short.
fn put_value(out: &mut Vec<u8>, value: f64) {
    put_varint(out, value.to_bits().swap_bytes());
}

/// The batch as the log keeps it.
pub(crate) fn encode_batch(batch: &MetricBatch, out: &mut Vec<u8>) {
    let empty = Labels::empty();
    let (mut before, mut at, mut scratch) = (&empty, 0i64, Scratch::default());
    put_varint(out, batch.series.len() as u64);
    for series in &batch.series {
        put_labels(out, before, &series.labels);
        before = &series.labels;
        put_varint(out, series.samples.len() as u64);
        for sample in &series.samples {
            put_zigzag(out, sample.at.0.wrapping_sub(at));
            put_value(out, sample.value);
            at = sample.at.0;
        }
        put_varint(out, series.histograms.len() as u64);
        for sample in &series.histograms {
            put_zigzag(out, sample.at.0.wrapping_sub(at));
            at = sample.at.0;
            let mut encoded = Vec::new();
            histograms::encode(&[&*sample.histogram], &mut scratch, &mut encoded);
            put_varint(out, encoded.len() as u64);
            out.extend(encoded);
        }
        put_varint(out, series.exemplars.len() as u64);
        for exemplar in &series.exemplars {
            put_labels(out, &empty, &exemplar.labels);
            put_zigzag(out, exemplar.at.0.wrapping_sub(at));
            put_value(out, exemplar.value);
        }
    }
    put_varint(out, batch.metadata.len() as u64);
    for family in &batch.metadata {
        put_text(out, &family.family);
        out.push(KINDS.iter().position(|k| *k == family.kind).unwrap_or(0) as u8);
        put_text(out, &family.help);
        put_text(out, &family.unit);
    }
}

/// Series of a batch mostly have the names of the one before, and most of its values.
fn put_labels(out: &mut Vec<u8>, before: &Labels, labels: &Labels) {
    let n = labels.len();
    let pairs = || before.iter().zip(labels);
    let same_names =
        (1..=CHANGED_MAX).contains(&n) && before.len() == n && pairs().all(|(a, b)| is_same(&a.name, &b.name));
    if !same_names {
        put_varint(out, (n as u64) << 1 | 1);
        for label in labels {
            put_text(out, &label.name);
            put_text(out, &label.value);
        }
        return;
    }
    let changed = pairs().enumerate().filter(|(_, (a, b))| !is_same(&a.value, &b.value));
    let bits: u64 = changed.map(|(idx, _)| 1 << idx).sum();
    put_varint(out, bits << 1);
    for (_, label) in labels.iter().enumerate().filter(|(idx, _)| bits >> idx & 1 == 1) {
        put_text(out, &label.value);
    }
}

fn is_same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, ChunkError> {
    let n_bytes = reader.count(reader.rest().len(), "a text is longer than what is left")?;
    let start = *reader;
    std::str::from_utf8(reader.take(n_bytes, "a text is cut short")?).map_err(|_| start.error("a text is not UTF-8"))
}

fn value(reader: &mut Reader<'_>) -> Result<f64, ChunkError> {
    Ok(f64::from_bits(reader.varint("a value is cut short")?.swap_bytes()))
}

/// Each takes a byte at least.
fn count(reader: &mut Reader<'_>) -> Result<usize, ChunkError> {
    reader.count(reader.rest().len(), "more are told of than there is room for")
}

/// Reads what [`encode_batch`] wrote; an error says where it is none.
pub fn decode_batch(bytes: &[u8]) -> Result<MetricBatch, ChunkError> {
    let mut reader = Reader::new(bytes);
    let empty = Labels::empty();
    let (mut before, mut at, mut n_labels) = (empty.clone(), 0i64, 0);
    let mut scratch = Scratch::default();
    let mut batch = MetricBatch::default();
    for _ in 0..count(&mut reader)? {
        let labels = labels(&mut reader, &before)?;
        n_labels += labels.len();
        if n_labels > LABELS_MAX {
            return Err(reader.error("too many labels"));
        }
        let mut series = SeriesBatch { labels: labels.clone(), ..SeriesBatch::default() };
        before = labels;
        let mut next_at = |reader: &mut Reader<'_>| {
            at = at.wrapping_add(reader.zigzag("a time is cut short")?);
            Ok(Timestamp(at))
        };
        for _ in 0..count(&mut reader)? {
            series.samples.push(Sample { at: next_at(&mut reader)?, value: value(&mut reader)? });
        }
        for _ in 0..count(&mut reader)? {
            let at = next_at(&mut reader)?;
            let n_bytes = count(&mut reader)?;
            let encoded = reader.take(n_bytes, "a histogram is cut short")?;
            let found = histograms::decode(encoded, 1, 0..1, &mut scratch)?;
            let histogram = found.into_iter().next().ok_or_else(|| reader.error("no histogram"))?;
            series.histograms.push(HistogramSample { at, histogram: Arc::new(histogram) });
        }
        for _ in 0..count(&mut reader)? {
            let labels = self::labels(&mut reader, &empty)?;
            let at = Timestamp(at.wrapping_add(reader.zigzag("a time is cut short")?));
            series.exemplars.push(Exemplar { labels, at, value: value(&mut reader)? });
        }
        batch.series.push(series);
    }
    for _ in 0..count(&mut reader)? {
        let family = text(&mut reader)?.to_owned();
        let kind = usize::from(reader.u8("a kind is missing")?);
        let kind = *KINDS.get(kind).ok_or_else(|| reader.error("unknown kind of metric"))?;
        let (help, unit) = (text(&mut reader)?.to_owned(), text(&mut reader)?.to_owned());
        batch.metadata.push(MetricMetadata { family, kind, help, unit });
    }
    if !reader.rest().is_empty() {
        return Err(reader.error("bytes after the end"));
    }
    Ok(batch)
}

fn labels(reader: &mut Reader<'_>, before: &Labels) -> Result<Labels, ChunkError> {
    let header = reader.varint("labels are cut short")?;
    let labels = if header & 1 == 1 {
        let n = usize::try_from(header >> 1).ok().filter(|n| *n <= reader.rest().len() / 2);
        let n = n.ok_or_else(|| reader.error("more labels than there is room for"))?;
        let label = |_| Ok(Label { name: text(reader)?.into(), value: text(reader)?.into() });
        (0..n).map(label).collect::<Result<Vec<_>, ChunkError>>()?
    } else {
        let bits = header >> 1;
        if before.len() > CHANGED_MAX || bits >> before.len() != 0 {
            return Err(reader.error("a label changes that is not there"));
        }
        let mut labels: Vec<Label> = before.iter().cloned().collect();
        for (_, label) in labels.iter_mut().enumerate().filter(|(idx, _)| bits >> idx & 1 == 1) {
            label.value = text(reader)?.into();
        }
        labels
    };
    let is_valid = labels.is_sorted_by(|a, b| a.name < b.name) && labels.iter().all(|l| !l.value.is_empty());
    if is_valid { Ok(Labels::from_sorted(labels)) } else { Err(reader.error("labels are out of order or empty")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_model::Histogram;
    use weir_model::histogram::{BucketCounts, BucketSpan, Counts, ResetHint};

    fn histogram(sum: f64) -> Arc<Histogram> {
        Arc::new(Histogram {
            schema: 3,
            hint: ResetHint::Gauge,
            zero_threshold: 1e-9,
            sum,
            positive_spans: vec![BucketSpan { offset: -2, length: 2 }],
            negative_spans: vec![],
            counts: Counts::Integer(BucketCounts { count: 5, zero: 1, positive: vec![3, 1], negative: vec![] }),
            custom_bounds: Arc::from(Vec::new()),
        })
    }

    fn series() -> impl Strategy<Value = SeriesBatch> {
        let labels = prop::collection::btree_map("[a-c]{1,2}", "\\PC{1,3}", 0..5);
        let samples = prop::collection::vec((any::<i64>(), any::<u64>()), 0..5);
        (labels, samples, any::<(bool, bool)>()).prop_map(|(labels, samples, (has_histogram, has_exemplar))| {
            let labels = Labels::from_pairs(labels);
            let at = Timestamp(samples.first().map_or(7, |s| s.0));
            SeriesBatch {
                histograms: has_histogram
                    .then(|| HistogramSample { at, histogram: histogram(2.5) })
                    .into_iter()
                    .collect(),
                exemplars: has_exemplar
                    .then(|| Exemplar { labels: labels.clone(), at, value: 0.25 })
                    .into_iter()
                    .collect(),
                samples: samples.iter().map(|(at, bits)| Sample::new(*at, f64::from_bits(*bits))).collect(),
                labels,
            }
        })
    }

    /// As text, so that a NaN equals itself; its bits are compared apart.
    fn shown(batch: &MetricBatch) -> (String, Vec<u64>) {
        let bits = batch.series.iter().flat_map(|s| &s.samples).map(|s| s.value.to_bits()).collect();
        (format!("{batch:?}"), bits)
    }

    proptest! {
        #[test]
        fn batches_come_back(series in prop::collection::vec(series(), 0..6), kind in 0usize..8) {
            let family = MetricMetadata { family: "up".into(), kind: KINDS[kind], help: "é".into(), unit: String::new() };
            let batch = MetricBatch { series, metadata: vec![family] };
            let mut frame = head(&TenantId::anonymous(), Timestamp(-5));
            encode_batch(&batch, &mut frame);
            let (tenant, received, body) = split(&frame).unwrap();
            prop_assert_eq!((tenant, received), (TenantId::anonymous(), Timestamp(-5)));
            prop_assert_eq!(shown(&decode_batch(body).unwrap()), shown(&batch));
            for n in 0..body.len() {
                prop_assert!(decode_batch(&body[..n]).is_err(), "{} of {} bytes", n, body.len());
            }
        }

        #[test]
        fn any_bytes_are_an_error_or_a_batch(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = split(&bytes);
            let _ = decode_batch(&bytes);
        }
    }

    #[test]
    fn a_series_like_the_one_before_is_short() {
        let series = |mode: &str| SeriesBatch {
            labels: Labels::from_pairs([
                ("__name__", "node_cpu_seconds_total"),
                ("instance", "10.0.0.1:9100"),
                ("mode", mode),
            ]),
            samples: vec![Sample::new(1_700_000_000_000, 12.0)],
            ..SeriesBatch::default()
        };
        let len = |batch: &MetricBatch| {
            let mut out = Vec::new();
            encode_batch(batch, &mut out);
            out.len()
        };
        let one = MetricBatch { series: vec![series("idle")], ..MetricBatch::default() };
        let two = MetricBatch { series: vec![series("idle"), series("user")], ..MetricBatch::default() };
        assert!(len(&two) - len(&one) <= 14, "{}", len(&two) - len(&one));
    }
}
