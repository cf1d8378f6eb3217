//! The series of one poll, by the names that kafka-lag-exporter and kafka_exporter gave them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{Labels, MetricKind, MetricMetadata, Sample, Timestamp};

use crate::table::{PartitionLag, Snapshot};

/// Name, meaning. All are gauges.
const FAMILIES: &[(&str, &str)] = &[
    ("kafka_cluster_up", "1 while the cluster answers, 0 while it does not"),
    ("kafka_consumergroup_group_lag", "Records written and not consumed"),
    ("kafka_consumergroup_group_lag_seconds", "Age of the oldest record not consumed"),
    ("kafka_consumergroup_group_offset", "Offset of the next record to consume"),
    ("kafka_consumergroup_group_max_lag", "Largest lag of a partition"),
    ("kafka_consumergroup_group_max_lag_seconds", "Largest lag of a partition in seconds"),
    ("kafka_consumergroup_group_sum_lag", "Lag of all partitions"),
    ("kafka_consumergroup_group_topic_sum_lag", "Lag of all partitions of a topic"),
    ("kafka_consumergroup_members", "Members of a group"),
    ("kafka_partition_latest_offset", "Offset of the next record to be written"),
    ("kafka_partition_earliest_offset", "Offset of the oldest record there is"),
    ("kafka_topic_partitions", "Partitions of a topic"),
];

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    name: &'static str,
    group: Option<Arc<str>>,
    topic: Option<Arc<str>>,
    partition: Option<i32>,
}

/// Label sets of the series written so far; those that a poll no longer has are ended.
pub struct SeriesSet {
    cluster: Arc<str>,
    labels: AHashMap<Key, (Labels, Timestamp)>,
    described: bool,
}

impl SeriesSet {
    pub fn new(cluster: &str) -> Self {
        Self { cluster: cluster.into(), labels: AHashMap::new(), described: false }
    }

    /// All series of a poll that succeeded.
    pub fn up(
        &mut self,
        snapshot: &Snapshot,
        lags: &[PartitionLag],
        topics: &BTreeMap<Arc<str>, usize>,
        now: Timestamp,
    ) -> MetricBatch {
        let mut out =
            Out { set: self, now, series: Vec::with_capacity(lags.len() * 3 + snapshot.partitions.len() * 2) };
        out.put("kafka_cluster_up", None, None, None, 1.0);
        for (topic, n) in topics {
            out.put("kafka_topic_partitions", None, Some(topic), None, *n as f64);
        }
        for p in &snapshot.partitions {
            let (topic, partition) = (Some(&p.id.topic), Some(p.id.partition));
            out.put("kafka_partition_latest_offset", None, topic, partition, p.end as f64);
            out.put("kafka_partition_earliest_offset", None, topic, partition, p.start as f64);
        }
        for group in &snapshot.groups {
            if let Some(n) = group.n_members {
                out.put("kafka_consumergroup_members", Some(&group.group), None, None, n as f64);
            }
        }
        for lag in lags {
            let (group, topic, partition) = (Some(&lag.group), Some(&lag.topic), Some(lag.partition));
            out.put("kafka_consumergroup_group_lag", group, topic, partition, lag.lag as f64);
            out.put("kafka_consumergroup_group_offset", group, topic, partition, lag.position as f64);
            if let Some(seconds) = lag.lag_seconds {
                out.put("kafka_consumergroup_group_lag_seconds", group, topic, partition, seconds);
            }
        }
        out.put_totals(lags);
        let series = out.series;
        self.finish(series, now)
    }

    /// The cluster is away: everything ends but the series that says so.
    pub fn down(&mut self, now: Timestamp) -> MetricBatch {
        let mut out = Out { set: self, now, series: Vec::new() };
        out.put("kafka_cluster_up", None, None, None, 0.0);
        let series = out.series;
        self.finish(series, now)
    }

    fn finish(&mut self, mut series: Vec<SeriesBatch>, now: Timestamp) -> MetricBatch {
        self.labels.retain(|_, (labels, at)| {
            if *at < now {
                let samples = vec![Sample::stale(now)];
                series.push(SeriesBatch { labels: labels.clone(), samples, ..SeriesBatch::default() });
            }
            *at >= now
        });
        let metadata = if self.described { Vec::new() } else { metadata() };
        self.described = true;
        MetricBatch { series, metadata }
    }

    fn labels(&mut self, key: Key, now: Timestamp) -> Labels {
        let cluster = &self.cluster;
        let (labels, at) = self.labels.entry(key).or_insert_with_key(|key| {
            let mut pairs: Vec<(&str, Arc<str>)> =
                vec![("__name__", Arc::from(key.name)), ("cluster_name", Arc::clone(cluster))];
            pairs.extend(key.group.as_ref().map(|g| ("group", Arc::clone(g))));
            pairs.extend(key.topic.as_ref().map(|t| ("topic", Arc::clone(t))));
            pairs.extend(key.partition.map(|p| ("partition", Arc::from(p.to_string()))));
            (Labels::from_pairs(pairs), now)
        });
        *at = now;
        labels.clone()
    }
}

