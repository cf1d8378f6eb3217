//! `oncall.yml` as written. Unknown keys are refused by serde with their line.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;
use serde_saphyr::Spanned;

use crate::config::raw::{RawGlobal, RawReceiver, Text};
use crate::notify::webhook;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFile {
    pub time_zone: Option<Spanned<String>>,
    /// Defaults of channels, as in `alertmanager.yml`.
    pub global: RawGlobal,
    pub people: Vec<Spanned<RawPerson>>,
    pub channels: Vec<Spanned<RawReceiver>>,
    pub schedules: Vec<Spanned<RawSchedule>>,
    pub chains: Vec<Spanned<RawChain>>,
    pub tiers: Vec<Spanned<RawTier>>,
    pub routes: Vec<Spanned<RawRoute>>,
    pub night: Option<Spanned<RawNight>>,
    pub links: Option<Spanned<RawLinks>>,
    pub watchdog: Option<Spanned<RawWatchdog>>,
}

/// The same file read once more, for its channels as trees in which contacts are put.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Trees {
    pub channels: Vec<Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPerson {
    pub name: String,
    pub shown: Text,
    #[serde(default)]
    pub contacts: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSchedule {
    pub name: String,
    pub time_zone: Text,
    #[serde(default)]
    pub layers: Vec<Spanned<RawLayer>>,
    #[serde(default)]
    pub overrides: Vec<Spanned<RawOverride>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLayer {
    pub name: Text,
    pub people: Vec<String>,
    /// A date.
    pub start: String,
    /// A date.
    pub until: Text,
    /// `HH:MM`.
    pub handoff: Text,
    /// `daily`, `weekly`, `<n>d`, `<n>w`, `<n>h`.
    pub rotation: String,
    #[serde(default)]
    pub only: Vec<RawWindow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWindow {
    /// `HH:MM` or `weekday HH:MM`.
    pub from: String,
    pub to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOverride {
    pub person: String,
    pub start: String,
    pub end: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChain {
    pub name: String,
    pub steps: Vec<Spanned<RawStep>>,
    #[serde(default)]
    pub repeat: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStep {
    pub notify: Vec<RawTarget>,
    pub channels: Option<Vec<String>>,
    pub wait: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTarget {
    pub schedule: Text,
    pub person: Text,
    pub receiver: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTier {
    pub name: String,
    #[serde(default)]
    pub values: Vec<String>,
    #[serde(default)]
    pub channels: Vec<String>,
    pub chain: Text,
    pub out_of_band: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    pub receiver: Text,
    #[serde(default)]
    pub matchers: Vec<String>,
    pub chain: Text,
    pub tier: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNight {
    pub from: i8,
    pub to: i8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLinks {
    pub valid_for: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWatchdog {
    pub interval: String,
    pub webhook: webhook::Raw,
}
