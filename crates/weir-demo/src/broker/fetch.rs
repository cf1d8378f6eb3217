//! Fetch: waits for `min_bytes` without polling.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::time::Instant;

use super::connection::Client;
use super::log::{LEADER_EPOCH, PartitionLog};
use super::server::Shared;
use super::topics::Partition;

/// Ends of what a client may ask for, so that one answer stays in memory.
const FETCH_BYTES_MAX: usize = 64 << 20;
const WAIT_MAX: Duration = Duration::from_secs(300);

/// One partition of the request.
struct Wanted {
    index: i32,
    offset: i64,
    bytes_max: usize,
    leader_epoch: i32,
    partition: Option<Arc<Partition>>,
}

pub async fn fetch(shared: &Shared, client: &Client, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 {
        // Every answer says session 0, "no session": a client that names one is confused.
        let error = ResponseError::FetchSessionIdNotFound.code();
        return FetchResponse::default().with_error_code(error);
    }
    let wanted = resolve(shared, &request);
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
    let partitions = || wanted.iter().flat_map(|(_, partitions)| partitions);
    loop {
        // Registered before looking, so that an append in between is not missed.
        for partition in partitions().filter_map(|w| w.partition.as_ref()) {
            partition.wake_on_append(&client.notify);
        }
        if is_ready(partitions(), min_bytes.min(bytes_max)) {
            break;
        }
        if tokio::time::timeout_at(deadline, client.notify.notified()).await.is_err() {
            break;
        }
    }
    collect(&request, &wanted, bytes_max)
}

fn resolve(shared: &Shared, request: &FetchRequest) -> Vec<(usize, Vec<Wanted>)> {
    let topic = |(idx, topic): (usize, &kafka_protocol::messages::fetch_request::FetchTopic)| {
        let partitions = topic.partitions.iter().map(|p| Wanted {
            index: p.partition,
            offset: p.fetch_offset,
            bytes_max: usize::try_from(p.partition_max_bytes).unwrap_or(0),
            leader_epoch: p.current_leader_epoch,
            partition: shared.topics.partition(&topic.topic, p.partition),
        });
        (idx, partitions.collect())
    };
    request.topics.iter().enumerate().map(topic).collect()
}

/// Whether there is enough to answer, or an error to tell.
fn is_ready<'a>(wanted: impl Iterator<Item = &'a Wanted>, min_bytes: usize) -> bool {
    let mut sum = 0;
    let mut asked_none = true;
    for want in wanted {
        asked_none = false;
        let Some(partition) = &want.partition else { return true };
        let here = partition.with(|log| {
            let in_range = (log.start()..=log.end()).contains(&want.offset) && want.leader_epoch <= LEADER_EPOCH;
            in_range.then(|| log.readable(want.offset, min_bytes.saturating_sub(sum).max(1)))
        });
        let Some(bytes) = here else { return true };
        sum += bytes;
        if sum >= min_bytes {
            return true;
        }
    }
    min_bytes == 0 || asked_none
}

fn collect(request: &FetchRequest, wanted: &[(usize, Vec<Wanted>)], bytes_max: usize) -> FetchResponse {
    let mut left = bytes_max;
    let mut n_bytes = 0;
    let mut topics = Vec::with_capacity(wanted.len());
    for (idx, partitions) in wanted {
        let mut answers = Vec::with_capacity(partitions.len());
        for want in partitions {
            let answer = read(want, left, n_bytes == 0);
            let len = answer.records.as_ref().map_or(0, Bytes::len);
            n_bytes += len;
            left = left.saturating_sub(len);
            answers.push(answer);
        }
        let name = request.topics[*idx].topic.clone();
        topics.push(FetchableTopicResponse::default().with_topic(name).with_partitions(answers));
    }
    FetchResponse::default().with_responses(topics)
}

fn read(want: &Wanted, left: usize, at_least_one: bool) -> PartitionData {
    let answer = PartitionData::default().with_partition_index(want.index).with_records(Some(Bytes::new()));
    let failed = |error: ResponseError| {
        answer
            .clone()
            .with_error_code(error.code())
            .with_high_watermark(-1)
            .with_last_stable_offset(-1)
            .with_log_start_offset(-1)
    };
    let Some(partition) = &want.partition else { return failed(ResponseError::UnknownTopicOrPartition) };
    if want.leader_epoch > LEADER_EPOCH {
        return failed(ResponseError::UnknownLeaderEpoch);
    }
    partition.with(|log: &PartitionLog| {
        let answer = answer
            .clone()
            .with_high_watermark(log.end())
            .with_last_stable_offset(log.end())
            .with_log_start_offset(log.start());
        match log.read(want.offset, want.bytes_max.min(left), at_least_one) {
            Ok(records) => answer.with_records(Some(records)),
            Err(_) => failed(ResponseError::OffsetOutOfRange),
        }
    })
}
