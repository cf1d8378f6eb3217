//! Queries over a handful of lines, as tables: the query, and what comes out as text.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use weir_logql::{Engine, Expr, LogParams, MetricParams, MetricValue, parse};
use weir_model::matcher::all_match;
use weir_model::source::*;
use weir_model::{Labels, LogEntry, Matcher, Nanos, TenantId};

/// Streams in memory; hands out one stream after another, in pieces of two entries.
struct VecLogs(Vec<(Labels, Vec<LogEntry>)>);

struct VecCursor(Vec<StreamData>);

impl LogCursor for VecCursor {
    fn next(&mut self, _bound: Option<Nanos>) -> Result<Option<StreamData>, ReadError> {
        Ok(self.0.pop())
    }
}

impl LogSource for VecLogs {
    fn open<'a>(
        &'a self,
        _tenant: &'a TenantId,
        fragment: &'a LogFragment,
        _context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        let mut batches = Vec::new();
        for (labels, entries) in self.0.iter().filter(|(labels, _)| all_match(&fragment.matchers, labels)) {
            let mut entries: Vec<LogEntry> =
                entries.iter().filter(|e| fragment.start <= e.at && e.at < fragment.end).cloned().collect();
            if fragment.direction == Direction::Backward {
                entries.reverse();
            }
            for piece in entries.chunks(2) {
                batches.push(StreamData { labels: labels.clone(), entries: piece.to_vec() });
            }
        }
        batches.reverse();
        Box::pin(std::future::ready(Ok(Box::new(VecCursor(batches)) as Box<dyn LogCursor>)))
    }

    fn streams<'a>(
        &'a self,
        _tenant: &'a TenantId,
        _matchers: &'a [Matcher],
        _start: Nanos,
        _end: Nanos,
    ) -> BoxFuture<'a, Result<Vec<(Labels, LogStats)>, ReadError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

/// The futures of a source in memory are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("a source in memory does not wait"),
    }
}

/// `seconds|stream labels|metadata|line`, one a line; labels as `a=b,c=d`.
fn load(text: &str) -> VecLogs {
    let pairs = |text: &str| -> Vec<(String, String)> {
        text.split(',')
            .filter_map(|p| p.split_once('='))
            .map(|(n, v)| (n.trim().to_owned(), v.trim().to_owned()))
            .collect()
    };
    let mut streams: Vec<(Labels, Vec<LogEntry>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let mut parts = line.splitn(4, '|');
        let mut part = || parts.next().unwrap();
        let at = Nanos((part().trim().parse::<f64>().unwrap() * 1e9) as i64);
        let labels = Labels::from_pairs(pairs(part()));
        let metadata = pairs(part()).into_iter().map(|(n, v)| (Arc::from(n), Arc::from(v))).collect();
        let entry = LogEntry { at, line: part().into(), metadata };
        match streams.iter_mut().find(|(l, _)| *l == labels) {
            Some((_, entries)) => entries.push(entry),
            None => streams.push((labels, vec![entry])),
        }
    }
    VecLogs(streams)
}

fn secs(at: Nanos) -> f64 {
    at.0 as f64 / 1e9
}

fn log(logs: &VecLogs, query: &str, limit: usize, direction: Direction) -> String {
    let Expr::Log(expr) = parse(query).unwrap() else { panic!("{query} is no log query") };
    let params = LogParams { start: Nanos(0), end: Nanos(1_000_000_000_000), limit, direction };
    let context = ReadContext::unlimited();
    let result = now(Engine::default().log_query(logs, &TenantId::anonymous(), expr, params, &context)).unwrap();
    let mut out = Vec::new();
    for stream in result.streams {
        for entry in stream.entries {
            let extra: Vec<String> = entry
                .metadata
                .iter()
                .map(|(n, v)| format!("{n}:{v}"))
                .chain(
                    entry.parsed.iter().filter(|(n, _)| &**n != "__error_details__").map(|(n, v)| format!("{n}={v}")),
                )
                .collect();
            out.push(format!("{} {} [{}] {}", secs(entry.at), stream.labels, extra.join(" "), entry.line));
        }
    }
    out.join("\n")
}

