use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use weir_wal::SimDir;

use super::*;
use crate::config::{Findings, read_yaml};
use crate::data::set;

/// The settings of a `tail_sampling`.
fn config(text: &str) -> TailSamplingConfig {
    let node = read_yaml(text).unwrap();
    let findings = Findings::default();
    let field = crate::config::Field { findings: &findings, path: String::new(), line: 1, node: &node };
    let read = TailSamplingConfig::read(field.section());
    let (errors, _) = findings.into_sorted();
    assert_eq!(errors, [], "{text}");
    read
}

fn policies(text: &str) -> TailSamplingConfig {
    config(&format!("decision_wait: 2s\npolicies:\n{text}"))
}

fn open(config: TailSamplingConfig, dir: &Arc<SimDir>) -> TailSampling {
    let budget = Budget::root(1 << 30).child("waiting", 1 << 30);
    TailSampling::open(config, &budget, dir.clone(), "collector/tail", SyncMode::Always).unwrap()
}

fn sampler(text: &str) -> TailSampling {
    open(policies(text), &Arc::new(SimDir::new(1)))
}

fn at(ms: i64) -> Nanos {
    Nanos(1_700_000_000_000_000_000 + ms * 1_000_000)
}

#[derive(Clone, Default)]
struct Made {
    spans: Vec<Span>,
    resource: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>,
}

/// Spans of trace `n` that take `ms` each.
fn trace(n: u8, spans: usize, ms: u64) -> Made {
    let span = |k: usize| Span {
        trace_id: vec![n; 16],
        span_id: vec![k as u8 + 1; 8],
        name: format!("span {k}"),
        start_time_unix_nano: 1_000_000_000,
        end_time_unix_nano: 1_000_000_000 + ms * 1_000_000,
        ..Span::default()
    };
    Made { spans: (0..spans).map(span).collect(), resource: Vec::new() }
}

impl Made {
    fn status(mut self, code: i32) -> Self {
        self.spans[0].status = Some(Status { code, ..Status::default() });
        self
    }
    fn with(mut self, key: &str, value: Any) -> Self {
        set(&mut self.spans[0].attributes, key, value);
        self
    }
    fn resource(mut self, key: &str, value: &str) -> Self {
        set(&mut self.resource, key, Any::StringValue(value.to_owned()));
        self
    }
    fn state(mut self, state: &str) -> Self {
        state.clone_into(&mut self.spans[0].trace_state);
        self
    }
    fn groups(self) -> Vec<ResourceSpans> {
        let resource = Some(Resource { attributes: self.resource, ..Resource::default() });
        let scope_spans = vec![ScopeSpans { spans: self.spans, ..ScopeSpans::default() }];
        vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }]
    }
}

fn tenant() -> TenantId {
    TenantId::anonymous()
}

/// First byte of the id and number of spans of each trace that comes out, in order of ids.
fn shown(groups: &[ResourceSpans]) -> Vec<(u8, usize)> {
    let mut found = std::collections::BTreeMap::new();
    for span in groups.iter().flat_map(|g| &g.scope_spans).flat_map(|s| &s.spans) {
        *found.entry(span.trace_id[0]).or_insert(0) += 1;
    }
    found.into_iter().collect()
}

/// Ticks and settles; what is kept.
fn kept(sampler: &TailSampling, now: Nanos) -> Vec<(u8, usize)> {
    let mut all = Vec::new();
    loop {
        let batches = sampler.tick(now);
        if batches.is_empty() {
            break;
        }
        for batch in batches {
            all.extend(batch.spans.clone());
            sampler.settle(&batch).unwrap();
        }
    }
    shown(&all)
}

/// Whether one trace is kept by policies.
#[track_caller]
fn check(policies: &str, trace: Made, want: bool) {
    let sampler = sampler(policies);
    assert_eq!(sampler.offer(&tenant(), trace.groups(), at(0)).unwrap(), []);
    assert_eq!(kept(&sampler, at(1999)), [], "{policies}: too early");
    assert_eq!(!kept(&sampler, at(2000)).is_empty(), want, "{policies}");
}

