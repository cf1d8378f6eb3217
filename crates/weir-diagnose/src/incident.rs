//! An incident, and the book of a tenant's incidents: pure transitions, time handed in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weir_model::entity::Aliases;
use weir_model::{AlertEvent, AlertPhase, EntityId, Labels, TimeRange, Timestamp};

use crate::types::{Cause, Diagnosis};

/// Closed incidents kept per tenant.
const HISTORY_MAX: usize = 200;
/// Open incidents per tenant; further alerts join the newest.
const OPEN_MAX: usize = 50;
const ALERTS_MAX: usize = 500;
const TIMELINE_MAX: usize = 200;
/// Telemetry from this long before the first alert belongs to the incident: an expression over a
/// minute's rate sees a fault late.
const LEAD: Duration = Duration::from_secs(15);
const BASELINE: Duration = Duration::from_secs(300);
/// A baseline that earlier incidents have cut shorter than this is no baseline.
const BASELINE_MIN: Duration = Duration::from_secs(40);
/// After an incident the numbers take this long to be themselves again.
const RECOVERY: Duration = Duration::from_secs(15);
/// The same alert back within this time reopens its incident.
const FLAP: Duration = Duration::from_secs(20);
/// Windows do not grow beyond this: what began then is known by then.
const WINDOW_MAX: Duration = Duration::from_secs(600);
/// Causes kept of an answer.
pub const CAUSES_MAX: usize = 8;
/// What begins so much later than a cause is not its effect.
const ANOTHER: Duration = Duration::from_secs(60);
/// As many answers of the same cause in a row settle it.
const SETTLED: u32 = 8;
/// An incident is over when nobody has spoken of its alerts for so long: firing ones are repeated every minute. It
/// is so when their end was told in the moment before a crash.
const FORGOTTEN: Duration = Duration::from_secs(900);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentState {
    Pending,
    Firing,
    Resolved,
}

impl IncidentState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentAlert {
    pub fingerprint: String,
    #[serde(deserialize_with = "labels")]
    pub labels: Labels,
    #[serde(deserialize_with = "labels")]
    pub annotations: Labels,
    pub phase: AlertPhase,
    pub active_at: Timestamp,
    #[serde(serialize_with = "finite", deserialize_with = "any_number")]
    pub value: f64,
    pub expr: Arc<str>,
    pub heard_at: Timestamp,
}

fn labels<'de, D: Deserializer<'de>>(from: D) -> Result<Labels, D::Error> {
    Ok(Labels::from_pairs(BTreeMap::<String, String>::deserialize(from)?))
}

/// JSON has no word for NaN and the infinities; all come back as NaN.
fn finite<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Some(*value).filter(|v| v.is_finite()).serialize(serializer)
}

fn any_number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Who said that they are on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    pub by: String,
    pub at: Timestamp,
    pub comment: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEntry {
    pub at: Timestamp,
    /// `alert`, `change`, `cause`, `state` or `acknowledged`.
    pub kind: Cow<'static, str>,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: String,
    pub opened_at: Timestamp,
    pub fired_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub acknowledged: Option<Acknowledgement>,
    pub alerts: Vec<IncidentAlert>,
    pub window: TimeRange,
    pub baseline: TimeRange,
    pub diagnosis: Diagnosis,
    pub timeline: Vec<TimelineEntry>,
    /// Answers of the same cause in a row.
    pub n_same: u32,
    pub diagnosed_at: Option<Timestamp>,
    entities: Vec<EntityId>,
}

impl Incident {
    pub fn state(&self) -> IncidentState {
        match (self.resolved_at, self.fired_at) {
            (Some(_), _) => IncidentState::Resolved,
            (None, Some(_)) => IncidentState::Firing,
            (None, None) => IncidentState::Pending,
        }
    }

    pub fn cause(&self) -> Option<&Cause> {
        self.diagnosis.causes.first().filter(|_| self.diagnosis.known)
    }

