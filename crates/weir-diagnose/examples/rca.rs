//! Scores cause ranking on recorded failures, without a server.
//!
//! `cargo run -p weir-diagnose --example rca -- DIR [-v] [id substring]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a command-line tool over files that are known to be good"
)]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use weir_diagnose::{Cause, Question, Sources, diagnose};
use weir_events::{ChangeLog, LogStore, MemSpans};
use weir_model::sink::{LogSink, MetricBatch, MetricSink, SeriesBatch, SpanSink, StreamBatch};
use weir_model::source::ReadContext;
use weir_model::{
    AttrValue, Budget, Labels, LogEntry, Nanos, Resource, Sample, Span, SpanId, SpanKind, TenantId, TimeRange,
    Timestamp, TraceId,
};
use weir_tsdb::Head;

struct Stores {
    metrics: Arc<Head>,
    logs: Arc<LogStore>,
    spans: Arc<MemSpans>,
}

fn rows(path: &Path) -> Vec<Value> {
    let Ok(file) = std::fs::File::open(path) else { return Vec::new() };
    let reader = BufReader::new(flate2::read::GzDecoder::new(file));
    reader.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or("")
}

impl Stores {
    fn load(&self, tenant: &TenantId, dir: &Path, shift_ms: i64, signals: &[&str]) {
        let shift_ns = shift_ms * 1_000_000;
        let mut batch = MetricBatch::default();
        for row in rows(&dir.join("metrics.ndjson.gz")) {
            let mut pairs = vec![("__name__".to_owned(), text(&row, "name").to_owned())];
            let labels = row["labels"].as_object().unwrap();
            pairs.extend(labels.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())));
            let points = row["points"].as_array().unwrap();
            let samples =
                points.iter().map(|p| Sample::new(p[0].as_i64().unwrap() + shift_ms, p[1].as_f64().unwrap())).collect();
            batch.series.push(SeriesBatch { labels: Labels::from_pairs(pairs), samples, ..SeriesBatch::default() });
        }
        self.metrics.append(tenant, &batch).unwrap();
        if signals.contains(&"spans") {
            self.load_spans(tenant, dir, shift_ns);
        }
        if signals.contains(&"logs") {
            self.load_logs(tenant, dir, shift_ns);
        }
    }

    fn load_spans(&self, tenant: &TenantId, dir: &Path, shift_ns: i64) {
        let mut resources: HashMap<(String, String), Arc<Resource>> = HashMap::new();
        let mut spans = Vec::new();
        for row in rows(&dir.join("spans.ndjson.gz")) {
            let (service, pod) = (text(&row, "service"), text(&row, "pod"));
            let resource = resources.entry((service.to_owned(), pod.to_owned())).or_insert_with(|| {
                let attributes = [("service.name", service), ("k8s.pod.name", pod), ("service.instance.id", pod)];
                Arc::new(Resource {
                    attributes: attributes.iter().map(|(k, v)| ((*k).into(), AttrValue::from(*v))).collect(),
                })
            });
            let start = row["start_ns"].as_i64().unwrap() + shift_ns;
            let kind = match text(&row, "kind") {
                "server" => SpanKind::Server,
                "client" => SpanKind::Client,
                "producer" => SpanKind::Producer,
                "consumer" => SpanKind::Consumer,
                _ => SpanKind::Internal,
            };
            spans.push(Arc::new(Span {
                trace_id: TraceId::parse_hex(text(&row, "trace_id")).unwrap(),
                span_id: SpanId::parse_hex(text(&row, "span_id")).unwrap(),
                parent: SpanId::parse_hex(text(&row, "parent_span_id")),
                name: text(&row, "name").into(),
                kind,
                start: Nanos(start),
                end: Nanos(start + row["duration_ns"].as_i64().unwrap()),
                resource: resource.clone(),
                ..Span::default()
            }));
        }
        self.spans.append(tenant, &spans).unwrap();
    }

    fn load_logs(&self, tenant: &TenantId, dir: &Path, shift_ns: i64) {
        let mut streams: BTreeMap<(String, String), Vec<LogEntry>> = BTreeMap::new();
        for row in rows(&dir.join("logs.ndjson.gz")) {
            let metadata = ["severity", "span_id", "trace_id"];
            let metadata = metadata.iter().filter(|k| !text(&row, k).is_empty());
            streams.entry((text(&row, "service").to_owned(), text(&row, "pod").to_owned())).or_default().push(
                LogEntry {
                    at: Nanos(row["ts_ns"].as_i64().unwrap() + shift_ns),
                    line: text(&row, "body").into(),
                    metadata: metadata.map(|k| ((*k).into(), text(&row, k).into())).collect(),
                },
            );
        }
        let batches: Vec<StreamBatch> = streams
            .into_iter()
            .map(|((service, pod), entries)| StreamBatch {
                labels: Labels::from_pairs([("service_name", service), ("k8s_pod_name", pod)]),
                entries,
            })
            .collect();
        self.logs.append(tenant, &batches).unwrap();
    }
}

fn case_dirs(root: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.join("case.json").exists() {
            out.push(path);
        } else if path.is_dir() {
            case_dirs(&path, out);
        }
    }
    out.sort();
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

