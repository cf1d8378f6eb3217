use proptest::prelude::*;

use super::*;

const S: i64 = 1000;

fn timing(hold: u64, keep: u64) -> Timing {
    Timing { hold: Duration::from_secs(hold), keep_firing_for: Duration::from_secs(keep) }
}

#[test]
fn the_grid_moves_states_as_upstream_does() {
    use AlertState::*;
    let at = |s: i64| Timestamp(s * S);
    let firing = |since, absent: Option<i64>| Firing { since: at(since), absent_since: absent.map(at) };
    let check = |state: AlertState, active, hold, keep, now, want: AlertState| {
        assert_eq!(
            state.step(active, timing(hold, keep), at(now)),
            want,
            "{state:?} {active} for {hold} keep {keep} at {now}"
        );
    };
    check(Inactive, false, 0, 0, 10, Inactive);
    check(Inactive, true, 0, 0, 10, firing(10, None));
    check(Inactive, true, 30, 0, 10, Pending { since: at(10) });
    check(Pending { since: at(10) }, true, 30, 0, 39, Pending { since: at(10) });
    check(Pending { since: at(10) }, true, 30, 0, 40, firing(10, None));
    check(Pending { since: at(10) }, false, 30, 60, 20, Inactive);
    check(firing(10, None), true, 30, 0, 50, firing(10, None));
    check(firing(10, None), false, 30, 0, 50, Inactive);
    check(firing(10, None), false, 0, 20, 50, firing(10, Some(50)));
    check(firing(10, Some(50)), false, 0, 20, 69, firing(10, Some(50)));
    check(firing(10, Some(50)), true, 0, 20, 69, firing(10, None));
    check(firing(10, Some(50)), false, 0, 20, 70, Inactive);
}

fn found(n: u32) -> Vec<Active> {
    let active = |i: u32| Active {
        labels: Labels::from_pairs([("alertname", "A".to_owned()), ("i", i.to_string())]),
        annotations: Labels::empty(),
        value: 1.0,
        element: Labels::from_pairs([("i", i.to_string())]),
    };
    (0..n).map(active).collect()
}

/// Steps `g<second>+` (grid, holds), `g<second>-`, `a<second>+`, `a<second>-` (arrival), and what
/// listeners hear.
#[track_caller]
fn check(hold: u64, keep: u64, steps: &str, want: &str) {
    let mut machine = AlertMachine::new(timing(hold, keep), 0);
    let mut heard = Vec::new();
    for step in steps.split_whitespace() {
        let now = Timestamp(step[1..step.len() - 1].parse::<i64>().unwrap() * S);
        let found = found(u32::from(step.ends_with('+')));
        let out = if step.starts_with('g') { machine.on_grid(now, found) } else { machine.on_arrival(now, found) };
        for t in out.unwrap() {
            let again = if t.repeated { "again " } else { "" };
            heard.push(format!("{again}{:?}@{} since {}", t.phase, t.at.0 / S, t.active_at.0 / S));
        }
    }
    assert_eq!(heard.join(", "), want, "{steps}");
}

#[test]
fn listeners_hear_each_transition_once() {
    check(0, 0, "g0- g15+ g30+ g45-", "Firing@15 since 15, Resolved@45 since 15");
    check(20, 0, "g15+ g30+ g45+ g60-", "Pending@15 since 15, Firing@45 since 15, Resolved@60 since 15");
    check(60, 0, "g15+ g30- g45-", "Pending@15 since 15, Resolved@30 since 15");
    check(0, 0, "g0+ g30+ g60+ g90+", "Firing@0 since 0, again Firing@0 since 0");
    check(0, 0, "g0+ g15- g75- g80-", "Firing@0 since 0, Resolved@15 since 0, again Resolved@15 since 0");
    check(0, 0, "g0+ g15- g30+", "Firing@0 since 0, Resolved@15 since 0, Firing@30 since 30");
    check(0, 30, "g0+ g15- g30- g45-", "Firing@0 since 0, Resolved@45 since 0");
}

#[test]
fn arrivals_bring_forward_and_never_take_back() {
    check(0, 0, "g0- a3+ g15+ g30-", "Firing@3 since 3, Resolved@30 since 3");
    check(0, 0, "a3+ a4- a5- g15-", "Firing@3 since 3, Resolved@15 since 3");
    check(20, 0, "a3+ g15+ a23+ g30+", "Pending@3 since 3, Firing@23 since 3");
    check(20, 0, "a3+ a5- a7+ a24+ a27+ g30+", "Pending@3 since 3, Firing@27 since 3");
    check(20, 0, "a3+ g15- a23+ g30+", "Pending@3 since 3, Resolved@15 since 3, Pending@23 since 23");
    check(20, 0, "g15+ a20+ a34+ a35+ g45+", "Pending@15 since 15, Firing@35 since 15");
    check(0, 0, "g0+ a3- g15+", "Firing@0 since 0");
}

