//! Role `service`: each port of each service.

use super::super::group::host_port;
use super::object::{LabelMap, Service, add_meta, namespace_label, set};

pub(super) fn group(service: &Service) -> (LabelMap, Vec<LabelMap>) {
    let spec = &service.spec;
    let host = format!("{}.{}.svc", service.metadata.name, service.metadata.namespace);
    let target = |port: &super::object::ServicePort| {
        let mut target = LabelMap::from([("__address__".to_owned(), host_port(&host, port.port))]);
        set(&mut target, "service_port_name", port.name.clone());
        set(&mut target, "service_port_number", port.port.to_string());
        set(&mut target, "service_port_protocol", port.protocol.clone());
        set(&mut target, "service_type", spec.kind.clone());
        match spec.kind.as_str() {
            "ExternalName" => set(&mut target, "service_external_name", spec.external_name.clone()),
            _ => set(&mut target, "service_cluster_ip", spec.cluster_ip.clone()),
        }
        if spec.kind == "LoadBalancer" {
            set(&mut target, "service_loadbalancer_ip", spec.load_balancer_ip.clone());
        }
        target
    };
    (labels(service), spec.ports.iter().map(target).collect())
}

/// What endpoints say about their service.
pub(super) fn labels(service: &Service) -> LabelMap {
    let mut labels = LabelMap::from([namespace_label(&service.metadata)]);
    add_meta(&mut labels, "service", &service.metadata);
    labels
}
