//! Remote write 1.0: `WriteRequest`.

use weir_model::labels::METRIC_NAME;
use weir_model::sink::{Refused, RefusedReason, SeriesBatch};
use weir_model::{Labels, MetricMetadata};

use super::{WriteRequest, exemplar, histogram, kind, sample};
use crate::DecodeError;
use crate::cache::{LabelCache, show};
use crate::decoded::refuse;
use crate::proto::{Message, Value};

pub(super) const FORMAT: &str = "remote write 1.0";

/// Series with bad labels are refused and counted, the rest is kept; a body that is no protobuf is
/// an error with the byte where reading stopped.
pub fn decode(body: &[u8], cache: &LabelCache) -> Result<WriteRequest, DecodeError> {
    let mut out = WriteRequest::default();
    let mut message = Message::new(FORMAT, body);
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(series)) => decode_series(series, cache, &mut out)?,
            (3, Value::Bytes(metadata)) => {
                let metadata = decode_metadata(metadata)?;
                out.decoded.batch.metadata.push(metadata);
            }
            (1 | 3, _) => return Err(message.error(format!("field {field} of the request is no message"))),
            _ => {}
        }
    }
    Ok(out)
}

pub(super) fn decode_series(
    mut message: Message<'_>,
    cache: &LabelCache,
    out: &mut WriteRequest,
) -> Result<(), DecodeError> {
    let whole = message;
    let mut hasher = cache.hasher(FORMAT);
    let mut samples = Vec::new();
    let (mut n_exemplars, mut parts) = (0, Vec::new());
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(label)) => hasher.write(label.bytes()),
            (2, Value::Bytes(part)) => samples.push(sample(part)?),
            (3, Value::Bytes(_)) => n_exemplars += 1,
            (4, Value::Bytes(part)) => parts.push(part),
            (1..=4, _) => return Err(message.error(format!("field {field} of a series is no message"))),
            _ => {}
        }
    }
    let key = hasher.finish();
    let labels = match cache.get(key) {
        Some(labels) => labels,
        None => match series_labels(whole, cache)? {
            Ok(labels) => {
                cache.put(key, &labels);
                labels
            }
            Err(refused) => {
                let n = (samples.len() + parts.len()).max(1) as u64;
                out.decoded.refuse(refused.reason, n, || refused.example);
                return Ok(());
            }
        },
    };
    let histograms = histogram::decode_all(&parts, &labels, &mut out.decoded.refused)?;
    let mut series = SeriesBatch { labels, samples, histograms, exemplars: Vec::new() };
    if n_exemplars > 0 {
        read_exemplars(whole, cache, &mut series, &mut out.decoded.refused)?;
        out.n_exemplars += series.exemplars.len() as u64;
    }
    if series.n_samples() > 0 || !series.exemplars.is_empty() {
        out.decoded.batch.series.push(series);
    }
    Ok(())
}

type Checked = Result<Labels, Refused>;

pub(super) fn raw_labels(mut message: Message<'_>) -> Result<Vec<(&str, &str)>, DecodeError> {
    let mut pairs = Vec::new();
    while let Some((field, value)) = message.field()? {
        if let (1, Value::Bytes(label)) = (field, value) {
            pairs.push(decode_label(label)?);
        }
    }
    Ok(pairs)
}

fn series_labels(message: Message<'_>, cache: &LabelCache) -> Result<Checked, DecodeError> {
    let pairs = raw_labels(message)?;
    Ok(cache.build(&pairs).and_then(|labels| {
        if labels.metric_name().is_empty() {
            let example = format!("{}: no `{METRIC_NAME}`", show(&pairs));
            return Err(Refused { reason: RefusedReason::InvalidLabels, example, count: 1 });
        }
        Ok(labels)
    }))
}

fn decode_label(mut message: Message<'_>) -> Result<(&str, &str), DecodeError> {
    let (mut name, mut text) = ("", "");
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(part)) => name = part.utf8("a label name")?,
            (2, Value::Bytes(part)) => text = part.utf8("a label value")?,
            (1 | 2, _) => return Err(message.error("a label's field is no text")),
            _ => {}
        }
    }
    Ok((name, text))
}

fn read_exemplars(
    mut message: Message<'_>,
    cache: &LabelCache,
    series: &mut SeriesBatch,
    refused: &mut Vec<Refused>,
) -> Result<(), DecodeError> {
    while let Some((field, value)) = message.field()? {
        let (3, Value::Bytes(mut message)) = (field, value) else { continue };
        let (mut pairs, mut number, mut at) = (Vec::new(), 0.0, 0);
        while let Some((field, value)) = message.field()? {
            match (field, value) {
                (1, Value::Bytes(label)) => pairs.push(decode_label(label)?),
                (2, Value::Fixed64(bits)) => number = f64::from_bits(bits),
                (3, Value::Varint(ms)) => at = ms as i64,
                _ => {}
            }
        }
        match cache.build(&pairs) {
            Ok(labels) => series.exemplars.push(exemplar(labels, number, at)),
            Err(bad) => refuse(refused, bad.reason, 1, || format!("exemplar of {}: {}", series.labels, bad.example)),
        }
    }
    Ok(())
}