    /// When the trouble began: by the cause's evidence, else by the first alert.
    pub fn since(&self) -> Timestamp {
        let alerts = self.alerts.iter().map(|a| a.active_at).min().unwrap_or(self.opened_at);
        self.cause().and_then(|c| c.since).map_or(alerts, |at| at.min(alerts))
    }

    pub fn note(&mut self, at: Timestamp, kind: &'static str, text: String) {
        if self.timeline.len() < TIMELINE_MAX {
            let idx = self.timeline.partition_point(|e| e.at <= at);
            self.timeline.insert(idx, TimelineEntry { at, kind: kind.into(), text });
        }
    }

    fn hear(&mut self, event: &AlertEvent, fingerprint: String, now: Timestamp) {
        let name = event.labels.value("alertname").to_owned();
        let told = |phase| match phase {
            AlertPhase::Pending => format!("{name} holds, not yet long enough to fire"),
            AlertPhase::Firing => format!("{name} fires"),
            AlertPhase::Unknown => {
                format!("{name}: what it is made of stopped arriving; whether it still holds is not known")
            }
            AlertPhase::Resolved => format!("{name} is resolved"),
        };
        let alert = IncidentAlert {
            fingerprint,
            labels: event.labels.clone(),
            annotations: event.annotations.clone(),
            phase: event.phase,
            active_at: event.active_at,
            value: event.value,
            expr: event.expr.clone(),
            heard_at: now,
        };
        let known = self.alerts.iter().position(|a| a.fingerprint == alert.fingerprint);
        let changed = known.is_none_or(|k| self.alerts[k].phase != alert.phase);
        match known {
            Some(k) => self.alerts[k] = alert,
            None if self.alerts.len() < ALERTS_MAX => self.alerts.push(alert),
            None => return,
        }
        if changed {
            self.note(event.at, "alert", told(event.phase));
        }
        if event.phase == AlertPhase::Firing {
            self.fired_at.get_or_insert(event.at);
        }
        if self.alerts.iter().all(|a| a.phase == AlertPhase::Resolved) {
            self.resolved_at = Some(now);
            self.note(now, "state", "all alerts are resolved".to_owned());
        }
    }

    /// Takes in a new answer; whether the cause to tell is another one now.
    pub fn learn(&mut self, mut diagnosis: Diagnosis, now: Timestamp) -> bool {
        if self.is_settled() {
            self.keep_cause(&mut diagnosis);
        }
        let key = |d: &Diagnosis| d.causes.first().filter(|_| d.known).map(|c| (c.service.clone(), c.thing.clone()));
        let (before, after) = (key(&self.diagnosis), key(&diagnosis));
        let changed = before != after;
        self.n_same = if changed { 1 } else { self.n_same + 1 };
        self.diagnosed_at = Some(now);
        // A cause once known is not unsaid because its traces have faded from the window.
        if before.is_some() && after.is_none() {
            return false;
        }
        for change in &diagnosis.changes {
            let text = change.title.clone();
            if !self.timeline.iter().any(|e| e.kind == "change" && e.at == change.at && e.text == text) {
                self.note(change.at, "change", text);
            }
        }
        self.diagnosis = diagnosis;
        if changed && let Some(summary) = self.cause().map(|c| c.summary.clone()) {
            self.note(now, "cause", format!("cause found: {summary}"));
        }
        changed
    }

    /// The same cause has been named so often in a row that it will not change by itself.
    pub fn is_settled(&self) -> bool {
        self.n_same >= SETTLED && self.diagnosis.known
    }

    /// What broke stays the cause while things mend: the backlog that is worked off moves more then than
    /// what made it. Only a cause that is surer, or began well after, takes its place; the others are
    /// told behind it.
    fn keep_cause(&self, diagnosis: &mut Diagnosis) {
        let (Some(kept), Some(now)) = (self.cause(), diagnosis.causes.first()) else { return };
        let began_after = matches!((kept.since, now.since), (Some(a), Some(b)) if b > a.plus(ANOTHER));
        if now.score >= kept.score || began_after {
            return;
        }
        diagnosis.causes.retain(|cause| !is_same(cause, kept));
        diagnosis.causes.insert(0, kept.clone());
        diagnosis.causes.truncate(CAUSES_MAX);
        diagnosis.confidence = kept.score;
        diagnosis.known = true;
    }
}

