//! Rules over telemetry as it really comes: late, in disorder, twice, or not at all. Each run is a seed.
//!
//! The judge is an evaluation of the same expression over the complete data at the same instant: nothing may
//! fire that it would not have, and nothing may resolve that it still holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_model::sink::{MetricBatch, MetricSink, SeriesBatch};
use weir_model::{AlertEvent, AlertListener, AlertPhase, Budget, Labels, Sample, SimClock, TenantId, Timestamp};
use weir_promql::{Engine, EngineOptions};
use weir_state::State;
use weir_tsdb::Head;

use crate::arrival::Arrivals;
use crate::file::{RuleGroup, RuleKind, parse_rule_file};
use crate::group::Group;
use crate::language::{Language, RuleExpr};
use crate::manager::{Evaluate, MissingInput, Options, Shared, feed_of, recorded_by, watches_of};
use crate::promql::PromqlEvaluator;
use crate::stored::Restored;

const T0: i64 = 1_700_000_000_000;
/// Between two pushes of a sender, in the two simulations.
const EVERY_MS: i64 = 5_000;
const SLOW_EVERY_MS: i64 = 10_000;

/// Small and the same everywhere (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    fn below(&mut self, n: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as i64 % n.max(1)
    }
}

/// Samples of one commit.
#[derive(Clone, Debug)]
struct Push {
    arrives: i64,
    series: Vec<(Labels, Sample)>,
}

#[derive(Default)]
struct Heard(Mutex<Vec<AlertEvent>>);

impl AlertListener for Heard {
    fn on_alert(&self, event: &AlertEvent) {
        self.0.lock().push(event.clone());
    }
}

fn evaluator(store: &Arc<Head>) -> PromqlEvaluator {
    let engine = Arc::new(Engine::new(EngineOptions::default()));
    PromqlEvaluator { engine, source: store.clone(), budget: Budget::unlimited() }
}

fn append(store: &Head, series: &[(Labels, Sample)]) {
    let one = |(labels, sample): &(Labels, Sample)| SeriesBatch {
        labels: labels.clone(),
        samples: vec![*sample],
        ..SeriesBatch::default()
    };
    let batch = MetricBatch { series: series.iter().map(one).collect(), metadata: Vec::new() };
    store.append(&TenantId::anonymous(), &batch).unwrap();
}

/// weir's rules, stepped by hand.
struct Live {
    shared: Shared,
    group: Group,
    arrivals: Arrivals,
    store: Arc<Head>,
    clock: Arc<SimClock>,
    state: State,
    grid: Timestamp,
}

impl Live {
    fn start(config: &RuleGroup, store: Arc<Head>, state: State, heard: Arc<Heard>, now: Timestamp) -> Self {
        let clock = Arc::new(SimClock::at(now));
        let shared = Shared::new(Options {
            clock: clock.clone(),
            evaluator: Arc::new(evaluator(&store)),
            sink: store.clone(),
            surroundings: Default::default(),
            interval: Duration::from_secs(5),
            query_offset: Duration::ZERO,
            missing_input: MissingInput::Unknown,
            state: state.clone(),
        });
        shared.listen(heard);
        let wake = Arc::new(Notify::new());
        let recorded = recorded_by(&config.rules);
        let feeds: Vec<_> = config.rules.iter().map(|r| feed_of(r, &recorded, None, &wake, now)).collect();
        let watches = config.rules.iter().zip(&feeds).flat_map(|(rule, feed)| watches_of(rule, feed));
        let arrivals = Arrivals::new(watches.collect::<Vec<_>>());
        let mut restored = Restored::read(&state, now);
        let tenant = TenantId::anonymous();
        let interval = Duration::from_secs(5);
        let group = Group::new(tenant, config.clone(), interval, Duration::ZERO, feeds, wake, None, &mut restored);
        let grid = group.next_grid_point(now);
        Self { shared, group, arrivals, store, clock, state, grid }
    }

    /// Evaluates what is due up to `until`, as the manager's loop does.
    async fn run(&mut self, until: i64) {
        loop {
            let now = weir_model::Clock::now(&*self.clock);
            let wait = self.group.wait(now);
            let due = self.group.next_arrival().map_or(self.grid.plus(wait), |at| at.min(self.grid.plus(wait)));
            if due.0 > until {
                self.clock.set(Timestamp(until.max(now.0)));
                return;
            }
            self.clock.set(due.max(now));
            let now = weir_model::Clock::now(&*self.clock);
            if self.grid.plus(self.group.wait(now)) <= now {
                self.group.evaluate_grid(&self.shared, self.grid).await;
                self.grid = self.group.next_grid_point(self.grid);
            } else {
                self.group.evaluate_arrivals(&self.shared, now).await;
            }
        }
    }

