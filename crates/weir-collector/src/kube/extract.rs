//! What is written of an object into a resource.

use opentelemetry_proto::tonic::common::v1::KeyValue;

use super::config::{From, KubeConfig, Rule};
use super::pods::{Container, Meta, Pod};
use super::put;
use crate::data::{get, text_of};

/// Everything that is asked for of a pod, its containers included.
pub(super) fn pod(config: &KubeConfig, pod: &Pod, attributes: &mut Vec<KeyValue>) {
    for name in &config.metadata {
        if let Some(value) = of_pod(pod, name) {
            put(attributes, name, &value);
        }
    }
    if let Some(container) = container(pod, attributes) {
        for name in &config.metadata {
            if let Some(value) = of_container(container, name) {
                put(attributes, name, &value);
            }
        }
    }
    meta(config, From::Pod, &pod.meta, attributes);
}

/// Labels and annotations by the rules for such objects, and what is asked for by name.
pub(super) fn meta(config: &KubeConfig, from: From, meta: &Meta, attributes: &mut Vec<KeyValue>) {
    for (rules, values) in [(&config.labels, &meta.labels), (&config.annotations, &meta.annotations)] {
        for rule in rules.iter().filter(|rule| rule.from == from) {
            rule.each(values, &mut |tag, value| put(attributes, tag, value));
        }
    }
    let own = match from {
        From::Node => "k8s.node.uid",
        From::Namespace => "k8s.namespace.uid",
        From::Pod => return,
    };
    if config.metadata.iter().any(|name| name == own) {
        put(attributes, own, &meta.uid);
    }
}

/// An attribute of a pod by its name, also where it is not asked for: an association may need it.
pub(super) fn told(config: &KubeConfig, pod: &Pod, name: &str) -> Option<String> {
    if let Some(value) = of_pod(pod, name) {
        return Some(value);
    }
    if name == "container.id" {
        // Of one of several containers there is no telling which.
        return match &pod.containers[..] {
            [one] => of_container(one, name),
            _ => None,
        };
    }
    let mut found = None;
    for (rules, values) in [(&config.labels, &pod.meta.labels), (&config.annotations, &pod.meta.annotations)] {
        for rule in rules.iter().filter(|rule| rule.from == From::Pod) {
            rule.each(values, &mut |tag, value| {
                if tag == name {
                    found = Some(value.to_owned());
                }
            });
        }
    }
    found
}

fn of_pod(pod: &Pod, name: &str) -> Option<String> {
    let owner = |kind: &str| pod.owners.iter().find(|owner| owner.kind == kind);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match name {
        "k8s.namespace.name" => some(&pod.meta.namespace),
        "k8s.pod.name" => some(&pod.meta.name),
        "k8s.pod.uid" => some(&pod.meta.uid),
        "k8s.pod.ip" => some(&pod.ip),
        "k8s.pod.hostname" => some(if pod.hostname.is_empty() { &pod.meta.name } else { &pod.hostname }),
        "k8s.pod.start_time" => some(&pod.start_time),
        "k8s.node.name" => some(&pod.node),
        "k8s.replicaset.name" => owner("ReplicaSet").map(|o| o.name.clone()),
        "k8s.replicaset.uid" => owner("ReplicaSet").map(|o| o.uid.clone()),
        "k8s.daemonset.name" => owner("DaemonSet").map(|o| o.name.clone()),
        "k8s.daemonset.uid" => owner("DaemonSet").map(|o| o.uid.clone()),
        "k8s.statefulset.name" => owner("StatefulSet").map(|o| o.name.clone()),
        "k8s.statefulset.uid" => owner("StatefulSet").map(|o| o.uid.clone()),
        "k8s.job.name" => owner("Job").map(|o| o.name.clone()),
        "k8s.job.uid" => owner("Job").map(|o| o.uid.clone()),
        "k8s.deployment.name" => deployment(pod),
        "k8s.cronjob.name" => {
            // A job of a cron job is named by it and by a time in minutes.
            let (name, time) = owner("Job")?.name.rsplit_once('-')?;
            time.bytes().all(|b| b.is_ascii_digit()).then(|| name.to_owned())
        }
        _ => None,
    }
}

/// A deployment's replica sets are named by it and by the hash of their template, which its pods have as a label.
fn deployment(pod: &Pod) -> Option<String> {
    let set = &pod.owners.iter().find(|owner| owner.kind == "ReplicaSet")?.name;
    let hash = pod.meta.labels.get("pod-template-hash")?;
    let name = set.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The container that a resource names, or the only one.
fn container<'p>(pod: &'p Pod, attributes: &[KeyValue]) -> Option<&'p Container> {
    let told = |name: &str| get(attributes, name).map(text_of).filter(|text| !text.is_empty());
    if let Some(name) = told("k8s.container.name") {
        return pod.containers.iter().find(|container| container.name == name);
    }
    if let Some(id) = told("container.id") {
        return pod.containers.iter().find(|container| container.id == id);
    }
    match &pod.containers[..] {
        [one] => Some(one),
        _ => None,
    }
}

fn of_container(container: &Container, name: &str) -> Option<String> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (image, tag) = image(&container.image);
    match name {
        "k8s.container.name" => some(&container.name),
        "container.id" => some(&container.id),
        "container.image.name" => some(image),
        "container.image.tag" => some(tag),
        _ => None,
    }
}

/// Repository and tag: `registry:5000/shop/web:1.2@sha256:…` is `registry:5000/shop/web` and `1.2`.
fn image(image: &str) -> (&str, &str) {
    let (image, digest) = image.split_once('@').map_or((image, ""), |(image, digest)| (image, digest));
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ if digest.is_empty() && !image.is_empty() => (image, "latest"),
        _ => (image, ""),
    }
}

impl Rule {
    /// The tags that it makes of labels or annotations.
    fn each(&self, values: &std::collections::BTreeMap<String, String>, put: &mut dyn FnMut(&str, &str)) {
        let Some(regex) = &self.regex else {
            if let Some(value) = values.get(&self.key) {
                put(&self.tag, value);
            }
            return;
        };
        for (name, value) in values {
            let Some(found) = regex.captures(name) else { continue };
            let mut tag = String::new();
            match self.tag.is_empty() {
                true => tag = format!("{}.{name}", self.default_tag),
                false => found.expand(&self.tag, &mut tag),
            }
            put(&tag, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_names_and_tags() {
        for (text, want) in [
            ("web", ("web", "latest")),
            ("web:1.2", ("web", "1.2")),
            ("registry:5000/shop/web", ("registry:5000/shop/web", "latest")),
            ("registry:5000/shop/web:1.2@sha256:ab", ("registry:5000/shop/web", "1.2")),
            ("web@sha256:ab", ("web", "")),
            ("", ("", "")),
        ] {
            assert_eq!(image(text), want, "{text}");
        }
    }
}
