//! Budgets of series through the real way in and the real head.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use weir_events::ChangeLog;
use weir_ingest::cardinality::{CardinalityConfig, Gate};
use weir_ingest::remote_write::{Version, encode_v1, encode_v2};
use weir_ingest::{Encoding, Ingest, IngestOptions, Limits, Protocol, RemoteRequest, SenderRef};
use weir_model::entity::{Aliases, EntityTable};
use weir_model::sink::{LogSink, MetricBatch, Outcome, RefusedReason, SeriesBatch, SpanSink, StreamBatch, WriteError};
use weir_model::source::{Cancel, MetricFragment, MetricSource, Projection, ReadContext};
use weir_model::usage::Usage;
use weir_model::{
    Budget, CommitFeed, Labels, MatchOp, Matcher, Sample, SeriesCensus, SimClock, Span, TenantId, TimeRange, Timestamp,
};
use weir_tsdb::Head;

struct Nowhere;

impl LogSink for Nowhere {
    fn append(&self, _: &TenantId, _: &[StreamBatch]) -> Result<Outcome, WriteError> {
        Ok(Outcome::default())
    }
}

impl SpanSink for Nowhere {
    fn append(&self, _: &TenantId, _: &[Arc<Span>]) -> Result<Outcome, WriteError> {
        Ok(Outcome::default())
    }
}

struct Fixture {
    ingest: Ingest,
    head: Arc<Head>,
    gate: Arc<Gate>,
    tenant: TenantId,
}

const START: i64 = 1_700_000_000_000;

impl Fixture {
    fn new(config: &str) -> Self {
        let head = Arc::new(Head::new(&Budget::root(1 << 30)));
        let ingest = Ingest::new(IngestOptions {
            clock: Arc::new(SimClock::at(Timestamp(START + 3_600_000))),
            metrics: head.clone(),
            series: Some(head.clone()),
            logs: Arc::new(Nowhere),
            spans: Arc::new(Nowhere),
            feed: Arc::new(CommitFeed::default()),
            usage: Arc::new(Usage::default()),
            entities: Arc::new(EntityTable::new(Arc::new(ChangeLog::default()))),
            aliases: Aliases::default(),
            limits: Limits::default(),
        });
        let gate = Arc::new(Gate::new(head.clone(), CardinalityConfig::parse(config).unwrap()));
        ingest.use_gate(gate.clone());
        Self { ingest, head, gate, tenant: TenantId::anonymous() }
    }

    /// By remote write, as it comes from a Prometheus.
    fn push(&self, version: Version, batch: &MetricBatch) -> Outcome {
        let plain = match version {
            Version::V1 => encode_v1(batch),
            Version::V2 => encode_v2(batch, |_| None),
        };
        let body = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        let sender = SenderRef::new(Protocol::RemoteWrite, "test", "test");
        let request = RemoteRequest { version, encoding: Encoding::SnappyBlock, body: &body };
        self.ingest.write_remote(&self.tenant, &sender, request).unwrap().outcome
    }

