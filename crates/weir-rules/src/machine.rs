//! State of one alert rule: a pure machine, fed with evaluated expressions.
//!
//! Two things are kept per alert. What the **interval grid** found is the truth: `for`,
//! `keep_firing_for`, every reset and the `ALERTS` series follow it and equal plain interval
//! evaluation. What was **announced** to listeners may be ahead of it: an evaluation between grid
//! points may bring pending or firing forward, and never takes anything back.
//!
//! Source of the grid's rules: Prometheus `rules/alerting.go`, `Eval`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_model::{AlertPhase, Labels, Timestamp};

use crate::inputs::{Absence, Baseline, Seen};

/// How long a resolved alert is still repeated to listeners that may have missed it.
const RESOLVED_RETENTION: Duration = Duration::from_secs(15 * 60);
/// Upstream's `for-outage-tolerance`.
const OUTAGE_MAX: Duration = Duration::from_secs(3600);
/// As long as a query looks back: by then every series that still comes has come again.
const SPARED: Duration = Duration::from_secs(300);
/// Time between two repetitions of a firing alert.
pub const RESEND_DELAY: Duration = Duration::from_secs(60);

/// Where the grid says an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertState {
    Inactive,
    Pending {
        since: Timestamp,
    },
    /// `absent_since`: the expression does not hold any more, `keep_firing_for` runs from here.
    Firing {
        since: Timestamp,
        absent_since: Option<Timestamp>,
    },
}

/// Durations of one rule.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    pub hold: Duration,
    pub keep_firing_for: Duration,
}

impl AlertState {
    /// The state after a grid evaluation at `now` that found the alert `active` or not.
    pub fn step(self, active: bool, timing: Timing, now: Timestamp) -> Self {
        if !active {
            return match self {
                Self::Firing { since, absent_since } if !timing.keep_firing_for.is_zero() => {
                    let absent = absent_since.unwrap_or(now);
                    if now.since(absent) < timing.keep_firing_for {
                        Self::Firing { since, absent_since: Some(absent) }
                    } else {
                        Self::Inactive
                    }
                }
                _ => Self::Inactive,
            };
        }
        let since = match self {
            Self::Inactive => now,
            Self::Pending { since } => since,
            Self::Firing { since, .. } => return Self::Firing { since, absent_since: None },
        };
        if now.since(since) >= timing.hold {
            Self::Firing { since, absent_since: None }
        } else {
            Self::Pending { since }
        }
    }

    pub fn phase(self) -> Option<AlertPhase> {
        match self {
            Self::Inactive => None,
            Self::Pending { .. } => Some(AlertPhase::Pending),
            Self::Firing { .. } => Some(AlertPhase::Firing),
        }
    }
}

/// An element of the expression's answer with its labels and annotations rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    /// With `alertname`.
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
    /// Labels that the expression gave, which say what it was made of.
    pub element: Labels,
}

/// What is known of a rule's input at an evaluation.
pub enum Sight {
    /// Nothing is asked: what is not found does not hold, as upstream has it.
    Believed,
    Seen(Seen),
    /// It could not be read: nothing resolves this time.
    Failed,
}

/// One alert of a rule.
#[derive(Clone, Debug)]
pub struct Alert {
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
    pub grid: AlertState,
    /// What listeners know, and since when the expression held for them.
    pub announced: Option<(AlertPhase, Timestamp)>,
    /// Since when every evaluation, also between grid points, found it active.
    held_since: Option<Timestamp>,
    /// When the announced phase began.
    announced_at: Timestamp,
    last_sent: Option<Timestamp>,
    resolved_at: Option<Timestamp>,
    element: Labels,
    baseline: Baseline,
    /// It fired, and its input has stopped.
    unknown: bool,
    /// After a restart, until when its absence says nothing: its series may not have come again yet.
    spared_until: Option<Timestamp>,
}

