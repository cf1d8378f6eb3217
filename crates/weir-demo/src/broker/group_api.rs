//! The group requests over [`Group`], and the timer that ends what is due.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::connection::Client;
use super::group::{Caller, Committed, Group, Join, State};
use super::options::BrokerOptions;
use super::topics::Topics;

/// Groups remembered; those without members and offsets are forgotten at once.
const GROUPS_MAX: usize = 10_000;
/// Apache Kafka's `group.max.session.timeout.ms`.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(1800);
/// Apache Kafka's `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

pub struct Coordinator {
    groups: Mutex<Groups>,
    /// An earlier deadline than the timer sleeps for.
    earlier: Notify,
    initial_delay: Duration,
    session_timeout_min: Duration,
}

#[derive(Default)]
struct Groups {
    by_id: BTreeMap<String, Group>,
    timer_sleeps_until: Option<Instant>,
}

impl Coordinator {
    pub fn new(options: &BrokerOptions) -> Self {
        Self {
            groups: Mutex::default(),
            earlier: Notify::new(),
            initial_delay: options.initial_rebalance_delay,
            session_timeout_min: options.session_timeout_min,
        }
    }

    /// Sleeps until the next deadline of any group; for ever without one.
    pub async fn run_timer(&self) {
        loop {
            let next = {
                let mut groups = self.groups.lock();
                let now = Instant::now();
                for group in groups.by_id.values_mut() {
                    if group.next_deadline().is_some_and(|due| due <= now) {
                        group.tick(now);
                    }
                }
                groups.by_id.retain(|_, group| !group.is_void());
                groups.timer_sleeps_until = groups.by_id.values().filter_map(Group::next_deadline).min();
                groups.timer_sleeps_until
            };
            match next {
                Some(due) => tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = self.earlier.notified() => {}
                },
                None => self.earlier.notified().await,
            }
        }
    }

    /// Runs `act` on a group, made if it is new and `create`; `None` when there is none.
    fn with<R>(&self, id: &str, create: bool, act: impl FnOnce(&mut Group, Instant) -> R) -> Option<R> {
        let mut groups = self.groups.lock();
        let Groups { by_id, timer_sleeps_until } = &mut *groups;
        if !by_id.contains_key(id) {
            if !create || by_id.len() >= GROUPS_MAX {
                return None;
            }
            by_id.insert(id.to_owned(), Group::new(self.initial_delay));
        }
        let group = by_id.get_mut(id)?;
        let result = act(group, Instant::now());
        let due = group.next_deadline();
        if group.is_void() {
            by_id.remove(id);
        } else if due.is_some_and(|due| timer_sleeps_until.is_none_or(|t| due < t)) {
            *timer_sleeps_until = due;
            self.earlier.notify_one();
        }
        Some(result)
    }

    pub async fn join(
        &self,
        client: &Client,
        client_id: &str,
        request: JoinGroupRequest,
        version: i16,
    ) -> JoinGroupResponse {
        let failed = |error: ResponseError, member_id: String| {
            JoinGroupResponse::default()
                .with_error_code(error.code())
                .with_generation_id(-1)
                .with_protocol_name((version < 7).then(StrBytes::new))
                .with_member_id(StrBytes::from_string(member_id))
        };
        let member_id = request.member_id.to_string();
        if request.group_id.is_empty() {
            return failed(ResponseError::InvalidGroupId, member_id);
        }
        let session_timeout = millis(request.session_timeout_ms);
        if session_timeout < self.session_timeout_min || session_timeout > SESSION_TIMEOUT_MAX {
            return failed(ResponseError::InvalidSessionTimeout, member_id);
        }
        let name = request.group_instance_id.as_ref().map_or(client_id, |i| i.as_str());
        let join = Join {
            fresh_id: format!("{name}-{:032x}", rand::random::<u128>()),
            instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
            client_id: client_id.to_owned(),
            client_host: format!("/{}", client.peer.ip()),
            session_timeout,
            // Version 0 has no timeout of its own for rebalances.
            rebalance_timeout: if version == 0 { session_timeout } else { millis(request.rebalance_timeout_ms) },
            protocol_type: request.protocol_type.to_string(),
            protocols: request.protocols.into_iter().map(|p| (p.name.to_string(), own(&p.metadata))).collect(),
            requires_known_id: version >= 4,
            member_id,
        };
        let (reply, answer) = oneshot::channel();
        let has_group = !join.member_id.is_empty();
        let known = self.with(&request.group_id, !has_group, |group, now| group.join(join, now, reply));
        if known.is_none() {
            let error = if has_group { ResponseError::UnknownMemberId } else { ResponseError::GroupMaxSizeReached };
            return failed(error, request.member_id.to_string());
        }
        match answer.await {
            Ok(Ok(joined)) => {
                let member = |(id, instance, metadata): (String, Option<String>, bytes::Bytes)| {
                    JoinGroupResponseMember::default()
                        .with_member_id(StrBytes::from_string(id))
                        .with_group_instance_id(instance.map(StrBytes::from_string))
                        .with_metadata(metadata)
                };
                JoinGroupResponse::default()
                    .with_generation_id(joined.generation)
                    .with_protocol_type(Some(StrBytes::from_string(joined.protocol_type)))
                    .with_protocol_name(Some(StrBytes::from_string(joined.protocol)))
                    .with_leader(StrBytes::from_string(joined.leader))
                    .with_member_id(StrBytes::from_string(joined.member_id))
                    .with_members(joined.members.into_iter().map(member).collect())
            }
            Ok(Err((error, member_id))) => failed(error, member_id),
            Err(_) => failed(ResponseError::UnknownMemberId, request.member_id.to_string()),
        }
    }

    pub async fn sync(&self, request: SyncGroupRequest, version: i16) -> SyncGroupResponse {
        let failed = |error: ResponseError| SyncGroupResponse::default().with_error_code(error.code());
        let caller = Caller {
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
            generation: request.generation_id,
        };
        let assignments = request.assignments.iter().map(|a| (a.member_id.to_string(), own(&a.assignment))).collect();
        let (reply, answer) = oneshot::channel();
        if self.with(&request.group_id, false, |group, now| group.sync(&caller, assignments, now, reply)).is_none() {
            return failed(ResponseError::UnknownMemberId);
        }
        match answer.await {
            Ok(Ok(synced)) => {
                let response = SyncGroupResponse::default().with_assignment(synced.assignment);
                if version < 5 {
                    return response;
                }
                response
                    .with_protocol_type(Some(StrBytes::from_string(synced.protocol_type)))
                    .with_protocol_name(Some(StrBytes::from_string(synced.protocol)))
            }
            Ok(Err(error)) => failed(error),
            Err(_) => failed(ResponseError::UnknownMemberId),
        }
    }

    pub fn heartbeat(&self, request: &HeartbeatRequest) -> HeartbeatResponse {
        let caller = Caller {
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
            generation: request.generation_id,
        };
        let result = self.with(&request.group_id, false, |group, now| group.heartbeat(&caller, now));
        HeartbeatResponse::default().with_error_code(code(result.unwrap_or(Err(ResponseError::UnknownMemberId))))
    }

    pub fn leave(&self, request: LeaveGroupRequest, version: i16) -> LeaveGroupResponse {
        let leave = |member: &MemberIdentity| {
            let caller = Caller {
                member_id: &member.member_id,
                instance_id: member.group_instance_id.as_deref(),
                generation: -1,
            };
            let result = self.with(&request.group_id, false, |group, now| group.leave(&caller, now));
            code(result.unwrap_or(Err(ResponseError::UnknownMemberId)))
        };
        if version < 3 {
            let member =
                MemberIdentity::default().with_member_id(request.member_id.clone()).with_group_instance_id(None);
            return LeaveGroupResponse::default().with_error_code(leave(&member));
        }
        let members = request.members.iter().map(|member| {
            MemberResponse::default()
                .with_error_code(leave(member))
                .with_member_id(member.member_id.clone())
                .with_group_instance_id(member.group_instance_id.clone())
        });
        LeaveGroupResponse::default().with_members(members.collect())
    }

    pub fn commit(&self, topics: &Topics, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let caller = Caller {
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
            generation: request.generation_id_or_member_epoch,
        };
        // Only a consumer without membership makes a group by committing.
        let create = caller.generation < 0 && caller.member_id.is_empty();
        let store = |group: &mut Group, now| {
            let allowed = group.check_commit(&caller, now);
            let topic = |topic: &kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic| {
                let partitions = topic.partitions.iter().map(|p| {
                    let metadata = p.committed_metadata.as_ref().map(ToString::to_string).unwrap_or_default();
                    let stored = match allowed {
                        Err(error) => Err(error),
                        Ok(()) if metadata.len() > METADATA_BYTES_MAX => Err(ResponseError::OffsetMetadataTooLarge),
                        Ok(()) if topics.partition(&topic.name, p.partition_index).is_none() => {
                            Err(ResponseError::UnknownTopicOrPartition)
                        }
                        Ok(()) => {
                            let committed = Committed {
                                offset: p.committed_offset,
                                leader_epoch: p.committed_leader_epoch,
                                metadata,
                            };
                            group.offsets.insert((topic.name.to_string(), p.partition_index), committed);
                            Ok(())
                        }
                    };
                    let answer = OffsetCommitResponsePartition::default().with_partition_index(p.partition_index);
                    answer.with_error_code(code(stored))
                });
                let partitions = partitions.collect();
                OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
            };
            request.topics.iter().map(topic).collect::<Vec<_>>()
        };
        if let Some(topics) = self.with(&request.group_id, create, store) {
            return OffsetCommitResponse::default().with_topics(topics);
        }
        // A group nobody knows: every partition is refused the same way.
        let error = if create { ResponseError::GroupMaxSizeReached } else { ResponseError::IllegalGeneration };
        let refused = request.topics.iter().map(|topic| {
            let partition = |p: &kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition| {
                let answer = OffsetCommitResponsePartition::default().with_partition_index(p.partition_index);
                answer.with_error_code(error.code())
            };
            let partitions = topic.partitions.iter().map(partition).collect();
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        OffsetCommitResponse::default().with_topics(refused.collect())
    }

    pub fn fetch_offsets(&self, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
        if version >= 8 {
            let groups = request.groups.into_iter().map(|group| self.group_offsets(group)).collect();
            return OffsetFetchResponse::default().with_groups(groups);
        }
        let names = request.topics.map(|topics| {
            let topic = |t: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
                OffsetFetchRequestTopics::default().with_name(t.name).with_partition_indexes(t.partition_indexes)
            };
            topics.into_iter().map(topic).collect()
        });
        let asked = OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(names);
        let topics = self.group_offsets(asked).topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|p| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(p.partition_index)
                    .with_committed_offset(p.committed_offset)
                    .with_committed_leader_epoch(p.committed_leader_epoch)
                    .with_metadata(p.metadata)
            });
            OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
        });
        OffsetFetchResponse::default().with_topics(topics.collect())
    }

    /// Without topics all that were committed. A partition without a commit has offset -1.
    fn group_offsets(&self, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
        let offsets = self.with(&asked.group_id, false, |group, _| group.offsets.clone()).unwrap_or_default();
        let partition = |index: i32, committed: Option<&Committed>| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(committed.map_or(-1, |c| c.offset))
                .with_committed_leader_epoch(committed.map_or(-1, |c| c.leader_epoch))
                .with_metadata(Some(StrBytes::from_string(committed.map(|c| c.metadata.clone()).unwrap_or_default())))
        };
        let topics = match asked.topics {
            Some(topics) => topics
                .into_iter()
                .map(|topic| {
                    let name = topic.name.to_string();
                    let found = |index: i32| partition(index, offsets.get(&(name.clone(), index)));
                    let partitions = topic.partition_indexes.into_iter().map(found).collect();
                    OffsetFetchResponseTopics::default().with_name(topic.name).with_partitions(partitions)
                })
                .collect(),
            None => {
                let mut topics: BTreeMap<&str, Vec<_>> = BTreeMap::new();
                for ((topic, index), committed) in &offsets {
                    topics.entry(topic).or_default().push(partition(*index, Some(committed)));
                }
                let topic = |(name, partitions): (&str, Vec<_>)| {
                    OffsetFetchResponseTopics::default().with_name(topic_name(name)).with_partitions(partitions)
                };
                topics.into_iter().map(topic).collect()
            }
        };
        OffsetFetchResponseGroup::default().with_group_id(asked.group_id).with_topics(topics)
    }

    pub fn list(&self, request: &ListGroupsRequest, version: i16) -> ListGroupsResponse {
        let groups = self.groups.lock();
        let is =
            |filter: &[StrBytes], name: &str| filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(name));
        let listed = groups.by_id.iter().filter(|(_, group)| {
            is(&request.states_filter, group.state().name()) && is(&request.types_filter, "classic")
        });
        let groups = listed.map(|(id, group)| {
            let listed = ListedGroup::default()
                .with_group_id(GroupId(StrBytes::from_string(id.clone())))
                .with_protocol_type(StrBytes::from_string(group.protocol_type().to_owned()));
            match version {
                5.. => listed
                    .with_group_state(StrBytes::from_static_str(group.state().name()))
                    .with_group_type(StrBytes::from_static_str("classic")),
                4 => listed.with_group_state(StrBytes::from_static_str(group.state().name())),
                _ => listed,
            }
        });
        ListGroupsResponse::default().with_groups(groups.collect())
    }

    pub fn describe(&self, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
        let describe = |id: GroupId| {
            let described = self.with(&id, false, |group, _| describe(group));
            let dead = || DescribedGroup::default().with_group_state(StrBytes::from_static_str("Dead"));
            described.unwrap_or_else(dead).with_group_id(id)
        };
        DescribeGroupsResponse::default().with_groups(request.groups.into_iter().map(describe).collect())
    }

    pub fn delete(&self, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut groups = self.groups.lock();
        let results = request.groups_names.into_iter().map(|id| {
            let deleted = match groups.by_id.get(&**id).map(Group::state) {
                None => Err(ResponseError::GroupIdNotFound),
                Some(State::Empty) => {
                    groups.by_id.remove(&**id);
                    Ok(())
                }
                Some(_) => Err(ResponseError::NonEmptyGroup),
            };
            DeletableGroupResult::default().with_group_id(id).with_error_code(code(deleted))
        });
        let results = results.collect();
        DeleteGroupsResponse::default().with_results(results)
    }

    /// Drops the offsets committed for a deleted topic: one created later under its name starts afresh.
    pub fn forget_topic(&self, topic: &str) {
        for group in self.groups.lock().by_id.values_mut() {
            group.offsets.retain(|(name, _), _| name != topic);
        }
    }
}

fn describe(group: &Group) -> DescribedGroup {
    let members = group.members().iter().map(|(id, member)| {
        DescribedGroupMember::default()
            .with_member_id(StrBytes::from_string(id.clone()))
            .with_group_instance_id(member.instance_id.clone().map(StrBytes::from_string))
            .with_client_id(StrBytes::from_string(member.client_id.clone()))
            .with_client_host(StrBytes::from_string(member.client_host.clone()))
            .with_member_metadata(member.metadata(group.protocol()))
            .with_member_assignment(member.assignment.clone())
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state().name()))
        .with_protocol_type(StrBytes::from_string(group.protocol_type().to_owned()))
        .with_protocol_data(StrBytes::from_string(group.protocol().to_owned()))
        .with_members(members.collect())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn code(result: Result<(), ResponseError>) -> i16 {
    result.err().map_or(0, |error| error.code())
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A copy that does not hold on to the request's buffer.
fn own(bytes: &bytes::Bytes) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}
