//! `k8sattributes` as the file has it.

use std::time::Duration;

use regex::Regex;

use crate::config::{Field, Section};

/// What is written where nothing is asked for.
const DEFAULT: [&str; 6] =
    ["k8s.namespace.name", "k8s.pod.name", "k8s.pod.uid", "k8s.pod.start_time", "k8s.deployment.name", "k8s.node.name"];
const MORE: [&str; 17] = [
    "k8s.pod.ip",
    "k8s.pod.hostname",
    "k8s.replicaset.name",
    "k8s.replicaset.uid",
    "k8s.daemonset.name",
    "k8s.daemonset.uid",
    "k8s.statefulset.name",
    "k8s.statefulset.uid",
    "k8s.job.name",
    "k8s.job.uid",
    "k8s.cronjob.name",
    "k8s.node.uid",
    "k8s.namespace.uid",
    "k8s.container.name",
    "container.id",
    "container.image.name",
    "container.image.tag",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Pod,
    Namespace,
    Node,
}

/// A label or annotation that becomes an attribute.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub from: From,
    pub key: String,
    /// In place of a key: all that match as a whole.
    pub regex: Option<Regex>,
    /// May name groups of the expression; empty with one: the default with the label's name.
    pub tag: String,
    pub default_tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Connection,
    Attribute(String),
}

/// All of its sources must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Association {
    pub sources: Vec<Source>,
}

/// How the API server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KubeAuth {
    /// As a pod of the cluster.
    ServiceAccount,
    /// As `KUBECONFIG` says, or `~/.kube/config`.
    Kubeconfig,
}

/// A checked `k8sattributes`.
#[derive(Clone, Debug)]
pub struct KubeConfig {
    pub auth: KubeAuth,
    /// Only the address is written; nobody is asked.
    pub passthrough: bool,
    /// Empty: all.
    pub namespace: String,
    pub label_selector: String,
    pub field_selector: String,
    pub(super) metadata: Vec<String>,
    pub(super) labels: Vec<Rule>,
    pub(super) annotations: Vec<Rule>,
    /// The first that fits; none: by address.
    pub(super) associations: Vec<Association>,
    excluded: Vec<Regex>,
    pub(super) wait: Option<Duration>,
}

impl KubeConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let auth = match section.get("auth_type").and_then(|f| Some((f.text()?, f))) {
            None => KubeAuth::ServiceAccount,
            Some((text, _)) if text == "serviceAccount" => KubeAuth::ServiceAccount,
            Some((text, _)) if text == "kubeConfig" => KubeAuth::Kubeconfig,
            Some((text, field)) => {
                field.error(format!("`{text}` is not supported: serviceAccount or kubeConfig"));
                KubeAuth::ServiceAccount
            }
        };
        section.unsupported(&["context"]);
        let (namespace, label_selector, field_selector) = filter(&section);
        let (metadata, labels, annotations) = extract(&section);
        let timeout = section.duration_or("wait_for_metadata_timeout", Duration::from_secs(10));
        let read = Self {
            auth,
            passthrough: section.bool_or("passthrough", false),
            namespace,
            label_selector,
            field_selector,
            metadata,
            labels,
            annotations,
            associations: associations(&section),
            excluded: excluded(&section),
            wait: section.bool_or("wait_for_metadata", false).then_some(timeout),
        };
        section.without_effect(&["watch_sync_period"], "changes are followed as they happen");
        section.finish();
        read
    }

    pub(super) fn is_excluded(&self, pod: &str) -> bool {
        self.excluded.iter().any(|regex| regex.is_match(pod))
    }

    fn asks(&self, from: From, own: &str) -> bool {
        self.labels.iter().chain(&self.annotations).any(|rule| rule.from == from)
            || self.metadata.iter().any(|name| name == own)
    }

    /// Whether namespaces have to be known too.
    pub fn needs_namespaces(&self) -> bool {
        self.asks(From::Namespace, "k8s.namespace.uid")
    }

    pub fn needs_nodes(&self) -> bool {
        self.asks(From::Node, "k8s.node.uid")
    }
}

/// Namespace, and selectors of labels and fields as the API takes them.
fn filter(section: &Section<'_>) -> (String, String, String) {
    let Some(inner) = section.section("filter") else { return Default::default() };
    let mut fields = Vec::new();
    let from_env = inner.get("node_from_env_var").and_then(|field| {
        let name = field.text()?;
        let value = std::env::var(&name).ok().filter(|value| !value.is_empty());
        if value.is_none() {
            field.warn(format!("the environment has no `{name}`: pods of every node are followed"));
        }
        value
    });
    if let Some(node) = from_env.or_else(|| inner.text("node")).filter(|node| !node.is_empty()) {
        fields.push(format!("spec.nodeName={node}"));
    }
    let mut labels = Vec::new();
    for (key, out) in [("labels", &mut labels), ("fields", &mut fields)] {
        for item in inner.items(key) {
            let one = item.section();
            let name = one.required("key").and_then(|f| f.text()).unwrap_or_default();
            let value = one.text("value").unwrap_or_default();
            match one.text("op").as_deref().unwrap_or("equals") {
                "" | "equals" => out.push(format!("{name}={value}")),
                "not-equals" => out.push(format!("{name}!={value}")),
                "exists" if key == "labels" => out.push(name),
                "does-not-exist" if key == "labels" => out.push(format!("!{name}")),
                other => one.error(format!("`{other}` is no operation for {key}")),
            }
            one.finish();
        }
    }
    let namespace = inner.text("namespace").unwrap_or_default();
    inner.finish();
    (namespace, labels.join(","), fields.join(","))
}

