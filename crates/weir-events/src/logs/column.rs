//! One variable of a template over all its rows: what kind of text it is, and the bytes for it.

use ahash::AHashMap;

use super::bytes::{Damaged, Reader, put_bytes, put_int, put_uint};
use super::ints::{self, Place};
use super::text::{self, Texts};

/// What all values of a column have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Const(Box<str>),
    /// An integer divided by ten to the `scale`; its whole part is padded with zeros to `pad` digits.
    Number {
        scale: u8,
        pad: u8,
    },
    /// Hexadecimal digits of one case, as bytes.
    Hex {
        digits: u16,
        upper: bool,
    },
    /// Few different texts.
    Dict,
    Text,
    /// The values of another column.
    Same {
        column: usize,
    },
    /// A text for each entry of another column's dictionary.
    Mapped {
        column: usize,
        texts: Vec<Box<str>>,
    },
}

/// Bytes that occur, and how long values are: enough to see that a needle cannot be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// A bit for each byte of ASCII.
    ascii: u128,
    beyond_ascii: bool,
    pub len_min: usize,
    pub len_max: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { ascii: 0, beyond_ascii: false, len_min: usize::MAX, len_max: 0 }
    }
}

impl Shape {
    fn chars(&mut self, text: &[u8]) {
        for byte in text {
            match 1_u128.checked_shl(u32::from(*byte)) {
                Some(bit) => self.ascii |= bit,
                None => self.beyond_ascii = true,
            }
        }
    }
    fn len(&mut self, len: usize) {
        self.len_min = self.len_min.min(len);
        self.len_max = self.len_max.max(len);
    }
    pub(crate) fn add(&mut self, text: &[u8]) {
        self.chars(text);
        self.len(text.len());
    }
    /// Of many texts.
    fn of(texts: &[&[u8]]) -> Self {
        let mut shape = Self::default();
        // To note a byte is to write one, whichever were noted before.
        let mut seen = [false; 256];
        for text in texts {
            shape.len(text.len());
            text.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        }
        shape.ascii = (0..128).filter(|byte| seen[*byte]).fold(0, |bits, byte| bits | 1 << byte);
        shape.beyond_ascii = seen[128..].contains(&true);
        shape
    }
    /// Whether all of `text` could stand in a value.
    pub(crate) fn allows(&self, text: &[u8]) -> bool {
        text.iter().all(|byte| match 1_u128.checked_shl(u32::from(*byte)) {
            Some(bit) => self.ascii & bit != 0,
            None => self.beyond_ascii,
        })
    }
}

/// What the segment's head says of a column.
#[derive(Clone, Debug)]
pub(crate) struct ColumnMeta {
    pub kind: Kind,
    pub shape: Shape,
    /// Least and greatest number.
    pub min: i64,
    pub max: i64,
    /// Where its bytes stand in the segment's data.
    pub at: usize,
    pub len: usize,
}

pub(crate) const NUMBER_DIGITS_MAX: usize = 18;
const HEX_DIGITS_MIN: usize = 8;
const HEX_DIGITS_MAX: usize = 512;
/// Larger dictionaries are text.
const DICT_MAX: usize = 1 << 16;

/// How the numbers of a column are written, while all values agree on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NumberForm {
    /// No leading zeros so far; the number of whole digits while it is one.
    Plain { digits: Option<u8> },
    /// Always so many whole digits, with leading zeros.
    Padded(u8),
}

impl NumberForm {
    fn of(first: &Number) -> Self {
        if first.leading_zero {
            Self::Padded(first.whole_digits)
        } else {
            Self::Plain { digits: Some(first.whole_digits) }
        }
    }
    /// With one more number; `None` when no form writes all.
    fn and(self, n: &Number) -> Option<Self> {
        match (self, n.leading_zero) {
            (Self::Plain { digits: Some(d) }, true) if d == n.whole_digits => Some(Self::Padded(d)),
            (Self::Plain { .. }, true) => None,
            (Self::Plain { digits }, false) => Some(Self::Plain { digits: digits.filter(|d| *d == n.whole_digits) }),
            (Self::Padded(d), _) => (d == n.whole_digits).then_some(self),
        }
    }
}

