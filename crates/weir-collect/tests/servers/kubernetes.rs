//! An API server with lists in pages, watches, bookmarks, and versions that it forgets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{OriginalUri, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::{discovering, labels_of, serve, until, wait_for};

/// Everything that happened, in order: version, path of the list, event, object.
#[derive(Default)]
struct History {
    events: Vec<(u64, String, &'static str, Value)>,
    /// Watches from before this are answered with 410.
    oldest: u64,
    n_lists: usize,
    /// Ends the open watches when it changes.
    generation: u64,
}

#[derive(Clone)]
struct Fake {
    history: Arc<Mutex<History>>,
    changed: watch::Sender<()>,
}

impl Fake {
    fn new() -> Self {
        Self { history: Arc::default(), changed: watch::channel(()).0 }
    }

    fn add(&self, path: &str, kind: &'static str, mut object: Value) {
        let mut history = self.history.lock().unwrap();
        let version = history.events.last().map_or(10, |e| e.0 + 1);
        object["metadata"]["resourceVersion"] = version.to_string().into();
        history.events.push((version, path.to_owned(), kind, object));
        drop(history);
        self.changed.send_replace(());
    }

    /// Ends all watches and forgets the versions so far.
    fn forget(&self) {
        let mut history = self.history.lock().unwrap();
        history.oldest = history.events.last().map_or(0, |e| e.0) + 1;
        history.generation += 1;
        drop(history);
        self.changed.send_replace(());
    }

    fn n_lists(&self) -> usize {
        self.history.lock().unwrap().n_lists
    }

    async fn serve(&self) -> String {
        serve(Router::new().fallback(answer).with_state(self.clone())).await
    }
}

async fn answer(
    State(fake): State<Fake>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let path = uri.path().to_owned();
    if query.contains_key("watch") { fake.watch(path, &query) } else { fake.list(&path, &query) }
}

impl Fake {
    /// One object a page.
    fn list(&self, path: &str, query: &BTreeMap<String, String>) -> Response {
        let mut history = self.history.lock().unwrap();
        history.n_lists += 1;
        let mut objects = BTreeMap::new();
        for (_, at, kind, object) in history.events.iter().filter(|e| e.1 == path) {
            assert_eq!(at, path);
            let name = format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"]);
            if *kind == "DELETED" { drop(objects.remove(&name)) } else { drop(objects.insert(name, object.clone())) }
        }
        let version = history.events.last().map_or(9, |e| e.0);
        let skip: usize = query.get("continue").map_or(0, |text| text.parse().unwrap());
        let next = if skip + 1 < objects.len() { (skip + 1).to_string() } else { String::new() };
        let items: Vec<Value> = objects.into_values().skip(skip).take(1).collect();
        Json(json!({"metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": items}))
            .into_response()
    }

    fn watch(&self, path: String, query: &BTreeMap<String, String>) -> Response {
        assert_eq!(query["allowWatchBookmarks"], "true");
        let from: u64 = query["resourceVersion"].parse().unwrap();
        let history = self.history.lock().unwrap();
        let generation = history.generation;
        if from < history.oldest {
            // As the real server does: 200, then an event with the status.
            let status = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}});
            return format!("{status}\n").into_response();
        }
        drop(history);
        let mut changes = self.changed.subscribe();
        changes.mark_changed();
        let state = (self.history.clone(), changes, from);
        let stream = futures_util::stream::unfold(state, move |(history, mut changes, mut from)| {
            let path = path.clone();
            async move {
                changes.changed().await.ok()?;
                let mut text = String::new();
                {
                    let known = history.lock().unwrap();
                    if known.generation != generation {
                        return None;
                    }
                    for (version, at, kind, object) in &known.events {
                        if *version <= from {
                            continue;
                        }
                        if *at == path {
                            text += &format!("{}\n", json!({"type": kind, "object": object}));
                        }
                        from = *version;
                    }
                    // Moves the version on for those that saw no change of theirs.
                    let bookmark = json!({"metadata": {"resourceVersion": from.to_string()}});
                    text += &format!("{}\n", json!({"type": "BOOKMARK", "object": bookmark}));
                }
                Some((Ok::<_, std::io::Error>(text), (history, changes, from)))
            }
        });
        (StatusCode::OK, Body::from_stream(stream)).into_response()
    }
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": "u1", "labels": {"app.kubernetes.io/name": "web"},
            "annotations": {"prometheus.io/scrape": "true"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": true}],
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {"name": "app", "image": "app:1", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"},
                                                              {"name": "metrics", "containerPort": 9100, "protocol": "TCP"}]},
                {"name": "side", "image": "side:1"},
            ],
            "initContainers": [{"name": "init", "image": "init:1"}],
        },
        "status": {
            "phase": "Running", "podIP": ip, "hostIP": "10.9.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "app", "containerID": "containerd://c1"}],
        },
    })
}