    fn take(&self, push: &Push) {
        append(&self.store, &push.series);
        let labels: Vec<Labels> = push.series.iter().map(|(l, _)| l.clone()).collect();
        let newest = push.series.iter().map(|(_, s)| s.at).max().unwrap_or(Timestamp::MIN);
        self.arrivals.touch(&labels, newest, Timestamp(push.arrives));
    }
}

/// What an evaluation of the complete data at `at` finds, by the labels that tell alerts apart.
async fn truth(store: &Arc<Head>, expr: &RuleExpr, at: Timestamp) -> BTreeSet<Labels> {
    let found = evaluator(store).instant(&TenantId::anonymous(), expr, at).await.unwrap();
    found.into_iter().map(|(labels, _)| labels.without_name()).collect()
}

fn group(rules: &str) -> RuleGroup {
    parse_rule_file("sim.yml", &format!("groups:\n- name: sim\n  interval: 5s\n  rules:\n{rules}")).unwrap().remove(0)
}

/// Every fresh transition beside the judge's answer. How many fired and resolved.
async fn judge(
    what: &str,
    heard: &Heard,
    config: &RuleGroup,
    complete: &Arc<Head>,
    firing_too: bool,
) -> (usize, usize) {
    let mut exprs: BTreeMap<&str, &RuleExpr> = BTreeMap::new();
    for rule in &config.rules {
        exprs.insert(rule.name(), &rule.expr);
    }
    let mut last: BTreeMap<Labels, AlertPhase> = BTreeMap::new();
    let (mut fired, mut resolved) = (0, 0);
    let events = heard.0.lock().clone();
    for event in events {
        if last.insert(event.labels.clone(), event.phase) == Some(event.phase) {
            continue;
        }
        let name = event.labels.value("alertname").to_owned();
        let element = event.labels.without("alertname");
        let holds = truth(complete, exprs[&*name], event.at).await.contains(&element);
        let seconds = (event.at.0 - T0) as f64 / 1e3;
        match event.phase {
            AlertPhase::Firing => {
                fired += 1;
                assert!(
                    holds || !firing_too,
                    "{what}: {name} {element} fires at {seconds} s, and the complete data say it does not hold"
                );
            }
            AlertPhase::Resolved => {
                resolved += 1;
                assert!(!holds, "{what}: {name} {element} resolves at {seconds} s, and the complete data say it holds");
            }
            AlertPhase::Pending | AlertPhase::Unknown => {}
        }
    }
    (fired, resolved)
}

fn named(name: &str, shard: i64) -> Labels {
    Labels::from_pairs([
        ("__name__", name.to_owned()),
        ("job", "app".to_owned()),
        ("instance", format!("s{shard}")),
        ("shard", shard.to_string()),
    ])
}

/// 30 shards that push requests and errors apart, in random order and up to 2 s late; traffic jumps by ten with
/// the error ratio as it was, so that a torn look sees a ratio that never was; then errors really rise and fall.
fn torn_pushes(dice: &mut Dice, minutes: i64) -> Vec<Push> {
    let mut pushes = Vec::new();
    for shard in 0..30 {
        let phase = dice.below(EVERY_MS);
        // One sender's clock is half a minute ahead.
        let ahead = if shard == 7 { 30_000 } else { 0 };
        let mut sent: Vec<Push> = Vec::new();
        for k in 0..minutes * 60_000 / EVERY_MS {
            let now = T0 + phase + k * EVERY_MS;
            let at = Timestamp(now + ahead);
            let second = (at.0 - T0) / 1000;
            let busy = if second % 180 < 90 { 10.0 } else { 1.0 };
            let ratio = if (420..600).contains(&(second % 900)) { 0.2 } else { 0.04 };
            let hot = if (300..400).contains(&(second % 500)) && shard % 5 == 0 { 80.0 } else { 20.0 };
            let values = [("requests", 100.0 * busy), ("errors", 100.0 * busy * ratio), ("heat", hot)];
            for (name, value) in values {
                let series = vec![(named(name, shard), Sample { at, value })];
                sent.push(Push { arrives: now + dice.below(2_000), series });
            }
        }
        // One sends ten minutes again, all of them at once.
        if shard == 3 {
            let (from, to) = (T0 + 120_000, T0 + 720_000);
            let again = sent.iter().filter(|p| (from..to).contains(&p.arrives)).cloned().collect::<Vec<_>>();
            sent.extend(again.into_iter().map(|p| Push { arrives: to + dice.below(2_000), ..p }));
        }
        pushes.extend(sent);
    }
    pushes.sort_by_key(|p| p.arrives);
    pushes
}

