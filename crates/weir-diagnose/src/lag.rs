//! Consumer lag: which group stands still on which partition, and which merely has much to do.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::source::SeriesData;
use weir_model::{TimeRange, Timestamp};

use crate::finding::{Aspect, Finding};
use crate::metric_scan::{gauge_readings, level_at};
use crate::queries;
use crate::stats::{Floor, Point, shift};
use crate::types::{Chart, Signal, Thing};

const GROUPS_MAX: usize = 10_000;

/// One partition of a group.
#[derive(Clone, Debug, Default)]
pub struct PartitionLag {
    pub messages: Option<LagMove>,
    pub seconds: Option<LagMove>,
}

#[derive(Clone, Debug)]
pub struct LagMove {
    pub before: f64,
    /// Level at the end of the window.
    pub last: f64,
    pub since: Timestamp,
    /// Share of readings in the window's later half that rose over the one before.
    pub rising: f64,
    pub chart: Chart,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LagKey {
    pub group: Arc<str>,
    pub topic: Arc<str>,
}

#[derive(Default)]
pub struct LagTable {
    pub groups: AHashMap<LagKey, AHashMap<Arc<str>, PartitionLag>>,
}

/// What stands out in a group's lag.
#[derive(Clone, Debug)]
pub struct Stall {
    pub key: LagKey,
    /// The partition that stands still while others move; `None` when most do.
    pub partition: Option<Arc<str>>,
    pub weight: f64,
    pub worst: LagMove,
    /// `s` or empty for messages.
    pub unit: &'static str,
}

impl LagTable {
    /// Takes a series of the lag exporters' names; whether it was one.
    pub fn add(&mut self, series: &SeriesData, baseline: TimeRange, window: TimeRange) -> bool {
        let labels = &series.labels;
        let name = labels.metric_name();
        let seconds = match name {
            "kafka_consumergroup_group_lag" | "kafka_consumergroup_lag" => false,
            "kafka_consumergroup_group_lag_seconds" | "kafka_consumergroup_lag_seconds" => true,
            _ => return false,
        };
        let group = labels.get("group").or(labels.get("consumergroup"));
        let (Some(group), Some(topic)) = (group, labels.get("topic")) else { return true };
        let partition = labels.get("partition").unwrap_or("");
        let base = gauge_readings(series, baseline);
        let during = gauge_readings(series, window);
        let floor = Floor { relative: 0.3, absolute: if seconds { 0.5 } else { 10.0 } };
        let Some(last) = level_at(series, window.end).filter(|_| !during.is_empty()) else { return true };
        let none = [(baseline.end, 0.0)];
        let Some(shift) = shift(if base.is_empty() { &none } else { &base }, &during, floor) else { return true };
        let moved = LagMove {
            before: shift.before,
            last,
            since: began(&during, shift.before, last),
            rising: rising(&during),
            chart: queries::series(labels, false),
        };
        let key = LagKey { group: group.into(), topic: topic.into() };
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            return true;
        }
        let entry = self.groups.entry(key).or_default().entry(partition.into()).or_default();
        *(if seconds { &mut entry.seconds } else { &mut entry.messages }) = Some(moved);
        true
    }

    pub fn n_groups(&self) -> usize {
        self.groups.len()
    }

    /// Groups that fell behind in the window, the worst first.
    pub fn stalls(&self) -> Vec<Stall> {
        let mut out: Vec<Stall> = self.groups.iter().filter_map(|(key, partitions)| stall(key, partitions)).collect();
        out.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.key.cmp(&b.key)));
        out
    }
}

/// When lag left its old level for the last time: the first reading after the last one at it.
fn began(points: &[Point], before: f64, last: f64) -> Timestamp {
    let level = before + (last - before).max(0.0) * 0.1 + 0.2;
    let idx = points.iter().rposition(|p| p.1 <= level).map_or(0, |k| (k + 1).min(points.len() - 1));
    points[idx].0
}

fn rising(points: &[Point]) -> f64 {
    let later = &points[points.len() / 2..];
    let rose = later.windows(2).filter(|w| w[1].1 > w[0].1).count();
    rose as f64 / (later.len().saturating_sub(1)).max(1) as f64
}

fn stall(key: &LagKey, partitions: &AHashMap<Arc<str>, PartitionLag>) -> Option<Stall> {
    // Seconds where they are known: messages of a busy topic say little.
    let use_seconds = partitions.values().any(|p| p.seconds.is_some());
    let level = |p: &PartitionLag| if use_seconds { p.seconds.clone() } else { p.messages.clone() };
    let mut moves: Vec<(&Arc<str>, LagMove)> =
        partitions.iter().filter_map(|(name, p)| Some((name, level(p)?))).collect();
    moves.sort_by(|a, b| b.1.last.total_cmp(&a.1.last).then_with(|| a.0.cmp(b.0)));
    let (name, worst) = moves.first()?.clone();
    let least = if use_seconds { 2.0 } else { 50.0 };
    let rise = worst.last - worst.before;
    if rise < least || worst.last < 3.0 * worst.before {
        return None;
    }
    let behind = moves.iter().filter(|(_, m)| m.last - m.before >= rise * 0.3).count();
    let single = behind == 1 && moves.len() > 1;
    // Standing still grows without pause; being slow goes up and down.
    let weight = (1.0 + (rise / least).ln()).min(4.0) * (0.5 + 0.5 * worst.rising) * if single { 1.3 } else { 1.0 };
    Some(Stall {
        key: key.clone(),
        partition: (single && !name.is_empty()).then(|| name.clone()),
        weight,
        worst,
        unit: if use_seconds { "s" } else { "messages" },
    })
}

impl Stall {
    pub fn finding(&self, service: Arc<str>) -> Finding {
        let LagKey { group, topic } = &self.key;
        let place = self.partition.as_ref().map_or(String::new(), |p| format!(" partition {p}"));
        Finding {
            service,
            instance: None,
            aspect: Aspect::Lag,
            signal: Signal::Lag,
            weight: self.weight,
            before: self.worst.before,
            during: self.worst.last,
            unit: self.unit,
            since: self.worst.since,
            subject: format!("lag of {group} on {topic}{place}"),
            chart: Some(self.worst.chart.clone()),
            thing: Thing::Partition {
                group: group.to_string(),
                topic: topic.to_string(),
                partition: self.partition.as_ref().and_then(|p| p.parse().ok()),
            },
            callee: None,
            work_grew: false,
        }
    }
}