#[test]
fn each_type_of_policy() {
    let text = |t: &str| Any::StringValue(t.to_owned());
    let p = |kind: &str, inner: &str| format!("- {{name: p, type: {kind}, {kind}: {{{inner}}}}}");
    check("- {name: p, type: always_sample}", trace(1, 1, 1), true);

    check(&p("latency", "threshold_ms: 500"), trace(1, 1, 500), true);
    check(&p("latency", "threshold_ms: 500"), trace(1, 1, 499), false);
    check(&p("latency", "threshold_ms: 500, upper_threshold_ms: 600"), trace(1, 1, 500), false);
    check(&p("latency", "threshold_ms: 500, upper_threshold_ms: 600"), trace(1, 1, 600), true);
    check(&p("latency", "threshold_ms: 500, upper_threshold_ms: 600"), trace(1, 1, 601), false);

    check(&p("status_code", "status_codes: [ERROR]"), trace(1, 3, 1).status(2), true);
    check(&p("status_code", "status_codes: [ERROR]"), trace(1, 3, 1).status(1), false);
    check(&p("status_code", "status_codes: [ERROR, UNSET]"), trace(1, 1, 1), true);

    check(&p("probabilistic", "sampling_percentage: 100"), trace(1, 1, 1), true);
    check(&p("probabilistic", "sampling_percentage: 0"), trace(1, 1, 1), false);

    let strings = "key: http.url, values: ['/live', '/ready']";
    check(&p("string_attribute", strings), trace(1, 2, 1).with("http.url", text("/live")), true);
    check(&p("string_attribute", strings), trace(1, 2, 1).with("http.url", text("/liver")), false);
    check(&p("string_attribute", strings), trace(1, 2, 1).resource("http.url", "/ready"), true);
    // Unanchored, as upstream's documentation warns.
    let regex = "key: http.url, values: ['/live'], enabled_regex_matching: true";
    check(&p("string_attribute", regex), trace(1, 2, 1).with("http.url", text("/liver")), true);
    check(&p("string_attribute", regex), trace(1, 2, 1).with("http.url", Any::IntValue(5)), false);

    check(
        &p("numeric_attribute", "key: n, min_value: 5, max_value: 9"),
        trace(1, 1, 1).with("n", Any::IntValue(9)),
        true,
    );
    check(
        &p("numeric_attribute", "key: n, min_value: 5, max_value: 9"),
        trace(1, 1, 1).with("n", Any::IntValue(10)),
        false,
    );
    // A bound of zero is none.
    check(
        &p("numeric_attribute", "key: n, min_value: 0, max_value: 9"),
        trace(1, 1, 1).with("n", Any::IntValue(-3)),
        true,
    );
    check(&p("boolean_attribute", "key: b, value: true"), trace(1, 1, 1).with("b", Any::BoolValue(true)), true);
    check(&p("boolean_attribute", "key: b, value: true"), trace(1, 1, 1).with("b", Any::BoolValue(false)), false);

    check(&p("rate_limiting", "spans_per_second: 5"), trace(1, 10, 1), true);
    check(&p("rate_limiting", "spans_per_second: 5"), trace(1, 11, 1), false);
    check(&p("rate_limiting", "spans_per_second: 5, burst_capacity: 11"), trace(1, 11, 1), true);
    check(&p("bytes_limiting", "bytes_per_second: 10"), trace(1, 1, 1), false);
    check(&p("bytes_limiting", "bytes_per_second: 10000"), trace(1, 1, 1), true);

    check(&p("span_count", "min_spans: 2"), trace(1, 2, 1), true);
    check(&p("span_count", "min_spans: 2, max_spans: 3"), trace(1, 4, 1), false);
    check(&p("trace_state", "key: vendor, values: [a, b]"), trace(1, 1, 1).state("x=1, vendor=b"), true);
    check(&p("trace_state", "key: vendor, values: [a]"), trace(1, 1, 1).state("vendor=ab"), false);
    check("- {name: p, type: trace_flags}", trace(1, 1, 1), false);

    let ottl = "span: ['attributes[\"n\"] > 3 and resource.attributes[\"service.name\"] == \"shop\"']";
    check(
        &p("ottl_condition", ottl),
        trace(1, 2, 1).with("n", Any::IntValue(4)).resource("service.name", "shop"),
        true,
    );
    check(
        &p("ottl_condition", ottl),
        trace(1, 2, 1).with("n", Any::IntValue(4)).resource("service.name", "bar"),
        false,
    );
}

