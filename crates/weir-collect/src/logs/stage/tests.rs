//! Stages as configurations write them, over lines. Cases follow the statements of Promtail's documentation.

use std::sync::Arc;
use std::time::Duration;

use weir_model::{Labels, Nanos};

use super::{Stage, StageFile, check as checked};
use crate::logs::entry::Entry;
use crate::logs::metrics::LogMetrics;
use crate::logs::pipeline::{Around, Pipeline, after};

const NOW: Nanos = Nanos(1_700_000_000_000_000_000);

pub(super) fn stages(yaml: &str) -> Result<Vec<Arc<Stage>>, String> {
    let files: Vec<StageFile> = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
    checked(files)
}

fn show(entry: &Entry) -> String {
    let mut out = format!("{}", entry.labels);
    if entry.at != NOW {
        out += &format!(" @{}", jiff::Timestamp::from_nanosecond(entry.at.0.into()).unwrap());
    }
    if !entry.metadata.is_empty() {
        let pairs: Vec<String> = entry.metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
        out += &format!(" [{}]", pairs.join(" "));
    }
    if let Some(tenant) = &entry.tenant {
        out += &format!(" ({tenant})");
    }
    format!("{out} {}", entry.line)
}

/// Lines come a millisecond apart, all with the label `a="b"`; the end of the file follows.
pub(super) fn run(yaml: &str, lines: &[&str]) -> Vec<String> {
    let mut pipeline = Pipeline::new(&stages(yaml).unwrap());
    let metrics = LogMetrics::default();
    let around = Around { now: NOW, metrics: &metrics };
    let mut out = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let entry = Entry::new(Labels::from_pairs([("a", "b")]), NOW, (*line).to_owned(), n as u64);
        pipeline.push(entry, &around, &mut out);
    }
    pipeline.finish(&around, &mut out);
    assert_eq!(pipeline.held_from(), None);
    out.iter().map(show).collect()
}

#[track_caller]
pub(super) fn check(yaml: &str, lines: &[&str], want: &[&str]) {
    assert_eq!(run(yaml, lines), want, "{yaml}");
}

#[track_caller]
pub(super) fn refused(yaml: &str, wants: &[&str]) {
    let error = stages(yaml).map(|_| ()).unwrap_err();
    for want in wants {
        assert!(error.contains(want), "{yaml}: {error}");
    }
}