impl Alert {
    /// The later of what the grid says and what was announced.
    pub fn phase(&self) -> Option<AlertPhase> {
        match (self.grid.phase(), self.announced) {
            (Some(AlertPhase::Firing), _) if self.unknown => Some(AlertPhase::Unknown),
            (Some(AlertPhase::Firing), _) => Some(AlertPhase::Firing),
            (grid, Some((AlertPhase::Pending, _))) => Some(grid.unwrap_or(AlertPhase::Pending)),
            (_, Some((phase @ (AlertPhase::Firing | AlertPhase::Unknown), _))) => Some(phase),
            (grid, _) => grid,
        }
    }

    pub fn active_at(&self) -> Option<Timestamp> {
        let grid = match self.grid {
            AlertState::Inactive => None,
            AlertState::Pending { since } | AlertState::Firing { since, .. } => Some(since),
        };
        let announced = self.announced.filter(|(phase, _)| *phase != AlertPhase::Resolved).map(|(_, at)| at);
        grid.into_iter().chain(announced).min()
    }

    pub fn keep_firing_since(&self) -> Option<Timestamp> {
        if let AlertState::Firing { absent_since, .. } = self.grid { absent_since } else { None }
    }
}

/// What listeners should be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
    pub phase: AlertPhase,
    pub active_at: Timestamp,
    /// When the phase began.
    pub at: Timestamp,
    /// Said before, and said again so that a listener that restarted knows it.
    pub repeated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("vector contains metrics with the same labelset after applying alert labels: {labels}")]
    Duplicate { labels: String },
    #[error("exceeded limit of {limit} with {n} alerts; raise `limit` of the group or narrow the expression")]
    Limit { limit: usize, n: usize },
}

/// All alerts of one rule, by label set.
#[derive(Clone, Debug, Default)]
pub struct AlertMachine {
    timing: Timing,
    /// 0 is no limit.
    limit: usize,
    alerts: BTreeMap<Labels, Alert>,
}

impl AlertMachine {
    pub fn new(timing: Timing, limit: usize) -> Self {
        Self { timing, limit, alerts: BTreeMap::new() }
    }

