//! From what was written to the checked form: names that must be known, times, channels for each person.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_saphyr::Spanned;
use weir_go::parse_prometheus_duration;
use weir_model::Timestamp;

use super::raw::*;
use super::schedule::{Layer, Override, Schedule, Turn, Window};
use super::*;
use crate::config::raw::{RawGlobal, RawReceiver};
use crate::config::read::Reader;
use crate::matchers::parse_matchers;
use crate::notify;

const LINK_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A turn is a year at most.
const TURN_DAYS_MAX: i32 = 366;
const REPEAT_MAX: u32 = 100;
/// People, schedules, chains and so on, each.
const ENTRIES_MAX: usize = 1000;

/// Reads `oncall.yml`; files of secrets are relative to its folder.
pub fn read_oncall(path: &Path) -> Result<OnCallConfig, ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
        file: file.clone(),
        line: 0,
        reason: format!("cannot read the file: {e}"),
    })?;
    parse_oncall(&file, &text, path.parent())
}

fn decode<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|e| {
        let reason = e.without_snippet().to_string();
        ConfigError {
            file: file.to_owned(),
            line: e.location().map_or(0, |l| l.line()),
            reason: reason.lines().next().unwrap_or_default().to_owned(),
        }
    })
}

/// `folder`: where relative paths start.
pub fn parse_oncall(file: &str, text: &str, folder: Option<&Path>) -> Result<OnCallConfig, ConfigError> {
    let empty = text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'));
    let raw: RawFile = if empty { RawFile::default() } else { decode(file, text)? };
    let trees: Trees = if empty { Trees::default() } else { decode(file, text)? };
    let mut read = Read { file, folder, warnings: Vec::new() };
    let (zone_name, zone) = match &raw.time_zone {
        Some(name) => (name.value.clone(), read.zone(name.referenced.line(), &name.value)?),
        None => ("UTC".to_owned(), TimeZone::UTC),
    };
    let people = read.people(&raw.people)?;
    let names: BTreeSet<&str> = people.iter().map(|p| &*p.name).collect();
    let mut schedules = Vec::new();
    read.unique("schedule", raw.schedules.iter().map(|s| (s.referenced.line(), &s.value.name)))?;
    for schedule in &raw.schedules {
        schedules.push(read.schedule(schedule, &names, (&zone_name, &zone))?);
    }
    let reach = read.channels(&raw.channels, &trees.channels, &raw.global, &people)?;
    let channels: BTreeSet<&str> = raw.channels.iter().map(|c| &*c.value.name).collect();
    let mut chains = Vec::new();
    read.unique("chain", raw.chains.iter().map(|c| (c.referenced.line(), &c.value.name)))?;
    for chain in &raw.chains {
        chains.push(read.chain(chain, &names, &schedules, &channels)?);
    }
    let mut tiers = Vec::new();
    read.unique("tier", raw.tiers.iter().map(|t| (t.referenced.line(), &t.value.name)))?;
    for tier in &raw.tiers {
        tiers.push(read.tier(tier, &chains, &channels)?);
    }
    let routes = raw.routes.iter().map(|r| read.route(r, &chains, &tiers)).collect::<Result<_, _>>()?;
    let night = match &raw.night {
        Some(n) if !(0..24).contains(&n.value.from) || !(0..24).contains(&n.value.to) => {
            return Err(read.fail(n.referenced.line(), "night: `from` and `to` are hours from 0 to 23"));
        }
        Some(n) => (n.value.from, n.value.to),
        None => (22, 7),
    };
    let link_life = match &raw.links {
        Some(l) => read.duration(l.referenced.line(), "valid_for", &l.value.valid_for)?,
        None => LINK_LIFE,
    };
    let watchdog = raw.watchdog.as_ref().map(|w| read.watchdog(w, &raw.global)).transpose()?;
    let config = OnCallConfig {
        people,
        schedules,
        chains,
        tiers,
        routes,
        zone_name,
        zone,
        link_life,
        night,
        watchdog,
        warnings: read.warnings,
        file: file.to_owned(),
        reach,
    };
    config.check_reach()?;
    Ok(config)
}

struct Read<'a> {
    file: &'a str,
    folder: Option<&'a Path>,
    warnings: Vec<String>,
}

