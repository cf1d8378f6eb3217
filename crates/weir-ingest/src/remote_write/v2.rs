//! Remote write 2.0: `io.prometheus.write.v2.Request`, labels as references to a symbol table.

use weir_model::sink::{Refused, RefusedReason, SeriesBatch};
use weir_model::{Labels, MetricMetadata};

use super::{WriteRequest, exemplar, histogram, kind, sample};
use crate::DecodeError;
use crate::cache::LabelCache;
use crate::proto::{Message, Value};

pub(super) const FORMAT: &str = "remote write 2.0";

/// Good series are kept; a series with a bad reference, without samples or with bad labels is
/// refused and counted.
pub fn decode(body: &[u8], cache: &LabelCache) -> Result<WriteRequest, DecodeError> {
    let mut symbols = Vec::new();
    let mut message = Message::new(FORMAT, body);
    // Symbols may in principle follow the series, so they are collected first.
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (4, Value::Bytes(text)) => symbols.push(text.utf8("a symbol")?),
            (5, Value::Bytes(_)) => {}
            (4 | 5, _) => return Err(message.error(format!("field {field} of the request has the wrong wire type"))),
            _ => {}
        }
    }
    if symbols.first().is_some_and(|first| !first.is_empty()) {
        return Err(Message::new(FORMAT, body).error("symbol 0 is not the empty text"));
    }
    let mut out = WriteRequest::default();
    let mut message = Message::new(FORMAT, body);
    while let Some((field, value)) = message.field()? {
        if let (5, Value::Bytes(series)) = (field, value) {
            decode_series(series, &symbols, cache, &mut out)?;
        }
    }
    Ok(out)
}

pub(super) fn decode_series<'a>(
    mut message: Message<'a>,
    symbols: &[&'a str],
    cache: &LabelCache,
    out: &mut WriteRequest,
) -> Result<(), DecodeError> {
    let (mut refs, mut samples, mut exemplars, mut parts, mut metadata) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), None);
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(packed)) => refs.extend(packed.packed_varints()?),
            (1, Value::Varint(single)) => refs.push(single),
            (2, Value::Bytes(part)) => samples.push(sample(part)?),
            (3, Value::Bytes(part)) => parts.push(part),
            (4, Value::Bytes(part)) => exemplars.push(part),
            (5, Value::Bytes(part)) => metadata = Some(part),
            (1..=5, _) => return Err(message.error(format!("field {field} of a series has the wrong wire type"))),
            _ => {}
        }
    }
    let n_items = samples.len() + parts.len();
    let labels = match labels(&refs, symbols, cache).and_then(|labels| check_name(labels, n_items)) {
        Ok(labels) => labels,
        Err(refused) => {
            out.decoded.refuse(refused.reason, n_items.max(1) as u64, || refused.example);
            return Ok(());
        }
    };
    let histograms = histogram::decode_all(&parts, &labels, &mut out.decoded.refused)?;
    if let Some(part) = metadata {
        out.decoded.batch.metadata.extend(decode_metadata(part, symbols, &labels)?);
    }
    let mut series = SeriesBatch { labels, samples, histograms, exemplars: Vec::new() };
    for part in exemplars {
        read_exemplar(part, symbols, cache, &mut series, out)?;
    }
    if series.n_samples() > 0 || !series.exemplars.is_empty() {
        out.decoded.batch.series.push(series);
    }
    Ok(())
}

fn check_name(labels: Labels, n_items: usize) -> Result<Labels, Refused> {
    let refused = |reason, text: &str| Refused { reason, example: format!("{labels}: {text}"), count: 1 };
    if labels.metric_name().is_empty() {
        return Err(refused(RefusedReason::InvalidLabels, "no `__name__`"));
    }
    if n_items == 0 {
        return Err(refused(RefusedReason::Malformed, "a series with neither samples nor histograms"));
    }
    Ok(labels)
}

pub(super) fn raw_labels<'a>(
    mut message: Message<'a>,
    symbols: &[&'a str],
) -> Result<Result<Vec<(&'a str, &'a str)>, Refused>, DecodeError> {
    let mut refs = Vec::new();
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(packed)) => refs.extend(packed.packed_varints()?),
            (1, Value::Varint(single)) => refs.push(single),
            _ => {}
        }
    }
    Ok(pairs(&refs, symbols))
}

/// What the series says of its family; `None` when it says nothing.
pub(super) fn series_metadata(
    mut message: Message<'_>,
    symbols: &[&str],
    labels: &Labels,
) -> Result<Option<MetricMetadata>, DecodeError> {
    let mut found = None;
    while let Some((field, value)) = message.field()? {
        if let (5, Value::Bytes(part)) = (field, value) {
            found = decode_metadata(part, symbols, labels)?;
        }
    }
    Ok(found)
}