    /// Alerts that are pending or firing.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().filter(|a| a.phase().is_some_and(|p| p != AlertPhase::Resolved))
    }

    /// Labels by which alerts that fire, or did until their input stopped, may be told apart.
    pub fn fired(&self) -> impl Iterator<Item = &Labels> {
        let fires = |a: &&Alert| matches!(a.phase(), Some(AlertPhase::Firing | AlertPhase::Unknown));
        self.alerts.values().filter(fires).map(|a| &a.element)
    }

    /// A grid evaluation that believes what it sees.
    pub fn on_grid(&mut self, now: Timestamp, found: Vec<Active>) -> Result<Vec<Transition>, StepError> {
        self.on_grid_seeing(now, found, &Sight::Believed)
    }

    /// A grid evaluation. On an error every alert is dropped, as upstream does for the limit, and
    /// listeners are told.
    pub fn on_grid_seeing(
        &mut self,
        now: Timestamp,
        found: Vec<Active>,
        sight: &Sight,
    ) -> Result<Vec<Transition>, StepError> {
        let found = by_labels(found)?;
        let n_active = self.limit.min(found.len() + 1);
        if self.limit > 0 && found.len() > n_active {
            return Err(StepError::Limit { limit: self.limit, n: found.len() });
        }
        let mut out = Vec::new();
        for (labels, active) in &found {
            let alert = self.alerts.entry(labels.clone()).or_insert_with(|| Alert::new(active));
            alert.refresh(active);
            alert.held_since.get_or_insert(now);
        }
        let timing = self.timing;
        self.alerts.retain(|labels, alert| {
            let active = found.contains_key(labels);
            if active {
                alert.spared_until = None;
            } else if alert.held_since.is_some_and(|since| since <= now) {
                alert.held_since = None;
            }
            let spared = alert.spared_until.is_some_and(|until| now < until);
            match alert.absence(active, spared, sight, now) {
                Absence::Said => {
                    alert.unknown = false;
                    alert.grid = alert.grid.step(active || spared, timing, now);
                }
                Absence::Late => {}
                Absence::Unknown => {
                    alert.unknown = true;
                    // An arrival announced it, and before the grid could see it the input stopped.
                    if !matches!(alert.grid, AlertState::Firing { .. }) {
                        let since = alert.announced.map_or(now, |(_, at)| at);
                        alert.grid = AlertState::Firing { since, absent_since: None };
                    }
                }
            }
            alert.announce_grid(now, &mut out);
            let resolved_long_ago = alert.resolved_at.is_none_or(|at| now.since(at) > RESOLVED_RETENTION);
            alert.phase().is_some_and(|p| p != AlertPhase::Resolved) || !resolved_long_ago
        });
        Ok(out)
    }

    /// An evaluation between grid points: may announce pending or firing earlier, nothing else.
    pub fn on_arrival(&mut self, now: Timestamp, found: Vec<Active>) -> Result<Vec<Transition>, StepError> {
        let found = by_labels(found)?;
        if self.limit > 0 && found.len() > self.limit {
            // The grid will say so; an early page for one of too many helps nobody.
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        for (labels, alert) in &mut self.alerts {
            if !found.contains_key(labels) {
                alert.held_since = None;
            }
        }
        for (labels, active) in found {
            let alert = self.alerts.entry(labels).or_insert_with(|| Alert::new(&active));
            alert.refresh(&active);
            let held = *alert.held_since.get_or_insert(now);
            let ripe = now.since(held) >= self.timing.hold;
            let known = alert.announced.map(|(phase, _)| phase);
            let phase = if ripe { AlertPhase::Firing } else { AlertPhase::Pending };
            let forward = match known {
                None | Some(AlertPhase::Resolved) => true,
                Some(AlertPhase::Pending) => phase == AlertPhase::Firing,
                Some(AlertPhase::Firing | AlertPhase::Unknown) => false,
            };
            if known == Some(AlertPhase::Unknown) {
                // It is told again, and what it tells is what was true before.
                alert.unknown = false;
                let since = alert.active_at().unwrap_or(held);
                alert.announce(AlertPhase::Firing, since, now, &mut out);
            } else if forward {
                let since = alert.active_at().unwrap_or(held).min(held);
                alert.announce(phase, since, now, &mut out);
            }
        }
        Ok(out)
    }

    /// What outlives a restart: every alert that is not just an old resolve.
    pub fn stored(&self) -> Vec<StoredAlert> {
        let lives = |a: &&Alert| a.grid != AlertState::Inactive || a.phase().is_some_and(|p| p != AlertPhase::Resolved);
        self.alerts.values().filter(lives).map(StoredAlert::of).collect()
    }

    /// Takes up what was stored at `saved_at`. The time in between does not count towards `for`; after
    /// more than [`OUTAGE_MAX`] a pending alert starts anew. Nothing is announced again.
    pub fn restore(&mut self, stored: Vec<StoredAlert>, saved_at: Timestamp, now: Timestamp) {
        let down = now.since(saved_at);
        for stored in stored {
            let mut alert = stored.alert();
            alert.spared_until = Some(now.plus(SPARED));
            if let AlertState::Pending { since } = alert.grid {
                if down > OUTAGE_MAX {
                    continue;
                }
                alert.grid = AlertState::Pending { since: since.plus(down) };
            }
            self.alerts.insert(alert.labels.clone(), alert);
        }
    }

    /// Forgets everything; what was announced as pending or firing is resolved.
    pub fn clear(&mut self, now: Timestamp) -> Vec<Transition> {
        let mut out = Vec::new();
        for alert in self.alerts.values_mut() {
            alert.grid = AlertState::Inactive;
            alert.announce_grid(now, &mut out);
        }
        out.retain(|t| !t.repeated);
        self.alerts.clear();
        out
    }

    /// The `ALERTS` and `ALERTS_FOR_STATE` series as the grid has them.
    pub fn series(&self) -> Vec<(Labels, f64)> {
        let mut out = Vec::new();
        for alert in self.alerts.values() {
            let (since, state) = match alert.grid {
                AlertState::Inactive => continue,
                AlertState::Pending { since } => (since, "pending"),
                AlertState::Firing { since, .. } if alert.unknown => (since, "unknown"),
                AlertState::Firing { since, .. } => (since, "firing"),
            };
            let alerts = alert.labels.with("__name__", "ALERTS").with("alertstate", state);
            out.push((alerts, 1.0));
            out.push((alert.labels.with("__name__", "ALERTS_FOR_STATE"), since.0.div_euclid(1000) as f64));
        }
        out
    }
}

