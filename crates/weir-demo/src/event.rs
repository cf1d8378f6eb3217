//! The records of the pipeline: match events as they come in, as they are enriched, and the updates fans see.

use serde::{Deserialize, Serialize};

/// What happened on the pitch. Scoring kinds go through windows, motion kinds through player form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Goal,
    Shot,
    Foul,
    Substitution,
    Position,
    Sprint,
}

impl Kind {
    pub const ALL: [Kind; 6] = [Kind::Goal, Kind::Shot, Kind::Foul, Kind::Substitution, Kind::Position, Kind::Sprint];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Goal => "goal",
            Kind::Shot => "shot",
            Kind::Foul => "foul",
            Kind::Substitution => "substitution",
            Kind::Position => "position",
            Kind::Sprint => "sprint",
        }
    }

    /// Motion comes from sensors many times a second and names no player record.
    pub fn is_motion(self) -> bool {
        matches!(self, Kind::Position | Kind::Sprint)
    }
}

/// An event as a stadium sends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RawEvent {
    pub event_id: String,
    /// The league: a tenant of the pipeline.
    pub tenant: String,
    pub match_id: String,
    /// Key of the player in the register.
    pub player: String,
    pub kind: Kind,
    /// Match minute, 0 to 89.
    pub minute: u32,
    /// Metres per second for motion, else 1.
    pub value: f64,
    /// When it happened, Unix milliseconds.
    pub event_time_ms: i64,
}

/// A raw event with what the register knows of its player.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnrichedEvent {
    #[serde(flatten)]
    pub event: RawEvent,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub player_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub club: Option<String>,
    /// Length of the window that the event counts in. Sources may set it; 10 s when they do not.
    #[serde(default = "default_window_seconds")]
    pub window_seconds: u32,
}

pub const fn default_window_seconds() -> u32 {
    10
}

/// What fans and the store get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    pub event_id: String,
    pub tenant: String,
    pub match_id: String,
    pub kind: Kind,
    pub minute: u32,
    pub headline: String,
    /// Events of this kind in the window, or the player's mean speed.
    pub figure: f64,
    pub event_time_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enriched_event_reads_back() {
        let event = RawEvent {
            event_id: "e1".into(),
            tenant: "l".into(),
            match_id: "m".into(),
            player: "p-0001".into(),
            kind: Kind::Goal,
            minute: 12,
            value: 1.0,
            event_time_ms: 1_700_000_000_123,
        };
        let enriched = EnrichedEvent {
            event,
            player_name: Some("N".into()),
            club: None,
            window_seconds: default_window_seconds(),
        };
        let text = serde_json::to_string(&enriched).unwrap();
        assert_eq!(serde_json::from_str::<EnrichedEvent>(&text).unwrap(), enriched);
        let raw: RawEvent = serde_json::from_str(&text).unwrap();
        assert_eq!(raw, enriched.event);
    }
}