fn extract(section: &Section<'_>) -> (Vec<String>, Vec<Rule>, Vec<Rule>) {
    let default = || DEFAULT.iter().map(|&name| name.to_owned()).collect();
    let Some(inner) = section.section("extract") else { return (default(), Vec::new(), Vec::new()) };
    let metadata = match inner.get("metadata") {
        None => default(),
        Some(field) => {
            for item in field.items() {
                if let Some(name) = item.text().filter(|name| !DEFAULT.iter().chain(&MORE).any(|known| known == name)) {
                    item.error(format!(
                        "`{name}` is not supported; known are {}, {}",
                        DEFAULT.join(", "),
                        MORE.join(", ")
                    ));
                }
            }
            field.texts()
        }
    };
    let (labels, annotations) = (rules(&inner, "labels"), rules(&inner, "annotations"));
    if inner.bool_or("otel_annotations", false) {
        inner.error("otel_annotations is not supported");
    }
    inner.get("deployment_name_from_replicaset");
    inner.finish();
    (metadata, labels, annotations)
}

fn rules(section: &Section<'_>, key: &'static str) -> Vec<Rule> {
    let rule = |item: &Field<'_>| {
        let inner = item.section();
        let (from, name) = match inner.text("from").as_deref().unwrap_or("pod") {
            "pod" => (From::Pod, "pod"),
            "namespace" => (From::Namespace, "namespace"),
            "node" => (From::Node, "node"),
            other => {
                inner.error(format!("from `{other}` is not supported: pod, namespace or node"));
                (From::Pod, "pod")
            }
        };
        let default_tag = format!("k8s.{name}.{key}");
        let regex = inner.get("key_regex").and_then(|field| match weir_go::regex_anchored(&field.text()?) {
            Ok(regex) => Some(regex),
            Err(error) => {
                field.error(error.to_string());
                None
            }
        });
        let own = inner.text("key").unwrap_or_default();
        if own.is_empty() == regex.is_none() && inner.get("key_regex").is_none_or(|_| regex.is_some()) {
            inner.error("give either `key` or `key_regex`");
        }
        inner.unsupported(&["regex"]);
        let mut tag = inner.text("tag_name").unwrap_or_default();
        if tag.is_empty() && regex.is_none() {
            tag = format!("{default_tag}.{own}");
        }
        inner.finish();
        Rule { from, key: own, regex, tag, default_tag }
    };
    section.items(key).iter().map(rule).collect()
}

fn associations(section: &Section<'_>) -> Vec<Association> {
    let source = |item: &Field<'_>| {
        let inner = item.section();
        let from = inner.required("from").and_then(|f| f.text()).unwrap_or_default();
        let name = inner.text("name").unwrap_or_default();
        let read = match (&*from, name.is_empty()) {
            ("connection", _) => Some(Source::Connection),
            ("resource_attribute", false) => Some(Source::Attribute(name)),
            ("resource_attribute", true) => {
                inner.error("`name` is missing");
                None
            }
            ("", _) => None,
            (other, _) => {
                inner.error(format!("from `{other}`: give resource_attribute or connection"));
                None
            }
        };
        inner.finish();
        read
    };
    let association = |item: &Field<'_>| {
        let inner = item.section();
        let mut sources: Vec<Source> = inner.items("sources").iter().filter_map(source).collect();
        // The old form has one source, without a list.
        if inner.get("from").is_some() {
            inner.get("name");
            sources.extend(source(item));
            return Association { sources };
        }
        if sources.is_empty() {
            inner.error("`sources` is missing or empty");
        }
        inner.finish();
        Association { sources }
    };
    section.items("pod_association").iter().map(association).collect()
}

fn excluded(section: &Section<'_>) -> Vec<Regex> {
    let Some(inner) = section.section("exclude") else {
        return ["jaeger-agent", "jaeger-collector"].iter().filter_map(|name| weir_go::regex(name).ok()).collect();
    };
    let one = |item: &Field<'_>| {
        let pod = item.section();
        let field = pod.required("name");
        pod.finish();
        let field = field?;
        match weir_go::regex(&field.text()?) {
            Ok(regex) => Some(regex),
            Err(error) => {
                field.error(error.to_string());
                None
            }
        }
    };
    let read = inner.items("pods").iter().filter_map(one).collect();
    inner.finish();
    read
}
