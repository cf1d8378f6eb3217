//! Role `endpoints`: each address and port behind each service, and the other ports of its pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::group::host_port;
use super::object::{
    EndpointAddress, EndpointPort, Endpoints, LabelMap, Lookup, ObjectReference, Pod, add_meta, namespace_label, set,
};
use super::{pod, service};

pub(super) fn group(endpoints: &Endpoints, lookup: &dyn Lookup) -> (LabelMap, Vec<LabelMap>) {
    let meta = &endpoints.metadata;
    let mut labels = LabelMap::from([namespace_label(meta)]);
    add_meta(&mut labels, "endpoints", meta);
    if let Some(found) = lookup.service(&meta.namespace, &meta.name) {
        labels.extend(service::labels(&found));
    }
    let mut pods = Pods::default();
    let mut targets = Vec::new();
    for subset in &endpoints.subsets {
        for port in &subset.ports {
            let ready = subset.addresses.iter().map(|a| (a, true));
            for (address, is_ready) in ready.chain(subset.not_ready_addresses.iter().map(|a| (a, false))) {
                let mut target = target(address, port, is_ready, lookup);
                pods.add(&mut target, address.target_ref.as_ref(), port.port, lookup);
                targets.push(target);
            }
        }
    }
    targets.extend(pods.other_ports());
    (labels, targets)
}

fn target(address: &EndpointAddress, port: &EndpointPort, is_ready: bool, lookup: &dyn Lookup) -> LabelMap {
    let mut out = LabelMap::from([("__address__".to_owned(), host_port(&address.ip, port.port.unwrap_or(0)))]);
    set(&mut out, "endpoint_port_name", port.name.clone().unwrap_or_default());
    set(&mut out, "endpoint_port_protocol", port.protocol.clone().unwrap_or_default());
    set(&mut out, "endpoint_ready", is_ready.to_string());
    if let Some(target) = &address.target_ref {
        set(&mut out, "endpoint_address_target_kind", target.kind.clone());
        set(&mut out, "endpoint_address_target_name", target.name.clone());
    }
    if let Some(node) = &address.node_name {
        set(&mut out, "endpoint_node_name", node.clone());
    }
    if !address.hostname.is_empty() {
        set(&mut out, "endpoint_hostname", address.hostname.clone());
    }
    add_node(&mut out, address.target_ref.as_ref(), address.node_name.as_deref(), lookup);
    out
}

/// Labels of the node behind an address, when nodes are asked for.
pub(super) fn add_node(out: &mut LabelMap, of: Option<&ObjectReference>, named: Option<&str>, lookup: &dyn Lookup) {
    let name = of.filter(|r| r.kind == "Node").map(|r| r.name.as_str()).or(named);
    if let Some(node) = name.and_then(|name| lookup.node(name)) {
        add_meta(out, "node", &node);
    }
}

/// Pods that endpoints name, with the ports that these cover.
#[derive(Default)]
pub(super) struct Pods(BTreeMap<String, (Arc<Pod>, Vec<u32>)>);

impl Pods {
    /// Adds what is known of the pod behind a target, and of the container that has the port.
    pub fn add(&mut self, target: &mut LabelMap, of: Option<&ObjectReference>, port: Option<u32>, lookup: &dyn Lookup) {
        let Some(of) = of.filter(|r| r.kind == "Pod") else { return };
        let Some(found) = lookup.pod(&of.namespace, &of.name) else { return };
        target.extend(pod::labels(&found));
        for container in &found.spec.containers {
            if let Some(declared) = container.ports.iter().find(|p| Some(p.container_port) == port) {
                pod::add_container(target, container, declared);
            }
        }
        let key = super::object::key(&of.namespace, &of.name);
        self.0.entry(key).or_insert_with(|| (found, Vec::new())).1.extend(port);
    }

    /// Ports of containers that no endpoint covers are targets too.
    pub fn other_ports(self) -> Vec<LabelMap> {
        let mut out = Vec::new();
        for (found, covered) in self.0.into_values() {
            // A pod that starts or was evicted has no address, and one that ended does not answer.
            let is_over = matches!(found.status.phase.as_str(), "Succeeded" | "Failed");
            if found.status.pod_ip.is_empty() || is_over {
                continue;
            }
            for container in &found.spec.containers {
                for port in container.ports.iter().filter(|p| !covered.contains(&p.container_port)) {
                    let address = host_port(&found.status.pod_ip, port.container_port);
                    let mut target = LabelMap::from([("__address__".to_owned(), address)]);
                    pod::add_container(&mut target, container, port);
                    target.extend(pod::labels(&found));
                    out.push(target);
                }
            }
        }
        out
    }
}
