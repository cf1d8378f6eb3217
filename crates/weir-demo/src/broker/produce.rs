//! Produce and InitProducerId.

use std::sync::atomic::Ordering;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};
use kafka_protocol::protocol::StrBytes;
use tracing::debug;

use super::batch::{self, BatchError};
use super::producers::SequenceError;
use super::server::Shared;

/// Appends what can be appended. `None` with `acks=0`: such a producer reads no answer.
pub fn produce(shared: &Shared, request: ProduceRequest) -> Option<ProduceResponse> {
    let acks = request.acks;
    let invalid = if !(-1..=1).contains(&acks) {
        Some((ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or all".to_owned()))
    } else if request.transactional_id.is_some() {
        Some((ResponseError::InvalidRequest, "this broker has no transactions".to_owned()))
    } else {
        None
    };
    let responses = request.topic_data.into_iter().map(|t| topic(shared, t, invalid.as_ref())).collect();
    (acks != 0).then(|| ProduceResponse::default().with_responses(responses))
}

fn topic(shared: &Shared, topic: TopicProduceData, invalid: Option<&(ResponseError, String)>) -> TopicProduceResponse {
    let name = topic.name;
    let partitions = topic.partition_data.into_iter().map(|data| {
        let index = data.index;
        let appended = match invalid {
            Some(error) => Err(error.clone()),
            None => append(shared, &name, data),
        };
        let response = PartitionProduceResponse::default().with_index(index).with_log_append_time_ms(-1);
        match appended {
            Ok((base_offset, start)) => response.with_base_offset(base_offset).with_log_start_offset(start),
            Err((error, message)) => {
                debug!(topic = %name.0, partition = index, message, "batch refused");
                response
                    .with_error_code(error.code())
                    .with_base_offset(-1)
                    .with_log_start_offset(-1)
                    .with_error_message(Some(StrBytes::from_string(message)))
            }
        }
    });
    let partition_responses = partitions.collect();
    TopicProduceResponse::default().with_partition_responses(partition_responses).with_name(name)
}

/// Base offset of the batch and start of the log.
fn append(shared: &Shared, topic: &str, data: PartitionProduceData) -> Result<(i64, i64), (ResponseError, String)> {
    let Some(partition) = shared.topics.partition(topic, data.index) else {
        let message = format!("topic `{topic}` has no partition {}", data.index);
        return Err((ResponseError::UnknownTopicOrPartition, message));
    };
    let records = data.records.unwrap_or_default();
    let batch = batch::read_one(&records).map_err(|e| (batch_code(&e), e.to_string()))?;
    if batch.is_control() || batch.is_transactional() {
        return Err((ResponseError::InvalidRecord, "this broker takes no control or transactional batch".to_owned()));
    }
    let appended = partition.append(&batch).map_err(|e| (sequence_code(&e), e.to_string()))?;
    Ok((appended.base_offset, partition.with(super::log::PartitionLog::start)))
}

fn batch_code(error: &BatchError) -> ResponseError {
    match error {
        BatchError::CutOff { .. } | BatchError::Checksum { .. } => ResponseError::CorruptMessage,
        BatchError::TooLarge { .. } => ResponseError::MessageTooLarge,
        BatchError::OldFormat(_) => ResponseError::UnsupportedForMessageFormat,
        BatchError::Invalid(_) => ResponseError::InvalidRecord,
    }
}

fn sequence_code(error: &SequenceError) -> ResponseError {
    match error {
        SequenceError::OutOfOrder { .. } => ResponseError::OutOfOrderSequenceNumber,
        SequenceError::OldEpoch { .. } => ResponseError::InvalidProducerEpoch,
    }
}

/// A fresh id for an idempotent producer; a known one keeps its id and gets the next epoch.
pub fn init_producer_id(shared: &Shared, request: &InitProducerIdRequest) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default();
    if request.transactional_id.as_ref().is_some_and(|id| !id.is_empty()) {
        let none = response.with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
        return none.with_error_code(ResponseError::InvalidRequest.code());
    }
    if request.producer_id.0 >= 0 && (0..i16::MAX).contains(&request.producer_epoch) {
        return response.with_producer_id(request.producer_id).with_producer_epoch(request.producer_epoch + 1);
    }
    let id = shared.next_producer_id.fetch_add(1, Ordering::Relaxed);
    response.with_producer_id(ProducerId(id)).with_producer_epoch(0)
}