fn is_same(a: &Cause, b: &Cause) -> bool {
    a.service == b.service && a.thing == b.thing
}

/// A tenant's incidents.
#[derive(Default)]
pub struct Book {
    /// Oldest first, open and closed.
    incidents: VecDeque<Incident>,
    n_opened: u64,
    /// When this run began to listen.
    listening_since: Option<Timestamp>,
    /// Ids of what has changed, or gone, since [`Book::take_changed`].
    changed: BTreeSet<String>,
}

impl Book {
    /// The incidents of an earlier run, in any order.
    pub fn restored(mut incidents: Vec<Incident>) -> Self {
        incidents.sort_by(|a, b| (a.opened_at, &a.id).cmp(&(b.opened_at, &b.id)));
        Self { n_opened: incidents.len() as u64, incidents: incidents.into(), ..Self::default() }
    }

    /// What is to be written down: each incident as it stands now, `None` when it is gone.
    pub fn take_changed(&mut self) -> Vec<(String, Option<Incident>)> {
        let ids = std::mem::take(&mut self.changed);
        let stands = |id: String| (self.incidents.iter().find(|i| i.id == id).cloned(), id);
        ids.into_iter().map(stands).map(|(incident, id)| (id, incident)).collect()
    }

    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What the caller changed through [`Book::get_mut`].
    pub fn note_changed(&mut self, id: &str) {
        self.changed.insert(id.to_owned());
    }

    /// `None` without such an open incident.
    pub fn acknowledge(&mut self, id: &str, by: Acknowledgement) -> Option<Incident> {
        let id = &self.get(id)?.id.clone();
        let incident = self.get_mut(id).filter(|i| i.resolved_at.is_none())?;
        let comment = if by.comment.is_empty() { String::new() } else { format!(": {}", by.comment) };
        incident.note(by.at, "acknowledged", format!("{} is on it{comment}", by.by));
        incident.acknowledged = Some(by);
        let incident = incident.clone();
        self.changed.insert(incident.id.clone());
        Some(incident)
    }

    /// Takes in an alert's transition. `linked` says whether two entities belong to one graph.
    /// Returns the incident's place when it must be diagnosed anew.
    pub fn hear(
        &mut self,
        event: &AlertEvent,
        aliases: &Aliases,
        linked: impl Fn(&EntityId, &EntityId) -> bool,
        now: Timestamp,
    ) -> Option<String> {
        let fingerprint = format!("{:016x}", event.labels.fingerprint());
        let entities: Vec<EntityId> = aliases.resolve_labels(&event.labels).entities().collect();
        let known = self.place_of(&fingerprint, now);
        if event.phase == AlertPhase::Resolved {
            if let Some(at) = known {
                self.incidents[at].hear(event, fingerprint, now);
                self.changed.insert(self.incidents[at].id.clone());
                self.forget_unfired();
            }
            return None;
        }
        let (at, new) = match known.or_else(|| self.joinable(&entities, &event.labels, linked)) {
            Some(at) => (at, known.is_none()),
            None => (self.open(event, now), true),
        };
        let incident = &mut self.incidents[at];
        incident.resolved_at = None;
        let phase_before = incident.alerts.iter().find(|a| a.fingerprint == fingerprint).map(|a| a.phase);
        incident.hear(event, fingerprint, now);
        for entity in entities {
            if !incident.entities.contains(&entity) && incident.entities.len() < 100 {
                incident.entities.push(entity);
            }
        }
        if !new && phase_before == Some(event.phase) {
            return None;
        }
        self.changed.insert(incident.id.clone());
        Some(incident.id.clone())
    }

