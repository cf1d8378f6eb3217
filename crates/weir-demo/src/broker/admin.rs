//! CreateTopics, DeleteTopics and DescribeConfigs.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeConfigsRequest,
    DescribeConfigsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::batch::BATCH_BYTES_MAX;
use super::server::Shared;
use super::topics::CreateError;

pub fn create_topics(shared: &Shared, request: CreateTopicsRequest, version: i16) -> CreateTopicsResponse {
    let validate_only = request.validate_only;
    let topics = request.topics.into_iter().map(|t| create_topic(shared, t, validate_only, version)).collect();
    CreateTopicsResponse::default().with_topics(topics)
}

fn create_topic(shared: &Shared, asked: CreatableTopic, validate_only: bool, version: i16) -> CreatableTopicResult {
    let default = asked.num_partitions == -1 && asked.assignments.is_empty();
    let n_partitions = if !asked.assignments.is_empty() {
        i32::try_from(asked.assignments.len()).unwrap_or(i32::MAX)
    } else if default {
        shared.options.default_partitions
    } else {
        asked.num_partitions
    };
    let result = CreatableTopicResult::default().with_name(asked.name.clone());
    if asked.assignments.is_empty() && !matches!(asked.replication_factor, -1 | 1) {
        let message = format!("replication factor {} is not 1: there is one broker", asked.replication_factor);
        return result
            .with_error_code(ResponseError::InvalidReplicationFactor.code())
            .with_error_message(Some(StrBytes::from_string(message)));
    }
    let created = if validate_only {
        shared.topics.check(&asked.name, n_partitions).map(|()| None)
    } else {
        shared.topics.create(&asked.name, n_partitions).map(Some)
    };
    match created {
        Ok(topic) if version >= 5 => result
            .with_topic_id(topic.map(|t| t.id).unwrap_or_default())
            .with_num_partitions(n_partitions)
            .with_replication_factor(1),
        Ok(_) => result,
        Err(error) => {
            let code = match &error {
                CreateError::Exists(_) => ResponseError::TopicAlreadyExists,
                CreateError::Name(_) => ResponseError::InvalidTopicException,
                CreateError::Partitions(_) => ResponseError::InvalidPartitions,
                CreateError::Full => ResponseError::PolicyViolation,
            };
            result.with_error_code(code.code()).with_error_message(Some(StrBytes::from_string(error.to_string())))
        }
    }
}

pub fn delete_topics(shared: &Shared, request: DeleteTopicsRequest, version: i16) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
    let delete = |asked: DeleteTopicState| {
        let name = match asked.name {
            Some(name) => Some(name),
            None => shared.topics.get_by_id(asked.topic_id).map(|t| TopicName(StrBytes::from_string(t.name.clone()))),
        };
        let deleted = name.as_ref().and_then(|name| shared.topics.delete(name));
        if let Some(topic) = &deleted {
            shared.coordinator.forget_topic(&topic.name);
        }
        let result = DeletableTopicResult::default().with_name(name.clone());
        match deleted {
            Some(topic) if version >= 6 => result.with_topic_id(topic.id),
            Some(_) => result,
            None if name.is_none() => {
                result.with_topic_id(asked.topic_id).with_error_code(ResponseError::UnknownTopicId.code())
            }
            None => result.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
        }
    };
    DeleteTopicsResponse::default().with_responses(request.topics.into_iter().chain(by_name).map(delete).collect())
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub fn describe_configs(shared: &Shared, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|r| describe(shared, r)).collect();
    DescribeConfigsResponse::default().with_results(results)
}

fn describe(shared: &Shared, asked: DescribeConfigsResource) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(asked.resource_type)
        .with_resource_name(asked.resource_name.clone());
    let retention = shared.options.retention;
    let settings = match asked.resource_type {
        TOPIC if shared.topics.get(&asked.resource_name).is_some() => vec![
            ("cleanup.policy", "delete".to_owned()),
            ("message.timestamp.type", "CreateTime".to_owned()),
            ("max.message.bytes", BATCH_BYTES_MAX.to_string()),
            ("retention.bytes", retention.bytes.to_string()),
            ("retention.ms", "-1".to_owned()),
        ],
        BROKER if *asked.resource_name == *shared.options.node_id.to_string() => vec![
            ("auto.create.topics.enable", shared.options.auto_create_topics.to_string()),
            ("num.partitions", shared.options.default_partitions.to_string()),
            ("message.max.bytes", BATCH_BYTES_MAX.to_string()),
            ("log.retention.bytes", retention.bytes.to_string()),
        ],
        TOPIC => return result.with_error_code(ResponseError::UnknownTopicOrPartition.code()),
        _ => return result.with_error_code(ResponseError::InvalidRequest.code()),
    };
    let is_asked = |name: &str| asked.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|k| **k == *name));
    let configs = settings.into_iter().filter(|(name, _)| is_asked(name)).map(|(name, value)| {
        /// Kafka's `STATIC_BROKER_CONFIG`.
        const STATIC_BROKER: i8 = 4;
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_read_only(true)
            .with_config_source(STATIC_BROKER)
    });
    result.with_configs(configs.collect())
}
