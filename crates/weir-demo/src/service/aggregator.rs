//! Counts scoring events per match and kind in tumbling windows; every event gives an update with its window's count.
//! Commits its offsets to the broker.

use std::collections::HashMap;

use opentelemetry::{Context, KeyValue};
use parking_lot::Mutex;

use super::Shared;
use super::consume::{Failure, Handler, Record};
use super::send::{Ack, Outgoing, Sender};
use crate::error::DemoError;
use crate::event::{EnrichedEvent, Kind, Update};
use crate::release::Build;

pub(crate) struct Aggregator {
    shared: Shared,
    sender: Sender,
    windows: Mutex<Windows>,
}

impl Aggregator {
    pub fn new(shared: &Shared) -> Result<Self, DemoError> {
        let topology = &shared.assignment.topology;
        Ok(Self {
            sender: Sender::new(&topology.broker, &shared.assignment.instance.pod, shared.telemetry.clone())?,
            windows: Mutex::default(),
            shared: shared.clone(),
        })
    }
}

/// Counts of the current window of each match and kind: at most matches times kinds entries.
#[derive(Default)]
struct Windows(HashMap<(String, &'static str), (i64, u32)>);

impl Windows {
    /// Counts one event and gives the count of its window so far.
    fn count(&mut self, event: &EnrichedEvent) -> Result<u32, Failure> {
        let length_ms = i64::from(event.window_seconds) * 1000;
        // The order within a match matters, so an event that cannot be placed is never passed over.
        let window = event.event.event_time_ms.checked_div(length_ms).ok_or_else(|| {
            Failure::Retry(format!("match `{}`: no window of {} s", event.event.match_id, event.window_seconds))
        })?;
        let entry = self.0.entry((event.event.match_id.clone(), event.event.kind.as_str())).or_insert((window, 0));
        if entry.0 != window {
            *entry = (window, 0);
        }
        entry.1 += 1;
        Ok(entry.1)
    }
}

/// Which half of the match, for the headline.
fn half(minute: u32, build: Build) -> Result<&'static str, Failure> {
    let halves: &[&'static str] = match build {
        Build::Sound => &["first half", "second half"],
        // The bug of the faulty build: it was only tried before the break.
        Build::Faulty => &["first half"],
    };
    let index = (minute / 45) as usize;
    halves
        .get(index)
        .copied()
        .ok_or_else(|| Failure::Reject(format!("minute {minute}: no half {index} of {}", halves.len())))
}

fn headline(event: &EnrichedEvent, half: &str, count: u32) -> String {
    let player = event.player_name.as_deref().unwrap_or("unknown player");
    let what = match event.event.kind {
        Kind::Goal => "goal",
        Kind::Shot => "shot",
        Kind::Foul => "foul",
        Kind::Substitution => "substitution",
        Kind::Position | Kind::Sprint => "move",
    };
    format!("{what} number {count} of this window, {player}, {half}")
}

impl Handler for Aggregator {
    async fn handle(&self, record: &Record, span: &Context) -> Result<Ack, Failure> {
        let event: EnrichedEvent = serde_json::from_slice(&record.payload)
            .map_err(|error| Failure::Reject(format!("not an enriched event: {error}")))?;
        if event.event.kind.is_motion() {
            return Ok(Box::pin(std::future::ready(Ok(()))));
        }
        let half = half(event.event.minute, self.shared.assignment.build)?;
        let count = self.windows.lock().count(&event)?;
        let headline = headline(&event, half, count);
        let event = event.event;
        let update = Update {
            event_id: event.event_id,
            tenant: event.tenant,
            match_id: event.match_id,
            kind: event.kind,
            minute: event.minute,
            headline,
            figure: f64::from(count),
            event_time_ms: event.event_time_ms,
        };
        let payload = serde_json::to_vec(&update).expect("updates have string keys and finite numbers");
        let outgoing = Outgoing {
            topic: &self.shared.assignment.topology.names.topic_updates,
            partition: record.partition,
            key: &update.match_id,
            payload: &payload,
        };
        Ok(self.sender.send(outgoing, span, vec![KeyValue::new("tenant", update.tenant.clone())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RawEvent;

    fn event(match_id: &str, kind: Kind, time_ms: i64, window_seconds: u32) -> EnrichedEvent {
        let event = RawEvent {
            event_id: "e".into(),
            tenant: "l".into(),
            match_id: match_id.into(),
            player: "player-000001".into(),
            kind,
            minute: 1,
            value: 1.0,
            event_time_ms: time_ms,
        };
        EnrichedEvent { event, player_name: None, club: None, window_seconds }
    }

    #[test]
    fn windows_count_per_match_and_kind() {
        let mut windows = Windows::default();
        for (id, kind, time_ms, want) in [
            ("a", Kind::Goal, 1_000, 1),
            ("a", Kind::Goal, 9_999, 2),
            ("a", Kind::Foul, 9_999, 1),
            ("b", Kind::Goal, 5_000, 1),
            ("a", Kind::Goal, 10_000, 1),
        ] {
            assert_eq!(windows.count(&event(id, kind, time_ms, 10)), Ok(want), "{id} {kind:?} {time_ms}");
        }
    }

    #[test]
    fn an_event_without_a_window_is_never_passed_over() {
        assert!(matches!(Windows::default().count(&event("a", Kind::Goal, 1, 0)), Err(Failure::Retry(_))));
    }

    #[test]
    fn the_faulty_build_fails_after_the_break() {
        for (minute, sound, faulty) in [(0, true, true), (44, true, true), (45, true, false), (89, true, false)] {
            assert_eq!(half(minute, Build::Sound).is_ok(), sound, "{minute}");
            assert_eq!(half(minute, Build::Faulty).is_ok(), faulty, "{minute}");
        }
    }
}
