//! One rule group at work: evaluation of its rules in order, what they record, what they announce.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weir_model::sink::{MetricBatch, Outcome, SeriesBatch, WriteError};
use weir_model::{AlertEvent, HistogramSample, Labels, LabelsBuilder, Sample, TenantId, Timestamp};
use weir_state::{Batch, State};

use crate::arrival::Dirty;
use crate::expand::{Answers, Element, Expansion, QUERIES_MAX, expand};
use crate::file::{Rule, RuleGroup, RuleKind};
use crate::machine::{Active, AlertMachine, StepError, StoredAlert, Timing, Transition};
use crate::manager::{Recorded, Shared};
use crate::view::{AlertView, GroupView, Health, RuleKindView, RuleView};

/// A group of one tenant with its state.
pub(crate) struct Group {
    pub tenant: TenantId,
    pub config: RuleGroup,
    pub interval: Duration,
    query_offset: Duration,
    state: Mutex<GroupState>,
    /// Per rule, for those that arrivals may evaluate.
    pub dirty: Vec<Option<Arc<Dirty>>>,
    pub wake: Arc<Notify>,
    pub cancel: CancellationToken,
}

#[derive(Default)]
struct GroupState {
    rules: Vec<RuleState>,
    last_evaluation: Option<Timestamp>,
    evaluation_time: Duration,
}

pub(crate) struct RuleState {
    machine: AlertMachine,
    /// Series that the last evaluation wrote; those that are gone get a stale marker.
    written: HashSet<Labels>,
    health: Health,
    last_evaluation: Option<Timestamp>,
    evaluation_time: Duration,
    last_arrival: Option<Timestamp>,
    /// What is written down of its alerts, and when that was.
    stored: (Vec<StoredAlert>, Timestamp),
}

impl RuleState {
    fn new(rule: &Rule, limit: usize) -> Self {
        let timing = match &rule.kind {
            RuleKind::Record { .. } => Timing::default(),
            RuleKind::Alert { hold, keep_firing_for, .. } => Timing { hold: *hold, keep_firing_for: *keep_firing_for },
        };
        Self {
            machine: AlertMachine::new(timing, limit),
            written: HashSet::new(),
            health: Health::Unknown,
            last_evaluation: None,
            evaluation_time: Duration::ZERO,
            last_arrival: None,
            stored: (Vec::new(), Timestamp::MIN),
        }
    }
}

impl Group {
    /// `before`: the same group as it ran until now; state of rules that did not change moves over.
    #[allow(clippy::too_many_arguments, reason = "made in two places, each argument of a type of its own")]
    pub fn new(
        tenant: TenantId,
        config: RuleGroup,
        interval: Duration,
        query_offset: Duration,
        dirty: Vec<Option<Arc<Dirty>>>,
        wake: Arc<Notify>,
        before: Option<&Group>,
        restored: &mut Restored,
    ) -> Self {
        let mut old: Vec<(&Rule, Option<RuleState>)> = Vec::new();
        if let Some(before) = before {
            let mut state = before.state.lock();
            old = before.config.rules.iter().zip(state.rules.drain(..).map(Some)).collect();
            // What does not move over is resolved by the caller through `retire`.
        }
        let mut rules = Vec::with_capacity(config.rules.len());
        for rule in &config.rules {
            let same = old.iter_mut().find(|(o, state)| state.is_some() && o.same_as(rule));
            let kept = same.and_then(|(_, state)| state.take());
            rules.push(kept.unwrap_or_else(|| RuleState::new(rule, config.limit)));
        }
        if let Some(before) = before {
            // Put back what was not taken, in rule order, so that `retire` finds it.
            let mut state = before.state.lock();
            state.rules = old.into_iter().map(|(rule, s)| s.unwrap_or_else(|| RuleState::new(rule, 0))).collect();
        }
        let query_offset = config.query_offset.unwrap_or(query_offset);
        restore(&tenant, &config, &mut rules, restored);
        Self {
            tenant,
            config,
            interval,
            query_offset,
            state: Mutex::new(GroupState { rules, ..GroupState::default() }),
            dirty,
            wake,
            cancel: CancellationToken::new(),
        }
    }

