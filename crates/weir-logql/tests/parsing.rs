//! What is read, what is refused and where, and the canonical text.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use weir_logql::parse;

#[track_caller]
fn refused(query: &str, want: &str) {
    let error = parse(query).unwrap_err().to_string();
    assert!(error.contains(want), "query: {query}\n got: {error}\nwant: {want}");
}

#[test]
fn errors_name_line_and_column() {
    refused("{app=\"x\"", "line 1, col 9: syntax error: unexpected $end, expecting ,");
    refused("{app=\"x\"}\n|= 5", "line 2, col 4: syntax error: unexpected NUMBER, expecting STRING");
    refused("{}", "line 1, col 1: queries require at least one regexp or equality matcher");
    refused("{app=~\".*\"}", "at least one regexp or equality matcher");
    refused("{app=~\"(\"}", "line 1, col 7: error parsing regexp");
    refused("rate({app=\"x\"})", "line 1, col 1: syntax error: rate needs a range");
    refused("rate({app=\"x\"}[5])", "unexpected NUMBER, expecting DURATION");
    refused("sum_over_time({app=\"x\"}[5m])", "invalid aggregation sum_over_time without unwrap");
    refused("count_over_time({app=\"x\"} | unwrap y [5m])", "invalid aggregation count_over_time with unwrap");
    refused("sum_over_time({app=\"x\"} | unwrap y [5m]) by (z)", "grouping not allowed for sum_over_time aggregation");
    refused("{app=\"x\"} | unwrap y", "unwrap stands only inside a range aggregation");
    refused("{app=\"x\"} | distinct y", "line 1, col 13: syntax error: unexpected IDENTIFIER `distinct`");
    refused("{app=\"x\"} | pattern \"<_>\"", "at least one capture is required");
    refused("{app=\"x\"} | regexp \"a\"", "at least one named capture");
    refused("{app=\"x\"} |= \"open", "literal not terminated");
    refused("topk(0, rate({app=\"x\"}[1m]))", "must be greater than 0");
    refused("sum(rate({app=\"x\"}[1m])) and 1", "unexpected literal for right leg");
    refused("{app=\"x\"} | line_format \"{{.a\"", "line 1, col 25: invalid template");
    refused("{app=\"x\"} | line_format \"{{nothing .a}}\"", "nothing");
    refused("", "unexpected $end");
    refused("{app=\"x\"} | label_format __error__=x", "cannot be formatted");
    refused("{app=\"x\"} | label_format a=x, a=y", "multiple label name 'a'");
    refused(&"(".repeat(5000), "nested deeper");
}

/// The second column is the canonical text; empty means the same as the first.
#[track_caller]
fn canonical(query: &str, want: &str) {
    let want = if want.is_empty() { query } else { want };
    let text = parse(query).unwrap().to_string();
    assert_eq!(text, want, "query: {query}");
    assert_eq!(parse(&text).unwrap().to_string(), text, "does not read back");
}

#[test]
fn queries_have_one_canonical_text() {
    canonical("{app=\"x\", b!=\"y\", c=~\"z.*\", d!~\"q\"}", "");
    canonical(
        "{ app = `x` } # comment\n |= `a` or \"b\" != ip(\"10.0.0.0/8\")",
        "{app=\"x\"} |= \"a\" or \"b\" != ip(\"10.0.0.0/8\")",
    );
    canonical(
        "{app=\"x\"} | json | a=\"b\" , c>5 or d<=1.5s",
        "{app=\"x\"} | json | ( ( a=\"b\" and c>5 ) or d<=1s500ms )",
    );
    canonical("{app=\"x\"} | logfmt --strict --keep-empty a=\"b.c\" | e>=10KB", "");
    canonical("rate({app=\"x\"}[5m] |= \"e\")", "rate({app=\"x\"} |= \"e\" [5m])");
    canonical(
        "count_over_time(({app=\"x\"} |= \"e\")[1d] offset 1h)",
        "count_over_time({app=\"x\"} |= \"e\" [24h] offset 1h)",
    );
    canonical(
        "quantile_over_time(0.99, {app=\"x\"} | json | unwrap duration(d) | __error__=\"\" [1m]) by (a)",
        "quantile_over_time(0.99, {app=\"x\"} | json | unwrap duration(d) | __error__=\"\" [1m]) by (a)",
    );
    canonical(
        "sum(rate({a=\"b\"}[1m])) by (x) / on (x) group_left (y) sum by (x, y) (rate({a=\"b\"}[1m])) > bool 2",
        "((sum by (x)(rate({a=\"b\"} [1m])) / on (x) group_left (y) sum by (x, y)(rate({a=\"b\"} [1m]))) > bool 2)",
    );
    canonical(
        "{app=\"x\"} | drop a, b=\"x\" | keep c | decolorize | unpack | label_format p=q | pattern \"<a> <_>\"",
        "",
    );
    canonical("{app=\"x\"} | line_format \"{{.a}}\" | label_format b=\"{{.c}}\", d=e", "");
    canonical("-1 + 2", "1");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(
        text in "\\PC{0,80}",
        words in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "(", ")", "[5m]", "app", "=", "\"x\"", "|", "|=", "!=", "json", "rate", "sum", "by", "unwrap", "5", "1h", "or",
            ",", "and", "offset", "10KB", "`", "\"", "é", "label_format", "pattern", "-", "ip",
        ]), 0..25),
    ) {
        let _ = parse(&text);
        let _ = parse(&words.join(" "));
        let _ = parse(&format!("{{a=\"b\"}} {}", words.join(" ")));
    }
}
