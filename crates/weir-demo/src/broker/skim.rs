//! A walk over a request's bytes before it is decoded.
//!
//! The decoder of `kafka-protocol` allocates what an array's length says before it reads the first
//! element, so that eight bytes of a broken frame could ask for hundreds of gigabytes and end the
//! process. This walk checks that each array's length fits the bytes that follow it.
//! Source of the shapes: the message definitions in Apache Kafka's `clients/src/main/resources`.

use kafka_protocol::messages::ApiKey;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("request is malformed at byte {at}: {what}")]
pub struct Malformed {
    pub at: usize,
    pub what: &'static str,
}

/// A part of a message.
enum Part {
    /// So many bytes.
    Fixed(usize),
    Str,
    Bytes,
    /// An array of structs; each ends with tagged fields in flexible versions.
    List(&'static [Field]),
    /// An array of 32-bit numbers.
    Ints,
    /// An array of strings.
    Texts,
}
use Part::{Bytes, Fixed, Ints, List, Str, Texts};

/// A part and the versions that have it.
type Field = (i16, i16, Part);
const ALL: i16 = i16::MAX;

/// More than any client asks for; bounds what the decoder allocates for a valid request.
const ELEMENTS_MAX: usize = 100_000;

/// The fields of a request and the first version with compact lengths and tagged fields.
fn shape(api: ApiKey) -> Option<(i16, &'static [Field])> {
    Some(match api {
        ApiKey::Produce => (
            9,
            &[
                (3, ALL, Str),
                (0, ALL, Fixed(6)),
                (0, ALL, List(&[(0, ALL, Str), (0, ALL, List(&[(0, ALL, Fixed(4)), (0, ALL, Bytes)]))])),
            ],
        ),
        ApiKey::Fetch => (
            12,
            &[
                (0, ALL, Fixed(17)),
                (7, ALL, Fixed(8)),
                (
                    0,
                    ALL,
                    List(&[
                        (0, ALL, Str),
                        (
                            0,
                            ALL,
                            List(&[
                                (0, ALL, Fixed(4)),
                                (9, ALL, Fixed(4)),
                                (0, ALL, Fixed(8)),
                                (12, ALL, Fixed(4)),
                                (5, ALL, Fixed(8)),
                                (0, ALL, Fixed(4)),
                            ]),
                        ),
                    ]),
                ),
                (7, ALL, List(&[(0, ALL, Str), (0, ALL, Ints)])),
                (11, ALL, Str),
            ],
        ),
        ApiKey::ListOffsets => (
            6,
            &[
                (0, ALL, Fixed(4)),
                (2, ALL, Fixed(1)),
                (
                    0,
                    ALL,
                    List(&[
                        (0, ALL, Str),
                        (0, ALL, List(&[(0, ALL, Fixed(4)), (4, ALL, Fixed(4)), (0, ALL, Fixed(8))])),
                    ]),
                ),
            ],
        ),
        ApiKey::Metadata => (
            9,
            &[
                (0, ALL, List(&[(10, ALL, Fixed(16)), (0, ALL, Str)])),
                (4, ALL, Fixed(1)),
                (8, 10, Fixed(1)),
                (8, ALL, Fixed(1)),
            ],
        ),
        ApiKey::OffsetCommit => (
            8,
            &[
                (0, ALL, Str),
                (1, ALL, Fixed(4)),
                (1, ALL, Str),
                (7, ALL, Str),
                (2, 4, Fixed(8)),
                (
                    0,
                    ALL,
                    List(&[(0, ALL, Str), (0, ALL, List(&[(0, ALL, Fixed(12)), (6, ALL, Fixed(4)), (0, ALL, Str)]))]),
                ),
            ],
        ),
        ApiKey::OffsetFetch => (
            6,
            &[
                (0, 7, Str),
                (0, 7, List(&[(0, ALL, Str), (0, ALL, Ints)])),
                (
                    8,
                    ALL,
                    List(&[
                        (0, ALL, Str),
                        (9, ALL, Str),
                        (9, ALL, Fixed(4)),
                        (0, ALL, List(&[(0, ALL, Str), (0, ALL, Ints)])),
                    ]),
                ),
                (7, ALL, Fixed(1)),
            ],
        ),
        ApiKey::FindCoordinator => (3, &[(0, 3, Str), (1, ALL, Fixed(1)), (4, ALL, Texts)]),
        ApiKey::JoinGroup => (
            6,
            &[
                (0, ALL, Str),
                (0, ALL, Fixed(4)),
                (1, ALL, Fixed(4)),
                (0, ALL, Str),
                (5, ALL, Str),
                (0, ALL, Str),
                (0, ALL, List(&[(0, ALL, Str), (0, ALL, Bytes)])),
                (8, ALL, Str),
            ],
        ),
        ApiKey::Heartbeat => (4, &[(0, ALL, Str), (0, ALL, Fixed(4)), (0, ALL, Str), (3, ALL, Str)]),
        ApiKey::LeaveGroup => {
            (4, &[(0, ALL, Str), (0, 2, Str), (3, ALL, List(&[(0, ALL, Str), (0, ALL, Str), (5, ALL, Str)]))])
        }
        ApiKey::SyncGroup => (
            4,
            &[
                (0, ALL, Str),
                (0, ALL, Fixed(4)),
                (0, ALL, Str),
                (3, ALL, Str),
                (5, ALL, Str),
                (5, ALL, Str),
                (0, ALL, List(&[(0, ALL, Str), (0, ALL, Bytes)])),
            ],
        ),
        ApiKey::DescribeGroups => (5, &[(0, ALL, Texts), (3, ALL, Fixed(1))]),
        ApiKey::ListGroups => (3, &[(4, ALL, Texts), (5, ALL, Texts)]),
        ApiKey::ApiVersions => (3, &[(3, ALL, Str), (3, ALL, Str)]),
        ApiKey::CreateTopics => (
            5,
            &[
                (
                    0,
                    ALL,
                    List(&[
                        (0, ALL, Str),
                        (0, ALL, Fixed(6)),
                        (0, ALL, List(&[(0, ALL, Fixed(4)), (0, ALL, Ints)])),
                        (0, ALL, List(&[(0, ALL, Str), (0, ALL, Str)])),
                    ]),
                ),
                (0, ALL, Fixed(4)),
                (1, ALL, Fixed(1)),
            ],
        ),
        ApiKey::DeleteTopics => {
            (4, &[(6, ALL, List(&[(0, ALL, Str), (0, ALL, Fixed(16))])), (0, 5, Texts), (0, ALL, Fixed(4))])
        }
        ApiKey::DeleteGroups => (2, &[(0, ALL, Texts)]),
        ApiKey::InitProducerId => (2, &[(0, ALL, Str), (0, ALL, Fixed(4)), (3, ALL, Fixed(10))]),
        ApiKey::OffsetForLeaderEpoch => (
            4,
            &[
                (3, ALL, Fixed(4)),
                (0, ALL, List(&[(0, ALL, Str), (0, ALL, List(&[(0, ALL, Fixed(4)), (2, ALL, Fixed(8))]))])),
            ],
        ),
        ApiKey::DescribeConfigs => (
            4,
            &[
                (0, ALL, List(&[(0, ALL, Fixed(1)), (0, ALL, Str), (0, ALL, Texts)])),
                (1, ALL, Fixed(1)),
                (3, ALL, Fixed(1)),
            ],
        ),
        ApiKey::DescribeCluster => (0, &[(0, ALL, Fixed(1)), (1, ALL, Fixed(1))]),
        _ => return None,
    })
}

/// Checks the lengths in a request's body (behind its header). `Err` also for an unknown request.
pub fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), Malformed> {
    let (first_flexible, fields) = shape(api).ok_or(Malformed { at: 0, what: "unknown request" })?;
    let mut walk = Walk { body, at: 0, version, flexible: version >= first_flexible };
    walk.fields(fields)
}

