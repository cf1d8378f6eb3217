//! All brokers of one cluster, and one poll of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ApiKey, BrokerId, DescribeGroupsRequest, FetchRequest, GroupId, ListGroupsRequest, ListOffsetsRequest,
    MetadataRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use weir_model::Timestamp;

use crate::client::{Connection, KafkaError};
use crate::table::{GroupOffsets, Lookup, PartitionId, PartitionOffsets, Snapshot};

/// Topics and leaders are asked for anew after so long, or after any error.
const METADATA_EVERY: Duration = Duration::from_secs(10);
/// Members change slowly and are the dearest to ask for.
const MEMBERS_EVERY: Duration = Duration::from_secs(5);
/// Look-ups of records' times per poll; the rest wait for the next.
const LOOKUPS_MAX: usize = 64;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// What is known of a cluster between polls.
pub struct Cluster {
    bootstrap: Vec<String>,
    brokers: BTreeMap<i32, String>,
    connections: AHashMap<i32, Connection>,
    /// Leader of each partition.
    leaders: BTreeMap<PartitionId, i32>,
    metadata_at: Option<Timestamp>,
    members: AHashMap<Arc<str>, usize>,
    members_at: Option<Timestamp>,
    topics: AHashMap<String, Arc<str>>,
}

impl Cluster {
    pub fn new(bootstrap: Vec<String>) -> Self {
        Self {
            bootstrap,
            brokers: BTreeMap::new(),
            connections: AHashMap::new(),
            leaders: BTreeMap::new(),
            metadata_at: None,
            members: AHashMap::new(),
            members_at: None,
            topics: AHashMap::new(),
        }
    }

    /// Partitions per topic, as of the last metadata.
    pub fn topic_partitions(&self) -> BTreeMap<Arc<str>, usize> {
        let mut topics = BTreeMap::new();
        for id in self.leaders.keys() {
            *topics.entry(Arc::clone(&id.topic)).or_default() += 1;
        }
        topics
    }

    /// Reads groups and offsets once. After an error all connections are closed and metadata is forgotten.
    pub async fn poll(&mut self, now: Timestamp) -> Result<Snapshot, KafkaError> {
        let polled = self.try_poll(now).await;
        if polled.is_err() {
            self.connections.clear();
            self.metadata_at = None;
        }
        polled
    }

    async fn try_poll(&mut self, now: Timestamp) -> Result<Snapshot, KafkaError> {
        if self.metadata_at.is_none_or(|at| now.since(at) >= METADATA_EVERY) {
            self.refresh().await?;
            self.metadata_at = Some(now);
        }
        let with_members = self.members_at.is_none_or(|at| now.since(at) >= MEMBERS_EVERY);
        let ids: Vec<i32> = self.brokers.keys().copied().collect();
        let mut groups = Vec::new();
        // Commits before ends: a commit in between would otherwise be beyond the end.
        for id in &ids {
            groups.extend(self.groups_of(*id, with_members).await?);
        }
        if with_members {
            self.members_at = Some(now);
            let alive: AHashSet<&Arc<str>> = groups.iter().map(|g| &g.group).collect();
            self.members.retain(|group, _| alive.contains(group));
        }
        let mut partitions = Vec::with_capacity(self.leaders.len());
        for id in &ids {
            partitions.extend(self.partitions_of(*id).await?);
        }
        Ok(Snapshot { partitions, groups })
    }

    async fn connection(&mut self, id: i32) -> Result<&mut Connection, KafkaError> {
        if !self.connections.contains_key(&id) {
            let address = self.brokers.get(&id).cloned().unwrap_or_default();
            let opened = Connection::open(&address).await?;
            self.connections.insert(id, opened);
        }
        Ok(self.connections.get_mut(&id).expect("it was inserted above"))
    }

