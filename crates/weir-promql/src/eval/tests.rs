use crate::testing::{VecSource, instant, range, show};
use crate::{QueryError, QueryResult};

#[track_caller]
fn check(load: &str, query: &str, at_secs: f64, want: &str) {
    let got = show(&instant(&VecSource::load(load), query, at_secs));
    assert_eq!(got, want, "query: {query}");
}

#[track_caller]
fn check_range(load: &str, query: &str, (start, end, step): (i64, i64, u64), want: &str) {
    let got = show(&range(&VecSource::load(load), query, start, end, step));
    assert_eq!(got, want, "query: {query}");
}

const HTTP: &str = r#"load 1m
http_requests_total{job="api",instance="0"} 0+10x10
http_requests_total{job="api",instance="1"} 0+20x10
http_requests_total{job="web",instance="0"} 0+30x10
"#;

#[test]
fn aggregations() {
    for (query, want) in [
        ("sum(http_requests_total)", "{} 600"),
        ("sum by (job) (http_requests_total)", "{job=\"api\"} 300\n{job=\"web\"} 300"),
        ("sum without (instance) (http_requests_total)", "{job=\"api\"} 300\n{job=\"web\"} 300"),
        ("avg(http_requests_total)", "{} 200"),
        ("count(http_requests_total)", "{} 3"),
        ("min(http_requests_total)", "{} 100"),
        ("max by (job) (http_requests_total)", "{job=\"api\"} 200\n{job=\"web\"} 300"),
        ("group(http_requests_total)", "{} 1"),
        ("stddev(http_requests_total)", "{} 81.64965809277261"),
        ("stdvar(http_requests_total{job=\"api\"})", "{} 2500"),
        ("quantile(0.5, http_requests_total)", "{} 200"),
        (
            "topk(2, http_requests_total)",
            "http_requests_total{instance=\"0\", job=\"web\"} 300\nhttp_requests_total{instance=\"1\", job=\"api\"} 200",
        ),
        ("bottomk(1, http_requests_total)", "http_requests_total{instance=\"0\", job=\"api\"} 100"),
        ("topk(0, http_requests_total)", ""),
        ("count(limitk(2, http_requests_total))", "{} 2"),
        (
            "count_values by (job) (\"v\", http_requests_total)",
            "{job=\"api\", v=\"100\"} 1\n{job=\"api\", v=\"200\"} 1\n{job=\"web\", v=\"300\"} 1",
        ),
        ("sum(nothing)", ""),
    ] {
        check(HTTP, query, 600.0, want);
    }
}

#[test]
fn rates() {
    for (query, want) in [
        // Samples at 5:00 (left out: left-open), 6:00 … 10:00.
        ("rate(http_requests_total{job=\"web\"}[5m])", "{instance=\"0\", job=\"web\"} 0.5"),
        ("increase(http_requests_total{job=\"web\"}[5m])", "{instance=\"0\", job=\"web\"} 150"),
        ("irate(http_requests_total{job=\"web\"}[5m])", "{instance=\"0\", job=\"web\"} 0.5"),
        ("delta(http_requests_total{job=\"web\"}[5m])", "{instance=\"0\", job=\"web\"} 150"),
        ("idelta(http_requests_total{job=\"web\"}[5m])", "{instance=\"0\", job=\"web\"} 30"),
        ("deriv(http_requests_total{job=\"web\"}[5m])", "{instance=\"0\", job=\"web\"} 0.5"),
        ("predict_linear(http_requests_total{job=\"web\"}[5m], 60)", "{instance=\"0\", job=\"web\"} 330"),
        ("rate(http_requests_total{job=\"web\"}[1m])", ""),
    ] {
        check(HTTP, query, 600.0, want);
    }
    // 0 10 | 3 13: the reset at 3 adds the 10 before it.
    let reset = "load 1m\nx_total 0 10 3 13";
    check(reset, "increase(x_total[4m])", 180.0, "{} 23");
    check(reset, "resets(x_total[4m])", 180.0, "{} 1");
    check(reset, "changes(x_total[4m])", 180.0, "{} 3");
}

