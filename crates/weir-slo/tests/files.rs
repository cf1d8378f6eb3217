//! Files of each kind, and what becomes of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use weir_slo::{Period, Severity, Sli, Timing, page_times, parse, rules};

const OWN: &str = include_str!("../testdata/slos.yaml");
const SLOTH: &str = include_str!("../testdata/sloth.yaml");
const OPENSLO: &str = include_str!("../testdata/openslo.yaml");

fn expressions(text: &str) -> Vec<String> {
    text.lines().filter_map(|l| l.trim().strip_prefix("expr: ")).map(|l| l.to_owned()).collect()
}

#[test]
fn the_short_form_reads_as_written() {
    let slos = parse("slos.yaml", OWN).unwrap();
    let shown: Vec<_> = slos.iter().map(|s| (&*s.id, s.objective, s.line)).collect();
    assert_eq!(shown, [("payment-api", 0.999, 2), ("checkout-latency", 0.99, 13), ("native-latency", 0.995, 22)]);
    let Sli::Events { bad, total } = &slos[1].sli else { panic!() };
    assert_eq!(total, r#"sum(rate(http_request_duration_seconds_count{job="checkout"}[{{.window}}]))"#);
    let fast = r#"sum(rate(http_request_duration_seconds_bucket{job="checkout", le=~"0\\.3"}[{{.window}}]))"#;
    assert_eq!(*bad, format!("({total}) - ({fast})"));
    assert!(matches!(slos[1].period, Period::Calendar { .. }));
    assert_eq!(slos[2].period, Period::Rolling(Duration::from_secs(28 * 86_400)));
}

#[test]
fn sloth_and_openslo_read_as_their_own_tools_read_them() {
    let slos = parse("sloth.yaml", SLOTH).unwrap();
    let shown: Vec<_> = slos.iter().map(|s| (&*s.id, &*s.service, s.line)).collect();
    assert_eq!(shown, [("myservice-requests-availability", "myservice", 6), ("myservice-raw", "myservice", 26)]);
    // Tickets are off; of the pages there are two rates.
    let burns: Vec<_> = slos[0].burns().iter().map(|b| (b.severity, b.long.as_secs() / 3600)).collect();
    assert_eq!(burns, [(Severity::Page, 1), (Severity::Page, 6)]);
    let text = rules(&slos[..1]);
    for part in ["alert: \"MyServiceHighErrorRate\"", "\"severity\": \"pageteam\"", "\"owner\": \"myteam\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let slos = parse("openslo.yaml", OPENSLO).unwrap();
    let shown: Vec<_> = slos.iter().map(|s| (&*s.id, s.objective, s.line)).collect();
    assert_eq!(
        shown,
        [("web-availability-good-enough", 0.99, 6), ("web-availability-great", 0.999, 6), ("queue", 0.95, 28)]
    );
    let Sli::Ratio { bad } = &slos[2].sli else { panic!() };
    assert_eq!(bad, "1 - avg_over_time(((max(queue_depth)) <= bool 100)[{{.window}}:1m])");
}

#[test]
fn every_query_is_promql_and_every_threshold_is_right() {
    for (file, text) in [("own", OWN), ("sloth", SLOTH), ("openslo", OPENSLO)] {
        let slos = parse(file, text).unwrap();
        let rules = rules(&slos);
        let expressions = expressions(&rules);
        assert!(expressions.len() > slos.len() * 7, "{rules}");
        for expr in expressions {
            // Rust reads the quoted strings that the rules are written in.
            let plain: String = serde_saphyr::from_str(&expr).unwrap();
            weir_promql::parse(&plain).unwrap_or_else(|e| panic!("{plain}: {e}"));
        }
    }
    let text = rules(&parse("slos.yaml", OWN).unwrap());
    let page = r#"expr: "(slo:sli_error:ratio_rate1h{slo=\"payment-api\"} > (14.4 * 0.001) and slo:sli_error:ratio_rate5m{slo=\"payment-api\"} > (14.4 * 0.001)) and on () (sum(sum(rate(http_requests_total{job=\"payment\", code=~\"5..\"}[1h]))) * 3600 > 1.5)""#;
    assert!(text.contains(page), "{text}");
}

#[test]
fn the_time_to_page_is_told_in_its_parts() {
    let slos = parse("slos.yaml", OWN).unwrap();
    let seconds = Duration::from_secs;
    let timing = Timing { scrape: seconds(15), evaluation: seconds(15), hold: Duration::ZERO, group_wait: seconds(30) };
    let shown = |k: usize| page_times(&slos[k], &timing).map(|t| t.total.map(|t| t.as_secs_f64().round() as u64));
    // 14.4 × 0.1 % of an hour is 51.84 s at 100 % errors.
    assert_eq!(shown(0), [Some(112), Some(578), Some(2652)]);
    // At 99 % only more than 14.4 % errors page.
    assert_eq!(shown(1), [Some(578), None, None]);
}

#[test]
fn mistakes_are_named_with_their_line() {
    let check = |text: &str, want: &str| {
        let got = parse("s.yaml", text).unwrap_err().to_string();
        assert!(got.contains(want), "{text}\n{got}");
    };
    let own = |body: &str| format!("slos:\n- name: a\n  service: s\n{body}\n");
    let good = "  objective: 99\n  sli: {ratio: {bad: x, total: y}}";
    assert_eq!(parse("s.yaml", &own(good)).unwrap().len(), 1);
    assert!(parse("s.yaml", "").unwrap().is_empty());
    check(&own(&good.replace("99", "100")), "s.yaml:2: objective `a`: 100 % is no objective");
    check(&own(&good.replace("bad", "bed")), "bed");
    check(&own(&good.replace("bad: x", "bad: x, good: x")), "one of `good` and `bad`");
    check(&own(&good.replace("total: y", "total: sum(y)")), "give a selector of counters");
    check(&own(&good.replace("total: y", "total: 'y{'")), "`y{`");
    check(&own(&format!("{good}\n  window: 5m")), "s.yaml:2: objective `a`: a window of `5m`");
    check(
        &own(&format!("{good}\n- name: a\n  service: s\n{good}")),
        "s.yaml:6: objective `a` stands in line 2 already",
    );
    check(&own("  objective: 99\n  sli: {queries: {bad: x, total: 'y[{{.window}}]'}}"), "`x` has no `{{.window}}`");
    check("version: prometheus/v2\n", "version `prometheus/v2` is not known");
    let plugin = SLOTH.replace(
        "raw:\n        error_ratio_query: 1 - avg(avg_over_time(probe_success[{{.window}}]))",
        "plugin: {id: x}",
    );
    check(&plugin, "s.yaml:26: objective `raw`: `plugin` runs programs");
    check(
        &OPENSLO.replace("Occurrences", "Timeslices"),
        "s.yaml:6: objective `web-availability`: budgetingMethod `Timeslices`",
    );
    check(&OPENSLO.replace("kind: SLI", "kind: Service"), "no SLI of that name");
    check(
        &OPENSLO.replace("type: Prometheus, spec: {query: answers_total}", "type: Datadog, spec: {query: x}"),
        "only Prometheus is read",
    );
}