#[test]
fn policies_of_policies() {
    let errors = "{name: e, type: status_code, status_code: {status_codes: [ERROR]}}";
    let slow = "{name: s, type: latency, latency: {threshold_ms: 500}}";
    let and = format!("- {{name: p, type: and, and: {{and_sub_policy: [{errors}, {slow}]}}}}");
    check(&and, trace(1, 1, 500).status(2), true);
    check(&and, trace(1, 1, 499).status(2), false);
    let not = format!("- {{name: p, type: not, not: {{not_sub_policy: {errors}}}}}");
    check(&not, trace(1, 1, 1).status(2), false);
    check(&not, trace(1, 1, 1), true);
    // A drop is over every other vote, wherever it is listed.
    let drop = format!("- {slow}\n- {{name: d, type: drop, drop: {{drop_sub_policy: [{errors}]}}}}");
    check(&drop, trace(1, 1, 900).status(2), false);
    check(&drop, trace(1, 1, 900), true);
}

#[test]
fn inverted_matches_veto() {
    let health =
        "{name: h, type: string_attribute, string_attribute: {key: url, values: ['/health'], invert_match: true}}";
    let all = "{name: a, type: always_sample}";
    let slow = "{name: s, type: latency, latency: {threshold_ms: 500}}";
    let at_health = || trace(1, 1, 1).with("url", Any::StringValue("/health".to_owned()));
    // (2) a match vetoes what another policy samples; (4) no match samples, unless a plain policy says no.
    check(&format!("- {health}\n- {all}"), at_health(), false);
    check(&format!("- {health}\n- {all}"), trace(1, 1, 1), true);
    check(&format!("- {health}"), trace(1, 1, 1), true);
    check(&format!("- {health}\n- {slow}"), trace(1, 1, 1), false);
    check(&format!("- {health}\n- {slow}"), trace(1, 1, 500), true);
    // Inside `and` an inverted vote counts as a plain one.
    let and = format!("- {{name: p, type: and, and: {{and_sub_policy: [{health}, {slow}]}}}}\n- {all}");
    check(&and, at_health(), true);
}

#[test]
fn a_composite_shares_its_spans_a_second() {
    let text = "- name: c\n  type: composite\n  composite:\n    max_total_spans_per_second: 10\n    policy_order: [errors, rest]\n    \
                composite_sub_policy:\n    - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n    \
                - {name: rest, type: always_sample}\n    rate_allocation: [{policy: errors, percent: 60}, {policy: rest, percent: 40}]\n";
    let sampler = sampler(text);
    for (n, is_error) in [(1, true), (2, true), (3, true), (4, false), (5, false), (6, false)] {
        let made = trace(n, 3, 1).status(if is_error { 2 } else { 0 });
        sampler.offer(&tenant(), made.groups(), at(0)).unwrap();
    }
    // Six spans of errors, three of the rest: a refused error is not asked about as one of the rest.
    assert_eq!(kept(&sampler, at(2000)), [(1, 3), (2, 3), (4, 3)]);
    for n in 7..=9 {
        sampler.offer(&tenant(), trace(n, 3, 1).status(2).groups(), at(1000)).unwrap();
    }
    assert_eq!(kept(&sampler, at(3000)), [(7, 3), (8, 3)], "a new second");
}

#[test]
fn limits_come_last_or_they_are_spent_in_vain() {
    let limit = "{name: l, type: rate_limiting, rate_limiting: {spans_per_second: 1, burst_capacity: 2}}";
    let errors = "{name: e, type: status_code, status_code: {status_codes: [ERROR]}}";
    let run = |order: &str| {
        let sampler = sampler(&format!("- {{name: p, type: and, and: {{and_sub_policy: [{order}]}}}}"));
        for n in 1..=4 {
            sampler.offer(&tenant(), trace(n, 1, 1).status(if n > 2 { 2 } else { 0 }).groups(), at(0)).unwrap();
        }
        kept(&sampler, at(2000))
    };
    assert_eq!(run(&format!("{errors}, {limit}")), [(3, 1), (4, 1)]);
    assert_eq!(run(&format!("{limit}, {errors}")), []);
}