/// The parts of a number as it is written.
struct Number {
    value: i64,
    scale: u8,
    whole_digits: u8,
    leading_zero: bool,
}

fn number(text: &[u8]) -> Option<Number> {
    let negative = text.first() == Some(&b'-');
    let body = &text[usize::from(negative)..];
    if body.is_empty() || body.len() > NUMBER_DIGITS_MAX + 1 {
        return None;
    }
    let (mut value, mut point) = (0_i64, None);
    for (at, byte) in body.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value.wrapping_mul(10).wrapping_add(i64::from(byte - b'0')),
            b'.' if point.is_none() && at > 0 && at + 1 < body.len() => point = Some(at),
            _ => return None,
        }
    }
    let whole_digits = point.unwrap_or(body.len());
    if body.len() - usize::from(point.is_some()) > NUMBER_DIGITS_MAX || (negative && value == 0) {
        return None;
    }
    Some(Number {
        value: if negative { -value } else { value },
        scale: point.map_or(0, |at| (body.len() - at - 1) as u8),
        whole_digits: whole_digits as u8,
        leading_zero: whole_digits > 1 && body[0] == b'0',
    })
}

/// The text of a number, as [`number`] read it.
pub(crate) fn push_number(out: &mut Vec<u8>, value: i64, scale: u8, pad: u8) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [b'0'; 40];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let least = usize::from(scale) + usize::from(pad.max(1));
    let at = at.min(digits.len() - least.min(digits.len()));
    let point = digits.len() - usize::from(scale);
    out.extend_from_slice(&digits[at..point]);
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

/// Buffers that many columns share.
#[derive(Default)]
pub(crate) struct Scratch {
    numbers: Vec<i64>,
    pub ints: ints::Scratch,
}

/// Which entry of the column's dictionary each value is.
pub(crate) struct Ids {
    pub ids: Vec<u32>,
    pub n_entries: usize,
}

