//! From a frame to a handler and back: which requests and versions this broker knows.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{self as m, ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::connection::{Client, ConnectionError, put_frame};
use super::server::Shared;
use super::{admin, fetch, metadata, offsets, produce, skim};

/// Every request that is answered, with its versions. The upper ends stop where topic ids replace names.
pub const SUPPORTED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 9),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::ListOffsets, 1, 8),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 4),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 5),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::InitProducerId, 0, 4),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::DescribeCluster, 0, 1),
];

fn is_supported(api: ApiKey, version: i16) -> bool {
    SUPPORTED.iter().any(|(key, min, max)| *key == api && (*min..=*max).contains(&version))
}

/// One request's place: what a decode or encode error is told with.
struct Call<'a> {
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    body: Bytes,
    client_id: String,
    out: &'a mut BytesMut,
}

impl Call<'_> {
    fn decode<R: Decodable>(&mut self) -> Result<R, ConnectionError> {
        R::decode(&mut self.body, self.version).map_err(|e| ConnectionError::Decode {
            api: self.api,
            version: self.version,
            reason: e.to_string(),
        })
    }

    fn reply<R: Encodable>(self, response: &R) -> Result<(), ConnectionError> {
        let Self { api, version, correlation_id, out, .. } = self;
        put_frame(out, |out| {
            ResponseHeader::default()
                .with_correlation_id(correlation_id)
                .encode(out, api.response_header_version(version))?;
            response.encode(out, version)
        })
        .map_err(|e| ConnectionError::Encode { api, version, reason: e.to_string() })
    }
}

/// Answers the request in `frame`; the answer, if there is one, is appended to `out`.
pub async fn answer(
    shared: &Arc<Shared>,
    client: &Client,
    frame: Bytes,
    out: &mut BytesMut,
) -> Result<(), ConnectionError> {
    let Some(mut call) = open(frame, out)? else { return Ok(()) };
    let coordinator = &shared.coordinator;
    let version = call.version;
    match call.api {
        ApiKey::Produce => {
            let request = call.decode::<m::ProduceRequest>()?;
            match produce::produce(shared, request) {
                Some(response) => call.reply(&response),
                None => Ok(()),
            }
        }
        ApiKey::Fetch => {
            let request = call.decode()?;
            let response = fetch::fetch(shared, client, request).await;
            call.reply(&response)
        }
        ApiKey::ListOffsets => {
            let request = call.decode()?;
            call.reply(&offsets::list(shared, &request, version))
        }
        ApiKey::OffsetForLeaderEpoch => {
            let request = call.decode()?;
            call.reply(&offsets::for_leader_epoch(shared, &request))
        }
        ApiKey::Metadata => {
            let request = call.decode()?;
            call.reply(&metadata::metadata(shared, client, request, version))
        }
        ApiKey::ApiVersions => {
            call.decode::<m::ApiVersionsRequest>()?;
            call.reply(&metadata::api_versions())
        }
        ApiKey::FindCoordinator => {
            let request = call.decode()?;
            call.reply(&metadata::find_coordinator(shared, client, request, version))
        }
        ApiKey::DescribeCluster => {
            call.decode::<m::DescribeClusterRequest>()?;
            call.reply(&metadata::describe_cluster(shared, client))
        }
        ApiKey::CreateTopics => {
            let request = call.decode()?;
            call.reply(&admin::create_topics(shared, request, version))
        }
        ApiKey::DeleteTopics => {
            let request = call.decode()?;
            call.reply(&admin::delete_topics(shared, request, version))
        }
        ApiKey::DescribeConfigs => {
            let request = call.decode()?;
            call.reply(&admin::describe_configs(shared, request))
        }
        ApiKey::InitProducerId => {
            let request = call.decode()?;
            call.reply(&produce::init_producer_id(shared, &request))
        }
        ApiKey::JoinGroup => {
            let request = call.decode()?;
            let response = coordinator.join(client, &call.client_id, request, version).await;
            call.reply(&response)
        }
        ApiKey::SyncGroup => {
            let request = call.decode()?;
            let response = coordinator.sync(request, version).await;
            call.reply(&response)
        }
        ApiKey::Heartbeat => {
            let request = call.decode()?;
            call.reply(&coordinator.heartbeat(&request))
        }
        ApiKey::LeaveGroup => {
            let request = call.decode()?;
            call.reply(&coordinator.leave(request, version))
        }
        ApiKey::OffsetCommit => {
            let request = call.decode()?;
            call.reply(&coordinator.commit(&shared.topics, request))
        }
        ApiKey::OffsetFetch => {
            let request = call.decode()?;
            call.reply(&coordinator.fetch_offsets(request, version))
        }
        ApiKey::ListGroups => {
            let request = call.decode()?;
            call.reply(&coordinator.list(&request, version))
        }
        ApiKey::DescribeGroups => {
            let request = call.decode()?;
            call.reply(&coordinator.describe(request))
        }
        ApiKey::DeleteGroups => {
            let request = call.decode()?;
            call.reply(&coordinator.delete(request))
        }
        _ => Err(ConnectionError::Unsupported { key: call.api as i16, version }),
    }
}

/// Reads the header and checks the body's lengths. `None`: answered already.
fn open(mut frame: Bytes, out: &mut BytesMut) -> Result<Option<Call<'_>>, ConnectionError> {
    if frame.len() < 8 {
        return Err(ConnectionError::TooShort(frame.len()));
    }
    let mut peek = &frame[..8];
    let (key, version, correlation_id) = (peek.get_i16(), peek.get_i16(), peek.get_i32());
    let unsupported = ConnectionError::Unsupported { key, version };
    let Ok(api) = ApiKey::try_from(key) else { return Err(unsupported) };
    if api == ApiKey::ApiVersions && !is_supported(api, version) {
        // A newer client starts too high; told in version 0 what there is, it asks again.
        let response = metadata::api_versions_unsupported();
        let call = Call { api, version: 0, correlation_id, body: frame, client_id: String::new(), out };
        return call.reply(&response).map(|()| None);
    }
    if !is_supported(api, version) {
        return Err(unsupported);
    }
    let header = RequestHeader::decode(&mut frame, api.request_header_version(version))
        .map_err(|e| ConnectionError::Decode { api, version, reason: e.to_string() })?;
    skim::check(api, version, &frame).map_err(|source| ConnectionError::Malformed { api, version, source })?;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Some(Call { api, version, correlation_id, body: frame, client_id, out }))
}
