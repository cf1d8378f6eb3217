//! Consumer lag of a cluster as `GET /api/weir/v1/lag` tells it: kcat produces and consumes, spans come
//! by OTLP, and kcat's own view of the offsets is the oracle.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::{CancellationToken, DropGuard};
use weir_demo::broker::{Broker, BrokerOptions};
use weir_model::{Clock, SystemClock};

use crate::harness::Server;

const PATIENCE: Duration = Duration::from_secs(30);

struct Setup {
    server: Server,
    broker: String,
    stop: Option<DropGuard>,
}

/// reqwest asks for a provider even where it speaks plain HTTP; a second call finds the first one's.
fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn start(topics: &[(&str, i32)]) -> Setup {
    install_crypto();
    let topics = topics.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    let broker = Broker::bind(BrokerOptions { topics, ..BrokerOptions::default() }).await.unwrap();
    let address = broker.local_addr().to_string();
    let stop = CancellationToken::new();
    tokio::spawn(broker.run(stop.clone()));
    let server = Server::start(&["--kafka", &format!("test={address}")]);
    Setup { server, broker: address, stop: Some(stop.drop_guard()) }
}

impl Setup {
    async fn kcat(&self, args: &[&str], input: &str) -> String {
        let mut child = tokio::process::Command::new("kcat")
            .args(["-b", &self.broker, "-X", "broker.address.family=v4"])
            .args(args)
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("kcat is installed (scripts/setup.sh)");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        assert!(done.status.success(), "kcat {args:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    async fn produce(&self, topic: &str, partition: i32, n: usize) {
        let lines = "record\n".repeat(n);
        self.kcat(&["-P", "-t", topic, "-p", &partition.to_string()], &lines).await;
    }

    async fn end_offset(&self, topic: &str, partition: i32) -> i64 {
        let told = self.kcat(&["-Q", "-t", &format!("{topic}:{partition}:-1")], "").await;
        told.trim().rsplit(' ').next().unwrap().parse().unwrap()
    }

    async fn rows(&self) -> Vec<Value> {
        let body: Value =
            reqwest::get(format!("{}/api/weir/v1/lag", self.server.url)).await.unwrap().json().await.unwrap();
        body["partitions"].as_array().unwrap().clone()
    }

    /// Waits until the row of a group's partition fulfils `want`.
    async fn wait_for(&self, group: &str, partition: i32, what: &str, want: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let rows = self.rows().await;
            let row = rows.iter().find(|r| r["group"] == group && r["partition"] == partition);
            if let Some(row) = row.filter(|row| want(row)) {
                return row.clone();
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {rows:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until an instant query gives this one value.
    async fn wait_for_series(&self, query: &str, want: &str) {
        let started = Instant::now();
        loop {
            let url = format!("{}/api/v1/query", self.server.url);
            let asked = reqwest::Client::new().get(url).query(&[("query", query)]).send().await.unwrap();
            let body: Value = asked.json().await.unwrap();
            let result = &body["data"]["result"];
            if result.as_array().is_some_and(|r| r.len() == 1) && result[0]["value"][1] == want {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{query}: {body}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn consumed(&self, group: &str, topic: &str, offset: i64) {
        let now = jiff::Timestamp::now().as_nanosecond().to_string();
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let span = json!({
            "traceId": format!("{:032x}", offset + 1),
            "spanId": format!("{:016x}", offset + 1),
            "name": "process",
            "kind": 5,
            "startTimeUnixNano": now,
            "endTimeUnixNano": now,
            "attributes": [
                text("messaging.system", "kafka"),
                text("messaging.destination.name", topic),
                text("messaging.destination.partition.id", "0"),
                text("messaging.consumer.group.name", group),
                {"key": "messaging.kafka.offset", "value": {"intValue": offset.to_string()}},
            ],
        });
        let body = json!({"resourceSpans": [{
            "resource": {"attributes": [text("service.name", "aggregator")]},
            "scopeSpans": [{"scope": {"name": "test"}, "spans": [span]}],
        }]});
        let sent = reqwest::Client::new().post(format!("{}/v1/traces", self.server.url)).json(&body).send().await;
        assert_eq!(sent.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_partition_ages_while_the_others_are_at_zero() {
    let setup = start(&[("orders", 2), ("idle", 1)]).await;
    for (topic, partition) in [("orders", 0), ("orders", 1), ("idle", 0)] {
        setup.produce(topic, partition, 20).await;
    }
    let consume = ["-G", "billing", "-e", "-q", "-X", "auto.offset.reset=earliest", "-f", "%o\n", "orders", "idle"];
    let consumed = setup.kcat(&consume, "").await;
    assert_eq!(consumed.lines().count(), 60);
    // Nobody reads on: partition 1 of the topic stands still, the rest has nothing to read.
    setup.produce("orders", 1, 7).await;
    let row = setup.wait_for("billing", 1, "seven wait for two seconds", |r| {
        r["lag"] == 7 && r["lag_seconds"].as_f64().is_some_and(|s| s > 2.0)
    });
    let row = row.await;
    assert!(row["lag_seconds"].as_f64().unwrap() < 20.0, "{row}");
    assert_eq!(
        (&row["cluster"], &row["topic"], &row["source"]),
        (&json!("test"), &json!("orders"), &json!("committed"))
    );
    assert_eq!(row["lag"].as_i64().unwrap(), setup.end_offset("orders", 1).await - row["position"].as_i64().unwrap());
    assert_eq!(row["end_offset"].as_i64().unwrap(), setup.end_offset("orders", 1).await);
    let stalled = r#"{cluster_name="test", group="billing", topic="orders", partition="1"}"#;
    setup.wait_for_series(&format!("kafka_consumergroup_group_lag{stalled}"), "7").await;
    setup.wait_for_series(&format!("kafka_consumergroup_group_lag_seconds{stalled} > bool 2"), "1").await;
    setup.wait_for_series(r#"kafka_consumergroup_group_sum_lag{group="billing"}"#, "7").await;
    setup.wait_for_series("kafka_cluster_up", "1").await;
    let rows = setup.rows().await;
    assert_eq!(rows.len(), 3);
    for still in rows.iter().filter(|r| r["topic"] == "idle" || r["partition"] == 0) {
        assert_eq!((&still["lag"], &still["lag_seconds"]), (&json!(0), &json!(0.0)), "{still}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_its_own_checkpoint_is_followed_by_its_spans() {
    let setup = start(&[("events", 1)]).await;
    setup.produce("events", 0, 30).await;
    setup.consumed("windows", "events", 9).await;
    let row = setup.wait_for("windows", 0, "seen in a span", |r| r["position"] == 10).await;
    assert_eq!((&row["lag"], &row["source"]), (&json!(20), &json!("observed")));
    setup.consumed("windows", "events", 29).await;
    let row = setup.wait_for("windows", 0, "caught up", |r| r["position"] == 30).await;
    assert_eq!((&row["lag"], &row["lag_seconds"]), (&json!(0), &json!(0.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_weir_began_is_dated_by_its_own_time() {
    install_crypto();
    let mut topics = BrokerOptions { topics: vec![("old".to_owned(), 1)], ..BrokerOptions::default() };
    topics.auto_create_topics = false;
    let broker = Broker::bind(topics).await.unwrap();
    let address = broker.local_addr().to_string();
    let stop = CancellationToken::new();
    tokio::spawn(broker.run(stop.clone()));
    let mut setup = Setup { server: Server::start(&[]), broker: address.clone(), stop: Some(stop.drop_guard()) };
    let written = now_ms() - 60_000;
    produce_dated(&address, "old", 5, written);
    setup.kcat(&["-G", "late", "-c", "2", "-q", "-X", "auto.offset.reset=earliest", "old"], "").await;
    setup.server = Server::start(&["--kafka", &format!("test={address}")]);
    let row = setup.wait_for("late", 0, "a time looked up", |r| r["lag_seconds"].as_f64().is_some()).await;
    let age = (now_ms() - written) as f64 / 1e3;
    assert_eq!((&row["lag"], &row["position"]), (&json!(3), &json!(2)));
    let told = row["lag_seconds"].as_f64().unwrap();
    assert!((60.0..=age).contains(&told), "{row}, read {age} s after the time written");
}

fn now_ms() -> i64 {
    SystemClock.now().0
}

/// Records whose time the producer sets.
fn produce_dated(broker: &str, topic: &str, n: usize, at_ms: i64) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker).create().unwrap();
    for _ in 0..n {
        let record = BaseRecord::<(), _>::to(topic).partition(0).payload("record").timestamp(at_ms);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_has_no_lag() {
    let mut setup = start(&[("events", 1)]).await;
    setup.produce("events", 0, 3).await;
    setup.consumed("windows", "events", 0).await;
    setup.wait_for("windows", 0, "lag is there", |r| r["lag"] == 2).await;
    drop(setup.stop.take());
    let started = Instant::now();
    while !setup.rows().await.is_empty() {
        assert!(started.elapsed() < PATIENCE, "lag of a broker that is gone");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    setup.wait_for_series("kafka_cluster_up", "0").await;
    setup.wait_for_series("absent(kafka_consumergroup_group_lag)", "1").await;
}