/// Encodes the values of a column behind `data`. `values` is not empty.
pub(crate) fn encode(
    data: &mut Vec<u8>,
    values: &[&[u8]],
    place: Place<'_>,
    scratch: &mut Scratch,
) -> (ColumnMeta, Option<Ids>) {
    let at = data.len();
    let first = values[0];
    let meta = |kind, shape, min, max, len| ColumnMeta { kind, shape, min, max, at, len };
    if values.iter().all(|v| *v == first) {
        let kind = Kind::Const(String::from_utf8_lossy(first).into());
        return (meta(kind, Shape::of(&values[..1]), 0, 0, 0), None);
    }
    if let Some((kind, mut shape)) = all_numbers(values, &mut scratch.numbers) {
        let bounds = (i64::MAX, i64::MIN);
        let (min, max) = scratch.numbers.iter().fold(bounds, |(min, max), v| (min.min(*v), max.max(*v)));
        if min < 0 {
            shape.chars(b"-");
        }
        ints::encode(data, &scratch.numbers, place, &mut scratch.ints);
        return (meta(kind, shape, min, max, data.len() - at), None);
    }
    if let Some(upper) = push_all_unhex(data, values) {
        let mut shape = Shape::default();
        shape.chars(if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" });
        shape.len(first.len());
        return (meta(Kind::Hex { digits: first.len() as u16, upper }, shape, 0, 0, data.len() - at), None);
    }
    let Some((entries, ids)) = dictionary(values) else {
        text::encode(data, values);
        return (meta(Kind::Text, Shape::of(values), 0, 0, data.len() - at), None);
    };
    text::encode(data, &entries);
    scratch.numbers.clear();
    scratch.numbers.extend(ids.iter().map(|id| i64::from(*id)));
    ints::encode_as(data, &scratch.numbers, Place::default(), ints::Predict::Nothing, &mut scratch.ints);
    let meta = meta(Kind::Dict, Shape::of(&entries), 0, 0, data.len() - at);
    (meta, Some(Ids { ids, n_entries: entries.len() }))
}

/// The values as numbers, if all are and one form writes all of them.
fn all_numbers(values: &[&[u8]], out: &mut Vec<i64>) -> Option<(Kind, Shape)> {
    let first = number(values[0])?;
    let mut form = NumberForm::of(&first);
    let mut shape = Shape::default();
    out.clear();
    out.reserve(values.len());
    for value in values {
        let n = number(value).filter(|n| n.scale == first.scale)?;
        form = form.and(&n)?;
        shape.len(value.len());
        out.push(n.value);
    }
    shape.chars(b"0123456789");
    if first.scale > 0 {
        shape.chars(b".");
    }
    let pad = if let NumberForm::Padded(digits) = form { digits } else { 0 };
    Some((Kind::Number { scale: first.scale, pad }, shape))
}

const LOWER: u8 = 0x10;
const UPPER: u8 = 0x20;
const NO_DIGIT: u8 = 0x40;

/// What each byte is as a hexadecimal digit, and which digits tell the case.
const HEX: [u8; 256] = {
    let mut hex = [NO_DIGIT; 256];
    let mut digit = 0_u8;
    while digit < 16 {
        if digit < 10 {
            hex[(b'0' + digit) as usize] = digit;
        } else {
            hex[(b'a' + digit - 10) as usize] = digit | LOWER;
            hex[(b'A' + digit - 10) as usize] = digit | UPPER;
        }
        digit += 1;
    }
    hex
};

/// Appends the bytes that the values are the digits of, if all are of one length and one case; answers whether
/// of the upper one.
fn push_all_unhex(out: &mut Vec<u8>, values: &[&[u8]]) -> Option<bool> {
    let digits = values[0].len();
    let is_hex = |value: &[u8]| value.iter().all(|b| HEX[usize::from(*b)] != NO_DIGIT);
    if !(HEX_DIGITS_MIN..=HEX_DIGITS_MAX).contains(&digits) || !digits.is_multiple_of(2) || !is_hex(values[0]) {
        return None;
    }
    let at = out.len();
    out.reserve(values.len() * (digits / 2));
    let mut seen = 0;
    for value in values {
        out.extend(value.chunks_exact(2).map(|pair| {
            let (high, low) = (HEX[usize::from(pair[0])], HEX[usize::from(pair[1])]);
            seen |= high | low;
            high << 4 | low & 15
        }));
        if value.len() != digits || seen & NO_DIGIT != 0 || seen & (LOWER | UPPER) == LOWER | UPPER {
            out.truncate(at);
            return None;
        }
    }
    Some(seen & LOWER == 0)
}

pub(crate) fn push_unhex(out: &mut Vec<u8>, digits: &[u8]) {
    let nibble = |digit: u8| HEX[usize::from(digit)] & 15;
    out.extend(digits.chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])));
}

pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8], upper: bool) {
    let table = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    for byte in bytes {
        out.push(table[usize::from(byte >> 4)]);
        out.push(table[usize::from(byte & 15)]);
    }
}

/// Entries in the order they first come, and an id for each value; `None` when they hardly repeat.
fn dictionary<'a>(values: &[&'a [u8]]) -> Option<(Vec<&'a [u8]>, Vec<u32>)> {
    let most = (values.len() / 3 + 8).min(DICT_MAX);
    let mut known: AHashMap<&[u8], u32> = AHashMap::new();
    let mut entries: Vec<&[u8]> = Vec::new();
    let mut ids: Vec<u32> = Vec::with_capacity(values.len());
    for value in values {
        let last = ids.last().filter(|last| entries[**last as usize] == *value);
        let id = match last.or_else(|| known.get(value)) {
            Some(id) => *id,
            None if entries.len() == most => return None,
            None => {
                let id = entries.len() as u32;
                known.insert(value, id);
                entries.push(value);
                id
            }
        };
        ids.push(id);
    }
    Some((entries, ids))
}

