//! What clients ask first: versions, brokers, topics, coordinators.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::connection::Client;
use super::dispatch::SUPPORTED;
use super::log::LEADER_EPOCH;
use super::server::Shared;
use super::topics::{CreateError, Topic};

pub fn api_versions() -> ApiVersionsResponse {
    let key = |(api, min, max): &(kafka_protocol::messages::ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(*api as i16).with_min_version(*min).with_max_version(*max)
    };
    ApiVersionsResponse::default().with_api_keys(SUPPORTED.iter().map(key).collect())
}

/// The answer, in version 0, to an ApiVersions request of a version from the future.
pub fn api_versions_unsupported() -> ApiVersionsResponse {
    api_versions().with_error_code(ResponseError::UnsupportedVersion.code())
}

fn host(client: &Client) -> StrBytes {
    StrBytes::from_string(client.reached.ip().to_string())
}

pub fn metadata(shared: &Shared, client: &Client, request: MetadataRequest, version: i16) -> MetadataResponse {
    let node = BrokerId(shared.options.node_id);
    let broker = MetadataResponseBroker::default()
        .with_node_id(node)
        .with_host(host(client))
        .with_port(i32::from(client.reached.port()));
    // Version 0 writes "all topics" as an empty list.
    let all = request.topics.as_ref().is_none_or(|t| version == 0 && t.is_empty());
    let topics = if all {
        shared.topics.all().iter().map(|t| describe(shared, t)).collect()
    } else {
        let may_create = shared.options.auto_create_topics && (version < 4 || request.allow_auto_topic_creation);
        request.topics.unwrap_or_default().into_iter().map(|t| find(shared, t, may_create)).collect()
    };
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(shared.options.cluster_id.clone())))
        .with_controller_id(node)
        .with_topics(topics)
}

fn find(shared: &Shared, asked: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let failed = |error: ResponseError, name: Option<TopicName>, id: Uuid| {
        MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_topic_id(id)
    };
    let Some(name) = asked.name else {
        return match shared.topics.get_by_id(asked.topic_id) {
            Some(topic) => describe(shared, &topic),
            None => failed(ResponseError::UnknownTopicId, None, asked.topic_id),
        };
    };
    if let Some(topic) = shared.topics.get(&name) {
        return describe(shared, &topic);
    }
    let n_partitions = shared.options.default_partitions;
    let created = if may_create {
        shared.topics.create(&name, n_partitions)
    } else {
        // Only to tell an impossible name from an unknown one.
        shared.topics.check(&name, n_partitions).and(Err(CreateError::Full))
    };
    match created {
        Ok(topic) => describe(shared, &topic),
        // Created by somebody else in this moment.
        Err(CreateError::Exists(_)) => failed(ResponseError::LeaderNotAvailable, Some(name), Uuid::nil()),
        Err(CreateError::Name(_)) => failed(ResponseError::InvalidTopicException, Some(name), Uuid::nil()),
        Err(CreateError::Partitions(_) | CreateError::Full) => {
            failed(ResponseError::UnknownTopicOrPartition, Some(name), Uuid::nil())
        }
    }
}

fn describe(shared: &Shared, topic: &Topic) -> MetadataResponseTopic {
    let node = BrokerId(shared.options.node_id);
    let partitions = (0..topic.partitions.len()).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index as i32)
            .with_leader_id(node)
            .with_leader_epoch(LEADER_EPOCH)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

/// This broker coordinates every group; there are no transactions to coordinate.
pub fn find_coordinator(
    shared: &Shared,
    client: &Client,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    const GROUP: i8 = 0;
    let node = BrokerId(shared.options.node_id);
    let port = i32::from(client.reached.port());
    let error = if request.key_type == GROUP { 0 } else { ResponseError::CoordinatorNotAvailable.code() };
    if version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(error)
            .with_node_id(node)
            .with_host(host(client))
            .with_port(port);
    }
    let coordinator = |key| {
        Coordinator::default()
            .with_key(key)
            .with_error_code(error)
            .with_node_id(node)
            .with_host(host(client))
            .with_port(port)
    };
    let coordinators = request.coordinator_keys.into_iter().map(coordinator).collect();
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

pub fn describe_cluster(shared: &Shared, client: &Client) -> DescribeClusterResponse {
    let node = BrokerId(shared.options.node_id);
    let broker = DescribeClusterBroker::default()
        .with_broker_id(node)
        .with_host(host(client))
        .with_port(i32::from(client.reached.port()));
    DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(shared.options.cluster_id.clone()))
        .with_controller_id(node)
        .with_brokers(vec![broker])
}