fn by_labels(found: Vec<Active>) -> Result<BTreeMap<Labels, Active>, StepError> {
    let mut map = BTreeMap::new();
    for active in found {
        if let Some(other) = map.insert(active.labels.clone(), active) {
            return Err(StepError::Duplicate { labels: other.labels.to_string() });
        }
    }
    Ok(map)
}

impl Alert {
    fn new(active: &Active) -> Self {
        Self {
            labels: active.labels.clone(),
            annotations: active.annotations.clone(),
            value: active.value,
            grid: AlertState::Inactive,
            announced: None,
            held_since: None,
            announced_at: Timestamp::default(),
            last_sent: None,
            resolved_at: None,
            element: active.element.clone(),
            baseline: Baseline::default(),
            unknown: false,
            spared_until: None,
        }
    }

    /// What it says that an evaluation did not find it; `Said` when it did.
    fn absence(&mut self, found: bool, spared: bool, sight: &Sight, now: Timestamp) -> Absence {
        let told_firing = matches!(self.announced, Some((AlertPhase::Firing | AlertPhase::Unknown, _)));
        let fires = matches!(self.grid, AlertState::Firing { .. }) || told_firing;
        match sight {
            Sight::Seen(seen) if found => {
                self.baseline.learn(&seen.counts(&self.element), now);
                Absence::Said
            }
            _ if found || spared || !fires => Absence::Said,
            Sight::Believed => Absence::Said,
            Sight::Failed => Absence::Late,
            Sight::Seen(seen) => self.baseline.absence(&seen.counts(&self.element), now),
        }
    }

    fn refresh(&mut self, active: &Active) {
        self.element = active.element.clone();
        self.annotations = active.annotations.clone();
        self.value = active.value;
    }

    /// Brings what listeners know in line with the grid.
    fn announce_grid(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        let known = self.announced.map(|(phase, _)| phase);
        let due = self.last_sent.is_none_or(|at| now.since(at) >= RESEND_DELAY);
        let (since, phase) = match self.grid {
            AlertState::Inactive => {
                match known {
                    // An arrival saw later data than this grid point may see.
                    Some(AlertPhase::Pending | AlertPhase::Firing) if self.announced_at > now => {}
                    Some(AlertPhase::Pending | AlertPhase::Firing | AlertPhase::Unknown) => {
                        let since = self.announced.map_or(now, |(_, at)| at);
                        self.resolved_at = (known != Some(AlertPhase::Pending)).then_some(now);
                        self.announce(AlertPhase::Resolved, since, now, out);
                    }
                    Some(AlertPhase::Resolved) if due && self.resolved_at.is_some() => self.repeat(now, out),
                    _ => {}
                }
                return;
            }
            AlertState::Pending { since } => (since, AlertPhase::Pending),
            AlertState::Firing { since, .. } if self.unknown => (since, AlertPhase::Unknown),
            AlertState::Firing { since, .. } => (since, AlertPhase::Firing),
        };
        match (known, phase) {
            (Some(AlertPhase::Unknown), AlertPhase::Unknown)
            | (Some(AlertPhase::Firing), AlertPhase::Firing | AlertPhase::Pending) => {
                if due {
                    self.repeat(now, out);
                }
            }
            (Some(AlertPhase::Pending), AlertPhase::Pending) => {}
            (_, phase) => {
                let before = self.announced.filter(|(p, _)| *p != AlertPhase::Resolved).map(|(_, at)| at);
                self.resolved_at = None;
                self.announce(phase, before.map_or(since, |at| at.min(since)), now, out);
            }
        }
    }

