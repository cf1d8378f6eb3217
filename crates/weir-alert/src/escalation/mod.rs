//! Escalation: a page goes from step to step of its chain until somebody acknowledges it or its alerts are over.
//!
//! [`Escalations`] decides, over a time that is handed in; [`OnCall`] sends, and keeps what was decided. A page starts
//! when a group of alerts is notified: whatever mutes a notification mutes the page. A step that was begun is on disk
//! before it is sent, and sent again after a crash unless its answer is on disk too: a page may come twice in the
//! moment of a crash, with the same key, and never not at all.

mod figures;
mod link;
mod page;
mod runner;
mod store;
mod watchdog;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use weir_model::{Labels, TenantId, Timestamp};

use crate::config::{Config, Integration};
use crate::oncall::schedule::Override;
use crate::oncall::{OnCallConfig, Plan, Step, Target};

pub use figures::{Counted, Figures, figures};
pub use link::{Link, LinkError};
pub use page::{Acknowledged, Outcome, Page, PageState, Recipient, Told};
pub use runner::{OnCall, OverrideError};

/// Open pages at once, over all tenants; a group beyond it is looked at again at its next flush.
const OPEN_MAX: usize = 1000;
/// Alerts of one page.
const MEMBERS_MAX: usize = 500;
/// Messages of one page.
const TOLD_MAX: usize = 1000;
const NOTES_MAX: usize = 20;
/// Pages that are over, for the figures.
const HISTORY_MAX: usize = 5000;
const HISTORY: Duration = Duration::from_secs(90 * 24 * 3600);
/// Tries to deliver a message go on at least this long.
const BUDGET_MIN: Duration = Duration::from_secs(60);

/// A group of alerts was notified.
#[derive(Clone, Debug)]
pub struct Observed {
    pub tenant: TenantId,
    pub receiver: String,
    pub group_key: String,
    /// Those that fire and are not muted.
    pub alerts: Vec<Labels>,
}

/// How the alerts of a page stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Firing,
    /// Those that fire are silenced or inhibited.
    Muted,
    Over,
}

/// How the alerts of a tenant's page stand.
pub type Standings<'a> = &'a dyn Fn(&TenantId, &BTreeSet<Labels>, bool) -> Standing;

/// What is acknowledged.
#[derive(Clone, Debug)]
pub enum Which {
    /// By its id.
    Page(String),
    /// Every open page with one of these alerts.
    Alerts(BTreeSet<u64>),
}

pub enum Input<'a> {
    Observed(Observed),
    /// Time has passed. How alerts stand is asked of those who know.
    Tick {
        /// The last argument: whether inhibition counts, which is dear to find out.
        standing: Standings<'a>,
        alertmanager: &'a Config,
    },
    /// What became of a message: what the receiver wants kept, or why it did not come.
    Answered {
        job: u64,
        result: Result<String, String>,
    },
    Acknowledge {
        tenant: TenantId,
        which: Which,
        by: String,
        comment: String,
    },
}

#[derive(Debug)]
pub enum Effect {
    Send(Box<PageJob>),
    /// Messages of this page that are not sent yet are not wanted any more.
    Stop(TenantId, String),
    /// For the counters.
    Count(Event),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Started,
    Refused,
    Exhausted,
    Acknowledged,
}

/// A message to send.
#[derive(Clone, Debug)]
pub struct PageJob {
    pub id: u64,
    pub tenant: TenantId,
    pub page: String,
    pub to: Recipient,
    pub integration: Integration,
    /// It says that the page is over.
    pub resolve: bool,
    pub members: BTreeSet<Labels>,
    /// For people, such as `step 2 of 3`.
    pub reason: String,
    /// Until when the link in it acknowledges.
    pub link_until: Timestamp,
    pub kept: String,
    pub deadline: Timestamp,
}

type PageId = (TenantId, String);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Record {
    Page(PageId),
    Override(String),
}

struct InFlight {
    page: PageId,
    told: usize,
    resolve: bool,
}

