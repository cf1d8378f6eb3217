//! Elasticsearch's `_bulk`: a line of JSON that says what to do, a line with the document, and so on.
//!
//! Documents become log entries. The index and the service name the stream; the message is the line;
//! all other fields are structured metadata, nested names joined by `_`. A document without a message
//! is kept whole as the line.
//!
//! Source: Elasticsearch reference, "Bulk index or delete documents".

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use weir_model::sink::{RefusedReason, StreamBatch};
use weir_model::{Labels, LabelsBuilder, LogEntry, Nanos};

use crate::cache::LabelCache;
use crate::enrich::Enricher;
use crate::limits::Limits;
use crate::{DecodeError, Decoded};

/// Fields that hold the message, best first.
const MESSAGES: [&str; 5] = ["message", "msg", "log", "event_original", "body"];
const TIMES: [&str; 3] = ["@timestamp", "timestamp", "time"];
/// Fields that become labels of the stream: few values each.
const STREAM_FIELDS: [(&str, &str); 6] = [
    ("kubernetes_namespace", "namespace"),
    ("kubernetes_namespace_name", "namespace"),
    ("kubernetes_pod_name", "pod"),
    ("kubernetes_container_name", "container"),
    ("service_environment", "env"),
    ("host_name", "host"),
];
/// Fields that name the service, best first.
const SERVICES: [&str; 8] = [
    "service_name",
    "service",
    "app",
    "application",
    "kubernetes_labels_app",
    "kubernetes_container_name",
    "container_name",
    "job",
];

/// What became of one action; the answer lists them in the request's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkItem {
    /// `create` or `index`, or what was asked for and is not offered.
    pub action: String,
    pub index: String,
    /// Why the document was not taken.
    pub error: Option<String>,
}

/// `index` is the one in the path, for actions that name none; `now` the time of documents without one.
pub fn decode(
    body: &[u8],
    index: &str,
    now: Nanos,
    limits: &Limits,
    cache: &LabelCache,
) -> Result<(Decoded<Vec<StreamBatch>>, Vec<BulkItem>), DecodeError> {
    let text = std::str::from_utf8(body).map_err(|e| DecodeError::at_byte("bulk", e.valid_up_to(), "not UTF-8"))?;
    let mut out = Decoded::<Vec<StreamBatch>>::default();
    let mut streams: BTreeMap<Labels, Vec<LogEntry>> = BTreeMap::new();
    let mut items = Vec::new();
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    while let Some((number, line)) = lines.next() {
        let at = |number: usize, reason: String| DecodeError::Malformed {
            format: "bulk",
            place: format!("line {}", number + 1),
            reason,
        };
        let mut item = action(line, index).map_err(|reason| at(number, reason))?;
        if item.action == "delete" {
            item.error = Some("weir keeps logs as they were written; delete by Loki's delete API".to_owned());
            items.push(item);
            continue;
        }
        let (number, document) =
            lines.next().ok_or_else(|| at(number, "an action without a document on the next line".to_owned()))?;
        if item.action == "update" {
            item.error = Some("weir keeps logs as they were written; send `create` or `index`".to_owned());
        } else {
            match serde_json::from_str::<Map<String, Value>>(document) {
                Ok(document) => match entry(document, &item.index, now, limits, cache) {
                    Ok((labels, entry)) => streams.entry(labels).or_default().push(entry),
                    Err(reason) => item.error = Some(reason),
                },
                Err(error) => item.error = Some(format!("line {}: {error}", number + 1)),
            }
        }
        if let Some(error) = &item.error {
            out.refuse(RefusedReason::Malformed, 1, || error.clone());
        }
        items.push(item);
    }
    if items.is_empty() {
        return Err(DecodeError::Empty("request body is required"));
    }
    out.batch = streams.into_iter().map(|(labels, entries)| StreamBatch { labels, entries }).collect();
    Ok((out, items))
}

