//! What senders call things: one list of label or attribute names per role, tried in order.

use serde::Deserialize;

/// Names per role, first hit wins. Dotted names also match with underscores (`service.name` finds
/// `service_name`), as OTLP attributes look once they are labels.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aliases {
    pub service: Vec<String>,
    pub instance: Vec<String>,
    pub namespace: Vec<String>,
    pub node: Vec<String>,
    pub version: Vec<String>,
    pub topic: Vec<String>,
    /// Only beside a topic.
    pub partition: Vec<String>,
    pub consumer_group: Vec<String>,
    /// Names that mean a consumer group only beside a topic or in a metric about consumer groups.
    pub consumer_group_weak: Vec<String>,
    pub database: Vec<String>,
    /// Names that mean a database only in a metric whose name is about databases.
    pub database_weak: Vec<String>,
}

fn names(list: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(list.len() * 2);
    for name in list {
        for form in [(*name).to_owned(), underscored(name)] {
            if !out.contains(&form) {
                out.push(form);
            }
        }
    }
    out
}

fn underscored(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

impl Default for Aliases {
    fn default() -> Self {
        Self {
            service: names(&[
                "service.name",
                "service",
                "app",
                "app.kubernetes.io/name",
                "application",
                "k8s.deployment.name",
                "deployment",
                "k8s.container.name",
                "container",
                "job",
            ]),
            instance: names(&[
                "service.instance.id",
                "k8s.pod.name",
                "pod",
                "pod_name",
                "instance",
                "exported_instance",
            ]),
            namespace: names(&["service.namespace", "k8s.namespace.name", "namespace", "kubernetes_namespace"]),
            node: names(&["k8s.node.name", "node", "nodename", "host.name", "host", "hostname"]),
            version: names(&["service.version", "app.kubernetes.io/version", "app_version", "version"]),
            topic: names(&["messaging.destination.name", "topic", "kafka.topic"]),
            partition: names(&[
                "messaging.destination.partition.id",
                "messaging.kafka.destination.partition",
                "messaging.kafka.partition",
                "partition",
            ]),
            consumer_group: names(&[
                "messaging.consumer.group.name",
                "messaging.kafka.consumer.group",
                "consumer_group",
                "consumergroup",
                "consumer.group",
                "group_id",
            ]),
            consumer_group_weak: names(&["group", "group.id"]),
            database: names(&["db.namespace", "db.name", "datname", "database"]),
            database_weak: names(&["server", "schema"]),
        }
    }
}
