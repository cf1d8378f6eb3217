//! `{"streams":[{"stream":{…},"values":[["<ns>","line",{…}?]]}]}`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use weir_model::Nanos;
use weir_model::sink::StreamBatch;

use super::{Metadata, Receiving, Sent};
use crate::cache::LabelCache;
use crate::limits::Limits;
use crate::{DecodeError, Decoded};

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow, default)]
    streams: Vec<Stream<'a>>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Stream<'a> {
    stream: Pairs<'a>,
    #[serde(default)]
    values: Vec<Entry<'a>>,
}

/// An object of texts, in the order it was written.
#[derive(Default)]
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

struct Entry<'a> {
    at: Nanos,
    line: Cow<'a, str>,
    metadata: Pairs<'a>,
}

/// Borrows when the text has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = Vec::new();
                while let Some((Text(name), Text(value))) = map.next_entry()? {
                    out.push((name, value));
                }
                Ok(Pairs(out))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Entry<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an entry [\"<nanoseconds>\", \"line\", {metadata}?]")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let short = |n| serde::de::Error::invalid_length(n, &self);
                let Text(time) = seq.next_element()?.ok_or_else(|| short(0))?;
                let Text(line) = seq.next_element()?.ok_or_else(|| short(1))?;
                let metadata = seq.next_element()?.unwrap_or_default();
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                let at = time.parse().map_err(|_| {
                    serde::de::Error::custom(format_args!("timestamp `{time}` is no text of nanoseconds since 1970"))
                })?;
                Ok(Entry { at: Nanos(at), line, metadata })
            }
        }
        deserializer.deserialize_seq(EntryVisitor)
    }
}

/// From the decompressed body.
pub fn decode(body: &[u8], limits: &Limits, cache: &LabelCache) -> Result<Decoded<Vec<StreamBatch>>, DecodeError> {
    let push: Push<'_> = serde_json::from_slice(body).map_err(|e| DecodeError::Malformed {
        format: "Loki push JSON",
        place: format!("line {} column {}", e.line(), e.column()),
        reason: e.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
    })?;
    if push.streams.is_empty() {
        return Err(super::no_streams());
    }
    let mut out = Decoded::default();
    for stream in push.streams {
        let pairs: Vec<(&str, &str)> = stream.stream.0.iter().map(|(n, v)| (&**n, &**v)).collect();
        let labels = match super::labels::from_pairs(&pairs, cache) {
            Ok(labels) => labels,
            Err(refused) => {
                out.refuse(refused.reason, stream.values.len().max(1) as u64, || refused.example);
                continue;
            }
        };
        let mut receiving = Receiving::new(labels, stream.values.len());
        for Entry { at, line, metadata } in stream.values {
            let metadata: Metadata = metadata.0.iter().map(|(n, v)| (cache.text(n), Arc::from(&**v))).collect();
            receiving.push(Sent { at, line, metadata }, limits, &mut out);
        }
        receiving.finish(&mut out);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(body: &str) -> Result<Decoded<Vec<StreamBatch>>, DecodeError> {
        let limits = Limits::default();
        decode(body.as_bytes(), &limits, &LabelCache::new(limits.stream_labels))
    }

    #[test]
    fn streams_are_read() {
        let body = r#"{"streams":[{"stream":{"job":"j"},"values":[["5","a \"quoted\" line"],["6","b",{"k":"v"}]]},
                                  {"stream":{},"values":[["7","lost"]]}]}"#;
        let got = run(body).unwrap();
        assert_eq!(
            super::super::show(&got.batch),
            [
                r#"{job="j", service_name="j"} 5 a "quoted" line [detected_level=unknown]"#,
                r#"{job="j", service_name="j"} 6 b [detected_level=unknown k=v]"#
            ]
        );
        assert!(got.refused[0].example.contains("at least one label pair"));
    }

    #[test]
    fn wrong_shapes_name_the_place() {
        let check = |body: &str, want: &str| {
            let text = run(body).unwrap_err().to_string();
            assert!(text.contains(want), "{body}: {text}");
        };
        check("{}", "no streams");
        check("", "line 1 column 0");
        check("{\"streams\":[{}]}", "missing field `stream`");
        check("{\"streams\":\n[{\"stream\":{\"a\":1}}]}", "line 2 column");
        check("{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[\"x\",\"y\"]]}]}", "timestamp `x`");
        check("{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[\"1\"]]}]}", "an entry");
        check("{\"streams\":[{\"stream\":{\"a\":\"b\"},\"values\":[[1,\"y\"]]}]}", "expected a");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(body in "[\\[\\]{}\",:a-z0-9\\\\]{0,80}") {
            let _ = run(&body);
        }
    }
}