/// `{"create":{"_index":"…"}}`.
fn action(line: &str, index: &str) -> Result<BulkItem, String> {
    let action: Map<String, Value> = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let (name, meta) = action.iter().next().ok_or("an action such as {\"create\":{}} is expected")?;
    if !matches!(name.as_str(), "create" | "index" | "update" | "delete") {
        return Err(format!("unknown action `{name}`; expected create, index, update or delete"));
    }
    let own = meta.get("_index").and_then(Value::as_str).filter(|own| !own.is_empty());
    Ok(BulkItem { action: name.clone(), index: own.unwrap_or(index).to_owned(), error: None })
}

fn entry(
    document: Map<String, Value>,
    index: &str,
    now: Nanos,
    limits: &Limits,
    cache: &LabelCache,
) -> Result<(Labels, LogEntry), String> {
    let whole = || serde_json::to_string(&document).unwrap_or_default();
    let at = match TIMES.iter().find_map(|name| document.get(*name)) {
        Some(value) => time(value).ok_or_else(|| format!("cannot read the time {value}"))?,
        None => now,
    };
    let mut fields: Vec<(String, String)> = Vec::new();
    for (name, value) in document.iter().filter(|(name, _)| !TIMES.contains(&name.as_str())) {
        flatten(name, value, &mut fields, 0);
    }
    let mut take = |name: &str| {
        let idx = fields.iter().position(|(known, _)| known == name)?;
        Some(fields.remove(idx).1)
    };
    let message = MESSAGES.iter().find_map(|name| take(name));
    let mut labels = LabelsBuilder::default();
    if !index.is_empty() {
        labels.set(cache.text("index"), cache.text(index));
    }
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let service = SERVICES.iter().find_map(|name| field(name)).unwrap_or("unknown_service");
    labels.set(cache.text("service_name"), cache.text(service));
    for (name, label) in STREAM_FIELDS {
        if let Some(value) = field(name) {
            labels.set(cache.text(label), cache.text(value));
        }
    }
    let labels = labels.build();
    limits.stream_labels.check(labels.iter().map(|l| (&*l.name, &*l.value)))?;
    let metadata_bytes: usize = fields.iter().map(|(n, v)| n.len() + v.len()).sum();
    let is_small = fields.len() <= limits.metadata_entries_max && metadata_bytes <= limits.metadata_bytes_max;
    let line = match message {
        Some(message) if is_small => message,
        // Nothing is lost: what does not fit beside the message stays in the line.
        _ => {
            fields.clear();
            whole()
        }
    };
    if line.len() > limits.line_bytes_max {
        return Err(format!("line of {} bytes; the limit is {}", line.len(), limits.line_bytes_max));
    }
    let mut metadata: Vec<(Arc<str>, Arc<str>)> =
        fields.into_iter().map(|(name, value)| (cache.text(&name), value.into())).collect();
    metadata.sort();
    metadata.dedup_by(|a, b| a.0 == b.0);
    Enricher::new(&labels).add(None, &line, &mut metadata);
    Ok((labels, LogEntry { at, line: line.into(), metadata }))
}

/// RFC 3339, or a number of milliseconds since 1970.
fn time(value: &Value) -> Option<Nanos> {
    let millis = |n: i64| n.checked_mul(1_000_000).map(Nanos);
    match value {
        Value::Number(n) => n.as_i64().and_then(millis),
        Value::String(text) => match text.parse::<i64>() {
            Ok(n) => millis(n),
            Err(_) => {
                let time: jiff::Timestamp = text.parse().ok()?;
                i64::try_from(time.as_nanosecond()).ok().map(Nanos)
            }
        },
        _ => None,
    }
}

/// Objects deeper than this, and arrays, are kept as JSON text.
const DEPTH_MAX: usize = 10;