    /// The open or just closed incident that holds this alert.
    fn place_of(&self, fingerprint: &str, now: Timestamp) -> Option<usize> {
        self.incidents.iter().rposition(|i| {
            i.alerts.iter().any(|a| a.fingerprint == fingerprint) && i.resolved_at.is_none_or(|at| now.since(at) < FLAP)
        })
    }

    fn joinable(
        &self,
        entities: &[EntityId],
        labels: &Labels,
        linked: impl Fn(&EntityId, &EntityId) -> bool,
    ) -> Option<usize> {
        let open: Vec<usize> = (0..self.incidents.len()).filter(|k| self.incidents[*k].resolved_at.is_none()).collect();
        let fits = |incident: &Incident| {
            // An alert on the whole says nothing of where: it belongs to whatever is going on.
            entities.is_empty()
                || incident.entities.is_empty()
                || incident.entities.iter().any(|a| entities.iter().any(|b| a == b || linked(a, b)))
                || shares_labels(incident, labels)
        };
        let found = open.iter().rev().find(|k| fits(&self.incidents[**k])).copied();
        found.or_else(|| if open.len() >= OPEN_MAX { open.last().copied() } else { None })
    }

    fn open(&mut self, event: &AlertEvent, now: Timestamp) -> usize {
        self.n_opened += 1;
        let begin = event.active_at.min(now).minus(LEAD);
        let window = TimeRange::new(begin, now.max(begin));
        let baseline = self.baseline_before(begin);
        self.incidents.push_back(Incident {
            id: format!("{:x}-{}", now.0.max(0), self.n_opened),
            opened_at: now,
            fired_at: None,
            resolved_at: None,
            acknowledged: None,
            alerts: Vec::new(),
            window,
            baseline,
            diagnosis: Diagnosis::default(),
            timeline: Vec::new(),
            n_same: 0,
            diagnosed_at: None,
            entities: Vec::new(),
        });
        if self.incidents.len() > HISTORY_MAX + OPEN_MAX
            && let Some(gone) = self.incidents.pop_front()
        {
            self.changed.insert(gone.id);
        }
        self.incidents.len() - 1
    }

    /// The minutes before, without what earlier incidents have spoilt.
    fn baseline_before(&self, begin: Timestamp) -> TimeRange {
        let start = begin.minus(BASELINE);
        let spoilt_until = self.incidents.iter().filter_map(|i| i.resolved_at).map(|at| at.plus(RECOVERY)).max();
        match spoilt_until {
            Some(until) if until > start && begin.since(until) >= BASELINE_MIN => TimeRange::new(until, begin),
            _ => TimeRange::new(start, begin),
        }
    }

    /// A pending alert that came to nothing leaves no incident behind.
    fn forget_unfired(&mut self) {
        self.incidents.retain(|i| {
            let stays = i.resolved_at.is_none() || i.fired_at.is_some();
            if !stays {
                self.changed.insert(i.id.clone());
            }
            stays
        });
    }

    /// Closes what nobody speaks of any more.
    pub fn expire(&mut self, now: Timestamp) {
        let listening_since = *self.listening_since.get_or_insert(now);
        for incident in self.incidents.iter_mut().filter(|i| i.resolved_at.is_none()) {
            let heard = incident.alerts.iter().map(|a| a.heard_at).max().unwrap_or(incident.opened_at);
            if now.since(heard.max(listening_since)) > FORGOTTEN {
                incident.resolved_at = Some(now);
                incident.note(now, "state", "nobody speaks of its alerts any more".to_owned());
                self.changed.insert(incident.id.clone());
            }
        }
        self.forget_unfired();
    }

    /// Moves the end of an open incident's window to the present; what to ask.
    pub fn ranges(&mut self, id: &str, now: Timestamp) -> Option<(TimeRange, TimeRange)> {
        let incident = self.incidents.iter_mut().find(|i| i.id == id && i.resolved_at.is_none())?;
        let end = now.min(incident.window.start.plus(WINDOW_MAX));
        incident.window.end = end.max(incident.window.start);
        Some((incident.window, incident.baseline))
    }

