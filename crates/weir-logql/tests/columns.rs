//! What is answered from columns is what rebuilding every line and running the pipeline gives.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use weir_events::LogStore;
use weir_logql::{Engine, Expr, LogParams, MetricParams, MetricValue, parse};
use weir_model::columns::*;
use weir_model::log::SAMPLING_WEIGHT;
use weir_model::sink::{LogSink, StreamBatch};
use weir_model::source::*;
use weir_model::{Budget, Labels, LogEntry, Matcher, Nanos, TenantId};

/// The store without its columns: the engine sees lines alone.
struct LineByLine<'s>(&'s LogStore);

impl LogSource for LineByLine<'_> {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        Box::pin(async move {
            let all = LogFragment { predicates: Vec::new(), ..fragment.clone() };
            self.0.open(tenant, &all, context).await
        })
    }
    fn streams<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        start: Nanos,
        end: Nanos,
    ) -> BoxFuture<'a, Result<Vec<(Labels, LogStats)>, ReadError>> {
        self.0.streams(tenant, matchers, start, end)
    }
}

const LOG_QUERIES: &[&str] = &[
    r#"{app=~".+"} | json | ms > N"#,
    r#"{app=~".+"} | json | ms <= N.5 and level="info""#,
    r#"{app=~".+"} | json | level=~"w.*" or ms > N"#,
    r#"{app=~".+"} | json | level="""#,
    r#"{app=~".+"} | json | level!="warn" | line_format "{{.ms}}" | json | ms > 3"#,
    r#"{app=~".+"} | json | took > 1Nms"#,
    r#"{app=~".+"} | json | size >= NKB"#,
    r#"{app=~".+"} | json | ctx_user="u N""#,
    r#"{app=~".+"} | json | msg="a\"b""#,
    r#"{app=~".+"} | json | msg=~"took .*N.*""#,
    r#"{app=~".+"} | json | app_extracted="x""#,
    r#"{app=~".+"} | json | trace_id_extracted="abc""#,
    r#"{app=~".+"} | json | __error__="" "#,
    r#"{app=~".+"} | json | __error__!="" "#,
    r#"{app=~".+"} | json | ms > N | drop __error__ | level="info""#,
    r#"{app=~".+"} | json a="ctx.user", b="list[1]", c="ctx" | a="u N" or b="N""#,
    r#"{app=~".+"} | json a="ctx", b="level" | a!="" | b!="""#,
    r#"{app=~".+"} | logfmt | ms > N"#,
    r#"{app=~".+"} | logfmt | took >= Nms"#,
    r#"{app=~".+"} | logfmt | level="info" | msg=~".*N.*""#,
    r#"{app=~".+"} | logfmt | level="" | ms != N"#,
    r#"{app=~".+"} | logfmt --keep-empty | x="""#,
    r#"{app=~".+"} | logfmt --strict | ms > N"#,
    r#"{app=~".+"} | trace_id="abc""#,
    r#"{app=~".+"} |= "N" | json | level="info""#,
    r#"{app=~".+"} != "took" | logfmt | addr=ip("10.0.0.0/8")"#,
    r#"{app=~".+"} | app="a" | json | ms > N"#,
];

