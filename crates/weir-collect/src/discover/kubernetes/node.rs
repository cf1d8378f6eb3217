//! Role `node`: the kubelet of each node.

use super::super::group::host_port;
use super::object::{LabelMap, Node, add_meta, sanitize, set};

/// Which of a node's addresses is scraped, best first.
const ADDRESSES: [&str; 6] = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];

pub(super) fn group(node: &Node) -> (LabelMap, Vec<LabelMap>) {
    let mut labels = LabelMap::new();
    set(&mut labels, "node_provider_id", node.spec.provider_id.clone());
    add_meta(&mut labels, "node", &node.metadata);
    let all = &node.status.addresses;
    let Some(first) = ADDRESSES.iter().find_map(|kind| all.iter().find(|a| a.kind == *kind)) else {
        return (labels, Vec::new());
    };
    let port = node.status.daemon_endpoints.kubelet_endpoint.port;
    let mut target = LabelMap::from([
        ("__address__".to_owned(), host_port(&first.address, port)),
        ("instance".to_owned(), node.metadata.name.clone()),
    ]);
    // Of several addresses of a kind, the first counts.
    for address in all.iter().rev() {
        set(&mut target, &format!("node_address_{}", sanitize(&address.kind)), address.address.clone());
    }
    (labels, vec![target])
}