impl ColumnMeta {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let tag = |out: &mut Vec<u8>, tag: u8| out.push(tag);
        match &self.kind {
            Kind::Const(text) => {
                tag(out, 0);
                put_bytes(out, text.as_bytes());
                return;
            }
            Kind::Number { scale, pad } => {
                tag(out, 1);
                out.extend([*scale, *pad]);
                put_int(out, self.min);
                put_int(out, self.max);
            }
            Kind::Hex { digits, upper } => {
                tag(out, 2);
                put_uint(out, u64::from(*digits));
                out.push(u8::from(*upper));
            }
            Kind::Dict => tag(out, 3),
            Kind::Text => tag(out, 4),
            Kind::Same { column } => {
                tag(out, 5);
                put_uint(out, *column as u64);
                return;
            }
            Kind::Mapped { column, texts } => {
                tag(out, 6);
                put_uint(out, *column as u64);
                put_uint(out, texts.len() as u64);
                texts.iter().for_each(|t| put_bytes(out, t.as_bytes()));
                return;
            }
        }
        if matches!(self.kind, Kind::Dict | Kind::Text) {
            out.extend_from_slice(&self.shape.ascii.to_le_bytes());
            out.push(u8::from(self.shape.beyond_ascii));
        }
        put_uint(out, self.shape.len_min as u64);
        put_uint(out, self.shape.len_max as u64);
        put_uint(out, self.at as u64);
        put_uint(out, self.len as u64);
    }

    /// `before`: the columns of the same template that were read already.
    pub(crate) fn read(reader: &mut Reader<'_>, before: &[Self], data_len: usize) -> Result<Self, Damaged> {
        let mut column = Self { kind: Kind::Dict, shape: Shape::default(), min: 0, max: 0, at: 0, len: 0 };
        let other = |reader: &mut Reader<'_>| {
            let idx = reader.len(usize::MAX)?;
            let is_real = before.get(idx).is_some_and(|c| !matches!(c.kind, Kind::Same { .. } | Kind::Mapped { .. }));
            if is_real { Ok(idx) } else { Err(reader.damaged("a column that refers to nothing")) }
        };
        match reader.byte()? {
            0 => {
                let text = reader.text()?;
                column.shape.add(text.as_bytes());
                column.kind = Kind::Const(text.into());
                return Ok(column);
            }
            1 => {
                let (scale, pad) = (reader.byte()?, reader.byte()?);
                if usize::from(scale) > NUMBER_DIGITS_MAX || usize::from(pad) > NUMBER_DIGITS_MAX {
                    return Err(reader.damaged("a number with too many digits"));
                }
                (column.min, column.max) = (reader.int()?, reader.int()?);
                column.kind = Kind::Number { scale, pad };
                column.shape.chars(b"0123456789");
                if scale > 0 {
                    column.shape.chars(b".");
                }
                if column.min < 0 {
                    column.shape.chars(b"-");
                }
            }
            2 => {
                let digits = reader.len(usize::from(u16::MAX))? as u16;
                let upper = reader.byte()? != 0;
                column.kind = Kind::Hex { digits, upper };
                column.shape.chars(if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" });
            }
            3 => {}
            4 => column.kind = Kind::Text,
            5 => {
                let idx = other(reader)?;
                return Ok(Self { kind: Kind::Same { column: idx }, ..before[idx].clone() });
            }
            6 => {
                let idx = other(reader)?;
                if before[idx].kind != Kind::Dict {
                    return Err(reader.damaged("a column mapped from what is no dictionary"));
                }
                let texts: Vec<Box<str>> =
                    (0..reader.count()?).map(|_| reader.text().map(Into::into)).collect::<Result<_, _>>()?;
                texts.iter().for_each(|t| column.shape.add(t.as_bytes()));
                column.kind = Kind::Mapped { column: idx, texts };
                return Ok(column);
            }
            _ => return Err(reader.damaged("an unknown kind of column")),
        }
        if matches!(column.kind, Kind::Dict | Kind::Text) {
            let ascii = reader.take(16)?;
            column.shape.ascii = ascii.try_into().map_or(u128::MAX, u128::from_le_bytes);
            column.shape.beyond_ascii = reader.byte()? != 0;
        }
        column.shape.len_min = reader.len(usize::MAX)?;
        column.shape.len_max = reader.len(usize::MAX)?;
        column.at = reader.len(data_len)?;
        column.len = reader.len(data_len - column.at)?;
        Ok(column)
    }
}

