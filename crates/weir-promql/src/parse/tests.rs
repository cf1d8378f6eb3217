use proptest::prelude::*;

use super::parse;

#[track_caller]
fn check(query: &str, want: &str) {
    let got = match parse(query) {
        Ok(expr) => expr.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(got, want, "query: {query}");
}

#[test]
fn canonical_text() {
    for (query, want) in [
        ("1", "1"),
        ("-1", "-1"),
        ("0x10 + 1e3", "16 + 1000"),
        ("foo", "foo"),
        ("foo{}", "foo"),
        ("{__name__=\"foo\",b='x',a!~\"y\"}", "{__name__=\"foo\",a!~\"y\",b=\"x\"}"),
        ("{\"foo.bar\", \"a b\"=\"c\"}", "{\"a b\"=\"c\",__name__=\"foo.bar\"}"),
        ("a+b*c^d^e", "a + b * c ^ d ^ e"),
        ("-foo^2", "-foo ^ 2"),
        ("a and b or c unless d", "a and b or c unless d"),
        ("a == bool on(x) group_left(y) b", "a == bool on (x) group_left (y) b"),
        ("a + ignoring() b", "a + b"),
        ("a + on() b", "a + on () b"),
        ("sum(x) by (a, \"b c\")", "sum by (a, \"b c\") (x)"),
        ("sum without() (x)", "sum without () (x)"),
        ("topk(5, x)", "topk(5, x)"),
        ("rate(x[1h30m] offset -5m)", "rate(x[1h30m] offset -5m)"),
        ("x @ 1.5 offset 1m", "x @ 1.500 offset 1m"),
        ("x offset 1m @ end()", "x @ end() offset 1m"),
        ("max_over_time(rate(x[5m])[1h:30s] @ start())", "max_over_time(rate(x[5m])[1h:30s] @ start())"),
        ("x[300:]", "x[5m:]"),
        ("sum", "sum"),
        ("by{bool=\"1\"}", "by{bool=\"1\"}"),
        ("start + end", "start + end"),
        ("foo # comment\n + bar", "foo + bar"),
        ("a:b:c", "a:b:c"),
        ("x > 5m", "x > 300"),
        ("Inf + nan", "+Inf + NaN"),
        (r#"label_replace(x, "a\n", '\'b', `\c`, "\u00e9")"#, r#"label_replace(x, "a\n", "'b", "\\c", "é")"#),
    ] {
        check(query, want);
    }
}

/// Wording and position from Prometheus' own parser tests and from running it.
#[test]
fn errors_say_where_and_what() {
    for (query, want) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("# comment\n", "1:1: parse error: no expression found in input"),
        ("1+", "1:3: parse error: unexpected end of input"),
        (".", "1:1: parse error: unexpected character: '.'"),
        ("2.5.", "1:4: parse error: unexpected character: '.'"),
        ("100..4", "1:5: parse error: unexpected number \".4\""),
        ("*1", "1:1: parse error: unexpected <op:*>"),
        ("(1))", "1:4: parse error: unexpected right parenthesis ')'"),
        ("((1)", "1:5: parse error: unclosed left parenthesis"),
        ("1 and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        (
            "-\"string\"",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \
             \"string\"",
        ),
        (
            "1 offset 1d",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector \
             selector or a subquery",
        ),
        ("foo offset 1s offset 2s", "1:1: parse error: offset may not be set multiple times"),
        ("a - on(b) ignoring(c) d", "1:11: parse error: unexpected <ignoring>"),
        ("foo and on(bar) group_left(baz) bar", "1:1: parse error: no grouping allowed for \"and\" operation"),
        ("foo == on(bar) 10", "1:1: parse error: vector matching only allowed between instant vectors"),
        ("foo + group_left(baz) bar", "1:7: parse error: unexpected <group_left>"),
        (
            "foo + on(bar) group_left(bar) baz",
            "1:5: parse error: label \"bar\" must not occur in ON and GROUP clause at once",
        ),
        ("foo + bool bar", "1:5: parse error: bool modifier can only be used on comparison operators"),
        ("foo{", "1:5: parse error: unexpected end of input inside braces"),
        ("some}", "1:5: parse error: unexpected character: '}'"),
        ("some{a=b}", "1:8: parse error: unexpected identifier \"b\" in label matching, expected string"),
        ("some{a:b=\"b\"}", "1:7: parse error: unexpected character inside braces: ':'"),
        ("foo{gibberish}", "1:14: parse error: unexpected \"}\" in label matching, expected label matching operator"),
        ("foo{1}", "1:5: parse error: unexpected character inside braces: '1'"),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("{x=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("foo{__name__=\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\""),
        ("foo[5mm]", "1:5: parse error: bad number or duration syntax: \"5mm\""),
        ("foo[0m]", "1:5: parse error: duration must be greater than 0"),
        ("(foo + bar)[5m]", "1:12: parse error: ranges only allowed for vector selectors"),
        ("sum some_metric by (test)", "1:5: parse error: unexpected identifier \"some_metric\""),
        ("sum () by (test)", "1:1: parse error: no arguments for aggregate expression provided"),
        (
            "topk(some_metric)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
        ),
        ("topk(x,)", "1:7: parse error: trailing commas not allowed in function call args"),
        (
            "topk(some_metric, other)",
            "1:6: parse error: expected type scalar in aggregation parameter, got instant vector",
        ),
        ("count_values(5, x)", "1:14: parse error: expected type string in aggregation parameter, got scalar"),
        ("floor()", "1:1: parse error: expected 1 argument(s) in call to \"floor\", got 0"),
        ("rate(x[5m], 1)", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 2"),
        ("hour(x, y)", "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 2"),
        (
            "rate(some_metric)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("nonexistent()", "1:1: parse error: unknown function with name \"nonexistent\""),
        ("1 + nonexistent(x)", "1:5: parse error: unknown function with name \"nonexistent\""),
        ("foo[5m][5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead"),
        ("foo + \"x\"", "1:7: parse error: binary expression must contain only scalar and instant vector types"),
        ("a\n+ +\n*", "3:1: parse error: unexpected <op:*>"),
        ("foo \"a\"", "1:5: parse error: unexpected string \"\\\"a\\\"\""),
        ("\"abc", "1:1: parse error: unterminated quoted string"),
        ("foo!bar", "1:4: parse error: unexpected character after '!': 'b'"),
        (
            "x offset",
            "1:9: parse error: unexpected end of input in offset, expected number, duration, step(), or range()",
        ),
    ] {
        check(query, want);
    }
}

#[test]
fn nesting_is_bounded() {
    for query in [
        format!("{}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("1{}", "+1".repeat(5000)),
        "-".repeat(5000),
        format!("1{}", "^1".repeat(5000)),
        format!("{}x{}", "abs(".repeat(5000), ")".repeat(5000)),
    ] {
        let error = parse(&query).unwrap_err();
        assert!(error.message.contains("nested deeper") || error.message.contains("unexpected"), "{error}");
    }
}

/// Trees of the `promql-parser` crate, by another author, must print as ours do.
#[test]
fn agrees_with_another_parser() {
    for query in [
        "sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m])) / sum by (job) (rate(http_requests_total[5m]))",
        "histogram_quantile(0.99, sum by (le) (rate(x_bucket[5m])))",
        "a + b * c - d / e % f",
        "a ^ b ^ c",
        "a and b or c unless d",
        "a > b == c",
        "a * on (x, y) group_left (z) b",
        "max_over_time(rate(x[5m])[1h:30s])",
        "x offset 5m",
        "topk(3, sum by (a) (x))",
        "count_values(\"v\", x)",
        "-x + 1",
        "label_replace(x, \"a\", \"$1\", \"b\", \"(.*)\")",
        "absent(x{job=\"a\"})",
        "predict_linear(x[1h], 3600) < 0",
    ] {
        let other = promql_parser::parser::parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert_eq!(parse(query).unwrap().to_string(), other.to_string(), "{query}");
    }
}

/// Random expressions as text, mostly well formed.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("foo".to_owned()),
        Just("bar{a=\"b\"}".to_owned()),
        Just("1".to_owned()),
        Just("2.5".to_owned()),
        Just("foo offset 5m".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(vec!["+", "-", "*", "/", "%", "^", "and", "or", "unless", "> bool", "<"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("sum by (x) ({a})")),
            inner.clone().prop_map(|a| format!("abs({a})")),
            inner.prop_map(|a| format!("-{a}")),
        ]
    })
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn never_panics_on_almost_promql(text in "([a-z(){}\\[\\]:,=~!<>+*/^%@\"'` 0-9.msh-]|sum|rate|by|on|offset|bool){0,24}") {
        let _ = parse(&text);
    }

    #[test]
    fn printing_and_parsing_again_changes_nothing(text in expression()) {
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again = parse(&printed).map(|e| e.to_string());
            prop_assert_eq!(again.as_deref(), Ok(printed.as_str()), "from {}", text);
        }
    }

    #[test]
    fn groups_operators_as_another_parser_does(text in expression()) {
        let (ours, other) = (parse(&text), promql_parser::parser::parse(&text));
        if let (Ok(ours), Ok(other)) = (&ours, &other) {
            prop_assert_eq!(shape(ours), other_shape(other), "{}", text);
        }
    }
}

/// The tree with every binary node in parentheses.
fn shape(expr: &crate::Expr) -> String {
    use crate::ExprKind;
    match &expr.kind {
        ExprKind::Binary(b) => format!("[{} {} {}]", shape(&b.lhs), b.op.as_str(), shape(&b.rhs)),
        ExprKind::Paren(e) => format!("({})", shape(e)),
        ExprKind::Unary { expr, .. } => format!("-{}", shape(expr)),
        ExprKind::Aggregate(a) => format!("{}({})", a.op.as_str(), shape(&a.expr)),
        ExprKind::Call(c) => format!("{}({})", c.function.name, shape(&c.args[0])),
        _ => expr.to_string(),
    }
}

fn other_shape(expr: &promql_parser::parser::Expr) -> String {
    use promql_parser::parser::Expr;
    match expr {
        Expr::Binary(b) => format!("[{} {} {}]", other_shape(&b.lhs), b.op, other_shape(&b.rhs)),
        Expr::Paren(e) => format!("({})", other_shape(&e.expr)),
        Expr::Unary(e) => format!("-{}", other_shape(&e.expr)),
        Expr::Aggregate(a) => format!("{}({})", a.op, other_shape(&a.expr)),
        Expr::Call(c) => format!("{}({})", c.func.name, other_shape(&c.args.args[0])),
        _ => expr.to_string(),
    }
}