fn metric(logs: &VecLogs, query: &str, start: i64, end: i64, step: i64) -> Result<String, String> {
    let Expr::Metric(expr) = parse(query).map_err(|e| e.to_string())? else { panic!("{query} is no metric query") };
    let second = 1_000_000_000;
    let params = MetricParams { start: Nanos(start * second), end: Nanos(end * second), step_nanos: step * second };
    let context = ReadContext::unlimited();
    let result = now(Engine::default().metric_query(logs, &TenantId::anonymous(), expr, params, &context))
        .map_err(|e| e.to_string())?;
    Ok(match result.value {
        MetricValue::Scalar(value) => format!("{value}"),
        MetricValue::Series(series) => {
            let one = |s: &weir_logql::MetricSeries| {
                let samples: Vec<String> = s.samples.iter().map(|(at, v)| format!("{v}@{}", secs(*at))).collect();
                format!("{} {}", s.labels, samples.join(" "))
            };
            series.iter().map(one).collect::<Vec<_>>().join("\n")
        }
    })
}

const APP: &str = r#"
1|app=a||{"level":"info","ms":10,"user":{"id":"u1"}}
2|app=a|trace_id=t1|{"level":"error","ms":900,"msg":"timed out"}
3|app=b||level=warn dur=1.5s size=2KB msg="hello you"
4|app=a||not json
5|app=b|pod=p1|level=info dur=20ms size=3KB app=other
"#;

#[track_caller]
fn check_log(query: &str, want: &[&str]) {
    let got = log(&load(APP), query, 100, Direction::Forward);
    assert_eq!(got.lines().collect::<Vec<_>>(), want, "query: {query}");
}