fn metadata() -> Vec<MetricMetadata> {
    let family = |(family, help): &(&str, &str)| MetricMetadata {
        family: (*family).to_owned(),
        kind: MetricKind::Gauge,
        help: (*help).to_owned(),
        unit: String::new(),
    };
    FAMILIES.iter().map(family).collect()
}

struct Out<'a> {
    set: &'a mut SeriesSet,
    now: Timestamp,
    series: Vec<SeriesBatch>,
}

impl Out<'_> {
    fn put(
        &mut self,
        name: &'static str,
        group: Option<&Arc<str>>,
        topic: Option<&Arc<str>>,
        partition: Option<i32>,
        value: f64,
    ) {
        let key = Key { name, group: group.cloned(), topic: topic.cloned(), partition };
        let labels = self.set.labels(key, self.now);
        let samples = vec![Sample { at: self.now, value }];
        self.series.push(SeriesBatch { labels, samples, ..SeriesBatch::default() });
    }

    fn put_totals(&mut self, lags: &[PartitionLag]) {
        let mut topics: BTreeMap<(&Arc<str>, &Arc<str>), i64> = BTreeMap::new();
        let mut groups: BTreeMap<&Arc<str>, (i64, i64, Option<f64>)> = BTreeMap::new();
        for lag in lags {
            *topics.entry((&lag.group, &lag.topic)).or_default() += lag.lag;
            let (sum, max, seconds) = groups.entry(&lag.group).or_default();
            *sum += lag.lag;
            *max = lag.lag.max(*max);
            *seconds = match (*seconds, lag.lag_seconds) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
        }
        for ((group, topic), sum) in topics {
            self.put("kafka_consumergroup_group_topic_sum_lag", Some(group), Some(topic), None, sum as f64);
        }
        for (group, (sum, max, seconds)) in groups {
            self.put("kafka_consumergroup_group_sum_lag", Some(group), None, None, sum as f64);
            self.put("kafka_consumergroup_group_max_lag", Some(group), None, None, max as f64);
            if let Some(seconds) = seconds {
                self.put("kafka_consumergroup_group_max_lag_seconds", Some(group), None, None, seconds);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Source;

    fn lag(group: &str, partition: i32, lag: i64, seconds: f64) -> PartitionLag {
        PartitionLag {
            group: group.into(),
            topic: "t".into(),
            partition,
            lag,
            lag_seconds: Some(seconds),
            position: 100 - lag,
            end_offset: 100,
            source: Source::Committed,
        }
    }

    fn text(batch: &MetricBatch) -> Vec<String> {
        let line = |s: &SeriesBatch| match s.samples[0].value {
            v if weir_model::is_stale(v) => format!("{} stale", s.labels),
            v => format!("{} {v}", s.labels),
        };
        let mut lines: Vec<String> = batch.series.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_poll_writes_partitions_and_totals_and_ends_what_is_gone() {
        let mut set = SeriesSet::new("c");
        let none = (Snapshot::default(), BTreeMap::new());
        let lags = [lag("g", 0, 5, 1.5), lag("g", 1, 7, 0.5)];
        let first = set.up(&none.0, &lags, &none.1, Timestamp(1000));
        assert_eq!(
            text(&first),
            [
                r#"kafka_cluster_up{cluster_name="c"} 1"#,
                r#"kafka_consumergroup_group_lag_seconds{cluster_name="c", group="g", partition="0", topic="t"} 1.5"#,
                r#"kafka_consumergroup_group_lag_seconds{cluster_name="c", group="g", partition="1", topic="t"} 0.5"#,
                r#"kafka_consumergroup_group_lag{cluster_name="c", group="g", partition="0", topic="t"} 5"#,
                r#"kafka_consumergroup_group_lag{cluster_name="c", group="g", partition="1", topic="t"} 7"#,
                r#"kafka_consumergroup_group_max_lag_seconds{cluster_name="c", group="g"} 1.5"#,
                r#"kafka_consumergroup_group_max_lag{cluster_name="c", group="g"} 7"#,
                r#"kafka_consumergroup_group_offset{cluster_name="c", group="g", partition="0", topic="t"} 95"#,
                r#"kafka_consumergroup_group_offset{cluster_name="c", group="g", partition="1", topic="t"} 93"#,
                r#"kafka_consumergroup_group_sum_lag{cluster_name="c", group="g"} 12"#,
                r#"kafka_consumergroup_group_topic_sum_lag{cluster_name="c", group="g", topic="t"} 12"#,
            ]
        );
        assert_eq!(first.metadata.len(), FAMILIES.len());
        let away = text(&set.down(Timestamp(2000)));
        assert_eq!(away.iter().filter(|l| l.ends_with(" stale")).count(), 10);
        assert!(away.contains(&r#"kafka_cluster_up{cluster_name="c"} 0"#.to_owned()));
        assert_eq!(text(&set.down(Timestamp(3000))), [r#"kafka_cluster_up{cluster_name="c"} 0"#], "stale once");
    }
}
