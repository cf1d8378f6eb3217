//! `compare({…})`: how often each value of each attribute stands inside and outside a selection.
//!
//! Source: Tempo's documentation of `compare`; labels as its query frontend gives them.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::span::{SAMPLING_WEIGHT, attr, weight_of};
use weir_model::{AttrValue, Nanos, Reservation};

use super::metrics::{LabelValue, MetricsSeries};
use super::value::{field_of, holds};
use super::{QueryError, Trace};
use crate::ast::{Comparison, Field, Intrinsic};

/// Distinct values of one attribute that are told apart; more count in the totals alone.
const VALUES_MAX: usize = 1000;

/// What every span has beside its attributes; ids and durations have too many values to compare.
const INTRINSICS: [Intrinsic; 6] = [
    Intrinsic::Name,
    Intrinsic::Status,
    Intrinsic::StatusMessage,
    Intrinsic::Kind,
    Intrinsic::RootName,
    Intrinsic::RootService,
];

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Intrinsic,
    Span,
    Resource,
}

/// Counts by step.
type Counts = Vec<f64>;

#[derive(Default)]
struct Attribute {
    /// By type and text.
    values: AHashMap<String, (AttrValue, Counts)>,
    totals: Counts,
    overflowed: bool,
}

#[derive(Default)]
struct Side(AHashMap<Place, AHashMap<Arc<str>, Attribute>>);

/// Counts spans as they come by.
pub(super) struct Comparing {
    steps: usize,
    baseline: Side,
    selection: Side,
    memory: Reservation,
}

impl Comparing {
    pub(super) fn new(steps: usize, memory: Reservation) -> Self {
        Self { steps, baseline: Side::default(), selection: Side::default(), memory }
    }

    pub(super) fn add(
        &mut self,
        with: &Comparison,
        trace: &Trace<'_>,
        idx: usize,
        step: usize,
    ) -> Result<(), QueryError> {
        let span = &trace.spans[idx];
        let in_time = with.window.is_none_or(|(from, to)| from <= span.start && span.start < to);
        let weight = weight_of(attr(&span.attributes, SAMPLING_WEIGHT));
        let selected = in_time && holds(&with.selection, trace, idx);
        for intrinsic in INTRINSICS {
            let value = field_of(trace, idx, &Field::Intrinsic(intrinsic)).to_attribute();
            if let Some(value) = value.filter(|v| v.as_str() != Some("")) {
                self.count((selected, Place::Intrinsic), intrinsic.as_str(), &value, (step, weight))?;
            }
        }
        let places = [(Place::Span, &span.attributes), (Place::Resource, &span.resource.attributes)];
        for (place, attributes) in places {
            for (name, value) in attributes {
                self.count((selected, place), name, value, (step, weight))?;
            }
        }
        Ok(())
    }

    fn count(
        &mut self,
        (selected, place): (bool, Place),
        name: &str,
        value: &AttrValue,
        (step, weight): (usize, f64),
    ) -> Result<(), QueryError> {
        let row_bytes = 8 * self.steps as u64 + 200;
        let side = if selected { &mut self.selection } else { &mut self.baseline };
        let names = side.0.entry(place).or_default();
        let attribute = match names.get_mut(name) {
            Some(known) => known,
            None => {
                self.memory.grow(row_bytes)?;
                let fresh = Attribute { totals: vec![0.0; self.steps], ..Attribute::default() };
                names.entry(name.into()).or_insert(fresh)
            }
        };
        attribute.totals[step] += weight;
        let key = format!("{value:?}");
        let is_full = attribute.values.len() >= VALUES_MAX;
        match attribute.values.get_mut(&key) {
            Some((_, counts)) => counts[step] += weight,
            None if is_full => attribute.overflowed = true,
            None => {
                self.memory.grow(row_bytes + 2 * key.len() as u64)?;
                let mut counts = vec![0.0; self.steps];
                counts[step] = weight;
                attribute.values.insert(key, (value.clone(), counts));
            }
        }
        Ok(())
    }

    /// The most frequent values of each attribute on either side, the totals, and the attributes with
    /// more values than are shown.
    pub(super) fn series(self, top: usize, at: impl Fn(usize) -> Nanos) -> Vec<MetricsSeries> {
        let mut out = Vec::new();
        let mut overflowed: Vec<String> = Vec::new();
        let mut add = |labels: [(String, LabelValue); 2], counts: Counts| {
            let samples = counts.into_iter().enumerate().map(|(step, n)| (at(step), n)).collect();
            out.push(MetricsSeries { labels: labels.into(), samples, exemplars: Vec::new() });
        };
        for (kind, side) in [("baseline", self.baseline), ("selection", self.selection)] {
            let meta = |kind: &str| ("__meta_type".to_owned(), LabelValue::Attribute(AttrValue::from(kind)));
            for (place, names) in side.0 {
                for (name, attribute) in names {
                    let shown = place.name(&name);
                    if attribute.overflowed || attribute.values.len() > top {
                        overflowed.push(shown.clone());
                    }
                    let mut values: Vec<(String, (AttrValue, Counts))> = attribute.values.into_iter().collect();
                    let total = |counts: &Counts| counts.iter().sum::<f64>();
                    values.sort_by(|a, b| total(&b.1.1).total_cmp(&total(&a.1.1)).then_with(|| a.0.cmp(&b.0)));
                    for (_, (value, counts)) in values.into_iter().take(top) {
                        add([meta(kind), (shown.clone(), LabelValue::Attribute(value))], counts);
                    }
                    add([meta(&format!("{kind}_total")), (shown, LabelValue::Nil)], attribute.totals);
                }
            }
        }
        overflowed.sort();
        overflowed.dedup();
        for name in overflowed {
            let error = LabelValue::Attribute(AttrValue::from("__too_many_values__"));
            add([("__meta_error".to_owned(), error), (name, LabelValue::Nil)], Vec::new());
        }
        out
    }
}

impl Place {
    fn name(self, name: &str) -> String {
        match self {
            Self::Intrinsic => name.to_owned(),
            Self::Span => format!("span.{name}"),
            Self::Resource => format!("resource.{name}"),
        }
    }
}