#[test]
fn line_filters() {
    check_log(
        r#"{app="a"} |= "timed out""#,
        &[r#"2 {app="a"} [trace_id:t1] {"level":"error","ms":900,"msg":"timed out"}"#],
    );
    check_log(r#"{app="a"} != "level""#, &[r#"4 {app="a"} [] not json"#]);
    check_log(r#"{app="a"} |~ "n.t j" "#, &[r#"4 {app="a"} [] not json"#]);
    check_log(r#"{app="a"} != "level" or "json""#, &[]);
    check_log(
        r#"{app=~"a|b"} |= "timed" or "not""#,
        &[r#"2 {app="a"} [trace_id:t1] {"level":"error","ms":900,"msg":"timed out"}"#, r#"4 {app="a"} [] not json"#],
    );
    check_log(r#"{app="a"} |> "not <_>""#, &[r#"4 {app="a"} [] not json"#]);
    check_log(r#"{app="a"} != """#, &[]);
}

#[test]
fn parsers_and_label_filters() {
    check_log(
        r#"{app="a"} | json | user_id="u1" | drop level"#,
        &[r#"1 {app="a"} [ms=10 user_id=u1] {"level":"info","ms":10,"user":{"id":"u1"}}"#],
    );
    check_log(
        r#"{app="a"} | json id="user.id" | id!="""#,
        &[r#"1 {app="a"} [id=u1] {"level":"info","ms":10,"user":{"id":"u1"}}"#],
    );
    check_log(
        r#"{app="a"} | json | ms > 100 | keep ms"#,
        &[
            // A line without the label is dropped, whatever else is wrong with it.
            r#"2 {} [ms=900] {"level":"error","ms":900,"msg":"timed out"}"#,
        ],
    );
    check_log(
        r#"{app="a"} | json | __error__="" | ms >= 10 and level="info" or msg=~"time.*" | keep app, ms"#,
        &[
            r#"1 {app="a"} [ms=10] {"level":"info","ms":10,"user":{"id":"u1"}}"#,
            r#"2 {app="a"} [ms=900] {"level":"error","ms":900,"msg":"timed out"}"#,
        ],
    );
    check_log(
        r#"{app="b"} | logfmt | dur > 1s"#,
        &[r#"3 {app="b"} [dur=1.5s level=warn msg=hello you size=2KB] level=warn dur=1.5s size=2KB msg="hello you""#],
    );
    check_log(
        r#"{app="b"} | logfmt | size > 2.5KB, dur<1s | keep app, app_extracted"#,
        &[r#"5 {app="b"} [app_extracted=other] level=info dur=20ms size=3KB app=other"#],
    );
    check_log(
        r#"{app="b"} | logfmt | size=2000B | label_format took=dur | keep took"#,
        &[r#"3 {} [took=1.5s] level=warn dur=1.5s size=2KB msg="hello you""#],
    );
    check_log(
        r#"{app="b"} | logfmt | level > 5 | keep app"#,
        &[
            r#"3 {app="b"} [__error__=LabelFilterErr] level=warn dur=1.5s size=2KB msg="hello you""#,
            r#"5 {app="b"} [__error__=LabelFilterErr] level=info dur=20ms size=3KB app=other"#,
        ],
    );
    check_log(
        r#"{app="b"} | pattern "level=<lvl> dur=<d> " | lvl="info" | keep lvl"#,
        &[r#"5 {} [lvl=info] level=info dur=20ms size=3KB app=other"#],
    );
    check_log(
        r#"{app="b"} | regexp "size=(?P<kb>\\d)KB" | kb=3 | keep kb"#,
        &[r#"5 {} [kb=3] level=info dur=20ms size=3KB app=other"#],
    );
}

#[test]
fn metadata_needs_no_parser() {
    check_log(r#"{app=~".+"} | pod="p1""#, &[r#"5 {app="b"} [pod:p1] level=info dur=20ms size=3KB app=other"#]);
    check_log(
        r#"{app="a"} | trace_id="t1" | drop trace_id"#,
        &[r#"2 {app="a"} [] {"level":"error","ms":900,"msg":"timed out"}"#],
    );
}

#[test]
fn templates_rewrite_lines_and_labels() {
    let logs = load("1|app=x|pod=p1|{\"msg\":\"Hi\",\"ms\":\"250\"}");
    let check = |query: &str, want: &str| {
        let got = log(&logs, &format!("{{app=\"x\"}} {query}"), 9, Direction::Forward);
        assert_eq!(got.rsplit_once("] ").unwrap().1, want, "{query}");
    };
    check(r#"| json | line_format "{{.msg | lower}} {{.pod}}{{.none}} {{div .ms 50}}""#, "hi p1 5");
    check(
        r#"| json | line_format "{{if gt (int .ms) 100}}slow{{else}}ok{{end}} {{__timestamp__ | unixEpoch}}""#,
        "slow 1",
    );
    check(
        r#"| json | line_format "{{regexReplaceAll \"(H)i\" .msg \"${1}o\"}} {{trunc 1 .msg}} {{alignRight 4 .msg}}""#,
        "Ho H   Hi",
    );
    check(r#"| line_format "{{(fromJson __line__).msg}} {{default \"-\" .none}}""#, "Hi -");
    check(r#"| line_format "a={{.app}} b=2" | logfmt | line_format "{{.b}}{{.a}}""#, "2x");
    check(
        r#"| json | label_format both="{{.msg}}-{{.pod}}", took=ms | line_format "{{.both}} {{.took}}{{.ms}}""#,
        "Hi-p1 250",
    );
    let failed = log(&logs, r#"{app="x"} | line_format "{{div 1 0}}" | keep app"#, 9, Direction::Forward);
    assert_eq!(failed, r#"1 {app="x"} [__error__=TemplateFormatErr] {"msg":"Hi","ms":"250"}"#);
}

#[test]
fn unpack_brings_back_the_packed_line() {
    let logs = load(r#"1|app=x||{"_entry":"the line","pod":"p","n":1}"#);
    assert_eq!(log(&logs, r#"{app="x"} | unpack |= "the""#, 9, Direction::Forward), r#"1 {app="x"} [pod=p] the line"#);
}

#[test]
fn the_limit_keeps_the_newest_or_the_oldest_of_all_streams() {
    let logs = load("1|a=1||l1\n2|a=2||l2\n3|a=1||l3\n4|a=2||l4\n5|a=1||l5");
    let check = |limit, direction, want: &str| {
        assert_eq!(log(&logs, r#"{a=~".+"}"#, limit, direction), want, "{limit} {direction:?}");
    };
    check(3, Direction::Backward, "5 {a=\"1\"} [] l5\n3 {a=\"1\"} [] l3\n4 {a=\"2\"} [] l4");
    check(2, Direction::Forward, "1 {a=\"1\"} [] l1\n2 {a=\"2\"} [] l2");
}

#[track_caller]
fn check_metric(query: &str, want: &str) {
    // One line a second from 1 to 5; windows are (t − range, t].
    let got = metric(&load(APP), query, 2, 6, 2);
    assert_eq!(got.as_deref(), Ok(want), "query: {query}");
}

#[test]
fn range_aggregations() {
    check_metric(
        r#"count_over_time({app="b"}[2s])"#,
        r#"{app="b"} 1@4
{app="b", pod="p1"} 1@6"#,
    );
    check_metric(r#"sum(count_over_time({app=~".+"}[2s]))"#, "{} 2@2 2@4 1@6");
    check_metric(
        r#"sum by (app) (rate({app=~".+"}[4s]))"#,
        "{app=\"a\"} 0.5@2 0.75@4 0.25@6\n{app=\"b\"} 0.25@4 0.5@6",
    );
    check_metric(r#"sum(count_over_time({app=~".+"}[2s] offset 2s))"#, "{} 2@4 2@6");
    check_metric(r#"sum(bytes_over_time({app="a"} |= "not" [2s]))"#, "{} 8@4");
    check_metric(
        r#"sum by (level) (count_over_time({app="b"} | logfmt [10s]))"#,
        "{level=\"info\"} 1@6\n{level=\"warn\"} 1@4 1@6",
    );
    check_metric(r#"absent_over_time({app="b"}[1s])"#, "{app=\"b\"} 1@2 1@4 1@6");
    check_metric(r#"absent_over_time({app="zz", x!="y"}[1s])"#, "{app=\"zz\"} 1@2 1@4 1@6");
    check_metric(r#"count_over_time({app="zz"}[1s])"#, "");
    check_metric(
        r#"count_over_time({app="a"} |= "level" | json | drop user_id, msg, level, ms, trace_id [10s])"#,
        "{app=\"a\"} 2@2 2@4 2@6",
    );
}

#[test]
fn unwrapped_values() {
    check_metric(
        r#"sum_over_time({app="a"} |= "ms" | json | unwrap ms [10s]) > 100"#,
        "{app=\"a\", level=\"error\", msg=\"timed out\", trace_id=\"t1\"} 900@2 900@4 900@6",
    );
    check_metric(
        r#"max_over_time({app="a"} | json | __error__="" | unwrap ms [10s]) by (app)"#,
        "{app=\"a\"} 900@2 900@4 900@6",
    );
    check_metric(r#"avg_over_time({app="a"} |= "ms" | json | unwrap ms [10s]) by ()"#, "{} 455@2 455@4 455@6");
    check_metric(
        r#"quantile_over_time(0.5, {app="a"} |= "ms" | json | unwrap ms [10s]) by (app)"#,
        "{app=\"a\"} 455@2 455@4 455@6",
    );
    check_metric(r#"sum(sum_over_time({app="b"} | logfmt | unwrap duration(dur) [10s]))"#, "{} 1.5@4 1.52@6");
    check_metric(
        r#"last_over_time({app="b"} | logfmt | unwrap bytes(size) [10s]) by (app)"#,
        "{app=\"b\"} 2000@4 3000@6",
    );
    check_metric(
        r#"stddev_over_time({app="a"} |= "ms" | json | unwrap ms [10s]) by (app)"#,
        "{app=\"a\"} 445@2 445@4 445@6",
    );
    check_metric(r#"sum(rate({app="b"} | logfmt | unwrap bytes(size) [10s]))"#, "{} 200@4 500@6");
    check_metric(r#"sum(count_over_time({app="a"} | json | drop __error__ [10s]))"#, "{} 2@2 3@4 3@6");
    check_metric(r#"sum(sum_over_time({app="a"} | json | unwrap ms | __error__="" [10s]))"#, "{} 910@2 910@4 910@6");
}

#[test]
fn vector_operations() {
    check_metric(r#"topk(1, sum by (app) (count_over_time({app=~".+"}[10s])))"#, "{app=\"a\"} 2@2 3@4 3@6");
    check_metric(
        r#"bottomk(1, sum by (app) (count_over_time({app=~".+"}[10s])))"#,
        "{app=\"a\"} 2@2\n{app=\"b\"} 1@4 2@6",
    );
    check_metric(
        r#"sum(count_over_time({app="a"}[10s])) / sum(count_over_time({app=~".+"}[10s])) * 100"#,
        "{} 100@2 75@4 60@6",
    );
    check_metric(r#"1 + 2 * 3 ^ 2"#, "19");
    check_metric(r#"vector(1)+vector(1)"#, "{} 2@2 2@4 2@6");
    check_metric(r#"sum(count_over_time({app="zz"}[10s])) or vector(0)"#, "{} 0@2 0@4 0@6");
    check_metric(
        r#"sum by (app) (count_over_time({app=~".+"}[10s])) >= bool 3"#,
        "{app=\"a\"} 0@2 1@4 1@6\n{app=\"b\"} 0@4 0@6",
    );
    check_metric(
        r#"sum by (app) (count_over_time({app=~".+"}[10s])) unless sum by (app) (count_over_time({app="b"}[10s]))"#,
        "{app=\"a\"} 2@2 3@4 3@6",
    );
    check_metric(
        r#"sum by (app) (count_over_time({app=~".+"}[10s])) / on () group_left sum(count_over_time({app=~".+"}[10s]))"#,
        "{app=\"a\"} 1@2 0.75@4 0.6@6\n{app=\"b\"} 0.25@4 0.4@6",
    );
    check_metric(
        r#"label_replace(sum by (app) (count_over_time({app="a"}[10s])), "svc", "x-$1", "app", "(.*)")"#,
        "{app=\"a\", svc=\"x-a\"} 2@2 3@4 3@6",
    );
    check_metric(r#"count(sum by (app) (count_over_time({app=~".+"}[10s])))"#, "{} 1@2 2@4 2@6");
}

#[test]
fn a_pipeline_error_fails_a_metric_query() {
    let error = metric(&load(APP), r#"sum by (x) (count_over_time({app="a"} | json [10s]))"#, 6, 6, 0).unwrap_err();
    assert!(error.starts_with("pipeline error: 'JSONParserErr' for series: '{__error__=\"JSONParserErr\""), "{error}");
    let error = metric(&load(APP), r#"sum_over_time({app="b"} | logfmt | unwrap level [10s])"#, 6, 6, 0).unwrap_err();
    assert!(error.starts_with("pipeline error: 'SampleExtractionErr'"), "{error}");
}

#[test]
fn errors_count_where_the_query_asks_for_them() {
    // Nothing of the line is needed, so no parser runs and nothing fails.
    check_metric(r#"sum(count_over_time({app="a"} | json [10s]))"#, "{} 2@2 3@4 3@6");
    check_metric(
        r#"sum by (__error__) (count_over_time({app="a"} | json [10s]))"#,
        "{} 2@2 2@4 2@6\n{__error__=\"JSONParserErr\"} 1@4 1@6",
    );
    check_metric(r#"sum(count_over_time({app="a"} | json | __error__="JSONParserErr" [10s]))"#, "{} 1@4 1@6");
    // A parser stops once it has all that is needed; the fault behind does not count.
    let cut = load(r#"1|app=x||{"level":"info","rest":"#);
    let by =
        |name: &str| metric(&cut, &format!("sum by ({name}) (count_over_time({{app=\"x\"}} | json [10s]))"), 6, 6, 0);
    assert_eq!(by("level").as_deref(), Ok("{level=\"info\"} 1@6"));
    assert!(by("rest").unwrap_err().starts_with("pipeline error: 'JSONParserErr'"));
}

/// Corners of the pipeline; each answer was compared with Loki 3.7's own engine.
#[test]
fn corners_are_as_loki_has_them() {
    let logs = load(concat!(
        r#"1|app=x|k=meta|{"level":"a","level":"b","k":"p","app":"in","e":"","o":{"":"v"," ":"w"},"d":"1d"}"#,
        "\n2|app=x|app=twice|level=a level=b k=c=d e= d=90s\n",
    ));
    let check = |query: &str, want: &[&str]| {
        let got = log(&logs, &format!("{{app=\"x\"}} {query} | line_format \"-\""), 9, Direction::Forward);
        assert_eq!(got.lines().collect::<Vec<_>>(), want, "{query}");
    };
    check(r#"|= "{" | json | drop d"#, &[r#"1 {app="x"} [k:meta app_extracted=in e= k_extracted=p level=a o=v] -"#]);
    check(r#"|= "{" | drop app | json | keep app, app_extracted"#, &[r#"1 {} [app_extracted=in] -"#]);
    check(r#"!= "{" | keep app_extracted"#, &[r#"2 {} [app_extracted:twice] -"#]);
    check(r#"!= "{" | logfmt | keep level, k, e, d"#, &[r#"2 {} [d=90s level=a] -"#]);
    check(r#"!= "{" | logfmt --keep-empty | keep level, e"#, &[r#"2 {} [e= level=a] -"#]);
    check(r#"!= "{" | logfmt --strict | keep level, d"#, &[r#"2 {} [__error__=LogfmtParserErr level=a] -"#]);
    check(r#"!= "{" | logfmt l="level", nope | keep l, nope"#, &[r#"2 {} [l=b nope=] -"#]);
    check(r#"| json | d > 1s | keep d"#, &[r#"1 {} [__error__=LabelFilterErr d=1d] -"#]);
    check(r#"!= "{" | logfmt | d > 1m | keep d"#, &[r#"2 {} [d=90s] -"#]);
    check(r#"|= "{" | json z="o", y="zz", x="level" | keep x, y, z"#, &[r#"1 {} [x=a y= z={"":"v"," ":"w"}] -"#]);
    check(r#"|= "{" | json | label_format l="{{.level}}", m="{{.l}}{{.level}}" | keep l, m"#, &[r#"1 {} [l=a m=a] -"#]);
    check(r#"|= "{" | json | label_format level=level | keep level"#, &["1 {} [] -"]);
    check(r#"|= "{" | unpack"#, &[r#"1 {app="x"} [k:meta] -"#]);
    check(r#"!= "{" | json | drop __error__ | keep k"#, &["2 {} [] -"]);
}

#[test]
fn dates_and_numbers_in_templates() {
    let logs = load("500.5|app=x||line");
    let check = |template: &str, want: &str| {
        let got = log(&logs, &format!("{{app=\"x\"}} | line_format `{template}`"), 9, Direction::Forward);
        assert_eq!(got.rsplit_once("] ").map_or("dropped", |(_, line)| line), want, "{template}");
    };
    check("{{__timestamp__}}", "1970-01-01 00:08:20.5 +0000 UTC");
    check(r#"{{__timestamp__ | date "2006-01-02T15:04:05.000Z07:00"}}"#, "1970-01-01T00:08:20.500Z");
    check("{{unixEpoch __timestamp__}} {{__timestamp__ | unixEpochMillis}}", "500 500500");
    check(r#"{{toDate "2006-01-02" "2021-11-02" | date "Jan 2 2006"}}"#, "Nov 2 2021");
    check(r#"{{toDateInZone "2006-01-02 15:04" "America/New_York" "2021-11-02 10:00" | unixEpoch}}"#, "1635861600");
    check(
        r#"{{unixToTime "19373"}} {{unixToTime "1673798889902" | date "15:04:05.000"}}"#,
        "2023-01-16 00:00:00 +0000 UTC 16:08:09.902",
    );
    check(r#"{{now | date "2006"}}"#, "1970");
    check(r#"{{b64enc "hi"}} {{b64dec "aGk="}} {{b64dec "%%"}}"#, "aGk= hi illegal base64 data at input byte 0");
    check("{{addf 0.1 0.2}} {{divf 1 3}} {{mulf 1.1 1.1}} {{subf 5.5 1.1}}", "0.3 0.3333333333333333 1.21 4.4");
    check(
        r#"{{int "1.5"}} {{int "x"}} {{title "a x-y"}} {{substr 1 3 "hello"}} {{trunc -2 "hello"}}"#,
        "1 0 A X-Y el lo",
    );
    check(r#"{{lower 5}}"#, "line");
    check(r#"{{alignLeft 5 "hi"}}|{{alignLeft -1 "abc"}}|{{fromJson "no"}}"#, "hi   |abc|<no value>");
}

#[test]
fn many_to_many_is_refused() {
    let query = r#"count_over_time({app=~".+"}[10s]) / on () sum by (app) (count_over_time({app=~".+"}[10s]))"#;
    assert!(metric(&load(APP), query, 6, 6, 0).unwrap_err().contains("found duplicate series"));
}

#[test]
fn a_line_that_stands_for_others_counts_as_many_and_its_weight_is_no_label() {
    let logs = load(
        "
        1|app=a||ms=10
        2|app=a|weir_sampling_weight=9|ms=20
        3|app=a|weir_sampling_weight=x|ms=40
        ",
    );
    for (query, want) in [
        (r#"count_over_time({app="a"}[10s])"#, r#"{app="a"} 11@10"#),
        (r#"rate({app="a"} |= "20" [10s])"#, r#"{app="a"} 0.9@10"#),
        (r#"bytes_over_time({app="a"}[10s])"#, r#"{app="a"} 55@10"#),
        (r#"sum(sum_over_time({app="a"} | logfmt | unwrap ms [10s]))"#, "{} 230@10"),
        (r#"avg_over_time({app="a"} | logfmt | unwrap ms [10s])"#, r#"{app="a"} 20.90909090909091@10"#),
        (r#"max_over_time({app="a"} | logfmt | unwrap ms [10s])"#, r#"{app="a"} 40@10"#),
        (r#"count(count_over_time({app="a"}[10s]))"#, "{} 1@10"),
    ] {
        assert_eq!(metric(&logs, query, 10, 10, 1).unwrap(), want, "{query}");
    }
}
