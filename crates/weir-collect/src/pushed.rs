//! Metrics of jobs that end before anybody could scrape them, pushed as to the Pushgateway: kept by group
//! and written again at every interval, until somebody deletes them.
//!
//! Source: prometheus/pushgateway README, "API".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use weir_ingest::exposition::{Format, Histograms, Item, bound_text, each_item, series_pairs};
use weir_model::labels::METRIC_NAME;
use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{Labels, MetricKind, MetricMetadata, Sample, TenantId, Timestamp};
use weir_state::{Batch, State, StateError};

/// How often what was pushed is written again: well within the lookback of a query.
pub const PUSHED_EVERY: Duration = Duration::from_secs(15);

const TABLE: &str = "pushed";
/// Bounds what strangers can make weir keep, over all tenants.
const GROUPS_MAX: usize = 10_000;
/// Of one group; a record of the state holds them.
const SERIES_MAX: usize = 20_000;

#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The push is wrong; nothing of it was kept.
    #[error("{0}")]
    Bad(String),
    #[error("{GROUPS_MAX} groups are kept already; delete some with DELETE /metrics/job/<job>/…")]
    Full,
    #[error("the push could not be kept: {0}")]
    State(#[from] StateError),
}

/// What a push replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushMode {
    /// `PUT`: the whole group.
    Group,
    /// `POST`: families of the same names.
    Families,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    families: BTreeMap<String, Family>,
    /// Seconds since the epoch; `failed_at` is 0 when no push failed.
    pushed_at: f64,
    failed_at: f64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Family {
    kind: MetricKind,
    help: String,
    unit: String,
    series: Vec<(Labels, f64)>,
}

const KINDS: [(&str, MetricKind); 8] = [
    ("unknown", MetricKind::Unknown),
    ("counter", MetricKind::Counter),
    ("gauge", MetricKind::Gauge),
    ("histogram", MetricKind::Histogram),
    ("gaugehistogram", MetricKind::GaugeHistogram),
    ("summary", MetricKind::Summary),
    ("info", MetricKind::Info),
    ("stateset", MetricKind::Stateset),
];

type Pairs = Vec<(String, String)>;

fn pairs(labels: &Labels) -> Pairs {
    labels.iter().map(|l| (l.name.to_string(), l.value.to_string())).collect()
}

/// A group as the state keeps it, in JSON.
#[derive(Serialize, Deserialize)]
struct Record {
    families: Vec<FamilyRecord>,
    pushed_at: f64,
    failed_at: f64,
}

#[derive(Serialize, Deserialize)]
struct FamilyRecord {
    name: String,
    kind: String,
    help: String,
    unit: String,
    /// Values by their bits: JSON has no NaN.
    series: Vec<(Pairs, u64)>,
}

impl Record {
    fn of(group: &Group) -> Self {
        let family = |(name, f): (&String, &Family)| FamilyRecord {
            name: name.clone(),
            kind: KINDS.iter().find(|(_, kind)| *kind == f.kind).map_or("", |(name, _)| name).to_owned(),
            help: f.help.clone(),
            unit: f.unit.clone(),
            series: f.series.iter().map(|(labels, value)| (pairs(labels), value.to_bits())).collect(),
        };
        let families = group.families.iter().map(family).collect();
        Self { families, pushed_at: group.pushed_at, failed_at: group.failed_at }
    }

    fn group(self) -> Group {
        let family = |f: FamilyRecord| {
            let kind = |name: &str| KINDS.iter().find(|(known, _)| *known == name).map_or(MetricKind::Unknown, |k| k.1);
            let series = f.series.into_iter();
            let series = series.map(|(labels, bits)| (Labels::from_pairs(labels), f64::from_bits(bits))).collect();
            (f.name, Family { kind: kind(&f.kind), help: f.help, unit: f.unit, series })
        };
        let families = self.families.into_iter().map(family).collect();
        Group { families, pushed_at: self.pushed_at, failed_at: self.failed_at }
    }
}

/// All groups of all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Pushed(Arc<Inner>);

struct Inner {
    state: State,
    groups: Mutex<BTreeMap<(TenantId, Labels), Group>>,
}

