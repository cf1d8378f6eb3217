//! A made-up streaming pipeline in memory stores, broken in known ways: the thing must be named.
//!
//! in -> raw -> worker (looks up a database) -> done -> writer (writes a database)

#![allow(clippy::unwrap_used, reason = "a failed write fails the test")]

use std::sync::Arc;

use weir_diagnose::{Diagnosis, Question, Sources, Thing, diagnose};
use weir_events::{ChangeLog, LogStore, MemSpans};
use weir_model::sink::{LogSink, MetricBatch, MetricSink, SeriesBatch, SpanSink, StreamBatch};
use weir_model::source::ReadContext;
use weir_model::{
    AttrValue, Budget, Change, ChangeKind, ChangeSink, EntityId, EntityKind, Labels, LogEntry, Nanos, Resource, Sample,
    Span, SpanId, SpanKind, SpanStatus, StatusCode, TenantId, TimeRange, Timestamp, TraceId,
};
use weir_tsdb::Head;

const BEGIN_S: i64 = 1_000_000;
const FAULT_S: i64 = BEGIN_S + 300;
const END_S: i64 = FAULT_S + 45;
const EVENTS_PER_SECOND: i64 = 20;
const PARTITIONS: i64 = 4;

/// What is broken from `FAULT_S` on.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The worker's or the writer's statement reads every row.
    SlowStatement(&'static str),
    /// The writer waits on one record of this partition.
    Blocked(i64),
    /// The worker's new version fails one event in four.
    BadVersion,
    /// The worker's new version is sound, the writer's statement is slow 15 s later.
    SoundVersionThenSlowStatement,
    /// The writer's new version is sound; later the writer waits on one record and says so in a new line.
    SoundVersionThenBlocked(i64),
}

impl Fault {
    fn blocked(self) -> Option<i64> {
        match self {
            Self::Blocked(partition) | Self::SoundVersionThenBlocked(partition) => Some(partition),
            _ => None,
        }
    }

    /// A line a second, and while it waits one more.
    fn writers_log(self) -> StreamBatch {
        let line = |at_s: i64, text: &str| LogEntry {
            at: Nanos(at_s * 1_000_000_000),
            line: text.into(),
            metadata: vec![("detected_level".into(), "info".into())],
        };
        let mut entries = Vec::new();
        for second in BEGIN_S..END_S {
            entries.push(line(second, "20 totals written"));
            if self.blocked().is_some() && second >= FAULT_S {
                entries.push(line(second, "match 7: no such row, trying again"));
            }
        }
        StreamBatch { labels: Labels::from_pairs([("service_name", "writer")]), entries }
    }

    /// Who was deployed, and when.
    fn deployed(self) -> Option<(&'static str, i64)> {
        match self {
            Self::BadVersion | Self::SoundVersionThenSlowStatement => Some(("worker", FAULT_S)),
            Self::SoundVersionThenBlocked(_) => Some(("writer", FAULT_S - 45)),
            _ => None,
        }
    }
}

struct Pipeline {
    fault: Fault,
    spans: Vec<Arc<Span>>,
    next_id: u64,
}

struct Part<'a> {
    service: &'a str,
    name: &'a str,
    kind: SpanKind,
    parent: Option<SpanId>,
    start_ms: f64,
    took_ms: f64,
    error: bool,
    attributes: Vec<(&'a str, AttrValue)>,
}

