//! One rule group at work: evaluation of its rules in order, what they record, what they announce.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weir_model::sink::{MetricBatch, Outcome, SeriesBatch, WriteError};
use weir_model::{AlertEvent, HistogramSample, Labels, LabelsBuilder, Sample, TenantId, Timestamp};
use weir_state::Batch;

use crate::arrival::Dirty;
use crate::expand::{Answers, Element, Expansion, QUERIES_MAX, expand};
use crate::file::{Rule, RuleGroup, RuleKind};
use crate::inputs::{Seen, Watched};
use crate::language::{Language, RuleExpr};
use crate::machine::{Active, AlertMachine, Sight, StepError, StoredAlert, Timing, Transition};
use crate::manager::{MissingInput, Recorded, Shared};
use crate::spread::Spread;
use crate::stored::{Restored, STORED_EVERY, Stored, TABLE, VERSION, stored_name};
use crate::view::{AlertView, GroupView, Health, RuleKindView, RuleView};

/// A group of one tenant with its state.
pub(crate) struct Group {
    pub tenant: TenantId,
    pub config: RuleGroup,
    pub interval: Duration,
    query_offset: Duration,
    state: Mutex<GroupState>,
    /// Per rule.
    pub feeds: Vec<Feed>,
    pub wake: Arc<Notify>,
    pub cancel: CancellationToken,
}