impl Pushed {
    /// With what the state kept of an earlier run.
    pub fn new(state: State) -> Self {
        let mut groups = BTreeMap::new();
        for (tenant, key, value) in state.scan(TABLE) {
            let read = serde_json::from_str::<Pairs>(&key).ok().zip(serde_json::from_slice::<Record>(&value).ok());
            match read {
                Some((labels, record)) => drop(groups.insert((tenant, Labels::from_pairs(labels)), record.group())),
                None => tracing::error!(key, "a pushed group cannot be read and is left out"),
            }
        }
        Self(Arc::new(Inner { state, groups: Mutex::new(groups) }))
    }

    /// Keeps a push and answers what is to be written at once: its samples, and the end of what it replaced.
    pub fn push(
        &self,
        tenant: &TenantId,
        grouping: &Labels,
        (body, format): (&[u8], Format),
        mode: PushMode,
        now: Timestamp,
    ) -> Result<MetricBatch, PushError> {
        let read = read(body, format, grouping);
        let mut groups = self.0.groups.lock();
        let key = (tenant.clone(), grouping.clone());
        if !groups.contains_key(&key) && groups.len() >= GROUPS_MAX {
            return Err(PushError::Full);
        }
        let families = match read {
            Ok(families) => families,
            Err(text) => {
                if let Some(group) = groups.get_mut(&key) {
                    group.failed_at = now.secs_f64();
                    self.commit(tenant, grouping, Some(group))?;
                }
                return Err(PushError::Bad(text));
            }
        };
        let before = groups.get(&key).cloned().unwrap_or_default();
        let mut after = Group { pushed_at: now.secs_f64(), ..before.clone() };
        if mode == PushMode::Group {
            after.families.clear();
        }
        after.families.extend(families);
        if after.families.values().map(|f| f.series.len()).sum::<usize>() > SERIES_MAX {
            return Err(PushError::Bad(format!("a group has at most {SERIES_MAX} series")));
        }
        self.commit(tenant, grouping, Some(&after))?;
        let mut batch = after.batch(grouping, now);
        batch.metadata = after.metadata();
        end(&before, &after, &mut batch, now);
        groups.insert(key, after);
        Ok(batch)
    }

    /// Forgets a group and answers the end of its series.
    pub fn delete(&self, tenant: &TenantId, grouping: &Labels, now: Timestamp) -> Result<MetricBatch, PushError> {
        let mut groups = self.0.groups.lock();
        let key = (tenant.clone(), grouping.clone());
        let Some(before) = groups.get(&key) else { return Ok(MetricBatch::default()) };
        self.commit(tenant, grouping, None)?;
        let mut batch = MetricBatch::default();
        end(before, &Group::default(), &mut batch, now);
        for name in [PUSH_TIME, FAILURE_TIME] {
            batch.series.push(one(grouping.with(METRIC_NAME, name), Sample::stale(now)));
        }
        groups.remove(&key);
        Ok(batch)
    }

    /// Everything that is kept, as of now.
    pub fn due(&self, now: Timestamp) -> Vec<(TenantId, MetricBatch)> {
        let groups = self.0.groups.lock();
        groups.iter().map(|((tenant, grouping), group)| (tenant.clone(), group.batch(grouping, now))).collect()
    }

    fn commit(&self, tenant: &TenantId, grouping: &Labels, group: Option<&Group>) -> Result<(), PushError> {
        let text = |e: serde_json::Error| PushError::Bad(e.to_string());
        let key = serde_json::to_string(&pairs(grouping)).map_err(text)?;
        let mut batch = Batch::default();
        match group {
            Some(group) => batch.put(TABLE, tenant, key, serde_json::to_vec(&Record::of(group)).map_err(text)?),
            None => batch.remove(TABLE, tenant, key),
        }
        Ok(self.0.state.commit(batch)?)
    }
}

const PUSH_TIME: &str = "push_time_seconds";
const FAILURE_TIME: &str = "push_failure_time_seconds";

impl Group {
    fn series(&self) -> impl Iterator<Item = &(Labels, f64)> {
        self.families.values().flat_map(|f| &f.series)
    }