struct Outcome {
    set: String,
    rank: Option<usize>,
    kind: Option<bool>,
    instance: Option<bool>,
}

fn judge(label: &Value, causes: &[Cause]) -> (Option<usize>, Option<bool>, Option<bool>) {
    let mut services: Vec<&str> = Vec::new();
    for cause in causes {
        if !services.contains(&&*cause.service) {
            services.push(&cause.service);
        }
    }
    let want = text(label, "service");
    let rank = services.iter().position(|s| *s == want).map(|k| k + 1);
    let first = causes.first();
    let kind = label["kind"].as_str().map(|kind| {
        first.is_some_and(|c| {
            let got = serde_json::to_value(c.kind).unwrap();
            let got = got.as_str().unwrap();
            *c.service == *want && (got == kind || (kind == "code" && got == "error"))
        })
    });
    let instance = label["instance"].as_str().map(|i| first.is_some_and(|c| *c.instance == *i));
    (rank, kind, instance)
}

async fn run(dir: &Path) -> (Value, Vec<Cause>, String) {
    let case = json(&dir.join("case.json"));
    let budget = Budget::unlimited();
    let stores = Stores {
        metrics: Arc::new(Head::new(&budget)),
        logs: Arc::new(LogStore::new(&budget)),
        spans: Arc::new(MemSpans::new(&budget)),
    };
    let tenant = TenantId::anonymous();
    let signals: Vec<&str> = case["signals"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    let baseline = &case["baseline"];
    stores.load(&tenant, &dir.join(text(baseline, "path")), baseline["shift_ms"].as_i64().unwrap(), &signals);
    stores.load(&tenant, dir, 0, &signals);
    let range = |v: &Value| {
        TimeRange::new(Timestamp(v["start_ms"].as_i64().unwrap()), Timestamp(v["end_ms"].as_i64().unwrap()))
    };
    let question = Question {
        tenant,
        window: range(&case["incident"]),
        baseline: range(baseline),
        limit: 10,
        now: Timestamp(case["incident"]["end_ms"].as_i64().unwrap() + 30_000),
    };
    let sources = Sources {
        metrics: stores.metrics,
        logs: stores.logs,
        spans: stores.spans,
        changes: Arc::new(ChangeLog::default()),
    };
    let begun = std::time::Instant::now();
    let answer = diagnose(&sources, &question, &ReadContext::unlimited()).await.unwrap();
    let cost = format!("{:.2} s, {:?}", begun.elapsed().as_secs_f64(), answer.stats);
    (json(&dir.join("label.json")), answer.causes, cost)
}

fn report(title: &str, outcomes: &[&Outcome]) {
    let share = |hits: usize, n: usize| 100.0 * hits as f64 / n.max(1) as f64;
    let at = |k: usize| share(outcomes.iter().filter(|o| o.rank.is_some_and(|r| r <= k)).count(), outcomes.len());
    let of = |pick: fn(&Outcome) -> Option<bool>| {
        let known: Vec<bool> = outcomes.iter().filter_map(|o| pick(o)).collect();
        share(known.iter().filter(|v| **v).count(), known.len())
    };
    println!(
        "{title:20} n={:3} AS@1 {:5.1} AS@3 {:5.1} AS@5 {:5.1} kind@1 {:5.1} inst@1 {:5.1}",
        outcomes.len(),
        at(1),
        at(3),
        at(5),
        of(|o| o.kind),
        of(|o| o.instance)
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let verbose = args.iter().any(|a| a == "-v");
    let plain: Vec<&String> = args.iter().filter(|a| *a != "-v").collect();
    let root = plain.first().expect("give the directory of the cases");
    let mut dirs = Vec::new();
    case_dirs(Path::new(root), &mut dirs);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for dir in dirs.iter().filter(|d| plain.get(1).is_none_or(|part| d.to_string_lossy().contains(*part))) {
        let (label, causes, cost) = run(dir).await;
        let (rank, kind, instance) = judge(&label, &causes);
        let id = dir.file_name().unwrap().to_string_lossy().into_owned();
        let fault = format!("{} {}", text(&label, "service"), text(&label, "fault"));
        let top = causes.first().map_or("-".to_owned(), |c| format!("{} {:?} {:.2}", c.service, c.kind, c.score));
        println!("{id:24} rank {:>4} {fault:45} first: {top}", rank.map_or("-".into(), |r| r.to_string()));
        if verbose {
            println!("    {cost}");
            for cause in &causes {
                println!(
                    "    {:.3} {} {:?} {} | {}",
                    cause.score, cause.service, cause.kind, cause.instance, cause.summary
                );
                for line in &cause.evidence {
                    println!("          {:?} {}", line.signal, line.text);
                }
            }
        }
        let set = id.rsplit_once('-').map_or(id.clone(), |(set, _)| set.to_owned());
        outcomes.push(Outcome { set, rank, kind, instance });
    }
    let mut sets: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    outcomes.iter().for_each(|o| sets.entry(&o.set).or_default().push(o));
    sets.iter().for_each(|(set, of_set)| report(set, of_set));
    report("all", &outcomes.iter().collect::<Vec<_>>());
}