/// What connects a rule with the data that it reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Feed {
    /// Of rules that arrivals may evaluate.
    pub dirty: Option<Arc<Dirty>>,
    /// How late its data come; `None` for a rule that reads none.
    pub spread: Option<Arc<Spread>>,
    /// What must arrive for the absence of an alert to say something.
    pub watched: Vec<Watched>,
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
        feeds: Vec<Feed>,
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
            feeds,
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
        let feeds = self.feeds.iter().zip(&state.rules);
        feeds.filter_map(|(f, rule)| f.dirty.as_ref()?.due(rule.last_arrival, rule.evaluation_time)).min()
    }

    /// How long after a grid point its data are all there: the longest wait of any of its rules.
    pub fn wait(&self, now: Timestamp) -> Duration {
        let waits = self.feeds.iter().filter_map(|f| f.spread.as_ref()).map(|s| s.wait(now));
        waits.max().unwrap_or_default()
    }

    /// The delay of arrivals that a rule of these data has learned.
    pub fn spread_of(&self, rule: &Rule) -> Option<Arc<Spread>> {
        let same = self.config.rules.iter().position(|r| r.same_as(rule))?;
        self.feeds.get(same)?.spread.clone()
    }

    /// Evaluates every rule at one grid point.
    pub async fn evaluate_grid(&self, shared: &Shared, at: Timestamp) {
        let began = shared.clock.now_nanos();
        let now = shared.clock.now();
        for (rule, feed) in self.config.rules.iter().zip(&self.feeds) {
            let wait = feed.spread.as_ref().map_or(Duration::ZERO, |s| s.wait(now));
            shared.metrics.input_wait(&self.config.name, rule.name(), wait);
        }
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
        for (idx, feed) in self.feeds.iter().enumerate() {
            let Some(dirty) = &feed.dirty else { continue };
            let (last, took) = match self.state.lock().rules.get(idx) {
                Some(rule) => (rule.last_arrival, rule.evaluation_time),
                None => continue,
            };
            if dirty.due(last, took).is_none_or(|due| due > now) {
                continue;
            }
            dirty.clear();
            shared.metrics.arrivals.inc();
            let rule = &self.config.rules[idx];
            // A ratio is looked at as it stood when the last of its data had come.
            let at = now.minus(dirty.behind(now));
            let found = match shared.evaluator.instant(&self.tenant, &rule.expr, at.minus(self.query_offset)).await {
                Ok(elements) => self.activate(shared, rule, elements, at).await,
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
                rule.machine.on_arrival(at, found).unwrap_or_default()
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
                let sight = self.look(shared, idx, &found, sampled_at).await;
                let (transitions, series, error) = {
                    let mut state = self.state.lock();
                    let Some(rule_state) = state.rules.get_mut(idx) else { return Ok(()) };
                    match rule_state.machine.on_grid_seeing(at, found, &sight) {
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

    /// Whether what the rule reads is there: asked while there is an alert whose absence may be misread.
    async fn look(&self, shared: &Shared, idx: usize, found: &[Active], at: Timestamp) -> Sight {
        let watched = &self.feeds[idx].watched;
        let policy = self.config.missing_input.unwrap_or(shared.missing_input);
        if policy == MissingInput::Resolve || watched.is_empty() {
            return Sight::Believed;
        }
        let mut names: Vec<String> = {
            let state = self.state.lock();
            let fired = state.rules.get(idx).into_iter().flat_map(|r| r.machine.fired());
            let of = |labels: &Labels| labels.iter().map(|l| l.name.to_string()).collect::<Vec<_>>();
            let mut any = false;
            let names: Vec<_> =
                fired.chain(found.iter().map(|a| &a.element)).inspect(|_| any = true).flat_map(of).collect();
            if !any {
                return Sight::Believed;
            }
            names
        };
        names.sort_unstable();
        names.dedup();
        match shared.evaluator.inputs(&self.tenant, watched, at).await {
            Ok(Some(selectors)) => Sight::Seen(Seen::new(names, selectors)),
            Ok(None) => Sight::Believed,
            Err(reason) => {
                let rule = self.config.rules[idx].name();
                tracing::warn!(group = %self.config.name, rule, %reason, "cannot see the rule's input; nothing resolves");
                Sight::Failed
            }
        }
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
                let value = self.text(shared, (rule, key), text, &element, &mut answers, at).await;
                labels.set(&**key, value);
            }
            labels.set("alertname", &**name);
            let mut rendered = LabelsBuilder::default();
            for (key, text) in annotations {
                let value = self.text(shared, (rule, key), text, &element, &mut answers, at).await;
                rendered.set(&**key, value);
            }
            let (labels, annotations) = (labels.build(), rendered.build());
            found.push(Active { labels, annotations, value: element.1, element: element.0.without_name() });
        }
        found
    }

    /// One text, with the queries it asks answered as it goes.
    async fn text(
        &self,
        shared: &Shared,
        (rule, name): (&Rule, &str),
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
                    let answer = match RuleExpr::parse(&query, rule.expr.language(), Duration::ZERO) {
                        Ok(expr) => shared.evaluator.instant(&self.tenant, &expr, at.minus(self.query_offset)).await,
                        Err(e) => Err(e),
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
                generator_url: format!("{}{}", shared.surroundings.external_url, rule_link(rule)),
            };
            shared.announce(event, t.repeated);
        }
    }

    /// Ends the group: its alerts are resolved, its series end.
    pub fn retire(&self, shared: &Shared, now: Timestamp) {
        self.cancel.cancel();
        self.config.rules.iter().for_each(|rule| shared.metrics.forget_wait(&self.config.name, rule.name()));
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
            language: self.config.language,
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

/// Where the page shows the expression.
fn rule_link(rule: &Rule) -> String {
    match rule.expr.language() {
        Language::Promql => crate::expand::link(&rule.query, 1),
        Language::Logql => format!("/explore/logs?q={}", crate::expand::url_encoded(&rule.query)),
        Language::Traceql => format!("/explore/traces?q={}", crate::expand::url_encoded(&rule.query)),
    }
}

fn floats(elements: Vec<Element>) -> Vec<(Labels, Recorded)> {
    elements.into_iter().map(|(labels, value)| (labels, Recorded::Float(value))).collect()
}

fn restore(tenant: &TenantId, group: &RuleGroup, rules: &mut [RuleState], restored: &mut Restored) {
    for (rule, state) in group.rules.iter().zip(rules) {
        if let Some(stored) = restored.take(tenant, group, rule) {
            state.stored = (stored.alerts.clone(), stored.saved_at);
            state.machine.restore(stored.alerts, stored.saved_at, restored.now());
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
