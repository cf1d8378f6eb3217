//! Results as Loki's JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use weir_logql::{LogEntryResult, LogStream, MetricSeries, Statistics};
use weir_model::{Labels, LabelsBuilder, Nanos};

type Pairs = [(Arc<str>, Arc<str>)];

#[derive(Serialize)]
pub(super) struct Stream<'a> {
    stream: Labels,
    values: Vec<Entry<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Plain(String, &'a str),
    Categorised(String, &'a str, Categories<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Categories<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_metadata: Option<BTreeMap<&'a str, &'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parsed: Option<BTreeMap<&'a str, &'a str>>,
}

/// Not a label set: a parsed value may be empty and is shown.
fn labels(pairs: &Pairs) -> Option<BTreeMap<&str, &str>> {
    (!pairs.is_empty()).then(|| pairs.iter().map(|(n, v)| (&**n, &**v)).collect())
}

/// Index labels alone name the stream; metadata and parsed labels stand beside each line.
pub(super) fn categorised(streams: &[LogStream]) -> Vec<Stream<'_>> {
    fn entry(e: &LogEntryResult) -> Categories<'_> {
        Categories { structured_metadata: labels(&e.metadata), parsed: labels(&e.parsed) }
    }
    streams
        .iter()
        .map(|s| Stream {
            stream: s.labels.clone(),
            values: s.entries.iter().map(|e| Entry::Categorised(e.at.0.to_string(), &e.line, entry(e))).collect(),
        })
        .collect()
}

/// Every label names the stream, so lines are grouped anew by the full set.
pub(super) fn merged(streams: &[LogStream]) -> Vec<Stream<'_>> {
    let mut groups: BTreeMap<Labels, Vec<Entry<'_>>> = BTreeMap::new();
    for stream in streams {
        for entry in &stream.entries {
            let full = full_labels(&stream.labels, entry);
            groups.entry(full).or_default().push(Entry::Plain(entry.at.0.to_string(), &entry.line));
        }
    }
    groups.into_iter().map(|(stream, values)| Stream { stream, values }).collect()
}

pub(super) fn full_labels(stream: &Labels, entry: &LogEntryResult) -> Labels {
    if entry.metadata.is_empty() && entry.parsed.is_empty() {
        return stream.clone();
    }
    let mut builder: LabelsBuilder = stream.to_builder();
    for (name, value) in entry.metadata.iter().chain(&entry.parsed) {
        builder.set(name.clone(), value.clone());
    }
    builder.build()
}

/// Seconds with milliseconds, whole where they are.
pub(super) fn seconds(at: Nanos) -> Value {
    let millis = at.millis().0;
    if millis % 1000 == 0 { json!(millis / 1000) } else { json!(millis as f64 / 1000.0) }
}

pub(super) fn matrix(series: &[MetricSeries]) -> Vec<Value> {
    let sample = |(at, value): &(Nanos, f64)| json!([seconds(*at), weir_go::format_f(*value)]);
    series
        .iter()
        .map(|s| json!({"metric": s.labels, "values": s.samples.iter().map(sample).collect::<Vec<_>>()}))
        .collect()
}

pub(super) fn vector(series: &[MetricSeries]) -> Vec<Value> {
    let last = |s: &MetricSeries| s.samples.last().map(|(at, v)| json!([seconds(*at), weir_go::format_f(*v)]));
    series.iter().map(|s| json!({"metric": s.labels, "value": last(s)})).collect()
}

/// What Loki tells of a query's work. Clients read `summary`; the rest must exist.
pub(super) fn stats(statistics: &Statistics, exec_seconds: f64, entries: usize) -> Value {
    let per_second = |n: u64| if exec_seconds > 0.0 { (n as f64 / exec_seconds) as u64 } else { 0 };
    let chunk = json!({
        "headChunkBytes": statistics.bytes, "headChunkLines": statistics.lines, "decompressedBytes": 0,
        "decompressedLines": 0, "compressedBytes": 0, "totalDuplicates": 0, "postFilterLines": statistics.lines_passed,
        "headChunkStructuredMetadataBytes": statistics.metadata_bytes, "decompressedStructuredMetadataBytes": 0,
    });
    let store = |chunk: Value| {
        json!({
            "totalChunksRef": 0, "totalChunksDownloaded": 0, "chunksDownloadTime": 0,
            "queryReferencedStructuredMetadata": false, "chunk": chunk, "chunkRefsFetchTime": 0,
            "congestionControlLatency": 0, "pipelineWrapperFilteredLines": 0,
        })
    };
    let empty_chunk = json!({
        "headChunkBytes": 0, "headChunkLines": 0, "decompressedBytes": 0, "decompressedLines": 0, "compressedBytes": 0,
        "totalDuplicates": 0, "postFilterLines": 0, "headChunkStructuredMetadataBytes": 0,
        "decompressedStructuredMetadataBytes": 0,
    });
    let cache_names = [
        "chunk",
        "index",
        "result",
        "statsResult",
        "volumeResult",
        "seriesResult",
        "labelResult",
        "instantMetricResult",
    ];
    let cache = cache_names.map(|name| {
        let zeros = json!({
            "entriesFound": 0, "entriesRequested": 0, "entriesStored": 0, "bytesReceived": 0, "bytesSent": 0,
            "requests": 0, "downloadTime": 0, "queryLengthServed": 0,
        });
        (name.to_owned(), zeros)
    });
    json!({
        "summary": {
            "bytesProcessedPerSecond": per_second(statistics.bytes),
            "linesProcessedPerSecond": per_second(statistics.lines),
            "totalBytesProcessed": statistics.bytes,
            "totalLinesProcessed": statistics.lines,
            "execTime": exec_seconds,
            "queueTime": 0.0,
            "subqueries": 0,
            "totalEntriesReturned": entries,
            "splits": 0,
            "shards": 0,
            "totalPostFilterLines": statistics.lines_passed,
            "totalStructuredMetadataBytesProcessed": statistics.metadata_bytes,
        },
        "querier": {"store": store(empty_chunk)},
        "ingester": {
            "totalReached": 1, "totalChunksMatched": 0, "totalBatches": 0, "totalLinesSent": statistics.lines_passed,
            "store": store(chunk),
        },
        "cache": Value::Object(cache.into_iter().collect()),
        "index": {"totalChunks": 0, "postFilterChunks": 0, "shardsDuration": 0, "usedBloomFilters": false},
    })
}
