//! Which values of a column relate to a text, by kind of column.

use memchr::memmem::Finder;

use super::bits::{Bits, Rows};
use super::bytes::Damaged;
use super::column::{Values, push_hex, push_number, push_unhex};
use super::needle::Part;

/// Ranks of the `n` values that relate to the text so.
pub(crate) fn rows(values: &Values, part: Part, text: &[u8], n: usize) -> Result<Rows, Damaged> {
    Ok(match values {
        Values::Const(value) => {
            if part.holds(value.as_bytes(), text) {
                Rows::All
            } else {
                Rows::None
            }
        }
        Values::Dict { entries, ids } => in_dictionary(entries, ids, part, text),
        Values::Numbers { values, scale, pad } => in_numbers(values, *scale, *pad, part, text),
        Values::Hex { bytes, digits, upper } => in_hex(bytes, *digits, *upper, part, text),
        Values::Text(texts) => {
            let mut bits = Bits::none(n);
            if part == Part::Contains {
                texts.find(&Finder::new(text), |i| bits.set(i))?;
            } else {
                for i in 0..texts.len() {
                    if part.holds(texts.get(i)?, text) {
                        bits.set(i);
                    }
                }
            }
            Rows::of(bits)
        }
    })
}

fn in_dictionary(entries: &[Box<str>], ids: &[u32], part: Part, text: &[u8]) -> Rows {
    let finder = Finder::new(text);
    let holds = |entry: &str| match part {
        Part::Contains => finder.find(entry.as_bytes()).is_some(),
        _ => part.holds(entry.as_bytes(), text),
    };
    let hits: Vec<bool> = entries.iter().map(|e| holds(e)).collect();
    if hits.iter().all(|h| !h) {
        return Rows::None;
    }
    if hits.iter().all(|h| *h) {
        return Rows::All;
    }
    pick(ids.iter(), |id| hits[*id as usize])
}

fn pick<T>(values: impl ExactSizeIterator<Item = T>, holds: impl Fn(T) -> bool) -> Rows {
    let mut bits = Bits::none(values.len());
    for (i, value) in values.enumerate() {
        if holds(value) {
            bits.set(i);
        }
    }
    Rows::of(bits)
}

fn in_numbers(values: &[i64], scale: u8, pad: u8, part: Part, text: &[u8]) -> Rows {
    if part == Part::Equals {
        // The one number that is written so, if there is one.
        let digits: String = text.iter().filter(|b| **b != b'.').map(|b| char::from(*b)).collect();
        let Ok(wanted) = digits.parse::<i64>() else { return Rows::None };
        let mut written = Vec::new();
        push_number(&mut written, wanted, scale, pad);
        return if written == text { pick(values.iter(), |v| *v == wanted) } else { Rows::None };
    }
    let mut bits = Bits::none(values.len());
    let mut written = Vec::new();
    let finder = Finder::new(text);
    for (i, value) in values.iter().enumerate() {
        written.clear();
        push_number(&mut written, *value, scale, pad);
        let holds = match part {
            Part::Contains => finder.find(&written).is_some(),
            _ => part.holds(&written, text),
        };
        if holds {
            bits.set(i);
        }
    }
    Rows::of(bits)
}

fn in_hex(bytes: &[u8], digits: usize, upper: bool, part: Part, text: &[u8]) -> Rows {
    let width = digits / 2;
    if text.len() == digits {
        let mut wanted = Vec::with_capacity(width);
        push_unhex(&mut wanted, text);
        return pick(bytes.chunks_exact(width), |value| value == wanted);
    }
    let mut bits = Bits::none(bytes.len() / width);
    let mut written = Vec::with_capacity(digits);
    let mut verify = |i: usize| {
        written.clear();
        push_hex(&mut written, &bytes[i * width..(i + 1) * width], upper);
        if part.holds(&written, text) {
            bits.set(i);
        }
    };
    // The needle's whole bytes, at even and at odd digits, are looked for in all values at once.
    let mut candidates = Vec::new();
    for shift in [0, 1] {
        let even = text.get(shift..).map(|t| &t[..t.len() / 2 * 2]).unwrap_or_default();
        if even.len() < 4 {
            (0..bytes.len() / width).for_each(&mut verify);
            return Rows::of(bits);
        }
        let mut inner = Vec::new();
        push_unhex(&mut inner, even);
        candidates.extend(Finder::new(&inner).find_iter(bytes).map(|at| at / width));
        // Hits that overlap one another may hide one that lies within a value.
        if has_period(&inner) {
            (0..bytes.len() / width).for_each(&mut verify);
            return Rows::of(bits);
        }
    }
    candidates.into_iter().for_each(verify);
    Rows::of(bits)
}

/// Whether occurrences of the text can overlap.
fn has_period(text: &[u8]) -> bool {
    (1..text.len()).any(|shift| text[shift..] == text[..text.len() - shift])
}
