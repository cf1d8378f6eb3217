//! The demo's pipeline by itself: real processes over the broker, no weir anywhere.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use weir_demo::topology::{N_PARTITIONS, Role};
use weir_demo::{Demo, DemoOptions, Fault, Names};

async fn start(folder: &Path) -> Arc<Demo> {
    let mut options = DemoOptions::new(env!("CARGO_BIN_EXE_weir").into(), folder.to_owned());
    options.names = Names::drawn(7);
    options.weir = None;
    options.events_per_second = 200.0;
    options.n_rows = 70_000;
    Demo::start(options).await.unwrap()
}

/// Waits until `what` is true, or fails with its name.
async fn eventually(name: &str, mut what: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not within 20 s: {name}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sum of the committed offsets of a role's group.
fn committed(demo: &Demo, role: Role) -> i64 {
    let topology = demo.topology();
    let (topic, group) = topology.input(role).unwrap();
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &topology.broker).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..N_PARTITIONS {
        list.add_partition(topic, partition);
    }
    let offsets = consumer.committed_offsets(list, Duration::from_secs(5)).unwrap();
    offsets.elements().iter().map(|e| if let Offset::Offset(n) = e.offset() { n } else { 0 }).sum()
}

/// Next offset of one partition in the checkpoint of the processor that keeps its own.
fn checkpoint(demo: &Demo, partition: i32) -> i64 {
    let text = std::fs::read(demo.topology().checkpoint_path()).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    json[partition.to_string()].as_i64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_flow_from_producer_to_fans_and_store() {
    let folder = tempfile::tempdir().unwrap();
    let demo = start(folder.path()).await;
    eventually("fans get updates", || demo.n_received() > 400).await;
    for role in [Role::Enricher, Role::Aggregator, Role::Sink, Role::Delivery] {
        eventually(&format!("{role:?} commits"), || committed(&demo, role) > 0).await;
    }
    eventually("the checkpoint moves", || (0..N_PARTITIONS).all(|p| checkpoint(&demo, p) > 0)).await;
    assert_eq!(committed(&demo, Role::Tracker), 0, "the tracker keeps its offsets to itself");

    let store = rusqlite::Connection::open(demo.topology().database_path(Role::Sink)).unwrap();
    let (n_rows, n_traces, n_whole): (i64, i64, i64) = store
        .query_row(
            "SELECT count(*), count(DISTINCT trace_id), sum(length(trace_id) = 32 AND trace_id GLOB '*[1-9a-f]*') \
             FROM updates",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
        )
        .unwrap();
    assert!(n_rows > 100, "{n_rows} rows");
    assert_eq!(n_whole, n_rows, "every row has the trace of its event");
    // Deployments may bring a record twice; here there was none.
    assert_eq!(n_traces, n_rows, "one event is one trace");
    demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_partition_stands_still_alone_until_it_is_healed() {
    let folder = tempfile::tempdir().unwrap();
    let demo = start(folder.path()).await;
    eventually("the checkpoint moves", || checkpoint(&demo, 2) > 0).await;
    let fault = Fault::BlockPartition(Role::Tracker);
    demo.break_it(fault, Some(2)).await.unwrap();
    // What is under way when it is blocked may still be counted: since when, the wait finds out.
    let mut since = (checkpoint(&demo, 2), checkpoint(&demo, 1));
    eventually("one partition stands while another goes on", || {
        let (blocked, other) = (checkpoint(&demo, 2), checkpoint(&demo, 1));
        if blocked != since.0 {
            since = (blocked, other);
        }
        other > since.1 + 200
    })
    .await;
    let blocked = since.0;
    assert!(demo.faults().iter().any(|f| f.id == fault.id() && f.active));
    demo.heal(fault).await.unwrap();
    eventually("the partition goes on", || checkpoint(&demo, 2) > blocked + 1).await;
    demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_keeps_the_events_flowing() {
    let folder = tempfile::tempdir().unwrap();
    let demo = start(folder.path()).await;
    for role in [Role::Enricher, Role::Tracker, Role::Delivery] {
        let before = demo.n_received();
        demo.break_it(Fault::DeploySound(role), None).await.unwrap();
        eventually(&format!("fans get updates after {role:?} was replaced"), || demo.n_received() > before + 600).await;
    }
    demo.stop().await;
}
