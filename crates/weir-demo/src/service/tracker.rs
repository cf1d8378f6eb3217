//! Smooths each player's speed from motion events. Keeps its offsets in a checkpoint file of its own, as stream
//! processors with their own state do; the broker never hears of them.

use std::collections::HashMap;

use opentelemetry::{Context, KeyValue};
use parking_lot::Mutex;

use super::Shared;
use super::consume::{Failure, Handler, Record};
use super::send::{Ack, Outgoing, Sender};
use crate::error::DemoError;
use crate::event::{EnrichedEvent, Update};
use crate::release::Build;

/// Players whose form is kept; past that all are forgotten and learnt anew.
const N_PLAYERS_MAX: usize = 50_000;

pub(crate) struct Tracker {
    shared: Shared,
    sender: Sender,
    form: Mutex<Form>,
}

impl Tracker {
    pub fn new(shared: &Shared) -> Result<Self, DemoError> {
        let topology = &shared.assignment.topology;
        Ok(Self {
            sender: Sender::new(&topology.broker, &shared.assignment.instance.pod, shared.telemetry.clone())?,
            form: Mutex::default(),
            shared: shared.clone(),
        })
    }
}

/// Exponentially smoothed speed per player, metres per second.
#[derive(Default)]
struct Form(HashMap<String, f64>);

impl Form {
    /// Takes in one speed and gives the smoothed one; the window's length sets how slowly it follows.
    fn smooth(&mut self, player: &str, speed: f64, window_seconds: u32) -> Result<f64, Failure> {
        if window_seconds == 0 {
            // Smoothing depends on order, so an event that cannot be smoothed is never passed over.
            return Err(Failure::Retry(format!("player `{player}`: no smoothing over 0 s")));
        }
        if self.0.len() >= N_PLAYERS_MAX {
            self.0.clear();
        }
        let weight = 1.0 / f64::from(window_seconds);
        let mean = self.0.entry(player.to_owned()).or_insert(speed);
        *mean += weight * (speed - *mean);
        Ok(*mean)
    }
}

/// Speed in metres per second.
fn speed(value: f64, build: Build) -> Result<f64, Failure> {
    match build {
        Build::Sound => Ok(value),
        // The bug of the faulty build: it takes speeds for whole numbers.
        Build::Faulty => {
            let text = value.to_string();
            text.parse::<i32>().map(f64::from).map_err(|e| Failure::Reject(format!("speed `{text}`: {e}")))
        }
    }
}

impl Handler for Tracker {
    async fn handle(&self, record: &Record, span: &Context) -> Result<Ack, Failure> {
        let event: EnrichedEvent = serde_json::from_slice(&record.payload)
            .map_err(|error| Failure::Reject(format!("not an enriched event: {error}")))?;
        let window_seconds = event.window_seconds;
        let event = event.event;
        if !event.kind.is_motion() {
            return Ok(Box::pin(std::future::ready(Ok(()))));
        }
        let speed = speed(event.value, self.shared.assignment.build)?;
        let figure = self.form.lock().smooth(&event.player, speed, window_seconds)?;
        let update = Update {
            headline: format!("{} runs {figure:.1} m/s", event.player),
            event_id: event.event_id,
            tenant: event.tenant,
            match_id: event.match_id,
            kind: event.kind,
            minute: event.minute,
            figure,
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

    #[test]
    fn smoothing_follows_by_the_window() {
        let mut form = Form::default();
        for (speed, window, want) in [(4.0, 10, 4.0), (5.0, 10, 4.1), (5.1, 1, 5.1)] {
            let got = form.smooth("p", speed, window).unwrap();
            assert!((got - want).abs() < 1e-9, "{speed} over {window}: {got}");
        }
        assert!(matches!(form.smooth("p", 1.0, 0), Err(Failure::Retry(_))));
    }

    #[test]
    fn the_faulty_build_takes_whole_speeds_only() {
        for (value, sound, faulty) in [(7.0, true, true), (7.4, true, false)] {
            assert_eq!(speed(value, Build::Sound).is_ok(), sound);
            assert_eq!(speed(value, Build::Faulty).is_ok(), faulty);
        }
    }
}