#[test]
fn over_time() {
    let load = "load 1m\nx 1 2 3 4 _ 6";
    for (query, want) in [
        ("avg_over_time(x[5m])", "{} 3.75"),
        ("min_over_time(x[5m])", "{} 2"),
        ("max_over_time(x[5m])", "{} 6"),
        ("sum_over_time(x[5m])", "{} 15"),
        ("count_over_time(x[5m])", "{} 4"),
        ("last_over_time(x[5m])", "x 6"),
        ("first_over_time(x[5m])", "x 2"),
        ("present_over_time(x[5m])", "{} 1"),
        ("stdvar_over_time(x[5m])", "{} 2.1875"),
        ("quantile_over_time(0.5, x[5m])", "{} 3.5"),
        ("mad_over_time(x[5m])", "{} 1"),
        ("absent_over_time(x{a=\"b\"}[5m])", "{a=\"b\"} 1"),
        ("absent_over_time(x[5m])", ""),
        ("max_over_time((x * 2)[4m:1m])", "{} 12"),
    ] {
        check(load, query, 300.0, want);
    }
}

#[test]
fn lookback_is_left_open_and_stale_markers_end_a_series() {
    let load = "load 1m\nx 1\ny 1 stale";
    check(load, "x", 299.999, "x 1");
    check(load, "x", 300.0, "");
    check(load, "y", 59.0, "y 1");
    check(load, "y", 61.0, "");
    check(load, "count_over_time(y[5m])", 61.0, "{} 1");
    check_range(load, "x", (0, 400, 100), "x 1@0 1@100 1@200");
}

#[test]
fn offsets_and_at() {
    let load = "load 1m\nx 0+1x10";
    for (query, want) in [
        ("x offset 2m", "x 8"),
        ("x offset -2m", "x 10"),
        ("x @ 120", "x 2"),
        ("x @ end()", "x 10"),
        ("x @ start() offset 1m", "x 9"),
        ("sum_over_time(x[2m] @ 120)", "{} 3"),
        ("sum_over_time(x[2m:1m] @ 120)", "{} 3"),
        ("timestamp(x @ 130)", "{} 120"),
        ("timestamp(x)", "{} 600"),
        ("x[2m] @ 120", "x 1@60 2@120"),
        ("x[2m:1m] @ 130", "x 1@60 2@120"),
    ] {
        check(load, query, 600.0, want);
    }
    check_range(load, "x @ end() - x @ start()", (120, 240, 60), "{} 2@120 2@180 2@240");
    check_range(load, "sum_over_time(x[2m] @ 120)", (0, 120, 60), "{} 3@0 3@60 3@120");
}

