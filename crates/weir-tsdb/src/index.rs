//! Which series match: postings by label name and value.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use weir_model::{Labels, MatchOp, Matcher};

use crate::series::Series;

/// Series of one tenant. Positions in `series` are stable until [`Index::compact`].
#[derive(Default)]
pub(crate) struct Index {
    series: Vec<Arc<Series>>,
    by_labels: AHashMap<Labels, u32>,
    /// Ascending positions per name and value. Sorted by name and value, so that listings need no sort.
    postings: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Vec<u32>>>,
}

impl Index {
    pub fn get(&self, labels: &Labels) -> Option<&Arc<Series>> {
        self.by_labels.get(labels).map(|idx| &self.series[*idx as usize])
    }

    pub fn insert(&mut self, labels: &Labels) -> Arc<Series> {
        if let Some(found) = self.get(labels) {
            return found.clone();
        }
        let series = Arc::new(Series::new(self.intern(labels)));
        self.add(series.clone());
        series
    }

    /// Names and values shared with the postings, so that each is stored once.
    fn intern(&self, labels: &Labels) -> Labels {
        Labels::from_pairs(labels.iter().map(|label| {
            let Some((name, values)) = self.postings.get_key_value(&label.name) else {
                return (label.name.clone(), label.value.clone());
            };
            let value = values.get_key_value(&label.value).map_or(&label.value, |(value, _)| value);
            (name.clone(), value.clone())
        }))
    }

    fn add(&mut self, series: Arc<Series>) {
        let idx = u32::try_from(self.series.len()).expect("the budget is spent long before 2^32 series");
        for label in &series.labels {
            let values = self.postings.entry(label.name.clone()).or_default();
            values.entry(label.value.clone()).or_default().push(idx);
        }
        self.by_labels.insert(series.labels.clone(), idx);
        self.series.push(series);
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn all(&self) -> &[Arc<Series>] {
        &self.series
    }

    /// Forgets series without samples, unless somebody else holds one: a writer that has just found
    /// it would append to a series that no reader finds.
    pub fn compact(&mut self) {
        let old = std::mem::take(self);
        for series in old.series.into_iter().filter(|s| s.len() > 0 || Arc::strong_count(s) > 1) {
            self.add(series);
        }
    }

    pub fn select(&self, matchers: &[Matcher]) -> Vec<Arc<Series>> {
        // The most selective matcher that can use postings narrows; the rest is checked per series.
        let narrowed = matchers
            .iter()
            .enumerate()
            .filter(|(_, m)| !m.matches_empty())
            .map(|(idx, m)| (idx, self.positions(m)))
            .min_by_key(|(_, positions)| positions.iter().map(|p| p.len()).sum::<usize>());
        let Some((used, positions)) = narrowed else {
            return self
                .series
                .iter()
                .filter(|s| weir_model::matcher::all_match(matchers, &s.labels))
                .cloned()
                .collect();
        };
        let rest = |series: &Series| {
            matchers.iter().enumerate().all(|(idx, m)| idx == used || m.matches_labels(&series.labels))
        };
        let found = positions.into_iter().flatten().map(|idx| &self.series[*idx as usize]);
        found.filter(|series| rest(series)).cloned().collect()
    }

    /// Postings of the values that a matcher accepts; the lists are disjoint.
    fn positions(&self, matcher: &Matcher) -> Vec<&Vec<u32>> {
        let Some(values) = self.postings.get(matcher.name.as_str()) else { return Vec::new() };
        match matcher.op {
            MatchOp::Equal => values.get(matcher.value.as_str()).into_iter().collect(),
            _ => values.iter().filter(|(value, _)| matcher.matches(value)).map(|(_, list)| list).collect(),
        }
    }

    /// Sorted names, when nothing is asked of the series.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.postings.keys()
    }

    pub fn values(&self, name: &str) -> impl Iterator<Item = &Arc<str>> {
        self.postings.get(name).into_iter().flat_map(|values| values.keys())
    }
}
