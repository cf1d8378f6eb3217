//! What librdkafka expects of a broker, whichever: each test takes a bootstrap address and makes topics
//! and groups of its own.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

use crate::kcat::Kcat;

/// No step takes so long, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
const SHORT: Duration = Duration::from_secs(5);

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("broker.address.family", "v4");
    config
}

fn unique(prefix: &str) -> String {
    format!("{prefix}-{:012x}", rand::random::<u64>() >> 16)
}

async fn topic(bootstrap: &str, n_partitions: i32) -> String {
    let name = unique("topic");
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let new = NewTopic::new(&name, n_partitions, TopicReplication::Fixed(1));
    let created = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    assert_eq!(created[0].as_ref().unwrap(), &name);
    // A broker may tell of a topic a moment after it said that it made it.
    let client: BaseConsumer = config(bootstrap).create().unwrap();
    let started = Instant::now();
    loop {
        let metadata = client.fetch_metadata(Some(&name), SHORT).unwrap();
        let known = &metadata.topics()[0];
        if known.error().is_none() && known.partitions().len() == n_partitions as usize {
            return name;
        }
        assert!(started.elapsed() < PATIENCE, "topic {name} does not appear");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> FutureProducer {
    let mut config = config(bootstrap);
    config.set("acks", "all").set("linger.ms", "5");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

/// Partition and offset of the stored record.
async fn send(producer: &FutureProducer, topic: &str, partition: i32, value: &str) -> (i32, i64) {
    let record: FutureRecord<'_, str, str> = FutureRecord::to(topic).partition(partition).payload(value);
    let delivered = producer.send(record, PATIENCE).await.unwrap();
    (delivered.partition, delivered.offset)
}

fn member(bootstrap: &str, group: &str, topic: &str) -> StreamConsumer {
    let consumer: StreamConsumer = config(bootstrap)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "300")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    consumer
}

fn n_assigned(consumer: &StreamConsumer) -> usize {
    consumer.assignment().unwrap().count()
}

/// Lets the consumers work until `done`; what they received, in order.
async fn drive(
    what: &str,
    consumers: &[&StreamConsumer],
    mut done: impl FnMut(&[OwnedMessage]) -> bool,
) -> Vec<OwnedMessage> {
    let started = Instant::now();
    let mut received = Vec::new();
    while !done(&received) {
        assert!(started.elapsed() < PATIENCE, "{what}: {} records after {PATIENCE:?}", received.len());
        for consumer in consumers {
            while let Ok(message) = tokio::time::timeout(Duration::from_millis(20), consumer.recv()).await {
                received.push(message.unwrap().detach());
            }
        }
    }
    received
}

/// All records of one partition from its start.
async fn read_all(bootstrap: &str, topic: &str, partition: i32) -> Vec<OwnedMessage> {
    let consumer: StreamConsumer = config(bootstrap).set("group.id", unique("reader")).create().unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let (low, high) = consumer.fetch_watermarks(topic, partition, SHORT).unwrap();
    drive("reading a partition", &[&consumer], |got| got.len() as i64 >= high - low).await
}

fn text(message: &OwnedMessage) -> String {
    String::from_utf8(message.payload().unwrap().to_vec()).unwrap()
}

pub async fn every_compression_round_trips(bootstrap: &str) {
    let topic = topic(bootstrap, 1).await;
    let mut want = Vec::new();
    // Those that the librdkafka of this build has; kcat's has zstd as well.
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let producer = producer(bootstrap, &[("compression.type", codec)]);
        let values: Vec<String> = (0..50).map(|n| format!("{codec} {n} {}", "x".repeat(200))).collect();
        let sends = values.iter().enumerate().map(|(n, value)| {
            let headers = OwnedHeaders::new().insert(Header { key: "codec", value: Some(codec) });
            let record = FutureRecord::to(&topic).key(if n % 2 == 0 { "even" } else { "odd" }).payload(value);
            producer.send_result(record.headers(headers)).unwrap()
        });
        for delivery in sends.collect::<Vec<_>>() {
            delivery.await.unwrap().unwrap();
        }
        want.extend(values);
    }
    let got = read_all(bootstrap, &topic, 0).await;
    assert_eq!(got.iter().map(text).collect::<Vec<_>>(), want);
    for (n, message) in got.iter().enumerate() {
        assert_eq!(message.offset(), n as i64);
        assert_eq!(message.key().unwrap(), if n % 2 == 0 { b"even".as_slice() } else { b"odd" });
        let header = message.headers().unwrap().get_as::<str>(0).unwrap();
        assert!(want[n].starts_with(header.value.unwrap()));
    }
}

pub async fn kcat_writes_and_reads(bootstrap: &str) {
    let topic = topic(bootstrap, 1).await;
    let kcat = Kcat::new(bootstrap);
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let line = format!("{codec}:value {codec}\n");
        kcat.run(&["-P", "-t", &topic, "-K:", "-H", "via=kcat", "-z", codec], &line).await;
    }
    let line = |(offset, codec): (usize, &&str)| format!("{offset} {codec} value {codec} via=kcat\n");
    let want: Vec<String> = codecs.iter().enumerate().map(line).collect();
    let got = kcat.run(&["-C", "-t", &topic, "-e", "-q", "-f", "%o %k %s %h\n"], "").await;
    assert_eq!(got, want.concat());
    let tail = kcat.run(&["-C", "-t", &topic, "-e", "-q", "-o", "-2", "-f", "%o %k %s %h\n"], "").await;
    assert_eq!(tail, want[3..].concat());
}