impl Pipeline {
    fn version(&self, service: &str, at_s: i64) -> &'static str {
        let new = self.fault.deployed().is_some_and(|(who, since)| who == service && at_s >= since);
        if new { "2.0.0" } else { "1.0.0" }
    }

    fn span(&mut self, trace: u64, at_s: i64, part: Part<'_>) -> SpanId {
        self.next_id += 1;
        let id = SpanId(self.next_id.to_be_bytes());
        let mut trace_id = [7; 16];
        trace_id[8..].copy_from_slice(&trace.to_be_bytes());
        let text = |k: &str, v: &str| (Arc::from(k), AttrValue::from(v));
        let resource = vec![
            text("service.name", part.service),
            text("service.version", self.version(part.service, at_s)),
            text("service.instance.id", &format!("{}-0", part.service)),
        ];
        let start = at_s * 1_000_000_000 + (part.start_ms * 1e6) as i64;
        self.spans.push(Arc::new(Span {
            trace_id: TraceId(trace_id),
            span_id: id,
            parent: part.parent,
            name: part.name.into(),
            kind: part.kind,
            start: Nanos(start),
            end: Nanos(start + (part.took_ms * 1e6) as i64),
            status: SpanStatus {
                code: if part.error { StatusCode::Error } else { StatusCode::Unset },
                message: if part.error { "rejected".into() } else { "".into() },
            },
            attributes: part.attributes.into_iter().map(|(k, v)| (Arc::from(k), v)).collect(),
            resource: Arc::new(Resource { attributes: resource }),
            ..Span::default()
        }));
        id
    }

    fn slow(&self, service: &str, at_s: i64) -> bool {
        match self.fault {
            Fault::SlowStatement(place) => place == service && at_s >= FAULT_S,
            Fault::SoundVersionThenSlowStatement => service == "writer" && at_s >= FAULT_S + 15,
            _ => false,
        }
    }

    /// One stage: a consumer span with its statement; the statement's time.
    fn stage(&mut self, trace: u64, at_s: i64, start_ms: f64, parent: SpanId, service: &str) -> (SpanId, f64, bool) {
        let jitter = (trace * 7 % 10) as f64 / 20.0;
        let slow = self.slow(service, at_s);
        let query_ms = if slow { 24.0 } else { 0.8 } + jitter;
        let rows = if slow { 60_000 } else { 1 };
        let failed =
            self.fault == Fault::BadVersion && service == "worker" && at_s >= FAULT_S && trace.is_multiple_of(4);
        let (topic, group, statement) = match service {
            "worker" => ("raw", "workers", "SELECT name FROM people WHERE id = ?"),
            _ => ("done", "writers", "UPDATE totals SET n = n + 1 WHERE match_id = ?"),
        };
        let name = format!("process {topic}");
        let process = Part {
            service,
            name: &name,
            kind: SpanKind::Consumer,
            parent: Some(parent),
            start_ms,
            took_ms: query_ms + 1.0 + jitter,
            error: failed,
            attributes: vec![
                ("messaging.destination.name", topic.into()),
                ("messaging.consumer.group.name", group.into()),
            ],
        };
        let consumer = self.span(trace, at_s, process);
        let query = Part {
            service,
            name: statement,
            kind: SpanKind::Client,
            parent: Some(consumer),
            start_ms: start_ms + 0.3,
            took_ms: query_ms,
            error: false,
            attributes: vec![
                ("db.system.name", "sqlite".into()),
                ("db.namespace", "store".into()),
                ("db.query.text", statement.into()),
                ("db.response.rows_scanned", AttrValue::Int(rows)),
            ],
        };
        self.span(trace, at_s, query);
        (consumer, start_ms + query_ms + 1.0, failed)
    }

    fn event(&mut self, trace: u64, at_s: i64, start_ms: f64) {
        let send = |service, name, parent, start_ms, topic: &'static str| Part {
            service,
            name,
            kind: SpanKind::Producer,
            parent,
            start_ms,
            took_ms: 0.5,
            error: false,
            attributes: vec![("messaging.destination.name", topic.into())],
        };
        let sent = self.span(trace, at_s, send("in", "send raw", None, start_ms, "raw"));
        let (consumer, at_ms, failed) = self.stage(trace, at_s, start_ms + 2.0, sent, "worker");
        if failed {
            return;
        }
        let sent = self.span(trace, at_s, send("worker", "send done", Some(consumer), at_ms - 0.6, "done"));
        let blocked = self.fault.blocked() == Some(trace as i64 % PARTITIONS) && at_s >= FAULT_S;
        if !blocked {
            self.stage(trace, at_s, at_ms + 2.0, sent, "writer");
        }
    }

    fn lag(&self) -> MetricBatch {
        let mut batch = MetricBatch::default();
        for (group, topic) in [("workers", "raw"), ("writers", "done")] {
            for partition in 0..PARTITIONS {
                let labels = Labels::from_pairs([
                    ("__name__", "kafka_consumergroup_group_lag_seconds".to_owned()),
                    ("group", group.to_owned()),
                    ("topic", topic.to_owned()),
                    ("partition", partition.to_string()),
                ]);
                let blocked = self.fault.blocked() == Some(partition) && group == "writers";
                let level = |s: i64| if blocked && s > FAULT_S { (s - FAULT_S) as f64 } else { 0.1 };
                let samples = (BEGIN_S..END_S).map(|s| Sample::new(s * 1000, level(s))).collect();
                batch.series.push(SeriesBatch { labels, samples, ..SeriesBatch::default() });
            }
        }
        batch
    }
}