    /// The first grid point after `now`. Groups are spread over their interval by their name.
    pub fn next_grid_point(&self, now: Timestamp) -> Timestamp {
        let interval = i64::try_from(self.interval.as_millis()).unwrap_or(i64::MAX).max(1);
        let name = Labels::from_pairs([("file", &*self.config.file), ("name", &*self.config.name)]);
        let offset = (name.fingerprint() % interval.unsigned_abs()) as i64;
        let base = now.0 - (now.0 - offset).rem_euclid(interval);
        Timestamp(base + interval)
    }

    /// When the next rule touched by a commit is ripe.
    pub fn next_arrival(&self) -> Option<Timestamp> {
        let state = self.state.lock();
        let dirty = self.dirty.iter().zip(&state.rules);
        dirty.filter_map(|(d, rule)| d.as_ref()?.due(rule.last_arrival)).min()
    }

    /// Evaluates every rule at one grid point.
    pub async fn evaluate_grid(&self, shared: &Shared, at: Timestamp) {
        let began = shared.clock.now_nanos();
        for idx in 0..self.config.rules.len() {
            if self.cancel.is_cancelled() {
                return;
            }
            let rule_began = shared.clock.now_nanos();
            let result = self.evaluate_rule(shared, idx, at).await;
            shared.metrics.evaluated(result.is_err());
            let took = Duration::from_nanos((shared.clock.now_nanos().0 - rule_began.0).max(0).unsigned_abs());
            if let Some(rule) = self.state.lock().rules.get_mut(idx) {
                rule.last_evaluation = Some(at);
                rule.evaluation_time = took;
                rule.health = match result {
                    Ok(()) => Health::Ok,
                    Err(reason) => {
                        let name = self.config.rules[idx].name();
                        tracing::warn!(group = %self.config.name, rule = %name, %reason, "rule evaluation failed");
                        Health::Failed(reason)
                    }
                };
            }
        }
        self.persist(shared, at).await;
        let mut state = self.state.lock();
        state.last_evaluation = Some(at);
        state.evaluation_time = Duration::from_nanos((shared.clock.now_nanos().0 - began.0).max(0).unsigned_abs());
        shared.metrics.group_seconds.observe(state.evaluation_time.as_secs_f64());
    }

    /// Evaluates the rules whose time has come since a commit touched them.
    pub async fn evaluate_arrivals(&self, shared: &Shared, now: Timestamp) {
        for (idx, dirty) in self.dirty.iter().enumerate() {
            let Some(dirty) = dirty else { continue };
            let last = self.state.lock().rules.get(idx).and_then(|r| r.last_arrival);
            if dirty.due(last).is_none_or(|due| due > now) {
                continue;
            }
            dirty.clear();
            shared.metrics.arrivals.inc();
            let rule = &self.config.rules[idx];
            let found = match shared.evaluator.instant(&self.tenant, &rule.expr, now.minus(self.query_offset)).await {
                Ok(elements) => self.activate(shared, rule, elements, now).await,
                Err(reason) => {
                    tracing::debug!(rule = %rule.name(), %reason, "evaluation on arrival failed; the grid follows");
                    continue;
                }
            };
            let transitions = {
                let mut state = self.state.lock();
                let Some(rule) = state.rules.get_mut(idx) else { continue };
                rule.last_arrival = Some(now);
                // A duplicate label set is reported by the grid.
                rule.machine.on_arrival(now, found).unwrap_or_default()
            };
            self.announce(shared, rule, transitions);
        }
    }

    /// Writes down where alerts stand, if that changed, and each minute while there are any, so that
    /// the next run knows how long weir was down.
    async fn persist(&self, shared: &Shared, at: Timestamp) {
        let mut batch = Batch::default();
        for (rule, state) in self.config.rules.iter().zip(&mut self.state.lock().rules) {
            let RuleKind::Alert { .. } = rule.kind else { continue };
            let alerts = state.machine.stored();
            let (before, saved_at) = &state.stored;
            let same = alerts.len() == before.len() && alerts.iter().zip(before).all(|(a, b)| a.stands_as(b));
            if same && (alerts.is_empty() || at.since(*saved_at) < STORED_EVERY) {
                continue;
            }
            let name = stored_name(&self.config, rule);
            if alerts.is_empty() {
                batch.remove(TABLE, &self.tenant, name);
            } else {
                let record = Stored { v: VERSION, saved_at: at, alerts: alerts.clone() };
                batch.put(TABLE, &self.tenant, name, serde_json::to_vec(&record).unwrap_or_default());
            }
            state.stored = (alerts, at);
        }
        if batch.is_empty() {
            return;
        }
        let state = shared.state.clone();
        match tokio::task::spawn_blocking(move || state.commit(batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, group = %self.config.name, "alert states are not on disk"),
            Err(error) => tracing::error!(%error, "writing alert states stopped"),
        }
    }

