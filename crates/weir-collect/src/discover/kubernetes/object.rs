//! The parts of Kubernetes' objects that labels are made from.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(super) type LabelMap = BTreeMap<String, String>;

/// A kind of object: where its list stands, and its metadata.
pub(super) trait Object: DeserializeOwned + Send + Sync + 'static {
    const KIND: &'static str;
    /// Group and version, such as `/api/v1`.
    const API: &'static str;
    const PLURAL: &'static str;
    const IS_NAMESPACED: bool;
    fn meta(&self) -> &Meta;
}

/// What groups look up beside their own object.
pub(super) trait Lookup {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    /// `None` unless nodes are asked for.
    fn node(&self, name: &str) -> Option<Meta>;
}

pub(super) fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// A name as a label's name may be: what does not fit becomes `_`.
pub(crate) fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// Labels and annotations of an object, each with the label that tells it is there.
pub(super) fn add_labels(out: &mut LabelMap, role: &str, meta: &Meta) {
    for (kind, pairs) in [("label", &meta.labels), ("annotation", &meta.annotations)] {
        for (name, value) in pairs.iter().flatten() {
            let name = sanitize(name);
            out.insert(format!("__meta_kubernetes_{role}_{kind}_{name}"), value.clone());
            out.insert(format!("__meta_kubernetes_{role}_{kind}present_{name}"), "true".to_owned());
        }
    }
}

/// The same with the object's name.
pub(super) fn add_meta(out: &mut LabelMap, role: &str, meta: &Meta) {
    out.insert(format!("__meta_kubernetes_{role}_name"), meta.name.clone());
    add_labels(out, role, meta);
}

pub(super) fn namespace_label(meta: &Meta) -> (String, String) {
    ("__meta_kubernetes_namespace".to_owned(), meta.namespace.clone())
}

/// Sets `__meta_kubernetes_<name>`.
pub(super) fn set(out: &mut LabelMap, name: &str, value: impl Into<String>) {
    out.insert(format!("__meta_kubernetes_{name}"), value.into());
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub owner_references: Vec<OwnerReference>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub controller: bool,
}

/// Declares an object with its metadata and sections.
macro_rules! object {
    ($name:ident, $plural:literal, $api:literal, $namespaced:literal, { $($(#[$m:meta])* $field:ident : $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            pub metadata: Meta,
            $($(#[$m])* pub $field: $type,)*
        }
        impl Object for $name {
            const KIND: &'static str = stringify!($name);
            const API: &'static str = $api;
            const PLURAL: &'static str = $plural;
            const IS_NAMESPACED: bool = $namespaced;
            fn meta(&self) -> &Meta {
                &self.metadata
            }
        }
    };
}

/// Declares a section of an object; what is absent is empty.
macro_rules! section {
    ($name:ident { $($(#[$m:meta])* $field:ident : $type:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name { $($(#[$m])* pub $field: $type,)* }
    };
}

object!(Namespace, "namespaces", "/api/v1", false, {});
object!(Node, "nodes", "/api/v1", false, { spec: NodeSpec, status: NodeStatus });
section!(NodeSpec {
    #[serde(rename = "providerID")]
    provider_id: String
});
section!(NodeStatus { addresses: Vec<NodeAddress>, daemon_endpoints: DaemonEndpoints });
section!(NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String
});
section!(DaemonEndpoints { kubelet_endpoint: DaemonEndpoint });
section!(DaemonEndpoint {
    #[serde(rename = "Port")]
    port: u32
});

object!(Service, "services", "/api/v1", true, { spec: ServiceSpec, status: ServiceStatus });
section!(ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    external_name: String,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: String,
    ports: Vec<ServicePort>,
});
section!(ServiceStatus {});
section!(ServicePort { name: String, port: u32, protocol: String });

object!(Pod, "pods", "/api/v1", true, { spec: PodSpec, status: PodStatus });
section!(PodSpec {
    node_name: String,
    hostname: String,
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
});
section!(Container { name: String, image: String, ports: Vec<ContainerPort> });
section!(ContainerPort { name: String, container_port: u32, protocol: String });
section!(PodStatus {
    phase: String,
    start_time: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
});
section!(Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String
});
section!(ContainerStatus {
    name: String,
    #[serde(rename = "containerID")]
    container_id: String
});

object!(Endpoints, "endpoints", "/api/v1", true, { subsets: Vec<Subset> });
section!(Subset { addresses: Vec<EndpointAddress>, not_ready_addresses: Vec<EndpointAddress>, ports: Vec<EndpointPort> });
section!(EndpointAddress {
    ip: String,
    hostname: String,
    node_name: Option<String>,
    target_ref: Option<ObjectReference>,
});
section!(EndpointPort { name: Option<String>, port: Option<u32>, protocol: Option<String>, app_protocol: Option<String> });
section!(ObjectReference { kind: String, name: String, namespace: String });

object!(EndpointSlice, "endpointslices", "/apis/discovery.k8s.io/v1", true, {
    address_type: String,
    endpoints: Vec<SliceEndpoint>,
    ports: Option<Vec<EndpointPort>>,
});
section!(SliceEndpoint {
    addresses: Vec<String>,
    conditions: SliceConditions,
    hostname: Option<String>,
    node_name: Option<String>,
    zone: Option<String>,
    target_ref: Option<ObjectReference>,
});
section!(SliceConditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool> });

object!(Ingress, "ingresses", "/apis/networking.k8s.io/v1", true, { spec: IngressSpec });
section!(IngressSpec { ingress_class_name: Option<String>, tls: Vec<IngressTls>, rules: Vec<IngressRule> });
section!(IngressTls { hosts: Vec<String> });
section!(IngressRule { host: String, http: Option<IngressHttp> });
section!(IngressHttp { paths: Vec<IngressPath> });
section!(IngressPath { path: String });

impl Endpoints {
    pub fn names_pod(&self, name: &str) -> bool {
        let all = self.subsets.iter().flat_map(|s| s.addresses.iter().chain(&s.not_ready_addresses));
        all.filter_map(|a| a.target_ref.as_ref()).any(|r| r.kind == "Pod" && r.name == name)
    }
}

impl EndpointSlice {
    pub fn names_pod(&self, name: &str) -> bool {
        self.endpoints.iter().filter_map(|e| e.target_ref.as_ref()).any(|r| r.kind == "Pod" && r.name == name)
    }

    pub fn service_name(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.get("kubernetes.io/service-name").map(String::as_str)
    }
}