    /// Labels and newest value of a metric's series.
    fn newest(&self, metric: &str) -> Vec<(String, f64)> {
        let fragment = MetricFragment {
            matchers: vec![Matcher::new("__name__", MatchOp::Equal, metric).unwrap()],
            range: TimeRange::ALL,
            projection: Projection::Samples,
            ..MetricFragment::default()
        };
        let context = ReadContext { budget: Budget::root(1 << 30), cancel: Cancel::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut cursor = runtime.block_on(self.head.open(&self.tenant, &fragment, &context)).unwrap();
        let mut out = Vec::new();
        while let Some(batch) = cursor.next().unwrap() {
            out.extend(batch.into_iter().map(|s| (s.labels.to_string(), s.samples.last().unwrap().value)));
        }
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out
    }
}

/// A value for each of the users.
fn logins(users: std::ops::Range<usize>, minute: i64, value: impl Fn(usize) -> f64) -> MetricBatch {
    let one = |user: usize| SeriesBatch {
        labels: Labels::from_pairs([
            ("__name__", "logins_total"),
            ("instance", "a:80"),
            ("job", "api"),
            ("user_id", &format!("u{user:03}")),
        ]),
        samples: vec![Sample::new(START + minute * 60_000, value(user))],
        ..SeriesBatch::default()
    };
    MetricBatch { series: users.map(one).collect(), ..MetricBatch::default() }
}

#[test]
fn folding_keeps_every_increment_and_no_series_beyond_the_budget() {
    for version in [Version::V1, Version::V2] {
        let fixture = Fixture::new("budgets: [{metric: logins_total, max_series: 10, action: fold}]");
        for minute in 0..5 {
            let outcome = fixture.push(version, &logins(0..50, minute, |user| 100.0 + (minute as f64) * user as f64));
            assert!(outcome.refused.is_empty(), "{outcome:?}");
        }
        let newest = fixture.newest("logins_total");
        assert_eq!(newest.len(), 11, "{newest:?}");
        let folded = r#"logins_total{instance="a:80", job="api", user_id="other", weir_folded="user_id"}"#;
        let sum: usize = (10..50).map(|user| 4 * user).sum();
        assert_eq!(newest[0], (folded.to_owned(), sum as f64), "{version:?}");
        assert_eq!(newest[10].1, 100.0 + 4.0 * 9.0);
        let standings = fixture.gate.survey(Timestamp(START));
        assert_eq!(standings.len(), 1);
        let one = &standings[0];
        assert_eq!((one.n_series, one.n_hidden, one.n_folded), (11, 40, 200));
        assert_eq!(&*one.culprit.label.as_ref().unwrap().name, "user_id");
        assert_eq!(&*one.culprit.target.as_ref().unwrap().job, "api");
        assert!(one.used_ratio() > 5.0 && one.example.contains("user_id"), "{one:?}");
    }
}

#[test]
fn labels_that_rules_use_are_not_folded() {
    let fixture = Fixture::new("budgets: [{metric: logins_total, max_series: 10, action: fold}]");
    fixture.gate.set_used_labels(["user_id".to_owned()].into());
    fixture.push(Version::V1, &logins(0..50, 0, |_| 1.0));
    assert_eq!(fixture.newest("logins_total").len(), 10);
    // With nothing to fold by, they are dropped, and counted by name.
    let standings = fixture.gate.survey(Timestamp(START));
    assert_eq!((standings[0].n_folded, standings[0].n_dropped), (0, 40));
}

#[test]
fn a_dropped_series_is_counted_and_a_refused_one_is_told_to_the_sender() {
    for (action, n_refused) in [("drop", 0), ("refuse", 40)] {
        let config = format!("budgets: [{{max_series: 10, action: {action}}}]");
        let fixture = Fixture::new(&config);
        let outcome = fixture.push(Version::V1, &logins(0..50, 0, |_| 1.0));
        assert_eq!((outcome.accepted, fixture.head.n_series()), (10, 10));
        assert_eq!(outcome.refused.iter().map(|r| r.count).sum::<u64>(), n_refused);
        for refused in &outcome.refused {
            assert!(refused.reason == RefusedReason::Limit && refused.example.contains("max_series"), "{refused:?}");
        }
        // Series that are there go on, whatever else comes.
        let outcome = fixture.push(Version::V1, &logins(0..50, 1, |_| 2.0));
        assert_eq!(outcome.accepted, 10);
        assert!(fixture.newest("logins_total").iter().all(|(_, value)| *value == 2.0));
    }
}

#[test]
fn a_warning_takes_nothing_away() {
    let fixture = Fixture::new("budgets: [{metric: logins_total, max_series: 10}]");
    fixture.push(Version::V1, &logins(0..50, 0, |_| 1.0));
    assert_eq!(fixture.head.count(&fixture.tenant, None), 50);
    let standings = fixture.gate.survey(Timestamp(START));
    assert_eq!((standings.len(), standings[0].used_ratio()), (1, 5.0));
}

#[test]
fn other_metrics_are_let_in_while_one_is_over() {
    let fixture = Fixture::new("budgets: [{metric: logins_total, max_series: 10, action: drop}]");
    let mut batch = logins(0..50, 0, |_| 1.0);
    let up = Labels::from_pairs([("__name__", "up"), ("job", "api")]);
    batch.series.push(SeriesBatch { labels: up, samples: vec![Sample::new(START, 1.0)], ..SeriesBatch::default() });
    assert_eq!(fixture.push(Version::V2, &batch).accepted, 11);
    assert_eq!(fixture.newest("up").len(), 1);
}