    async fn evaluate_rule(&self, shared: &Shared, idx: usize, at: Timestamp) -> Result<(), String> {
        let rule = &self.config.rules[idx];
        let sampled_at = at.minus(self.query_offset);
        let (series, error) = match &rule.kind {
            RuleKind::Record { metric } => {
                let elements = shared.evaluator.record(&self.tenant, &rule.expr, sampled_at).await?;
                let series = recorded(metric, rule, elements)?;
                if self.config.limit > 0 && series.len() > self.config.limit {
                    let (limit, n) = (self.config.limit, series.len());
                    return Err(format!("exceeded limit of {limit} with {n} series"));
                }
                (series, None)
            }
            RuleKind::Alert { .. } => {
                let elements = shared.evaluator.instant(&self.tenant, &rule.expr, sampled_at).await?;
                let found = self.activate(shared, rule, elements, at).await;
                let (transitions, series, error) = {
                    let mut state = self.state.lock();
                    let Some(rule_state) = state.rules.get_mut(idx) else { return Ok(()) };
                    match rule_state.machine.on_grid(at, found) {
                        Ok(transitions) => (transitions, floats(rule_state.machine.series()), None),
                        // Upstream drops all alerts over a limit, and keeps them at any other failure.
                        Err(e @ StepError::Limit { .. }) => {
                            (rule_state.machine.clear(at), Vec::new(), Some(e.to_string()))
                        }
                        Err(e) => return Err(e.to_string()),
                    }
                };
                self.announce(shared, rule, transitions);
                (series, error)
            }
        };
        self.write(shared, idx, sampled_at, series).await?;
        error.map_or(Ok(()), Err)
    }

    /// Stores the series on a thread that may wait for the disk.
    async fn write(
        &self,
        shared: &Shared,
        idx: usize,
        at: Timestamp,
        series: Vec<(Labels, Recorded)>,
    ) -> Result<(), String> {
        let Some(batch) = self.to_write(idx, at, series) else { return Ok(()) };
        let (sink, tenant) = (shared.sink.clone(), self.tenant.clone());
        let stored = tokio::task::spawn_blocking(move || sink.append(&tenant, &batch)).await;
        settle(stored.map_err(|e| e.to_string())?)
    }

    /// The series, and stale markers for those of the last evaluation that are gone.
    fn to_write(&self, idx: usize, at: Timestamp, series: Vec<(Labels, Recorded)>) -> Option<MetricBatch> {
        let now_written: HashSet<Labels> = series.iter().map(|(labels, _)| labels.clone()).collect();
        let before = {
            let mut state = self.state.lock();
            std::mem::replace(&mut state.rules.get_mut(idx)?.written, now_written.clone())
        };
        let gone = before.difference(&now_written);
        let batch_of = |labels, recorded| match recorded {
            Recorded::Float(value) => {
                SeriesBatch { labels, samples: vec![Sample { at, value }], ..SeriesBatch::default() }
            }
            Recorded::Histogram(histogram) => {
                SeriesBatch { labels, histograms: vec![HistogramSample { at, histogram }], ..SeriesBatch::default() }
            }
        };
        let ended = |labels: &Labels| batch_of(labels.clone(), Recorded::Float(Sample::stale(at).value));
        let written = series.into_iter().map(|(labels, recorded)| batch_of(labels, recorded));
        let series: Vec<SeriesBatch> = written.chain(gone.map(ended)).collect();
        (!series.is_empty()).then(|| MetricBatch { series, metadata: Vec::new() })
    }