#[test]
fn cri_lines_are_unwrapped_and_parts_joined() {
    check(
        "[{cri: {}}]",
        &["2019-01-01T01:00:00.000000001Z stderr F some log message"],
        &[r#"{a="b", stream="stderr"} @2019-01-01T01:00:00.000000001Z some log message"#],
    );
    check(
        "[{cri: }]",
        &[
            "2019-01-01T01:00:00.1Z stdout P one, ",
            "2019-01-01T01:00:00.2Z stderr F between",
            "2019-01-01T01:00:00.3Z stdout P two, ",
            "2019-01-01T01:00:00.4Z stdout F three",
            "not of a runtime",
            "2019-01-01T01:00:00.5Z stdout P lost end",
        ],
        &[
            r#"{a="b", stream="stderr"} @2019-01-01T01:00:00.2Z between"#,
            r#"{a="b", stream="stdout"} @2019-01-01T01:00:00.4Z one, two, three"#,
            r#"{a="b"} not of a runtime"#,
            r#"{a="b", stream="stdout"} @2019-01-01T01:00:00.5Z lost end"#,
        ],
    );
    // A line without text; times with an offset.
    check(
        "[{cri: {}}]",
        &["2019-01-01T01:00:00+02:00 stdout F "],
        &[r#"{a="b", stream="stdout"} @2018-12-31T23:00:00Z "#],
    );
    // Parts beyond the size are cut.
    check(
        "[{cri: {max_partial_line_size: 4, max_partial_line_size_truncate: true}}]",
        &["2019-01-01T01:00:00Z stdout P abc", "2019-01-01T01:00:00Z stdout F äde"],
        &[r#"{a="b", stream="stdout"} @2019-01-01T01:00:00Z abc"#],
    );
}

#[test]
fn docker_lines_are_unwrapped() {
    check(
        "[{docker: {}}]",
        &[
            r#"{"log":"level=info msg=\"hi\"\n","stream":"stderr","time":"2019-04-30T02:12:41.8443515Z"}"#,
            r#"{"log":"cut by the daem","stream":"stdout","time":"2019-04-30T02:12:42Z","attrs":{"x":"y"}}"#,
            "not JSON",
        ],
        &[
            r#"{a="b", stream="stderr"} @2019-04-30T02:12:41.8443515Z level=info msg="hi""#,
            r#"{a="b", stream="stdout"} @2019-04-30T02:12:42Z cut by the daem"#,
            r#"{a="b"} not JSON"#,
        ],
    );
}

#[test]
fn groups_become_values_labels_metadata_and_the_line() {
    let yaml = r"
- regex:
    expression: '^(?P<ip>\S+) (?P<user>\S+) \[(?P<time>[\w:/]+\s[+-]\d{4})\] (?P<text>.*)$'
- labels:
    user:
    address: ip
- structured_metadata: {path: text}
- timestamp: {source: time, format: '02/Jan/2006:15:04:05 -0700'}
- output: {source: text}
";
    check(
        yaml,
        &["11.11.11.11 frank [25/Jan/2000:14:00:01 -0500] GET /1986.js", "something else"],
        &[
            r#"{a="b", address="11.11.11.11", user="frank"} @2000-01-25T19:00:01Z [path=GET /1986.js] GET /1986.js"#,
            // The time that was read last, and a nanosecond.
            r#"{a="b"} @2000-01-25T19:00:01.000000001Z something else"#,
        ],
    );
    // Labels are values too, and a source that is not there changes nothing.
    check(
        "[{regex: {expression: '(?P<c>.)$', source: a}}, {labels: {c: , d: nothing}}]",
        &["x"],
        &[r#"{a="b", c="b"} x"#],
    );
    check("[{regex: {expression: '(?P<c>x)', labels_from_groups: true}}]", &["x"], &[r#"{a="b", c="x"} x"#]);
    refused("[{regex: {expression: '('}}]", &["stage 1 (regex)", "regexp"]);
    refused("[{regex: {expresion: 'x'}}]", &["expresion", "line 1"]);
    refused("[{labels: {1x: y}}]", &["1x"]);
}

#[test]
fn labels_are_dropped_kept_and_set() {
    check("[{static_labels: {env: prod, none: }}]", &["x"], &[r#"{a="b", env="prod"} x"#]);
    check("[{static_labels: {env: prod}}, {labeldrop: [a, c]}]", &["x"], &[r#"{env="prod"} x"#]);
    check("[{static_labels: {env: prod}}, {labelallow: [env]}]", &["x"], &[r#"{env="prod"} x"#]);
    refused("[{labeldrop: []}]", &["labeldrop", "missing"]);
}

#[test]
fn times_in_every_format() {
    let time = |format: &str, line: &str, want: &str| {
        let yaml = format!(
            "[{{regex: {{expression: '^(?P<t>.*)$'}}}}, {{timestamp: {{source: t, action_on_failure: skip, {format}}}}}]"
        );
        let want = if want.is_empty() { format!("{{a=\"b\"}} {line}") } else { format!("{{a=\"b\"}} @{want} {line}") };
        check(&yaml, &[line], &[&want]);
    };
    time("format: Unix", "1562708916", "2019-07-09T21:48:36Z");
    time("format: Unix", "1562708916.000000123", "2019-07-09T21:48:36.000000123Z");
    time("format: UnixMs", "1562708916414", "2019-07-09T21:48:36.414Z");
    time("format: UnixUs", "1562708916414123", "2019-07-09T21:48:36.414123Z");
    time("format: UnixNs", "1562708916000000123", "2019-07-09T21:48:36.000000123Z");
    time("format: Unix", "x", "");
    time("format: RFC3339Nano", "2019-01-01T01:00:00.000000001Z", "2019-01-01T01:00:00.000000001Z");
    time("format: RFC3339", "2019-01-01T01:00:00+01:00", "2019-01-01T00:00:00Z");
    time("format: RFC1123", "Tue, 09 Jul 2019 21:48:36 UTC", "2019-07-09T21:48:36Z");
    time("format: ANSIC", "Tue Jul  9 21:48:36 2019", "2019-07-09T21:48:36Z");
    time("format: '2006-01-02 15:04:05', location: America/New_York", "2019-07-09 17:48:36", "2019-07-09T21:48:36Z");
    // Without a year it is this one; the clock says November 2023.
    time("format: 'Jan _2 15:04:05'", "Jul  9 21:48:36", "2023-07-09T21:48:36Z");
    time("format: RFC3339, fallback_formats: [UnixMs]", "1562708916414", "2019-07-09T21:48:36.414Z");
    refused("[{timestamp: {source: t, format: Unix, location: Nowhere}}]", &["Nowhere", "time zone"]);
    refused("[{timestamp: {source: t}}]", &["format"]);
    refused("[{timestamp: {source: t, format: Unix, action_on_failure: panic}}]", &["panic", "fudge or skip"]);
}

#[test]
fn lines_are_dropped_when_every_condition_holds() {
    let parse = "{regex: {expression: 'level=(?P<level>\\S+) (?P<msg>.*)'}}";
    let lines = ["level=debug one", "level=info debug two", "three"];
    let drop = |keys: &str, want: &[usize]| {
        let want: Vec<String> = want.iter().map(|n| format!("{{a=\"b\"}} {}", lines[*n])).collect();
        assert_eq!(run(&format!("[{parse}, {{drop: {{{keys}}}}}]"), &lines), want, "{keys}");
    };
    drop("expression: '.*debug.*'", &[2]);
    drop("source: level", &[2]);
    drop("source: level, value: debug", &[1, 2]);
    drop("source: level, expression: 'deb|inf'", &[2]);
    drop("source: [level, nothing]", &[2]);
    drop("source: [level, msg], separator: '#', expression: 'info#.*two'", &[0, 2]);
    drop("longer_than: 15", &[0, 2]);
    drop("longer_than: 1kb", &[0, 1, 2]);
    drop("expression: debug, longer_than: 15b", &[0, 2]);
    drop("older_than: 1h", &[0, 1, 2]);
    let old = "[{cri: {}}, {drop: {older_than: 24h}}]";
    check(old, &["2019-01-01T01:00:00Z stdout F x"], &[]);
    refused("[{drop: {}}]", &["at least one"]);
    refused("[{drop: {source: a, value: x, expression: y}}]", &["not both"]);
    refused("[{drop: {longer_than: x}}]", &["`x` is no size"]);
}

#[test]
fn blocks_begin_with_their_first_line() {
    let yaml = r"[{multiline: {firstline: '^\[', max_lines: 3}}]";
    check(
        yaml,
        &["before", "[1] a", "  at b", "[2] c", "[3] d", "  e", "  f", "  g", "  h"],
        &[
            r#"{a="b"} before"#,
            "{a=\"b\"} [1] a\n  at b",
            r#"{a="b"} [2] c"#,
            "{a=\"b\"} [3] d\n  e\n  f",
            "{a=\"b\"}   g\n  h",
        ],
    );
    refused("[{multiline: {max_lines: 3}}]", &["firstline"]);
    refused("[{multiline: {firstline: x, max_wait_time: 3}}]", &["max_wait_time"]);
}

#[test]
fn a_block_waits_for_its_end_and_no_longer() {
    let mut pipeline =
        Pipeline::new(&stages("[{multiline: {firstline: x, max_wait_time: 3s}}, {static_labels: {l: m}}]").unwrap());
    let metrics = LogMetrics::default();
    let mut out = Vec::new();
    let entry = Entry::new(Labels::from_pairs([("a", "b")]), NOW, "x".to_owned(), 77);
    pipeline.push(entry, &Around { now: NOW, metrics: &metrics }, &mut out);
    assert_eq!((out.len(), pipeline.held_from()), (0, Some(77)));
    pipeline.tick(&Around { now: after(NOW, Duration::from_secs(2)), metrics: &metrics }, &mut out);
    assert_eq!(out.len(), 0);
    pipeline.tick(&Around { now: after(NOW, Duration::from_secs(3)), metrics: &metrics }, &mut out);
    assert_eq!(out.iter().map(show).collect::<Vec<_>>(), [r#"{a="b", l="m"} x"#]);
    assert_eq!(pipeline.held_from(), None);
}

#[test]
fn unknown_stages_are_refused_by_name_and_line() {
    refused("- cri: {}\n- geoip: {db: x}\n", &["geoip", "line 2"]);
    refused("- cri: {x: 1}\n", &["`x`", "line 1"]);
}

#[test]
fn fields_of_json_and_logfmt_are_extracted() {
    let line = r#"{"log":"log message\n","stream":"stderr","nested":{"user":"marco","n":1.5,"ok":true},"list":[1,"x"],"none":null,"big":12345678901234567890}"#;
    let yaml = "[{json: {expressions: {stream: , user: nested.user, n: nested.n, ok: nested.ok, list: , none: , big: , o: nested}}}, {labels: {stream: , user: , n: , ok: , list: , none: , big: , o: }}, {output: {source: user}}]";
    check(
        yaml,
        &[line],
        &[
            r#"{a="b", big="12345678901234567890", list="[1,\"x\"]", n="1.5", o="{\"user\":\"marco\",\"n\":1.5,\"ok\":true}", ok="true", stream="stderr", user="marco"} marco"#,
        ],
    );
    // A value within a value; what is no object is passed on, or dropped when asked.
    check(
        "[{json: {expressions: {extra: }}}, {json: {source: extra, expressions: {user: }}}, {labels: {user: }}]",
        &[r#"{"extra":"{\"user\":\"marco\"}"}"#, "[1]", "{"],
        &[r#"{a="b", user="marco"} {"extra":"{\"user\":\"marco\"}"}"#, r#"{a="b"} [1]"#, r#"{a="b"} {"#],
    );
    check("[{json: {expressions: {x: }, drop_malformed: true}}]", &["{", "{}"], &[r#"{a="b"} {}"#]);
    check(
        "[{logfmt: {mapping: {timestamp: time, app: , d: duration}}}, {labels: {app: , d: , timestamp: }}]",
        &[r#"time=2012-11-01T22:08:41Z app=loki level=WARN duration="125 s" message="this is a log line""#],
        &[
            r#"{a="b", app="loki", d="125 s", timestamp="2012-11-01T22:08:41Z"} time=2012-11-01T22:08:41Z app=loki level=WARN duration="125 s" message="this is a log line""#,
        ],
    );
    refused("[{json: {expressions: {x: 'length(y)'}}}]", &["stage 1 (json)", "length(y)"]);
    refused("[{json: {}}]", &["expressions"]);
    refused("[{logfmt: {}}]", &["mapping"]);
}

#[test]
fn templates_make_values() {
    let level = |template: &str, line: &str, want: &str| {
        let yaml = format!(
            "- regex: {{expression: 'level=(?P<level>\\S+) app=(?P<app>\\S+)'}}\n- template: {{source: level, template: '{template}'}}\n- output: {{source: level}}\n"
        );
        check(&yaml, &[line], &[&format!("{{a=\"b\"}} {want}")]);
    };
    level("{{ ToLower .Value }}", "level=WARN app=x", "warn");
    level("{{ .Value }} of {{ .app }}", "level=WARN app=x", "WARN of x");
    level(
        r#"{{ if eq .Value "WARN" }}{{ Replace .Value "WARN" "OK" -1 }}{{ else }}{{ .Value }}{{ end }}"#,
        "level=WARN app=x",
        "OK",
    );
    level("{{ TrimPrefix .app \"x\" }}", "level=WARN app=xyz", "yz");
    level("{{ .Entry }}!", "level=WARN app=x", "level=WARN app=x!");
    level(r#"{{ regexReplaceAll "(W)ARN" .Value "$1" }}"#, "level=WARN app=x", "W");
    level(
        r#"{{ Sha2Hash "salt" .Value }}"#,
        "level=WARN app=x",
        "1d6ce292f2e609fa7ea1ec268eaa47ad4d2f7da38c1ecac1d92df99a94676a24",
    );
    // A value that was not there is made; an empty one goes.
    check(
        "[{template: {source: new, template: 'hello {{.a}}'}}, {labels: {new: }}]",
        &["x"],
        &[r#"{a="b", new="hello b"} x"#],
    );
    check(
        "[{template: {source: a, template: '{{ if false }}x{{ end }}'}}, {labels: {c: a}}]",
        &["x"],
        &[r#"{a="b"} x"#],
    );
    refused("[{template: {source: a, template: '{{ Hash .a }}'}}]", &["stage 1 (template)", "Hash"]);
    refused("[{template: {source: a, template: '{{'}}]", &["template"]);
}

#[test]
fn groups_give_way_to_text() {
    let replace = |keys: &str, line: &str, want: &str| {
        check(&format!("[{{replace: {{{keys}}}}}]"), &[line], &[&format!("{{a=\"b\"}} {want}")]);
    };
    replace(
        "expression: 'password (\\S+)', replace: '****'",
        "11.11.11.11 - frank password abc x",
        "11.11.11.11 - frank password **** x",
    );
    replace(
        "expression: '(\\d{2}.\\d{2}.\\d{2}.\\d{2}) - (\\S+)', replace: '[{{ .Value }}]'",
        "11.11.11.11 - frank 12.12.12.12 - bob",
        "[11.11.11.11] - [frank] [12.12.12.12] - [bob]",
    );
    replace("expression: 'x (y)', replace: ''", "x y z", "x  z");
    replace("expression: '(z)', replace: n", "x", "x");
    check(
        "[{replace: {expression: '(?P<ip>\\d+\\.\\d+)', replace: '{{ ToUpper \"ip\" }}'}}, {labels: {ip: }}]",
        &["from 1.2 to 3.4"],
        &[r#"{a="b", ip="IP"} from IP to IP"#],
    );
    check("[{replace: {expression: '(b)', source: a, replace: c}}, {labels: {a: }}]", &["b"], &[r#"{a="c"} b"#]);
}

#[test]
fn stages_of_a_match_are_for_what_it_selects() {
    let yaml = r#"
- match:
    selector: '{a="b"} |~ "^json"'
    stages:
    - static_labels: {kind: json}
    - match: {selector: '{kind="json"} |= "drop"', action: drop, drop_counter_reason: why}
    - template: {source: t, template: '{{ .kind }}{{ .a }}'}
    - labels: {t: }
- match: {selector: '{a="b", kind=""}', stages: [{static_labels: {kind: other}}]}
"#;
    check(
        yaml,
        &["json 1", "text", "json drop"],
        // Values of labels are those from before the stages within.
        &[r#"{a="b", kind="json", t="b"} json 1"#, r#"{a="b", kind="other"} text"#],
    );
    // What is held back within comes out behind it, through the stages that follow.
    check(
        "[{match: {selector: '{a=\"b\"}', stages: [{multiline: {firstline: '^x'}}]}}, {static_labels: {c: d}}]",
        &["x1", " 2", "x3"],
        &["{a=\"b\", c=\"d\"} x1\n 2", r#"{a="b", c="d"} x3"#],
    );
    refused("[{match: {selector: '{a=', stages: [{docker: }]}}]", &["stage 1 (match)", "selector"]);
    refused("[{match: {selector: '{a=\"b\"}'}}]", &["stages"]);
    refused("[{match: {selector: '{a=\"b\"}', action: drop, stages: [{docker: }]}}]", &["without `stages`"]);
    refused("[{match: {selector: '{a=\"b\"}', stages: [{labels: {}}]}}]", &["stage 1 (match)", "stage 1 (labels)"]);
}

#[test]
fn lines_are_packed_uncoloured_and_given_to_tenants() {
    check(
        "[{static_labels: {c: d}}, {regex: {expression: '(?P<x>\\d+)'}}, {pack: {labels: [a, x, none], ingest_timestamp: false}}]",
        &["level \"5\""],
        &[r#"{c="d"} {"a":"b","x":"5","_entry":"level \"5\""}"#],
    );
    check("[{decolorize: }]", &["\u{1b}[31mred\u{1b}[0m plain"], &[r#"{a="b"} red plain"#]);
    check("[{tenant: {value: team-1}}]", &["x"], &[r#"{a="b"} (team-1) x"#]);
    check("[{tenant: {label: a}}]", &["x"], &[r#"{a="b"} (b) x"#]);
    check("[{tenant: {source: none}}]", &["x"], &[r#"{a="b"} x"#]);
    refused("[{tenant: {}}]", &["give one of"]);
    refused("[{tenant: {value: a/b}}]", &["a/b"]);
}

#[test]
fn fewer_lines_pass_a_limit() {
    let lines = ["1", "2", "3", "4", "5"];
    assert_eq!(run("[{limit: {rate: 1, burst: 2, drop: true}}]", &lines).len(), 2);
    assert_eq!(run("[{limit: {rate: 1, burst: 2, drop: true, by_label_name: none}}]", &lines).len(), 5);
    assert_eq!(run("[{limit: {rate: 1, burst: 2, drop: true, by_label_name: a}}]", &lines).len(), 2);
    // Nothing is dropped; the file waits.
    assert_eq!(run("[{limit: {rate: 1, burst: 2}}]", &lines).len(), 5);
    refused("[{limit: {rate: 0, burst: 2}}]", &["rate"]);
    refused("[{limit: {rate: 1, burst: 2, by_label_name: x}}]", &["drop: true"]);
    let many: Vec<String> = (0..10_000).map(|n| format!("line {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let n = run("[{sampling: {rate: 0.25}}]", &many).len();
    assert!((2_300..2_700).contains(&n), "{n} of 10,000");
    assert_eq!(run("[{sampling: {rate: 1.0}}]", &lines).len(), 5);
    assert_eq!(run("[{sampling: {rate: 0}}]", &lines).len(), 0);
    refused("[{sampling: {rate: 2}}]", &["between"]);
}