const METRIC_QUERIES: &[&str] = &[
    r#"rate({app=~".+"}[10ns])"#,
    r#"sum by (app) (rate({app=~".+"} |= "N" [7ns]))"#,
    r#"sum by (app, trace_id) (count_over_time({app=~".+"} != "N" [13ns]))"#,
    r#"sum(bytes_over_time({app=~".+"} |= "m" [10ns]))"#,
    r#"sum by (pod) (bytes_rate({app=~".+"}[5ns]))"#,
    r#"sum by (level) (count_over_time({app=~".+"} | json | __error__="" [10ns]))"#,
    r#"sum by (level, msg) (count_over_time({app=~".+"} | json | __error__="" [10ns]))"#,
    r#"sum by (__error__) (count_over_time({app=~".+"} | json | __error__!="" [10ns]))"#,
    r#"sum by (level) (count_over_time({app=~".+"} | logfmt [10ns]))"#,
    r#"count_over_time({app=~".+"} | logfmt | ms > N [10ns])"#,
    r#"sum(count_over_time({app=~".+"} | json [10ns]))"#,
    r#"sum without (trace_id, ctx_user) (count_over_time({app=~".+"} | json | __error__="" [10ns]))"#,
    r#"sum by (app) (count_over_time({app=~".+"} | json | ms > N | drop __error__ [10ns]))"#,
    r#"sum by (app) (count_over_time({app=~".+"} | json | ms > N | __error__="" [10ns]))"#,
    r#"quantile_over_time(0.9, {app=~".+"} | json | __error__="" | unwrap ms [10ns]) by (app)"#,
    r#"quantile_over_time(0.5, {app=~".+"} | logfmt | unwrap ms | __error__="" [10ns]) by (app, level)"#,
    r#"avg_over_time({app=~".+"} | logfmt | unwrap duration(took) | __error__="" [20ns]) by (app)"#,
    r#"max_over_time({app=~".+"} | json | __error__="" | unwrap bytes(size) | __error__="" [20ns]) by (level)"#,
    r#"sum_over_time({app=~".+"} | json | __error__="" | unwrap ms | ms < N1 [10ns])"#,
    r#"stddev_over_time({app=~".+"} | json | __error__="" | unwrap ms | __error__="" [10ns]) by (app)"#,
    r#"first_over_time({app=~".+"} | logfmt | unwrap ms | __error__="" [10ns]) by (app)"#,
    r#"sum by (app) (sum_over_time({app=~".+"} | logfmt | unwrap ms | __error__="" [10ns]))"#,
    r#"absent_over_time({app="a"} | json | ms > N | __error__="" [10ns])"#,
    r#"min_over_time({app=~".+"} | json | unwrap ms [10ns]) by (app)"#,
    r#"sum by (app) (count_over_time({app=~".+"} | json | took > Nms [10ns]))"#,
];

