//! Role `endpointslice`: as `endpoints`, from the newer objects.

use super::super::group::host_port;
use super::endpoints::{Pods, add_node};
use super::object::{EndpointPort, EndpointSlice, LabelMap, Lookup, SliceEndpoint, add_meta, namespace_label, set};
use super::service;

pub(super) fn group(slice: &EndpointSlice, lookup: &dyn Lookup) -> (LabelMap, Vec<LabelMap>) {
    let meta = &slice.metadata;
    let mut labels = LabelMap::from([namespace_label(meta)]);
    set(&mut labels, "endpointslice_address_type", slice.address_type.clone());
    add_meta(&mut labels, "endpointslice", meta);
    if let Some(found) = slice.service_name().and_then(|name| lookup.service(&meta.namespace, name)) {
        labels.extend(service::labels(&found));
    }
    let mut pods = Pods::default();
    let mut targets = Vec::new();
    for endpoint in &slice.endpoints {
        for port in slice.ports.iter().flatten() {
            for address in &endpoint.addresses {
                let mut target = target(address, endpoint, port, lookup);
                pods.add(&mut target, endpoint.target_ref.as_ref(), port.port, lookup);
                targets.push(target);
            }
        }
    }
    targets.extend(pods.other_ports());
    (labels, targets)
}

fn target(address: &str, endpoint: &SliceEndpoint, port: &EndpointPort, lookup: &dyn Lookup) -> LabelMap {
    let joined = port.port.map_or_else(|| address.to_owned(), |port| host_port(address, port));
    let mut out = LabelMap::from([("__address__".to_owned(), joined)]);
    let conditions = &endpoint.conditions;
    let texts = [
        ("endpointslice_port_name", port.name.clone()),
        ("endpointslice_port_protocol", port.protocol.clone()),
        ("endpointslice_port", port.port.map(|p| p.to_string())),
        ("endpointslice_port_app_protocol", port.app_protocol.clone()),
        ("endpointslice_endpoint_conditions_ready", conditions.ready.map(|b| b.to_string())),
        ("endpointslice_endpoint_conditions_serving", conditions.serving.map(|b| b.to_string())),
        ("endpointslice_endpoint_conditions_terminating", conditions.terminating.map(|b| b.to_string())),
        ("endpointslice_endpoint_hostname", endpoint.hostname.clone()),
        ("endpointslice_endpoint_node_name", endpoint.node_name.clone()),
        ("endpointslice_endpoint_zone", endpoint.zone.clone()),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            set(&mut out, name, value);
        }
    }
    if let Some(target) = &endpoint.target_ref {
        set(&mut out, "endpointslice_address_target_kind", target.kind.clone());
        set(&mut out, "endpointslice_address_target_name", target.name.clone());
    }
    add_node(&mut out, endpoint.target_ref.as_ref(), endpoint.node_name.as_deref(), lookup);
    out
}
