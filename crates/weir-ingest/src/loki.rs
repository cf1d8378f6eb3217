//! Loki's push API: protobuf in snappy blocks, and JSON.
//!
//! Source: Loki `pkg/push/push.proto`, spec section 2.

mod json;
mod labels;
mod proto;

pub use json::decode as decode_json;
pub use proto::decode as decode_proto;

use std::sync::Arc;

use weir_model::sink::{RefusedReason, StreamBatch};
use weir_model::{Labels, LogEntry};

use crate::enrich::enrich;
use crate::limits::Limits;
use crate::{DecodeError, Decoded};

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

/// Checks the entry's sizes, adds level and ids, and keeps it, or counts why not.
fn push_entry(out: &mut Decoded<Vec<StreamBatch>>, stream: &mut StreamBatch, mut entry: LogEntry, limits: &Limits) {
    let metadata_bytes: usize = entry.metadata.iter().map(|(n, v)| n.len() + v.len()).sum();
    let complaint = if entry.line.len() > limits.line_bytes_max {
        Some(format!("line of {} bytes; the limit is {}", entry.line.len(), limits.line_bytes_max))
    } else if metadata_bytes > limits.metadata_bytes_max {
        Some(format!("structured metadata of {metadata_bytes} bytes; the limit is {}", limits.metadata_bytes_max))
    } else if entry.metadata.len() > limits.metadata_entries_max {
        let n = entry.metadata.len();
        Some(format!("{n} entries of structured metadata; the limit is {}", limits.metadata_entries_max))
    } else {
        None
    };
    match complaint {
        Some(text) => out.refuse(RefusedReason::TooLarge, 1, || format!("{}: {text}", stream.labels)),
        None => {
            enrich(&stream.labels, None, &mut entry);
            stream.entries.push(entry);
        }
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
