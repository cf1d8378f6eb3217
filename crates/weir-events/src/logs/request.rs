//! What the write-ahead log keeps of a write: tenant, time of receipt, and streams with all their entries or the
//! request that they came in.
//!
//! Self-contained, so that the same bytes can be a record of a topic. `docs/format/log-store.md` draws them.

use std::sync::Arc;

use weir_model::sink::{RawRequest, StreamBatch};
use weir_model::{Label, Labels, LogEntry, Nanos, TenantId, Timestamp};

use super::bytes::{Damaged, Reader, put_bytes, put_int, put_uint};

/// The kind of a frame in the log that holds streams.
pub(crate) const KIND: u8 = 1;
/// And of one that holds a request as it came, mostly compressed.
pub(crate) const KIND_RAW: u8 = 2;

/// What a request says, or why it cannot be read. Its first argument is [`RawRequest::kind`].
pub type DecodeRequest = fn(u8, Timestamp, &[u8]) -> Result<Vec<StreamBatch>, String>;

/// What stands before the body of a request.
pub(crate) fn raw_head(tenant: &TenantId, request: &RawRequest<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_bytes(&mut out, tenant.as_str().as_bytes());
    put_int(&mut out, request.received.0);
    out.push(request.kind);
    out
}

/// Tenant and request of such a frame.
pub(crate) fn read_raw(payload: &[u8]) -> Result<(TenantId, RawRequest<'_>), Damaged> {
    let mut reader = Reader::new("request", payload);
    let tenant = TenantId::parse(reader.text()?).map_err(|_| reader.damaged("no name of a tenant"))?;
    let (received, kind) = (Timestamp(reader.int()?), reader.byte()?);
    Ok((tenant, RawRequest { kind, received, body: reader.rest() }))
}

pub(crate) fn encode(tenant: &TenantId, received: Timestamp, streams: &[StreamBatch]) -> Vec<u8> {
    let text: usize = streams.iter().flat_map(|s| &s.entries).map(|e| e.size_bytes() + 24).sum();
    let mut out = Vec::with_capacity(text + 256);
    put_bytes(&mut out, tenant.as_str().as_bytes());
    put_int(&mut out, received.0);
    put_uint(&mut out, streams.len() as u64);
    for stream in streams {
        put_uint(&mut out, stream.labels.len() as u64);
        for label in &stream.labels {
            put_bytes(&mut out, label.name.as_bytes());
            put_bytes(&mut out, label.value.as_bytes());
        }
        put_uint(&mut out, stream.entries.len() as u64);
        let mut last = 0_i64;
        for entry in &stream.entries {
            put_int(&mut out, entry.at.0.wrapping_sub(last));
            last = entry.at.0;
            put_bytes(&mut out, entry.line.as_bytes());
            put_uint(&mut out, entry.metadata.len() as u64);
            for (name, value) in &entry.metadata {
                put_bytes(&mut out, name.as_bytes());
                put_bytes(&mut out, value.as_bytes());
            }
        }
    }
    out
}

pub(crate) fn decode(payload: &[u8]) -> Result<(TenantId, Vec<StreamBatch>), Damaged> {
    let mut reader = Reader::new("write", payload);
    let tenant = TenantId::parse(reader.text()?).map_err(|_| reader.damaged("no name of a tenant"))?;
    reader.int()?;
    // Names repeat from entry to entry and are shared.
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..reader.count()? {
        let mut labels = Vec::new();
        for _ in 0..reader.count()? {
            labels.push(Label { name: reader.text()?.into(), value: reader.text()?.into() });
        }
        let labels = Labels::try_from_vec(labels).map_err(|_| reader.damaged("a label twice in a stream"))?;
        let mut batch = StreamBatch { labels, entries: Vec::new() };
        let mut at = 0_i64;
        for _ in 0..reader.count()? {
            at = at.wrapping_add(reader.int()?);
            let line = reader.text()?.into();
            let mut metadata = Vec::new();
            for _ in 0..reader.count()? {
                metadata.push((shared(&mut names, reader.text()?), reader.text()?.into()));
            }
            batch.entries.push(LogEntry { at: Nanos(at), line, metadata });
        }
        streams.push(batch);
    }
    Ok((tenant, streams))
}

const NAMES_MAX: usize = 32;

fn shared(names: &mut Vec<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.iter().find(|n| &***n == name) {
        return known.clone();
    }
    let name: Arc<str> = name.into();
    if names.len() < NAMES_MAX {
        names.push(name.clone());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn writes_come_back(entries in prop::collection::vec((any::<i64>(), "\\PC{0,8}", prop::collection::vec(("[a-c]{1,2}", "\\PC{0,4}"), 0..3)), 0..8)) {
            let entry = |(at, line, metadata): &(i64, String, Vec<(String, String)>)| LogEntry {
                at: Nanos(*at),
                line: line.as_str().into(),
                metadata: metadata.iter().map(|(n, v)| (n.as_str().into(), v.as_str().into())).collect(),
            };
            let batch = StreamBatch { labels: Labels::from_pairs([("a", "b")]), entries: entries.iter().map(entry).collect() };
            let frame = encode(&TenantId::anonymous(), Timestamp(5), std::slice::from_ref(&batch));
            prop_assert_eq!(decode(&frame).unwrap(), (TenantId::anonymous(), vec![batch]));
        }

        #[test]
        fn requests_come_back(kind in any::<u8>(), at in any::<i64>(), body in prop::collection::vec(any::<u8>(), 0..20)) {
            let request = RawRequest { kind, received: Timestamp(at), body: &body };
            let frame = [raw_head(&TenantId::anonymous(), &request), body.clone()].concat();
            let (tenant, got) = read_raw(&frame).unwrap();
            prop_assert_eq!((tenant, got.kind, got.received, got.body), (TenantId::anonymous(), kind, Timestamp(at), &*body));
        }

        #[test]
        fn any_bytes_are_an_error_or_a_write(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (decode(&bytes), read_raw(&bytes));
        }
    }
}
