//! Files in Alloy's language, and what they become.

use std::collections::BTreeMap;
use std::path::Path;

use weir_model::{Labels, Nanos};

use super::super::entry::Entry;
use super::super::pipeline::{Around, Pipeline};
use super::super::targets::LogTargets;
use super::super::{LogMetrics, PromtailConfig};
use crate::config::{Auth, Secret};

fn env(name: &str) -> Option<String> {
    (name == "LOKI").then(|| "http://loki:3100".to_owned())
}

fn parse(text: &str) -> Result<PromtailConfig, String> {
    super::parse(text, &env)
}

#[track_caller]
fn refused(text: &str, wants: &[&str]) {
    let error = parse(text).map(|_| ()).unwrap_err();
    for want in wants {
        assert!(error.contains(want), "{text}: {error}");
    }
}

/// As the documentation of Alloy tells people to collect the logs of pods.
const PODS: &str = r#"
logging { level = "info" }

discovery.kubernetes "pod" {
  role = "pod"
  selectors {
    role  = "pod"
    field = "spec.nodeName=" + coalesce(sys.env("NODE"), "n1")
  }
}

// What becomes of labels.
discovery.relabel "pod_logs" {
  targets = discovery.kubernetes.pod.targets

  rule {
    source_labels = ["__meta_kubernetes_namespace"]
    action        = "replace"
    target_label  = "namespace"
  }
  rule {
    source_labels = ["__meta_kubernetes_pod_uid", "__meta_kubernetes_pod_container_name"]
    separator     = "/"
    target_label  = "__path__"
    replacement   = "/var/log/pods/*$1/*.log"
  }
}

local.file_match "pods" {
  path_targets = discovery.relabel.pod_logs.output
}

loki.source.file "pods" {
  targets    = concat(local.file_match.pods.targets, [{__path__ = "/var/log/syslog", job = "sys" + "log"}])
  forward_to = [loki.process.pods.receiver]
}

loki.process "pods" {
  stage.cri { }
  stage.static_labels {
    values = { cluster = "c1" }
  }
  stage.match {
    selector = "{namespace=\"shop\"}"
    stage.json { expressions = {level = ""} }
    stage.labels { values = {level = ""} }
  }
  stage.metrics {
    metric.counter {
      name = "lines"
      match_all = true
      action = "inc"
    }
  }
  forward_to = [loki.relabel.last.receiver]
}

loki.relabel "last" {
  forward_to = [loki.write.default.receiver]
  rule {
    regex  = "filename"
    action = "labeldrop"
  }
}

loki.write "default" {
  endpoint {
    url = string.format("%s/loki/api/v1/push", env("LOKI"))
    tenant_id = "t1"
    retry_on_http_429 = false
    basic_auth {
      username = "u"
      password = "p"
    }
  }
  external_labels = { dc = "eu" }
}
"#;

