use std::sync::Mutex;

use super::*;
use crate::CauseNote;
use crate::config::parse_config;
use crate::silence::SilenceRequest;

const S: i64 = 1000;

fn config(text: &str) -> Arc<Config> {
    Arc::new(parse_config("am.yml", text, None).unwrap())
}

const WEBHOOK: &str = "  webhook_configs: [{url: 'http://127.0.0.1:1/'}]";

fn simple(route: &str) -> Arc<Config> {
    config(&format!("route: {{receiver: r, group_by: [g], {route}}}\nreceivers:\n- name: r\n{WEBHOOK}\n"))
}

fn event(phase: AlertPhase, group: &str, instance: &str, at: i64) -> AlertEvent {
    AlertEvent {
        tenant: TenantId::anonymous(),
        labels: Labels::from_pairs([("alertname", "A"), ("g", group), ("i", instance)]),
        annotations: Labels::empty(),
        phase,
        active_at: Timestamp(at * S),
        at: Timestamp(at * S),
        value: 1.0,
        expr: "up == 0".into(),
        generator_url: String::new(),
    }
}

/// Runs a script of `<second> <what>` with what is sent in between: `+g/i` fires (and is repeated each
/// minute while it does), `-g/i` resolves, `fail` and `ok` set what receivers answer, `reload`, `end`.
#[track_caller]
fn check(config: Arc<Config>, script: &[(i64, &str)], want: &[&str]) {
    let mut machine = Machine::new(config.clone(), "http://w".into());
    let (mut sent, mut delivers) = (Vec::new(), true);
    let mut firing: BTreeSet<String> = BTreeSet::new();
    let mut script = script.iter().peekable();
    let mut second = 0;
    while script.peek().is_some() {
        let now = Timestamp(second * S);
        let split = |text: &str| text.split_once('/').map(|(g, i)| (g.to_owned(), i.to_owned())).unwrap();
        while let Some((_, what)) = script.next_if(|(at, _)| *at == second) {
            match (*what, what.split_at(1)) {
                ("fail", _) => delivers = false,
                ("ok", _) => delivers = true,
                ("reload", _) => machine.set_config(config.clone(), now),
                (_, ("+", name)) => {
                    firing.insert(name.to_owned());
                    let (g, i) = split(name);
                    machine.on_event(&event(AlertPhase::Firing, &g, &i, second), now);
                }
                (_, ("-", name)) => {
                    firing.remove(name);
                    let (g, i) = split(name);
                    machine.on_event(&event(AlertPhase::Resolved, &g, &i, second), now);
                }
                _ => {}
            }
        }
        if second % 60 == 0 {
            for name in &firing {
                let (g, i) = split(name);
                machine.on_event(&event(AlertPhase::Firing, &g, &i, second), now);
            }
        }
        for job in machine.tick(now) {
            let n = &job.notification;
            let alerts: Vec<String> = n
                .alerts
                .iter()
                .map(|a| format!("{}{}", if a.firing { '+' } else { '-' }, a.labels.value("i")))
                .collect();
            sent.push(format!("{second}s {} {}: {}", n.group_labels.value("g"), alerts.join(""), n.reason));
            machine.done(job.id, delivers, now);
        }
        second += 1;
    }
    assert_eq!(sent, want);
}

#[test]
fn groups_wait_gather_and_repeat() {
    let route = "group_wait: 10s, group_interval: 60s, repeat_interval: 5m";
    check(
        simple(route),
        &[(0, "+a/1"), (5, "+a/2"), (6, "+b/1"), (30, "+a/3"), (100, "-a/2"), (400, "end")],
        &[
            "10s a +1+2: first notification",
            "16s b +1: first notification",
            "70s a +1+2+3: new alerts added",
            "130s a +1-2+3: some alerts resolved",
            "376s b +1: repeat interval elapsed",
        ],
    );
}

#[test]
fn the_last_resolve_is_sent_and_the_group_starts_anew() {
    check(
        simple("group_wait: 0s, group_interval: 30s"),
        &[(0, "+a/1"), (40, "-a/1"), (100, "+a/1"), (140, "end")],
        &["0s a +1: first notification", "60s a -1: all alerts resolved", "100s a +1: first notification"],
    );
}

#[test]
fn a_failed_notification_is_tried_at_the_next_flush() {
    check(
        simple("group_wait: 0s, group_interval: 30s"),
        &[(0, "fail"), (0, "+a/1"), (20, "ok"), (50, "fail"), (55, "-a/1"), (80, "ok"), (140, "end")],
        &[
            "0s a +1: first notification",
            "30s a +1: first notification",
            "60s a -1: all alerts resolved",
            "90s a -1: all alerts resolved",
        ],
    );
}

