//! The suite that Apache Kafka passes as well (`make test-kafka`), against the embedded broker.

use crate::suite;
use crate::support::start_broker;

macro_rules! against_the_embedded_broker {
    ($($name:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let broker = start_broker(|_| {}).await;
            suite::$name(&broker.address).await;
        }
    )*};
}

against_the_embedded_broker!(
    every_compression_round_trips,
    kcat_writes_and_reads,
    the_high_watermark_follows_each_acknowledgement,
    an_idempotent_producer_stores_each_record_once,
    partitions_are_shared_and_handed_over,
    a_group_resumes_at_its_commits,
    a_dead_consumer_is_replaced,
    offsets_are_found_by_time,
    a_waiting_fetch_ends_with_the_next_record,
    what_cannot_be_is_refused,
);