/// Stops after the steps before `|` and goes on with those after it, ten seconds later by the clock.
#[track_caller]
fn check_restart(hold: u64, before: &str, after: &str, want: &str) {
    let mut machine = AlertMachine::new(timing(hold, 0), 0);
    let mut now = Timestamp(0);
    for step in before.split_whitespace() {
        now = Timestamp(step[..step.len() - 1].parse::<i64>().unwrap() * S);
        machine.on_grid(now, found(u32::from(step.ends_with('+')))).unwrap();
    }
    let text = serde_json::to_string(&machine.stored()).unwrap();
    let mut machine = AlertMachine::new(timing(hold, 0), 0);
    machine.restore(serde_json::from_str(&text).unwrap(), now, now.plus(Duration::from_secs(10)));
    let mut heard = Vec::new();
    for step in after.split_whitespace() {
        let now = Timestamp(step[..step.len() - 1].parse::<i64>().unwrap() * S);
        for t in machine.on_grid(now, found(u32::from(step.ends_with('+')))).unwrap() {
            heard.push(format!("{}{:?}@{}", if t.repeated { "again " } else { "" }, t.phase, now.0 / S));
        }
    }
    assert_eq!(heard.join(", "), want, "{before} | {after}");
}

#[test]
fn a_restart_neither_repeats_nor_forgets() {
    // What fires is repeated to listeners, which know by themselves what they said.
    check_restart(0, "0+", "15+ 30- 45+ 60-", "again Firing@15, Resolved@30, Firing@45, Resolved@60");
    // 30 s of 60 s held before; ten seconds down do not count.
    check_restart(60, "0+ 15+ 30+", "45+ 60+ 69+ 70+", "Firing@70");
    // No series has come again yet: that is no resolve, for as long as a query looks back.
    check_restart(0, "0+", "15- 30- 300- 309- 310-", "again Firing@15, again Firing@300, Resolved@310");
    check_restart(60, "0+", "3700+", "Firing@3700");
    check_restart(0, "0+ 15-", "30+", "Firing@30");
}

#[test]
fn series_follow_the_grid_alone() {
    let mut machine = AlertMachine::new(timing(20, 0), 0);
    machine.on_arrival(Timestamp(3 * S), found(1)).unwrap();
    assert_eq!(machine.series(), []);
    machine.on_grid(Timestamp(15 * S), found(1)).unwrap();
    let shown: Vec<String> = machine.series().iter().map(|(l, v)| format!("{l} {v}")).collect();
    assert_eq!(
        shown,
        [r#"ALERTS{alertname="A", alertstate="pending", i="0"} 1"#, r#"ALERTS_FOR_STATE{alertname="A", i="0"} 15"#]
    );
}

#[test]
fn duplicates_and_too_many_alerts_are_errors() {
    let mut machine = AlertMachine::new(timing(0, 0), 2);
    let twice = [found(1), found(1)].concat();
    assert!(matches!(machine.on_grid(Timestamp(0), twice), Err(StepError::Duplicate { .. })));
    assert!(machine.on_grid(Timestamp(0), found(2)).is_ok());
    assert_eq!(machine.on_grid(Timestamp(S), found(3)), Err(StepError::Limit { limit: 2, n: 3 }));
    assert_eq!(machine.clear(Timestamp(S)).len(), 2);
    assert_eq!(machine.alerts().count(), 0);
}

proptest! {
    /// Random conditions, grid every 15 s, arrivals between: the series equal plain interval
    /// evaluation; every alert that fires on the grid was announced as firing, not later than the
    /// grid; none fires whose condition had not held at each look for the whole of `for`.
    #[test]
    fn arrivals_never_contradict_the_grid(
        seconds in proptest::collection::vec((any::<bool>(), any::<bool>(), 0_u8..4), 20..160),
        hold in prop_oneof![Just(0_u64), Just(5), Just(20), Just(40)],
        keep in prop_oneof![Just(0_u64), Just(30)],
    ) {
        let mut plain = AlertMachine::new(timing(hold, keep), 0);
        let mut early = AlertMachine::new(timing(hold, keep), 0);
        let mut held = true;
        let (mut looks, mut firing) = (Vec::new(), false);
        for (second, (flip, arrives, rare)) in seconds.iter().enumerate() {
            let now = Timestamp(second as i64 * S);
            held ^= *flip && *rare == 0;
            let active = || found(u32::from(held));
            let grid = second % 15 == 0;
            if !grid && !arrives {
                continue;
            }
            looks.push((now, held));
            let told = if grid { early.on_grid(now, active()).unwrap() } else { early.on_arrival(now, active()).unwrap() };
            for t in told {
                match t.phase {
                    AlertPhase::Firing if !t.repeated => {
                        prop_assert!(!firing, "fires twice");
                        prop_assert!(held, "fires while the condition does not hold");
                        let hold = Duration::from_secs(hold);
                        if !grid {
                            let broken = looks.iter().any(|(at, h)| !h && now.since(*at) < hold);
                            prop_assert!(!broken, "condition broke within `for` before {now:?}");
                            prop_assert!(now.since(looks[0].0) >= hold);
                        }
                        firing = true;
                    }
                    AlertPhase::Resolved if !t.repeated => {
                        prop_assert!(grid, "an arrival took something back");
                        firing = false;
                    }
                    _ => {}
                }
            }
            if grid {
                plain.on_grid(now, active()).unwrap();
                prop_assert_eq!(plain.series(), early.series());
                let grid_fires = plain.alerts().any(|a| a.phase() == Some(AlertPhase::Firing));
                prop_assert!(!grid_fires || firing, "the grid fires and nobody was told");
            }
        }
    }
}
