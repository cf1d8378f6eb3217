//! Loki's push API: protobuf in snappy blocks, and JSON.
//!
//! Source: Loki `pkg/push/push.proto`, spec section 2.

mod collected;
mod json;
mod labels;
mod proto;

pub use collected::collected;
pub use json::decode as decode_json;
pub use proto::decode as decode_proto;

use std::borrow::Cow;
use std::sync::Arc;

use weir_model::sink::{RefusedReason, StreamBatch};
use weir_model::{Labels, LogEntry, Nanos, Timestamp};

use crate::cache::LabelCache;
use crate::enrich::Enricher;
use crate::limits::Limits;
use crate::{DecodeError, Decoded, Encoding, decompress};

/// [`RawRequest::kind`] of a push in protobuf, in a snappy block as it was sent.
///
/// [`RawRequest::kind`]: weir_model::sink::RawRequest::kind
pub const PUSH_PROTO: u8 = 1;

/// What a request says that was accepted once, whatever the limits are now: for a store that kept it as it came.
pub fn decode_logged(kind: u8, _received: Timestamp, body: &[u8]) -> Result<Vec<StreamBatch>, String> {
    if kind != PUSH_PROTO {
        return Err(format!("a request of kind {kind}, of a later version"));
    }
    let limits = Limits::none();
    let decoded = decompress(Encoding::SnappyBlock, body, limits.body_bytes_max)
        .and_then(|plain| decode_proto(&plain, &limits, &LabelCache::new(limits.stream_labels)));
    decoded.map(|decoded| decoded.batch).map_err(|error| error.to_string())
}

/// Labels of the stream whose first present one names the service.
const SERVICE_LABELS: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

fn with_service_name(labels: Labels) -> Labels {
    if labels.get("service_name").is_some() {
        return labels;
    }
    let name = SERVICE_LABELS.iter().find_map(|name| labels.get(name)).unwrap_or("unknown_service").to_owned();
    labels.with("service_name", &name)
}

/// An entry as it was sent.
struct Sent<'a> {
    at: Nanos,
    line: Cow<'a, str>,
    metadata: Metadata,
}

/// A stream while its entries come.
struct Receiving {
    batch: StreamBatch,
    enricher: Enricher,
}

impl Receiving {
    fn new(labels: Labels, n_entries: usize) -> Self {
        let enricher = Enricher::new(&labels);
        Self { batch: StreamBatch { labels, entries: Vec::with_capacity(n_entries) }, enricher }
    }

    /// Checks the entry's sizes, adds level and ids, and keeps it, or counts why not.
    fn push(&mut self, sent: Sent<'_>, limits: &Limits, out: &mut Decoded<Vec<StreamBatch>>) {
        let Sent { at, line, mut metadata } = sent;
        if let Some(text) = complaint(&line, &metadata, limits) {
            out.refuse(RefusedReason::TooLarge, 1, || format!("{}: {text}", self.batch.labels));
            return;
        }
        self.enricher.add(None, &line, &mut metadata);
        self.batch.entries.push(LogEntry { at, line: line.into(), metadata });
    }

    fn finish(self, out: &mut Decoded<Vec<StreamBatch>>) {
        if !self.batch.entries.is_empty() {
            out.batch.push(self.batch);
        }
    }
}

fn complaint(line: &str, metadata: &Metadata, limits: &Limits) -> Option<String> {
    let metadata_bytes: usize = metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
    if line.len() > limits.line_bytes_max {
        Some(format!("line of {} bytes; the limit is {}", line.len(), limits.line_bytes_max))
    } else if metadata_bytes > limits.metadata_bytes_max {
        Some(format!("structured metadata of {metadata_bytes} bytes; the limit is {}", limits.metadata_bytes_max))
    } else if metadata.len() > limits.metadata_entries_max {
        let n = metadata.len();
        Some(format!("{n} entries of structured metadata; the limit is {}", limits.metadata_entries_max))
    } else {
        None
    }
}

/// As Loki answers a request without streams.
fn no_streams() -> DecodeError {
    DecodeError::Empty("the push request has no streams")
}

type Metadata = Vec<(Arc<str>, Arc<str>)>;

#[cfg(test)]
pub(crate) fn show(streams: &[StreamBatch]) -> Vec<String> {
    let mut out = Vec::new();
    for stream in streams {
        for entry in &stream.entries {
            let metadata: Vec<String> = entry.metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
            out.push(format!("{} {} {} [{}]", stream.labels, entry.at.0, entry.line, metadata.join(" ")));
        }
    }
    out
}