impl Read<'_> {
    fn fail(&self, line: u64, reason: impl Into<String>) -> ConfigError {
        ConfigError { file: self.file.to_owned(), line, reason: reason.into() }
    }

    fn zone(&self, line: u64, name: &str) -> Result<TimeZone, ConfigError> {
        let unknown = |_| self.fail(line, format!("time_zone {name:?} is not known; write it as Europe/Berlin"));
        TimeZone::get(name).map_err(unknown)
    }

    fn duration(&self, line: u64, key: &str, text: &str) -> Result<Duration, ConfigError> {
        let length = parse_prometheus_duration(text).map_err(|e| self.fail(line, format!("{key}: {e}")))?;
        if length.is_zero() {
            return Err(self.fail(line, format!("{key}: give a length above zero, such as 5m")));
        }
        Ok(length)
    }

    fn unique<'n>(&self, what: &str, names: impl Iterator<Item = (u64, &'n String)>) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        for (line, name) in names {
            if name.trim().is_empty() {
                return Err(self.fail(line, format!("a {what} without a name")));
            }
            if !seen.insert(name) {
                return Err(self.fail(line, format!("{what} {name:?} is not unique")));
            }
            if seen.len() > ENTRIES_MAX {
                return Err(self.fail(line, format!("more than {ENTRIES_MAX} of {what}")));
            }
        }
        Ok(())
    }

    fn people(&self, raw: &[Spanned<RawPerson>]) -> Result<Vec<Person>, ConfigError> {
        self.unique("person", raw.iter().map(|p| (p.referenced.line(), &p.value.name)))?;
        let person = |p: &Spanned<RawPerson>| {
            let contacts = p.value.contacts.iter();
            if let Some((kind, _)) = contacts.clone().find(|(kind, value)| value.trim().is_empty() || *kind == "name") {
                return Err(self.fail(p.referenced.line(), format!("contact {kind:?} is empty, or called `name`")));
            }
            if p.value.name.chars().any(char::is_control) {
                return Err(
                    self.fail(p.referenced.line(), format!("person {:?}: write the name in one line", p.value.name))
                );
            }
            Ok(Person {
                name: p.value.name.clone(),
                shown: p.value.shown.clone().unwrap_or_else(|| p.value.name.clone()),
                contacts: contacts.map(|(kind, value)| (kind.clone(), Secret(value.clone()))).collect(),
            })
        };
        raw.iter().map(person).collect()
    }

    fn known(&self, line: u64, what: &str, known: bool, name: &str) -> Result<(), ConfigError> {
        if known { Ok(()) } else { Err(self.fail(line, format!("{what} {name:?} is not defined in this file"))) }
    }

    fn schedule(
        &mut self,
        raw: &Spanned<RawSchedule>,
        people: &BTreeSet<&str>,
        default: (&String, &TimeZone),
    ) -> Result<Schedule, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        let (zone_name, zone) = match &raw.time_zone {
            Some(name) => (name.clone(), self.zone(line, name)?),
            None => (default.0.clone(), default.1.clone()),
        };
        if raw.layers.is_empty() {
            return Err(self.fail(line, format!("schedule {:?} has no layers", raw.name)));
        }
        let mut layers = Vec::new();
        for (idx, layer) in raw.layers.iter().enumerate() {
            layers.push(self.layer(idx, layer, people)?);
        }
        if layers.iter().all(|l| !l.windows.is_empty()) {
            let name = &raw.name;
            self.warnings.push(format!(
                "{}:{line}: every layer of schedule {name:?} is restricted: at other times nobody is on call",
                self.file
            ));
        }
        let mut overrides = Vec::new();
        for (idx, over) in raw.overrides.iter().enumerate() {
            let (line, over) = (over.referenced.line(), &over.value);
            self.known(line, "person", people.contains(&*over.person), &over.person)?;
            let (start, end) = (self.instant(line, &over.start, &zone)?, self.instant(line, &over.end, &zone)?);
            if start >= end {
                return Err(self.fail(line, "an override ends before it starts"));
            }
            overrides.push(Override {
                id: format!("file-{}-{idx}", raw.name),
                schedule: raw.name.clone(),
                person: over.person.clone(),
                start,
                end,
                by: "oncall.yml".to_owned(),
                made_at: Timestamp(i64::try_from(idx).unwrap_or(i64::MAX)),
            });
        }
        Ok(Schedule { name: raw.name.clone(), zone_name, zone, layers, overrides })
    }

    /// RFC 3339, or a local time such as `2026-12-24 18:00`.
    fn instant(&self, line: u64, text: &str, zone: &TimeZone) -> Result<Timestamp, ConfigError> {
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(Timestamp(at.as_millisecond()));
        }
        let local = text.parse::<jiff::civil::DateTime>().ok().and_then(|l| l.to_zoned(zone.clone()).ok());
        let wrong = || self.fail(line, format!("{text:?} is no time: write 2026-12-24 18:00 or 2026-12-24T17:00:00Z"));
        local.map(|z| Timestamp(z.timestamp().as_millisecond())).ok_or_else(wrong)
    }

    fn layer(&self, idx: usize, raw: &Spanned<RawLayer>, people: &BTreeSet<&str>) -> Result<Layer, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        if raw.people.is_empty() || raw.people.len() > ENTRIES_MAX {
            return Err(self.fail(line, format!("a layer wants 1 to {ENTRIES_MAX} people")));
        }
        for person in &raw.people {
            self.known(line, "person", people.contains(&**person), person)?;
        }
        let handoff = match &raw.handoff {
            Some(text) => time(text).ok_or_else(|| self.fail(line, format!("handoff: {text:?} is not HH:MM")))?,
            None => Time::midnight(),
        };
        let day = |key: &str, text: &str| {
            let wrong = |_| self.fail(line, format!("{key}: {text:?} is no date; write it as 2026-01-05"));
            text.parse::<Date>().map(|d| d.to_datetime(handoff)).map_err(wrong)
        };
        let start = day("start", &raw.start)?;
        let until = raw.until.as_ref().map(|text| day("until", text)).transpose()?;
        let turn = turn(&raw.rotation).ok_or_else(|| {
            let text = &raw.rotation;
            self.fail(line, format!("rotation: {text:?} is not daily, weekly, 12h, 3d or 2w, of a year at most"))
        })?;
        let window = |w: &RawWindow| window(w).map_err(|reason| self.fail(line, format!("only: {reason}")));
        Ok(Layer {
            name: raw.name.clone().unwrap_or_else(|| format!("layer {}", idx + 1)),
            people: raw.people.clone(),
            start,
            until,
            turn,
            windows: raw.only.iter().map(window).collect::<Result<_, _>>()?,
        })
    }

    /// An integration for each person that has the contacts that a channel names.
    fn channels(
        &mut self,
        raw: &[Spanned<RawReceiver>],
        trees: &[Json],
        global: &RawGlobal,
        people: &[Person],
    ) -> Result<BTreeMap<(String, String), Arc<[Integration]>>, ConfigError> {
        self.unique("channel", raw.iter().map(|c| (c.referenced.line(), &c.value.name)))?;
        let kinds: BTreeSet<&str> = people.iter().flat_map(Person::contact_kinds).collect();
        let mut reach = BTreeMap::new();
        for (channel, tree) in raw.iter().zip(trees) {
            let (line, name) = (channel.referenced.line(), &channel.value.name);
            let mut wanted = BTreeSet::new();
            names_in(tree, &mut wanted);
            wanted.remove("name");
            if let Some(unknown) = wanted.iter().find(|w| !kinds.contains(&***w)) {
                return Err(self.fail(line, format!("channel {name:?}: no person has a contact {unknown:?}")));
            }
            for person in people.iter().filter(|p| wanted.iter().all(|w| p.contacts.contains_key(w))) {
                let filled = fill(tree, person);
                let told =
                    |e: ConfigError| self.fail(line, format!("channel {name:?}, for {}: {}", person.name, e.reason));
                let receiver: RawReceiver = decode(self.file, &filled.to_string()).map_err(told)?;
                let mut reader = Reader::new(self.file, self.folder, global);
                let integrations = receiver.integrations(&mut reader, global).map_err(told)?;
                check_templates(&integrations).map_err(|e| self.fail(line, format!("channel {name:?}: {e}")))?;
                reach.insert((person.name.clone(), name.clone()), Arc::from(integrations));
                self.warnings.extend(reader.into_warnings());
            }
        }
        Ok(reach)
    }

    fn chain(
        &self,
        raw: &Spanned<RawChain>,
        people: &BTreeSet<&str>,
        schedules: &[Schedule],
        channels: &BTreeSet<&str>,
    ) -> Result<Chain, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        if raw.steps.is_empty() || raw.steps.len() > ENTRIES_MAX {
            return Err(self.fail(line, format!("chain {:?} wants 1 to {ENTRIES_MAX} steps", raw.name)));
        }
        if raw.repeat > REPEAT_MAX {
            return Err(self.fail(line, format!("repeat: at most {REPEAT_MAX}")));
        }
        let mut steps = Vec::new();
        for (idx, step) in raw.steps.iter().enumerate() {
            let (line, step) = (step.referenced.line(), &step.value);
            let last = idx + 1 == raw.steps.len();
            let wait = step.wait.as_ref().map(|text| self.duration(line, "wait", text)).transpose()?;
            if wait.is_none() && (!last || raw.repeat > 0) {
                return Err(self.fail(line, "this step needs `wait`: how long to wait before the next one"));
            }
            if step.notify.is_empty() {
                return Err(self.fail(line, "a step without `notify`"));
            }
            for channel in step.channels.iter().flatten() {
                self.known(line, "channel", channels.contains(&**channel), channel)?;
            }
            let mut notify = Vec::new();
            for target in &step.notify {
                notify.push(match (&target.schedule, &target.person, &target.receiver) {
                    (Some(name), None, None) => {
                        self.known(line, "schedule", schedules.iter().any(|s| s.name == *name), name)?;
                        Target::Schedule(name.clone())
                    }
                    (None, Some(name), None) => {
                        self.known(line, "person", people.contains(&**name), name)?;
                        Target::Person(name.clone())
                    }
                    (None, None, Some(name)) => Target::Receiver(name.clone()),
                    _ => return Err(self.fail(line, "notify: each entry has one of schedule, person and receiver")),
                });
            }
            steps.push(Step { notify, channels: step.channels.clone(), wait });
        }
        Ok(Chain { name: raw.name.clone(), steps, repeat: raw.repeat, line })
    }

    fn tier(&self, raw: &Spanned<RawTier>, chains: &[Chain], channels: &BTreeSet<&str>) -> Result<Tier, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        for channel in &raw.channels {
            self.known(line, "channel", channels.contains(&**channel), channel)?;
        }
        if let Some(name) = &raw.chain {
            self.known(line, "chain", chains.iter().any(|c| c.name == *name), name)?;
        }
        let mut values = raw.values.clone();
        values.push(raw.name.clone());
        let (name, channels, chain) = (raw.name.clone(), raw.channels.clone(), raw.chain.clone());
        Ok(Tier { name, values, channels, chain, out_of_band: raw.out_of_band.clone(), line })
    }

    fn route(&self, raw: &Spanned<RawRoute>, chains: &[Chain], tiers: &[Tier]) -> Result<PageRoute, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        if raw.receiver.is_none() && raw.matchers.is_empty() {
            return Err(self.fail(line, "a route wants `receiver`, `matchers` or both"));
        }
        if let Some(name) = &raw.chain {
            self.known(line, "chain", chains.iter().any(|c| c.name == *name), name)?;
        }
        if let Some(name) = &raw.tier {
            self.known(line, "tier", tiers.iter().any(|t| t.name == *name), name)?;
        }
        let mut matchers = Vec::new();
        for text in &raw.matchers {
            matchers.extend(parse_matchers(text).map_err(|e| self.fail(line, e.to_string()))?);
        }
        let (receiver, chain, tier) = (raw.receiver.clone(), raw.chain.clone(), raw.tier.clone());
        Ok(PageRoute { receiver, matchers, chain, tier, line })
    }

    fn watchdog(&self, raw: &Spanned<RawWatchdog>, global: &RawGlobal) -> Result<Watchdog, ConfigError> {
        let (line, raw) = (raw.referenced.line(), &raw.value);
        let interval = self.duration(line, "interval", &raw.interval)?;
        if interval < Duration::from_secs(1) {
            return Err(self.fail(line, "interval: 1s or longer"));
        }
        let mut reader = Reader::new(self.file, self.folder, global);
        let integration = notify::webhook::read(&mut reader, global, line, &raw.webhook)?;
        check_templates(std::slice::from_ref(&integration)).map_err(|e| self.fail(line, e))?;
        Ok(Watchdog { interval, integration })
    }
}

