use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, metric::Data, number_data_point::Value as Number,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::Event};
use weir_model::Nanos;

use super::*;
use crate::data::set;

fn list(pairs: &[(&str, Any)]) -> Vec<KeyValue> {
    let mut out = Vec::new();
    pairs.iter().for_each(|(key, value)| set(&mut out, key, value.clone()));
    out
}

fn text(text: &str) -> Any {
    Any::StringValue(text.to_owned())
}

fn span() -> Span {
    Span {
        trace_id: (1..=16).collect(),
        span_id: vec![1; 8],
        name: "GET /users/42".to_owned(),
        kind: 2,
        start_time_unix_nano: 1_000_000_000,
        end_time_unix_nano: 3_500_000_000,
        trace_state: "ot=th:8,vendor=x".to_owned(),
        status: Some(Status { code: 2, message: "boom".to_owned() }),
        attributes: list(&[
            ("http.method", text("GET")),
            ("http.status", Any::IntValue(500)),
            ("ratio", Any::DoubleValue(0.5)),
            ("ok", Any::BoolValue(false)),
        ]),
        events: vec![Event { name: "exception".to_owned(), ..Event::default() }],
        ..Span::default()
    }
}

/// What `run` makes of a scene with a subject of the given context.
fn on<T>(context: Context, run: impl FnOnce(&mut Scene<'_>) -> T) -> (T, Span, LogRecord, Metric) {
    let mut resource = Resource { attributes: list(&[("service.name", text("shop"))]), ..Resource::default() };
    let mut scope = InstrumentationScope { name: "lib".to_owned(), ..InstrumentationScope::default() };
    let (mut span, mut event) = (span(), Event { name: "exception".to_owned(), ..Event::default() });
    let mut record = LogRecord {
        body: Some(Value::Map(vec![("level".to_owned(), Value::Str("warn".to_owned()))]).into_any()),
        severity_number: 13,
        attributes: list(&[("user", text("ann")), ("password", text("secret"))]),
        ..LogRecord::default()
    };
    let mut point = NumberDataPoint { value: Some(Number::AsInt(7)), ..NumberDataPoint::default() };
    let mut metric =
        Metric { name: "queue.depth".to_owned(), data: Some(Data::Gauge(Gauge::default())), ..Metric::default() };
    let (mut resource_url, mut scope_url) = (String::new(), String::new());
    let subject = match context {
        Context::Span => Subject::Span(&mut span),
        Context::SpanEvent => Subject::SpanEvent(&mut span, &mut event),
        Context::Log => Subject::Log(&mut record),
        Context::Metric => Subject::Metric(&mut metric),
        Context::DataPoint => Subject::Point(&mut metric, PointRef::Number(&mut point)),
        Context::Resource | Context::Scope => Subject::None,
    };
    let mut scene = Scene {
        resource: &mut resource,
        resource_url: &mut resource_url,
        scope: &mut scope,
        scope_url: &mut scope_url,
        subject,
        now: Nanos(9_000_000_000),
        cache: Vec::new(),
    };
    let got = run(&mut scene);
    (got, span, record, metric)
}

#[track_caller]
fn holds(context: Context, condition: &str, want: bool) {
    let parsed = Condition::parse(condition, Paths::Of(context)).unwrap();
    let (got, ..) = on(context, |scene| parsed.is_true(scene));
    assert_eq!(got, Ok(want), "{condition}");
}

#[test]
fn conditions_on_spans() {
    let check = |condition: &str, want| holds(Context::Span, condition, want);
    check(r#"name == "GET /users/42""#, true);
    check(r#"span.name == "GET /users/42" and resource.attributes["service.name"] == "shop""#, true);
    check(r#"kind == SPAN_KIND_SERVER"#, true);
    check(r#"kind.string == "Server""#, true);
    check(r#"status.code == STATUS_CODE_ERROR and status.message != """#, true);
    check(r#"attributes["http.status"] >= 500"#, true);
    check(r#"attributes["http.status"] == 500.0"#, true);
    check(r#"attributes["http.status"] == "500""#, false);
    check(r#"attributes["http.status"] != "500""#, true);
    check(r#"attributes["http.status"] < "600""#, false);
    check(r#"attributes["none"] == nil"#, true);
    check(r#"attributes["none"] != """#, true);
    check(r#"attributes["none"] > 1"#, false);
    check(r#"not attributes["ok"]"#, true);
    check(r#"true or false and false"#, true);
    check(r#"(true or false) and false"#, false);
    check(r#"not (true and false)"#, true);
    check(r#"(end_time_unix_nano - start_time_unix_nano) / 1000000 > 2000"#, true);
    check(r#"end_time - start_time == Duration("2s500ms")"#, true);
    check(r#"1 + 2 * 3 == 7 and (1 + 2) * 3 == 9"#, true);
    check(r#"IsRootSpan()"#, true);
    check(r#"parent_span_id == SpanID(0x0000000000000000)"#, true);
    check(r#"trace_id == TraceID(0x0102030405060708090a0b0c0d0e0f10)"#, true);
    check(r#"trace_id.string == "0102030405060708090a0b0c0d0e0f10""#, true);
    check(r#"trace_state["vendor"] == "x""#, true);
    check(r#"IsMatch(name, "^GET /users/\\d+$")"#, true);
    check(r#"IsMatch(attributes["http.status"], "5..")"#, true);
    check(r#"IsMatch(attributes["none"], ".*")"#, false);
    check(r#"HasPrefix(name, "GET") and HasSuffix(value=name, suffix="42")"#, true);
    check(r#"Concat(["a", 1, nil], "-") == "a-1-<nil>""#, true);
    check(r#"Split("a,b", ",")[1] == "b""#, true);
    check(r#"Substring(name, 0, 3) == "GET" and Len(name) == 13"#, true);
    check(r#"Int("42") == 42 and Double("0.5") == attributes["ratio"] and Int("x") == nil"#, true);
    check(r#"ConvertCase("fooBar baz", "snake") == "foo_bar_baz""#, true);
    check(r#"ParseJSON("{\"a\":{\"b\":[1,2]}}")["a"]["b"][1] == 2"#, true);
    check(r#"ExtractPatterns(name, "/(?P<what>[a-z]+)/(?P<id>.*)")["id"] == "42""#, true);
    check(r#"ParseKeyValue("a=1 b=2")["b"] == "2""#, true);
    check(r#"SHA256("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855""#, true);
    check(r#"SHA1("") == "da39a3ee5e6b4b0d3255bfef95601890afd80709""#, true);
    check(r#"MD5("") == "d41d8cd98f00b204e9800998ecf8427e""#, true);
    check(r#"UnixNano(Now()) == 9000000000"#, true);
    check(r#"Milliseconds(Duration("1m30s")) == 90000"#, true);
    check(r#"ContainsValue(["a", "b"], "b")"#, true);
    check(r#"instrumentation_scope.name == "lib""#, true);
}

#[test]
fn conditions_on_the_rest() {
    holds(Context::SpanEvent, r#"name == "exception" and span.kind == SPAN_KIND_SERVER"#, true);
    holds(Context::Log, r#"body["level"] == "warn" and severity_number >= SEVERITY_NUMBER_WARN"#, true);
    holds(Context::Log, r#"body.string == "{\"level\":\"warn\"}""#, true);
    holds(Context::Log, r#"severity_number < SEVERITY_NUMBER_ERROR2"#, true);
    holds(Context::Metric, r#"type == METRIC_DATA_TYPE_GAUGE and name == "queue.depth""#, true);
    holds(Context::Metric, r#"HasAttrKeyOnDatapoint("user_id")"#, false);
    holds(Context::DataPoint, r#"value_int == 7 and metric.name == "queue.depth""#, true);
    holds(Context::Resource, r#"attributes["service.name"] == "shop""#, true);
    // A missing attribute is not the empty text: the classic mistake of a cardinality filter.
    holds(Context::DataPoint, r#"attributes["user_id"] != """#, true);
}

#[test]
fn mistakes_are_told_with_their_column() {
    let check = |condition: &str, column: usize, want: &str| {
        let error = Condition::parse(condition, Paths::Of(Context::Span)).unwrap_err();
        assert_eq!(error.column, column, "{error}");
        assert!(error.reason.contains(want), "{error}");
    };
    check(r#"name =="#, 8, "expected a value");
    check(r#"name == "x" nonsense"#, 13, "expected the end");
    check(r#"nme == "x""#, 1, "`nme` is no path of span");
    check(r#"status.cod == 1"#, 1, "`status.cod`");
    check(r#"name["a"] == 1"#, 1, "has no keys");
    check(r#"metric.name == "x""#, 1, "`metric` cannot be seen from `span`");
    check(r#"IsMatsh(name, "x")"#, 1, "unknown function `IsMatsh`");
    check(r#"IsMatch(name)"#, 1, "needs the argument `pattern`");
    check(r#"IsMatch(name, "x", 1)"#, 20, "at most 2");
    check(r#"IsMatch(name, "(")"#, 1, "error parsing regexp");
    check(r#"kind == SPAN_KIND_SERVERS"#, 9, "unknown constant");
    check(r#"name == "x"#, 9, "not closed");
    check("name # 1", 6, "`#` has no meaning");
    for endless in ["(", "not ", "[", "{\"a\":"] {
        let error = Condition::parse(&endless.repeat(500), Paths::Of(Context::Span)).unwrap_err();
        assert!(error.reason.contains("nested deeper"), "{endless}: {error}");
    }
    assert!(Condition::parse(&format!("true{}", " or true".repeat(5000)), Paths::Of(Context::Span)).is_err());
}

/// The span and the log record after a statement.
fn edited(context: Context, statement: &str) -> (Result<bool, EvalError>, Span, LogRecord) {
    let parsed = Statement::parse(statement, Paths::Of(context)).unwrap();
    let (got, span, record, _) = on(context, |scene| parsed.apply(scene));
    (got, span, record)
}

fn keys(list: &[KeyValue]) -> String {
    let shown =
        |kv: &KeyValue| format!("{}={}", kv.key, Value::of_any(kv.value.as_ref()).to_text().unwrap_or_default());
    list.iter().map(shown).collect::<Vec<_>>().join(" ")
}

#[test]
fn statements_edit_spans() {
    let check = |statement: &str, want: &str| {
        let (got, span, _) = edited(Context::Span, statement);
        assert!(got.is_ok(), "{statement}: {got:?}");
        assert_eq!(format!("{} | {}", span.name, keys(&span.attributes)), want, "{statement}");
    };
    let rest = "http.method=GET http.status=500 ratio=0.5 ok=false";
    check(r#"set(name, "x")"#, &format!("x | {rest}"));
    check(r#"set(name, "x") where kind == SPAN_KIND_CLIENT"#, &format!("GET /users/42 | {rest}"));
    check(r#"set(name, attributes["none"])"#, &format!("GET /users/42 | {rest}"));
    check(r#"set(attributes["m"]["n"], 1)"#, &format!("GET /users/42 | {rest} m={{\"n\":1}}"));
    check(r#"replace_pattern(name, "/users/(\\d+)", "/users/{$1}")"#, &format!("GET /users/{{42}} | {rest}"));
    check(r#"replace_match(name, "GET *", "get")"#, &format!("get | {rest}"));
    check(r#"delete_key(attributes, "ok")"#, "GET /users/42 | http.method=GET http.status=500 ratio=0.5");
    check(r#"delete_matching_keys(attributes, "^http")"#, "GET /users/42 | ratio=0.5 ok=false");
    check(r#"keep_keys(attributes, ["ok", "none"])"#, "GET /users/42 | ok=false");
    check(r#"keep_matching_keys(attributes, "^r")"#, "GET /users/42 | ratio=0.5");
    check(
        r#"replace_all_patterns(attributes, "key", "^http\\.", "")"#,
        "GET /users/42 | method=GET status=500 ratio=0.5 ok=false",
    );
    check(
        r#"replace_all_patterns(attributes, "value", "G.T", "got")"#,
        &format!("GET /users/42 | {}", rest.replace("GET", "got")),
    );
    check(r#"replace_all_matches(attributes, "G*", "x")"#, &format!("GET /users/42 | {}", rest.replace("GET", "x")));
    check(r#"truncate_all(attributes, 1)"#, &format!("GET /users/42 | {}", rest.replace("GET", "G")));
    check(r#"limit(attributes, 2, ["ok"])"#, "GET /users/42 | http.method=GET ok=false");
    check(
        r#"merge_maps(attributes, {"ok": true, "new": [1, 2]}, "insert")"#,
        &format!("GET /users/42 | {rest} new=[1,2]"),
    );
    check(
        r#"merge_maps(attributes, {"ok": true}, "upsert")"#,
        "GET /users/42 | http.method=GET http.status=500 ratio=0.5 ok=true",
    );
    check(
        r#"append(attributes["ok"], "x")"#,
        "GET /users/42 | http.method=GET http.status=500 ratio=0.5 ok=[false,\"x\"]",
    );
    let (got, ..) = edited(Context::Span, r#"set(kind, "x")"#);
    assert_eq!(got.unwrap_err().to_string(), r#"`set(kind, "x")`: expected an int, not a string"#);
    let (got, span, _) = edited(Context::Span, r#"set(trace_state["vendor"], "y")"#);
    assert_eq!((got, &*span.trace_state), (Ok(true), "vendor=y,ot=th:8"));
}

#[test]
fn statements_edit_log_records() {
    let (_, _, record) = edited(Context::Log, r#"set(severity_text, ConvertCase(body["level"], "upper"))"#);
    assert_eq!(record.severity_text, "WARN");
    let (_, _, record) = edited(Context::Log, r#"set(body, Concat(["user", attributes["user"]], " "))"#);
    assert_eq!(Value::of_any(record.body.as_ref()), Value::Str("user ann".to_owned()));
    let (_, _, record) = edited(Context::Log, r#"merge_maps(attributes, body, "upsert")"#);
    assert_eq!(keys(&record.attributes), "user=ann password=secret level=warn");
    let (_, _, record) = edited(Context::Log, r#"flatten(body, "b")"#);
    assert_eq!(Value::of_any(record.body.as_ref()).to_text().unwrap(), r#"{"b.level":"warn"}"#);
}

#[test]
fn statements_are_checked() {
    for (statement, want) in [
        (r#"set(name)"#, "needs the argument `value`"),
        (r#"sett(name, "x")"#, "unknown function `sett`"),
        (r#"set("name", "x")"#, "the path that it changes"),
        (r#"Set(name, "x")"#, "begins with a function that edits"),
        (r#"set(name, "x") when true"#, "expected the end"),
    ] {
        let error = Statement::parse(statement, Paths::Of(Context::Span)).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    let prefixed = |text: &str| Statement::parse(text, Paths::Prefixed).map(|s| s.context);
    assert_eq!(prefixed(r#"set(span.name, resource.attributes["service.name"])"#), Ok(Context::Span));
    assert_eq!(prefixed(r#"set(resource.attributes["a"], 1)"#), Ok(Context::Resource));
    assert!(prefixed(r#"set(span.name, log.body)"#).is_err());
}
