//! Adds to each scoring event what the register knows of its player.

use opentelemetry::{Context, KeyValue};
use parking_lot::Mutex;
use rusqlite::Connection;

use super::Shared;
use super::consume::{Failure, Handler, Record};
use super::send::{Ack, Outgoing, Sender};
use crate::database::{self, Query, Traced};
use crate::error::DemoError;
use crate::event::{EnrichedEvent, RawEvent, default_window_seconds};
use crate::release::Build;
use crate::topology::Role;

pub(crate) struct Enricher {
    shared: Shared,
    sender: Sender,
    register: Mutex<Connection>,
    lookup: Query,
}

impl Enricher {
    pub fn new(shared: &Shared) -> Result<Self, DemoError> {
        let topology = &shared.assignment.topology;
        let names = &topology.names;
        let path = topology.database_path(Role::Enricher);
        let register = database::open(&path).map_err(DemoError::database(format!("open {}", path.display())))?;
        Ok(Self {
            sender: Sender::new(&topology.broker, &shared.assignment.instance.pod, shared.telemetry.clone())?,
            register: Mutex::new(register),
            lookup: Query {
                operation: "SELECT",
                table: names.players_table.clone(),
                text: format!("SELECT name, club FROM {} WHERE {} = ?", names.players_table, names.players_key),
                database: format!("{}-register", names.namespace),
            },
            shared: shared.clone(),
        })
    }

    fn player(&self, key: &str, span: &Context) -> Result<Option<(String, String)>, Failure> {
        let register = self.register.lock();
        let traced = Traced { connection: &register, telemetry: &self.shared.telemetry, parent: span };
        traced
            .query_row(&self.lookup, [key], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|error| Failure::Retry(format!("player register: {error}")))
    }
}

/// The number in a player's key, `player-000123`.
fn player_number(key: &str, build: Build) -> Result<u32, String> {
    let digits = key.rsplit('-').next().unwrap_or_default();
    match build {
        Build::Sound => digits.parse::<u32>().map_err(|e| format!("player key `{key}`: {e}")),
        // The bug of the faulty build: the register has outgrown sixteen bits.
        Build::Faulty => digits.parse::<u16>().map(u32::from).map_err(|e| format!("player key `{key}`: {e}")),
    }
}

impl Handler for Enricher {
    async fn handle(&self, record: &Record, span: &Context) -> Result<Ack, Failure> {
        let event: RawEvent = serde_json::from_slice(&record.payload)
            .map_err(|error| Failure::Reject(format!("not a match event: {error}")))?;
        let player = if event.kind.is_motion() {
            None
        } else {
            player_number(&event.player, self.shared.assignment.build).map_err(Failure::Reject)?;
            let found = tokio::task::block_in_place(|| self.player(&event.player, span))?;
            Some(found.ok_or_else(|| Failure::Reject(format!("no player `{}` in the register", event.player)))?)
        };
        let tenant = KeyValue::new("tenant", event.tenant.clone());
        let (player_name, club) = player.unzip();
        let enriched = EnrichedEvent { event, player_name, club, window_seconds: default_window_seconds() };
        let payload = serde_json::to_vec(&enriched).expect("events have string keys and finite numbers");
        let outgoing = Outgoing {
            topic: &self.shared.assignment.topology.names.topic_enriched,
            partition: record.partition,
            key: &enriched.event.match_id,
            payload: &payload,
        };
        Ok(self.sender.send(outgoing, span, vec![tenant]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(key: &str, sound: Option<u32>, faulty: Option<u32>) {
        assert_eq!(player_number(key, Build::Sound).ok(), sound, "{key}");
        assert_eq!(player_number(key, Build::Faulty).ok(), faulty, "{key}");
    }

    #[test]
    fn the_faulty_build_knows_small_numbers_only() {
        check("player-000123", Some(123), Some(123));
        check("player-065535", Some(65_535), Some(65_535));
        check("player-065536", Some(65_536), None);
        check("player-", None, None);
    }
}
