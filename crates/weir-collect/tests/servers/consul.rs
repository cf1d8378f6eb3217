//! A catalogue with an index: questions with the current index wait for the next.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as UrlPath, Query, State};
use axum::http::HeaderMap;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{discovering, labels_of, serve, until};

#[derive(Clone, Default)]
struct Catalogue {
    index: u64,
    services: BTreeMap<String, Vec<Value>>,
}

type Fake = Arc<watch::Sender<Catalogue>>;

/// Waits as Consul does; gives the headers and what is known then.
async fn wait(fake: &Fake, query: &BTreeMap<String, String>) -> (HeaderMap, Catalogue) {
    assert!(query.contains_key("stale") && query["dc"] == "dc1", "{query:?}");
    let known: u64 = query.get("index").map_or(0, |text| text.parse().unwrap());
    let mut changes = fake.subscribe();
    // An index from the future, as after a restart of the server, is answered at once.
    let now = changes.wait_for(|c| c.index != known).await.unwrap().clone();
    (HeaderMap::from_iter([("X-Consul-Index".parse().unwrap(), now.index.to_string().parse().unwrap())]), now)
}

async fn services(State(fake): State<Fake>, Query(query): Query<BTreeMap<String, String>>) -> (HeaderMap, Json<Value>) {
    let (headers, now) = wait(&fake, &query).await;
    (headers, Json(now.services.keys().map(|name| (name.clone(), json!([]))).collect::<serde_json::Map<_, _>>().into()))
}

async fn health(
    State(fake): State<Fake>,
    UrlPath(name): UrlPath<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> (HeaderMap, Json<Value>) {
    let (headers, now) = wait(&fake, &query).await;
    (headers, Json(now.services.get(&name).cloned().unwrap_or_default().into()))
}

fn entry(address: &str, port: u16, status: &str) -> Value {
    json!({
        "Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1", "Meta": {"rack-id": "r1"},
                 "TaggedAddresses": {"lan": "10.0.0.1"}},
        "Service": {"ID": "id1", "Service": "web", "Tags": ["blue", "v2"], "Address": address, "Port": port,
                    "Meta": {"version": "2"}, "Namespace": "ns1", "Partition": "p1"},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}, {"CheckID": "c", "Status": status}],
    })
}

#[tokio::test]
async fn the_catalogue_is_followed() {
    let first = Catalogue {
        index: 7,
        services: BTreeMap::from([
            ("db".to_owned(), vec![entry("10.1.0.9", 5432, "critical")]),
            ("web 1".to_owned(), vec![entry("", 80, "passing")]),
        ]),
    };
    let fake: Fake = Arc::new(watch::channel(first).0);
    let router = Router::new()
        .route("/base/v1/catalog/services", get(services))
        .route("/base/v1/health/service/{name}", get(health))
        .with_state(fake.clone());
    let address = serve(router).await;
    let job = format!(
        "consul_sd_configs: [{{server: '{address}', path_prefix: base, datacenter: dc1, refresh_interval: 20ms}}]"
    );
    let collector = discovering(&job, Path::new("."));
    until(&collector, &["10.0.0.1:80", "10.1.0.9:5432"]).await;
    assert_eq!(
        labels_of(&collector, "10.1.0.9:5432", "__meta_consul_"),
        [
            "address=10.0.0.1",
            "dc=dc1",
            "health=critical",
            "metadata_rack_id=r1",
            "namespace=ns1",
            "node=n1",
            "partition=p1",
            "service=db",
            "service_address=10.1.0.9",
            "service_id=id1",
            "service_metadata_version=2",
            "service_port=5432",
            "tagged_address_lan=10.0.0.1",
            "tags=,blue,v2,",
        ]
    );
    let change = |change: fn(&mut Catalogue)| fake.send_modify(change);
    change(|c| {
        c.index = 8;
        c.services.get_mut("web 1").unwrap().push(entry("10.0.0.2", 81, "passing"));
    });
    until(&collector, &["10.0.0.1:80", "10.0.0.2:81", "10.1.0.9:5432"]).await;
    change(|c| {
        c.index = 9;
        c.services.remove("db");
    });
    until(&collector, &["10.0.0.1:80", "10.0.0.2:81"]).await;
    // The server lost its state: its index starts again.
    change(|c| {
        c.index = 2;
        c.services = BTreeMap::from([("new".to_owned(), vec![entry("10.3.0.1", 1, "passing")])]);
    });
    until(&collector, &["10.3.0.1:1"]).await;
}