const PODS: &str = "/api/v1/pods";

#[tokio::test]
async fn pods_come_and_go() {
    let fake = Fake::new();
    fake.add(PODS, "ADDED", pod("web-a", "10.0.0.1"));
    fake.add(PODS, "ADDED", pod("web-b", ""));
    let address = fake.serve().await;
    // As the capstone document relabels.
    let job = format!(
        "kubernetes_sd_configs: [{{role: pod, api_server: 'http://{address}'}}], relabel_configs: [\
         {{source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: 'true'}}, \
         {{source_labels: [__meta_kubernetes_namespace], target_label: namespace}}, \
         {{source_labels: [__meta_kubernetes_pod_name], target_label: pod}}]"
    );
    let collector = discovering(&job, Path::new("."));
    until(&collector, &["10.0.0.1", "10.0.0.1:80", "10.0.0.1:9100"]).await;
    let mut told: Vec<String> = collector.targets().iter().map(|t| t.target.labels.to_string()).collect();
    told.sort();
    assert_eq!(told[1], r#"{instance="10.0.0.1:80", job="j", namespace="shop", pod="web-a"}"#);
    assert_eq!(
        labels_of(&collector, "10.0.0.1:80", "__meta_kubernetes_"),
        [
            "namespace=shop",
            "pod_annotation_prometheus_io_scrape=true",
            "pod_annotationpresent_prometheus_io_scrape=true",
            "pod_container_id=containerd://c1",
            "pod_container_image=app:1",
            "pod_container_init=false",
            "pod_container_name=app",
            "pod_container_port_name=http",
            "pod_container_port_number=80",
            "pod_container_port_protocol=TCP",
            "pod_controller_kind=ReplicaSet",
            "pod_controller_name=web-1",
            "pod_host_ip=10.9.0.1",
            "pod_ip=10.0.0.1",
            "pod_label_app_kubernetes_io_name=web",
            "pod_labelpresent_app_kubernetes_io_name=true",
            "pod_name=web-a",
            "pod_node_name=n1",
            "pod_phase=Running",
            "pod_ready=true",
            "pod_uid=u1",
        ]
    );
    fake.add(PODS, "MODIFIED", pod("web-b", "10.0.0.2"));
    let both = ["10.0.0.1", "10.0.0.1:80", "10.0.0.1:9100", "10.0.0.2", "10.0.0.2:80", "10.0.0.2:9100"];
    until(&collector, &both).await;
    fake.add(PODS, "DELETED", pod("web-a", "10.0.0.1"));
    until(&collector, &both[3..]).await;
    // A watch whose version is forgotten lists again, and sees what went away meanwhile.
    let n_lists = fake.n_lists();
    fake.forget();
    fake.add(PODS, "DELETED", pod("web-b", "10.0.0.2"));
    fake.add(PODS, "ADDED", pod("web-c", "10.0.0.3"));
    until(&collector, &["10.0.0.3", "10.0.0.3:80", "10.0.0.3:9100"]).await;
    assert!(fake.n_lists() > n_lists);
}

#[tokio::test]
async fn endpoints_know_their_pods_and_service() {
    let fake = Fake::new();
    fake.add(PODS, "ADDED", pod("web-a", "10.0.0.1"));
    fake.add(
        "/api/v1/services",
        "ADDED",
        json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"tier": "front"}}}),
    );
    let reference = json!({"kind": "Pod", "name": "web-a", "namespace": "shop"});
    fake.add(
        "/apis/discovery.k8s.io/v1/endpointslices",
        "ADDED",
        json!({
            "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "n1", "zone": "z1",
                           "targetRef": reference}],
        }),
    );
    let address = fake.serve().await;
    let job = format!("kubernetes_sd_configs: [{{role: endpointslice, api_server: 'http://{address}'}}]");
    let collector = discovering(&job, Path::new("."));
    // The pod's other port is a target of its own.
    until(&collector, &["10.0.0.1:80", "10.0.0.1:9100"]).await;
    let labels = labels_of(&collector, "10.0.0.1:80", "__meta_kubernetes_");
    for want in [
        "endpointslice_address_target_name=web-a",
        "endpointslice_address_type=IPv4",
        "endpointslice_endpoint_conditions_ready=true",
        "endpointslice_endpoint_node_name=n1",
        "endpointslice_endpoint_zone=z1",
        "endpointslice_name=web-x",
        "endpointslice_port=80",
        "pod_container_name=app",
        "pod_name=web-a",
        "service_label_tier=front",
        "service_name=web",
    ] {
        assert!(labels.iter().any(|l| l == want), "{want} is not among {labels:?}");
    }
    // A change of the pod is one of its endpoints.
    let mut changed = pod("web-a", "10.0.0.1");
    changed["metadata"]["labels"] = json!({"app": "shop"});
    fake.add(PODS, "MODIFIED", changed);
    let labels = || labels_of(&collector, "10.0.0.1:80", "__meta_kubernetes_");
    let is_changed = || labels().iter().any(|l| l == "pod_label_app=shop");
    wait_for("the pod's new label", is_changed, || format!("{:?}", labels())).await;
}