#[test]
fn the_share_drawn_is_upstreams_and_is_kept_as_a_weight() {
    let sampler = sampler(
        "- {name: p, type: probabilistic, probabilistic: {sampling_percentage: 25}}\n\
                           - {name: e, type: status_code, status_code: {status_codes: [ERROR]}}",
    );
    let mut errors = 0;
    for n in 0..2000_u32 {
        let mut made = trace(1, 1, 1);
        made.spans[0].trace_id = [&n.to_be_bytes()[..], &[7; 12]].concat();
        if n % 100 == 0 {
            errors += 1;
            made = made.status(2);
        }
        sampler.offer(&tenant(), made.groups(), at(0)).unwrap();
    }
    let (mut n, mut stands_for) = (0, 0.0);
    loop {
        let batches = sampler.tick(at(2000));
        let Some(batch) = batches.first() else { break };
        for span in batch.spans.iter().flat_map(|g| &g.scope_spans).flat_map(|s| &s.spans) {
            let weight = match crate::data::get(&span.attributes, WEIGHT) {
                Some(Any::DoubleValue(weight)) => *weight,
                _ => 1.0,
            };
            assert_eq!(weight, if span.status.is_some() { 1.0 } else { 4.0 });
            n += 1;
            stands_for += weight;
        }
        sampler.settle(batch).unwrap();
    }
    assert!(errors < n && (420..=600).contains(&n), "{n}");
    assert!((1700.0..=2300.0).contains(&stands_for), "{stands_for} of 2000");
}

#[test]
fn late_spans_follow_the_decision() {
    let errors = "- {name: e, type: status_code, status_code: {status_codes: [ERROR]}}";
    let sampler = sampler(errors);
    sampler.offer(&tenant(), trace(1, 1, 1).status(2).groups(), at(0)).unwrap();
    sampler.offer(&tenant(), trace(2, 1, 1).groups(), at(0)).unwrap();
    // Still waiting: joins its trace, whose time does not begin anew.
    sampler.offer(&tenant(), trace(1, 2, 1).groups(), at(1900)).unwrap();
    assert_eq!(kept(&sampler, at(2000)), [(1, 3)]);
    let late = sampler.offer(&tenant(), trace(1, 1, 1).groups(), at(2100)).unwrap();
    assert_eq!(shown(&late), [(1, 1)], "kept: goes on at once");
    let late = sampler.offer(&tenant(), trace(2, 1, 1).status(2).groups(), at(2100)).unwrap();
    assert_eq!(late, [], "not kept: dropped, whatever it says");
    assert_eq!(kept(&sampler, at(9000)), []);
    // The same id of another tenant is another trace.
    let other = TenantId::parse("other").unwrap();
    assert_eq!(sampler.offer(&other, trace(1, 1, 1).status(2).groups(), at(2100)).unwrap(), []);
    assert_eq!(kept(&sampler, at(9000)), [(1, 1)]);
    assert_eq!(sampler.stats().late_spans, 2);
}