pub async fn the_high_watermark_follows_each_acknowledgement(bootstrap: &str) {
    let topic = topic(bootstrap, 2).await;
    let producer = producer(bootstrap, &[("linger.ms", "0")]);
    let consumer: BaseConsumer = config(bootstrap).create().unwrap();
    for n in 0..30 {
        let (partition, offset) = send(&producer, &topic, n % 2, "x").await;
        assert_eq!((partition, offset), (n % 2, i64::from(n / 2)));
        let marks = consumer.fetch_watermarks(&topic, partition, SHORT).unwrap();
        assert_eq!(marks, (0, offset + 1), "after record {n}");
    }
}

pub async fn an_idempotent_producer_stores_each_record_once(bootstrap: &str) {
    let topic = topic(bootstrap, 1).await;
    let producer = producer(bootstrap, &[("enable.idempotence", "true"), ("batch.num.messages", "7")]);
    let values: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let sends = values.iter().map(|value| {
        let record: FutureRecord<'_, str, str> = FutureRecord::to(&topic).payload(value);
        producer.send_result(record).unwrap()
    });
    for delivery in sends.collect::<Vec<_>>() {
        delivery.await.unwrap().unwrap();
    }
    assert_eq!(read_all(bootstrap, &topic, 0).await.iter().map(text).collect::<Vec<_>>(), values);
}

pub async fn partitions_are_shared_and_handed_over(bootstrap: &str) {
    let topic = topic(bootstrap, 4).await;
    let group = unique("group");
    let first = member(bootstrap, &group, &topic);
    drive("the first member takes all", &[&first], |_| n_assigned(&first) == 4).await;
    let second = member(bootstrap, &group, &topic);
    drive("two members share", &[&first, &second], |_| n_assigned(&first) == 2 && n_assigned(&second) == 2).await;
    let producer = producer(bootstrap, &[]);
    for n in 0..40 {
        send(&producer, &topic, n % 4, &n.to_string()).await;
    }
    let got = drive("both receive", &[&first, &second], |got| got.len() >= 40).await;
    let values: BTreeSet<i32> = got.iter().map(|m| text(m).parse().unwrap()).collect();
    assert_eq!((got.len(), values), (40, (0..40).collect()));
    // Its destructor leaves the group and may block on its threads.
    tokio::task::spawn_blocking(move || drop(second)).await.unwrap();
    drive("the one that stays takes all", &[&first], |_| n_assigned(&first) == 4).await;
}

pub async fn a_group_resumes_at_its_commits(bootstrap: &str) {
    let topic = topic(bootstrap, 1).await;
    let group = unique("group");
    let producer = producer(bootstrap, &[]);
    for n in 0..20 {
        send(&producer, &topic, 0, &n.to_string()).await;
    }
    let first = member(bootstrap, &group, &topic);
    let got = drive("the first reads", &[&first], |got| got.len() >= 20).await;
    let mut commit = TopicPartitionList::new();
    commit.add_partition_offset(&topic, 0, Offset::Offset(got[12].offset() + 1)).unwrap();
    first.commit(&commit, CommitMode::Sync).unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&topic, 0);
    let stored = first.committed_offsets(asked, SHORT).unwrap();
    assert_eq!(stored.elements()[0].offset(), Offset::Offset(13));
    tokio::task::spawn_blocking(move || drop(first)).await.unwrap();
    let second = member(bootstrap, &group, &topic);
    let got = drive("the second resumes", &[&second], |got| got.len() >= 7).await;
    assert_eq!(got.iter().map(text).collect::<Vec<_>>(), ["13", "14", "15", "16", "17", "18", "19"]);
}

