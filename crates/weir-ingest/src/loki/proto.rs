//! `logproto.PushRequest`.

use std::borrow::Cow;

use weir_model::Nanos;
use weir_model::sink::StreamBatch;

use super::{Metadata, Receiving, Sent};
use crate::cache::LabelCache;
use crate::limits::Limits;
use crate::proto::{Message, Value};
use crate::{DecodeError, Decoded};

/// From the decompressed body. Streams with bad labels are refused and counted, the rest is kept.
pub fn decode(body: &[u8], limits: &Limits, cache: &LabelCache) -> Result<Decoded<Vec<StreamBatch>>, DecodeError> {
    let mut out = Decoded::default();
    let mut n_streams = 0;
    let mut message = Message::new("Loki push", body);
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(stream)) => {
                n_streams += 1;
                decode_stream(stream, limits, cache, &mut out)?;
            }
            (1, _) => return Err(message.error("a stream is no message")),
            _ => {}
        }
    }
    if n_streams == 0 { Err(super::no_streams()) } else { Ok(out) }
}

fn decode_stream(
    mut message: Message<'_>,
    limits: &Limits,
    cache: &LabelCache,
    out: &mut Decoded<Vec<StreamBatch>>,
) -> Result<(), DecodeError> {
    let (mut text, mut entries) = ("", Vec::new());
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(part)) => text = part.utf8("a stream's labels text")?,
            (2, Value::Bytes(part)) => entries.push(part),
            (1 | 2, _) => return Err(message.error(format!("field {field} of a stream has the wrong wire type"))),
            _ => {}
        }
    }
    let labels = match super::labels::parse(text, cache) {
        Ok(labels) => labels,
        Err(refused) => {
            out.refuse(refused.reason, entries.len().max(1) as u64, || refused.example);
            return Ok(());
        }
    };
    let mut stream = Receiving::new(labels, entries.len());
    for part in entries {
        stream.push(decode_entry(part, cache)?, limits, out);
    }
    stream.finish(out);
    Ok(())
}

fn decode_entry<'a>(mut message: Message<'a>, cache: &LabelCache) -> Result<Sent<'a>, DecodeError> {
    let mut entry = Sent { at: Nanos(0), line: Cow::Borrowed(""), metadata: Vec::new() };
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(time)) => entry.at = decode_time(time)?,
            (2, Value::Bytes(line)) => entry.line = text(line.bytes()),
            (3, Value::Bytes(pair)) => add_metadata(pair, cache, &mut entry.metadata)?,
            (1..=3, _) => return Err(message.error(format!("field {field} of an entry has the wrong wire type"))),
            _ => {}
        }
    }
    Ok(entry)
}

/// Lines in other encodings lose only the bytes that are no UTF-8.
fn text(line: &[u8]) -> Cow<'_, str> {
    // The check alone is many times faster than the one that replaces.
    std::str::from_utf8(line).map_or_else(|_| String::from_utf8_lossy(line), Cow::Borrowed)
}

fn decode_time(mut message: Message<'_>) -> Result<Nanos, DecodeError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Varint(v)) => seconds = v as i64,
            (2, Value::Varint(v)) => nanos = v as i64,
            _ => {}
        }
    }
    Ok(Nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)))
}

fn add_metadata(mut message: Message<'_>, cache: &LabelCache, out: &mut Metadata) -> Result<(), DecodeError> {
    let (mut name, mut text) = ("", "");
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Bytes(part)) => name = part.utf8("a metadata name")?,
            (2, Value::Bytes(part)) => text = part.utf8("a metadata value")?,
            _ => {}
        }
    }
    out.push((cache.text(name), text.into()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::write;
    use proptest::prelude::*;
    use weir_model::Timestamp;

    fn run(body: &[u8]) -> Result<Decoded<Vec<StreamBatch>>, DecodeError> {
        let limits = Limits::default();
        decode(body, &limits, &LabelCache::new(limits.stream_labels))
    }

    fn stream(labels: &str, lines: &[(i64, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        write::bytes(&mut out, 1, labels.as_bytes());
        for (at, line) in lines {
            let (mut time, mut pair, mut entry) = (Vec::new(), Vec::new(), Vec::new());
            write::int(&mut time, 1, (at / 1_000_000_000) as u64);
            write::int(&mut time, 2, (at % 1_000_000_000) as u64);
            write::bytes(&mut pair, 1, b"k");
            write::bytes(&mut pair, 2, b"v");
            write::bytes(&mut entry, 1, &time);
            write::bytes(&mut entry, 2, line.as_bytes());
            write::bytes(&mut entry, 3, &pair);
            write::bytes(&mut out, 2, &entry);
        }
        out
    }

    fn request(streams: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        streams.iter().for_each(|s| write::bytes(&mut out, 1, s));
        out
    }

    #[test]
    fn streams_are_read_and_bad_ones_refused() {
        let long = "x".repeat(300_000);
        let body = request(&[
            stream("{app=\"a\"}", &[(1_700_000_000_000_000_001, "level=warn hi"), (5, &long)]),
            stream("{app=", &[(1, "x"), (2, "y")]),
        ]);
        let got = run(&body).unwrap();
        let want = r#"{app="a", service_name="a"} 1700000000000000001 level=warn hi [detected_level=warn k=v]"#;
        assert_eq!(super::super::show(&got.batch), [want]);
        let refused: Vec<(&str, u64)> = got.refused.iter().map(|r| (r.reason.as_str(), r.count)).collect();
        assert_eq!(refused, [("too_large", 1), ("invalid_labels", 2)]);
    }

    /// What is decoded at a start was accepted before, whatever the limits are by then.
    #[test]
    fn a_logged_request_is_read_without_limits() {
        let long = format!("level=warn {}", "x".repeat(300_000));
        let labels: String = (0..40).map(|i| format!("l{i}=\"{i}\", ")).collect();
        let body = request(&[stream(&format!("{{app=\"a\", {labels}}}"), &[(5, &long), (6, "{\"level\":\"info\"}")])]);
        let packed = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        let got = super::super::decode_logged(super::super::PUSH_PROTO, Timestamp(0), &packed).unwrap();
        assert_eq!(got[0].labels.len(), 42);
        assert_eq!(&*got[0].entries[0].line, long);
        assert_eq!(got[0].entries[1].metadata("detected_level"), Some("info"));
        assert!(super::super::decode_logged(2, Timestamp(0), &packed).is_err());
        assert!(super::super::decode_logged(super::super::PUSH_PROTO, Timestamp(0), &packed[1..]).is_err());
    }

    #[test]
    fn nothing_and_truncated() {
        assert!(matches!(run(&[]), Err(DecodeError::Empty(_))));
        let body = request(&[stream("{app=\"a\"}", &[(1, "hi")])]);
        let text = run(&body[..body.len() - 2]).unwrap_err().to_string();
        assert!(text.starts_with("Loki push: byte"), "{text}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = run(&body);
        }
    }
}