#[tokio::test]
async fn a_torn_scrape_fires_and_resolves_nothing() {
    let config = group(
        r#"  - {alert: Ratio, expr: sum(errors) / sum(requests) > 0.05}
  - {alert: Quiet, expr: sum(requests) < 20000}
  - {alert: Few, expr: count(requests) < 30}
  - {alert: Gone, expr: absent(requests)}
  - {alert: Hot, expr: heat > 50}
  - {alert: Busy, expr: sum(requests) > 20000}
  - {record: all:errors:ratio, expr: sum(errors) / sum(requests)}
  - {alert: Recorded, expr: 'all:errors:ratio > 0.05'}
"#,
    );
    let (mut fired, mut resolved) = (0, 0);
    for seed in 1..=6 {
        let pushes = torn_pushes(&mut Dice::new(seed), 20);
        let complete = Arc::new(Head::new(&Budget::unlimited()));
        pushes.iter().for_each(|p| append(&complete, &p.series));
        let heard = Arc::new(Heard::default());
        let mut live = Live::start(
            &config,
            Arc::new(Head::new(&Budget::unlimited())),
            State::in_memory(),
            heard.clone(),
            Timestamp(T0),
        );
        for push in &pushes {
            live.run(push.arrives).await;
            live.take(push);
        }
        // Recorded series are judged by what they were made from.
        let mut judged = config.clone();
        for rule in &mut judged.rules {
            if rule.name() == "Recorded" {
                rule.expr =
                    RuleExpr::parse("sum(errors) / sum(requests) > 0.05", Language::Promql, Duration::ZERO).unwrap();
            }
        }
        judged.rules.retain(|r| matches!(r.kind, RuleKind::Alert { .. }));
        let (f, r) = judge(&format!("seed {seed}"), &heard, &judged, &complete, true).await;
        (fired, resolved) = (fired + f, resolved + r);
        let waits: Vec<_> = live
            .group
            .feeds
            .iter()
            .filter_map(|f| f.spread.as_ref())
            .map(|s| s.wait(Timestamp(pushes.last().unwrap().arrives)))
            .collect();
        assert!(waits.iter().all(|w| *w <= Duration::from_millis(2_500)), "seed {seed}: {waits:?}");
    }
    // It saw what there was to see.
    assert!(fired >= 6 * 20 && resolved >= 6 * 20, "{fired} fired, {resolved} resolved");
}

/// The guard is what makes the test above pass.
#[tokio::test]
async fn without_the_wait_a_torn_scrape_fires() {
    let config = group("  - {alert: Ratio, expr: sum(errors) / sum(requests) > 0.05}\n");
    let pushes = torn_pushes(&mut Dice::new(1), 20);
    let (complete, partial) = (Arc::new(Head::new(&Budget::unlimited())), Arc::new(Head::new(&Budget::unlimited())));
    pushes.iter().for_each(|p| append(&complete, &p.series));
    let (mut torn, mut next) = (0, T0);
    for push in &pushes {
        while next < push.arrives {
            let at = Timestamp(next);
            let expr = &config.rules[0].expr;
            torn += usize::from(truth(&partial, expr, at).await != truth(&complete, expr, at).await);
            next += 5_000;
        }
        append(&partial, &push.series);
    }
    assert!(torn > 0, "the scrapes of this test are not torn");
}

/// What goes wrong, and from when to when.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kill {
    /// A collecting agent with the shards that it serves: nothing more is said, not even that it ended.
    Agent(i64),
    /// A target under a scraper that lives on: markers, and `up` is 0.
    Target(i64),
    /// What a sender says during it is lost, or comes afterwards all at once.
    Link { shard: i64, backlog: bool },
    /// weir itself: what it is not sent meanwhile is lost, what it stored is not.
    Receiver,
}

const AGENTS: i64 = 3;
const SHARDS: i64 = 6;

/// Counters and gauges of all shards over the run; alerts come and go every few minutes.
fn complete_pushes(dice: &mut Dice, minutes: i64) -> Vec<(i64, Push)> {
    let mut pushes = Vec::new();
    let trouble = 120 + dice.below(240);
    for shard in 0..SHARDS {
        let (phase, mut errors, mut requests) = (dice.below(SLOW_EVERY_MS), 0.0, 0.0);
        for k in 0..minutes * 60_000 / SLOW_EVERY_MS {
            let at = Timestamp(T0 + phase + k * SLOW_EVERY_MS);
            let second = (at.0 - T0) / 1000;
            let bad = (trouble..trouble + 600).contains(&second);
            requests += 1000.0;
            errors += if bad { 200.0 } else { 1.0 };
            let heat = if bad && shard % 2 == 0 { 90.0 } else { 10.0 };
            let values = [("errors_total", errors), ("requests_total", requests), ("heat", heat), ("up", 1.0)];
            let series = values.map(|(name, value)| (named(name, shard), Sample { at, value }));
            pushes.push((shard, Push { arrives: at.0 + dice.below(300), series: series.into() }));
        }
    }
    pushes.sort_by_key(|(_, p)| p.arrives);
    pushes
}