fn ask(fault: Fault) -> Diagnosis {
    let budget = Budget::unlimited();
    let (metrics, spans) = (Arc::new(Head::new(&budget)), Arc::new(MemSpans::new(&budget)));
    let tenant = TenantId::anonymous();
    let mut pipeline = Pipeline { fault, spans: Vec::new(), next_id: 0 };
    for second in BEGIN_S..END_S {
        for k in 0..EVENTS_PER_SECOND {
            let trace = ((second - BEGIN_S) * EVENTS_PER_SECOND + k) as u64;
            pipeline.event(trace, second, k as f64 * 1000.0 / EVENTS_PER_SECOND as f64);
        }
    }
    metrics.append(&tenant, &pipeline.lag()).unwrap();
    spans.append(&tenant, &pipeline.spans).unwrap();
    let changes = Arc::new(ChangeLog::default());
    if let Some((service, at_s)) = fault.deployed() {
        changes.record(
            &tenant,
            Change {
                at: Timestamp(at_s * 1000),
                kind: ChangeKind::Deployment,
                entity: EntityId::new(EntityKind::Service, service),
                title: format!("{service} went from version 1.0.0 to 2.0.0"),
                from: Some("1.0.0".into()),
                to: Some("2.0.0".into()),
                instances: Vec::new(),
                source: "telemetry".into(),
                attributes: Default::default(),
            },
        );
    }
    let logs = Arc::new(LogStore::new(&budget));
    logs.append(&tenant, &[fault.writers_log()]).unwrap();
    let sources = Sources { metrics, logs, spans, changes };
    let at = |s: i64| Timestamp(s * 1000);
    let question = Question {
        tenant,
        window: TimeRange::new(at(FAULT_S - 15), at(END_S)),
        baseline: TimeRange::new(at(BEGIN_S), at(FAULT_S - 15)),
        limit: 5,
        now: at(END_S),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(diagnose(&sources, &question, &ReadContext::unlimited())).unwrap()
}

#[track_caller]
fn check(fault: Fault, service: &str, thing: impl Fn(&Thing) -> bool) {
    let got = ask(fault);
    let first = got.causes.first().expect("a cause");
    assert!(got.known && *first.service == *service && thing(&first.thing), "{:#?}", got.causes);
}

#[test]
fn a_statement_that_reads_more_rows_is_named_wherever_it_runs() {
    for (service, table) in [("worker", "people"), ("writer", "totals")] {
        check(Fault::SlowStatement(service), service, |thing| match thing {
            Thing::Statement { statement, database } => {
                statement.contains(table) && database.as_deref() == Some("store")
            }
            _ => false,
        });
    }
}

#[test]
fn a_blocked_partition_is_named_with_its_group() {
    let want = Thing::Partition { group: "writers".into(), topic: "done".into(), partition: Some(2) };
    check(Fault::Blocked(2), "writer", |thing| *thing == want);
    check(Fault::SoundVersionThenBlocked(2), "writer", |thing| *thing == want);
}

#[test]
fn a_bad_version_is_named_with_the_one_before() {
    let want = Thing::Version { version: "2.0.0".into(), previous: Some("1.0.0".into()) };
    check(Fault::BadVersion, "worker", |thing| *thing == want);
}

#[test]
fn a_sound_version_is_not_blamed_for_what_came_after() {
    check(Fault::SoundVersionThenSlowStatement, "writer", |thing| matches!(thing, Thing::Statement { .. }));
}

#[test]
fn a_healthy_pipeline_has_no_known_cause() {
    let got = ask(Fault::None);
    assert!(!got.known, "{:#?}", got.causes);
    assert!(got.ruled_out.iter().any(|line| line.contains("lag")), "{:?}", got.ruled_out);
}