#[test]
fn a_reload_repeats_nothing() {
    check(
        simple("group_wait: 0s, group_interval: 30s"),
        &[(0, "+a/1"), (40, "reload"), (100, "reload"), (200, "end")],
        &["0s a +1: first notification"],
    );
}

#[test]
fn a_sender_that_falls_silent_resolves_its_alerts() {
    let mut machine = Machine::new(simple("group_wait: 0s, group_interval: 30s"), "http://w".into());
    machine.on_event(&event(AlertPhase::Firing, "a", "1", 0), Timestamp(0));
    let mut reasons = Vec::new();
    for second in 0..400 {
        for job in machine.tick(Timestamp(second * S)) {
            reasons.push((second, job.notification.reason.clone()));
            machine.done(job.id, true, Timestamp(second * S));
        }
    }
    assert_eq!(reasons, [(0, "first notification".into()), (240, "all alerts resolved".into())]);
}

#[test]
fn pending_and_never_fired_alerts_notify_nobody() {
    let mut machine = Machine::new(simple("group_wait: 0s"), "http://w".into());
    machine.on_event(&event(AlertPhase::Pending, "a", "1", 0), Timestamp(0));
    machine.on_event(&event(AlertPhase::Resolved, "a", "1", 1), Timestamp(S));
    assert!(machine.tick(Timestamp(2 * S)).is_empty());
    assert!(machine.alerts(&TenantId::anonymous(), &[], Timestamp(2 * S)).is_empty());
}

#[test]
fn who_wants_no_resolves_gets_none_and_is_told_of_the_next_fire() {
    let text = format!(
        "route: {{receiver: r, group_by: [g], group_wait: 0s, group_interval: 30s}}\nreceivers:\n- name: r\n{}\n",
        "  webhook_configs: [{url: 'http://127.0.0.1:1/', send_resolved: false}]"
    );
    check(
        config(&text),
        &[(0, "+a/1"), (0, "+a/2"), (10, "-a/1"), (40, "-a/2"), (100, "+a/1"), (140, "end")],
        &["0s a +1+2: first notification", "100s a +1: first notification"],
    );
}

fn inhibiting() -> Arc<Config> {
    config(&format!(
        "route: {{receiver: r, group_by: [g], group_wait: 0s, group_interval: 30s}}\nreceivers:\n- name: r\n{WEBHOOK}\n\
         inhibit_rules:\n- {{source_matchers: [i=1], target_matchers: [i=~\"1|2\"], equal: [g]}}\n"
    ))
}

#[test]
fn inhibited_alerts_are_told_when_their_source_is_gone() {
    check(
        inhibiting(),
        &[(0, "+a/1"), (0, "+a/2"), (0, "+b/2"), (40, "-a/1"), (130, "end")],
        &["0s a +1: first notification", "0s b +2: first notification", "60s a -1+2: new alerts added"],
    );
}

#[test]
fn an_alert_that_resolves_while_muted_pages_when_it_fires_again() {
    check(
        inhibiting(),
        &[(0, "+a/2"), (0, "+a/3"), (40, "+a/1"), (70, "-a/2"), (130, "-a/1"), (200, "+a/2"), (250, "end")],
        &[
            "0s a +2+3: first notification",
            "60s a +1+3: new alerts added",
            "150s a -1+3: some alerts resolved",
            "210s a +2+3: new alerts added",
        ],
    );
}

#[test]
fn silences_mute_and_show() {
    let mut machine = Machine::new(simple("group_wait: 0s, group_interval: 30s"), "http://w".into());
    let tenant = TenantId::anonymous();
    let request = SilenceRequest {
        id: None,
        matchers: crate::parse_matchers("g=a").unwrap(),
        starts_at: Timestamp(0),
        ends_at: Timestamp(50 * S),
        created_by: "me".into(),
        comment: String::new(),
    };
    machine.silence(&tenant, request, "s1".into(), Timestamp(0)).unwrap();
    machine.on_event(&event(AlertPhase::Firing, "a", "1", 1), Timestamp(S));
    let shown = machine.alerts(&tenant, &[], Timestamp(2 * S));
    assert_eq!((shown.len(), &shown[0].silenced_by[..]), (1, &["s1".to_owned()][..]));
    let sent: Vec<i64> = (1..100)
        .filter(|s| {
            machine.tick(Timestamp(s * S)).into_iter().map(|j| machine.done(j.id, true, Timestamp(s * S))).count() > 0
        })
        .collect();
    assert_eq!(sent, [61]);
}

