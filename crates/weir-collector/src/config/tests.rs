use super::*;

fn none(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<CollectorConfig, Vec<Problem>> {
    CollectorConfig::parse(text, &none)
}

/// The file of the capstone document, as its block stands there.
const PLATFORM: &str = include_str!("../../testdata/platform.yaml");

#[test]
fn a_platform_file_loads_as_it_stands() {
    let config = parse(PLATFORM).unwrap();
    let ids: Vec<&str> = config.pipelines.iter().map(|p| &*p.id).collect();
    assert_eq!(ids, ["traces", "logs"]);
    let processors: Vec<&str> = config.processors.keys().map(ComponentId::as_str).collect();
    assert_eq!(processors, ["batch", "tail_sampling"]);
    let ExporterConfig::Otlp { to, .. } = &config.exporters[&ComponentId("otlp/tempo".to_owned())] else {
        panic!("otlp")
    };
    assert_eq!(to.to_string(), "http://tempo.monitoring.svc:4317");
    let ProcessorConfig::TailSampling(tail) = &config.processors[&ComponentId("tail_sampling".to_owned())] else {
        panic!("tail_sampling")
    };
    assert_eq!((tail.decision_wait.as_secs(), tail.num_traces, tail.policies.len()), (10, 200_000, 3));
    let said: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    let unused = "line 32: processors.filter/drop-high-cardinality: this processor is in no pipeline: it does nothing";
    assert!(said.iter().any(|w| w == unused), "{said:#?}");
}

#[test]
fn every_mistake_is_told_with_its_place() {
    // What stands between the receiver and the pipelines, what is in the pipeline, and what must be said.
    let check = |processors: &str, pipeline: &str, wants: &[&str]| {
        let text = format!(
            "receivers:\n  otlp: {{protocols: {{grpc: }}}}\nexporters:\n  weir:\nprocessors:\n{processors}\
             \nservice:\n  pipelines:\n    {pipeline}\n"
        );
        let said: Vec<String> = match parse(&text) {
            Ok(config) => panic!("{text}: loads as {config:?}"),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        };
        for want in wants {
            assert!(said.iter().any(|line| line.contains(want)), "{text}\nwanted {want}\n{said:#?}");
        }
    };
    let with = |processor: &str| format!("traces: {{receivers: [otlp], processors: [{processor}], exporters: [weir]}}");
    check("  batch: {timout: 1s}", &with("batch"), &["line 6: processors.batch.timout: unknown key", "`timeout`"]);
    check("  batch: {timeout: 1x}", &with("batch"), &["line 6: processors.batch.timeout"]);
    check(
        "  batch: {send_batch_size: 10, send_batch_max_size: 5}",
        &with("batch"),
        &["send_batch_max_size 5 is below"],
    );
    check("  batch: [1]", &with("batch"), &["is a list, not a mapping"]);
    check("  batsh: {}", &with("batch"), &["a processor of type `batsh` is not supported", "`batch` is not defined"]);
    check("  batch: {}", &with("batch, batch"), &["stands here twice"]);
    check(
        "  tail_sampling: {policies: [{name: a, type: always_sample}]}",
        "logs: {receivers: [otlp], processors: [tail_sampling], exporters: [weir]}",
        &["`tail_sampling` is not for logs"],
    );
    check(
        "  tail_sampling: {policies: [{name: a, type: latncy}]}",
        &with("tail_sampling"),
        &["unknown type of policy `latncy`"],
    );
    check(
        "  tail_sampling: {policies: [{name: a, type: numeric_attribute, numeric_attribute: {key: k}}]}",
        &with("tail_sampling"),
        &["both absent"],
    );
    check(
        "  tail_sampling: {policies: [{name: a, type: and, and: {and_sub_policy: [{name: b, type: string_attribute, \
           string_attribute: {key: k, values: ['('], enabled_regex_matching: true}}]}}]}",
        &with("tail_sampling"),
        &["policies[0].and.and_sub_policy[0].string_attribute.values[0]: error parsing regexp"],
    );
    check("  tail_sampling:", &with("tail_sampling"), &["`policies` is missing or empty"]);
    check("  filter: {traces: {span: ['name == \"x']}}", &with("filter"), &["at column 9: a text that is not closed"]);
    check("  filter: {traces: {span: ['nam == \"x\"']}}", &with("filter"), &["`nam` is no path of span"]);
    check("  filter: {logs: {log_record: ['IsMatsh(body, \"x\")']}}", &with("filter"), &["unknown function `IsMatsh`"]);
    check("  filter:", &with("filter"), &["has no condition"]);
    check("  attributes: {actions: [{key: a, action: insert}]}", &with("attributes"), &["`insert` needs `value`"]);
    check("  transform: {trace_statements: ['set(name, \"x\")']}", &with("transform"), &["needs its context in front"]);
    check("  transform: {trace_statements: ['set(log.body, \"x\")']}", &with("transform"), &["traces have no `log`"]);
    check("  memory_limiter: {limit_mib: 10}", &with("memory_limiter"), &["`check_interval` is missing"]);
    check("", "traces: {receivers: [], exporters: [weir]}", &["`receivers` is missing or empty"]);
    check("", "spans: {receivers: [otlp], exporters: [weir]}", &["`spans` is no pipeline"]);
    check("", "traces: {receivers: [jaeger], exporters: [weir]}", &["no receiver `jaeger`"]);
    check("", "traces: {receivers: [otlp], exporters: [otlp]}", &["the exporter `otlp` is not defined"]);
    check("  batch: {timeout: '${env:A'}", &with("batch"), &["is not closed"]);
}

#[test]
fn connectors_need_both_ends_and_no_circle() {
    let text = |a: &str, b: &str| {
        format!(
            "receivers: {{otlp: {{protocols: {{http: }}}}}}\nexporters: {{weir: }}\nconnectors: {{forward: , forward/b: }}\n\
             service:\n  pipelines:\n    traces: {a}\n    traces/b: {b}\n"
        )
    };
    let said = |text: &str| parse(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let good = text("{receivers: [otlp], exporters: [forward]}", "{receivers: [forward], exporters: [weir]}");
    let config = parse(&good).unwrap();
    assert_eq!(config.pipelines[0].targets, [Target::Pipelines(vec![1])]);
    assert_eq!((config.pipelines[0].has_receiver, config.pipelines[1].has_receiver), (true, false));
    let open = text("{receivers: [otlp], exporters: [forward]}", "{receivers: [otlp], exporters: [weir]}");
    assert!(said(&open).contains("`forward` is a receiver of no pipeline of traces"), "{}", said(&open));
    let circle = text(
        "{receivers: [otlp, forward/b], exporters: [forward]}",
        "{receivers: [forward], exporters: [forward/b, weir]}",
    );
    assert!(said(&circle).contains("feed each other: traces -> traces/b -> traces"), "{}", said(&circle));
}

#[test]
fn values_come_from_the_environment() {
    let env = |name: &str| (name == "WAIT").then(|| "3s".to_owned());
    let text = "receivers: {otlp: {protocols: {grpc: {endpoint: '${env:HOST:-0.0.0.0}:4317'}}}}\n\
                exporters: {weir: }\nprocessors: {batch: {timeout: '${env:WAIT}', send_batch_size: '${env:N:-7}'}}\n\
                service: {pipelines: {logs: {receivers: [otlp], processors: [batch], exporters: [weir]}}}\n";
    let config = CollectorConfig::parse(text, &env).unwrap();
    let ProcessorConfig::Batch(batch) = &config.processors[&ComponentId("batch".to_owned())] else { panic!("batch") };
    assert_eq!((batch.timeout.as_secs(), batch.send_batch_size), (3, 7));
}

#[test]
fn what_is_no_yaml_is_told_with_its_line() {
    for (text, line) in [("receivers:\n  otlp: [\n", 2..=3), ("a: 1\na: 2\n", 2..=2), ("- 1\n", 0..=1), ("", 0..=1)] {
        let problems = parse(text).unwrap_err();
        assert!(line.contains(&problems[0].line), "{text:?}: {problems:?}");
    }
    let deep = format!("a: {}1{}", "[".repeat(5000), "]".repeat(5000));
    assert!(parse(&deep).is_err());
}