#[tokio::test]
async fn nodes_services_and_ingresses() {
    let fake = Fake::new();
    fake.add(
        "/api/v1/nodes",
        "ADDED",
        json!({
            "metadata": {"name": "n1"}, "spec": {"providerID": "aws:///i-1"},
            "status": {"addresses": [{"type": "Hostname", "address": "h1"}, {"type": "InternalIP", "address": "10.9.0.1"},
                                      {"type": "InternalIP", "address": "10.9.0.2"}],
                       "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}},
        }),
    );
    fake.add(
        "/api/v1/namespaces/shop/services",
        "ADDED",
        json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "ClusterIP", "clusterIP": "10.8.0.1", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        }),
    );
    fake.add(
        "/apis/networking.k8s.io/v1/ingresses",
        "ADDED",
        json!({
            "metadata": {"name": "i", "namespace": "shop"},
            "spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.example.org"]}],
                     "rules": [{"host": "a.example.org", "http": {"paths": [{"path": "/x"}, {"path": "/y"}]}}, {"host": "b.org"}]},
        }),
    );
    let server = fake.serve().await;
    let discover = |role: &str| {
        discovering(
            &format!("kubernetes_sd_configs: [{{role: {role}, api_server: 'http://{server}'}}]"),
            Path::new("."),
        )
    };
    let nodes = discover("node");
    until(&nodes, &["10.9.0.1:10250"]).await;
    assert_eq!(nodes.targets()[0].target.labels.to_string(), r#"{instance="n1", job="j"}"#);
    assert_eq!(
        labels_of(&nodes, "10.9.0.1:10250", "__meta_kubernetes_"),
        ["node_address_Hostname=h1", "node_address_InternalIP=10.9.0.1", "node_name=n1", "node_provider_id=aws:///i-1"]
    );
    let services = discover("service, namespaces: {names: [shop]}");
    until(&services, &["web.shop.svc:80"]).await;
    let labels = labels_of(&services, "web.shop.svc:80", "__meta_kubernetes_service_");
    assert_eq!(
        labels,
        ["cluster_ip=10.8.0.1", "name=web", "port_name=http", "port_number=80", "port_protocol=TCP", "type=ClusterIP"]
    );
    let ingresses = discovering(
        &format!(
            "kubernetes_sd_configs: [{{role: ingress, api_server: 'http://{server}'}}], relabel_configs: [\
             {{source_labels: [__meta_kubernetes_ingress_scheme, __address__, __meta_kubernetes_ingress_path], \
             regex: '(.+);(.+);(.+)', replacement: '${{1}}://${{2}}${{3}}', target_label: __param_target}}, \
             {{source_labels: [__param_target], target_label: instance}}]"
        ),
        Path::new("."),
    );
    until(&ingresses, &["a.example.org", "a.example.org", "b.org"]).await;
    let mut urls: Vec<String> =
        ingresses.targets().iter().map(|t| t.target.labels.value("instance").to_owned()).collect();
    urls.sort();
    assert_eq!(urls, ["http://b.org/", "https://a.example.org/x", "https://a.example.org/y"]);
}

