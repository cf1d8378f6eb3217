//! Queries over a small trace, as tables: the query, and the spans it selects.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use proptest::prelude::*;
use weir_model::source::*;
use weir_model::*;
use weir_traceql::{LabelValue, MetricsParams, SearchParams, metrics, parse, parse_field, predicates, search};

const SECOND: i64 = 1_000_000_000;

fn span(trace: u8, id: u8, parent: u8, service: &str, name: &str, start_s: i64, ms: i64) -> Span {
    Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent: (parent > 0).then_some(SpanId([parent; 8])),
        name: name.into(),
        kind: SpanKind::Internal,
        start: Nanos(start_s * SECOND),
        end: Nanos(start_s * SECOND + ms * 1_000_000),
        status: SpanStatus::default(),
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        trace_state: "".into(),
        flags: 0,
        resource: Arc::new(Resource { attributes: vec![("service.name".into(), service.into())] }),
        scope: Arc::new(Scope::default()),
    }
}

/// Trace 1: gate → api → (db, cache); cache failed. Trace 2: one span whose parent is missing.
fn spans() -> Vec<TraceData> {
    let mut gate = span(1, 1, 0, "gate", "GET /", 10, 1000);
    gate.kind = SpanKind::Server;
    gate.attributes = vec![("http.status_code".into(), AttrValue::Int(500)), ("odd name".into(), AttrValue::from("x"))];
    let mut api = span(1, 2, 1, "api", "handle", 11, 500);
    api.attributes = vec![
        ("tags".into(), AttrValue::Array(vec![AttrValue::from("a"), AttrValue::from("b")])),
        ("ratio".into(), AttrValue::Double(0.5)),
        ("ok".into(), AttrValue::Bool(true)),
    ];
    let db = span(1, 3, 2, "db", "SELECT", 11, 100);
    let mut cache = span(1, 4, 2, "cache", "get", 12, 50);
    cache.status = SpanStatus { code: StatusCode::Error, message: "boom".into() };
    cache.events = vec![SpanEvent {
        at: Nanos(12 * SECOND + 5),
        name: "exception".into(),
        attributes: vec![("exception.type".into(), AttrValue::from("IO"))],
    }];
    let orphan = span(2, 9, 7, "lonely", "work", 20, 2000);
    let trace = |id: u8, spans: Vec<Span>| TraceData {
        trace_id: TraceId([id; 16]),
        spans: spans.into_iter().map(Arc::new).collect(),
    };
    vec![trace(2, vec![orphan]), trace(1, vec![gate, api, db, cache])]
}

struct VecSpans(Vec<TraceData>);
struct VecCursor(Option<Vec<TraceData>>);

impl SpanCursor for VecCursor {
    fn next(&mut self) -> Result<Option<Vec<TraceData>>, ReadError> {
        Ok(self.0.take())
    }
}

impl SpanSource for VecSpans {
    fn trace<'a>(
        &'a self,
        _tenant: &'a TenantId,
        trace_id: TraceId,
    ) -> BoxFuture<'a, Result<Option<TraceData>, ReadError>> {
        Box::pin(std::future::ready(Ok(self.0.iter().find(|t| t.trace_id == trace_id).cloned())))
    }
    fn open<'a>(
        &'a self,
        _tenant: &'a TenantId,
        _fragment: &'a SpanFragment,
        _context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn SpanCursor>, ReadError>> {
        Box::pin(std::future::ready(Ok(Box::new(VecCursor(Some(self.0.clone()))) as Box<dyn SpanCursor>)))
    }
}

/// The futures of a source in memory are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("a source in memory does not wait"),
    }
}