    /// Renders labels and annotations of each element.
    async fn activate(&self, shared: &Shared, rule: &Rule, elements: Vec<Element>, at: Timestamp) -> Vec<Active> {
        let RuleKind::Alert { name, annotations, .. } = &rule.kind else { return Vec::new() };
        let mut answers = Answers::new();
        let mut found = Vec::with_capacity(elements.len());
        for element in elements {
            let mut labels = element.0.without_name().to_builder();
            for (key, text) in &rule.labels {
                let value = self.text(shared, key, text, &element, &mut answers, at).await;
                labels.set(&**key, value);
            }
            labels.set("alertname", &**name);
            let mut rendered = LabelsBuilder::default();
            for (key, text) in annotations {
                let value = self.text(shared, key, text, &element, &mut answers, at).await;
                rendered.set(&**key, value);
            }
            found.push(Active { labels: labels.build(), annotations: rendered.build(), value: element.1 });
        }
        found
    }

    /// One text, with the queries it asks answered as it goes.
    async fn text(
        &self,
        shared: &Shared,
        name: &str,
        text: &str,
        element: &Element,
        answers: &mut Answers,
        at: Timestamp,
    ) -> String {
        for _ in 0..=QUERIES_MAX {
            match expand(name, text, element, &shared.surroundings, answers, at) {
                Expansion::Done(text) => return text,
                Expansion::Failed(reason) => {
                    tracing::debug!(group = %self.config.name, %reason, "template failed");
                    return format!("<error expanding template: {reason}>");
                }
                Expansion::Needs(query) => {
                    let answer = match weir_promql::parse(&query) {
                        Ok(expr) => shared.evaluator.instant(&self.tenant, &expr, at.minus(self.query_offset)).await,
                        Err(e) => Err(e.to_string()),
                    };
                    match answer {
                        Ok(elements) => answers.insert(query, elements),
                        Err(reason) => return format!("<error expanding template: query {query:?}: {reason}>"),
                    };
                }
            }
        }
        format!("<error expanding template: more than {QUERIES_MAX} queries>")
    }

    fn announce(&self, shared: &Shared, rule: &Rule, transitions: Vec<Transition>) {
        for t in transitions {
            let event = AlertEvent {
                tenant: self.tenant.clone(),
                labels: t.labels,
                annotations: t.annotations,
                phase: t.phase,
                active_at: t.active_at,
                at: t.at,
                value: t.value,
                expr: rule.query.clone(),
                generator_url: format!("{}{}", shared.surroundings.external_url, crate::expand::link(&rule.query, 1)),
            };
            shared.announce(event, t.repeated);
        }
    }

    /// Ends the group: its alerts are resolved, its series end.
    pub fn retire(&self, shared: &Shared, now: Timestamp) {
        self.cancel.cancel();
        for (idx, rule) in self.config.rules.iter().enumerate() {
            let transitions = {
                let mut state = self.state.lock();
                state.rules.get_mut(idx).map(|r| r.machine.clear(now)).unwrap_or_default()
            };
            self.announce(shared, rule, transitions);
            let ended = self.to_write(idx, now, Vec::new());
            let ended = ended.map_or(Ok(()), |batch| settle(shared.sink.append(&self.tenant, &batch)));
            if let Err(reason) = ended {
                tracing::debug!(%reason, "series of a removed rule could not be ended");
            }
        }
        let mut batch = Batch::default();
        for (rule, state) in self.config.rules.iter().zip(&self.state.lock().rules) {
            // A rule that moved to its successor left nothing here.
            if !state.stored.0.is_empty() {
                batch.remove(TABLE, &self.tenant, stored_name(&self.config, rule));
            }
        }
        if let Err(error) = shared.state.commit(batch) {
            tracing::error!(%error, group = %self.config.name, "alert states of removed rules are still on disk");
        }
    }

    pub fn view(&self) -> GroupView {
        let state = self.state.lock();
        let rules = self.config.rules.iter().zip(&state.rules);
        GroupView {
            name: self.config.name.clone(),
            file: self.config.file.clone(),
            interval: self.interval,
            limit: self.config.limit,
            evaluation_time: state.evaluation_time,
            last_evaluation: state.last_evaluation,
            rules: rules.map(|(rule, state)| rule_view(rule, state)).collect(),
        }
    }
}