/// Names and values that references stand for.
fn pairs<'a>(refs: &[u64], symbols: &[&'a str]) -> Result<Vec<(&'a str, &'a str)>, Refused> {
    let malformed = |example: String| Refused { reason: RefusedReason::Malformed, example, count: 1 };
    if !refs.len().is_multiple_of(2) {
        return Err(malformed(format!("{} label references; names and values come in pairs", refs.len())));
    }
    let text = |reference: u64| {
        usize::try_from(reference).ok().and_then(|idx| symbols.get(idx)).copied().ok_or_else(|| {
            malformed(format!(
                "symbol reference {reference} is out of range; the request has {} symbols",
                symbols.len()
            ))
        })
    };
    refs.chunks_exact(2).map(|pair| Ok((text(pair[0])?, text(pair[1])?))).collect()
}

fn labels(refs: &[u64], symbols: &[&str], cache: &LabelCache) -> Result<Labels, Refused> {
    let pairs = pairs(refs, symbols)?;
    let mut hasher = cache.hasher(FORMAT);
    for (name, value) in &pairs {
        hasher.write(name.as_bytes());
        hasher.write(value.as_bytes());
    }
    let key = hasher.finish();
    if let Some(known) = cache.get(key) {
        return Ok(known);
    }
    let labels = cache.build(&pairs)?;
    cache.put(key, &labels);
    Ok(labels)
}

fn read_exemplar(
    mut message: Message<'_>,
    symbols: &[&str],
    cache: &LabelCache,
    series: &mut SeriesBatch,
    out: &mut WriteRequest,
) -> Result<(), DecodeError> {
    let (mut refs, mut number, mut at) = (Vec::new(), 0.0, 0);
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(packed)) => refs.extend(packed.packed_varints()?),
            (1, Value::Varint(single)) => refs.push(single),
            (2, Value::Fixed64(bits)) => number = f64::from_bits(bits),
            (3, Value::Varint(ms)) => at = ms as i64,
            _ => {}
        }
    }
    match labels(&refs, symbols, cache) {
        Ok(labels) => {
            series.exemplars.push(exemplar(labels, number, at));
            out.n_exemplars += 1;
        }
        Err(bad) => out.decoded.refuse(bad.reason, 1, || format!("exemplar of {}: {}", series.labels, bad.example)),
    }
    Ok(())
}

/// `None` when the metadata says nothing.
fn decode_metadata(
    mut message: Message<'_>,
    symbols: &[&str],
    labels: &Labels,
) -> Result<Option<MetricMetadata>, DecodeError> {
    let text = |reference: u64| {
        usize::try_from(reference).ok().and_then(|idx| symbols.get(idx)).copied().unwrap_or("").to_owned()
    };
    let mut out = MetricMetadata {
        family: labels.metric_name().to_owned(),
        kind: kind(0),
        help: String::new(),
        unit: String::new(),
    };
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Varint(number)) => out.kind = kind(number),
            (3, Value::Varint(reference)) => out.help = text(reference),
            (4, Value::Varint(reference)) => out.unit = text(reference),
            _ => {}
        }
    }
    let is_empty = out.kind == kind(0) && out.help.is_empty() && out.unit.is_empty();
    Ok((!is_empty).then_some(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::proto::write;
    use proptest::prelude::*;

    fn cache() -> LabelCache {
        LabelCache::new(Limits::default().series_labels)
    }

    fn request(symbols: &[&str], series: &[(&[u64], usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        for symbol in symbols {
            write::bytes(&mut out, 4, symbol.as_bytes());
        }
        for (refs, n_samples) in series {
            let (mut packed, mut part) = (Vec::new(), Vec::new());
            refs.iter().for_each(|r| write::varint(&mut packed, *r));
            write::bytes(&mut part, 1, &packed);
            for k in 0..*n_samples {
                let mut sample = Vec::new();
                write::double(&mut sample, 1, k as f64);
                write::int(&mut sample, 2, k as u64);
                write::bytes(&mut part, 2, &sample);
            }
            let mut metadata = Vec::new();
            write::int(&mut metadata, 1, 1);
            write::int(&mut metadata, 3, 2);
            write::bytes(&mut part, 5, &metadata);
            write::bytes(&mut out, 5, &part);
        }
        out
    }

    #[test]
    fn symbols_make_labels_and_metadata() {
        let body = request(&["", "__name__", "a_total", "job", "j"], &[(&[1, 2, 3, 4], 2)]);
        let got = decode(&body, &cache()).unwrap().decoded;
        assert_eq!(got.refused, []);
        assert_eq!(got.batch.series[0].labels.to_string(), r#"a_total{job="j"}"#);
        assert_eq!(got.batch.series[0].samples.len(), 2);
        assert_eq!(got.batch.metadata[0].help, "a_total");
    }

    #[test]
    fn bad_series_are_refused_and_good_ones_kept() {
        let check = |refs: &[u64], n: usize, want: &str| {
            let body = request(&["", "__name__", "a", "job", "j"], &[(refs, n), (&[1, 2], 1)]);
            let got = decode(&body, &cache()).unwrap().decoded;
            assert_eq!(got.batch.series.len(), 1);
            assert!(got.refused[0].example.contains(want), "{:?}", got.refused);
        };
        check(&[1, 9], 1, "symbol reference 9 is out of range");
        check(&[1], 1, "in pairs");
        check(&[3, 4], 1, "no `__name__`");
        check(&[1, 2], 0, "neither samples nor histograms");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&body, &cache());
        }
    }
}