/// Names of the selected spans; sets apart by `|`, traces by `;`.
fn selected(query: &str) -> String {
    let query = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let params = SearchParams { start: Nanos(0), end: Nanos::MAX, limit: 20, spans_per_set: usize::MAX };
    let context = ReadContext::unlimited();
    let result = now(search(&VecSpans(spans()), &TenantId::anonymous(), query, params, &context)).unwrap();
    let set = |s: &weir_traceql::SpanSetMatch| {
        s.spans.iter().map(|m| m.span.resource.service().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let one = |t: &weir_traceql::TraceMatch| t.span_sets.iter().map(set).collect::<Vec<_>>().join(" | ");
    result.traces.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[track_caller]
fn check(query: &str, want: &str) {
    assert_eq!(selected(query), want, "query: {query}");
}

#[test]
fn filters() {
    check("", "lonely; gate api db cache");
    check("{}", "lonely; gate api db cache");
    check("{ resource.service.name = \"db\" }", "db");
    check("{ .service.name = `db` }", "db");
    check("{ status = error }", "cache");
    check("{ status != error && duration > 600ms }", "lonely; gate");
    check("{ kind = server }", "gate");
    check("{ name =~ \"GET.*\" }", "gate");
    check("{ name =~ \"GET\" }", "");
    check("{ name !~ \"GET.*|work\" }", "api db cache");
    check("{ span.http.status_code >= 500 }", "gate");
    check("{ .http.status_code = 500.0 }", "gate");
    check("{ span.\"odd name\" = \"x\" }", "gate");
    check("{ statusMessage = \"boom\" }", "cache");
    check("{ span.ratio * 2 = 1 }", "api");
    check("{ span.ok }", "api");
    check("{ !span.ok }", "");
    check("{ -span.http.status_code < 0 }", "gate");
    check("{ true }", "lonely; gate api db cache");
    check("{ span:duration = 100ms }", "db");
}

#[test]
fn comparisons_mind_types_and_absence() {
    check("{ span.http.status_code = \"500\" }", "");
    check("{ span.http.status_code != \"500\" }", "");
    check("{ span.none != 5 }", "");
    check("{ span.none = nil && name = \"handle\" }", "api");
    check("{ span.http.status_code != nil }", "gate");
    check("{ span.tags = \"b\" }", "api");
    check("{ span.tags != \"b\" }", "");
    check("{ span.tags != \"c\" }", "api");
    check("{ span.tags =~ \"a|z\" }", "api");
    check("{ span.none = span.nothing }", "");
    check("{ event:name = \"exception\" }", "cache");
    check("{ event.exception.type = \"IO\" }", "cache");
    check("{ event:timeSinceStart < 1us }", "cache");
}

#[test]
fn and_and_or_group_to_the_left() {
    // (a || b) && c, not a || (b && c).
    check("{ kind = server || status = error && duration < 100ms }", "cache");
    check("{ kind = server } || { status = error } && { name = \"nothing\" }", "");
}

#[test]
fn the_tree() {
    check("{ nestedSetParent < 0 }", "gate");
    check("{ span:childCount = 2 }", "api");
    check("{ rootServiceName = \"gate\" && rootName = \"GET /\" && name = \"get\" }", "cache");
    check("{ traceDuration > 1s && kind = server }", "gate");
    check("{ parent.resource.service.name = \"api\" }", "db cache");
    check("{ parent = nil }", "lonely; gate");
    check("{ .service.name = \"gate\" } > { }", "api");
    check("{ .service.name = \"gate\" } >> { }", "api db cache");
    check("{ .service.name = \"gate\" } >> { status = error }", "cache");
    check("{ .service.name = \"cache\" } < { }", "api");
    check("{ .service.name = \"cache\" } << { }", "gate api");
    check("{ .service.name = \"cache\" } ~ { }", "db");
    check("{ .service.name = \"gate\" } !> { }", "lonely; gate db cache");
    check("{ .service.name = \"gate\" } !>> { }", "lonely; gate");
    check("{ .service.name = \"cache\" } !~ { }", "lonely; gate api cache");
    check("{ .service.name = \"gate\" } &>> { status = error }", "gate cache");
    check("{ .service.name = \"db\" } &~ { status = error }", "db cache");
    check("{ .service.name = \"gate\" } && { .service.name = \"db\" }", "gate db");
    check("{ .service.name = \"gate\" } && { .service.name = \"no\" }", "");
    check("{ .service.name = \"gate\" } || { .service.name = \"lonely\" }", "lonely; gate");
}

#[test]
fn pipelines() {
    check("{} | count() > 1", "gate api db cache");
    check("{} | avg(duration) >= 2s", "lonely");
    check("{} | max(duration) - min(duration) > 900ms", "gate api db cache");
    check("{} | sum(span.http.status_code) = 500", "gate api db cache");
    check("{} | { status = error }", "cache");
    check("{ duration > 60ms } | by(kind)", "lonely; gate | api db");
    check("{} | by(resource.service.name) | count() > 1", "");
    check("{} | by(kind) | count() > 2 | coalesce()", "api db cache");
    check("({ kind = server } | count() = 1) && ({ status = error })", "gate cache");
    check("{ status = error } | select(resource.service.name, span.x)", "cache");
}

#[test]
fn answers_name_what_the_query_names() {
    let query = parse("{ span.http.status_code > 1 } | select(resource.service.name) | by(kind)").unwrap();
    let params = SearchParams { start: Nanos(0), end: Nanos::MAX, limit: 1, spans_per_set: 3 };
    let context = ReadContext::unlimited();
    let result = now(search(&VecSpans(spans()), &TenantId::anonymous(), query, params, &context)).unwrap();
    let set = &result.traces[0].span_sets[0];
    let names: Vec<&str> = set.spans[0].attributes.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["http.status_code", "service.name", "kind"]);
    assert_eq!(set.attributes, [("by(kind)".to_owned(), AttrValue::from("server"))]);
    assert_eq!(result.traces[0].services["cache"], (1, 1));
}

fn metric_lines(query: &str) -> String {
    metric_lines_of(spans(), query)
}

fn metric_lines_of(spans: Vec<TraceData>, query: &str) -> String {
    let parsed = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let params = MetricsParams { start: Nanos(0), end: Nanos(30 * SECOND), step_nanos: 10 * SECOND, exemplars: 0 };
    let context = ReadContext::unlimited();
    let result = now(metrics(&VecSpans(spans), &TenantId::anonymous(), parsed, params, &context)).unwrap();
    let label = |(name, value): &(String, LabelValue)| match value {
        LabelValue::Nil => format!("{name}=nil"),
        LabelValue::Attribute(value) => format!("{name}={}", value.to_text()),
    };
    let one = |s: &weir_traceql::MetricsSeries| {
        let labels: Vec<String> = s.labels.iter().map(label).collect();
        let samples: Vec<String> = s.samples.iter().map(|(at, v)| format!("{v}@{}", at.0 / SECOND)).collect();
        format!("{} {}", labels.join(","), samples.join(" "))
    };
    let got: Vec<String> = result.series.iter().map(one).collect();
    got.join("\n")
}

#[track_caller]
fn check_metrics(query: &str, want: &str) {
    assert_eq!(metric_lines(query), want, "query: {query}");
}

#[test]
fn compare_counts_values_inside_and_outside_a_selection() {
    let all = metric_lines("{} | compare({ status = error }, 2)");
    let of = |text: &str, name: &str| -> Vec<String> {
        let marked = format!(",{name}=");
        text.lines().filter(|line| line.contains(&marked)).map(str::to_owned).collect()
    };
    // Gate starts on the second 10, the end of the first step; api, db, cache and lonely in the second.
    assert_eq!(
        of(&all, "resource.service.name"),
        [
            "__meta_error=__too_many_values__,resource.service.name=nil ",
            "__meta_type=baseline,resource.service.name=api 0@10 1@20 0@30",
            "__meta_type=baseline,resource.service.name=db 0@10 1@20 0@30",
            "__meta_type=baseline_total,resource.service.name=nil 1@10 3@20 0@30",
            "__meta_type=selection,resource.service.name=cache 0@10 1@20 0@30",
            "__meta_type=selection_total,resource.service.name=nil 0@10 1@20 0@30",
        ]
    );
    assert_eq!(
        of(&all, "statusMessage"),
        [
            "__meta_type=selection,statusMessage=boom 0@10 1@20 0@30",
            "__meta_type=selection_total,statusMessage=nil 0@10 1@20 0@30",
        ]
    );
    // Nobody starts within the window, so nobody is selected.
    let window = metric_lines("{} | compare({ status = error }, 5, 1, 2)");
    assert!(window.lines().all(|line| !line.contains("selection")), "{window}");
}

#[test]
fn spans_become_series() {
    check_metrics("{} | rate()", "__name__=rate 0.1@10 0.4@20 0@30");
    check_metrics(
        "{ status = error } | count_over_time() by (resource.service.name)",
        "resource.service.name=cache 0@10 1@20 0@30",
    );
    check_metrics("{} | max_over_time(duration)", "__name__=max_over_time 1@10 2@20");
    check_metrics(
        "{ duration < 600ms } | sum_over_time(duration) by (span.ratio)",
        "span.ratio=0.5 0.5@20\nspan.ratio=nil 0.15000000000000002@20",
    );
    check_metrics("{} | avg_over_time(span.http.status_code)", "__name__=avg_over_time 500@10");
    check_metrics("{ status = error } | quantile_over_time(span.http.status_code, .5)", "");
    check_metrics("{ .http.status_code > 0 } | quantile_over_time(span.http.status_code, 1)", "p=1.0 512@10");
    check_metrics(
        "{ .http.status_code > 0 } | histogram_over_time(span.http.status_code)",
        "__bucket=512.0 1@10 0@20 0@30",
    );
    check_metrics(
        "{} | count_over_time() by (resource.service.name) | topk(1)",
        "resource.service.name=api 1@20 0@30\nresource.service.name=gate 1@10",
    );
    check_metrics("{} | count_over_time() > 1", "__name__=count_over_time 4@20");
}

#[test]
fn a_span_that_stands_for_others_counts_as_many() {
    let kept = |trace: u8, ms: i64, weight: f64| {
        let mut span = span(trace, 1, 0, "api", "GET", 5, ms);
        span.attributes.push((weir_model::span::SAMPLING_WEIGHT.into(), AttrValue::Double(weight)));
        TraceData { trace_id: span.trace_id, spans: vec![Arc::new(span)] }
    };
    // An error that was kept for itself, and one of ten of the others.
    let data = vec![kept(1, 1000, 1.0), kept(2, 100, 10.0), kept(3, 100, f64::NAN)];
    let check = |query: &str, want: &str| assert_eq!(metric_lines_of(data.clone(), query), want, "{query}");
    check("{} | count_over_time()", "__name__=count_over_time 12@10 0@20 0@30");
    check("{} | rate()", "__name__=rate 1.2@10 0@20 0@30");
    check("{} | sum_over_time(duration)", "__name__=sum_over_time 2.1@10");
    check("{} | avg_over_time(duration)", "__name__=avg_over_time 0.17500000000000002@10");
    check("{} | max_over_time(duration)", "__name__=max_over_time 1@10");
    check(
        "{} | histogram_over_time(duration)",
        "__bucket=0.134217728 11@10 0@20 0@30\n__bucket=1.073741824 1@10 0@20 0@30",
    );
    let compared = metric_lines_of(data.clone(), "{} | compare({ duration > 500ms })");
    assert!(compared.contains("__meta_type=baseline,name=GET 11@10"), "{compared}");
}

#[test]
fn mistakes_are_placed() {
    let refused = |query: &str, want: &str| {
        let error = parse(query).unwrap_err().to_string();
        assert!(error.contains(want), "{query}: {error}");
    };
    refused("{ duration > }", "line 1, col 14: syntax error: unexpected }");
    refused("{ foo = 1 }", "line 1, col 3: syntax error: unexpected `foo`: write .foo");
    refused("{ name = \"x }", "line 1, col 10: syntax error: literal not terminated");
    refused("{ name =~ \"(\" }", "line 1, col 11: error parsing regexp");
    refused("{ name = 5", "unexpected $end");
    refused("{ other.a = 5 }", "unknown scope `other`");
    refused("{ span:what = 5 }", "unknown intrinsic `span:what`");
    refused("{} | compare()", "unexpected )");
    refused("{} | compare({status=error}, 0)", "positive integers");
    refused("{} | compare({status=error}, 5, 20, 10)", "end timestamp must be greater");
    refused("{} | compare({status=error}) by (name)", "unexpected `by`");
    refused("{} | quantile_over_time(duration)", "needs a quantile");
    refused("{} | nothing()", "unexpected `nothing`");
    refused("{} {}", "unexpected {");
    refused(&"(".repeat(1000), "nested deeper");
    refused(&format!("{{ {} }}", "!".repeat(1000)), "nested deeper");
    assert!(parse("{} | rate() with(exemplars=true, most_recent=true)").unwrap().hint("exemplars").is_some());
}

#[test]
fn fields_are_read_alone() {
    let check = |text: &str, want: &str| assert_eq!(parse_field(text).unwrap().to_string(), want, "{text}");
    check("resource.service.name", "resource.service.name");
    check(".http.url", ".http.url");
    check("span.\"odd name\"", "span.odd name");
    check("status", "status");
    check("event:name", "event:name");
    check("parent.span.a", "parent.span.a");
    assert!(parse_field("what").is_err());
    assert!(parse_field("span.a = 5").is_err());
}

proptest! {
    /// A source that skips traces by the predicates skips none that match.
    #[test]
    fn predicates_are_sound(query in prop::sample::select(vec![
        "{ status = error }", "{ name = \"get\" } && { duration > 400ms }", "{ status = error || name = \"work\" }",
        "{ resource.service.name = \"gate\" } !>> { status = error }", "{ duration >= 2s } | { name = \"work\" }",
        "{ status = error } ~ { name = \"SELECT\" }", "{ name = \"work\" } || { status = error }",
    ])) {
        let query = parse(query).unwrap();
        for trace in spans() {
            let met = predicates(&query).iter().all(|p| trace.spans.iter().any(|s| match p {
                SpanPredicate::Service(name) => s.resource.service() == name,
                SpanPredicate::Name(name) => *s.name == **name,
                SpanPredicate::Error => s.is_error(),
                SpanPredicate::MinDuration(d) => s.duration_nanos() >= *d,
                SpanPredicate::Attribute(name, wanted) => {
                    let holds = |value: Option<&AttrValue>| match value {
                        Some(AttrValue::Array(items)) => items.contains(wanted),
                        value => value == Some(wanted),
                    };
                    holds(s.get(name)) || holds(s.resource.get(name))
                }
            }));
            prop_assert!(met || !weir_traceql::matches_trace(&query, &trace));
        }
    }

    #[test]
    fn arbitrary_text_never_panics(
        text in "\\PC{0,80}",
        words in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "(", ")", "name", "=", "\"x\"", "|", "||", "&&", ">>", "!~", "count()", "rate()", "by", "span.a", ".b", "5", "1h",
            "-", "^", ",", "select", "with", "é", "`", "\"", "parent.", "event:", "nil",
        ]), 0..25),
    ) {
        let _ = parse(&text);
        let _ = parse(&words.join(" "));
        let _ = parse(&words.concat());
    }
}
