//! Which traces of a block may meet a predicate, from the columns that it is about and no others.

use std::ops::Range;
use std::sync::Arc;

use ahash::AHashMap;
use weir_model::source::SpanPredicate;
use weir_model::{AttrValue, StatusCode};
use weir_wal::DirFile;

use super::build::{fixed, is_loose, ordered};
use super::bytes::Corrupt;
use super::contents::Contents;
use super::encode::type_of;
use super::holds;
use super::packed::Packed;
use super::rows;
use super::section::Fault;

/// Predicates that are answered by forms at once; the rest of more may be met by any trace.
const PREDICATES_MAX: usize = 64;

/// Ascending ordinals of the traces in `groups` of which some span meets each predicate; `None` when any may.
pub fn meeting(
    contents: &Contents,
    file: &dyn DirFile,
    groups: Range<usize>,
    predicates: &[SpanPredicate],
) -> Result<Vec<Option<Vec<u32>>>, Fault> {
    let mut finder = Finder { contents, file, groups, forms: None };
    let mut found = vec![None; predicates.len()];
    let known = predicates.len().min(PREDICATES_MAX);
    for (k, list) in finder.by_form(&predicates[..known])?.into_iter().enumerate() {
        found[k] = Some(list);
    }
    for (predicate, list) in predicates.iter().zip(&mut found) {
        let more = match predicate {
            SpanPredicate::MinDuration(nanos) => finder.by_duration(*nanos)?,
            SpanPredicate::Attribute(name, value) => finder.by_attribute(name, value)?,
            _ => continue,
        };
        if let Some(list) = list {
            list.extend(more);
            list.sort_unstable();
            list.dedup();
        }
    }
    Ok(found)
}

struct Finder<'a> {
    contents: &'a Contents,
    file: &'a dyn DirFile,
    groups: Range<usize>,
    /// Of each group, once they are needed.
    forms: Option<Vec<Vec<u32>>>,
}

