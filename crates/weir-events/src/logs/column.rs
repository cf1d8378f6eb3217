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
/// Larger dictionaries are text.
const DICT_MAX: usize = 1 << 16;

/// What a column might still be while its values go by.
struct Guess {
    len: Option<usize>,
    /// Scale and whole digits while all values agree on them.
    number: Option<(u8, NumberForm)>,
    lower_hex: bool,
    upper_hex: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NumberForm {
    /// No leading zeros so far; the number of whole digits while it is one.
    Plain { digits: Option<u8> },
    /// Always so many whole digits, with leading zeros.
    Padded(u8),
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

impl Guess {
    fn new(first: &[u8]) -> Self {
        let form = |n: &Number| {
            if n.leading_zero {
                NumberForm::Padded(n.whole_digits)
            } else {
                NumberForm::Plain { digits: Some(n.whole_digits) }
            }
        };
        let hex = |ok: fn(&u8) -> bool| {
            first.len() >= HEX_DIGITS_MIN && first.len().is_multiple_of(2) && first.len() <= 512 && first.iter().all(ok)
        };
        Self {
            len: Some(first.len()),
            number: number(first).map(|n| (n.scale, form(&n))),
            lower_hex: hex(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            upper_hex: hex(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')),
        }
    }

    fn is_open(&self) -> bool {
        self.number.is_some() || self.lower_hex || self.upper_hex
    }

    fn see(&mut self, text: &[u8]) {
        if self.len != Some(text.len()) {
            self.len = None;
            (self.lower_hex, self.upper_hex) = (false, false);
        }
        self.lower_hex &= text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        self.upper_hex &= text.iter().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        self.number = self.number.and_then(|(scale, form)| {
            let n = number(text).filter(|n| n.scale == scale)?;
            let form = match (form, n.leading_zero) {
                (NumberForm::Plain { digits: Some(d) }, true) if d == n.whole_digits => NumberForm::Padded(d),
                (NumberForm::Plain { .. }, true) => return None,
                (NumberForm::Plain { digits }, false) => {
                    NumberForm::Plain { digits: digits.filter(|d| *d == n.whole_digits) }
                }
                (NumberForm::Padded(d), _) if d == n.whole_digits => form,
                (NumberForm::Padded(_), _) => return None,
            };
            Some((scale, form))
        });
    }
}

/// Encodes the values of a column behind `data`. `values` is not empty.
pub(crate) fn encode(data: &mut Vec<u8>, values: &[&[u8]], place: Place<'_>) -> ColumnMeta {
    let at = data.len();
    let first = values[0];
    let meta = |kind, shape, min, max, len| ColumnMeta { kind, shape, min, max, at, len };
    if values.iter().all(|v| *v == first) {
        let mut shape = Shape::default();
        shape.add(first);
        return meta(Kind::Const(String::from_utf8_lossy(first).into()), shape, 0, 0, 0);
    }
    let mut guess = Guess::new(first);
    for value in values {
        if !guess.is_open() {
            break;
        }
        guess.see(value);
    }
    let mut shape = Shape::default();
    if let Some((scale, form)) = guess.number {
        let pad = if let NumberForm::Padded(digits) = form { digits } else { 0 };
        let numbers: Vec<i64> = values.iter().map(|v| number(v).map_or(0, |n| n.value)).collect();
        values.iter().for_each(|v| shape.len(v.len()));
        shape.chars(b"0123456789");
        if scale > 0 {
            shape.chars(b".");
        }
        let (min, max) = numbers.iter().fold((i64::MAX, i64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
        if min < 0 {
            shape.chars(b"-");
        }
        ints::encode(data, &numbers, place);
        return meta(Kind::Number { scale, pad }, shape, min, max, data.len() - at);
    }
    if guess.lower_hex || guess.upper_hex {
        let upper = guess.upper_hex;
        shape.chars(if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" });
        shape.len(first.len());
        values.iter().for_each(|v| push_unhex(data, v));
        return meta(Kind::Hex { digits: first.len() as u16, upper }, shape, 0, 0, data.len() - at);
    }
    let kind = match dictionary(values) {
        Some((entries, ids)) => {
            entries.iter().for_each(|e| shape.add(e));
            text::encode(data, &entries);
            ints::encode_as(data, &ids, Place::default(), ints::Predict::Nothing);
            Kind::Dict
        }
        None => {
            values.iter().for_each(|v| shape.add(v));
            text::encode(data, values);
            Kind::Text
        }
    };
    meta(kind, shape, 0, 0, data.len() - at)
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10) & 15,
    }
}

pub(crate) fn push_unhex(out: &mut Vec<u8>, digits: &[u8]) {
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
fn dictionary<'a>(values: &[&'a [u8]]) -> Option<(Vec<&'a [u8]>, Vec<i64>)> {
    let most = (values.len() / 3 + 8).min(DICT_MAX);
    let mut known: AHashMap<&[u8], i64> = AHashMap::new();
    let mut entries = Vec::new();
    let mut ids = Vec::with_capacity(values.len());
    let mut last: (&[u8], i64) = (b"", -1);
    for value in values {
        if last.1 >= 0 && last.0 == *value {
            ids.push(last.1);
            continue;
        }
        let id = *known.entry(value).or_insert_with(|| {
            entries.push(*value);
            entries.len() as i64 - 1
        });
        if entries.len() > most {
            return None;
        }
        ids.push(id);
        last = (value, id);
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
        let meta = encode(&mut data, &bytes, Place::default());
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
