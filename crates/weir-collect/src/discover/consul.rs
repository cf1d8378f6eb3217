//! Targets from Consul's catalogue, by blocking queries. Source: Prometheus `discovery/consul`,
//! Consul's HTTP API ("blocking queries").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Found;
use super::group::{TargetGroup, host_port};
use super::kubernetes::object::sanitize;
use crate::config::ConsulSd;
use crate::http::{Http, bounded, chain, secret};

/// How long the server may hold a question until something changes.
const WAIT: Duration = Duration::from_secs(120);
const RETRY_AFTER: Duration = Duration::from_secs(15);
const BODY_BYTES_MAX: usize = 64 << 20;

struct Consul {
    config: ConsulSd,
    http: Http,
}

/// An answer and the index to wait from.
struct Indexed<T> {
    value: T,
    index: u64,
}

pub(super) async fn run(config: &ConsulSd, found: &Arc<Found>) {
    let http = match Http::new(&config.http) {
        Ok(http) => http,
        Err(error) => return found.failed("consul", error),
    };
    let consul = Arc::new(Consul { config: config.clone(), http });
    // The watches end with this set.
    let mut watches = JoinSet::new();
    if !config.services.is_empty() && config.tags.is_empty() {
        for name in &config.services {
            watches.spawn(watch_service(consul.clone(), name.clone(), found.clone()));
        }
        return std::future::pending().await;
    }
    let mut watched: BTreeMap<String, tokio::task::AbortHandle> = BTreeMap::new();
    let mut index = 0;
    loop {
        // Ended watches leave the set.
        while watches.try_join_next().is_some() {}
        let started = Instant::now();
        match consul.get::<BTreeMap<String, Vec<String>>>("/v1/catalog/services", &[], index).await {
            Ok(answer) => {
                found.worked();
                if answer.index != index {
                    index = answer.index;
                    let wanted = consul.wanted(answer.value);
                    watched.retain(|name, watch| wanted.contains(name) || (watch.abort(), false).1);
                    for name in &wanted {
                        watched.entry(name.clone()).or_insert_with(|| {
                            watches.spawn(watch_service(consul.clone(), name.clone(), found.clone()))
                        });
                    }
                    // After the watches ended, so that none of them writes once more.
                    found.retain(|source| wanted.contains(source));
                }
                tokio::time::sleep_until(started + config.refresh_interval).await;
            }
            Err(error) => {
                found.failed("consul", error);
                index = 0;
                tokio::time::sleep(RETRY_AFTER.min(config.refresh_interval)).await;
            }
        }
    }
}

async fn watch_service(consul: Arc<Consul>, name: String, found: Arc<Found>) {
    let mut index = 0;
    let path = format!("/v1/health/service/{}", escaped(&name));
    let tags: Vec<(&str, &str)> = consul.config.tags.iter().map(|tag| ("tag", tag.as_str())).collect();
    loop {
        let started = Instant::now();
        match consul.get::<Vec<Entry>>(&path, &tags, index).await {
            Ok(answer) => {
                if answer.index != index {
                    index = answer.index;
                    found.set(&name, Some(consul.group(&name, &answer.value)));
                }
                tokio::time::sleep_until(started + consul.config.refresh_interval).await;
            }
            Err(error) => {
                found.failed("consul", error);
                index = 0;
                tokio::time::sleep(RETRY_AFTER.min(consul.config.refresh_interval)).await;
            }
        }
    }
}

