//! Who is on call, and when: layers of rotations, restrictions to hours, overrides.
//!
//! Everything here is a function of the schedule and of instants. Local times become instants by the rules of the
//! zone: one that is skipped in spring is taken as much later, of one that comes twice in autumn the first is meant.
//! So the instants of handoffs never go back, and every instant belongs to exactly one shift of a layer.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};
use serde::{Deserialize, Serialize};
use weir_model::Timestamp;

/// Shifts in one answer at most.
pub const SHIFTS_MAX: usize = 10_000;

#[derive(Clone, Debug)]
pub struct Schedule {
    pub name: String,
    /// As written, such as `Europe/Berlin`.
    pub zone_name: String,
    pub zone: TimeZone,
    /// Of two layers that have somebody, the later one counts.
    pub layers: Vec<Layer>,
    /// Those of the file; over all layers.
    pub overrides: Vec<Override>,
}

#[derive(Clone, Debug)]
pub struct Layer {
    pub name: String,
    /// Take turns in this order; never empty.
    pub people: Vec<String>,
    /// Local time of the first handoff: from then on the layer has somebody.
    pub start: DateTime,
    /// Local time from which it has nobody any more.
    pub until: Option<DateTime>,
    pub turn: Turn,
    /// The layer holds within any of these; empty: always.
    pub windows: Vec<Window>,
}

/// Length of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Days(i32),
    Hours(i32),
}

impl Turn {
    fn minutes(self) -> i64 {
        match self {
            Self::Days(n) => i64::from(n) * 24 * 60,
            Self::Hours(n) => i64::from(n) * 60,
        }
    }
}

/// A part of the day, or of the week when it begins on a weekday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub on: Option<Weekday>,
    pub from: Time,
    /// Days after the one it begins on.
    pub days: i32,
    pub to: Time,
}

/// Somebody stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub id: String,
    pub schedule: String,
    pub person: String,
    pub start: Timestamp,
    pub end: Timestamp,
    /// Who made it.
    pub by: String,
    pub made_at: Timestamp,
}

/// A stretch with one person, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shift {
    pub start: Timestamp,
    pub end: Timestamp,
    pub person: Option<String>,
    pub source: Source,
}

/// Why this person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Nobody,
    Layer(String),
    /// Its id.
    Override(String),
}

fn instant(local: DateTime, zone: &TimeZone) -> Timestamp {
    // Fails only at the ends of the calendar.
    let zoned = local.to_zoned(zone.clone());
    zoned.map_or(Timestamp::MAX, |z| Timestamp(z.timestamp().as_millisecond()))
}