    fn batch(&self, grouping: &Labels, now: Timestamp) -> MetricBatch {
        let own = [(PUSH_TIME, self.pushed_at), (FAILURE_TIME, self.failed_at)];
        let own = own.map(|(name, value)| (grouping.with(METRIC_NAME, name), value));
        let all = self.series().cloned().chain(own);
        let series = all.map(|(labels, value)| one(labels, Sample { at: now, value })).collect();
        MetricBatch { series, metadata: Vec::new() }
    }

    fn metadata(&self) -> Vec<MetricMetadata> {
        let of = |(name, f): (&String, &Family)| MetricMetadata {
            family: name.clone(),
            kind: f.kind,
            help: f.help.clone(),
            unit: f.unit.clone(),
        };
        self.families.iter().map(of).collect()
    }
}

/// Stale markers for what is no longer there.
fn end(before: &Group, after: &Group, batch: &mut MetricBatch, now: Timestamp) {
    let stay: BTreeSet<&Labels> = after.series().map(|(labels, _)| labels).collect();
    let gone = before.series().filter(|(labels, _)| !stay.contains(labels));
    batch.series.extend(gone.map(|(labels, _)| one(labels.clone(), Sample::stale(now))));
}

fn one(labels: Labels, sample: Sample) -> SeriesBatch {
    SeriesBatch { labels, samples: vec![sample], ..SeriesBatch::default() }
}

/// The families of a body, their series with the group's labels, which win over their own.
fn read(body: &[u8], format: Format, grouping: &Labels) -> Result<BTreeMap<String, Family>, String> {
    let (mut families, mut seen) = (BTreeMap::<String, Family>::new(), BTreeSet::new());
    each_item(body, format, Histograms::default(), &mut |item| {
        match item {
            Item::Kind { family, kind } => families.entry(family.to_owned()).or_default().kind = kind,
            Item::Help { family, text } => families.entry(family.to_owned()).or_default().help = text.into_owned(),
            Item::Unit { family, unit } => families.entry(family.to_owned()).or_default().unit = unit.to_owned(),
            // Not asked for above.
            Item::Histogram(_) => {}
            Item::Sample(line) => {
                if line.at.is_some() {
                    return Err(format!("{}: pushed metrics must not have timestamps", line.place));
                }
                let pairs = series_pairs(line.series).map_err(|e| format!("{}: {e}", line.place))?;
                let labels = Labels::from_pairs(pairs.iter().map(|(name, value)| (&**name, &**value)));
                let labels = grouping.iter().fold(labels, |labels, own| labels.with(&own.name, &own.value));
                let name = labels.metric_name();
                if name.is_empty() {
                    return Err(format!("{}: a series without a name", line.place));
                }
                let family = families.entry(family_of(name, &families).to_owned()).or_default();
                // One form of a bound, as of scraped ones.
                let bound = match family.kind {
                    MetricKind::Histogram => "le",
                    MetricKind::Summary => "quantile",
                    _ => "",
                };
                let number = labels.get(bound).and_then(|value| value.parse().ok());
                let labels = number.map_or_else(|| labels.clone(), |number| labels.with(bound, &bound_text(number)));
                if !seen.insert(labels.clone()) {
                    return Err(format!("{}: `{}` stands twice in the group", line.place, line.series));
                }
                if seen.len() > SERIES_MAX {
                    return Err(format!("{}: a group has at most {SERIES_MAX} series", line.place));
                }
                family.series.push((labels, line.value));
            }
        }
        Ok(())
    })?;
    families.retain(|_, family| !family.series.is_empty());
    Ok(families)
}

