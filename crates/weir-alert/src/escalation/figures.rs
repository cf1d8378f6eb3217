//! What pages cost, and what they were good for: figures over pages of a range of time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Span;
use jiff::tz::TimeZone;
use weir_model::{TimeRange, Timestamp};

use super::{Page, PageState};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    pub pages: usize,
    /// Somebody acknowledged.
    pub acknowledged: usize,
    /// The chain ended without that.
    pub exhausted: usize,
    pub at_night: usize,
    to_acknowledge: Duration,
    to_resolve: Duration,
    resolved: usize,
}

impl Counted {
    /// Mean time from the page to the acknowledgement, over pages that have one.
    pub fn mtta(&self) -> Option<Duration> {
        Some(self.to_acknowledge / u32::try_from(self.acknowledged).ok().filter(|n| *n > 0)?)
    }

    /// Mean time from the page to its end, over those that are resolved.
    pub fn mttr(&self) -> Option<Duration> {
        Some(self.to_resolve / u32::try_from(self.resolved).ok().filter(|n| *n > 0)?)
    }

    /// Of pages, those that somebody acted upon.
    pub fn acted_upon(&self) -> Option<f64> {
        (self.pages > 0).then(|| self.acknowledged as f64 / self.pages as f64)
    }

    fn add(&mut self, page: &Page, at_night: bool) {
        self.pages += 1;
        self.at_night += usize::from(at_night);
        self.exhausted += usize::from(page.exhausted && page.acknowledged.is_none());
        if let Some(ack) = &page.acknowledged {
            self.acknowledged += 1;
            self.to_acknowledge += ack.at.since(page.started_at);
        }
        if let (Some(end), PageState::Resolved) = (page.ended_at, page.state) {
            self.resolved += 1;
            self.to_resolve += end.since(page.started_at);
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub all: Counted,
    pub by_rule: BTreeMap<String, Counted>,
    /// Whom a message was sent to; a page may count for several.
    pub by_person: BTreeMap<String, Counted>,
    /// By the local date of the evening before, such as `2026-01-05`.
    pub by_night: BTreeMap<String, Counted>,
}

/// Over pages that started in `range`. `night`: local hours from and to.
pub fn figures<'a>(
    pages: impl Iterator<Item = &'a Page>,
    range: TimeRange,
    night: (i8, i8),
    zone: &TimeZone,
) -> Figures {
    let mut out = Figures::default();
    for page in pages.filter(|p| range.contains(p.started_at)) {
        let night = night_of(page.started_at, night, zone);
        let at_night = night.is_some();
        out.all.add(page, at_night);
        out.by_rule.entry(page.rule.clone()).or_default().add(page, at_night);
        for person in page.people() {
            out.by_person.entry(person.to_owned()).or_default().add(page, at_night);
        }
        if let Some(night) = night {
            out.by_night.entry(night).or_default().add(page, true);
        }
    }
    out
}

/// The night that an instant belongs to.
fn night_of(at: Timestamp, (from, to): (i8, i8), zone: &TimeZone) -> Option<String> {
    let local = zone.to_datetime(jiff::Timestamp::from_millisecond(at.0).ok()?);
    let hour = local.hour();
    let over_midnight = from > to;
    let within = if over_midnight { hour >= from || hour < to } else { from <= hour && hour < to };
    let evening =
        if over_midnight && hour < to { local.date().checked_sub(Span::new().days(1)).ok()? } else { local.date() };
    within.then(|| evening.to_string())
}