#[test]
fn no_flush_overtakes_a_slow_notification() {
    let mut machine = Machine::new(simple("group_wait: 0s, group_interval: 30s"), "http://w".into());
    machine.on_event(&event(AlertPhase::Firing, "a", "1", 0), Timestamp(0));
    let job = machine.tick(Timestamp(0)).remove(0);
    assert_eq!(job.deadline, Timestamp(30 * S));
    machine.on_event(&event(AlertPhase::Firing, "a", "2", 1), Timestamp(S));
    assert!(machine.tick(Timestamp(40 * S)).is_empty());
    machine.done(job.id, true, Timestamp(41 * S));
    assert_eq!(machine.tick(Timestamp(41 * S))[0].notification.reason, "new alerts added");
}

struct Known(Mutex<Option<&'static str>>);

impl Enricher for Known {
    fn lines(&self, _: &TenantId, _: u64) -> Option<CauseNote> {
        let key = (*self.0.lock().unwrap())?;
        Some(CauseNote {
            key: key.into(),
            title: format!("because of {key}"),
            lines: vec![],
            confidence: 0.9,
            url: String::new(),
        })
    }
}

#[test]
fn a_cause_that_becomes_known_updates_the_same_page_once() {
    let mut machine = Machine::new(simple("group_wait: 0s, group_interval: 5m"), "http://w".into());
    let known = Arc::new(Known(Mutex::new(None)));
    machine.set_enricher(known.clone());
    machine.on_event(&event(AlertPhase::Firing, "a", "1", 0), Timestamp(0));
    let mut sent = Vec::new();
    for second in 0..60 {
        *known.0.lock().unwrap() = match second {
            0..10 => None,
            10..30 => Some("index"),
            _ => Some("deployment"),
        };
        for job in machine.tick(Timestamp(second * S)) {
            let n = &job.notification;
            sent.push(format!("{second} {} {} {:?}", n.reason, n.group_key, n.cause.as_ref().map(|c| &*c.key)));
            machine.done(job.id, true, Timestamp(second * S));
        }
    }
    assert_eq!(
        sent,
        [
            r#"0 first notification {}:{g="a"} None"#,
            r#"10 cause known {}:{g="a"} Some("index")"#,
            r#"30 cause known {}:{g="a"} Some("deployment")"#,
        ]
    );
}

#[test]
fn tenants_do_not_see_each_other() {
    let mut machine = Machine::new(simple("group_wait: 0s"), "http://w".into());
    let other = TenantId::parse("other").unwrap();
    machine.on_event(&AlertEvent { tenant: other.clone(), ..event(AlertPhase::Firing, "a", "1", 0) }, Timestamp(0));
    assert!(machine.alerts(&TenantId::anonymous(), &[], Timestamp(1)).is_empty());
    assert_eq!(machine.groups(&other, &[], Timestamp(1)).len(), 1);
    let jobs = machine.tick(Timestamp(0));
    assert!(jobs[0].notification.incident_url.ends_with("?tenant=other"));
}

/// A machine that goes on from what the last one wrote down.
fn restarted(config: &Arc<Config>, state: &weir_state::State, now: i64) -> Machine {
    let mut machine = Machine::new(config.clone(), "http://w".into());
    machine.restore(state, Timestamp(now * S));
    machine
}

/// What is sent and delivered until `end`, one tick each second.
fn run(machine: &mut Machine, state: &weir_state::State, from: i64, end: i64) -> Vec<(i64, String, String)> {
    let mut sent = Vec::new();
    for second in from..end {
        let now = Timestamp(second * S);
        for job in machine.tick(now) {
            sent.push((second, job.notification.reason.clone(), job.kept.clone()));
            machine.keep(job.id, format!("ts{second}"));
            machine.done(job.id, true, now);
        }
        state.commit(machine.take_batch()).unwrap();
    }
    sent
}

#[test]
fn a_restart_neither_repeats_nor_loses() {
    let config = simple("group_wait: 10s, group_interval: 30s, repeat_interval: 1h");
    let state = weir_state::State::in_memory();
    let mut machine = restarted(&config, &state, 0);
    machine.on_event(&event(AlertPhase::Firing, "a", "1", 0), Timestamp(0));
    machine.on_event(&event(AlertPhase::Firing, "b", "1", 15), Timestamp(15 * S));
    let text = |t: &str| t.to_owned();
    assert_eq!(run(&mut machine, &state, 0, 20), [(10, text("first notification"), String::new())]);
    // Killed while `b` waits for its group: it is told after the restart, `a` is not told again.
    let mut machine = restarted(&config, &state, 40);
    assert_eq!(run(&mut machine, &state, 40, 100), [(40, text("first notification"), String::new())]);
    // Its rule says after another restart that `a` is over.
    let mut machine = restarted(&config, &state, 120);
    machine.on_event(&event(AlertPhase::Resolved, "a", "1", 121), Timestamp(121 * S));
    assert_eq!(run(&mut machine, &state, 121, 160), [(121, text("all alerts resolved"), text("ts10"))]);
    // Nobody speaks of `b` any more.
    let mut machine = restarted(&config, &state, 200);
    let later = run(&mut machine, &state, 200, 600);
    assert_eq!(later.iter().map(|(_, why, _)| &**why).collect::<Vec<_>>(), ["all alerts resolved"]);
}

#[test]
fn a_crash_between_notification_and_log_repeats_the_same_group_key_once() {
    let config = simple("group_wait: 0s, group_interval: 30s");
    let state = weir_state::State::in_memory();
    let mut machine = restarted(&config, &state, 0);
    machine.on_event(&event(AlertPhase::Firing, "a", "1", 0), Timestamp(0));
    let first = machine.tick(Timestamp(0)).remove(0);
    state.commit(machine.take_batch()).unwrap();
    // Delivered, and killed before `done` was heard of.
    let mut machine = restarted(&config, &state, 5);
    let again = machine.tick(Timestamp(5 * S));
    assert_eq!((again.len(), &again[0].notification.group_key), (1, &first.notification.group_key));
    machine.done(again[0].id, true, Timestamp(5 * S));
    state.commit(machine.take_batch()).unwrap();
    assert_eq!(run(&mut restarted(&config, &state, 10), &state, 10, 60), []);
}

#[test]
fn silences_outlive_a_restart() {
    let config = simple("group_wait: 0s");
    let state = weir_state::State::in_memory();
    let mut machine = restarted(&config, &state, 0);
    let tenant = TenantId::parse("t").unwrap();
    let request = SilenceRequest {
        id: None,
        matchers: crate::parse_matchers(r#"{g=~"a|b", i!="1"}"#).unwrap(),
        starts_at: Timestamp(0),
        ends_at: Timestamp(50 * S),
        created_by: "me".into(),
        comment: "c".into(),
    };
    machine.silence(&tenant, request, "s1".into(), Timestamp(0)).unwrap();
    state.commit(machine.take_batch()).unwrap();
    let before = machine.silences(&tenant);
    let mut machine = restarted(&config, &state, 1);
    assert_eq!(format!("{:?}", machine.silences(&tenant)), format!("{before:?}"));
    assert!(machine.expire_silence(&tenant, "s1", Timestamp(2 * S)));
    state.commit(machine.take_batch()).unwrap();
    let machine = restarted(&config, &state, 3);
    assert_eq!(machine.silences(&tenant)[0].ends_at, Timestamp(2 * S));
}

#[test]
fn a_muted_time_holds_pages_back_until_it_is_over() {
    // From 00:01 to 00:02 on any day; the tests begin at midnight of 1970.
    let config = config(&format!(
        "time_intervals: [{{name: n, time_intervals: [{{times: [{{start_time: '00:01', end_time: '00:02'}}]}}]}}]\n\
         route: {{receiver: r, group_by: [g], group_wait: 0s, group_interval: 10s, routes: [{{mute_time_intervals: [n], \
         labels: {{tier: '{{{{ .Status }}}}'}}}}]}}\nreceivers:\n- name: r\n{WEBHOOK}\n"
    ));
    let mut machine = Machine::new(config.clone(), "http://w".into());
    machine.on_event(&event(AlertPhase::Firing, "a", "1", 65), Timestamp(65 * S));
    let shown = machine.groups(&TenantId::anonymous(), &[], Timestamp(70 * S));
    assert_eq!((&shown[0].alerts[0].muted_by[..], shown[0].route_labels.len()), (&["n".to_owned()][..], 1));
    let mut sent = Vec::new();
    for second in 65..140 {
        for job in machine.tick(Timestamp(second * S)) {
            sent.push((second, job.notification.route_labels.value("tier").to_owned()));
            machine.done(job.id, true, Timestamp(second * S));
        }
    }
    assert_eq!(sent, [(125, "firing".to_owned())]);
}

#[test]
fn a_reload_does_not_lose_an_end() {
    check(
        simple("group_wait: 10s, group_interval: 30s, repeat_interval: 1h"),
        &[(0, "+a/1"), (20, "-a/1"), (20, "reload"), (80, "end")],
        &["10s a +1: first notification", "20s a -1: all alerts resolved"],
    );
}