    pub fn get_mut(&mut self, id: &str) -> Option<&mut Incident> {
        self.incidents.iter_mut().find(|i| i.id == id)
    }

    /// By id, else the newest that holds an alert with this fingerprint.
    pub fn get(&self, id: &str) -> Option<&Incident> {
        let holds = |i: &&Incident| i.alerts.iter().any(|a| a.fingerprint == id);
        self.incidents.iter().find(|i| i.id == id).or_else(|| self.incidents.iter().rev().find(holds))
    }

    /// Newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.iter().rev()
    }
}

/// Whether a label that tells where (not what, nor how bad) is equal.
fn shares_labels(incident: &Incident, labels: &Labels) -> bool {
    const SAYS_NOTHING: [&str; 6] = ["alertname", "severity", "tier", "team", "owner", "priority"];
    let telling = |name: &str| !SAYS_NOTHING.contains(&name);
    incident.alerts.iter().any(|a| labels.iter().any(|l| telling(&l.name) && a.labels.get(&l.name) == Some(&l.value)))
}

#[cfg(test)]
mod tests {
    use weir_model::TenantId;

    use super::*;
    use crate::types::{CauseKind, Signal, Thing};

    fn event(name: &str, service: &str, phase: AlertPhase, at: i64) -> AlertEvent {
        AlertEvent {
            tenant: TenantId::anonymous(),
            labels: Labels::from_pairs([("alertname", name), ("service", service)]),
            annotations: Labels::empty(),
            phase,
            active_at: Timestamp(at),
            at: Timestamp(at),
            value: 1.0,
            expr: "x > 1".into(),
            generator_url: String::new(),
        }
    }

    fn hear(book: &mut Book, name: &str, service: &str, phase: AlertPhase, at: i64, linked: bool) -> Option<String> {
        book.hear(&event(name, service, phase, at), &Aliases::default(), |_, _| linked, Timestamp(at))
    }

    use AlertPhase::{Firing, Pending, Resolved};

    #[test]
    fn linked_alerts_are_one_incident_and_strangers_are_not() {
        let mut book = Book::default();
        let first = hear(&mut book, "slow", "a", Pending, 1_000, true).unwrap();
        assert_eq!(hear(&mut book, "slow", "a", Firing, 2_000, true), Some(first.clone()));
        assert_eq!(hear(&mut book, "slow", "a", Firing, 3_000, true), None, "a repetition is no news");
        assert_eq!(hear(&mut book, "lost", "b", Firing, 4_000, true), Some(first.clone()));
        let other = hear(&mut book, "full", "c", Firing, 5_000, false).unwrap();
        assert_ne!(other, first);
        assert_eq!(book.iter().count(), 2);
    }

    #[test]
    fn an_incident_is_over_when_all_its_alerts_are() {
        let mut book = Book::default();
        let id = hear(&mut book, "slow", "a", Firing, 1_000, true).unwrap();
        hear(&mut book, "lost", "b", Firing, 2_000, true);
        hear(&mut book, "slow", "a", Resolved, 3_000, true);
        assert_eq!(book.get(&id).unwrap().state(), IncidentState::Firing);
        hear(&mut book, "lost", "b", Resolved, 4_000, true);
        assert_eq!(book.get(&id).unwrap().state(), IncidentState::Resolved);
        assert_eq!(hear(&mut book, "slow", "a", Firing, 10_000, true), Some(id.clone()), "flapping reopens");
        hear(&mut book, "slow", "a", Resolved, 11_000, true);
        assert_ne!(hear(&mut book, "slow", "a", Firing, 60_000, true), Some(id));
    }

