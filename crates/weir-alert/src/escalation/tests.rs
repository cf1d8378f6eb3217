use proptest::prelude::*;
use weir_state::State;

use super::*;
use crate::config::parse_config;
use crate::oncall::parse_oncall;

const MIN: i64 = 60_000;

/// Everybody has a telephone; times are those of the capstone document: 0, 5 and 10 minutes.
const FILE: &str = r#"
people:
- {name: ana, contacts: {phone: '1', push: 'http://127.0.0.1:1/a'}}
- {name: ben, contacts: {phone: '2', push: 'http://127.0.0.1:1/b'}}
- {name: lead, contacts: {phone: '3'}}
channels:
- {name: call, webhook_configs: [{url: 'http://127.0.0.1:1/call', send_resolved: false, payload: {to: '${phone}'}}]}
- {name: push, webhook_configs: [{url: '${push}'}]}
schedules:
- {name: primary, layers: [{people: [ana, ben], start: 1970-01-01, rotation: weekly}]}
- {name: backup, layers: [{people: [ben, ana], start: 1970-01-01, rotation: weekly}]}
- {name: nobody, layers: [{people: [ben], start: 2100-01-01, rotation: weekly}]}
chains:
- name: production
  steps:
  - {notify: [{schedule: primary}], wait: 5m}
  - {notify: [{schedule: backup}], wait: 5m}
  - {notify: [{person: lead}], wait: 5m}
- name: again
  repeat: 1
  steps:
  - {notify: [{schedule: nobody}], wait: 1m}
  - {notify: [{schedule: primary}, {person: ana}], channels: [push], wait: 1m}
- {name: chat, steps: [{notify: [{receiver: slack}]}]}
tiers:
- {name: T1, channels: [call], chain: production, out_of_band: outside}
- {name: T2, channels: [push, call], chain: again}
- {name: T3, chain: chat}
"#;

const RECEIVERS: &str = "route: {receiver: r}\nreceivers:\n- name: r\n\
    - {name: slack, webhook_configs: [{url: 'http://127.0.0.1:1/s'}]}\n\
    - {name: outside, webhook_configs: [{url: 'http://127.0.0.1:1/o'}]}\n";

fn alert(tier: &str, instance: &str) -> Labels {
    Labels::from_pairs([("alertname", "A"), ("tier", tier), ("instance", instance)])
}

/// The machine with a disk, alerts that fire, and receivers that answer as they are told.
struct World {
    machine: Escalations,
    state: State,
    alertmanager: Config,
    now: Timestamp,
    firing: BTreeSet<Labels>,
    muted: BTreeSet<Labels>,
    /// What receivers say; `None`: nothing yet.
    answer: Option<Result<(), ()>>,
    under_way: Vec<u64>,
    sent: Vec<String>,
}