fn escaped(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

impl Consul {
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        params: &[(&str, &str)],
        index: u64,
    ) -> Result<Indexed<T>, String> {
        let config = &self.config;
        let url = format!("{}{path}", config.url);
        let mut query: Vec<(&str, String)> = params.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let texts = [("dc", &config.datacenter), ("ns", &config.namespace), ("partition", &config.partition)];
        query
            .extend(texts.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (*name, (*value).clone())));
        if path == "/v1/catalog/services" && !config.filter.is_empty() {
            query.push(("filter", config.filter.clone()));
        }
        query.extend(config.node_meta.iter().map(|(key, value)| ("node-meta", format!("{key}:{value}"))));
        if config.allow_stale {
            query.push(("stale", String::new()));
        }
        if index > 0 {
            query.push(("index", index.to_string()));
        }
        query.push(("wait", format!("{}s", WAIT.as_secs())));
        // The server adds up to a sixteenth of the wait.
        let mut request = self.http.client.get(&url).query(&query).timeout(WAIT + WAIT / 8);
        if let Some(token) = &config.token {
            request = request.header("X-Consul-Token", secret(token)?);
        }
        let fail = |e: String| format!("{url}: {e}");
        let response = self.http.dress(request).await.map_err(fail)?.send().await.map_err(|e| fail(chain(&e)))?;
        if !response.status().is_success() {
            return Err(fail(format!("server returned HTTP status {}", response.status())));
        }
        let header = response.headers().get("X-Consul-Index").and_then(|v| v.to_str().ok());
        let answered: u64 = header.and_then(|text| text.parse().ok()).unwrap_or(0);
        let body = bounded(response, BODY_BYTES_MAX).await.map_err(fail)?;
        let value = serde_json::from_slice(&body).map_err(|e| fail(e.to_string()))?;
        // An index that went back is one of another life of the server: start anew.
        let next = if answered < index { 0 } else { answered.max(1) };
        Ok(Indexed { value, index: next })
    }

    fn wanted(&self, services: BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
        let has_tags = |tags: &[String]| self.config.tags.iter().all(|tag| tags.contains(tag));
        let is_named = |name: &String| self.config.services.is_empty() || self.config.services.contains(name);
        services.into_iter().filter(|(name, tags)| is_named(name) && has_tags(tags)).map(|(name, _)| name).collect()
    }

    fn group(&self, name: &str, entries: &[Entry]) -> TargetGroup {
        let mut labels = BTreeMap::from([("__meta_consul_service".to_owned(), name.to_owned())]);
        if !self.config.datacenter.is_empty() {
            labels.insert("__meta_consul_dc".to_owned(), self.config.datacenter.clone());
        }
        let targets = entries.iter().map(|entry| self.target(entry)).collect();
        TargetGroup { source: name.to_owned(), labels, targets }
    }

    fn target(&self, entry: &Entry) -> BTreeMap<String, String> {
        let (node, service) = (&entry.node, &entry.service);
        let separator = &self.config.tag_separator;
        // The separator stands at both ends, so that a pattern finds whole tags.
        let tags = format!("{separator}{}{separator}", service.tags.as_deref().unwrap_or(&[]).join(separator));
        let host = if service.address.is_empty() { &node.address } else { &service.address };
        let mut out = BTreeMap::new();
        let mut set = |name: &str, value: String| drop(out.insert(name.to_owned(), value));
        set("__address__", host_port(host, service.port));
        set("__meta_consul_address", node.address.clone());
        set("__meta_consul_node", node.node.clone());
        set("__meta_consul_namespace", service.namespace.clone());
        set("__meta_consul_partition", service.partition.clone());
        set("__meta_consul_tags", tags);
        set("__meta_consul_service_address", service.address.clone());
        set("__meta_consul_service_port", service.port.to_string());
        set("__meta_consul_service_id", service.id.clone());
        set("__meta_consul_health", health(&entry.checks).to_owned());
        if !node.datacenter.is_empty() {
            set("__meta_consul_dc", node.datacenter.clone());
        }
        for (key, value) in node.meta.iter().flatten() {
            set(&format!("__meta_consul_metadata_{}", sanitize(key)), value.clone());
        }
        for (key, value) in service.meta.iter().flatten() {
            set(&format!("__meta_consul_service_metadata_{}", sanitize(key)), value.clone());
        }
        for (key, value) in node.tagged_addresses.iter().flatten() {
            set(&format!("__meta_consul_tagged_address_{}", sanitize(key)), value.clone());
        }
        out
    }
}

/// The worst of all checks; maintenance hides everything else.
fn health(checks: &[Check]) -> &'static str {
    let is_maintenance =
        |check: &Check| check.check_id == "_node_maintenance" || check.check_id.starts_with("_service_maintenance:");
    if checks.iter().any(is_maintenance) {
        return "maintenance";
    }
    ["critical", "warning"].into_iter().find(|s| checks.iter().any(|c| c.status == *s)).unwrap_or("passing")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Node {
    node: String,
    address: String,
    datacenter: String,
    meta: Option<BTreeMap<String, String>>,
    tagged_addresses: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    address: String,
    port: u32,
    tags: Option<Vec<String>>,
    meta: Option<BTreeMap<String, String>>,
    namespace: String,
    partition: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Check {
    #[serde(rename = "CheckID")]
    check_id: String,
    status: String,
}
