//! The quick walk over a remote-write body: per series a key over the raw bytes of its labels, samples into
//! columns, nothing parsed that the key already stands for.
//!
//! What is seldom (histograms, exemplars, metadata of 1.0, unusual field order) is left to the thorough
//! decoders of `v1.rs` and `v2.rs`, series by series.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use weir_model::Timestamp;

use super::Version;
use crate::DecodeError;
use crate::proto::{Message, Value};

/// 128 bits over tenant, format and raw labels.
pub(crate) type Key = [u64; 2];

/// One series of the body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub key: Key,
    /// Where its message stands in the body.
    pub message: Range<u32>,
    /// Its samples start where those of the series before end.
    pub samples_end: u32,
}

/// A request taken apart; reused from request to request.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub series: Vec<Series>,
    pub times: Vec<i64>,
    pub values: Vec<f64>,
    /// Series for the thorough decoder.
    pub seldom: Vec<Range<u32>>,
    /// Metadata messages of 1.0.
    pub metadata: Vec<Range<u32>>,
    /// Symbols of 2.0: where the text stands.
    pub symbols: Vec<Range<u32>>,
    symbol_keys: Vec<Key>,
    /// Samples beyond the newest time allowed, and the first series with one.
    pub n_future: u64,
    pub future: Option<(Range<u32>, Timestamp)>,
}

impl Walked {
    pub fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.values.clear();
        self.seldom.clear();
        self.metadata.clear();
        self.symbols.clear();
        self.symbol_keys.clear();
        (self.n_future, self.future) = (0, None);
    }

    pub fn capacity_bytes(&self) -> usize {
        self.series.capacity() * std::mem::size_of::<Series>()
            + (self.times.capacity() + self.values.capacity() + self.symbols.capacity()) * 8
            + self.symbol_keys.capacity() * 16
    }
}

/// Seeds drawn at start, so that no sender can make two series meet.
pub(crate) struct Seeds([ahash::RandomState; 2]);

impl Default for Seeds {
    fn default() -> Self {
        Self([ahash::RandomState::new(), ahash::RandomState::new()])
    }
}

/// Keys of one request.
#[derive(Clone)]
struct Keys([ahash::AHasher; 2]);

impl Keys {
    fn of(&self, bytes: &[u8]) -> Key {
        self.0.clone().map(|mut hasher| {
            hasher.write(bytes);
            hasher.finish()
        })
    }
    fn add(&mut self, key: Key) {
        for (hasher, half) in self.0.iter_mut().zip(key) {
            hasher.write_u64(half);
        }
    }
    fn finish(&self) -> Key {
        [self.0[0].finish(), self.0[1].finish()]
    }
}

/// How a body is walked.
pub(crate) struct Walk<'a> {
    pub version: Version,
    pub body: &'a [u8],
    pub newest_allowed: Timestamp,
    keys: Keys,
}

impl<'a> Walk<'a> {
    pub fn new(version: Version, body: &'a [u8], newest_allowed: Timestamp, seeds: &Seeds, tenant: &str) -> Self {
        let keys = Keys(std::array::from_fn(|k| {
            let mut hasher = seeds.0[k].build_hasher();
            hasher.write_u8(version as u8);
            hasher.write_usize(tenant.len());
            hasher.write(tenant.as_bytes());
            hasher
        }));
        Self { version, body, newest_allowed, keys }
    }

    pub fn run(&self, out: &mut Walked) -> Result<(), DecodeError> {
        out.clear();
        match self.version {
            Version::V1 => self.run_v1(out),
            Version::V2 => self.run_v2(out),
        }
    }

    fn run_v1(&self, out: &mut Walked) -> Result<(), DecodeError> {
        let mut message = Message::new(self.version.format(), self.body);
        while let Some((field, value)) = message.field()? {
            match (field, value) {
                (1, Value::Bytes(series)) => {
                    let is_seldom = self.series_v1(series, out)?.is_none();
                    out.seldom.extend(is_seldom.then(|| series.range()));
                }
                (3, Value::Bytes(metadata)) => out.metadata.push(metadata.range()),
                (1 | 3, _) => return Err(message.error(format!("field {field} of the request is no message"))),
                _ => {}
            }
        }
        Ok(())
    }

