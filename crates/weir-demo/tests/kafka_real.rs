//! The broker's suite against Apache Kafka in KRaft mode: what passes here is what clients rely on.
//! Run by `make test-kafka`, which resolves the jars into the folder that `WEIR_KAFKA_JARS` names.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "broker/kcat.rs"]
mod kcat;
#[path = "broker/suite.rs"]
mod suite;

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Kafka {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn java(jars: &str, class: &str, args: &[&str], log: &Path) -> Command {
    let mut command = Command::new("java");
    let out = File::options().create(true).append(true).open(log).unwrap();
    command
        .args(["-Xmx512m", "-cp", &format!("{jars}/*"), class])
        .args(args)
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out);
    command
}

fn start() -> Kafka {
    let jars =
        std::env::var("WEIR_KAFKA_JARS").expect("WEIR_KAFKA_JARS names the folder of jars; run `make test-kafka`");
    let dir = tempfile::tempdir().unwrap();
    let (port, controller) = (free_port(), free_port());
    let properties = dir.path().join("server.properties");
    let log = dir.path().join("kafka.out");
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=150\ngroup.min.session.timeout.ms=500\n",
        dir.path().join("data").display()
    );
    std::fs::write(&properties, text).unwrap();
    let config = properties.to_str().unwrap();
    let format = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", config];
    let formatted = java(&jars, "kafka.tools.StorageTool", &format, &log).status().expect("java is installed");
    assert!(formatted.success(), "{}", std::fs::read_to_string(&log).unwrap());
    let child = java(&jars, "kafka.Kafka", &[config], &log).spawn().unwrap();
    let mut kafka = Kafka { child, address: format!("127.0.0.1:{port}"), _dir: dir };
    let started = Instant::now();
    while std::net::TcpStream::connect(&kafka.address).is_err() {
        let ended = kafka.child.try_wait().unwrap();
        assert!(
            ended.is_none() && started.elapsed() < Duration::from_secs(120),
            "Kafka does not start: {}",
            std::fs::read_to_string(&log).unwrap()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    kafka
}

/// One after another: they share one Kafka, which is slow to start.
#[tokio::test(flavor = "multi_thread")]
async fn apache_kafka_passes_the_suite_of_the_embedded_broker() {
    let kafka = start();
    let at = kafka.address.as_str();
    suite::every_compression_round_trips(at).await;
    suite::kcat_writes_and_reads(at).await;
    suite::the_high_watermark_follows_each_acknowledgement(at).await;
    suite::an_idempotent_producer_stores_each_record_once(at).await;
    suite::partitions_are_shared_and_handed_over(at).await;
    suite::a_group_resumes_at_its_commits(at).await;
    suite::a_dead_consumer_is_replaced(at).await;
    suite::offsets_are_found_by_time(at).await;
    suite::a_waiting_fetch_ends_with_the_next_record(at).await;
    suite::what_cannot_be_is_refused(at).await;
}