/// `latency_bucket` belongs to `latency` where that is a histogram.
fn family_of<'a>(name: &'a str, families: &BTreeMap<String, Family>) -> &'a str {
    let suffixes = ["_bucket", "_sum", "_count", "_total", "_created"];
    let of = suffixes.iter().filter_map(|suffix| name.strip_suffix(suffix));
    let mut known = of.filter(|family| families.get(*family).is_some_and(|f| f.kind != MetricKind::Gauge));
    if families.contains_key(name) { name } else { known.next().unwrap_or(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(batch: &MetricBatch) -> Vec<String> {
        let line = |s: &SeriesBatch| {
            let value = s.samples[0].value;
            let value = if weir_model::is_stale(value) { "stale".to_owned() } else { value.to_string() };
            format!("{} {value}", s.labels)
        };
        let mut lines: Vec<_> =
            batch.series.iter().filter(|s| !s.labels.metric_name().starts_with("push_")).map(line).collect();
        lines.sort();
        lines
    }

    fn push(to: &Pushed, text: &str, mode: PushMode, second: i64) -> Result<Vec<String>, String> {
        let grouping = Labels::from_pairs([("job", "load"), ("table", "orders")]);
        let at = Timestamp(second * 1000);
        let done = to.push(&TenantId::anonymous(), &grouping, (text.as_bytes(), Format::Text), mode, at);
        done.map(|batch| show(&batch)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_push_replaces_its_families_or_its_group_and_outlives_the_process() {
        let state = State::in_memory();
        let to = Pushed::new(state.clone());
        let first = "# TYPE rows counter\nrows{job=\"x\",kind=\"a\"} 5\nrows{kind=\"b\"} 6\nok 1\n";
        let got = push(&to, first, PushMode::Families, 1).expect("it is valid");
        let a = "rows{job=\"load\", kind=\"a\", table=\"orders\"}";
        let b = "rows{job=\"load\", kind=\"b\", table=\"orders\"}";
        let ok = "ok{job=\"load\", table=\"orders\"}";
        assert_eq!(got, [format!("{ok} 1"), format!("{a} 5"), format!("{b} 6")]);
        // The family of the same name is replaced as a whole, others stay.
        let got = push(&to, "rows{kind=\"a\"} 7\n", PushMode::Families, 2).expect("it is valid");
        assert_eq!(got, [format!("{ok} 1"), format!("{a} 7"), format!("{b} stale")]);
        let again = Pushed::new(state);
        let due = again.due(Timestamp(9000));
        assert_eq!(show(&due[0].1), [format!("{ok} 1"), format!("{a} 7")]);
        let got = push(&again, "ok 0\n", PushMode::Group, 10).expect("it is valid");
        assert_eq!(got, [format!("{ok} 0"), format!("{a} stale")]);
    }

    #[test]
    fn bad_pushes_keep_nothing_and_are_told() {
        let to = Pushed::new(State::in_memory());
        push(&to, "ok 1\n", PushMode::Group, 1).expect("it is valid");
        let many: String = (0..=SERIES_MAX).map(|n| format!("many{{n=\"{n}\"}} 1\n")).collect();
        for (body, why) in [
            ("ok 1 1700000000000\n", "line 1: pushed metrics must not have timestamps"),
            ("a 1\na 2\n", "line 2: `a` stands twice in the group"),
            ("ok one\n", "line 1"),
            (&*many, "line 20001: a group has at most 20000 series"),
        ] {
            let error = push(&to, body, PushMode::Families, 5).expect_err(body);
            assert!(error.contains(why), "{error}");
        }
        let due = to.due(Timestamp(6000));
        assert_eq!(show(&due[0].1), ["ok{job=\"load\", table=\"orders\"} 1"]);
        let failed = due[0].1.series.iter().find(|s| s.labels.metric_name() == FAILURE_TIME).expect("always there");
        assert_eq!(failed.samples[0].value, 5.0);
    }

    #[test]
    fn histograms_are_one_family() {
        let to = Pushed::new(State::in_memory());
        let text =
            "# TYPE took histogram\ntook_bucket{le=\"1\"} 1\ntook_bucket{le=\"+Inf\"} 2\ntook_sum 3\ntook_count 2\n";
        let got = push(&to, text, PushMode::Families, 1).expect("it is valid");
        assert!(got.len() == 4 && got[1].contains("le=\"1.0\""), "{got:?}");
        let got = push(&to, "# TYPE took histogram\ntook_sum 0\ntook_count 0\n", PushMode::Families, 2);
        assert_eq!(got.expect("it is valid").iter().filter(|line| line.ends_with("stale")).count(), 2);
    }
}