/// A column's values, ready to be read one by one.
pub(crate) enum Values {
    Const(Box<str>),
    Numbers { values: Vec<i64>, scale: u8, pad: u8 },
    Hex { bytes: Vec<u8>, digits: usize, upper: bool },
    Dict { entries: Vec<Box<str>>, ids: Vec<u32> },
    Text(Texts),
}

impl Values {
    /// `n` values of a column that is neither [`Kind::Same`] nor [`Kind::Mapped`].
    pub(crate) fn decode(meta: &ColumnMeta, data: &[u8], n: usize, place: Place<'_>) -> Result<Self, Damaged> {
        let bytes = data.get(meta.at..meta.at + meta.len).unwrap_or_default();
        let mut reader = Reader::new("columns", bytes);
        Ok(match &meta.kind {
            Kind::Const(text) => Self::Const(text.clone()),
            Kind::Number { scale, pad } => {
                Self::Numbers { values: ints::decode(&mut reader, n, place)?, scale: *scale, pad: *pad }
            }
            Kind::Hex { digits, upper } => {
                let digits = usize::from(*digits);
                let bytes = reader.take(n * (digits / 2))?.to_vec();
                Self::Hex { bytes, digits, upper: *upper }
            }
            Kind::Dict => {
                let entries = Texts::decode(&mut reader)?.into_entries()?;
                let ids = ints::decode(&mut reader, n, Place::default())?;
                let id = |v: &i64| u32::try_from(*v).ok().filter(|v| (*v as usize) < entries.len());
                let ids: Option<Vec<u32>> = ids.iter().map(id).collect();
                let ids = ids.ok_or_else(|| reader.damaged("a value beyond its dictionary"))?;
                Self::Dict { entries, ids }
            }
            Kind::Text => {
                let texts = Texts::decode(&mut reader)?;
                if texts.len() != n {
                    return Err(reader.damaged("a text column of another length"));
                }
                Self::Text(texts)
            }
            Kind::Same { .. } | Kind::Mapped { .. } => {
                return Err(reader.damaged("a column that has no values of its own"));
            }
        })
    }

    pub(crate) fn push(&self, i: usize, out: &mut Vec<u8>) -> Result<(), Damaged> {
        match self {
            Self::Const(text) => out.extend_from_slice(text.as_bytes()),
            Self::Numbers { values, scale, pad } => push_number(out, values[i], *scale, *pad),
            Self::Hex { bytes, digits, upper } => {
                push_hex(out, &bytes[i * (digits / 2)..(i + 1) * (digits / 2)], *upper)
            }
            Self::Dict { entries, ids } => out.extend_from_slice(entries[ids[i] as usize].as_bytes()),
            Self::Text(texts) => out.extend_from_slice(texts.get(i)?),
        }
        Ok(())
    }

