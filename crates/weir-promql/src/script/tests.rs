use super::*;
use crate::testing::ready;

/// Every file of `testdata/`, each of which says what it is about.
#[test]
fn scripts_pass() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
    let mut n_files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let script =
            Script::parse(&std::fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let outcomes = ready(script.run());
        assert!(!outcomes.is_empty(), "{path:?} evaluates nothing");
        for Outcome { line, query, result } in outcomes {
            assert_eq!(result, Ok(()), "{path:?}:{line}: {query}");
        }
        n_files += 1;
    }
    assert!(n_files > 0);
}

/// What a script says of wrong expectations: a check that passes everything would pass its own tests.
#[test]
fn wrong_expectations_fail() {
    let check = |block: &str, want: &str| {
        let text = format!("load 1m\n  x{{a=\"1\"}} 0+1x5\n  h {{{{count:3 sum:4 buckets:[1 2]}}}}x5\n\n{block}\n");
        let outcomes = ready(Script::parse(&text).unwrap().run());
        let error = outcomes[0].result.clone().unwrap_err();
        assert!(error.contains(want), "{block}: {error}");
    };
    check("eval instant at 5m x\n  x{a=\"1\"} 6", "expected 6, got");
    check("eval instant at 5m x\n  x{a=\"2\"} 5", "unexpected x{a=\"1\"} 5");
    check("eval instant at 5m x", "unexpected");
    check("eval instant at 5m y\n  y 1", "y is missing");
    check("eval instant at 5m x\n  expect fail", "did not fail");
    check("eval instant at 5m x +\n  x 1", "the query failed: 1:4: parse error");
    check(
        "eval instant at 5m sum(rate(x[5m]))\n  expect no_info\n  {} 1",
        "unexpected info: PromQL info: metric might",
    );
    check("eval instant at 5m x\n  expect warn\n  x{a=\"1\"} 5", "no warning like");
    check("eval instant at 5m h\n  h {{count:3 sum:4 buckets:[2 1]}}", "expected FloatHistogram");
    check("eval instant at 5m h\n  h 3", "expected 3, got");
    check("eval range from 0 to 2m step 1m x\n  x{a=\"1\"} 0 1 3", "x{a=\"1\"} at 120000ms: expected 3, got 2");
    check("eval range from 0 to 2m step 1m x\n  x{a=\"1\"} 0 _ 2", "unexpected");
    check("eval range from 0 to 2m step 1m x\n  x{a=\"1\"} 0 1", "expected 2 values, got 3");
    check("eval instant at 5m 1 + 1\n  3", "expected Some(3.0), got the scalar 2");
}

#[test]
fn faults_name_the_line() {
    for (text, want) in [
        ("\nfoo", "line 2: `foo` is no command; expected load, clear or eval"),
        ("load 1x\n", "line 1: `1x` is no interval"),
        ("load 1m\n  x 1 y\n", "line 2: `y` is no value"),
        (
            "load 1m\n  x 1x99999999999\n",
            "line 2: `1x99999999999` is no value: `99999999999` is no number of repetitions",
        ),
        ("load 1m\n  x {{foo:1}}\n", "line 2: `{{foo:1}}`: `foo` is no part of a histogram"),
        ("eval instant 5m x\n", "line 1: expected `at` and a time before `5m x`"),
        ("eval instant at 5m x\n  expect luck", "line 2: `luck` cannot be expected"),
    ] {
        assert_eq!(Script::parse(text).unwrap_err().to_string(), want, "{text}");
    }
}
