//! `k8sattributes`: resources learn of the pod that they come from.
//!
//! [`Pods`] is what is known of a cluster, told from outside as it changes; [`KubeConfig`] says which pod belongs to a
//! resource and what is written of it. No request, no clock.

mod config;
mod extract;
mod pods;

use std::net::IpAddr;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use weir_model::Nanos;
use weir_model::sink::WriteError;

use crate::data::{Data, get, set, text_of};

pub use config::{KubeAuth, KubeConfig};
pub use pods::{Container, Meta, Owner, Pod, Pods};

use config::{Association, Source};

impl Pods {
    /// Writes what is known into every resource of a batch. `peer`: who sent it.
    pub(crate) fn process(&self, data: &mut Data, peer: Option<IpAddr>, now: Nanos) -> Result<(), WriteError> {
        if self.must_wait(now) {
            return Err(WriteError::Full("the pods of Kubernetes are not known yet (wait_for_metadata)".to_owned()));
        }
        macro_rules! each {
            ($groups:ident) => {
                for group in $groups {
                    self.resource(&mut group.resource.get_or_insert_default().attributes, peer, now);
                }
            };
        }
        match data {
            Data::Traces(groups) => each!(groups),
            Data::Metrics(groups) => each!(groups),
            Data::Logs(groups) => each!(groups),
        }
        Ok(())
    }

    fn resource(&self, attributes: &mut Vec<KeyValue>, peer: Option<IpAddr>, now: Nanos) {
        let config = self.config();
        if config.passthrough {
            if let Some(ip) = address(attributes, peer) {
                put(attributes, "k8s.pod.ip", &ip);
            }
            return;
        }
        let found = match &config.associations[..] {
            [] => address(attributes, peer).and_then(|ip| self.by_address(&ip, now)),
            all => all.iter().enumerate().find_map(|(k, association)| {
                let values = values(association, attributes, peer)?;
                if let Some(ip) = peer.filter(|_| association.sources.contains(&Source::Connection)) {
                    put(attributes, "k8s.pod.ip", &ip.to_string());
                }
                self.by_association(k, &values, now)
            }),
        };
        if let Some(pod) = found
            && !config.is_excluded(&pod.meta.name)
        {
            extract::pod(config, &pod, attributes);
        }
        let told = |name: &str| get(attributes, name).map(text_of);
        let (namespace, node) = (told("k8s.namespace.name"), told("k8s.node.name"));
        if let Some(meta) = namespace.and_then(|name| self.namespace(&name)) {
            extract::meta(config, config::From::Namespace, &meta, attributes);
        }
        if let Some(meta) = node.and_then(|name| self.node(&name)) {
            extract::meta(config, config::From::Node, &meta, attributes);
        }
    }
}

/// What stands on the resource already is left as it is.
fn put(attributes: &mut Vec<KeyValue>, key: &str, value: &str) {
    let is_missing = match get(attributes, key) {
        None => true,
        Some(Any::StringValue(text)) => text.is_empty(),
        Some(_) => false,
    };
    if is_missing && !value.is_empty() {
        set(attributes, key, Any::StringValue(value.to_owned()));
    }
}

/// Where no association says it: the address that the resource tells, or that it came from.
fn address(attributes: &[KeyValue], peer: Option<IpAddr>) -> Option<String> {
    let told = |name: &str| get(attributes, name).map(text_of).filter(|text| !text.is_empty());
    let host = || told("host.name").filter(|name| name.parse::<IpAddr>().is_ok());
    told("k8s.pod.ip").or_else(|| told("ip")).or_else(|| peer.map(|ip| ip.to_string())).or_else(host)
}

/// What a resource says for each source of an association; `None` when it lacks one.
fn values(association: &Association, attributes: &[KeyValue], peer: Option<IpAddr>) -> Option<Vec<String>> {
    let value = |source: &Source| match source {
        Source::Connection => peer.map(|ip| ip.to_string()),
        Source::Attribute(name) => get(attributes, name).map(text_of).filter(|text| !text.is_empty()),
    };
    association.sources.iter().map(value).collect()
}

#[cfg(test)]
mod tests;
