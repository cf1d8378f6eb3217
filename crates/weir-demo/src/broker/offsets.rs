//! ListOffsets and OffsetForLeaderEpoch.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::log::{LEADER_EPOCH, Lookup};
use super::server::Shared;

/// Special timestamps of ListOffsets. Source: Apache Kafka `ListOffsetsRequest`.
fn parse(timestamp: i64) -> Option<Lookup> {
    match timestamp {
        -1 => Some(Lookup::Latest),
        // -4 is the earliest offset on local disk: there is no other.
        -2 | -4 => Some(Lookup::Earliest),
        -3 => Some(Lookup::MaxTimestamp),
        t if t >= 0 => Some(Lookup::At(t)),
        _ => None,
    }
}

pub fn list(shared: &Shared, request: &ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let topic = |topic: &kafka_protocol::messages::list_offsets_request::ListOffsetsTopic| {
        let partitions = topic.partitions.iter().map(|p| {
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(p.partition_index)
                .with_offset(-1)
                .with_timestamp(-1);
            match lookup(shared, &topic.name, p.partition_index, p.timestamp) {
                Ok(Some((offset, timestamp))) => {
                    let answer = answer.with_offset(offset).with_timestamp(timestamp);
                    if version >= 4 { answer.with_leader_epoch(LEADER_EPOCH) } else { answer }
                }
                Ok(None) => answer,
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    };
    ListOffsetsResponse::default().with_topics(request.topics.iter().map(topic).collect())
}

fn lookup(shared: &Shared, topic: &str, partition: i32, timestamp: i64) -> Result<Option<(i64, i64)>, ResponseError> {
    let partition = shared.topics.partition(topic, partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let lookup = parse(timestamp).ok_or(ResponseError::InvalidRequest)?;
    partition.with(|log| log.lookup(lookup)).map_err(|_| ResponseError::CorruptMessage)
}

/// The end of the only epoch there is: a client compares it with its position to find truncation.
pub fn for_leader_epoch(shared: &Shared, request: &OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topic = |topic: &kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic| {
        let partitions = topic.partitions.iter().map(|p| {
            let answer =
                EpochEndOffset::default().with_partition(p.partition).with_leader_epoch(-1).with_end_offset(-1);
            match shared.topics.partition(&topic.topic, p.partition) {
                None => answer.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
                Some(_) if p.current_leader_epoch > LEADER_EPOCH => {
                    answer.with_error_code(ResponseError::UnknownLeaderEpoch.code())
                }
                Some(partition) if p.leader_epoch == LEADER_EPOCH => {
                    answer.with_leader_epoch(LEADER_EPOCH).with_end_offset(partition.with(|log| log.end()))
                }
                Some(_) => answer,
            }
        });
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    };
    OffsetForLeaderEpochResponse::default().with_topics(request.topics.iter().map(topic).collect())
}
