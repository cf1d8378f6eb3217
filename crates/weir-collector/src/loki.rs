//! Log records as streams of Loki, as the Collector's old `loki` exporter made them.
//!
//! Source: opentelemetry-collector-contrib, `pkg/translator/loki`, behaviour only.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use serde_json::{Map, Value as Json, json};
use weir_model::sink::StreamBatch;
use weir_model::{Labels, LabelsBuilder, LogEntry, Nanos};

use crate::config::LokiLabels;
use crate::data::{get, json_of, text_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Logfmt,
    Raw,
}

/// Streams, and how many records had no label and were left out. `now` is the time of records that have none.
pub fn loki_streams(groups: &[ResourceLogs], defaults: LokiLabels, now: Nanos) -> (Vec<StreamBatch>, u64) {
    let mut streams: BTreeMap<Labels, Vec<LogEntry>> = BTreeMap::new();
    let mut dropped = 0;
    for group in groups {
        let resource = group.resource.as_ref().map_or(&[][..], |r| &r.attributes);
        for inner in &group.scope_logs {
            for record in &inner.log_records {
                let record = Record { resource, scope: inner.scope.as_ref(), record, defaults };
                let labels = record.labels();
                if labels.is_empty() {
                    dropped += 1;
                    continue;
                }
                let entry = LogEntry { at: record.time(now), line: record.line().into(), metadata: Vec::new() };
                streams.entry(labels).or_default().push(entry);
            }
        }
    }
    let streams = streams.into_iter().map(|(labels, entries)| StreamBatch { labels, entries });
    (streams.collect(), dropped)
}

struct Record<'a> {
    resource: &'a [KeyValue],
    scope: Option<&'a InstrumentationScope>,
    record: &'a LogRecord,
    defaults: LokiLabels,
}

fn hint(attributes: &[KeyValue], name: &str) -> Vec<String> {
    let text = get(attributes, name).map(text_of).unwrap_or_default();
    text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
}

/// As Prometheus has label names: everything else is `_`, and no digit comes first.
fn label_name(name: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let out: String = name.chars().map(legal).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) { format!("key_{out}") } else { out }
}

const IS_HINT: [&str; 4] = ["loki.attribute.labels", "loki.resource.labels", "loki.format", "loki.tenant"];

impl Record<'_> {
    fn time(&self, now: Nanos) -> Nanos {
        match (self.record.time_unix_nano, self.record.observed_time_unix_nano) {
            (0, 0) => now,
            (0, observed) => Nanos(i64::try_from(observed).unwrap_or(i64::MAX)),
            (time, _) => Nanos(i64::try_from(time).unwrap_or(i64::MAX)),
        }
    }

    /// Attributes whose values are labels: of the record, of the resource.
    fn hinted(&self) -> (Vec<String>, Vec<String>) {
        let of = |name| [hint(&self.record.attributes, name), hint(self.resource, name)].concat();
        (of("loki.attribute.labels"), of("loki.resource.labels"))
    }

    fn level(&self) -> Option<String> {
        const NAMES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
        if let Some(given) = get(&self.record.attributes, "level") {
            return Some(text_of(given));
        }
        let nth = usize::try_from(self.record.severity_number).ok()?.checked_sub(1)?;
        let within = if nth % 4 == 0 { String::new() } else { (nth % 4 + 1).to_string() };
        NAMES.get(nth / 4).map(|name| format!("{name}{within}"))
    }

    fn labels(&self) -> Labels {
        let mut labels = LabelsBuilder::default();
        let text = |name: &str| get(self.resource, name).map(text_of).unwrap_or_default();
        if self.defaults.exporter {
            labels.set("exporter", "OTLP");
        }
        if self.defaults.job {
            let (namespace, name) = (text("service.namespace"), text("service.name"));
            let job = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
            labels.set("job", job);
        }
        if self.defaults.instance {
            labels.set("instance", text("service.instance.id"));
        }
        if self.defaults.level
            && let Some(level) = self.level()
        {
            labels.set("level", level);
        }
        let (of_record, of_resource) = self.hinted();
        for (names, attributes) in [(of_resource, self.resource), (of_record, &self.record.attributes[..])] {
            for name in names {
                if let Some(value) = get(attributes, &name) {
                    labels.set(label_name(&name), text_of(value));
                }
            }
        }
        labels.build()
    }

    fn line(&self) -> String {
        let format =
            [&self.record.attributes[..], self.resource].iter().find_map(|a| get(a, "loki.format")).map(text_of);
        let format = match format.as_deref() {
            Some("logfmt") => Format::Logfmt,
            Some("raw") => Format::Raw,
            _ => Format::Json,
        };
        let body = self.record.body.as_ref().and_then(|b| b.value.as_ref());
        if format == Format::Raw {
            return body.map(text_of).unwrap_or_default();
        }
        let fields = self.fields(body.map(json_of));
        match format {
            Format::Logfmt => logfmt(&fields),
            _ => Json::Object(fields).to_string(),
        }
    }

    fn fields(&self, body: Option<Json>) -> Map<String, Json> {
        let (of_record, of_resource) = self.hinted();
        let rest = |attributes: &[KeyValue], taken: &[String]| -> Map<String, Json> {
            let stays = |kv: &&KeyValue| !IS_HINT.contains(&&*kv.key) && !taken.contains(&kv.key);
            let value = |v: &Option<AnyValue>| v.as_ref().and_then(|v| v.value.as_ref()).map_or(Json::Null, json_of);
            attributes.iter().filter(stays).map(|kv| (kv.key.clone(), value(&kv.value))).collect()
        };
        let mut out = Map::new();
        let mut add = |name: &str, value: Json| {
            let is_empty = match &value {
                Json::Null => true,
                Json::String(text) => text.is_empty(),
                Json::Object(map) => map.is_empty(),
                Json::Number(n) => n.as_u64() == Some(0),
                _ => false,
            };
            if !is_empty {
                out.insert(name.to_owned(), value);
            }
        };
        add("body", body.unwrap_or(Json::Null));
        add("traceid", hex::encode(&self.record.trace_id).into());
        add("spanid", hex::encode(&self.record.span_id).into());
        add("severity", self.record.severity_text.clone().into());
        add("flags", self.record.flags.into());
        add("attributes", Json::Object(rest(&self.record.attributes, &of_record)));
        add("resources", Json::Object(rest(self.resource, &of_resource)));
        if let Some(scope) = self.scope.filter(|scope| !scope.name.is_empty()) {
            let mut shown = Map::new();
            shown.insert("name".to_owned(), scope.name.clone().into());
            if !scope.version.is_empty() {
                shown.insert("version".to_owned(), scope.version.clone().into());
            }
            add("instrumentation_scope", Json::Object(shown));
        }
        out
    }
}