    /// `None` when this series is for the thorough decoder; then nothing of it is in `out`.
    fn series_v1(&self, series: Message<'_>, out: &mut Walked) -> Result<Option<()>, DecodeError> {
        let bytes = series.bytes();
        let mut pos = 0;
        // As every sender writes it: all labels, then all samples.
        while bytes.get(pos) == Some(&0x0a) {
            let Some(next) = skip(bytes, pos + 1) else { return Ok(None) };
            pos = next;
        }
        let key = self.keys.of(&bytes[..pos]);
        self.samples(series, pos, key, out)
    }

    fn run_v2(&self, out: &mut Walked) -> Result<(), DecodeError> {
        let format = self.version.format();
        let mut message = Message::new(format, self.body);
        // Symbols may in principle follow the series, so they are collected first.
        while let Some((field, value)) = message.field()? {
            match (field, value) {
                (4, Value::Bytes(text)) => {
                    out.symbols.push(text.range());
                    out.symbol_keys.push(self.keys.of(text.bytes()));
                }
                (5, Value::Bytes(_)) => {}
                (4 | 5, _) => {
                    return Err(message.error(format!("field {field} of the request has the wrong wire type")));
                }
                _ => {}
            }
        }
        if out.symbols.first().is_some_and(|first| !first.is_empty()) {
            return Err(Message::new(format, self.body).error("symbol 0 is not the empty text"));
        }
        let mut message = Message::new(format, self.body);
        while let Some((field, value)) = message.field()? {
            if let (5, Value::Bytes(series)) = (field, value)
                && self.series_v2(series, out)?.is_none()
            {
                out.seldom.push(series.range());
            }
        }
        Ok(())
    }

    /// Labels as packed references, samples, then perhaps metadata and a created timestamp.
    fn series_v2(&self, series: Message<'_>, out: &mut Walked) -> Result<Option<()>, DecodeError> {
        let bytes = series.bytes();
        if bytes.first() != Some(&0x0a) {
            return Ok(None);
        }
        let Some(labels) = part(bytes, 1) else { return Ok(None) };
        let mut keys = self.keys.clone();
        if add_symbols(&mut keys, &bytes[labels.clone()], &out.symbol_keys).is_none() {
            return Ok(None);
        }
        let Some(samples) = samples_range(bytes, labels.end) else { return Ok(None) };
        let mut pos = samples.end;
        while let Some(tag) = bytes.get(pos) {
            let after = match tag {
                // The metadata is part of the key: another help text takes the thorough way once.
                0x2a => part(bytes, pos + 1).and_then(|metadata| {
                    add_metadata(&mut keys, &bytes[metadata.clone()], &out.symbol_keys)?;
                    Some(metadata.end)
                }),
                0x30 => varint(bytes, pos + 1).map(|(_, next)| next),
                _ => None,
            };
            let Some(after) = after else { return Ok(None) };
            pos = after;
        }
        let samples = series.sub(samples.start, samples.end);
        if samples.bytes().is_empty() {
            return Ok(None);
        }
        self.samples_of(series.range(), samples, 0, keys.finish(), out)
    }

    fn samples(&self, series: Message<'_>, pos: usize, key: Key, out: &mut Walked) -> Result<Option<()>, DecodeError> {
        self.samples_of(series.range(), series, pos, key, out)
    }