pub async fn a_dead_consumer_is_replaced(bootstrap: &str) {
    let topic = topic(bootstrap, 2).await;
    let group = unique("group");
    let dying = Kcat::new(bootstrap).spawn(&[
        "-G",
        &group,
        "-q",
        "-X",
        "session.timeout.ms=6000",
        "-X",
        "heartbeat.interval.ms=300",
        &topic,
    ]);
    let lists_one_member = || {
        let client: BaseConsumer = config(bootstrap).create().unwrap();
        let listed = client.fetch_group_list(Some(&group), SHORT);
        listed.is_ok_and(|l| l.groups().iter().any(|g| g.state() == "Stable" && g.members().len() == 1))
    };
    let started = Instant::now();
    while !lists_one_member() {
        assert!(started.elapsed() < PATIENCE, "kcat does not become a member");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    dying.kill().await;
    let heir = member(bootstrap, &group, &topic);
    drive("the dead one's session runs out", &[&heir], |_| n_assigned(&heir) == 2).await;
}

pub async fn offsets_are_found_by_time(bootstrap: &str) {
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let topic = topic(bootstrap, 1).await;
        // All in one batch: the broker has to look inside.
        let producer = producer(bootstrap, &[("compression.type", codec), ("linger.ms", "200")]);
        let start = jiff::Timestamp::now().as_millisecond() - 100_000;
        let sends = (0..10).map(|n| {
            let record: FutureRecord<'_, str, str> =
                FutureRecord::to(&topic).payload("some text").timestamp(start + n * 1000);
            producer.send_result(record).unwrap()
        });
        for delivery in sends.collect::<Vec<_>>() {
            delivery.await.unwrap().unwrap();
        }
        let consumer: BaseConsumer = config(bootstrap).create().unwrap();
        for (after_ms, want) in [
            (-5000, Offset::Offset(0)),
            (0, Offset::Offset(0)),
            (1, Offset::Offset(1)),
            (4000, Offset::Offset(4)),
            (8999, Offset::Offset(9)),
            (9001, Offset::End),
        ] {
            let mut asked = TopicPartitionList::new();
            asked.add_partition_offset(&topic, 0, Offset::Offset(start + after_ms)).unwrap();
            let found = consumer.offsets_for_times(asked, SHORT).unwrap();
            assert_eq!(found.elements()[0].offset(), want, "{codec}, {after_ms} ms after the first record");
        }
    }
}

pub async fn a_waiting_fetch_ends_with_the_next_record(bootstrap: &str) {
    let topic = topic(bootstrap, 3).await;
    let consumer: StreamConsumer =
        config(bootstrap).set("group.id", unique("reader")).set("fetch.wait.max.ms", "5000").create().unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..3 {
        assignment.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let producer = producer(bootstrap, &[("linger.ms", "0")]);
    send(&producer, &topic, 0, "warm").await;
    drive("the first record", &[&consumer], |got| got.len() == 1).await;
    let mut slowest = Duration::ZERO;
    for n in 1..6 {
        // Long enough for the next fetch to be waiting at the broker.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let sent = Instant::now();
        send(&producer, &topic, n % 3, "x").await;
        let received = tokio::time::timeout(PATIENCE, consumer.recv()).await.unwrap().unwrap();
        assert_eq!(received.partition(), n % 3);
        slowest = slowest.max(sent.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "a record took {slowest:?} to a fetch that waits up to 5 s");
}

pub async fn what_cannot_be_is_refused(bootstrap: &str) {
    let topic = topic(bootstrap, 1).await;
    let producer = producer(bootstrap, &[("message.max.bytes", "8000000")]);
    let large = "x".repeat(2_000_000);
    let record: FutureRecord<'_, str, str> = FutureRecord::to(&topic).payload(&large);
    let refused = producer.send(record, PATIENCE).await.unwrap_err().0;
    assert_eq!(refused, KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge));
    send(&producer, &topic, 0, "small").await;

    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().unwrap();
    let create = async |name: &str, partitions, replication| {
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
        let created = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        created.into_iter().next().unwrap().map_err(|(_, code)| code)
    };
    assert_eq!(create(&topic, 1, 1).await, Err(RDKafkaErrorCode::TopicAlreadyExists));
    assert_eq!(create("no spaces", 1, 1).await, Err(RDKafkaErrorCode::InvalidTopic));
    assert_eq!(create(&unique("topic"), 1, 3).await, Err(RDKafkaErrorCode::InvalidReplicationFactor));
    let deleted = admin.delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    assert_eq!(deleted[0].as_ref().unwrap(), &topic);
}