#[test]
fn binary_operators() {
    let load = r#"load 1m
a{l="x"} 6
a{l="y"} 4
b{l="x"} 3
b{l="z"} 1
info{l="x",version="7"} 1
info{l="y",version="8"} 1
"#;
    for (query, want) in [
        ("1 + 2 * 3", "7"),
        ("2 ^ 3 ^ 2", "512"),
        ("-1 ^ 2", "-1"),
        ("7 % 4", "3"),
        ("1 > bool 2", "0"),
        ("a + b", "{l=\"x\"} 9"),
        ("a > 5", "a{l=\"x\"} 6"),
        ("5 < a", "a{l=\"x\"} 6"),
        ("a > bool 5", "{l=\"x\"} 1\n{l=\"y\"} 0"),
        ("a > b", "a{l=\"x\"} 6"),
        ("a and b", "a{l=\"x\"} 6"),
        ("a unless b", "a{l=\"y\"} 4"),
        ("a or b", "a{l=\"x\"} 6\na{l=\"y\"} 4\nb{l=\"z\"} 1"),
        ("a or on() b", "a{l=\"x\"} 6\na{l=\"y\"} 4"),
        ("a * on (l) group_left (version) info", "{l=\"x\", version=\"7\"} 6\n{l=\"y\", version=\"8\"} 4"),
        ("info * on (l) group_right (version) a", "{l=\"x\", version=\"7\"} 6\n{l=\"y\", version=\"8\"} 4"),
        ("a * ignoring (version) info", "{l=\"x\"} 6\n{l=\"y\"} 4"),
        (
            "a + on () b",
            "error: found duplicate series for the match group {} on the right hand-side of the operation: \
             [{__name__=\"b\", l=\"x\"}, {__name__=\"b\", l=\"z\"}];many-to-many matching not allowed: matching \
             labels must be unique on one side",
        ),
        (
            "a + on () sum(b)",
            "error: multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
        ),
        ("{__name__=~\"a|b\"} * 2", "error: vector cannot contain metrics with the same labelset"),
        ("-a", "{l=\"x\"} -6\n{l=\"y\"} -4"),
        ("a / 0", "{l=\"x\"} +Inf\n{l=\"y\"} +Inf"),
        ("\"text\"", "text"),
    ] {
        check(load, query, 0.0, want);
    }
}

#[test]
fn functions() {
    let load = "load 1m\nx{a=\"one\",b=\"2\"} -1.5\ny NaN\nz 3\n";
    for (query, want) in [
        ("abs(x)", "{a=\"one\", b=\"2\"} 1.5"),
        ("ceil(x)", "{a=\"one\", b=\"2\"} -1"),
        ("floor(x)", "{a=\"one\", b=\"2\"} -2"),
        ("round(x)", "{a=\"one\", b=\"2\"} -1"),
        ("round(x, 0.4)", "{a=\"one\", b=\"2\"} -1.6"),
        ("sgn(x)", "{a=\"one\", b=\"2\"} -1"),
        ("clamp(x, -1, 1)", "{a=\"one\", b=\"2\"} -1"),
        ("clamp(x, 1, -1)", ""),
        ("clamp_min(x, 0)", "{a=\"one\", b=\"2\"} 0"),
        ("clamp_max(z, 2)", "{} 2"),
        ("clamp_max(y, 2)", "{} NaN"),
        ("sqrt(z * 3)", "{} 3"),
        ("exp(vector(0))", "{} 1"),
        ("ln(vector(1))", "{} 0"),
        ("log2(vector(8))", "{} 3"),
        ("log10(vector(1000))", "{} 3"),
        ("pi()", "3.141592653589793"),
        ("deg(vector(pi()))", "{} 180"),
        ("scalar(z)", "3"),
        ("scalar({__name__=~\".+\"})", "NaN"),
        ("scalar(nothing)", "NaN"),
        ("vector(1)", "{} 1"),
        ("time()", "0"),
        ("absent(x)", ""),
        ("absent(nothing{a=\"b\",c=~\"d\"})", "{a=\"b\"} 1"),
        ("absent(sum(nothing))", "{} 1"),
        ("label_replace(x, \"c\", \"$1-$2\", \"a\", \"(o)(.*)\")", "x{a=\"one\", b=\"2\", c=\"o-ne\"} -1.5"),
        ("label_replace(x, \"a\", \"\", \"b\", \"2\")", "x{b=\"2\"} -1.5"),
        ("label_replace(x, \"c\", \"$1\", \"a\", \"no(.*)\")", "x{a=\"one\", b=\"2\"} -1.5"),
        ("label_join(x, \"c\", \"-\", \"a\", \"b\")", "x{a=\"one\", b=\"2\", c=\"one-2\"} -1.5"),
        ("sort_desc({__name__=~\".+\"})", "z 3\nx{a=\"one\", b=\"2\"} -1.5\ny NaN"),
        ("sort({__name__=~\".+\"})", "x{a=\"one\", b=\"2\"} -1.5\nz 3\ny NaN"),
        ("year(vector(1136239445))", "{} 2006"),
        ("month(vector(1136239445))", "{} 1"),
        ("day_of_month(vector(1136239445))", "{} 2"),
        ("day_of_week(vector(1136239445))", "{} 1"),
        ("hour(vector(1136239445))", "{} 22"),
        ("minute(vector(1136239445))", "{} 4"),
        ("days_in_month(vector(1454284800))", "{} 29"),
        ("year()", "{} 1970"),
    ] {
        check(load, query, 0.0, want);
    }
}