impl OnCallConfig {
    /// Everybody whom a chain may tell has a channel to be told by, and a route without a tier names some.
    fn check_reach(&self) -> Result<(), ConfigError> {
        let of_tiers = self.tiers.iter().filter_map(|t| Some((t.chain.as_ref()?, Some(t), t.line)));
        let of_routes = self.routes.iter().filter_map(|r| {
            let tier = r.tier.as_ref().and_then(|name| self.tier(name));
            Some((r.chain.as_ref()?, tier, r.line))
        });
        for (name, tier, line) in of_tiers.chain(of_routes) {
            let Some(chain) = self.chain(name) else { continue };
            for (idx, step) in chain.steps.iter().enumerate() {
                let none = Vec::new();
                let channels = step.channels.as_ref().or(tier.map(|t| &t.channels)).unwrap_or(&none);
                for person in step.notify.iter().flat_map(|t| self.possible(t)) {
                    if !channels.iter().any(|c| self.reach(&person, c).is_some()) {
                        let reason = format!(
                            "chain {name:?}, step {}: {person} has no contact for any of the channels [{}]; \
                             give the person one, or `channels` to the step or to its tier",
                            idx + 1,
                            channels.join(", ")
                        );
                        return Err(ConfigError { file: self.file.clone(), line, reason });
                    }
                }
            }
        }
        Ok(())
    }