    /// Asks any known broker for brokers, topics and leaders.
    async fn refresh(&mut self) -> Result<(), KafkaError> {
        let known = self.brokers.values().cloned();
        let mut candidates: Vec<String> = self.bootstrap.iter().cloned().chain(known).collect();
        let mut seen = AHashSet::new();
        candidates.retain(|c| seen.insert(c.clone()));
        let mut last = None;
        for address in candidates {
            match self.refresh_from(&address).await {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("a cluster is configured with at least one broker"))
    }

    async fn refresh_from(&mut self, address: &str) -> Result<(), KafkaError> {
        let open = self.brokers.iter().find(|(_, a)| *a == address).map(|(id, _)| *id);
        let open = open.and_then(|id| self.connections.remove(&id));
        let mut connection = match open {
            Some(connection) => connection,
            None => Connection::open(address).await?,
        };
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let metadata = connection.call(&request, 4, 9).await?;
        let brokers: BTreeMap<i32, String> =
            metadata.brokers.iter().map(|b| (b.node_id.0, format!("{}:{}", b.host, b.port))).collect();
        self.connections.retain(|id, c| brokers.get(id).is_some_and(|address| address == c.broker()));
        if let Some((id, _)) = brokers.iter().find(|(_, a)| *a == connection.broker()) {
            self.connections.insert(*id, connection);
        }
        self.brokers = brokers;
        self.leaders.clear();
        let topics = std::mem::take(&mut self.topics);
        for topic in metadata.topics.iter().filter(|t| !t.is_internal) {
            let Some(name) = &topic.name else { continue };
            let shared = topics.get(name.as_str()).cloned().unwrap_or_else(|| Arc::from(name.as_str()));
            self.topics.insert(name.to_string(), Arc::clone(&shared));
            for partition in topic.partitions.iter().filter(|p| p.leader_id.0 >= 0) {
                let id = PartitionId { topic: Arc::clone(&shared), partition: partition.partition_index };
                self.leaders.insert(id, partition.leader_id.0);
            }
        }
        Ok(())
    }

    /// The groups that this broker coordinates: it lists no others.
    async fn groups_of(&mut self, id: i32, with_members: bool) -> Result<Vec<GroupOffsets>, KafkaError> {
        let connection = self.connection(id).await?;
        let listed = connection.call(&ListGroupsRequest::default(), 0, 4).await?;
        connection.check(ApiKey::ListGroups, listed.error_code)?;
        // Kafka Connect and others form groups that consume nothing.
        let is_consumer = |g: &&kafka_protocol::messages::list_groups_response::ListedGroup| {
            g.protocol_type.is_empty() || *g.protocol_type == *"consumer"
        };
        let names: Vec<GroupId> = listed.groups.iter().filter(is_consumer).map(|g| g.group_id.clone()).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        if with_members {
            self.count_members(id, &names).await?;
        }
        let connection = self.connection(id).await?;
        let committed = committed(connection, names).await?;
        let intern = |name: String| self.topics.get(&name).cloned().unwrap_or_else(|| Arc::from(name));
        let groups = committed.into_iter().map(|(group, offsets)| {
            let group: Arc<str> = Arc::from(group.as_str());
            let id = |(topic, partition, offset)| (PartitionId { topic: intern(topic), partition }, offset);
            GroupOffsets {
                n_members: self.members.get(&group).copied(),
                committed: offsets.into_iter().map(id).collect(),
                group,
            }
        });
        Ok(groups.collect())
    }

    async fn count_members(&mut self, id: i32, groups: &[GroupId]) -> Result<(), KafkaError> {
        let connection = self.connection(id).await?;
        let request = DescribeGroupsRequest::default().with_groups(groups.to_vec());
        let described = connection.call(&request, 0, 5).await?;
        for group in described.groups {
            // A group of the newer consumer protocol is not described by this request.
            if group.error_code == 0 {
                self.members.insert(Arc::from(group.group_id.as_str()), group.members.len());
            }
        }
        Ok(())
    }

    async fn partitions_of(&mut self, id: i32) -> Result<Vec<PartitionOffsets>, KafkaError> {
        let led: Vec<PartitionId> =
            self.leaders.iter().filter(|(_, leader)| **leader == id).map(|(id, _)| id.clone()).collect();
        if led.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.connection(id).await?;
        let starts = list_offsets(connection, &led, EARLIEST).await?;
        let ends = list_offsets(connection, &led, LATEST).await?;
        let offsets = led.into_iter().filter_map(|id| {
            let (start, end) = (*starts.get(&id)?, *ends.get(&id)?);
            Some(PartitionOffsets { start, end, id })
        });
        Ok(offsets.collect())
    }

    /// The time of a record, as its producer or broker stamped it. `None` when there is none.
    pub async fn record_times(&mut self, lookups: &[Lookup]) -> Result<Vec<Option<Timestamp>>, KafkaError> {
        let mut times = Vec::with_capacity(lookups.len());
        for lookup in lookups.iter().take(LOOKUPS_MAX) {
            let Some(leader) = self.leaders.get(&lookup.partition).copied() else {
                times.push(None);
                continue;
            };
            let read = match self.connection(leader).await {
                Ok(connection) => record_time(connection, lookup).await,
                Err(error) => Err(error),
            };
            if read.is_err() {
                self.connections.remove(&leader);
            }
            times.push(read?);
        }
        Ok(times)
    }
}

type Committed = Vec<(GroupId, Vec<(String, i32, i64)>)>;

/// Every offset that the groups committed; one request for all where the broker can.
async fn committed(connection: &mut Connection, groups: Vec<GroupId>) -> Result<Committed, KafkaError> {
    const BATCHED: i16 = 8;
    let mut all = Vec::with_capacity(groups.len());
    if connection.version::<OffsetFetchRequest>(2, 9)? < BATCHED {
        for group in groups {
            let request = OffsetFetchRequest::default().with_group_id(group.clone()).with_topics(None);
            let fetched = connection.call(&request, 2, 7).await?;
            let offsets = fetched.topics.iter().flat_map(|topic| {
                let offset = |p: &kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartition| {
                    (topic.name.to_string(), p.partition_index, p.committed_offset)
                };
                topic.partitions.iter().map(offset).collect::<Vec<_>>()
            });
            all.push((group, offsets.filter(|(_, _, offset)| *offset >= 0).collect()));
        }
        return Ok(all);
    }
    let asked = |group| OffsetFetchRequestGroup::default().with_group_id(group).with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(groups.into_iter().map(asked).collect());
    let fetched = connection.call(&request, BATCHED, 9).await?;
    for group in fetched.groups.into_iter().filter(|g| g.error_code == 0) {
        let offsets = group.topics.iter().flat_map(|topic| {
            let offset = |p: &kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions| {
                (topic.name.to_string(), p.partition_index, p.committed_offset)
            };
            topic.partitions.iter().map(offset).collect::<Vec<_>>()
        });
        let offsets = offsets.filter(|(_, _, offset)| *offset >= 0).collect();
        all.push((group.group_id, offsets));
    }
    Ok(all)
}

async fn list_offsets(
    connection: &mut Connection,
    partitions: &[PartitionId],
    timestamp: i64,
) -> Result<AHashMap<PartitionId, i64>, KafkaError> {
    let mut topics: BTreeMap<&Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for id in partitions {
        let asked = ListOffsetsPartition::default().with_partition_index(id.partition).with_timestamp(timestamp);
        topics.entry(&id.topic).or_default().push(asked);
    }
    let topics_asked = topics.iter().map(|(name, partitions)| {
        ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions.clone())
    });
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics_asked.collect());
    let listed = connection.call(&request, 1, 6).await?;
    let mut offsets = AHashMap::with_capacity(partitions.len());
    for topic in listed.topics {
        let Some((name, _)) = topics.get_key_value(&Arc::<str>::from(topic.name.as_str())) else { continue };
        for p in topic.partitions {
            match ResponseError::try_from_code(p.error_code) {
                None => {
                    offsets.insert(PartitionId { topic: Arc::clone(name), partition: p.partition_index }, p.offset);
                }
                // Deleted since the last metadata.
                Some(ResponseError::UnknownTopicOrPartition) => {}
                // The leader moved: the metadata is old.
                Some(_) => connection.check(ApiKey::ListOffsets, p.error_code)?,
            }
        }
    }
    Ok(offsets)
}