fn flatten(name: &str, value: &Value, out: &mut Vec<(String, String)>, depth: usize) {
    match value {
        Value::Null => {}
        Value::Object(entries) if depth < DEPTH_MAX => {
            entries.iter().for_each(|(key, value)| flatten(&format!("{name}_{key}"), value, out, depth + 1));
        }
        Value::String(text) => out.push((sanitised(name), text.clone())),
        other => out.push((sanitised(name), other.to_string())),
    }
}

fn sanitised(name: &str) -> String {
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    let clean = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' });
    if digit { std::iter::once('_').chain(clean).collect() } else { clean.collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::loki::show;

    fn read(body: &str) -> Result<(Vec<String>, Vec<BulkItem>), DecodeError> {
        let limits = Limits::default();
        let cache = LabelCache::new(limits.stream_labels);
        let (decoded, items) = decode(body.as_bytes(), "path", Nanos(7), &limits, &cache)?;
        Ok((show(&decoded.batch), items))
    }

    #[test]
    fn documents_become_entries() {
        let body = concat!(
            r#"{"create":{"_index":"app-logs"}}"#,
            "\n",
            r#"{"@timestamp":"2023-11-14T22:13:20.5Z","message":"hi","level":"WARN","service":{"name":"shop"},"n":5,"x":null}"#,
            "\n\n",
            r#"{"index":{}}"#,
            "\n",
            r#"{"@timestamp":1700000000000,"log":"plain","kubernetes":{"namespace_name":"ns","labels":{"app":"web"}}}"#,
            "\n",
            r#"{"create":{}}"#,
            "\n",
            r#"{"code":"a","tags":[1,"b"]}"#,
        );
        let (shown, items) = read(body).unwrap();
        assert_eq!(
            shown,
            [
                r#"{index="app-logs", service_name="shop"} 1700000000500000000 hi [detected_level=warn level=WARN n=5 service_name=shop]"#,
                r#"{index="path", namespace="ns", service_name="web"} 1700000000000000000 plain [detected_level=unknown kubernetes_labels_app=web kubernetes_namespace_name=ns]"#,
                r#"{index="path", service_name="unknown_service"} 7 {"code":"a","tags":[1,"b"]} [detected_level=unknown]"#,
            ]
        );
        let indices: Vec<&str> = items.iter().map(|i| i.index.as_str()).collect();
        assert_eq!(indices, ["app-logs", "path", "path"]);
        assert!(items.iter().all(|i| i.error.is_none()));
    }

    #[test]
    fn a_bad_document_does_not_spoil_the_others() {
        let body = "{\"index\":{}}\nnonsense\n{\"delete\":{\"_id\":\"1\"}}\n{\"update\":{}}\n{}\n{\"index\":{}}\n{\"time\":\"never\"}\n{\"index\":{}}\n{\"msg\":\"ok\"}\n";
        let (shown, items) = read(body).unwrap();
        assert_eq!(shown.len(), 1);
        let failed: Vec<bool> = items.iter().map(|i| i.error.is_some()).collect();
        assert_eq!(failed, [true, true, true, true, false]);
        assert!(items[0].error.as_deref().unwrap().starts_with("line 2: "), "{items:?}");
    }

    #[test]
    fn what_is_no_bulk_request_is_refused_by_line() {
        let check = |body: &str, want: &str| {
            let error = read(body).unwrap_err().to_string();
            assert!(error.contains(want), "{body}: {error}");
        };
        check("", "request body is required");
        check("{\"index\":{}}", "line 1: an action without a document");
        check("x\n{}", "line 1: ");
        check("{}\n{}", "line 1: an action such as");
        check("{\"index\":{}}\n{}\n{\"drop\":{}}\n{}", "line 3: unknown action `drop`");
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(text in "\\PC{0,80}", json in "[{}\\[\\]\":,a1\\n index]{0,80}") {
            let _ = (read(&text), read(&json), read(&format!("{{\"index\":{{}}}}\n{json}")));
        }
    }
}