    fn possible(&self, target: &Target) -> BTreeSet<String> {
        match target {
            Target::Person(name) => BTreeSet::from([name.clone()]),
            Target::Receiver(_) => BTreeSet::new(),
            Target::Schedule(name) => {
                let layers = self.schedule(name).into_iter().flat_map(|s| &s.layers);
                layers.flat_map(|l| l.people.iter().cloned()).collect()
            }
        }
    }
}

fn check_templates(integrations: &[Integration]) -> Result<(), String> {
    let templates = crate::template::default_templates();
    for text in integrations.iter().flat_map(|i| i.kind.templates()) {
        templates.parse("notification", text).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let digits = |t: &str| (t.len() == 2).then(|| t.parse::<i8>().ok()).flatten();
    Time::new(digits(hour)?, digits(minute)?, 0, 0).ok()
}

fn turn(text: &str) -> Option<Turn> {
    let turn = match text {
        "daily" => Turn::Days(1),
        "weekly" => Turn::Days(7),
        _ => {
            let (n, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let n: i32 = n.parse().ok().filter(|n| *n > 0)?;
            match unit {
                "h" => Turn::Hours(n),
                "d" => Turn::Days(n),
                "w" => Turn::Days(n.checked_mul(7)?),
                _ => return None,
            }
        }
    };
    let days = match turn {
        Turn::Days(days) => days,
        Turn::Hours(hours) => hours / 24,
    };
    (days <= TURN_DAYS_MAX).then_some(turn)
}

fn weekday(text: &str) -> Option<Weekday> {
    use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    let days = [Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday];
    let names = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let found = names.iter().position(|name| name.eq_ignore_ascii_case(text))?;
    Some(days[found])
}

fn window(raw: &RawWindow) -> Result<Window, String> {
    let side = |text: &str| -> Result<(Option<Weekday>, Time), String> {
        let wrong = || format!("{text:?} is neither HH:MM nor `monday HH:MM`");
        match text.trim().split_once(' ') {
            Some((day, at)) => Ok((Some(weekday(day).ok_or_else(wrong)?), time(at).ok_or_else(wrong)?)),
            None => Ok((None, time(text).ok_or_else(wrong)?)),
        }
    };
    let ((from_day, from), (to_day, to)) = (side(&raw.from)?, side(&raw.to)?);
    let days = match (from_day, to_day) {
        (None, None) => i32::from(to <= from),
        (Some(a), Some(b)) => match i32::from(a.until(b)) {
            0 if to <= from => 7,
            days => days,
        },
        _ => return Err("`from` and `to` both have a weekday, or neither".to_owned()),
    };
    Ok(Window { on: from_day, from, days, to })
}

/// What stands in `${…}`, over all texts of a tree.
fn names_in(tree: &Json, found: &mut BTreeSet<String>) {
    match tree {
        Json::String(text) => {
            let mut rest = &**text;
            while let Some((_, after)) = rest.split_once("${") {
                let Some((name, after)) = after.split_once('}') else { break };
                found.insert(name.to_owned());
                rest = after;
            }
        }
        Json::Array(items) => items.iter().for_each(|item| names_in(item, found)),
        Json::Object(map) => map.values().for_each(|item| names_in(item, found)),
        _ => {}
    }
}

/// The tree with a person's contacts put in.
fn fill(tree: &Json, person: &Person) -> Json {
    match tree {
        Json::String(text) => {
            let (mut out, mut rest) = (String::new(), &**text);
            while let Some((before, after)) = rest.split_once("${") {
                let Some((name, after)) = after.split_once('}') else { break };
                out.push_str(before);
                let contact = person.contacts.get(name).map(|secret| &*secret.0);
                out.push_str(contact.unwrap_or(if name == "name" { &person.name } else { "" }));
                rest = after;
            }
            out.push_str(rest);
            Json::String(out)
        }
        Json::Array(items) => items.iter().map(|item| fill(item, person)).collect(),
        Json::Object(map) => map.iter().map(|(key, item)| (key.clone(), fill(item, person))).collect(),
        other => other.clone(),
    }
}
