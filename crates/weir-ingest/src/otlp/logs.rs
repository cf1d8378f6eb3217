//! Log records as Loki streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use weir_model::sink::StreamBatch;
use weir_model::span::{Attributes, attr};
use weir_model::{AttrValue, Labels, LabelsBuilder, LogEntry, Nanos, Resource, Scope};

use super::common;
use crate::Decoded;
use crate::cache::LabelCache;
use crate::enrich::Enricher;

/// Resource attributes that become labels of the stream; all others are structured metadata.
const INDEXED: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

type Metadata = Vec<(Arc<str>, Arc<str>)>;

/// `now` is the time of records that have none.
pub fn convert(request: ExportLogsServiceRequest, now: Nanos, cache: &LabelCache) -> Decoded<Vec<StreamBatch>> {
    let mut streams: BTreeMap<Labels, Vec<LogEntry>> = BTreeMap::new();
    for group in request.resource_logs {
        let resource = common::resource(group.resource);
        let (labels, shared) = split_resource(&resource, cache);
        let enricher = Enricher::new(&labels);
        let entries = streams.entry(labels).or_default();
        for group in group.scope_logs {
            let mut shared = shared.clone();
            scope_metadata(&common::scope(group.scope), cache, &mut shared);
            entries.extend(group.log_records.into_iter().map(|record| entry(record, &enricher, &shared, now, cache)));
        }
    }
    let streams = streams.into_iter().filter(|(_, entries)| !entries.is_empty());
    Decoded::from(streams.map(|(labels, entries)| StreamBatch { labels, entries }).collect::<Vec<_>>())
}

fn split_resource(resource: &Resource, cache: &LabelCache) -> (Labels, Metadata) {
    let mut labels = LabelsBuilder::default();
    let mut metadata = Vec::new();
    for (name, value) in &resource.attributes {
        if INDEXED.contains(&&**name) {
            labels.set(cache.text(&common::underscored(name)), cache.text(&value.to_text()));
        } else {
            flatten(name, value, cache, &mut metadata);
        }
    }
    if labels.get("service_name").is_none() {
        let name = ["k8s.container.name", "container.name", "k8s.deployment.name"];
        let name = name.iter().find_map(|name| attr(&resource.attributes, name)).map(AttrValue::to_text);
        labels.set(cache.text("service_name"), cache.text(name.as_deref().unwrap_or("unknown_service")));
    }
    (labels.build(), metadata)
}

fn scope_metadata(scope: &Scope, cache: &LabelCache, out: &mut Metadata) {
    for (name, value) in [("scope_name", &scope.name), ("scope_version", &scope.version)] {
        if !value.is_empty() {
            out.push((cache.text(name), value.clone()));
        }
    }
    add_all(&scope.attributes, cache, out);
}

fn add_all(attributes: &Attributes, cache: &LabelCache, out: &mut Metadata) {
    attributes.iter().for_each(|(name, value)| flatten(name, value, cache, out));
}

/// Maps become `outer_inner`, arrays JSON text.
fn flatten(name: &str, value: &AttrValue, cache: &LabelCache, out: &mut Metadata) {
    match value {
        AttrValue::Map(entries) => {
            entries.iter().for_each(|(key, value)| flatten(&format!("{name}_{key}"), value, cache, out));
        }
        value => out.push((cache.text(&common::underscored(name)), value.to_text().into())),
    }
}

fn entry(record: LogRecord, enricher: &Enricher, shared: &Metadata, now: Nanos, cache: &LabelCache) -> LogEntry {
    let at = match (record.time_unix_nano, record.observed_time_unix_nano) {
        (0, 0) => now,
        (0, observed) => common::nanos(observed),
        (time, _) => common::nanos(time),
    };
    let mut metadata = shared.clone();
    add_all(&common::attributes(record.attributes), cache, &mut metadata);
    let mut add = |name: &str, value: String| metadata.push((cache.text(name), value.into()));
    if record.observed_time_unix_nano != 0 {
        add("observed_timestamp", record.observed_time_unix_nano.to_string());
    }
    if record.severity_number != 0 {
        add("severity_number", record.severity_number.to_string());
    }
    for (name, number) in [("dropped_attributes_count", record.dropped_attributes_count), ("flags", record.flags)] {
        if number != 0 {
            add(name, number.to_string());
        }
    }
    for (name, id) in [("trace_id", &record.trace_id), ("span_id", &record.span_id)] {
        if id.iter().any(|b| *b != 0) {
            add(name, hex::encode(id));
        }
    }
    for (name, text) in [("severity_text", record.severity_text), ("event_name", record.event_name)] {
        if !text.is_empty() {
            add(name, text);
        }
    }
    let line = record.body.and_then(common::value).map(|v| v.to_text()).unwrap_or_default();
    // Of one name the last, most specific, value stays.
    metadata.reverse();
    metadata.sort_by(|a, b| a.0.cmp(&b.0));
    metadata.dedup_by(|a, b| a.0 == b.0);
    enricher.add(Some(record.severity_number), &line, &mut metadata);
    LogEntry { at, line: line.into(), metadata }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::otlp::{Format, decode};

    #[test]
    fn records_become_entries_of_a_stream() {
        let body = r#"{"resourceLogs":[{"resource":{"attributes":[
              {"key":"service.name","value":{"stringValue":"api"}},
              {"key":"host.name","value":{"stringValue":"h1"}}]},
            "scopeLogs":[{"scope":{"name":"lib"},"logRecords":[
              {"timeUnixNano":"0","observedTimeUnixNano":"77","severityNumber":"SEVERITY_NUMBER_ERROR","severityText":"Error",
               "body":{"stringValue":"boom"},"traceId":"5B8EFFF798038103D269B633813FC60C",
               "attributes":[{"key":"http.route","value":{"stringValue":"/x"}},
                 {"key":"m","value":{"kvlistValue":{"values":[{"key":"k","value":{"intValue":"1"}}]}}}]},
              {"body":{"kvlistValue":{"values":[{"key":"a","value":{"boolValue":true}}]}}}]}]}]}"#;
        let request = decode(Format::Json, body.as_bytes()).unwrap();
        let got = convert(request, Nanos(99), &LabelCache::new(Limits::default().stream_labels)).batch;
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].labels.to_string(), r#"{service_name="api"}"#);
        let show = |entry: &LogEntry| {
            let metadata: Vec<String> = entry.metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{} {} | {}", entry.at.0, entry.line, metadata.join(" "))
        };
        assert_eq!(
            show(&got[0].entries[0]),
            "77 boom | detected_level=error host_name=h1 http_route=/x m_k=1 observed_timestamp=77 scope_name=lib \
             severity_number=17 severity_text=Error trace_id=5b8efff798038103d269b633813fc60c"
        );
        assert_eq!(show(&got[0].entries[1]), r#"99 {"a":true} | detected_level=unknown host_name=h1 scope_name=lib"#);
    }
}