fn local(at: Timestamp, zone: &TimeZone) -> DateTime {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(if at.0 < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    zone.to_datetime(at)
}

fn add(at: DateTime, span: Span) -> DateTime {
    at.checked_add(span).unwrap_or(DateTime::MAX)
}

impl Layer {
    /// When turn `n` begins. Counted in local time, so that the clock on the wall says the same at each.
    pub fn handoff(&self, n: i64, zone: &TimeZone) -> Timestamp {
        let span = match self.turn {
            Turn::Days(days) => Span::new().try_days(n.saturating_mul(i64::from(days))),
            Turn::Hours(hours) => Span::new().try_hours(n.saturating_mul(i64::from(hours))),
        };
        span.map_or(Timestamp::MAX, |span| instant(add(self.start, span), zone))
    }

    /// The turn at an instant; `None` before the first, and from `until` on.
    pub fn turn_at(&self, at: Timestamp, zone: &TimeZone) -> Option<i64> {
        if at < self.handoff(0, zone) || self.until.is_some_and(|until| at >= instant(until, zone)) {
            return None;
        }
        let elapsed = local(at, zone).duration_since(self.start).as_secs().div_euclid(60);
        // Off by what the zone skipped or repeated at most.
        let mut turn = elapsed.div_euclid(self.turn.minutes()).max(0);
        while turn > 0 && self.handoff(turn, zone) > at {
            turn -= 1;
        }
        while self.handoff(turn + 1, zone) <= at {
            turn += 1;
        }
        Some(turn)
    }

    fn person(&self, turn: i64) -> &str {
        let n = i64::try_from(self.people.len()).unwrap_or(1);
        &self.people[usize::try_from(turn.rem_euclid(n)).unwrap_or_default()]
    }

    pub fn on_call(&self, at: Timestamp, zone: &TimeZone) -> Option<&str> {
        let turn = self.turn_at(at, zone)?;
        let within = self.windows.is_empty() || self.windows.iter().any(|w| w.contains(at, zone));
        within.then(|| self.person(turn))
    }

    /// Instants within the range at which the answer may change.
    fn edges(&self, start: Timestamp, end: Timestamp, zone: &TimeZone, edges: &mut BTreeSet<Timestamp>) {
        if self.until.is_some_and(|until| instant(until, zone) <= start) {
            return;
        }
        let mut add = |at: Timestamp| (start < at && at < end).then(|| edges.insert(at));
        add(self.handoff(0, zone));
        if let Some(until) = self.until {
            add(instant(until, zone));
        }
        let mut turn = self.turn_at(start, zone).unwrap_or(0);
        loop {
            let at = self.handoff(turn, zone);
            if at >= end {
                break;
            }
            add(at);
            turn += 1;
        }
        let (first, last) = (local(start, zone).date(), local(end, zone).date());
        for window in &self.windows {
            let mut day = first.saturating_sub(8.days());
            while day <= last {
                if let Some((from, to)) = window.on_day(day, zone) {
                    add(from);
                    add(to);
                }
                let Ok(next) = day.tomorrow() else { break };
                day = next;
            }
        }
    }
}

impl Window {
    /// The instance that begins on a day.
    fn on_day(&self, day: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        if self.on.is_some_and(|on| on != day.weekday()) {
            return None;
        }
        let last = day.checked_add(self.days.days()).ok()?;
        Some((instant(day.to_datetime(self.from), zone), instant(last.to_datetime(self.to), zone)))
    }

    fn contains(&self, at: Timestamp, zone: &TimeZone) -> bool {
        let today = local(at, zone).date();
        // A day more, as midnight may come twice.
        (-1..=i64::from(self.days)).any(|back| {
            let day = today.checked_sub(Span::new().days(back)).ok();
            day.and_then(|day| self.on_day(day, zone)).is_some_and(|(from, to)| from <= at && at < to)
        })
    }
}

impl Override {
    fn holds(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

impl Schedule {
    /// Overrides of this schedule: those of the file, then `made`.
    fn overrides<'a>(&'a self, made: &'a [Override]) -> impl Iterator<Item = &'a Override> {
        self.overrides.iter().chain(made.iter().filter(|o| o.schedule == self.name))
    }

    /// Who is on call, and by what; of overrides that overlap the one made last counts.
    pub fn on_call<'a>(&'a self, made: &'a [Override], at: Timestamp) -> Option<(&'a str, Source)> {
        let stands_in = self.overrides(made).filter(|o| o.holds(at)).max_by_key(|o| (o.made_at, &o.id));
        if let Some(over) = stands_in {
            return Some((&over.person, Source::Override(over.id.clone())));
        }
        let found = self.layers.iter().rev().find_map(|layer| Some((layer, layer.on_call(at, &self.zone)?)));
        found.map(|(layer, person)| (person, Source::Layer(layer.name.clone())))
    }

    /// The final schedule: stretches without gaps from `start` to `end`, at most [`SHIFTS_MAX`].
    pub fn shifts(&self, made: &[Override], start: Timestamp, end: Timestamp) -> Vec<Shift> {
        let mut edges = BTreeSet::from([start]);
        for layer in &self.layers {
            layer.edges(start, end, &self.zone, &mut edges);
        }
        for over in self.overrides(made) {
            edges.extend([over.start, over.end].into_iter().filter(|at| start < *at && *at < end));
        }
        merge(edges, end, |at| self.on_call(made, at))
    }

    /// One layer alone, as the calendar shows it below the final schedule.
    pub fn layer_shifts(&self, layer: &Layer, start: Timestamp, end: Timestamp) -> Vec<Shift> {
        let mut edges = BTreeSet::from([start]);
        layer.edges(start, end, &self.zone, &mut edges);
        merge(edges, end, |at| Some((layer.on_call(at, &self.zone)?, Source::Layer(layer.name.clone()))))
    }

    /// When somebody else takes over, looked for up to `within` ahead.
    pub fn next_change(&self, made: &[Override], at: Timestamp, within: Duration) -> Option<Shift> {
        let shifts = self.shifts(made, at, at.plus(within));
        let now = shifts.first()?.person.clone();
        shifts.into_iter().find(|s| s.person != now)
    }
}

fn merge<'a>(
    edges: BTreeSet<Timestamp>,
    end: Timestamp,
    on_call: impl Fn(Timestamp) -> Option<(&'a str, Source)>,
) -> Vec<Shift> {
    let mut shifts: Vec<Shift> = Vec::new();
    for at in edges {
        let (person, source) = match on_call(at) {
            Some((person, source)) => (Some(person.to_owned()), source),
            None => (None, Source::Nobody),
        };
        match shifts.last_mut() {
            Some(last) if last.person == person && last.source == source => {}
            last => {
                if let Some(last) = last {
                    last.end = at;
                }
                if shifts.len() == SHIFTS_MAX {
                    return shifts;
                }
                shifts.push(Shift { start: at, end, person, source });
            }
        }
    }
    shifts
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};
    use proptest::prelude::*;

    use super::*;

    const H: i64 = 3_600_000;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn layer(people: &[&str], start: DateTime, turn: Turn) -> Layer {
        let people = people.iter().map(|p| (*p).to_owned()).collect();
        Layer { name: "l".into(), people, start, until: None, turn, windows: Vec::new() }
    }

    fn schedule(zone_name: &str, layers: Vec<Layer>) -> Schedule {
        Schedule { name: "s".into(), zone_name: zone_name.into(), zone: zone(zone_name), layers, overrides: Vec::new() }
    }

    fn show(shifts: &[Shift], zone: &TimeZone) -> Vec<String> {
        let line = |s: &Shift| {
            let start = jiff::Timestamp::from_millisecond(s.start.0).unwrap().to_zoned(zone.clone());
            format!("{} {}", start.strftime("%m-%d %H:%M%:z"), s.person.as_deref().unwrap_or("-"))
        };
        shifts.iter().map(line).collect()
    }

    #[test]
    fn weekly_handoffs_stay_at_nine_over_both_changes_of_the_clock() {
        let weekly = layer(&["ana", "ben", "cleo"], date(2026, 3, 16).at(9, 0, 0, 0), Turn::Days(7));
        let s = schedule("Europe/Berlin", vec![weekly]);
        let shifts = s.shifts(&[], at("2026-03-15T00:00:00Z"), at("2026-04-08T00:00:00Z"));
        let want = [
            "03-15 01:00+01:00 -",
            "03-16 09:00+01:00 ana",
            "03-23 09:00+01:00 ben",
            "03-30 09:00+02:00 cleo",
            "04-06 09:00+02:00 ana",
        ];
        assert_eq!(show(&shifts, &s.zone), want);
        let autumn = s.shifts(&[], at("2026-10-20T00:00:00Z"), at("2026-11-04T00:00:00Z"));
        let want = ["10-20 02:00+02:00 ben", "10-26 09:00+01:00 cleo", "11-02 09:00+01:00 ana"];
        assert_eq!(show(&autumn, &s.zone), want);
    }

    #[test]
    fn handoffs_in_an_hour_that_is_skipped_or_comes_twice() {
        let nightly = layer(&["ana", "ben"], date(2026, 3, 27).at(2, 30, 0, 0), Turn::Days(1));
        let s = schedule("Europe/Berlin", vec![nightly]);
        let spring = s.shifts(&[], at("2026-03-28T01:30:00Z"), at("2026-03-30T12:00:00Z"));
        assert_eq!(show(&spring, &s.zone), ["03-28 02:30+01:00 ben", "03-29 03:30+02:00 ana", "03-30 02:30+02:00 ben"]);
        let autumn = s.shifts(&[], at("2026-10-24T12:00:00Z"), at("2026-10-26T12:00:00Z"));
        assert_eq!(show(&autumn, &s.zone), ["10-24 14:00+02:00 ben", "10-25 02:30+02:00 ana", "10-26 02:30+01:00 ben"]);
        // The second 02:10 of that night comes after the first 02:30.
        assert_eq!(s.on_call(&[], at("2026-10-25T01:10:00Z")).unwrap().0, "ana");
    }

    #[test]
    fn half_days_hand_over_at_the_same_local_times() {
        let half = layer(&["day", "night"], date(2026, 3, 28).at(9, 0, 0, 0), Turn::Hours(12));
        let s = schedule("Europe/Berlin", vec![half]);
        let shifts = s.shifts(&[], at("2026-03-28T08:00:00Z"), at("2026-03-30T06:00:00Z"));
        assert_eq!(
            show(&shifts, &s.zone),
            ["03-28 09:00+01:00 day", "03-28 21:00+01:00 night", "03-29 09:00+02:00 day", "03-29 21:00+02:00 night"]
        );
    }

    #[test]
    fn windows_leave_the_rest_to_the_layer_below() {
        let below = layer(&["night"], date(2026, 1, 1).at(0, 0, 0, 0), Turn::Days(7));
        let mut above = layer(&["day"], date(2026, 1, 1).at(0, 0, 0, 0), Turn::Days(7));
        let window = |on, from: i8, days, to: i8| Window { on, from: time(from, 0, 0, 0), days, to: time(to, 0, 0, 0) };
        above.windows = vec![window(Some(Weekday::Monday), 9, 4, 17)];
        let mut late = layer(&["late"], date(2026, 1, 1).at(0, 0, 0, 0), Turn::Days(1));
        late.windows = vec![window(None, 22, 1, 2)];
        late.until = Some(date(2026, 1, 7).at(0, 0, 0, 0));
        let s = schedule("UTC", vec![below, above, late]);
        let shifts = s.shifts(&[], at("2026-01-05T08:00:00Z"), at("2026-01-10T00:00:00Z"));
        assert_eq!(
            show(&shifts, &s.zone),
            [
                "01-05 08:00+00:00 night",
                "01-05 09:00+00:00 day",
                "01-05 22:00+00:00 late",
                "01-06 02:00+00:00 day",
                "01-06 22:00+00:00 late",
                "01-07 00:00+00:00 day",
                "01-09 17:00+00:00 night"
            ]
        );
    }

    #[test]
    fn the_newest_override_counts_and_ends() {
        let s = schedule("UTC", vec![layer(&["ana", "ben"], date(2026, 1, 5).at(9, 0, 0, 0), Turn::Days(7))]);
        let over = |id: &str, person: &str, from: &str, to: &str, made: i64| Override {
            id: id.into(),
            schedule: "s".into(),
            person: person.into(),
            start: at(from),
            end: at(to),
            by: "x".into(),
            made_at: Timestamp(made),
        };
        let made = [
            over("2", "cleo", "2026-01-06T12:00:00Z", "2026-01-06T18:00:00Z", 2),
            over("1", "ben", "2026-01-06T10:00:00Z", "2026-01-06T20:00:00Z", 1),
            Override {
                schedule: "other".into(),
                ..over("3", "dan", "2026-01-06T10:00:00Z", "2026-01-07T20:00:00Z", 3)
            },
        ];
        let shifts = s.shifts(&made, at("2026-01-06T09:00:00Z"), at("2026-01-07T00:00:00Z"));
        assert_eq!(
            show(&shifts, &s.zone),
            [
                "01-06 09:00+00:00 ana",
                "01-06 10:00+00:00 ben",
                "01-06 12:00+00:00 cleo",
                "01-06 18:00+00:00 ben",
                "01-06 20:00+00:00 ana"
            ]
        );
        let next = s.next_change(&made, at("2026-01-06T09:00:00Z"), Duration::from_secs(86_400)).unwrap();
        assert_eq!((next.person.as_deref(), next.start), (Some("ben"), at("2026-01-06T10:00:00Z")));
    }

    const ZONES: [&str; 6] =
        ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia"];

    proptest! {
        /// Turns cover every instant once, never go back, and begin at the same local time unless the zone skips it.
        #[test]
        fn every_instant_belongs_to_one_turn(
            zone_idx in 0..ZONES.len(), day in 0_i64..20_000, minute in 0_i64..1440, length in 1_i32..40, hours: bool, n in 1_usize..5,
            offset in 0_i64..(400 * 24 * H),
        ) {
            let zone = zone(ZONES[zone_idx]);
            let start = date(1990, 1, 1).at(0, 0, 0, 0).checked_add(Span::new().days(day).minutes(minute)).unwrap();
            let people: Vec<String> = (0..n).map(|k| format!("p{k}")).collect();
            let turn = if hours { Turn::Hours(length) } else { Turn::Days(length) };
            let layer = Layer { name: "l".into(), people, start, until: None, turn, windows: Vec::new() };
            let at = Timestamp(layer.handoff(0, &zone).0 + offset);
            let k = layer.turn_at(at, &zone).unwrap();
            prop_assert!(layer.handoff(k, &zone) <= at && at < layer.handoff(k + 1, &zone));
            let wall = local(layer.handoff(k, &zone), &zone);
            let wanted = add(start, match turn {
                Turn::Days(d) => Span::new().days(k * i64::from(d)),
                Turn::Hours(h) => Span::new().hours(k * i64::from(h)),
            });
            prop_assert!(wall >= wanted, "{wall} before {wanted}");
            prop_assert_eq!(layer.on_call(at, &zone), Some(&*layer.people[(k % n as i64) as usize]));
        }

        /// The final schedule has no gap and no overlap, and says at each instant what is asked one by one.
        #[test]
        fn shifts_agree_with_single_questions(
            zone_idx in 0..ZONES.len(), start_day in 0_i64..400, probes in proptest::collection::vec(0_i64..(60 * 24 * H), 1..40),
            from in 0_i8..24, to in 0_i8..24, weekday in proptest::option::of(0_i8..7), length in 1_i32..30, hours: bool,
            over in (0_i64..(50 * 24 * H), 1_i64..(9 * 24 * H)),
        ) {
            let begin = date(2025, 9, 1).at(9, 0, 0, 0);
            let turn = if hours { Turn::Hours(length) } else { Turn::Days(length) };
            let below = layer(&["a", "b", "c"], begin, turn);
            let mut above = layer(&["d", "e"], begin, Turn::Days(7));
            let on = weekday.map(|d| Weekday::from_monday_zero_offset(d).unwrap());
            above.windows = vec![Window { on, from: time(from, 30, 0, 0), days: i32::from(to <= from), to: time(to, 15, 0, 0) }];
            let s = schedule(ZONES[zone_idx], vec![below, above]);
            let start = Timestamp(at("2025-08-25T00:00:00Z").0 + start_day * 24 * H);
            let end = Timestamp(start.0 + 60 * 24 * H);
            let made = [Override {
                id: "o".into(), schedule: "s".into(), person: "z".into(), start: Timestamp(start.0 + over.0),
                end: Timestamp(start.0 + over.0 + over.1), by: String::new(), made_at: start,
            }];
            let shifts = s.shifts(&made, start, end);
            prop_assert_eq!((shifts[0].start, shifts[shifts.len() - 1].end), (start, end));
            prop_assert!(shifts.windows(2).all(|w| w[0].end == w[1].start && w[0].start < w[0].end));
            for probe in probes {
                let at = Timestamp(start.0 + probe);
                let shift = shifts.iter().find(|x| x.start <= at && at < x.end).unwrap();
                prop_assert_eq!(shift.person.as_deref(), s.on_call(&made, at).map(|(p, _)| p));
            }
        }
    }
}