#[test]
fn histogram_quantiles() {
    let load = r#"load 1m
h_bucket{le="0.1"} 0+1x10
h_bucket{le="0.5"} 0+3x10
h_bucket{le="1"} 0+4x10
h_bucket{le="+Inf"} 0+4x10
g_bucket{le="1"} 10
g_bucket{le="2"} 9
g_bucket{le="+Inf"} 20
i_bucket{le="1"} 5
"#;
    check(load, "histogram_quantile(0.5, h_bucket)", 600.0, "{} 0.30000000000000004");
    check(load, "histogram_quantile(0.95, sum by (le) (h_bucket))", 600.0, "{} 0.9");
    check(load, "histogram_quantile(1.5, h_bucket)", 600.0, "{} +Inf");
    check(load, "histogram_quantile(0.9, i_bucket)", 0.0, "{} NaN");
    let forced = instant(&VecSource::load(load), "histogram_quantile(0.5, g_bucket)", 0.0).unwrap();
    assert!(forced.infos[0].contains("monotonicity"), "{:?}", forced.infos);
}

#[test]
fn ranges_are_columns() {
    let load = "load 1m\nx{a=\"1\"} 0+1x5\nx{a=\"2\"} _ _ 5 stale";
    check_range(load, "x", (0, 180, 60), "x{a=\"1\"} 0@0 1@60 2@120 3@180\nx{a=\"2\"} 5@120");
    check_range(load, "sum(x)", (0, 180, 60), "{} 0@0 1@60 7@120 3@180");
    check_range(load, "topk(1, x)", (60, 180, 60), "x{a=\"1\"} 1@60 3@180\nx{a=\"2\"} 5@120");
    check_range(load, "x > 1", (0, 180, 60), "x{a=\"1\"} 2@120 3@180\nx{a=\"2\"} 5@120");
    check_range(load, "time()", (0, 120, 60), "{} 0@0 60@60 120@120");
    check_range(load, "3", (0, 100, 60), "{} 3@0 3@60");
    check_range(load, "absent(x{a=\"2\"})", (60, 180, 60), "{a=\"2\"} 1@60 1@180");
    check_range(load, "count_values(\"v\", x)", (120, 180, 60), "{v=\"2\"} 1@120\n{v=\"3\"} 1@180\n{v=\"5\"} 1@120");
}

#[test]
fn limits_and_refusals() {
    let source = VecSource::load("load 1m\nx 0+1x5");
    for (query, (start, end, step), want) in [
        ("x", (60, 0, 10), "error: end timestamp must not be before start time"),
        (
            "x",
            (0, 60, 0),
            "error: zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (
            "x",
            (0, 11_001, 1),
            "error: exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
             (?step=XX)",
        ),
        (
            "x[5m]",
            (0, 60, 10),
            "error: invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        (
            "sum_over_time(vector(1)[10y:1ms])",
            (0, 60, 10),
            "error: query processing would load too many samples into memory in query execution",
        ),
    ] {
        assert_eq!(show(&range(&source, query, start, end, step)), want, "{query}");
    }
}

#[test]
fn notes_name_the_metric_and_the_place() {
    let source = VecSource::load("load 1m\nx 0+1x5");
    let result = instant(&source, "sum(rate(x[5m]))", 300.0).unwrap();
    assert_eq!(
        result.infos,
        ["PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:10)"]
    );
    let result = instant(&source, "quantile(2, x)", 300.0).unwrap();
    assert_eq!(result.warnings, ["PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)"]);
}

