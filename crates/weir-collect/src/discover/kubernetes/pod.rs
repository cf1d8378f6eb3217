//! Role `pod`: each declared port of each container; the pod itself where none is declared.

use super::super::group::host_port;
use super::object::{Container, ContainerPort, LabelMap, Lookup, Pod, add_meta, namespace_label, set};

pub(super) fn group(pod: &Pod, lookup: &dyn Lookup) -> (LabelMap, Vec<LabelMap>) {
    // Before it has an address there is nothing to scrape.
    if pod.status.pod_ip.is_empty() {
        return (LabelMap::new(), Vec::new());
    }
    let mut labels = labels(pod);
    if let Some(node) = lookup.node(&pod.spec.node_name) {
        add_meta(&mut labels, "node", &node);
    }
    let mut targets = Vec::new();
    let all = pod.spec.containers.iter().map(|c| (c, false)).chain(pod.spec.init_containers.iter().map(|c| (c, true)));
    for (container, is_init) in all {
        let about = about(pod, container, is_init);
        if container.ports.is_empty() {
            // Without a port: relabelling adds one.
            targets.push(with_address(about, pod.status.pod_ip.clone()));
            continue;
        }
        for port in &container.ports {
            let mut target = with_address(about.clone(), host_port(&pod.status.pod_ip, port.container_port));
            add_port(&mut target, port);
            targets.push(target);
        }
    }
    (labels, targets)
}

fn with_address(mut labels: LabelMap, address: String) -> LabelMap {
    labels.insert("__address__".to_owned(), address);
    labels
}

fn about(pod: &Pod, container: &Container, is_init: bool) -> LabelMap {
    let mut out = LabelMap::new();
    let statuses = if is_init { &pod.status.init_container_statuses } else { &pod.status.container_statuses };
    let id = statuses.iter().find(|s| s.name == container.name).map(|s| s.container_id.clone());
    set(&mut out, "pod_container_name", container.name.clone());
    set(&mut out, "pod_container_id", id.unwrap_or_default());
    set(&mut out, "pod_container_image", container.image.clone());
    set(&mut out, "pod_container_init", is_init.to_string());
    out
}

fn add_port(out: &mut LabelMap, port: &ContainerPort) {
    set(out, "pod_container_port_name", port.name.clone());
    set(out, "pod_container_port_number", port.container_port.to_string());
    set(out, "pod_container_port_protocol", port.protocol.clone());
}

/// What a target of endpoints says about the container behind it.
pub(super) fn add_container(out: &mut LabelMap, container: &Container, port: &ContainerPort) {
    set(out, "pod_container_name", container.name.clone());
    set(out, "pod_container_image", container.image.clone());
    add_port(out, port);
}

/// Everything about a pod as a whole, its namespace included.
pub(super) fn labels(pod: &Pod) -> LabelMap {
    let mut out = LabelMap::from([namespace_label(&pod.metadata)]);
    let ready = pod.status.conditions.iter().find(|c| c.kind == "Ready").map(|c| c.status.to_lowercase());
    set(&mut out, "pod_ip", pod.status.pod_ip.clone());
    set(&mut out, "pod_ready", ready.unwrap_or_else(|| "unknown".to_owned()));
    set(&mut out, "pod_phase", pod.status.phase.clone());
    set(&mut out, "pod_node_name", pod.spec.node_name.clone());
    set(&mut out, "pod_host_ip", pod.status.host_ip.clone());
    set(&mut out, "pod_uid", pod.metadata.uid.clone());
    if let Some(owner) = pod.metadata.owner_references.iter().find(|o| o.controller) {
        set(&mut out, "pod_controller_kind", owner.kind.clone());
        set(&mut out, "pod_controller_name", owner.name.clone());
    }
    add_meta(&mut out, "pod", &pod.metadata);
    out
}