#[test]
fn a_file_as_people_have_it() {
    let config = parse(PODS).unwrap();
    let jobs: Vec<&str> = config.scrape_configs.iter().map(|scrape| &*scrape.job.name).collect();
    assert_eq!(jobs, ["loki.source.file.pods", "loki.source.file.pods#2"]);
    let client = &config.clients[0];
    assert_eq!((client.url.as_str(), client.drops_rate_limited), ("http://loki:3100/loki/api/v1/push", true));
    assert_eq!(client.external_labels.to_string(), r#"{dc="eu"}"#);
    let basic = Auth::Basic { username: Secret::Text("u".into()), password: Secret::Text("p".into()) };
    assert_eq!((client.tenant.as_ref().map(|t| t.as_str()), &client.http.auth), (Some("t1"), &basic));
    assert_eq!(config.warnings, ["logging has no effect here"]);
    // A pod as discovery gives it.
    let pod = [("namespace", "shop"), ("pod_uid", "u-1"), ("pod_container_name", "web")];
    let labels = pod.iter().map(|(n, v)| (format!("__meta_kubernetes_{n}"), (*v).to_owned())).collect();
    let group = crate::discover::TargetGroup { source: "p".into(), labels, targets: vec![BTreeMap::new()] };
    let group = std::sync::Arc::new(group);
    let targets = LogTargets::of(&config, "n1", |_| vec![group.clone()]);
    let shown: Vec<String> = targets.active.iter().map(|t| format!("{} {}", t.path(), t.labels())).collect();
    assert_eq!(shown, [r#"/var/log/pods/*u-1/web/*.log {namespace="shop"}"#, r#"/var/log/syslog {job="syslog"}"#]);
}

#[test]
fn lines_go_through_the_stages() {
    let config = parse(PODS).unwrap();
    let metrics = LogMetrics::default();
    let mut pipeline = Pipeline::new(&config.scrape_configs[0].job.stages);
    let (mut out, around) = (Vec::new(), Around { now: Nanos(1), metrics: &metrics });
    for (namespace, line) in [("shop", "{\"level\":\"warn\"}"), ("other", "{\"level\":\"warn\"}")] {
        let labels = Labels::from_pairs([("namespace", namespace), ("filename", "/f")]);
        let line = format!("2024-01-01T00:00:00.000000001Z stdout F {line}");
        pipeline.push(Entry::new(labels, Nanos(0), line, 0), &around, &mut out);
    }
    let shown: Vec<String> = out.iter().map(|entry| format!("{} {}", entry.labels, entry.line)).collect();
    assert_eq!(
        shown,
        [
            r#"{cluster="c1", level="warn", namespace="shop", stream="stdout"} {"level":"warn"}"#,
            r#"{cluster="c1", namespace="other", stream="stdout"} {"level":"warn"}"#,
        ]
    );
}

const WRITE: &str = "loki.write \"w\" { endpoint { url = \"http://h/push\" } }\n";

#[test]
fn receivers_form_a_net() {
    let text = format!(
        "{WRITE}
loki.source.file \"f\" {{
  targets = [{{__path__ = \"/a\"}}]
  forward_to = [loki.process.a.receiver, loki.process.b.receiver]
}}
loki.process \"a\" {{
  stage.static_labels {{ values = {{x = \"1\"}} }}
  forward_to = [loki.process.b.receiver]
}}
loki.process \"b\" {{
  stage.drop {{ expression = \"debug\" }}
  forward_to = [loki.write.w.receiver]
}}"
    );
    let config = parse(&text).unwrap();
    let n_stages: Vec<usize> = config.scrape_configs.iter().map(|scrape| scrape.job.stages.len()).collect();
    // Each process begins afresh where its stages look at what was extracted.
    assert_eq!(n_stages.len(), 2, "{n_stages:?}");
    assert!(n_stages[0] > n_stages[1], "{n_stages:?}");
    let circle = text.replace("forward_to = [loki.write.w.receiver]", "forward_to = [loki.process.a.receiver]");
    refused(&circle, &["form a circle"]);
}

#[test]
fn syslog_and_pods_of_this_node() {
    let config = parse(&format!(
        "{WRITE}
loki.relabel \"rules\" {{
  forward_to = []
  rule {{
    source_labels = [\"__syslog_message_hostname\"]
    target_label = \"host\"
  }}
}}
loki.source.syslog \"s\" {{
  listener {{
    address = \"127.0.0.1:1514\"
    labels = {{ job = \"syslog\" }}
  }}
  listener {{
    address = \"127.0.0.1:1515\"
    protocol = \"udp\"
  }}
  relabel_rules = loki.relabel.rules.rules
  forward_to = [loki.write.w.receiver]
}}"
    ))
    .unwrap();
    let listeners: Vec<_> = config.syslog().map(|s| (s.job().to_owned(), s.address.clone(), s.protocol)).collect();
    let job = |name: &str| format!("loki.source.syslog.{name}");
    use super::super::syslog::SyslogProtocol::{Tcp, Udp};
    assert_eq!(
        listeners,
        [(job("s"), "127.0.0.1:1514".to_owned(), Tcp), (job("s#2"), "127.0.0.1:1515".to_owned(), Udp)]
    );
    let pods = |field: &str| {
        format!(
            "{WRITE}discovery.kubernetes \"k\" {{\n  role = \"pod\"\n{field}\n}}\nloki.source.kubernetes \"k\" {{\n  \
             targets = discovery.kubernetes.k.targets\n  forward_to = [loki.write.w.receiver]\n}}"
        )
    };
    refused(&pods(""), &["line 6 column 1", "run it on every node"]);
    let own = pods("  selectors {\n    role = \"pod\"\n    field = \"spec.nodeName=n\"\n  }");
    let config = parse(&own).unwrap();
    let meta = [("namespace", "shop"), ("pod_name", "web-0"), ("pod_uid", "u-1"), ("pod_container_name", "web")];
    let labels = meta.iter().map(|(n, v)| (format!("__meta_kubernetes_{n}"), (*v).to_owned())).collect();
    let group = crate::discover::TargetGroup { source: "p".into(), labels, targets: vec![BTreeMap::new()] };
    let group = std::sync::Arc::new(group);
    let targets = LogTargets::of(&config, "n", |_| vec![group.clone()]);
    let shown: Vec<String> = targets.active.iter().map(|t| format!("{} {}", t.path(), t.labels())).collect();
    let want = r#"/var/log/pods/*u-1/web/*.log {instance="shop/web-0:web", job="loki.source.kubernetes.k"}"#;
    assert_eq!(shown, [want]);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let source = |inner: &str| {
        format!("{WRITE}loki.source.file \"f\" {{\n  targets = []\n  forward_to = [loki.write.w.receiver]\n{inner}\n}}")
    };
    refused("prometheus.scrape \"x\" {\n}", &["line 1 column 1", "`prometheus.scrape`", "--prometheus-config"]);
    refused("loki.write {\n}", &["needs a label"]);
    refused(&format!("{WRITE}{WRITE}"), &["line 2 column 1", "stands twice"]);
    refused(&source("  tail_from_end = true"), &["line 5 column 19", "tail_from_end", "from their start"]);
    refused(&source("  encoding = \"utf-16\""), &["encoding", "UTF-8"]);
    refused(&source("  speed = 1"), &["line 5 column 3", "`speed`"]);
    refused(&source("  decompression {\n    enabled = true\n  }"), &["line 6", "packed"]);
    let process =
        |stage: &str| format!("{WRITE}loki.process \"p\" {{\n  forward_to = [loki.write.w.receiver]\n  {stage}\n}}");
    refused(&process("stage.luhn { }"), &["line 4 column 3", "stage.luhn"]);
    refused(&process("stage.drop { colour = 1 }"), &["line 4 column 16", "colour"]);
    refused(&process("stage.regex { expression = \"(\" }"), &["line 4 column 3", "stage.regex"]);
    refused(
        &process("stage.labels {\n    source_type = \"x\"\n    values = {a = \"\"}\n  }"),
        &["line 5", "source_type"],
    );
    refused(&process("stage.match {\n    selector = \"{}\"\n    stage.geoip { }\n  }"), &["line 6 column 5", "geoip"]);
    refused("loki.write \"w\" {\n  endpoint {\n    url = \"ftp://x\"\n  }\n}", &["line 2 column 3", "http"]);
    refused("loki.write \"w\" {\n  endpoint {\n    uri = \"x\"\n  }\n}", &["line 3 column 5", "uri"]);
    refused("discovery.relabel \"a\" {\n  targets = discovery.relabel.a.output\n}", &["refers to itself"]);
    refused(
        "discovery.relabel \"a\" {\n  targets = discovery.relabel.b.output\n}",
        &["line 2 column 13", "no component"],
    );
    refused("discovery.relabel \"a\" {\n  targets = 1\n}", &["line 2 column 13", "list of targets"]);
    let two = format!(
        "{}loki.write \"v\" {{ endpoint {{ url = \"http://i/push\" }} }}\nloki.source.file \"g\" {{\n  targets = \
         [{{__path__ = \"/x\"}}]\n  forward_to = [loki.write.v.receiver]\n}}",
        source("") + "\n"
    );
    refused(&two, &["do not reach", "loki.write"]);
}

/// Cases of the functions: the documentation of Alloy's standard library.
#[test]
fn expressions_are_computed() {
    let check = |expr: &str, want: &str| {
        let text = format!(
            "loki.write \"w\" {{\n  external_labels = {{ x = {expr} }}\n  endpoint {{ url = \"http://h/p\" }}\n}}
loki.source.file \"f\" {{\n  targets = []\n  forward_to = [loki.write.w.receiver]\n}}"
        );
        let config = parse(&text);
        let got = config.map(|config| config.clients[0].external_labels.get("x").unwrap_or_default().to_owned());
        assert_eq!(got, Ok(want.to_owned()), "{expr}");
    };
    check("\"a\" + \"b\"", "ab");
    check("env(\"NOT_SET\")", "");
    check("coalesce(env(\"NOT_SET\"), \"\", \"c\")", "c");
    check("string.join([\"a\", \"b\"], \"-\")", "a-b");
    check("split(\"a,b\", \",\")[1]", "b");
    check("string.to_upper(trim_space(\" x \"))", "X");
    check("replace(\"hello\", \"l\", \"L\")", "heLLo");
    check("format(\"%s-%d%%\", \"a\", 7 / 2)", "a-3%");
    check("json_decode(\"{\\\"a\\\": [\\\"x\\\"]}\").a[0]", "x");
    check("encoding.from_yaml(\"a: x\")[\"a\"]", "x");
    check("encoding.from_base64(\"aGk=\")", "hi");
    check("file.path_join(\"/a\", \"../b\", \"c/\")", "/b/c");
    check("[{a = \"x\"}][0].a", "x");
    for (expr, want) in [("1 < 2 && !(2 == 3)", "true"), ("2 ^ 3 ^ 2 - 1 == 511", "true"), ("\"a\" < \"b\"", "true")] {
        check(&format!("format(\"%t\", {expr})"), want);
    }
    let refuses = |expr: &str, want: &str| {
        refused(&format!("loki.write \"w\" {{\n  external_labels = {{ x = {expr} }}\n}}"), &[want]);
    };
    refuses("1 / 0", "division by zero");
    refuses("\"a\" - 1", "does not go with");
    refuses("[1][3]", "no element 3");
    refuses("json_path(\"\", \"\")", "no component of this file and no function");
    refuses("trim(1)", "does not take (a number)");
}

#[test]
fn a_secret_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "s3cret").unwrap();
    let text = format!(
        "local.file \"t\" {{\n  filename = {:?}\n  is_secret = true\n}}\nloki.write \"w\" {{\n  endpoint {{\n    url = \
         \"http://h/p\"\n    bearer_token = local.file.t.content\n  }}\n}}\nloki.source.file \"f\" {{\n  targets = []\n  \
         forward_to = [loki.write.w.receiver]\n}}",
        path.to_str().unwrap()
    );
    let config = parse(&text).unwrap();
    let want = Auth::Header { kind: "Bearer".into(), credentials: Secret::Text("s3cret".into()) };
    assert_eq!(config.clients[0].http.auth, want);
    assert!(Path::new(&path).exists());
}
