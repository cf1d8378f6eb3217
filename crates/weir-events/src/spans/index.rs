//! What a block knows of its traces without reading their pages: ids, times, and which traces hold a
//! service, a name or an attribute's text.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::source::SpanPredicate;
use weir_model::{AttrValue, Nanos, Span, TraceId};

use super::bytes::{Corrupt, Reader, put, put_bytes, put_signed};

const SERVICE: u8 = b's';
const NAME: u8 = b'n';
const ATTRIBUTE: u8 = b'a';
/// Longer texts are not in the index; their attribute is searched by reading.
const TERM_BYTES_MAX: usize = 300;
/// An attribute with more different texts than this is indexed only if they repeat.
const TEXTS_MAX: usize = 1024;
const REPEATS_MIN: usize = 3;

/// Every text that an equality with a text could hold for, of a value or the elements of an array.
/// Bytes and maps count as the text that queries see.
pub fn texts(value: &AttrValue, f: &mut impl FnMut(&str)) {
    match value {
        AttrValue::Str(text) => f(text),
        AttrValue::Array(items) => items.iter().for_each(|item| texts(item, f)),
        AttrValue::Bytes(_) | AttrValue::Map(_) => f(&value.to_text()),
        AttrValue::Int(_) | AttrValue::Double(_) | AttrValue::Bool(_) => {}
    }
}

fn attribute_prefix(term: &mut Vec<u8>, name: &str) {
    term.clear();
    term.push(ATTRIBUTE);
    put_bytes(term, name.as_bytes());
}

/// Collects the terms of traces, handed over by ascending ordinal.
#[derive(Default)]
struct Terms {
    postings: AHashMap<Vec<u8>, Vec<u32>>,
    /// Prefixes of terms that are not all here.
    partial: Vec<Vec<u8>>,
    term: Vec<u8>,
}

impl Terms {
    /// `self.term` holds the prefix.
    fn add(&mut self, text: &str, ordinal: u32) {
        let prefix = self.term.len();
        if text.len() > TERM_BYTES_MAX {
            let prefix = self.term[..prefix].to_vec();
            if !self.partial.contains(&prefix) {
                self.partial.push(prefix);
            }
            return;
        }
        self.term.extend_from_slice(text.as_bytes());
        match self.postings.get_mut(&self.term) {
            Some(list) if list.last() == Some(&ordinal) => {}
            Some(list) => list.push(ordinal),
            None => {
                self.postings.insert(self.term.clone(), vec![ordinal]);
            }
        }
        self.term.truncate(prefix);
    }

    fn span(&mut self, span: &Span, with_resource: bool, ordinal: u32) {
        self.term.clear();
        self.term.push(NAME);
        self.add(&span.name, ordinal);
        let of_resource = span.resource.attributes.iter().filter(|_| with_resource);
        for (name, value) in span.attributes.iter().chain(of_resource) {
            let mut term = std::mem::take(&mut self.term);
            attribute_prefix(&mut term, name);
            self.term = term;
            texts(value, &mut |text| self.add(text, ordinal));
        }
        if with_resource {
            self.term.clear();
            self.term.push(SERVICE);
            self.add(span.resource.service(), ordinal);
        }
    }

    /// Sorted; attributes whose texts hardly repeat are left out, as their terms would be as large as
    /// the data.
    fn finish(mut self) -> (Vec<(Vec<u8>, Vec<u32>)>, Vec<Vec<u8>>) {
        let mut sizes: AHashMap<Vec<u8>, (usize, usize)> = AHashMap::new();
        for (term, list) in &self.postings {
            let sizes = sizes.entry(prefix_of(term).to_vec()).or_default();
            *sizes = (sizes.0 + 1, sizes.1 + list.len());
        }
        let too_many = |(texts, postings): &(usize, usize)| *texts > TEXTS_MAX && *postings < texts * REPEATS_MIN;
        self.partial.extend(sizes.iter().filter(|(_, n)| too_many(n)).map(|(prefix, _)| prefix.clone()));
        self.partial.sort_unstable();
        self.partial.dedup();
        let partial = self.partial;
        let is_whole = |term: &[u8]| partial.binary_search_by(|prefix| prefix.as_slice().cmp(prefix_of(term))).is_err();
        let mut terms: Vec<_> = self.postings.into_iter().filter(|(term, _)| is_whole(term)).collect();
        terms.sort_unstable();
        (terms, partial)
    }
}

/// The kind, and an attribute's name.
fn prefix_of(term: &[u8]) -> &[u8] {
    if term.first() != Some(&ATTRIBUTE) {
        return &term[..term.len().min(1)];
    }
    let mut reader = Reader::new(&term[1..]);
    let name = reader.bytes().map_or(0, <[u8]>::len);
    let mut length = Vec::new();
    put(&mut length, name as u64);
    &term[..1 + length.len() + name]
}

/// Times of a trace's part in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceTimes {
    pub first: Nanos,
    /// Of the starts.
    pub last: Nanos,
}