#[test]
fn the_oldest_goes_when_there_are_too_many() {
    let text = "decision_wait: 2s\nnum_traces: 2\n{CACHE}policies: [{name: e, type: status_code, status_code: {status_codes: [ERROR]}}]";
    let without = open(config(&text.replace("{CACHE}", "")), &Arc::new(SimDir::new(1)));
    for n in 1..=3 {
        without.offer(&tenant(), trace(n, 1, 1).status(2).groups(), at(0)).unwrap();
    }
    assert_eq!(kept(&without, at(2000)), [(2, 1), (3, 1)]);
    assert_eq!((without.stats().dropped_too_early, without.stats().traces_in_memory), (1, 2));
    // Two more push the decided ones out: what comes late is a new trace, decided on itself.
    without.offer(&tenant(), trace(4, 1, 1).groups(), at(3000)).unwrap();
    without.offer(&tenant(), trace(5, 1, 1).groups(), at(3000)).unwrap();
    assert_eq!(without.offer(&tenant(), trace(2, 1, 1).groups(), at(3100)).unwrap(), []);
    assert_eq!(kept(&without, at(9000)), []);

    let cache = "decision_cache: {sampled_cache_size: 10, non_sampled_cache_size: 10}\n";
    let with = open(config(&text.replace("{CACHE}", cache)), &Arc::new(SimDir::new(1)));
    with.offer(&tenant(), trace(1, 1, 1).status(2).groups(), at(0)).unwrap();
    with.offer(&tenant(), trace(2, 1, 1).groups(), at(0)).unwrap();
    assert_eq!(kept(&with, at(2000)), [(1, 1)]);
    for n in 3..=4 {
        with.offer(&tenant(), trace(n, 1, 1).groups(), at(3000)).unwrap();
    }
    assert_eq!(shown(&with.offer(&tenant(), trace(1, 1, 1).groups(), at(3100)).unwrap()), [(1, 1)]);
    assert_eq!(with.offer(&tenant(), trace(2, 1, 1).status(2).groups(), at(3100)).unwrap(), []);
    assert_eq!(kept(&with, at(9000)), []);
}

#[test]
fn what_was_acknowledged_waits_on_after_a_crash() {
    let errors = "- {name: e, type: status_code, status_code: {status_codes: [ERROR]}}";
    for seed in 0..100 {
        let dir = Arc::new(SimDir::new(seed));
        let before = open(policies(errors), &dir);
        before.offer(&tenant(), trace(1, 2, 1).status(2).groups(), at(0)).unwrap();
        before.offer(&tenant(), trace(2, 2, 1).groups(), at(0)).unwrap();
        before.offer(&tenant(), trace(3, 2, 1).status(2).groups(), at(1500)).unwrap();
        // Decided and settled: 1 and 2. Decided, and the crash is faster than the note: none of it may be lost.
        let batches = before.tick(at(2000));
        if seed % 2 == 0 {
            batches.iter().for_each(|batch| before.settle(batch).unwrap());
        }
        dir.crash_after(0);
        drop(before);
        dir.restart();

        let after = open(policies(errors), &dir);
        let again = kept(&after, at(2500));
        assert!(again.is_empty() || again == [(1, 2)], "seed {seed}: {again:?}");
        if seed % 2 == 1 {
            assert_eq!(again, [(1, 2)], "seed {seed}: it was not settled");
        }
        after.offer(&tenant(), trace(3, 1, 1).groups(), at(3000)).unwrap();
        assert_eq!(kept(&after, at(3499)), [], "seed {seed}: its time goes on from the first span");
        assert_eq!(kept(&after, at(3500)), [(3, 3)], "seed {seed}");
    }
}

#[test]
fn a_batch_that_cannot_be_handed_on_comes_again() {
    let dir = Arc::new(SimDir::new(1));
    let sampler = open(policies("- {name: a, type: always_sample}"), &dir);
    sampler.offer(&tenant(), trace(1, 1, 1).groups(), at(0)).unwrap();
    sampler.offer(&tenant(), trace(2, 1, 1).groups(), at(1000)).unwrap();
    let batch = sampler.tick(at(2000)).remove(0);
    sampler.keep_for_later(batch.clone());
    assert_eq!(sampler.tick(at(3000)), [batch], "before anything else is decided");
}

#[test]
fn the_log_is_cut_once_all_is_decided() {
    let dir = Arc::new(SimDir::new(1));
    let sampler = open(policies("- {name: e, type: status_code, status_code: {status_codes: [ERROR]}}"), &dir);
    let long = Any::StringValue("x".repeat(1 << 20));
    for n in 0..100 {
        sampler.offer(&tenant(), trace(n, 1, 1).with("long", long.clone()).groups(), at(i64::from(n) * 100)).unwrap();
        kept(&sampler, at(i64::from(n) * 100));
    }
    let used = dir.used_bytes();
    assert!(used < 60 << 20, "{used} bytes for 20 MB that wait, of 100 MB that came");
    kept(&sampler, at(20_000));
    let used = dir.used_bytes();
    assert!(used < 8 << 20, "{used} bytes for nothing that waits");
    assert_eq!(sampler.stats().waiting_bytes, 0);
}