async fn record_time(connection: &mut Connection, lookup: &Lookup) -> Result<Option<Timestamp>, KafkaError> {
    // One byte is asked for: a broker sends the whole first batch in any case.
    let partition = FetchPartition::default()
        .with_partition(lookup.partition.partition)
        .with_fetch_offset(lookup.offset)
        .with_partition_max_bytes(1);
    let topic = FetchTopic::default().with_topic(topic_name(&lookup.partition.topic)).with_partitions(vec![partition]);
    let request =
        FetchRequest::default().with_replica_id(BrokerId(-1)).with_max_wait_ms(0).with_min_bytes(0).with_max_bytes(1);
    let fetched = connection.call(&request.with_topics(vec![topic]), 4, 11).await?;
    let records = fetched.responses.first().and_then(|t| t.partitions.first()).and_then(|p| p.records.as_ref());
    Ok(records.and_then(|bytes| time_in_batch(bytes, lookup.offset)))
}

/// From the header alone: a batch spans some milliseconds, and within it time is taken to pass evenly.
fn time_in_batch(batch: &[u8], offset: i64) -> Option<Timestamp> {
    let i64_at = |at: usize| batch.get(at..at + 8)?.try_into().ok().map(i64::from_be_bytes);
    let i32_at = |at: usize| batch.get(at..at + 4)?.try_into().ok().map(i32::from_be_bytes);
    if batch.get(16) != Some(&2) {
        return None;
    }
    let (base_offset, last_delta) = (i64_at(0)?, i32_at(23)?);
    let (first, last) = (i64_at(27)?, i64_at(35)?);
    if first < 0 || last_delta < 0 {
        return None;
    }
    let share = match last_delta {
        0 => 0.0,
        n => (offset.saturating_sub(base_offset) as f64 / f64::from(n)).clamp(0.0, 1.0),
    };
    Some(Timestamp(first.saturating_add((last.saturating_sub(first).max(0) as f64 * share) as i64)))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_header_dates_its_records() {
        let mut batch = vec![0; 61];
        batch[16] = 2;
        batch[0..8].copy_from_slice(&100_i64.to_be_bytes());
        batch[23..27].copy_from_slice(&10_i32.to_be_bytes());
        batch[27..35].copy_from_slice(&5_000_i64.to_be_bytes());
        batch[35..43].copy_from_slice(&6_000_i64.to_be_bytes());
        for (offset, want) in [(90, 5_000), (100, 5_000), (105, 5_500), (110, 6_000), (200, 6_000)] {
            assert_eq!(time_in_batch(&batch, offset), Some(Timestamp(want)), "offset {offset}");
        }
        assert_eq!(time_in_batch(&batch[..42], 100), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_for_a_batch(batch in proptest::collection::vec(any::<u8>(), 0..80), offset: i64) {
            time_in_batch(&batch, offset);
        }
    }
}