fn line() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["info", "warn", "error", ""]);
    let number =
        prop_oneof!["[0-9]", "[0-9]{1,2}\\.[0-9]{2}", "-?[0-9]\\.5", Just("null".to_owned()), Just("1e3".to_owned())];
    let word = prop_oneof![
        Just("done".to_owned()),
        Just("a\\\"b".to_owned()),
        Just("\\u00e9".to_owned()),
        Just("took 5\\u00e9".to_owned()),
        "took [0-9]{1,2}ms for u [0-9]",
        "x=[a-c]{1,2}[0-9]",
        Just("C:\\\\7 x".to_owned()),
        Just("x=b\\\" 5".to_owned()),
    ];
    let plain = prop_oneof!["[a-c]{1,3}", "[0-9]{1,2}", "k[0-9]=v", "10\\.0\\.0\\.[0-9]", Just("\"q 1\"".to_owned())];
    prop_oneof![
        8 => (level.clone(), number.clone(), word.clone()).prop_map(|(l, n, w)| format!(r#"{{"level":"{l}","ms":{n},"msg":"{w}"}}"#)),
        3 => (number.clone(), word.clone(), 0..9).prop_map(|(n, w, u)| {
            format!(r#"{{"ms":{n},"ctx":{{"user":"u {u}","w":"{w}"}},"app":"x","list":[{u},"{u}"],"trace_id":"abc"}}"#)
        }),
        2 => (number.clone(), number.clone()).prop_map(|(a, b)| format!(r#"{{"ms":{a},"ms":{b},"level":null}}"#)),
        2 => (0..30, 0..5).prop_map(|(t, s)| format!(r#"{{"took":"1{t}ms","size":"{s}KB","level":"info"}}"#)),
        8 => (level.clone(), number.clone(), word).prop_map(|(l, n, w)| format!("level={l} ms={n} took={n}ms msg=\"{w}\"")),
        3 => (number.clone(), plain).prop_map(|(n, p)| format!("addr=10.0.0.{n} x= {p} ms={n}")),
        2 => number.prop_map(|n| format!("ms={n} ms=1 level=info =bad \"quoted\" {n}")),
        2 => (level, 0..50).prop_map(|(l, n)| format!("{l} 10.0.0.1 - - [{n}] \"GET /x/{n} HTTP/1.1\"")),
        1 => "\\PC{0,12}",
        1 => "[{}\\[\\]\":,ms=0-9\\\\ ]{0,14}",
    ]
}

fn stream(n: u8) -> Labels {
    let labels = Labels::from_pairs([("app", ["a", "a", "b"][n as usize % 3]), ("service_name", "s")]);
    if n == 0 { labels } else { labels.with("pod", &format!("p{n}")) }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Whether a difference is one of the order in which floats were added.
fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

fn metric(source: &dyn LogSource, query: &str) -> Result<Vec<(Labels, Vec<(Nanos, f64)>)>, String> {
    let Ok(Expr::Metric(expr)) = parse(query) else { panic!("{query}") };
    let params = MetricParams { start: Nanos(0), end: Nanos(60), step_nanos: 6 };
    let engine = Engine { series_max: 100_000, ..Engine::default() };
    let result = now(engine.metric_query(source, &TenantId::anonymous(), expr, params, &ReadContext::unlimited()));
    match result.map_err(|e| e.to_string())?.value {
        MetricValue::Series(series) => Ok(series.into_iter().map(|s| (s.labels, s.samples)).collect()),
        MetricValue::Scalar(_) => panic!("{query}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn columns_agree_with_lines(
        lines in prop::collection::vec((0_u8..4, 0_i64..60, line(), "(abc|q)?", "(1|3|20|x)?"), 1..160),
        freeze_every in 20_usize..200,
        n in 0_u8..10,
        limit in prop_oneof![Just(5_usize), Just(1_000)],
    ) {
        let store = LogStore::new(&Budget::unlimited());
        for (i, (s, at, line, trace, weight)) in lines.iter().enumerate() {
            let metadata = [("trace_id", trace), (SAMPLING_WEIGHT, weight)].into_iter();
            let metadata = metadata.filter(|(_, v)| !v.is_empty()).map(|(n, v)| (n.into(), v.as_str().into())).collect();
            let entry = LogEntry { at: Nanos(*at), line: line.as_str().into(), metadata };
            store.append(&TenantId::anonymous(), &[StreamBatch { labels: stream(*s), entries: vec![entry] }]).unwrap();
            if i % freeze_every == freeze_every - 1 {
                store.freeze_all();
            }
        }
        store.freeze_all();
        let plain = LineByLine(&store);
        for query in LOG_QUERIES {
            let query = query.replace('N', &n.to_string());
            let Ok(Expr::Log(expr)) = parse(&query) else { panic!("{query}: {:?}", parse(&query).err()) };
            for direction in [Direction::Forward, Direction::Backward] {
                let params = LogParams { start: Nanos(3), end: Nanos(55), limit, direction };
                let run = |source: &dyn LogSource| {
                    let (tenant, context) = (TenantId::anonymous(), ReadContext::unlimited());
                    now(Engine::default().log_query(source, &tenant, expr.clone(), params, &context)).unwrap().streams
                };
                prop_assert_eq!(run(&store), run(&plain), "{}", query);
            }
        }
        for query in METRIC_QUERIES {
            let query = query.replace('N', &n.to_string());
            match (metric(&store, &query), metric(&plain, &query)) {
                (Ok(got), Ok(want)) => {
                    prop_assert_eq!(got.len(), want.len(), "{}: {:?}, not {:?}", query, got, want);
                    for (got, want) in got.iter().zip(&want) {
                        let equal = got.0 == want.0 && got.1.len() == want.1.len()
                            && got.1.iter().zip(&want.1).all(|(a, b)| a.0 == b.0 && same(a.1, b.1));
                        prop_assert!(equal, "{}: {:?}, not {:?}", query, got, want);
                    }
                }
                // Which line a query fails on depends on the order in which lines are read.
                (Err(_), Err(_)) => {}
                (got, want) => prop_assert!(false, "{}: {:?}, not {:?}", query, got, want),
            }
        }
    }
}

/// Counts the lines that a query has rebuilt.
struct Counting<'s>(&'s LogStore, Arc<AtomicU64>);

struct CountingScan(Box<dyn LogScan>, Arc<AtomicU64>);

impl LogScan for CountingScan {
    fn may_match(&mut self) -> Result<bool, ReadError> {
        self.0.may_match()
    }
    fn open(&mut self) -> Result<Vec<ScanRun>, ReadError> {
        self.0.open()
    }
    fn matched(&self) -> Result<Matched<'_>, ReadError> {
        self.0.matched()
    }
    fn columns(&self) -> Result<&dyn LogColumns, ReadError> {
        self.0.columns()
    }
    fn entry(&self, row: u32) -> Result<LogEntry, ReadError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.entry(row)
    }
}

struct CountingCursor(Box<dyn LogCursor>, Arc<AtomicU64>);

impl LogCursor for CountingCursor {
    fn next(&mut self, bound: Option<Nanos>) -> Result<Option<StreamData>, ReadError> {
        let batch = self.0.next(bound)?;
        self.1.fetch_add(batch.as_ref().map_or(0, |b| b.entries.len() as u64), Ordering::Relaxed);
        Ok(batch)
    }
}

impl LogSource for Counting<'_> {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        self.0.open(tenant, fragment, context)
    }
    fn open_filtered<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        filter: Arc<dyn RowFilter>,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        Box::pin(async move {
            let cursor = self.0.open_filtered(tenant, fragment, filter, context).await?;
            Ok(Box::new(CountingCursor(cursor, self.1.clone())) as Box<dyn LogCursor>)
        })
    }
    fn open_scans<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<LogScans, ReadError>> {
        Box::pin(async move {
            let found = self.0.open_scans(tenant, fragment, context).await?;
            let count = |scan| Box::new(CountingScan(scan, self.1.clone())) as Box<dyn LogScan>;
            let rest = Box::new(CountingCursor(found.rest, self.1.clone()));
            Ok(LogScans { scans: found.scans.into_iter().map(count).collect(), rest })
        })
    }
    fn streams<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        start: Nanos,
        end: Nanos,
    ) -> BoxFuture<'a, Result<Vec<(Labels, LogStats)>, ReadError>> {
        self.0.streams(tenant, matchers, start, end)
    }
}