/// `key=value`, nested names joined by `_`.
fn logfmt(fields: &Map<String, Json>) -> String {
    fn put(out: &mut String, name: &str, value: &Json) {
        if let Json::Object(map) = value {
            return map.iter().for_each(|(key, value)| put(out, &format!("{name}_{key}"), value));
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !out.is_empty() {
            out.push(' ');
        }
        let bare = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_./:+@".contains(c));
        out.push_str(&if bare { format!("{name}={text}") } else { format!("{name}={text:?}") });
    }
    let mut out = String::new();
    for (name, value) in fields {
        match (name.as_str(), value) {
            // A body that is logfmt itself stays as it is.
            ("body", Json::String(text)) if text.contains('=') => out.push_str(text),
            ("body", Json::String(text)) => put(&mut out, "msg", &json!(text)),
            ("attributes", Json::Object(map)) => {
                map.iter().for_each(|(k, v)| put(&mut out, &format!("attribute_{k}"), v))
            }
            ("resources", Json::Object(map)) => {
                map.iter().for_each(|(k, v)| put(&mut out, &format!("resource_{k}"), v))
            }
            (name, value) => put(&mut out, name, value),
        }
    }
    out
}

/// What Loki's push API takes, as JSON.
pub fn loki_push(streams: &[StreamBatch]) -> Vec<u8> {
    let row = |entry: &LogEntry| json!([entry.at.0.to_string(), Arc::clone(&entry.line)]);
    let stream = |batch: &StreamBatch| json!({ "stream": &batch.labels, "values": batch.entries.iter().map(row).collect::<Vec<_>>() });
    json!({ "streams": streams.iter().map(stream).collect::<Vec<_>>() }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use super::*;
    use crate::data::set;

    #[test]
    fn records_become_streams_as_the_old_exporter_made_them() {
        let text = |t: &str| Any::StringValue(t.to_owned());
        let mut resource = Vec::new();
        set(&mut resource, "service.namespace", text("shop"));
        set(&mut resource, "service.name", text("cart"));
        set(&mut resource, "host.name", text("h1"));
        set(&mut resource, "loki.resource.labels", text("host.name"));
        let record = |format: Option<&str>| {
            let mut attributes = Vec::new();
            set(&mut attributes, "user", text("ann"));
            if let Some(format) = format {
                set(&mut attributes, "loki.format", text(format));
            }
            let body = Some(AnyValue { value: Some(text("it broke")) });
            LogRecord { time_unix_nano: 7, severity_number: 18, body, attributes, ..LogRecord::default() }
        };
        let log_records = vec![record(None), record(Some("logfmt")), record(Some("raw"))];
        let groups = vec![ResourceLogs {
            resource: Some(Resource { attributes: resource, ..Resource::default() }),
            scope_logs: vec![ScopeLogs { log_records, ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }];
        let labels = LokiLabels { exporter: false, job: true, instance: true, level: true };
        let (streams, dropped) = loki_streams(&groups, labels, Nanos(1));
        assert_eq!((streams.len(), dropped), (1, 0));
        assert_eq!(streams[0].labels.to_string(), r#"{host_name="h1", job="shop/cart", level="ERROR2"}"#);
        let lines: Vec<&str> = streams[0].entries.iter().map(|e| &*e.line).collect();
        assert_eq!(
            lines,
            [
                r#"{"body":"it broke","attributes":{"user":"ann"},"resources":{"service.namespace":"shop","service.name":"cart"}}"#,
                r#"msg="it broke" attribute_user=ann resource_service.namespace=shop resource_service.name=cart"#,
                "it broke",
            ]
        );
        let none = LokiLabels { exporter: false, job: false, instance: false, level: false };
        let bare = vec![ResourceLogs {
            scope_logs: vec![ScopeLogs { log_records: vec![LogRecord::default()], ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }];
        assert_eq!(loki_streams(&bare, none, Nanos(1)).1, 1);
        let push = String::from_utf8(loki_push(&streams[..1])).unwrap();
        assert!(
            push.starts_with(
                r#"{"streams":[{"stream":{"host_name":"h1","job":"shop/cart","level":"ERROR2"},"values":[["7","{"#
            ),
            "{push}"
        );
    }
}