/// Test threads have 2 MiB of stack, as the threads have on which queries run.
#[test]
fn the_deepest_expressions_fit_the_stack() {
    let n = usize::from(crate::Expr::MAX_DEPTH) - 2;
    for (query, want) in [
        (format!("1{}", " + 1".repeat(n)), format!("{}", n + 1)),
        (format!("{}x{}", "abs(".repeat(n), ")".repeat(n)), "{} 2".to_owned()),
        (format!("{}x{}", "max(".repeat(n), ")".repeat(n)), "{} 2".to_owned()),
        (format!("x{}", " or x".repeat(n)), "x 2".to_owned()),
    ] {
        check("load 1m\nx 2", &query, 0.0, &want);
    }
}

#[test]
fn a_query_stops_when_cancelled_late_or_out_of_memory() {
    use std::sync::Arc;
    use std::time::Duration;

    use weir_model::source::ReadContext;
    use weir_model::{Budget, SimClock, TenantId, Timestamp};

    use crate::{Engine, EngineOptions, Query, QueryError, parse};

    let source = VecSource::load(&(0..40).map(|n| format!("x{{n=\"{n}\"}} 1x9\n")).collect::<String>());
    let clock = Arc::new(SimClock::default());
    let engine = Engine::new(EngineOptions { clock: clock.clone(), ..EngineOptions::default() });
    let open = |context: &ReadContext| {
        let query = Query::instant(parse("sum(rate(x[5m]))").unwrap(), Timestamp(300_000));
        crate::testing::ready(engine.open(&source, &TenantId::anonymous(), &query, context)).unwrap()
    };

    let context = ReadContext::unlimited();
    let prepared = open(&context);
    context.cancel.cancel();
    assert!(matches!(prepared.eval(), Err(QueryError::Cancelled)));

    let prepared = open(&ReadContext::unlimited());
    clock.advance(Duration::from_secs(121));
    assert!(matches!(prepared.eval(), Err(QueryError::Timeout)));

    let budget = Budget::root(1000);
    let prepared = open(&ReadContext { budget: budget.clone(), ..ReadContext::unlimited() });
    assert!(matches!(prepared.eval(), Err(QueryError::Budget(full)) if full.account == "process"));
    assert_eq!(budget.used_bytes(), 0, "all memory is given back");
}

/// Enough series that several cores share them: the answer is that of each series asked for alone, in order.
#[test]
fn many_series_are_as_each_alone() {
    let mut load = "load 15s\n".to_owned();
    for n in 0..150 {
        load += &format!("busy{{n=\"{n:03}\"}} {}+{}x250 0+{n}x{}\n", n % 7, n % 5, 20 + n);
    }
    let source = VecSource::load(&load);
    for function in ["rate", "resets", "max_over_time", "quantile_over_time"] {
        let ask = |selector: &str| {
            let phi = if function == "quantile_over_time" { "0.9, " } else { "" };
            range(&source, &format!("{function}({phi}{selector}[5m])"), 0, 6000, 15)
        };
        let all = ask("busy");
        let alone: Vec<_> = (0..150).map(|n| ask(&format!("busy{{n=\"{n:03}\"}}"))).collect();
        let joined: Vec<_> = alone.iter().map(show).filter(|text| !text.is_empty()).collect();
        assert_eq!(show(&all), joined.join("\n"), "{function}");
        let result = |r: &Result<QueryResult, QueryError>| r.clone().expect("the query is right");
        assert_eq!(result(&all).infos, result(&alone[1]).infos, "{function}");
        let samples: u64 = alone.iter().map(|one| result(one).stats.samples_total).sum();
        assert_eq!(result(&all).stats.samples_total, samples, "{function}");
    }
}