#[test]
fn a_full_disk_and_a_full_account_refuse_before_anything_is_held() {
    let dir = Arc::new(SimDir::new(1));
    let sampler = open(policies("- {name: a, type: always_sample}"), &dir);
    dir.set_capacity(dir.used_bytes() + 600);
    let large = trace(1, 1, 1).with("long", Any::StringValue("x".repeat(100_000)));
    let error = sampler.offer(&tenant(), large.clone().groups(), at(0)).unwrap_err();
    assert!(matches!(WriteError::from(error), WriteError::Full(_)));
    dir.set_capacity(1 << 30);
    sampler.offer(&tenant(), trace(2, 1, 1).groups(), at(0)).unwrap();

    let budget = Budget::root(1 << 30).child("waiting", 1000);
    let dir = Arc::new(SimDir::new(1));
    let config = policies("- {name: a, type: always_sample}");
    let small = TailSampling::open(config, &budget, dir, "t", SyncMode::Always).unwrap();
    let error = small.offer(&tenant(), large.groups(), at(0)).unwrap_err();
    assert!(matches!(error, TailError::Budget(_)), "{error}");
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn errors_and_slow_roots_decide_at_once_where_nothing_can_overrule_them() {
    let keep = "- {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n\
                - {name: slow, type: latency, latency: {threshold_ms: 500}}\n\
                - {name: rest, type: probabilistic, probabilistic: {sampling_percentage: 0}}\n";
    let open = |early: &str, more: &str| {
        open(config(&format!("{early}decision_wait: 10s\npolicies:\n{keep}{more}")), &Arc::new(SimDir::new(1)))
    };
    let early = "early_decision: true\n";
    // Traces 1: nothing, 2: an error, 3: a slow root, 4: slow, but no root.
    let put = |tail: &TailSampling| {
        let mut inner = trace(4, 1, 900);
        inner.spans[0].parent_span_id = vec![9; 8];
        for made in [trace(1, 2, 10), trace(2, 2, 10).status(2), trace(3, 1, 600), inner] {
            assert_eq!(tail.offer(&TenantId::anonymous(), made.groups(), at(0)).unwrap(), []);
        }
    };
    let kept = |tail: &TailSampling, now: Nanos| -> Vec<u8> {
        let batches = tail.tick(now);
        let mut ids: Vec<u8> = Vec::new();
        for batch in &batches {
            let spans = batch.spans.iter().flat_map(|g| &g.scope_spans).flat_map(|s| &s.spans);
            ids.extend(spans.map(|span| span.trace_id[0]));
            tail.settle(batch).unwrap();
        }
        ids.sort_unstable();
        ids
    };
    let tail = open(early, "");
    put(&tail);
    assert_eq!(kept(&tail, at(100)), [2, 2, 3]);
    assert_eq!(tail.stats().early, 2);
    // What comes later follows at once, and nothing is decided twice.
    let late = tail.offer(&TenantId::anonymous(), trace(2, 1, 1).groups(), at(200)).unwrap();
    assert_eq!(late.len(), 1);
    assert_eq!(kept(&tail, at(10_000)), [4]);
    for (early, more) in [
        ("", ""),
        (
            early,
            "- {name: d, type: drop, drop: {drop_sub_policy: [{name: a, type: span_count, span_count: {min_spans: 9}}]}}\n",
        ),
        (early, "- {name: i, type: boolean_attribute, boolean_attribute: {key: k, value: true, invert_match: true}}\n"),
        (early, "- {name: r, type: rate_limiting, rate_limiting: {spans_per_second: 1000}}\n"),
    ] {
        let tail = open(early, more);
        put(&tail);
        assert_eq!(kept(&tail, at(100)), [0; 0], "{early}{more}");
        assert!(kept(&tail, at(10_000)).len() >= 4, "{early}{more}");
    }
}