    fn answer(service: &str, score: f64, since: i64) -> Diagnosis {
        let cause = Cause {
            service: service.into(),
            instance: "".into(),
            kind: CauseKind::Latency,
            signal: Signal::Metrics,
            score,
            since: Some(Timestamp(since)),
            summary: format!("{service} is slow"),
            thing: Thing::None,
            evidence: Vec::new(),
        };
        Diagnosis { causes: vec![cause], known: true, confidence: score, ..Diagnosis::default() }
    }

    #[test]
    fn a_settled_cause_gives_way_only_to_a_surer_or_a_later_one() {
        let mut book = Book::default();
        let id = hear(&mut book, "slow", "a", Firing, 1_000, true).unwrap();
        let incident = book.get_mut(&id).unwrap();
        let leads = |i: &Incident| i.cause().unwrap().service.to_string();
        assert!(incident.learn(answer("early", 0.8, 1_000), Timestamp(2_000)));
        assert!(incident.learn(answer("fault", 0.9, 1_000), Timestamp(3_000)), "nothing is settled yet");
        for k in 0..SETTLED {
            incident.learn(answer("fault", 0.9, 1_000), Timestamp(4_000 + i64::from(k)));
        }
        assert!(!incident.learn(answer("backlog", 0.85, 2_000), Timestamp(60_000)));
        assert_eq!((leads(incident).as_str(), incident.diagnosis.confidence), ("fault", 0.9));
        assert_eq!(&*incident.diagnosis.causes[1].service, "backlog");
        // Its own figures fade as the window grows, and it is told at its surest.
        incident.learn(answer("fault", 0.6, 1_000), Timestamp(61_000));
        assert_eq!((incident.diagnosis.confidence, incident.diagnosis.causes.len()), (0.9, 1));
        assert!(incident.learn(answer("another fault", 0.85, 70_000), Timestamp(75_000)));
        for k in 0..SETTLED {
            incident.learn(answer("another fault", 0.85, 70_000), Timestamp(76_000 + i64::from(k)));
        }
        assert!(incident.learn(answer("surer", 0.95, 1_000), Timestamp(90_000)));
    }

    #[test]
    fn what_never_fired_leaves_nothing() {
        let mut book = Book::default();
        hear(&mut book, "slow", "a", Pending, 1_000, true);
        hear(&mut book, "slow", "a", Resolved, 2_000, true);
        assert_eq!(book.iter().count(), 0);
        hear(&mut book, "slow", "a", Pending, 3_000, true);
        book.expire(Timestamp(3_000));
        book.expire(Timestamp(3_000).plus(FORGOTTEN + Duration::from_secs(1)));
        assert_eq!(book.iter().count(), 0);
    }

    #[test]
    fn a_firing_alert_that_nobody_repeats_is_over_once_they_had_the_time() {
        let mut book = Book::default();
        let id = hear(&mut book, "slow", "a", Firing, 1_000, true).unwrap();
        let day = Timestamp(86_400_000);
        let mut book = Book::restored(book.iter().cloned().collect());
        book.expire(day);
        assert_eq!(book.get(&id).unwrap().state(), IncidentState::Firing, "a restart after a day");
        book.expire(day.plus(FORGOTTEN + Duration::from_secs(1)));
        assert_eq!(book.get(&id).unwrap().state(), IncidentState::Resolved);
        assert_eq!(book.take_changed().len(), 1);
    }

    #[test]
    fn the_baseline_leaves_out_an_earlier_incident() {
        let mut book = Book::default();
        hear(&mut book, "slow", "a", Firing, 1_000_000, true);
        hear(&mut book, "slow", "a", Resolved, 1_100_000, true);
        let id = hear(&mut book, "slow", "a", Firing, 1_300_000, true).unwrap();
        let incident = book.get(&id).unwrap();
        assert_eq!(incident.baseline, TimeRange::new(Timestamp(1_115_000), Timestamp(1_285_000)));
        assert_eq!(book.get(&incident.alerts[0].fingerprint.clone()).unwrap().id, id, "found by alert too");
    }
}