struct Walk<'a> {
    body: &'a [u8],
    at: usize,
    version: i16,
    flexible: bool,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        for (from, to, part) in fields {
            if (*from..=*to).contains(&self.version) {
                self.part(part)?;
            }
        }
        if self.flexible { self.tagged() } else { Ok(()) }
    }

    fn part(&mut self, part: &Part) -> Result<(), Malformed> {
        match part {
            Fixed(n) => self.skip(*n, "the request is cut off"),
            Str | Bytes => {
                let n = self.length(matches!(part, Str))?.unwrap_or(0);
                self.skip(n, "a text or blob is longer than the request")
            }
            List(element) => {
                let n = self.elements()?;
                (0..n).try_for_each(|_| self.fields(element))
            }
            Ints => {
                let n = self.elements()?;
                self.skip(n * 4, "an array is longer than the request")
            }
            Texts => {
                let n = self.elements()?;
                (0..n).try_for_each(|_| self.part(&Str))
            }
        }
    }

    fn elements(&mut self) -> Result<usize, Malformed> {
        let at = self.at;
        let n = self.length(false)?.unwrap_or(0);
        if n > self.body.len() - self.at {
            return Err(Malformed { at, what: "an array has more elements than bytes follow" });
        }
        if n > ELEMENTS_MAX {
            return Err(Malformed { at, what: "an array has more than 100000 elements" });
        }
        Ok(n)
    }

    /// A length; `None` stands for null.
    fn length(&mut self, short: bool) -> Result<Option<usize>, Malformed> {
        let at = self.at;
        if self.flexible {
            return Ok((self.varint()? as usize).checked_sub(1));
        }
        let bytes = self.body;
        self.skip(if short { 2 } else { 4 }, "a length is cut off")?;
        let n = if short {
            i32::from(i16::from_be_bytes([bytes[at], bytes[at + 1]]))
        } else {
            i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        match n {
            -1 => Ok(None),
            n => usize::try_from(n).map(Some).map_err(|_| Malformed { at, what: "a length is negative" }),
        }
    }

    fn tagged(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let n = self.varint()? as usize;
            self.skip(n, "a tagged field is longer than the request")?;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let start = self.at;
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = *self.body.get(self.at).ok_or(Malformed { at: start, what: "a number is cut off" })?;
            self.at += 1;
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed { at: start, what: "a number has more than five bytes" })
    }

    fn skip(&mut self, n: usize, what: &'static str) -> Result<(), Malformed> {
        match self.at.checked_add(n).filter(|end| *end <= self.body.len()) {
            Some(end) => {
                self.at = end;
                Ok(())
            }
            None => Err(Malformed { at: self.at, what }),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::{self as m, BrokerId, GroupId, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;
    use crate::broker::dispatch::SUPPORTED;

    fn text(s: &'static str) -> StrBytes {
        StrBytes::from_static_str(s)
    }

    /// A request with an element in each of its arrays; as much of it as the version can carry.
    fn full(api: ApiKey, version: i16) -> BytesMut {
        let topic = || TopicName(text("topic"));
        let group = || GroupId(text("group"));
        let mut out = BytesMut::new();
        let done = match api {
            ApiKey::Produce => {
                use m::produce_request::{PartitionProduceData, TopicProduceData};
                let data = PartitionProduceData::default().with_records(Some(bytes::Bytes::from_static(b"records")));
                let data = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
                m::ProduceRequest::default().with_topic_data(vec![data]).encode(&mut out, version)
            }
            ApiKey::Fetch => {
                use m::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
                let asked = FetchTopic::default().with_topic(topic());
                let asked = asked.with_partitions(vec![FetchPartition::default(), FetchPartition::default()]);
                let mut request = m::FetchRequest::default().with_topics(vec![asked]);
                if version >= 7 {
                    let forgotten = ForgottenTopic::default().with_topic(topic()).with_partitions(vec![1, 2]);
                    request = request.with_forgotten_topics_data(vec![forgotten]);
                }
                if version >= 12 {
                    request = request.with_cluster_id(Some(text("cluster")));
                }
                request.encode(&mut out, version)
            }
            ApiKey::ListOffsets => {
                use m::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
                let asked = ListOffsetsTopic::default().with_name(topic());
                let asked = asked.with_partitions(vec![ListOffsetsPartition::default()]);
                m::ListOffsetsRequest::default().with_topics(vec![asked]).encode(&mut out, version)
            }
            ApiKey::Metadata => {
                let asked = m::metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
                let request = m::MetadataRequest::default().with_topics(Some(vec![asked]));
                request.with_allow_auto_topic_creation(true).encode(&mut out, version)
            }
            ApiKey::OffsetCommit => {
                use m::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
                let asked = OffsetCommitRequestTopic::default().with_name(topic());
                let asked = asked.with_partitions(vec![OffsetCommitRequestPartition::default()]);
                let request = m::OffsetCommitRequest::default().with_group_id(group());
                request.with_topics(vec![asked]).encode(&mut out, version)
            }
            ApiKey::OffsetFetch if version >= 8 => {
                use m::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
                let asked = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![1]);
                let asked = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![asked]));
                m::OffsetFetchRequest::default().with_groups(vec![asked]).encode(&mut out, version)
            }
            ApiKey::OffsetFetch => {
                let asked = m::offset_fetch_request::OffsetFetchRequestTopic::default().with_name(topic());
                let asked = asked.with_partition_indexes(vec![1, 2]);
                let request = m::OffsetFetchRequest::default().with_group_id(group());
                request.with_topics(Some(vec![asked])).encode(&mut out, version)
            }
            ApiKey::FindCoordinator if version >= 4 => m::FindCoordinatorRequest::default()
                .with_coordinator_keys(vec![text("a"), text("b")])
                .encode(&mut out, version),
            ApiKey::FindCoordinator => {
                m::FindCoordinatorRequest::default().with_key(text("a")).encode(&mut out, version)
            }
            ApiKey::JoinGroup => {
                let protocol = m::join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
                let protocol = protocol.with_metadata(bytes::Bytes::from_static(b"metadata"));
                let request = m::JoinGroupRequest::default().with_group_id(group());
                request.with_protocols(vec![protocol]).encode(&mut out, version)
            }
            ApiKey::Heartbeat => m::HeartbeatRequest::default().with_group_id(group()).encode(&mut out, version),
            ApiKey::LeaveGroup if version >= 3 => {
                let member = m::leave_group_request::MemberIdentity::default().with_member_id(text("member"));
                let request = m::LeaveGroupRequest::default().with_group_id(group());
                request.with_members(vec![member]).encode(&mut out, version)
            }
            ApiKey::LeaveGroup => {
                m::LeaveGroupRequest::default().with_member_id(text("member")).encode(&mut out, version)
            }
            ApiKey::SyncGroup => {
                let assignment = m::sync_group_request::SyncGroupRequestAssignment::default();
                let assignment = assignment.with_assignment(bytes::Bytes::from_static(b"assignment"));
                let request = m::SyncGroupRequest::default().with_group_id(group());
                request.with_assignments(vec![assignment]).encode(&mut out, version)
            }
            ApiKey::DescribeGroups => {
                m::DescribeGroupsRequest::default().with_groups(vec![group()]).encode(&mut out, version)
            }
            ApiKey::ListGroups => {
                let states = if version >= 4 { vec![text("Stable")] } else { Vec::new() };
                m::ListGroupsRequest::default().with_states_filter(states).encode(&mut out, version)
            }
            ApiKey::ApiVersions => m::ApiVersionsRequest::default().encode(&mut out, version),
            ApiKey::CreateTopics => {
                use m::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
                let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
                let asked = CreatableTopic::default().with_name(topic()).with_assignments(vec![assignment]);
                let asked = asked.with_configs(vec![CreatableTopicConfig::default().with_name(text("retention.ms"))]);
                m::CreateTopicsRequest::default().with_topics(vec![asked]).encode(&mut out, version)
            }
            ApiKey::DeleteTopics if version >= 6 => {
                let asked = m::delete_topics_request::DeleteTopicState::default().with_name(Some(topic()));
                m::DeleteTopicsRequest::default().with_topics(vec![asked]).encode(&mut out, version)
            }
            ApiKey::DeleteTopics => {
                m::DeleteTopicsRequest::default().with_topic_names(vec![topic()]).encode(&mut out, version)
            }
            ApiKey::DeleteGroups => {
                m::DeleteGroupsRequest::default().with_groups_names(vec![group()]).encode(&mut out, version)
            }
            ApiKey::InitProducerId => m::InitProducerIdRequest::default().encode(&mut out, version),
            ApiKey::OffsetForLeaderEpoch => {
                use m::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
                let asked = OffsetForLeaderTopic::default().with_topic(topic());
                let asked = asked.with_partitions(vec![OffsetForLeaderPartition::default()]);
                m::OffsetForLeaderEpochRequest::default().with_topics(vec![asked]).encode(&mut out, version)
            }
            ApiKey::DescribeConfigs => {
                let asked = m::describe_configs_request::DescribeConfigsResource::default();
                let asked = asked.with_configuration_keys(Some(vec![text("a"), text("b")]));
                m::DescribeConfigsRequest::default().with_resources(vec![asked]).encode(&mut out, version)
            }
            ApiKey::DescribeCluster => m::DescribeClusterRequest::default().encode(&mut out, version),
            other => panic!("no request made for {other:?}"),
        };
        done.unwrap_or_else(|e| panic!("{api:?} v{version}: {e}"));
        out
    }

    fn walked(api: ApiKey, version: i16, body: &[u8]) -> Result<usize, Malformed> {
        let (first_flexible, fields) = shape(api).unwrap();
        let mut walk = Walk { body, at: 0, version, flexible: version >= first_flexible };
        walk.fields(fields).map(|()| walk.at)
    }

    /// The shapes here and the encoder's agree to the byte, in every version that is answered.
    #[test]
    fn whole_requests_are_walked_to_their_end() {
        for (api, min, max) in SUPPORTED {
            for version in *min..=*max {
                let body = full(*api, version);
                assert_eq!(walked(*api, version, &body), Ok(body.len()), "{api:?} v{version}");
                for cut in 0..body.len() {
                    assert!(check(*api, version, &body[..cut]).is_err(), "{api:?} v{version} cut at {cut}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(which in 0..SUPPORTED.len(), bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let (api, min, max) = SUPPORTED[which];
            for version in min..=max {
                let _ = check(api, version, &bytes);
            }
        }
    }
}