impl Finder<'_> {
    fn forms(&mut self) -> Result<&[Vec<u32>], Fault> {
        if self.forms.is_none() {
            let loaded = self.contents.load(self.file, fixed::FORMS, self.groups.clone())?;
            let mut all = Vec::with_capacity(self.groups.len());
            for group in self.groups.clone() {
                let mut forms = Vec::new();
                loaded.group(group).ok_or(Corrupt("a column is missing"))?.unpack(&mut forms, |form| form as u32);
                if forms.iter().any(|form| *form as usize >= self.contents.forms.len()) {
                    return Err(Corrupt("a form is missing").into());
                }
                all.push(forms);
            }
            self.forms = Some(all);
        }
        Ok(self.forms.as_deref().unwrap_or_default())
    }

    /// Traces with a span whose form alone meets a predicate.
    fn by_form(&mut self, predicates: &[SpanPredicate]) -> Result<Vec<Vec<u32>>, Fault> {
        let contents = self.contents;
        let mut masks = vec![0_u64; contents.forms.len()];
        for (k, predicate) in predicates.iter().enumerate() {
            let of_resource: Vec<bool> = match predicate {
                SpanPredicate::Service(name) => contents.resources.iter().map(|r| r.service() == name).collect(),
                SpanPredicate::Attribute(name, value) => {
                    let is = |(n, v): &(Arc<str>, AttrValue)| **n == **name && holds(v, value);
                    contents.resources.iter().map(|r| r.attributes.iter().any(is)).collect()
                }
                _ => Vec::new(),
            };
            let name = match predicate {
                SpanPredicate::Name(name) => contents.texts.reader(self.file).find(name)?,
                _ => None,
            };
            for (mask, form) in masks.iter_mut().zip(&contents.forms) {
                let meets = match predicate {
                    SpanPredicate::Service(_) | SpanPredicate::Attribute(..) => of_resource[form.resource as usize],
                    SpanPredicate::Name(_) => name == Some(form.name),
                    SpanPredicate::Error => form.status == StatusCode::Error,
                    SpanPredicate::MinDuration(_) => false,
                };
                *mask |= u64::from(meets) << k;
            }
        }
        let mut found = vec![Vec::new(); predicates.len()];
        if masks.iter().all(|mask| *mask == 0) {
            return Ok(found);
        }
        let groups = self.groups.clone();
        for (group, forms) in groups.zip(self.forms()?) {
            let group = &contents.groups[group];
            for ordinal in group.ordinals.clone() {
                let rows = contents.rows(ordinal);
                let rows = (rows.start - group.rows.start) as usize..(rows.end - group.rows.start) as usize;
                let mut mask = forms[rows].iter().fold(0, |mask, form| mask | masks[*form as usize]);
                while mask != 0 {
                    found[mask.trailing_zeros() as usize].push(ordinal);
                    mask &= mask - 1;
                }
            }
        }
        Ok(found)
    }

    fn by_duration(&mut self, nanos: i64) -> Result<Vec<u32>, Fault> {
        let loaded = self.contents.load(self.file, fixed::DURATIONS, self.groups.clone())?;
        let mut found = Vec::new();
        for group in self.groups.clone() {
            let first = self.contents.groups[group].rows.start;
            // A span that ends before it starts counts as one without length.
            let least = if nanos <= 0 { 0 } else { ordered(nanos) };
            if let Some(durations) = loaded.group(group) {
                let mut places = Vec::new();
                durations.places_from(least, |place| places.push(place));
                found.extend(places.into_iter().map(|place| self.contents.ordinal_of(first + place as u32)));
            }
        }
        found.dedup();
        Ok(found)
    }

    /// Traces with a span that has the attribute itself.
    fn by_attribute(&mut self, name: &str, wanted: &AttrValue) -> Result<Vec<u32>, Fault> {
        let contents = self.contents;
        let mut found = Vec::new();
        for column in contents.columns_of(name) {
            let kind = contents.columns[column].kind;
            let raw = match wanted {
                AttrValue::Str(text) if kind == type_of(wanted) => {
                    contents.texts.reader(self.file).find(text)?.map(u64::from)
                }
                AttrValue::Int(v) if kind == type_of(wanted) => Some(ordered(*v)),
                AttrValue::Bool(v) if kind == type_of(wanted) => Some(u64::from(*v)),
                _ => None,
            };
            let looks_inside = is_loose(kind) || (matches!(wanted, AttrValue::Double(_)) && kind == type_of(wanted));
            if raw.is_none() && !looks_inside {
                continue;
            }
            let loaded = contents.load(self.file, column, self.groups.clone())?;
            let times = contents.times_in(column);
            for group in self.groups.clone() {
                let Some(values) = loaded.group(group) else { continue };
                let mut places = Vec::new();
                match raw {
                    Some(raw) if values.constant().is_none_or(|constant| constant == raw) => {
                        values.places_of(raw, |place| places.push(place));
                    }
                    Some(_) => {}
                    None => self.places_inside(values, kind, wanted, &mut places)?,
                }
                if !places.is_empty() {
                    self.rows_of(group, &times, &places, &mut found)?;
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Places of values that have to be looked into.
    fn places_inside(
        &self,
        values: &Packed,
        kind: u8,
        wanted: &AttrValue,
        places: &mut Vec<usize>,
    ) -> Result<(), Fault> {
        let mut texts = self.contents.texts.reader(self.file);
        let mut known: AHashMap<u64, bool> = AHashMap::new();
        for place in 0..values.len() {
            let Some(raw) = values.get(place) else { break };
            let is = match known.get(&raw) {
                Some(is) => *is,
                None => {
                    let is = holds(&rows::value(kind, raw, &mut texts)?, wanted);
                    known.insert(raw, is);
                    is
                }
            };
            if is {
                places.push(place);
            }
        }
        Ok(())
    }

    /// The traces of the rows that a column's values at `places` (ascending) belong to.
    fn rows_of(&mut self, group: usize, times: &[u32], places: &[usize], out: &mut Vec<u32>) -> Result<(), Fault> {
        let contents = self.contents;
        let first = contents.groups[group].rows.start;
        if times.iter().all(|n| *n == 1) {
            out.extend(places.iter().map(|place| contents.ordinal_of(first + *place as u32)));
            return Ok(());
        }
        let at = group - self.groups.start;
        let mut rank = 0;
        let mut wanted = places.iter().copied().peekable();
        for (row, form) in self.forms()?[at].iter().enumerate() {
            rank += times[*form as usize] as usize;
            while wanted.next_if(|place| *place < rank).is_some() {
                out.push(contents.ordinal_of(first + row as u32));
            }
            if wanted.peek().is_none() {
                break;
            }
        }
        Ok(())
    }
}