/// The pure machine. See [`Escalations::step`].
pub struct Escalations {
    config: Arc<OnCallConfig>,
    pages: BTreeMap<PageId, Page>,
    overrides: BTreeMap<String, Override>,
    in_flight: HashMap<u64, InFlight>,
    next_job: u64,
    /// Messages that an earlier run left under way are looked for once.
    resent: bool,
    dirty: BTreeSet<Record>,
}

impl Escalations {
    pub fn new(config: Arc<OnCallConfig>) -> Self {
        Self {
            config,
            pages: BTreeMap::new(),
            overrides: BTreeMap::new(),
            in_flight: HashMap::new(),
            next_job: 1,
            resent: false,
            dirty: BTreeSet::new(),
        }
    }

    pub fn config(&self) -> &Arc<OnCallConfig> {
        &self.config
    }

    /// Pages go on where they are; of a chain that is shorter now, after its end.
    pub fn set_config(&mut self, config: Arc<OnCallConfig>) {
        self.config = config;
    }

    pub fn overrides(&self) -> Vec<Override> {
        self.overrides.values().cloned().collect()
    }

    /// Newest first.
    pub fn pages(&self, tenant: &TenantId) -> Vec<Page> {
        let of_tenant = self.pages.iter().filter(|((t, _), _)| t == tenant);
        let mut pages: Vec<Page> = of_tenant.map(|(_, page)| page.clone()).collect();
        pages.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
        pages
    }

    pub fn page(&self, tenant: &TenantId, id: &str) -> Option<&Page> {
        self.pages.get(&(tenant.clone(), id.to_owned()))
    }

    /// Whether a message that was handed out is still to be sent.
    pub fn wants(&self, job: u64) -> bool {
        self.in_flight.contains_key(&job)
    }

    pub fn n_open(&self) -> usize {
        self.pages.values().filter(|p| p.state.is_open()).count()
    }

