//! Emits match events of the leagues that this process serves, at a steady rate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::{Context, KeyValue};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Shared;
use super::send::{Outgoing, Sender};
use crate::database::{match_key, player_key};
use crate::error::DemoError;
use crate::event::{Kind, RawEvent};
use crate::logs::Level;
use crate::metrics::{Every, Tenant, now_ms};
use crate::topology::{N_PARTITIONS, Role};

/// Matches in play per league.
const N_MATCHES: usize = 12;
const PLAYERS_PER_MATCH: usize = 22;
/// Events under way to the broker; past that the producer waits.
const IN_FLIGHT: usize = 4096;
const TICK: Duration = Duration::from_millis(20);

pub(crate) struct Producer {
    sender: Sender,
}

impl Producer {
    pub fn new(shared: &Shared) -> Result<Self, DemoError> {
        let assignment = &shared.assignment;
        let sender = Sender::new(&assignment.topology.broker, &assignment.instance.pod, shared.telemetry.clone())?;
        Ok(Self { sender })
    }

    pub async fn run(self, shared: Shared) {
        let mut games = Games::new(&shared);
        let topology = &shared.assignment.topology;
        let share = games.leagues.len() as f64 / topology.names.leagues.len() as f64;
        let per_second = topology.events_per_second * share;
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
        let sent = Arc::new(Every::default());
        shared.metrics.start_errors("produce");
        shared.controls.ready.store(true, Ordering::Relaxed);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut second = Instant::now();
        let (mut last, mut owed) = (Instant::now(), 0.0);
        loop {
            tokio::select! {
                () = shared.stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            if second.elapsed() >= Duration::from_secs(1) {
                second = Instant::now();
                shared.metrics.roll_second(&topology.names.topic_raw, "produce");
            }
            let factor = shared.controls.rate_permille.load(Ordering::Relaxed) as f64 / 1000.0;
            // A pause of the machine is not made up for: at most half a second of events at once.
            owed += per_second * factor * last.elapsed().as_secs_f64().min(0.5);
            last = Instant::now();
            while owed >= 1.0 {
                owed -= 1.0;
                self.emit(&shared, &mut games, &in_flight, &sent).await;
            }
        }
        // Wait until everything sent is acknowledged.
        let all = u32::try_from(IN_FLIGHT).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(Duration::from_secs(2), in_flight.acquire_many(all)).await;
    }

    async fn emit(&self, shared: &Shared, games: &mut Games, in_flight: &Arc<Semaphore>, sent: &Arc<Every>) {
        let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
        let (event, partition) = games.next();
        let payload = serde_json::to_vec(&event).expect("events have string keys and finite numbers");
        let topic = &shared.assignment.topology.names.topic_raw;
        let outgoing = Outgoing { topic, partition, key: &event.match_id, payload: &payload };
        let attributes = vec![
            KeyValue::new("tenant", event.tenant.clone()),
            KeyValue::new("match.id", event.match_id.clone()),
            KeyValue::new("event.id", event.event_id.clone()),
            KeyValue::new("event.kind", event.kind.as_str()),
        ];
        let begun = Instant::now();
        let ack = self.sender.send(outgoing, &Context::new(), attributes);
        let (shared, sent, tenant) = (shared.clone(), sent.clone(), event.tenant);
        tokio::spawn(async move {
            match ack.await {
                Ok(()) => {
                    shared.metrics.produced.get_or_create(&Tenant { tenant: tenant.clone() }).inc();
                    shared.metrics.observe("produce", Duration::ZERO, begun.elapsed());
                    if sent.nth(500) {
                        shared.logger.log(Level::Info, "500 events sent", None, None, &[("tenant", json!(tenant))]);
                    }
                }
                Err(why) => {
                    shared.metrics.error("produce");
                    shared.logger.log(Level::Error, &format!("event not sent: {why}"), None, None, &[]);
                }
            }
            drop(permit);
        });
    }
}

/// The matches of this process's leagues.
struct Games {
    leagues: Vec<(usize, String)>,
    n_rows: usize,
    rng: SmallRng,
    n_sent: u64,
    /// Tells this run's event ids from those of an earlier one.
    run: i64,
}

impl Games {
    fn new(shared: &Shared) -> Self {
        let assignment = &shared.assignment;
        let names = &assignment.topology.names;
        let (ordinal, n) = (assignment.instance.ordinal, Role::Producer.n_instances());
        let leagues = names.leagues.iter().cloned().enumerate().filter(|(i, _)| i % n == ordinal).collect();
        let run = now_ms();
        let seed = run.unsigned_abs() ^ (ordinal as u64) << 48;
        Self { leagues, n_rows: assignment.topology.n_rows, rng: SmallRng::seed_from_u64(seed), n_sent: 0, run }
    }

    /// The next event and its partition: one partition per match, matches spread evenly.
    fn next(&mut self) -> (RawEvent, i32) {
        let turn = self.n_sent as usize % self.leagues.len().max(1);
        let (league_idx, league) = &self.leagues[turn];
        let game = league_idx * N_MATCHES + self.rng.random_range(0..N_MATCHES);
        // Today's matches and players are the newest rows: they lie in the second half of their tables, so that a
        // scan, which begins with the oldest, passes most of the table on the way to them.
        let half = (self.n_rows / 2).max(1);
        let stride = (half / 64).max(1);
        let player = (game * PLAYERS_PER_MATCH + self.rng.random_range(0..PLAYERS_PER_MATCH)) * 187 % half;
        let kind = *Kind::ALL.choose(&mut self.rng).expect("there are kinds");
        // Scoring and motion in equal shares, whatever the number of kinds of each.
        let kind = if self.rng.random_bool(0.5) == kind.is_motion() {
            kind
        } else if kind.is_motion() {
            Kind::Shot
        } else {
            Kind::Position
        };
        let value = if kind.is_motion() { f64::from(self.rng.random_range(10..95u32)) / 10.0 } else { 1.0 };
        let event = RawEvent {
            event_id: format!("{:x}-{turn}-{:x}", self.run, self.n_sent),
            tenant: league.clone(),
            match_id: match_key(self.n_rows - half + game * stride % half),
            player: player_key(self.n_rows - 1 - player),
            kind,
            minute: self.rng.random_range(0..90),
            value,
            event_time_ms: now_ms(),
        };
        self.n_sent += 1;
        let n = usize::try_from(N_PARTITIONS).expect("a small positive number");
        (event, i32::try_from(game % n).expect("less than the partitions"))
    }
}