    /// Adds to each number the bytes that [`Values::push`] would append for the value.
    pub(crate) fn add_lengths(&self, lengths: &mut [u64]) -> Result<(), Damaged> {
        match self {
            Self::Const(text) => lengths.iter_mut().for_each(|n| *n += text.len() as u64),
            Self::Numbers { values, scale, pad } => {
                let least = u64::from(*scale) + u64::from((*pad).max(1));
                for (n, value) in lengths.iter_mut().zip(values) {
                    let digits = value.unsigned_abs().checked_ilog10().map_or(0, |log| u64::from(log) + 1);
                    *n += digits.max(least) + u64::from(*scale > 0) + u64::from(*value < 0);
                }
            }
            Self::Hex { digits, .. } => lengths.iter_mut().for_each(|n| *n += *digits as u64),
            Self::Dict { entries, ids } => {
                lengths.iter_mut().zip(ids).for_each(|(n, id)| *n += entries[*id as usize].len() as u64);
            }
            Self::Text(texts) => {
                for (i, n) in lengths.iter_mut().enumerate() {
                    *n += texts.get(i)?.len() as u64;
                }
            }
        }
        Ok(())
    }

    /// Bytes held, for accounting.
    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Const(text) => text.len(),
            Self::Numbers { values, .. } => values.len() * 8,
            Self::Hex { bytes, .. } => bytes.len(),
            Self::Dict { entries, ids } => ids.len() * 4 + entries.iter().map(|e| e.len() + 16).sum::<usize>(),
            Self::Text(texts) => texts.size_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(values: &[&str]) -> Kind {
        let bytes: Vec<&[u8]> = values.iter().map(|v| v.as_bytes()).collect();
        let mut data = Vec::new();
        let (meta, ids) = encode(&mut data, &bytes, Place::default(), &mut Scratch::default());
        assert_eq!(meta.kind == Kind::Dict, ids.is_some());
        let mut head = Vec::new();
        meta.write(&mut head);
        let read = ColumnMeta::read(&mut Reader::new("head", &head), &[], data.len()).unwrap();
        assert_eq!((&read.kind, read.shape, read.min, read.max), (&meta.kind, meta.shape, meta.min, meta.max));
        let decoded = Values::decode(&read, &data, values.len(), Place::default()).unwrap();
        let mut lengths = vec![0; values.len()];
        decoded.add_lengths(&mut lengths).unwrap();
        assert!(values.iter().zip(lengths).all(|(value, n)| value.len() as u64 == n), "{values:?}");
        for (i, value) in values.iter().enumerate() {
            let mut out = Vec::new();
            decoded.push(i, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), *value, "{values:?}");
            assert!(meta.shape.allows(value.as_bytes()));
            assert!((meta.shape.len_min..=meta.shape.len_max).contains(&value.len()));
        }
        meta.kind
    }

    #[test]
    fn kinds_are_found() {
        let number = |scale, pad| Kind::Number { scale, pad };
        assert_eq!(check(&["a", "a"]), Kind::Const("a".into()));
        assert_eq!(check(&["1", "20", "-3"]), number(0, 0));
        assert_eq!(check(&["01", "20"]), number(0, 2));
        assert_eq!(check(&["20", "01", "77"]), number(0, 2));
        assert_eq!(check(&["1.50", "20.25", "0.05"]), number(2, 0));
        assert_eq!(check(&["-0.5", "0.5"]), number(1, 0));
        assert_eq!(check(&["01.5", "22.5"]), number(1, 2));
        assert_eq!(check(&["-0", "5"]), Kind::Dict);
        assert_eq!(check(&["1", "02"]), Kind::Dict);
        assert_eq!(check(&["00000000abcdef12", "1234567812345678"]), Kind::Hex { digits: 16, upper: false });
        assert_eq!(check(&["0000ABCD", "12345678"]), Kind::Hex { digits: 8, upper: true });
        assert_eq!(check(&["x", "", "ü"]), Kind::Dict);
        let many: Vec<String> = (0..100).map(|i| format!("x{i}é")).collect();
        assert_eq!(check(&many.iter().map(String::as_str).collect::<Vec<_>>()), Kind::Text);
    }

    proptest! {
        #[test]
        fn any_values_come_back(values in prop::collection::vec("[0-9]{0,20}|-?[0-9]{1,3}(\\.[0-9]{0,3})?|[0-9a-f]{8}|\\PC{0,8}", 1..60)) {
            check(&values.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
}