/// What of it arrives when things break.
fn what_arrives(all: &[(i64, Push)], kills: &[(Kill, i64, i64)]) -> Vec<Push> {
    let mut out = Vec::new();
    let mut ended: BTreeSet<i64> = BTreeSet::new();
    for (shard, push) in all {
        let hit = kills.iter().find(|(kill, from, to)| {
            let concerns = match kill {
                Kill::Agent(agent) => shard % AGENTS == *agent,
                Kill::Target(s) | Kill::Link { shard: s, .. } => s == shard,
                Kill::Receiver => true,
            };
            concerns && (*from..*to).contains(&push.arrives)
        });
        match hit {
            Some((Kill::Target(_), ..)) => {
                let mut series: Vec<_> = push.series.iter().filter(|(l, _)| l.metric_name() == "up").cloned().collect();
                series.iter_mut().for_each(|(_, s)| s.value = 0.0);
                if ended.insert(*shard) {
                    let others = push.series.iter().filter(|(l, _)| l.metric_name() != "up");
                    series.extend(others.map(|(l, s)| (l.clone(), Sample::stale(s.at))));
                }
                out.push(Push { arrives: push.arrives, series });
            }
            Some((Kill::Link { backlog: true, .. }, _, to)) => {
                out.push(Push { arrives: *to, series: push.series.clone() })
            }
            Some(_) => {}
            None => {
                ended.remove(shard);
                out.push(push.clone());
            }
        }
    }
    out.sort_by_key(|p| p.arrives);
    out
}

fn kills(dice: &mut Dice, minutes: i64) -> Vec<(Kill, i64, i64)> {
    let n = 2 + dice.below(4);
    let one = |_| {
        let kill = match dice.below(4) {
            0 => Kill::Agent(dice.below(AGENTS)),
            1 => Kill::Target(dice.below(SHARDS)),
            2 => Kill::Link { shard: dice.below(SHARDS), backlog: dice.below(2) == 0 },
            _ => Kill::Receiver,
        };
        let from = T0 + 180_000 + dice.below(minutes * 60_000 - 240_000);
        (kill, from, from + 10_000 + dice.below(590_000))
    };
    (0..n).map(one).collect()
}

#[tokio::test]
async fn no_alert_resolves_because_its_input_was_killed() {
    const MINUTES: i64 = 20;
    let config = group(
        r#"  - {alert: Hot, expr: heat > 50}
  - {alert: Errors, expr: 'sum by (job) (rate(errors_total[1m])) > 30'}
  - {alert: Ratio, expr: 'sum by (job) (rate(errors_total[1m])) / sum by (job) (rate(requests_total[1m])) > 0.05'}
  - {alert: PerShard, expr: 'increase(errors_total[2m]) > 600'}
"#,
    );
    let (mut fired, mut resolved, mut unknown) = (0, 0, 0);
    for seed in 1..=200 {
        let mut dice = Dice::new(seed);
        let all = complete_pushes(&mut dice, MINUTES);
        let kills = kills(&mut dice, MINUTES);
        let complete = Arc::new(Head::new(&Budget::unlimited()));
        all.iter().for_each(|(_, p)| append(&complete, &p.series));
        let heard = Arc::new(Heard::default());
        let mut live = Live::start(
            &config,
            Arc::new(Head::new(&Budget::unlimited())),
            State::in_memory(),
            heard.clone(),
            Timestamp(T0),
        );
        let mut down_until = T0;
        for push in what_arrives(&all, &kills) {
            let down = kills
                .iter()
                .filter(|(kill, from, to)| *kill == Kill::Receiver && *from < push.arrives && *to > down_until);
            if let Some((_, from, to)) = down.min_by_key(|(_, from, _)| *from) {
                live.run(*from).await;
                down_until = *to;
                let (store, state) = (live.store.clone(), live.state.clone());
                live = Live::start(&config, store, state, heard.clone(), Timestamp(*to));
            }
            live.run(push.arrives).await;
            live.take(&push);
        }
        unknown += heard.0.lock().iter().filter(|e| e.phase == AlertPhase::Unknown).count();
        let (f, r) = judge(&format!("seed {seed}, {kills:?}"), &heard, &config, &complete, false).await;
        (fired, resolved) = (fired + f, resolved + r);
    }
    assert!(fired > 500 && resolved > 100 && unknown > 500, "{fired} fired, {resolved} resolved, {unknown} unknown");
}