#[test]
fn aggregations_rebuild_no_line_and_filters_only_those_that_pass() {
    let store = LogStore::new(&Budget::unlimited());
    // Ids that do not compress, so that columns are smaller than text.
    let id = |i: i64| format!("{:016x}", (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let line = |i: i64| match i % 2 {
        0 => {
            format!(r#"{{"level":"{}","ms":{}.5,"id":"{}"}}"#, ["info", "warn"][i as usize / 2 % 2], i % 50, id(i))
        }
        _ => format!("level=info ms={} msg=\"order {} timed out\" id={} took={}ms", i % 50, i, id(i), i % 90),
    };
    let entries = (0..4_000)
        .map(|i| LogEntry {
            at: Nanos(i / 80),
            line: line(i).into(),
            metadata: vec![("trace_id".into(), "abc".into())],
        })
        .collect();
    store.append(&TenantId::anonymous(), &[StreamBatch { labels: stream(1), entries }]).unwrap();
    store.freeze_all();
    let rebuilt = Arc::new(AtomicU64::new(0));
    let counting = Counting(&store, rebuilt.clone());
    for query in [
        r#"sum by (app) (rate({app="a"} |= "timed out" [10ns]))"#,
        r#"sum by (level) (count_over_time({app="a"} | json | __error__="" [10ns]))"#,
        r#"quantile_over_time(0.99, {app="a"} | json | __error__="" | unwrap ms [10ns]) by (app)"#,
        r#"sum by (app) (sum_over_time({app="a"} | logfmt | unwrap duration(took) | __error__="" [10ns]))"#,
        r#"sum(bytes_rate({app="a"} != "timed" [10ns]))"#,
    ] {
        assert!(!metric(&counting, query).unwrap().is_empty(), "{query}");
        assert_eq!(rebuilt.load(Ordering::Relaxed), 0, "{query}");
    }
    let Ok(Expr::Log(expr)) = parse(r#"{app="a"} | json | ms > 47"#) else { panic!() };
    let params = LogParams { start: Nanos(0), end: Nanos(60), limit: 5_000, direction: Direction::Forward };
    let (tenant, context) = (TenantId::anonymous(), ReadContext::unlimited());
    let found = now(Engine::default().log_query(&counting, &tenant, expr, params, &context)).unwrap();
    assert_eq!(found.streams.iter().map(|s| s.entries.len() as u64).sum::<u64>(), 80);
    assert_eq!(rebuilt.load(Ordering::Relaxed), 80);
}