impl World {
    fn new(file: &str) -> Self {
        let config = Arc::new(parse_oncall("oncall.yml", file, None).unwrap());
        let alertmanager = parse_config("am.yml", RECEIVERS, None).unwrap();
        config.check_receivers(&alertmanager).unwrap();
        Self {
            machine: Escalations::new(config),
            state: State::in_memory(),
            alertmanager,
            now: Timestamp(0),
            firing: BTreeSet::new(),
            muted: BTreeSet::new(),
            answer: Some(Ok(())),
            under_way: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn persist(&mut self) {
        let batch = self.machine.take_batch();
        self.state.commit(batch).unwrap();
    }

    fn fire(&mut self, labels: &Labels) {
        self.fire_in("r", "group", labels);
    }

    fn fire_in(&mut self, receiver: &str, group_key: &str, labels: &Labels) {
        self.firing.insert(labels.clone());
        let observed = Observed {
            tenant: TenantId::anonymous(),
            receiver: receiver.into(),
            group_key: group_key.into(),
            alerts: self.firing.iter().cloned().collect(),
        };
        self.machine.step(Input::Observed(observed), self.now);
    }

    fn tick(&mut self) {
        let (firing, muted) = (self.firing.clone(), self.muted.clone());
        let standing = |_: &TenantId, members: &BTreeSet<Labels>, _: bool| {
            let mut fires = members.iter().filter(|m| firing.contains(*m)).peekable();
            match (fires.peek().is_some(), fires.any(|m| !muted.contains(m))) {
                (false, _) => Standing::Over,
                (true, true) => Standing::Firing,
                (true, false) => Standing::Muted,
            }
        };
        let effects =
            self.machine.step(Input::Tick { standing: &standing, alertmanager: &self.alertmanager }, self.now);
        // Begun on disk before it is sent.
        self.persist();
        for effect in effects {
            let Effect::Send(job) = effect else { continue };
            let to = match &job.to {
                Recipient::Person { person, channel } => format!("{person} {channel}"),
                Recipient::Receiver(name) => name.clone(),
            };
            let over = if job.resolve { " over" } else { "" };
            self.sent.push(format!("{} {to}{over}", self.now.0 / MIN));
            match self.answer {
                Some(answer) => self.answered(job.id, answer),
                None => self.under_way.push(job.id),
            }
        }
    }

    fn answered(&mut self, job: u64, answer: Result<(), ()>) {
        let result = answer.map(|()| String::new()).map_err(|()| "refused".to_owned());
        self.machine.step(Input::Answered { job, result }, self.now);
        self.persist();
    }

    /// Ticks each minute until then.
    fn until(&mut self, minute: i64) {
        while self.now.0 < minute * MIN {
            self.tick();
            self.now.0 += MIN;
        }
        self.tick();
    }

    fn acknowledge(&mut self, which: Which) -> Vec<Effect> {
        let tenant = TenantId::anonymous();
        let input = Input::Acknowledge { tenant, which, by: "ana".into(), comment: String::new() };
        let effects = self.machine.step(input, self.now);
        self.persist();
        effects
    }

    /// As a process that dies here and starts again.
    fn crash(&mut self) {
        let config = self.machine.config().clone();
        self.machine = Escalations::new(config);
        self.machine.restore(&self.state);
        self.under_way.clear();
    }

    fn page(&self) -> Page {
        let pages = self.machine.pages(&TenantId::anonymous());
        assert_eq!(pages.len(), 1, "{pages:?}");
        pages[0].clone()
    }
}

#[test]
fn unacknowledged_it_goes_to_backup_and_lead_and_is_then_exhausted() {
    let mut w = World::new(FILE);
    w.fire(&alert("T1", "a"));
    w.until(14);
    assert_eq!(w.sent, ["0 ana call", "5 ben call", "10 lead call"]);
    assert_eq!(w.page().state, PageState::Escalating);
    w.until(60);
    assert_eq!((w.page().state, w.page().exhausted), (PageState::Exhausted, true));
    assert_eq!(w.sent[3..], ["15 outside"]);
    w.firing.clear();
    w.until(61);
    // Who had a call is not called to hear that it is over.
    assert_eq!(w.sent[4..], ["60 outside over"]);
    assert_eq!(w.page().state, PageState::Resolved);
}

#[test]
fn an_acknowledgement_stops_the_chain_and_the_page_lasts_as_long_as_its_alerts() {
    let mut w = World::new(FILE);
    w.fire(&alert("T1", "a"));
    w.until(3);
    let other = w.acknowledge(Which::Alerts(BTreeSet::from([1])));
    assert!(other.is_empty());
    let stopped = w.acknowledge(Which::Alerts(BTreeSet::from([alert("T1", "a").fingerprint()])));
    assert!(matches!(stopped[..], [Effect::Count(Event::Acknowledged), Effect::Stop(..)]), "{stopped:?}");
    // Flushed again, and with one more alert: somebody is on it.
    w.fire(&alert("T1", "b"));
    w.until(100);
    assert_eq!(w.sent, ["0 ana call"]);
    assert_eq!((w.page().state, w.page().members.len()), (PageState::Acknowledged, 2));
    w.firing.clear();
    w.until(101);
    let page = w.page();
    assert_eq!((page.state, page.ended_at), (PageState::Resolved, Some(Timestamp(100 * MIN))));
    let all = figures(std::iter::once(&page), weir_model::TimeRange::ALL, (22, 7), &jiff::tz::TimeZone::UTC);
    assert_eq!(all.all.mtta(), Some(Duration::from_secs(180)));
    assert_eq!(all.all.mttr(), Some(Duration::from_secs(100 * 60)));
    assert_eq!((all.all.acted_upon(), all.all.at_night), (Some(1.0), 1));
    assert_eq!(all.by_person.keys().collect::<Vec<_>>(), ["ana"]);
    assert_eq!(all.by_night.keys().collect::<Vec<_>>(), ["1969-12-31"]);
    // It fires anew: a new page.
    w.fire(&alert("T1", "a"));
    w.until(102);
    assert_eq!(w.sent.last().unwrap(), "101 ana call");
}

#[test]
fn an_acknowledgement_that_races_a_step_wins_whatever_comes_after() {
    let mut w = World::new(FILE);
    w.answer = None;
    w.fire(&alert("T1", "a"));
    w.until(5);
    assert_eq!(w.sent, ["0 ana call", "5 ben call"]);
    let id = w.page().id;
    w.acknowledge(Which::Page(id));
    assert!(w.page().told.iter().all(|t| t.outcome == Outcome::Stopped));
    assert!(w.under_way.iter().all(|job| !w.machine.wants(*job)), "a message is handed out and would still be sent");
    // Answers that were on their way change nothing, failures least of all.
    for (job, answer) in w.under_way.clone().into_iter().zip([Err(()), Ok(())]) {
        w.answered(job, answer);
    }
    w.until(30);
    assert_eq!((w.page().state, w.sent.len()), (PageState::Acknowledged, 2));
}

#[test]
fn silenced_alerts_end_the_page_and_fire_anew_later() {
    let mut w = World::new(FILE);
    w.fire(&alert("T1", "a"));
    w.until(2);
    w.muted = w.firing.clone();
    w.until(30);
    assert_eq!((w.page().state, w.sent.len()), (PageState::Muted, 1));
    w.muted.clear();
    w.fire(&alert("T1", "a"));
    w.until(31);
    assert_eq!(w.sent, ["0 ana call", "30 ana call"]);
}

#[test]
fn nobody_on_call_and_nobody_reached_go_on_at_once() {
    let mut w = World::new(FILE);
    w.fire(&alert("T2", "a"));
    w.until(1);
    // The first step has nobody; the second names one person twice, and both rounds come to an end.
    assert_eq!(w.sent, ["0 ana push", "1 ana push"]);
    assert_eq!(w.page().notes, ["step 1: nobody to tell"]);
    w.until(2);
    assert_eq!(w.page().state, PageState::Exhausted);

    let mut w = World::new(FILE);
    w.answer = Some(Err(()));
    w.fire(&alert("T1", "a"));
    w.tick();
    w.now.0 += 1000;
    w.tick();
    assert_eq!(w.sent, ["0 ana call", "0 outside", "0 ben call"], "the outside is told once");
    w.now.0 += 1000;
    w.tick();
    w.now.0 += 1000;
    w.tick();
    assert_eq!(w.sent[3..], ["0 lead call"]);
    assert_eq!(w.page().state, PageState::Exhausted);
    // More to act upon begins the chain anew.
    w.answer = Some(Ok(()));
    w.fire(&alert("T1", "b"));
    w.tick();
    assert_eq!(w.sent[4..], ["0 ana call"]);
}

#[test]
fn chat_expects_no_acknowledgement_and_is_told_of_the_end() {
    let mut w = World::new(FILE);
    w.fire(&alert("T3", "a"));
    w.until(10);
    assert_eq!((w.page().state, w.page().exhausted), (PageState::Told, false));
    w.firing.clear();
    w.until(11);
    assert_eq!(w.sent, ["0 slack", "10 slack over"]);

    let mut w = World::new(FILE);
    w.answer = Some(Err(()));
    w.fire(&alert("T3", "a"));
    w.until(1);
    assert_eq!(w.page().state, PageState::Exhausted, "nobody heard of it");
}

#[test]
fn one_alert_that_two_receivers_are_told_of_is_one_page() {
    let mut w = World::new(FILE);
    w.fire_in("r", "one", &alert("T1", "a"));
    w.fire_in("slack", "two", &alert("T1", "a"));
    w.until(1);
    assert_eq!((w.sent.len(), w.page().groups.len()), (1, 2));
}

#[test]
fn the_clock_may_jump() {
    let mut w = World::new(FILE);
    w.now = Timestamp(1000 * MIN);
    w.fire(&alert("T1", "a"));
    w.until(1001);
    // An hour back: the wait begins anew, not an hour later.
    w.now = Timestamp(940 * MIN);
    w.until(944);
    assert_eq!(w.sent, ["1000 ana call"]);
    w.until(945);
    assert_eq!(w.sent, ["1000 ana call", "945 ben call"]);
    // A day ahead: one step, not all that were due.
    w.now = Timestamp(2400 * MIN);
    w.tick();
    assert_eq!(w.sent[2..], ["2400 lead call"]);
}

#[test]
fn configurations_change_under_a_page() {
    let mut w = World::new(FILE);
    w.fire(&alert("T1", "a"));
    w.until(1);
    let load = |w: &mut World, text: &str| w.machine.set_config(Arc::new(parse_oncall("o", text, None).unwrap()));
    // Two in quick succession: nothing is told again.
    load(&mut w, &FILE.replace("wait: 5m", "wait: 7m"));
    load(&mut w, FILE);
    w.until(4);
    assert_eq!(w.sent, ["0 ana call"]);
    // The rest of the chain is gone, then all of it.
    let shorter =
        FILE.replace("  - {notify: [{schedule: backup}], wait: 5m}\n  - {notify: [{person: lead}], wait: 5m}\n", "");
    load(&mut w, &shorter);
    w.until(6);
    assert_eq!((w.page().state, w.sent.len()), (PageState::Exhausted, 2));
    let mut w = World::new(FILE);
    w.fire(&alert("T1", "a"));
    w.until(1);
    load(&mut w, "");
    w.until(6);
    assert_eq!(w.page().notes, ["chain production is not in the configuration any more"]);
}

#[test]
fn what_was_under_way_is_sent_again_after_a_crash_and_what_was_answered_is_not() {
    let mut w = World::new(FILE);
    w.answer = None;
    w.fire(&alert("T1", "a"));
    w.tick();
    w.crash();
    w.answer = Some(Ok(()));
    w.until(1);
    assert_eq!(w.sent, ["0 ana call", "0 ana call"]);
    w.crash();
    w.until(4);
    assert_eq!(w.sent.len(), 2);
    w.acknowledge(Which::Page(w.page().id));
    w.crash();
    w.until(30);
    assert_eq!((w.sent.len(), w.page().state), (2, PageState::Acknowledged));
}

#[test]
fn overrides_last_and_count() {
    let mut w = World::new(FILE);
    w.machine.add_override(Override {
        id: "1".into(),
        schedule: "primary".into(),
        person: "lead".into(),
        start: Timestamp(0),
        end: Timestamp(MIN),
        by: "x".into(),
        made_at: Timestamp(0),
    });
    w.persist();
    w.crash();
    w.fire(&alert("T1", "a"));
    w.until(1);
    assert_eq!(w.sent, ["0 lead call"]);
    assert!(w.machine.remove_override("1") && !w.machine.remove_override("1"));
}

proptest! {
    /// However often it dies, and whenever: everybody of the chain is told, in order, each at most once more than there
    /// were deaths.
    #[test]
    fn crashes_lose_nobody(deaths in proptest::collection::btree_set(0_i64..16, 0..6), mid_send: bool, forgets: bool) {
        let mut w = World::new(FILE);
        w.fire(&alert("T1", "a"));
        for minute in 0..=16 {
            w.now = Timestamp(minute * MIN);
            let dies = deaths.contains(&minute);
            w.answer = if dies && mid_send { None } else { Some(Ok(())) };
            w.tick();
            if dies {
                w.crash();
                // The group is flushed again after a start.
                if forgets {
                    w.fire(&alert("T1", "a"));
                }
                w.answer = Some(Ok(()));
                w.tick();
            }
        }
        let mut people: Vec<&str> = w.sent.iter().map(|s| s.split_once(' ').unwrap().1).collect();
        prop_assert!(people.len() <= 4 + deaths.len(), "{:?}", w.sent);
        people.dedup();
        prop_assert_eq!(people, ["ana call", "ben call", "lead call", "outside"]);
    }
}