fn rule_view(rule: &Rule, state: &RuleState) -> RuleView {
    let kind = match &rule.kind {
        RuleKind::Record { .. } => RuleKindView::Recording,
        RuleKind::Alert { hold, keep_firing_for, annotations, .. } => RuleKindView::Alerting {
            hold: *hold,
            keep_firing_for: *keep_firing_for,
            annotations: annotations.clone(),
            alerts: state.machine.alerts().map(AlertView::of).collect(),
        },
    };
    RuleView {
        name: rule.name().to_owned(),
        query: rule.query.clone(),
        labels: rule.labels.clone(),
        health: state.health.clone(),
        last_evaluation: state.last_evaluation,
        evaluation_time: state.evaluation_time,
        kind,
    }
}

/// A refused sample is an error of its rule.
fn settle(stored: Result<Outcome, WriteError>) -> Result<(), String> {
    match stored.map_err(|e| e.to_string())?.refused.first() {
        Some(refused) => {
            Err(format!("{} samples refused: {} ({})", refused.count, refused.reason.as_str(), refused.example))
        }
        None => Ok(()),
    }
}

fn floats(elements: Vec<Element>) -> Vec<(Labels, Recorded)> {
    elements.into_iter().map(|(labels, value)| (labels, Recorded::Float(value))).collect()
}

const TABLE: &str = "rules.alerts";
const VERSION: u8 = 1;
/// How often what did not change is written again.
const STORED_EVERY: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u8,
    saved_at: Timestamp,
    alerts: Vec<StoredAlert>,
}

/// Alerts of an earlier run, by tenant and rule, until the rules that they belong to are loaded.
#[derive(Default)]
pub(crate) struct Restored {
    alerts: HashMap<(TenantId, String), Stored>,
    now: Timestamp,
}

impl Restored {
    pub fn read(state: &State, now: Timestamp) -> Self {
        let mut alerts = HashMap::new();
        for (tenant, name, bytes) in state.scan(TABLE) {
            match serde_json::from_slice::<Stored>(&bytes) {
                Ok(stored) if stored.v == VERSION => {
                    alerts.insert((tenant, name), stored);
                }
                Ok(stored) => tracing::error!(%tenant, version = stored.v, "alerts of another version are left alone"),
                Err(error) => tracing::error!(%tenant, %error, "alerts of an earlier run cannot be read"),
            }
        }
        Self { alerts, now }
    }

    /// What belongs to none of the tenant's rules as they are now: its records, and the ends of its alerts.
    pub fn forget(&mut self, tenant: &TenantId) -> (Batch, Vec<Transition>) {
        let (mut batch, mut ended) = (Batch::default(), Vec::new());
        let now = self.now;
        for ((of, name), stored) in self.alerts.extract_if(|(of, _), _| of == tenant) {
            batch.remove(TABLE, &of, name);
            ended.extend(stored.alerts.into_iter().filter_map(|alert| alert.ended(now)));
        }
        (batch, ended)
    }
}

/// Names a rule by all that decides whether its state may be carried over, as [`Rule::same_as`].
fn stored_name(group: &RuleGroup, rule: &Rule) -> String {
    let hold = match &rule.kind {
        RuleKind::Record { .. } => None,
        RuleKind::Alert { hold, keep_firing_for, .. } => Some((hold, keep_firing_for)),
    };
    let text = format!("{:?}", (&group.file, &group.name, rule.name(), &rule.query, &rule.labels, hold));
    hex::encode(Sha256::digest(text))
}

fn restore(tenant: &TenantId, group: &RuleGroup, rules: &mut [RuleState], restored: &mut Restored) {
    for (rule, state) in group.rules.iter().zip(rules) {
        if let Some(stored) = restored.alerts.remove(&(tenant.clone(), stored_name(group, rule))) {
            state.stored = (stored.alerts.clone(), stored.saved_at);
            state.machine.restore(stored.alerts, stored.saved_at, restored.now);
        }
    }
}

/// The series a recording rule writes.
fn recorded(metric: &str, rule: &Rule, elements: Vec<(Labels, Recorded)>) -> Result<Vec<(Labels, Recorded)>, String> {
    let mut series = BTreeMap::new();
    for (labels, value) in elements {
        let mut labels = labels.to_builder();
        labels.set("__name__", metric);
        for (name, value) in &rule.labels {
            labels.set(&**name, &**value);
        }
        let labels = labels.build();
        if series.insert(labels.clone(), value).is_some() {
            return Err(format!("vector contains metrics with the same labelset after applying rule labels: {labels}"));
        }
    }
    Ok(series.into_iter().collect())
}