    /// When [`Input::Tick`] begins a step; pages that are open should be looked at more often, for their end.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.pages.values().filter(|p| p.state == PageState::Escalating).filter_map(|p| p.next_at).min()
    }

    pub fn step(&mut self, input: Input<'_>, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Observed(observed) => self.observe(observed, now, &mut effects),
            Input::Tick { standing, alertmanager } => self.tick(standing, alertmanager, now, &mut effects),
            Input::Answered { job, result } => self.answered(job, result, now),
            Input::Acknowledge { tenant, which, by, comment } => {
                let ack = Acknowledged { by, at: now, comment };
                self.acknowledge(&tenant, &which, &ack, &mut effects);
            }
        }
        effects
    }

    /// Starts a page for each plan of the group's alerts, or lets them join the page that there is.
    fn observe(&mut self, observed: Observed, now: Timestamp, effects: &mut Vec<Effect>) {
        let mut plans: BTreeMap<Plan, Vec<Labels>> = BTreeMap::new();
        for labels in observed.alerts {
            if let Some(plan) = self.config.plan(&observed.receiver, &labels) {
                plans.entry(plan).or_default().push(labels);
            }
        }
        let group = (observed.receiver, observed.group_key);
        for (plan, alerts) in plans {
            let joined = self.pages.iter_mut().find(|((tenant, _), page)| {
                *tenant == observed.tenant
                    && page.state.is_open()
                    && (&page.chain, &page.tier) == (&plan.chain, &plan.tier)
                    && (page.groups.contains(&group) || alerts.iter().any(|a| page.members.contains(a)))
            });
            if let Some((id, page)) = joined {
                let new = alerts.iter().any(|a| !page.members.contains(a)) && page.members.len() < MEMBERS_MAX;
                if new || !page.groups.contains(&group) {
                    page.groups.insert(group.clone());
                    let room = MEMBERS_MAX - page.members.len().min(MEMBERS_MAX);
                    let fresh: Vec<Labels> =
                        alerts.into_iter().filter(|a| !page.members.contains(a)).take(room).collect();
                    page.members.extend(fresh);
                    self.dirty.insert(Record::Page(id.clone()));
                }
                // Nobody is on it, and there is more to act upon.
                if new && matches!(page.state, PageState::Told | PageState::Exhausted) {
                    (page.state, page.step, page.round) = (PageState::Escalating, None, 0);
                    (page.step_at, page.next_at, page.out_of_band) = (now, Some(now), false);
                }
                continue;
            }
            if self.n_open() >= OPEN_MAX {
                effects.push(Effect::Count(Event::Refused));
                continue;
            }
            self.start(&observed.tenant, group.clone(), plan, alerts, now);
            effects.push(Effect::Count(Event::Started));
        }
    }

    fn start(&mut self, tenant: &TenantId, group: (String, String), plan: Plan, alerts: Vec<Labels>, now: Timestamp) {
        let first = alerts.first().cloned().unwrap_or_else(Labels::empty);
        let rule = first.value("alertname").to_owned();
        let about = ["service", "job", "instance"].into_iter().find_map(|name| first.get(name));
        let title = match (about, alerts.len()) {
            (Some(about), 1) => format!("{rule} ({about})"),
            (None, 1) => rule.clone(),
            (_, n) => format!("{rule} and {} more", n - 1),
        };
        let named = format!("{tenant}\0{group:?}\0{plan:?}\0{}\0{first}", now.0);
        let id = hex::encode(&Sha256::digest(named)[..8]);
        let page = Page {
            id: id.clone(),
            chain: plan.chain,
            tier: plan.tier,
            rule,
            title,
            groups: BTreeSet::from([group]),
            members: alerts.into_iter().take(MEMBERS_MAX).collect(),
            state: PageState::Escalating,
            started_at: now,
            step: None,
            round: 0,
            step_at: now,
            next_at: Some(now),
            told: Vec::new(),
            notes: Vec::new(),
            acknowledged: None,
            ended_at: None,
            out_of_band: false,
            exhausted: false,
        };
        let id = (tenant.clone(), id);
        self.dirty.insert(Record::Page(id.clone()));
        self.pages.insert(id, page);
    }

    fn tick(&mut self, standing: Standings<'_>, alertmanager: &Config, now: Timestamp, effects: &mut Vec<Effect>) {
        if !self.resent {
            self.resent = true;
            self.send_again(alertmanager, now, effects);
        }
        let open: Vec<PageId> =
            self.pages.iter().filter(|(_, p)| p.state.is_open()).map(|(id, _)| id.clone()).collect();
        for id in open {
            let Some(page) = self.pages.get_mut(&id) else { continue };
            let reached = |t: &Told| !matches!(t.outcome, Outcome::Failed(..));
            let escalating = page.state == PageState::Escalating;
            let nobody = escalating && page.current().next().is_some() && !page.current().any(reached);
            let due = |p: &Page| nobody || (escalating && p.next_at.is_some_and(|at| at <= now));
            let stands = standing(&id.0, &page.members, due(page));
            // Somebody is on it, and it is not over because of a silence.
            if stands == Standing::Over || (stands == Standing::Muted && page.state != PageState::Acknowledged) {
                self.end(&id, stands, alertmanager, now, effects);
                continue;
            }
            if escalating && page.step_at > now {
                // The clock went back: the wait begins anew, and is not as much longer.
                let wait = page.next_at.map(|at| at.since(page.step_at));
                (page.step_at, page.next_at) = (now, wait.map(|wait| now.plus(wait)));
                self.dirty.insert(Record::Page(id.clone()));
            }
            let due = due(page);
            if nobody {
                self.tell_out_of_band(&id, alertmanager, now, effects);
            }
            if due {
                self.advance(&id, alertmanager, now, effects);
            }
        }
        self.forget(now);
    }

    /// Begins the next step that has somebody to tell, or ends the chain.
    fn advance(&mut self, id: &PageId, alertmanager: &Config, now: Timestamp, effects: &mut Vec<Effect>) {
        let config = self.config.clone();
        loop {
            let Some(page) = self.pages.get_mut(id) else { return };
            self.dirty.insert(Record::Page(id.clone()));
            let chain = config.chain(&page.chain);
            let (n_steps, repeat) = chain.map_or((0, 0), |c| (c.steps.len(), c.repeat));
            let mut next = page.step.map_or(0, |step| step + 1);
            if next >= n_steps && page.round < repeat {
                (next, page.round) = (0, page.round + 1);
            }
            let Some(step) = chain.and_then(|c| c.steps.get(next)) else {
                (page.state, page.next_at, page.exhausted) = (PageState::Exhausted, None, true);
                if chain.is_none() {
                    note(page, format!("chain {} is not in the configuration any more", page.chain));
                }
                effects.push(Effect::Count(Event::Exhausted));
                self.tell_out_of_band(id, alertmanager, now, effects);
                return;
            };
            let recipients = self.recipients(id, step, alertmanager, now);
            let Some(page) = self.pages.get_mut(id) else { return };
            (page.step, page.step_at) = (Some(next), now);
            page.next_at = step.wait.map(|wait| now.plus(wait));
            if recipients.is_empty() {
                note(page, format!("step {}: nobody to tell", next + 1));
                continue;
            }
            if step.wait.is_none() {
                page.state = PageState::Told;
            }
            for (to, n_integrations) in recipients {
                for integration in 0..n_integrations {
                    self.tell(id, to.clone(), integration, alertmanager, now, effects);
                }
            }
            return;
        }
    }

    /// Each person once by each channel; with the number of integrations.
    fn recipients(&self, id: &PageId, step: &Step, alertmanager: &Config, now: Timestamp) -> Vec<(Recipient, usize)> {
        let Some(page) = self.pages.get(id) else { return Vec::new() };
        let tier = page.tier.as_ref().and_then(|name| self.config.tier(name));
        let none = Vec::new();
        let channels = step.channels.as_ref().or(tier.map(|t| &t.channels)).unwrap_or(&none);
        let made = self.overrides();
        let mut out: Vec<(Recipient, usize)> = Vec::new();
        for target in &step.notify {
            if let Target::Receiver(name) = target {
                out.push((Recipient::Receiver(name.clone()), n_integrations(alertmanager, name)));
                continue;
            }
            let Some(person) = self.config.person_of(target, &made, now) else { continue };
            let reached = channels.iter().filter_map(|c| Some((c, self.config.reach(&person, c)?.len())));
            // Somebody who stands in and has none of the channels is told by whatever reaches them.
            let mut by: Vec<(&String, usize)> = reached.collect();
            if by.is_empty() {
                by = self.config.any_reach(&person).collect();
            }
            for (channel, n) in by {
                let to = Recipient::Person { person: person.clone(), channel: channel.clone() };
                if !out.iter().any(|(other, _)| *other == to) {
                    out.push((to, n));
                }
            }
        }
        out.retain(|(_, n)| *n > 0);
        out
    }

    /// Once for a page whose messages do not come through.
    fn tell_out_of_band(&mut self, id: &PageId, alertmanager: &Config, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(page) = self.pages.get_mut(id) else { return };
        let tier = page.tier.as_ref().and_then(|name| self.config.tier(name));
        let Some(receiver) = tier.and_then(|t| t.out_of_band.clone()).filter(|_| !page.out_of_band) else { return };
        page.out_of_band = true;
        for integration in 0..n_integrations(alertmanager, &receiver) {
            self.tell(id, Recipient::Receiver(receiver.clone()), integration, alertmanager, now, effects);
        }
    }

    fn tell(
        &mut self,
        id: &PageId,
        to: Recipient,
        integration: usize,
        alertmanager: &Config,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let Some(page) = self.pages.get_mut(id) else { return };
        if page.told.len() >= TOLD_MAX {
            note(page, "too many messages; no more are sent".to_owned());
            return;
        }
        let (step, round) = (page.step.unwrap_or_default(), page.round);
        page.told.push(Told {
            to,
            integration,
            step,
            round,
            at: now,
            outcome: Outcome::UnderWay,
            resolve: None,
            kept: String::new(),
        });
        let told = page.told.len() - 1;
        self.dirty.insert(Record::Page(id.clone()));
        self.send(id, told, false, alertmanager, now, effects);
    }

    /// Hands out a message that is noted in the page.
    fn send(
        &mut self,
        id: &PageId,
        told: usize,
        resolve: bool,
        alertmanager: &Config,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let Some(page) = self.pages.get_mut(id) else { return };
        let Some(message) = page.told.get_mut(told) else { return };
        let found = match &message.to {
            Recipient::Person { person, channel } => {
                self.config.reach(person, channel).and_then(|all| all.get(message.integration))
            }
            Recipient::Receiver(name) => {
                let receiver = alertmanager.receivers.iter().find(|r| r.name == *name);
                receiver.and_then(|r| r.integrations.get(message.integration))
            }
        };
        let Some(integration) = found.filter(|i| !resolve || i.send_resolved) else {
            if !resolve {
                message.outcome = Outcome::Failed(now, "it is not in the configuration any more".to_owned());
            }
            return;
        };
        if resolve {
            message.resolve = Some(Outcome::UnderWay);
        }
        let n_steps = self.config.chain(&page.chain).map_or(0, |c| c.steps.len());
        let wait = page.next_at.map_or(Duration::ZERO, |at| at.since(now));
        let job = PageJob {
            id: self.next_job,
            tenant: id.0.clone(),
            page: page.id.clone(),
            to: message.to.clone(),
            integration: integration.clone(),
            resolve,
            members: page.members.clone(),
            reason: match resolve {
                true => "page is over".to_owned(),
                false => format!("on call, step {} of {n_steps}", message.step + 1),
            },
            link_until: page.started_at.plus(self.config.link_life),
            kept: if resolve { message.kept.clone() } else { String::new() },
            deadline: now.plus(wait.max(BUDGET_MIN)),
        };
        self.next_job += 1;
        self.in_flight.insert(job.id, InFlight { page: id.clone(), told, resolve });
        effects.push(Effect::Send(Box::new(job)));
    }

    /// What an earlier run began and of which no answer is known.
    fn send_again(&mut self, alertmanager: &Config, now: Timestamp, effects: &mut Vec<Effect>) {
        let mut again = Vec::new();
        for (id, page) in &self.pages {
            for (idx, told) in page.told.iter().enumerate() {
                let wanted = page.state.is_open() && page.state != PageState::Acknowledged;
                if told.outcome == Outcome::UnderWay && wanted {
                    again.push((id.clone(), idx, false));
                }
                if told.resolve == Some(Outcome::UnderWay) {
                    again.push((id.clone(), idx, true));
                }
            }
        }
        for (id, told, resolve) in again {
            self.send(&id, told, resolve, alertmanager, now, effects);
        }
    }

    fn answered(&mut self, job: u64, result: Result<String, String>, now: Timestamp) {
        let Some(in_flight) = self.in_flight.remove(&job) else { return };
        let Some(page) = self.pages.get_mut(&in_flight.page) else { return };
        let Some(told) = page.told.get_mut(in_flight.told) else { return };
        let outcome = match result {
            Ok(kept) => {
                told.kept = kept;
                Outcome::Sent(now)
            }
            Err(reason) => Outcome::Failed(now, reason),
        };
        if in_flight.resolve {
            told.resolve = Some(outcome);
        } else if told.outcome == Outcome::UnderWay || matches!(outcome, Outcome::Sent(_)) {
            told.outcome = outcome;
        }
        // The chain had no more steps, and nobody heard of it.
        let failed = |t: &Told| matches!(t.outcome, Outcome::Failed(..));
        if page.state == PageState::Told && page.current().all(failed) {
            (page.state, page.next_at) = (PageState::Escalating, Some(now));
        }
        self.dirty.insert(Record::Page(in_flight.page));
    }

    fn acknowledge(&mut self, tenant: &TenantId, which: &Which, ack: &Acknowledged, effects: &mut Vec<Effect>) {
        for (id, page) in &mut self.pages {
            let meant = match which {
                Which::Page(page_id) => *page_id == id.1,
                Which::Alerts(fingerprints) => page.members.iter().any(|m| fingerprints.contains(&m.fingerprint())),
            };
            if id.0 != *tenant || !meant || !page.state.is_open() {
                continue;
            }
            if page.acknowledged.is_none() {
                effects.push(Effect::Count(Event::Acknowledged));
                // The first counts: it is the time until somebody was on it.
                page.acknowledged = Some(ack.clone());
            }
            (page.state, page.next_at) = (PageState::Acknowledged, None);
            stop(page);
            self.in_flight.retain(|_, f| f.resolve || f.page != *id);
            effects.push(Effect::Stop(id.0.clone(), id.1.clone()));
            self.dirty.insert(Record::Page(id.clone()));
        }
    }

    /// The page is over; receivers that were told and want to know are told so.
    fn end(
        &mut self,
        id: &PageId,
        standing: Standing,
        alertmanager: &Config,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        let Some(page) = self.pages.get_mut(id) else { return };
        page.state = if standing == Standing::Muted { PageState::Muted } else { PageState::Resolved };
        (page.ended_at, page.next_at) = (Some(now), None);
        stop(page);
        self.in_flight.retain(|_, f| f.page != *id);
        let mut told_of: BTreeMap<(Recipient, usize), usize> = BTreeMap::new();
        for (idx, told) in page.told.iter().enumerate() {
            if matches!(told.outcome, Outcome::Sent(_)) {
                told_of.insert((told.to.clone(), told.integration), idx);
            }
        }
        self.dirty.insert(Record::Page(id.clone()));
        effects.push(Effect::Stop(id.0.clone(), id.1.clone()));
        for told in told_of.into_values() {
            self.send(id, told, true, alertmanager, now, effects);
        }
    }

    /// Pages that are over, beyond what is kept.
    fn forget(&mut self, now: Timestamp) {
        let over = |p: &Page| !p.state.is_open();
        let n_over = self.pages.values().filter(|p| over(p)).count();
        let oldest = self.pages.values().filter(|p| over(p)).filter_map(|p| p.ended_at).min();
        let too_old = now.minus(HISTORY);
        if n_over <= HISTORY_MAX && oldest.is_none_or(|at| at >= too_old) {
            return;
        }
        let mut by_age: Vec<(Timestamp, PageId)> = Vec::new();
        for (id, page) in &self.pages {
            by_age.extend(page.ended_at.filter(|_| over(page)).map(|at| (at, id.clone())));
        }
        by_age.sort();
        let surplus = n_over.saturating_sub(HISTORY_MAX);
        for (idx, (at, id)) in by_age.into_iter().enumerate() {
            if idx < surplus || at < too_old {
                self.pages.remove(&id);
                self.dirty.insert(Record::Page(id));
            }
        }
    }

    pub fn add_override(&mut self, over: Override) {
        self.dirty.insert(Record::Override(over.id.clone()));
        self.overrides.insert(over.id.clone(), over);
    }

    /// Whether it was there.
    pub fn remove_override(&mut self, id: &str) -> bool {
        self.dirty.insert(Record::Override(id.to_owned()));
        self.overrides.remove(id).is_some()
    }
}

fn n_integrations(alertmanager: &Config, receiver: &str) -> usize {
    alertmanager.receivers.iter().find(|r| r.name == receiver).map_or(0, |r| r.integrations.len())
}

fn note(page: &mut Page, text: String) {
    if page.notes.len() < NOTES_MAX && !page.notes.contains(&text) {
        page.notes.push(text);
    }
}

/// Messages that are under way are not wanted any more.
fn stop(page: &mut Page) {
    for told in page.told.iter_mut().filter(|t| t.outcome == Outcome::UnderWay) {
        told.outcome = Outcome::Stopped;
    }
}

#[cfg(test)]
mod tests;