pub(super) fn decode_metadata(mut message: Message<'_>) -> Result<MetricMetadata, DecodeError> {
    let mut out = MetricMetadata { family: String::new(), kind: kind(0), help: String::new(), unit: String::new() };
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Varint(number)) => out.kind = kind(number),
            (2, Value::Bytes(text)) => out.family = text.utf8("a family name")?.to_owned(),
            (4, Value::Bytes(text)) => out.help = text.utf8("a help text")?.to_owned(),
            (5, Value::Bytes(text)) => out.unit = text.utf8("a unit")?.to_owned(),
            _ => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::proto::write;
    use proptest::prelude::*;
    use weir_model::{STALE_NAN_BITS, Timestamp};

    fn cache() -> LabelCache {
        LabelCache::new(Limits::default().series_labels)
    }

    pub(crate) fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in labels {
            let mut label = Vec::new();
            write::bytes(&mut label, 1, name.as_bytes());
            write::bytes(&mut label, 2, value.as_bytes());
            write::bytes(&mut out, 1, &label);
        }
        for (at, value) in samples {
            let mut sample = Vec::new();
            write::double(&mut sample, 1, *value);
            write::int(&mut sample, 2, *at as u64);
            write::bytes(&mut out, 2, &sample);
        }
        out
    }

    fn request(all: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for series in all {
            write::bytes(&mut out, 1, series);
        }
        out
    }

    #[test]
    fn series_are_read_sorted_and_from_the_cache() {
        let body = request(&[series(&[("job", "j"), ("__name__", "up"), ("e", "")], &[(-5, 1.5), (7, 2.0)])]);
        let cache = cache();
        for _ in 0..2 {
            let got = decode(&body, &cache).unwrap().decoded;
            assert_eq!(got.refused, []);
            assert_eq!(got.batch.series[0].labels.to_string(), r#"up{job="j"}"#);
            assert_eq!(got.batch.series[0].samples[0].at, Timestamp(-5));
            assert_eq!(got.batch.series[0].samples[1].value, 2.0);
        }
    }

    #[test]
    fn a_stale_marker_keeps_its_bits() {
        let body = request(&[series(&[("__name__", "up")], &[(1, f64::from_bits(STALE_NAN_BITS))])]);
        let got = decode(&body, &cache()).unwrap().decoded.batch;
        assert_eq!(got.series[0].samples[0].value.to_bits(), STALE_NAN_BITS);
    }

    #[test]
    fn bad_series_are_refused_and_good_ones_kept() {
        let good = series(&[("__name__", "up")], &[(1, 1.0)]);
        let check = |bad: Vec<u8>, want: &str| {
            let got = decode(&request(&[bad, good.clone()]), &cache()).unwrap().decoded;
            assert_eq!(got.batch.series.len(), 1);
            assert!(got.refused[0].example.contains(want), "{:?}", got.refused);
        };
        check(series(&[("job", "j")], &[(1, 1.0)]), "no `__name__`");
        check(series(&[("__name__", "a"), ("x", "1"), ("x", "2")], &[(1, 1.0)]), "`x` occurs twice");
        check(series(&[("__name__", "a"), ("", "1")], &[(1, 1.0)]), "without a name");
        check(series(&[("__name__", &"a".repeat(20_000))], &[(1, 1.0)]), "the limit is 16384");
    }

    #[test]
    fn a_broken_body_names_the_byte() {
        let mut body = request(&[series(&[("__name__", "up")], &[(1, 1.0)])]);
        body.truncate(body.len() - 3);
        let text = decode(&body, &cache()).unwrap_err().to_string();
        assert!(text.starts_with("remote write 1.0: byte 2: a field of"), "{text}");
        let text = decode(&[0x0a, 0x03, 0x0a, 0x01, 0xff], &cache()).unwrap_err().to_string();
        assert!(text.contains("byte"), "{text}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&body, &cache());
        }

        #[test]
        fn a_flipped_byte_never_panics(pos in 0usize..60, with in any::<u8>()) {
            let mut body = request(&[series(&[("__name__", "up"), ("job", "j")], &[(1, 1.0), (2, 2.0)])]);
            let len = body.len();
            body[pos % len] = with;
            let _ = decode(&body, &cache());
        }
    }
}