/// The index section of traces in the order of the block, newest first start first.
pub fn encode(traces: &[&[Arc<Span>]]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, traces.len() as u64);
    let mut terms = Terms::default();
    let mut before = 0;
    for (ordinal, spans) in traces.iter().enumerate() {
        let first = spans.first().map_or(0, |s| s.start.0);
        let last = spans.last().map_or(first, |s| s.start.0);
        let longest = spans.iter().map(|s| s.duration_nanos()).max().unwrap_or(0);
        let has_error = spans.iter().any(|s| s.is_error());
        put_signed(&mut out, first.wrapping_sub(before));
        put_signed(&mut out, last.wrapping_sub(first));
        put(&mut out, (longest as u64) << 1 | u64::from(has_error));
        before = first;
        let mut resources: Vec<*const weir_model::Resource> = Vec::new();
        for span in *spans {
            let resource = Arc::as_ptr(&span.resource);
            let is_new = !resources.contains(&resource);
            if is_new {
                resources.push(resource);
            }
            terms.span(span, is_new, ordinal as u32);
        }
    }
    let (terms, partial) = terms.finish();
    put(&mut out, partial.len() as u64);
    partial.iter().for_each(|prefix| put_bytes(&mut out, prefix));
    put(&mut out, terms.len() as u64);
    for (term, list) in terms {
        put_bytes(&mut out, &term);
        let mut postings = Vec::with_capacity(list.len() * 2);
        let mut before = 0;
        for ordinal in list {
            put(&mut postings, u64::from(ordinal - before));
            before = ordinal;
        }
        put_bytes(&mut out, &postings);
    }
    out
}

/// A parsed index section. Places in the lists are the traces' ordinals.
pub struct Index {
    pub ids: Vec<TraceId>,
    /// Ordinals by ascending id.
    by_id: Vec<u32>,
    pub times: Vec<TraceTimes>,
    has_error: Vec<bool>,
    longest_nanos: Vec<i64>,
    partial: Vec<Vec<u8>>,
    raw: Vec<u8>,
    /// Of each term, ascending: where its bytes and its postings are in `raw`.
    terms: Vec<(std::ops::Range<u32>, std::ops::Range<u32>)>,
}

impl Index {
    /// `by_id`: all ids ascending, with their ordinals.
    pub fn decode(raw: Vec<u8>, by_id: Vec<(TraceId, u32)>) -> Result<Self, Corrupt> {
        if raw.len() > u32::MAX as usize {
            return Err(Corrupt("an index is too large"));
        }
        let mut reader = Reader::new(&raw);
        let n = reader.count()?;
        if n != by_id.len() {
            return Err(Corrupt("an index does not fit its ids"));
        }
        let mut ids = vec![TraceId::default(); n];
        for (id, ordinal) in &by_id {
            *ids.get_mut(*ordinal as usize).ok_or(Corrupt("an ordinal is too large"))? = *id;
        }
        let (mut times, mut has_error, mut longest_nanos) = (Vec::new(), Vec::new(), Vec::new());
        let mut before = 0_i64;
        for _ in 0..n {
            before = before.wrapping_add(reader.signed()?);
            let last = before.wrapping_add(reader.signed()?);
            let longest = reader.get()?;
            times.push(TraceTimes { first: Nanos(before), last: Nanos(last) });
            has_error.push(longest & 1 == 1);
            longest_nanos.push((longest >> 1) as i64);
        }
        let n = reader.count()?;
        let partial = (0..n).map(|_| reader.bytes().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        let n = reader.count()?;
        let mut terms = Vec::with_capacity(n);
        let range = |part: &[u8]| {
            let start = part.as_ptr() as usize - raw.as_ptr() as usize;
            start as u32..(start + part.len()) as u32
        };
        for _ in 0..n {
            let term = range(reader.bytes()?);
            terms.push((term, range(reader.bytes()?)));
        }
        let by_id = by_id.into_iter().map(|(_, ordinal)| ordinal).collect();
        Ok(Self { ids, by_id, times, has_error, longest_nanos, partial, raw, terms })
    }

    pub fn size_bytes(&self) -> usize {
        self.raw.len() + self.ids.len() * 48 + self.terms.len() * 16
    }

    pub fn find(&self, id: TraceId) -> Option<u32> {
        let at = self.by_id.binary_search_by(|ordinal| self.ids[*ordinal as usize].cmp(&id)).ok()?;
        Some(self.by_id[at])
    }

    fn slice(&self, range: &std::ops::Range<u32>) -> &[u8] {
        &self.raw[range.start as usize..range.end as usize]
    }

    fn postings(&self, prefix: &[u8], text: &str) -> Result<Option<Vec<u32>>, Corrupt> {
        if text.len() > TERM_BYTES_MAX || self.partial.iter().any(|partial| partial == prefix) {
            return Ok(None);
        }
        let term = [prefix, text.as_bytes()].concat();
        let Ok(at) = self.terms.binary_search_by(|(range, _)| self.slice(range).cmp(term.as_slice())) else {
            return Ok(Some(Vec::new()));
        };
        let mut reader = Reader::new(self.slice(&self.terms[at].1));
        let mut list = Vec::new();
        let mut ordinal = 0_u64;
        while !reader.is_empty() {
            ordinal = ordinal.wrapping_add(reader.get()?);
            if ordinal >= self.ids.len() as u64 {
                return Err(Corrupt("a posting is too large"));
            }
            list.push(ordinal as u32);
        }
        Ok(Some(list))
    }

    /// Ordinals of the traces with a span that may meet the predicate; `None` when any may.
    pub fn meeting(&self, predicate: &SpanPredicate) -> Result<Option<Vec<u32>>, Corrupt> {
        let all = || 0..self.ids.len() as u32;
        match predicate {
            SpanPredicate::Service(name) => self.postings(&[SERVICE], name),
            SpanPredicate::Name(name) => self.postings(&[NAME], name),
            SpanPredicate::Error => Ok(Some(all().filter(|k| self.has_error[*k as usize]).collect())),
            SpanPredicate::MinDuration(nanos) => {
                Ok(Some(all().filter(|k| self.longest_nanos[*k as usize] >= *nanos).collect()))
            }
            SpanPredicate::Attribute(name, AttrValue::Str(text)) => {
                let mut prefix = Vec::new();
                attribute_prefix(&mut prefix, name);
                self.postings(&prefix, text)
            }
            SpanPredicate::Attribute(..) => Ok(None),
        }
    }
}