    /// Reads samples from `pos` to the end of `message`; anything else there makes it `None`.
    fn samples_of(
        &self,
        series: Range<u32>,
        message: Message<'_>,
        mut pos: usize,
        key: Key,
        out: &mut Walked,
    ) -> Result<Option<()>, DecodeError> {
        let bytes = message.bytes();
        let (n_before, n_future_before) = (out.times.len(), out.n_future);
        while pos < bytes.len() {
            let found = if bytes[pos] == 0x12 { part(bytes, pos + 1) } else { None };
            let Some(range) = found else {
                out.times.truncate(n_before);
                out.values.truncate(n_before);
                if out.n_future > n_future_before {
                    out.n_future = n_future_before;
                    out.future.take_if(|(of, _)| *of == series);
                }
                return Ok(None);
            };
            pos = range.end;
            let sample = match quick_sample(&bytes[range.clone()]) {
                Some(sample) => sample,
                None => super::sample(message.sub(range.start, range.end)).map(|s| (s.at.0, s.value))?,
            };
            if sample.0 > self.newest_allowed.0 {
                out.n_future += 1;
                out.future.get_or_insert_with(|| (series.clone(), Timestamp(sample.0)));
                continue;
            }
            out.times.push(sample.0);
            out.values.push(sample.1);
        }
        if out.times.len() > n_before {
            out.series.push(Series { key, message: series, samples_end: out.times.len() as u32 });
        }
        Ok(Some(()))
    }
}

/// `09` value `10` time, or the time alone when the value is zero.
fn quick_sample(bytes: &[u8]) -> Option<(i64, f64)> {
    let (value, rest) = match bytes {
        [0x09, rest @ ..] => {
            let (bits, rest) = rest.split_first_chunk::<8>()?;
            (f64::from_bits(u64::from_le_bytes(*bits)), rest)
        }
        rest => (0.0, rest),
    };
    if rest.first() != Some(&0x10) {
        return None;
    }
    let (at, end) = varint(rest, 1)?;
    (end == rest.len()).then_some((at as i64, value))
}

/// A varint and the position after it.
fn varint(bytes: &[u8], mut pos: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(pos)?;
        pos += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value, pos));
        }
    }
    None
}

/// The bytes of a length-delimited field whose length stands at `pos`.
fn part(bytes: &[u8], pos: usize) -> Option<Range<usize>> {
    let (len, start) = match bytes.get(pos)? {
        short @ 0..=0x7f => (usize::from(*short), pos + 1),
        _ => {
            let (len, start) = varint(bytes, pos)?;
            (usize::try_from(len).ok()?, start)
        }
    };
    let end = start.checked_add(len)?;
    (end <= bytes.len()).then_some(start..end)
}

fn skip(bytes: &[u8], pos: usize) -> Option<usize> {
    part(bytes, pos).map(|range| range.end)
}

/// The run of sample fields that begins at `start`.
fn samples_range(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let mut pos = start;
    while bytes.get(pos) == Some(&0x12) {
        pos = skip(bytes, pos + 1)?;
    }
    Some(start..pos)
}

fn add_symbols(keys: &mut Keys, packed: &[u8], symbols: &[Key]) -> Option<()> {
    let mut pos = 0;
    while pos < packed.len() {
        let (reference, next) = varint(packed, pos)?;
        keys.add(*symbols.get(usize::try_from(reference).ok()?)?);
        pos = next;
    }
    Some(())
}