/// What a follower heard last, by kind and name.
#[derive(Default)]
struct Heard(Mutex<(BTreeMap<String, String>, bool)>);

impl Heard {
    fn note(&self, key: String, what: Option<String>) {
        let known = &mut self.0.lock().unwrap().0;
        match what {
            Some(what) => drop(known.insert(key, what)),
            None => drop(known.remove(&key)),
        }
    }
    fn all(&self) -> String {
        let known = &self.0.lock().unwrap().0;
        known.iter().map(|(key, what)| format!("{key}={what}")).collect::<Vec<_>>().join(" ")
    }
}

impl weir_collect::kubernetes::Follower for Heard {
    fn pod(&self, namespace: &str, name: &str, pod: Option<&weir_collect::kubernetes::Pod>) {
        self.note(format!("pod/{namespace}/{name}"), pod.map(|pod| pod.status.pod_ip.clone()));
    }
    fn namespace(&self, name: &str, meta: Option<&weir_collect::kubernetes::Meta>) {
        self.note(format!("namespace/{name}"), meta.map(|meta| meta.uid.clone()));
    }
    fn node(&self, name: &str, meta: Option<&weir_collect::kubernetes::Meta>) {
        self.note(format!("node/{name}"), meta.map(|meta| meta.uid.clone()));
    }
    fn listed(&self) {
        self.0.lock().unwrap().1 = true;
    }
}

#[tokio::test]
async fn a_follower_hears_of_pods_and_what_they_belong_to() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fake = Fake::new();
    fake.add(PODS, "ADDED", pod("web-a", "10.0.0.1"));
    fake.add("/api/v1/namespaces", "ADDED", json!({"metadata": {"name": "shop", "uid": "s1"}}));
    fake.add("/api/v1/nodes", "ADDED", json!({"metadata": {"name": "n1", "uid": "m1"}}));
    let address = fake.serve().await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let text = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: l}}}}]\nclusters: [{{name: l, cluster: {{server: 'http://{address}'}}}}]\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let options = weir_collect::kubernetes::FollowOptions {
        kubeconfig_file: Some(kubeconfig),
        with_namespaces: true,
        with_nodes: true,
        ..Default::default()
    };
    let (heard, stop) = (Arc::new(Heard::default()), tokio_util::sync::CancellationToken::new());
    let following = tokio::spawn(weir_collect::kubernetes::follow(options, heard.clone(), stop.clone()));
    let hears = async |want: &str| wait_for(want, || heard.all() == want, || heard.all()).await;
    hears("namespace/shop=s1 node/n1=m1 pod/shop/web-a=10.0.0.1").await;
    wait_for("all to be listed", || heard.0.lock().unwrap().1, || heard.all()).await;
    fake.add(PODS, "ADDED", pod("web-b", "10.0.0.2"));
    fake.add(PODS, "DELETED", pod("web-a", "10.0.0.1"));
    hears("namespace/shop=s1 node/n1=m1 pod/shop/web-b=10.0.0.2").await;
    // What goes away while nobody watches is told as soon as the list is read again.
    fake.forget();
    fake.add(PODS, "DELETED", pod("web-b", "10.0.0.2"));
    hears("namespace/shop=s1 node/n1=m1").await;
    stop.cancel();
    following.await.unwrap();
}
