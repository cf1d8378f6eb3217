use opentelemetry_proto::tonic::logs::v1::ResourceLogs;

use super::*;
use crate::config::{Findings, read_yaml};

fn read(text: &str) -> (KubeConfig, Vec<String>) {
    let node = read_yaml(text).unwrap();
    let findings = Findings::default();
    let field = crate::config::Field { findings: &findings, path: String::new(), line: 1, node: &node };
    let read = KubeConfig::read(field.section());
    (read, findings.into_sorted().0.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn pods(text: &str) -> Pods {
    let (config, errors) = read(text);
    assert_eq!(errors, [""; 0], "{text}");
    let pods = Pods::new(config);
    pods.set_pod(web("web-7d9f-x1", "10.0.0.1"), Nanos(0));
    pods
}

fn map(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn web(name: &str, ip: &str) -> Pod {
    let labels = map(&[("pod-template-hash", "7d9f"), ("app.kubernetes.io/name", "web"), ("team", "core")]);
    Pod {
        meta: Meta {
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            uid: format!("uid-{name}"),
            labels,
            annotations: map(&[("owner", "ann")]),
        },
        owners: vec![Owner { kind: "ReplicaSet".to_owned(), name: "web-7d9f".to_owned(), uid: "r1".to_owned() }],
        ip: ip.to_owned(),
        node: "n1".to_owned(),
        start_time: "2026-11-22T01:00:00Z".to_owned(),
        containers: vec![
            Container { name: "app".to_owned(), image: "reg:5000/web:1.2".to_owned(), id: "c1".to_owned() },
            Container { name: "side".to_owned(), image: "side".to_owned(), id: "c2".to_owned() },
        ],
        ..Pod::default()
    }
}

/// What stands on a resource afterwards, without what did before.
fn told(pods: &Pods, resource: &[(&str, &str)], peer: &str, now: i64) -> String {
    let mut group = ResourceLogs::default();
    let attributes = &mut group.resource.get_or_insert_default().attributes;
    resource.iter().for_each(|(key, value)| set(attributes, key, Any::StringValue((*value).to_owned())));
    let mut data = Data::Logs(vec![group]);
    pods.process(&mut data, peer.parse().ok(), Nanos(now)).unwrap();
    let Data::Logs(groups) = data else { panic!("logs") };
    let attributes = groups[0].resource.clone().unwrap_or_default().attributes;
    let mut pairs: Vec<String> = attributes
        .iter()
        .map(|kv| (&*kv.key, get(&attributes, &kv.key).map(text_of).unwrap_or_default()))
        .filter(|(key, value)| !resource.contains(&(key, value)))
        .map(|(key, value)| format!("{}={value}", key.trim_start_matches("k8s.")))
        .collect();
    pairs.sort();
    pairs.join(" ")
}

#[test]
fn the_address_says_which_pod_it_is() {
    let pods = pods("{}");
    let all = "deployment.name=web namespace.name=shop node.name=n1 pod.name=web-7d9f-x1 \
               pod.start_time=2026-11-22T01:00:00Z pod.uid=uid-web-7d9f-x1";
    assert_eq!(told(&pods, &[], "10.0.0.1", 0), all);
    assert_eq!(told(&pods, &[("k8s.pod.ip", "10.0.0.1")], "9.9.9.9", 0), all);
    assert_eq!(told(&pods, &[("host.name", "10.0.0.1")], "", 0), all);
    assert_eq!(told(&pods, &[("host.name", "db")], "10.0.0.2", 0), "");
    // What is there already is not overwritten.
    let own = told(&pods, &[("k8s.deployment.name", "mine")], "10.0.0.1", 0);
    assert!(!own.contains("deployment"), "{own}");
}

#[test]
fn associations_labels_and_containers() {
    let pods = pods(
        "extract: {metadata: [k8s.pod.name, container.image.name, container.image.tag, container.id, k8s.replicaset.uid, k8s.node.uid], \
         labels: [{key: team, from: pod, tag_name: owner.team}, {key_regex: 'app\\.kubernetes\\.io/(.*)', tag_name: 'app.$1'}, \
         {key: zone, from: node}, {key_regex: 'a.*', from: namespace}], annotations: [{key: owner}]}\n\
         pod_association: [{sources: [{from: resource_attribute, name: k8s.pod.uid}]}, \
         {sources: [{from: resource_attribute, name: k8s.namespace.name}, {from: resource_attribute, name: k8s.pod.name}]}, \
         {sources: [{from: connection}]}]",
    );
    pods.set_namespace("shop", Some(Meta { labels: map(&[("area", "eu"), ("b", "x")]), ..Meta::default() }));
    pods.set_node("n1", Some(Meta { labels: map(&[("zone", "z1")]), uid: "node-1".to_owned(), ..Meta::default() }));
    let labels = "app.name=web owner.team=core pod.annotations.owner=ann";
    let by_uid = told(&pods, &[("k8s.pod.uid", "uid-web-7d9f-x1")], "", 0);
    assert_eq!(by_uid, format!("{} pod.name=web-7d9f-x1 replicaset.uid=r1", labels));
    let place = [
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "web-7d9f-x1"),
        ("k8s.container.name", "app"),
        ("k8s.node.name", "n1"),
    ];
    assert_eq!(
        told(&pods, &place, "", 0),
        "app.name=web container.id=c1 container.image.name=reg:5000/web container.image.tag=1.2 namespace.labels.area=eu \
         node.labels.zone=z1 node.uid=node-1 owner.team=core pod.annotations.owner=ann replicaset.uid=r1"
    );
    let by_peer = told(&pods, &[], "10.0.0.1", 0);
    assert!(by_peer.contains("pod.ip=10.0.0.1") && by_peer.contains("pod.name=web-7d9f-x1"), "{by_peer}");
    assert_eq!(told(&pods, &[("k8s.pod.uid", "other")], "10.0.0.7", 0), "pod.ip=10.0.0.7");
}

#[test]
fn pods_come_and_go() {
    let second = |n: i64| n * 1_000_000_000;
    let pods = pods("{extract: {metadata: [k8s.pod.name]}}");
    pods.remove_pod("shop", "web-7d9f-x1", Nanos(second(10)));
    assert_eq!(
        told(&pods, &[], "10.0.0.1", second(60)),
        "pod.name=web-7d9f-x1",
        "what it sent last comes after it went"
    );
    assert_eq!(told(&pods, &[], "10.0.0.1", second(200)), "");
    // Its address goes to another one before it is forgotten.
    pods.set_pod(web("a", "10.0.0.2"), Nanos(second(200)));
    pods.remove_pod("shop", "a", Nanos(second(201)));
    pods.set_pod(web("b", "10.0.0.2"), Nanos(second(202)));
    assert_eq!(told(&pods, &[], "10.0.0.2", second(202)), "pod.name=b");
    assert_eq!(told(&pods, &[], "10.0.0.2", second(900)), "pod.name=b");
    // One with the network of its node is not meant by the node's address.
    pods.set_pod(Pod { host_network: true, ..web("agent", "10.9.0.1") }, Nanos(second(900)));
    assert_eq!(told(&pods, &[], "10.9.0.1", second(900)), "");
    pods.set_pod(web("my-jaeger-agent", "10.0.0.9"), Nanos(second(900)));
    assert_eq!(told(&pods, &[], "10.0.0.9", second(900)), "", "excluded as upstream does");
}

#[test]
fn waiting_for_pods_ends_with_them_or_with_its_time() {
    let waits = |ms: i64| Nanos(ms * 1_000_000);
    let pods = pods("{wait_for_metadata: true, wait_for_metadata_timeout: 2s}");
    let ask = |at: Nanos| pods.process(&mut Data::Logs(Vec::new()), None, at);
    assert!(ask(waits(0)).is_err() && ask(waits(1999)).is_err());
    assert!(ask(waits(2000)).is_ok());
    let pods = self::pods("{wait_for_metadata: true}");
    assert!(pods.process(&mut Data::Logs(Vec::new()), None, waits(0)).is_err());
    pods.listed();
    assert!(pods.process(&mut Data::Logs(Vec::new()), None, waits(1)).is_ok());
}

#[test]
fn passthrough_writes_the_address_alone() {
    let pods = pods("{passthrough: true}");
    assert_eq!(told(&pods, &[], "10.0.0.1", 0), "pod.ip=10.0.0.1");
}

#[test]
fn filters_become_selectors_and_mistakes_are_told() {
    let (config, errors) = read(
        "filter: {node: n1, namespace: shop, labels: [{key: a, value: b}, {key: c, op: exists}, {key: d, value: e, op: not-equals}], \
         fields: [{key: status.phase, value: Running}]}",
    );
    assert_eq!(errors, [""; 0]);
    assert_eq!(config.namespace, "shop");
    assert_eq!(config.label_selector, "a=b,c,d!=e");
    assert_eq!(config.field_selector, "spec.nodeName=n1,status.phase=Running");
    let check = |text: &str, want: &str| {
        let (_, errors) = read(text);
        assert!(errors.iter().any(|line| line.contains(want)), "{text}: {errors:?}");
    };
    check("extract: {metadata: [k8s.pod.nam]}", "line 1: extract.metadata[0]: `k8s.pod.nam` is not supported");
    check("extract: {labels: [{key: a, key_regex: b}]}", "give either `key` or `key_regex`");
    check("extract: {labels: [{tag_name: a}]}", "give either `key` or `key_regex`");
    check("extract: {labels: [{key_regex: '('}]}", "key_regex: error parsing regexp");
    check("extract: {labels: [{key: a, from: deployment}]}", "from `deployment` is not supported");
    check("auth_type: tls", "`tls` is not supported");
    check("pod_association: [{sources: [{from: resource_attribute}]}]", "`name` is missing");
    check("filter: {lables: []}", "unknown key `lables`");
}