/// Kind, help and unit: fields 1, 3 and 4, all varints.
fn add_metadata(keys: &mut Keys, bytes: &[u8], symbols: &[Key]) -> Option<()> {
    let mut pos = 0;
    while pos < bytes.len() {
        let tag = bytes[pos];
        let (value, next) = varint(bytes, pos + 1)?;
        match tag {
            0x08 => keys.add([u64::from(tag), value]),
            0x18 | 0x20 => {
                keys.add([u64::from(tag), 0]);
                keys.add(*symbols.get(usize::try_from(value).ok()?)?);
            }
            _ => return None,
        }
        pos = next;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LabelCache;
    use crate::Limits;
    use crate::proto::write;
    use proptest::prelude::*;

    fn walk(version: Version, body: &[u8]) -> Result<Walked, DecodeError> {
        let mut out = Walked::default();
        Walk::new(version, body, Timestamp::MAX, &Seeds::default(), "t").run(&mut out).map(|()| out)
    }

    fn series_v1(label: &str, samples: &[(i64, f64)]) -> Vec<u8> {
        let (mut pair, mut out) = (Vec::new(), Vec::new());
        write::bytes(&mut pair, 1, b"__name__");
        write::bytes(&mut pair, 2, label.as_bytes());
        write::bytes(&mut out, 1, &pair);
        for (at, value) in samples {
            let mut sample = Vec::new();
            write::double(&mut sample, 1, *value);
            write::int(&mut sample, 2, *at as u64);
            write::bytes(&mut out, 2, &sample);
        }
        out
    }

    #[test]
    fn equal_labels_have_equal_keys_and_samples_stand_in_columns() {
        let mut body = Vec::new();
        for (name, samples) in [("a", &[(1, 1.0), (2, 2.0)][..]), ("b", &[(3, 0.0)]), ("a", &[(-4, 4.0)])] {
            write::bytes(&mut body, 1, &series_v1(name, samples));
        }
        let got = walk(Version::V1, &body).unwrap();
        assert_eq!(got.times, [1, 2, 3, -4]);
        assert_eq!(got.values, [1.0, 2.0, 0.0, 4.0]);
        assert_eq!(got.series.iter().map(|s| s.samples_end).collect::<Vec<_>>(), [2, 3, 4]);
        let keys: Vec<_> = got.series.iter().map(|s| s.key).collect();
        assert!(keys[0] == keys[2] && keys[0] != keys[1]);
    }

    #[test]
    fn what_is_seldom_is_left_alone_and_the_future_is_counted() {
        let mut odd = series_v1("a", &[(1, 1.0)]);
        write::bytes(&mut odd, 3, b"");
        let mut body = Vec::new();
        write::bytes(&mut body, 1, &odd);
        write::bytes(&mut body, 1, &series_v1("b", &[(10, 1.0), (30, 1.0), (40, 1.0)]));
        let mut out = Walked::default();
        let keys = Seeds::default();
        Walk::new(Version::V1, &body, Timestamp(20), &keys, "t").run(&mut out).unwrap();
        assert_eq!((out.seldom.len(), out.series.len()), (1, 1));
        assert_eq!(out.times, [10]);
        assert_eq!((out.n_future, out.future.unwrap().1), (2, Timestamp(30)));
    }

    proptest! {
        /// Quick and thorough decoder agree on which bodies are broken and on the samples.
        #[test]
        fn the_walk_agrees_with_the_decoder(
            names in proptest::collection::vec(("[a-c]{1,3}", proptest::collection::vec((any::<i64>(), any::<u64>()), 0..4)), 0..6),
            flip in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        ) {
            let mut body = Vec::new();
            for (name, samples) in &names {
                let samples: Vec<_> = samples.iter().map(|(at, bits)| (*at, f64::from_bits(*bits))).collect();
                write::bytes(&mut body, 1, &series_v1(name, &samples));
            }
            if let Some((idx, with)) = flip && !body.is_empty() {
                let at = idx.index(body.len());
                body[at] = with;
            }
            let cache = LabelCache::new(Limits::default().series_labels);
            let thorough = crate::remote_write::decode_v1(&body, &cache);
            let quick = walk(Version::V1, &body);
            if let (Ok(thorough), Ok(quick)) = (thorough, quick)
                && quick.seldom.is_empty()
                && thorough.decoded.refused.is_empty()
            {
                let samples = thorough.decoded.batch.series.iter().flat_map(|s| &s.samples);
                let want: Vec<_> = samples.map(|s| (s.at.0, s.value.to_bits())).collect();
                let got: Vec<_> = quick.times.iter().zip(&quick.values).map(|(t, v)| (*t, v.to_bits())).collect();
                prop_assert_eq!(got, want);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = walk(Version::V1, &body);
            let _ = walk(Version::V2, &body);
        }
    }
}