    fn announce(&mut self, phase: AlertPhase, active_at: Timestamp, now: Timestamp, out: &mut Vec<Transition>) {
        self.announced = Some((phase, active_at));
        self.announced_at = now;
        self.last_sent = Some(now);
        out.push(self.transition(phase, active_at, now, false));
    }

    fn repeat(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        if let Some((phase, active_at)) = self.announced {
            self.last_sent = Some(now);
            out.push(self.transition(phase, active_at, self.announced_at, true));
        }
    }

    fn transition(&self, phase: AlertPhase, active_at: Timestamp, at: Timestamp, repeated: bool) -> Transition {
        let (labels, annotations, value) = (self.labels.clone(), self.annotations.clone(), self.value);
        Transition { labels, annotations, value, phase, active_at, at, repeated }
    }
}

/// An alert as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredAlert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    /// `None` for what JSON cannot say.
    value: Option<f64>,
    /// `pending` or `firing` on the grid, and since when.
    grid: Option<(bool, Timestamp)>,
    absent_since: Option<Timestamp>,
    /// Whether listeners know it as firing, since when it is active for them, and when it was said.
    announced: Option<(bool, Timestamp, Timestamp)>,
    #[serde(default)]
    element: BTreeMap<String, String>,
    #[serde(default)]
    baseline: Baseline,
    #[serde(default)]
    unknown: bool,
}

impl StoredAlert {
    fn of(alert: &Alert) -> Self {
        let pairs = |labels: &Labels| labels.iter().map(|l| (l.name.to_string(), l.value.to_string())).collect();
        let (grid, absent_since) = match alert.grid {
            AlertState::Inactive => (None, None),
            AlertState::Pending { since } => (Some((false, since)), None),
            AlertState::Firing { since, absent_since } => (Some((true, since)), absent_since),
        };
        let announced = alert.announced.filter(|(phase, _)| *phase != AlertPhase::Resolved);
        Self {
            labels: pairs(&alert.labels),
            annotations: pairs(&alert.annotations),
            value: Some(alert.value).filter(|v| v.is_finite()),
            grid,
            absent_since,
            announced: announced.map(|(phase, since)| (phase != AlertPhase::Pending, since, alert.announced_at)),
            element: pairs(&alert.element),
            baseline: alert.baseline.clone(),
            unknown: alert.unknown,
        }
    }

    fn alert(self) -> Alert {
        let phase = |firing: bool| match firing {
            true if self.unknown => AlertPhase::Unknown,
            true => AlertPhase::Firing,
            false => AlertPhase::Pending,
        };
        let mut alert = Alert::new(&Active {
            labels: Labels::from_pairs(self.labels),
            annotations: Labels::from_pairs(self.annotations),
            value: self.value.unwrap_or(f64::NAN),
            element: Labels::from_pairs(self.element),
        });
        (alert.baseline, alert.unknown) = (self.baseline, self.unknown);
        alert.grid = match self.grid {
            None => AlertState::Inactive,
            Some((false, since)) => AlertState::Pending { since },
            Some((true, since)) => AlertState::Firing { since, absent_since: self.absent_since },
        };
        alert.announced = self.announced.map(|(firing, since, _)| (phase(firing), since));
        alert.announced_at = self.announced.map_or(Timestamp::default(), |(.., at)| at);
        alert
    }

    /// Its end, if listeners were told of it: its rule is gone.
    pub fn ended(self, now: Timestamp) -> Option<Transition> {
        let alert = self.alert();
        let (_, active_at) = alert.announced?;
        Some(alert.transition(AlertPhase::Resolved, active_at, now, false))
    }

    /// Whether the same alert stands where it stood; values and texts change all the time.
    pub fn stands_as(&self, other: &Self) -> bool {
        (&self.labels, self.grid, self.absent_since, self.announced, self.unknown)
            == (&other.labels, other.grid, other.absent_since, other.announced, other.unknown)
    }
}

#[cfg(test)]
mod tests;
