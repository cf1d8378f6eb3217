//! What a decoder answers.

use weir_model::sink::{Refused, RefusedReason};

/// A batch, and the parts of the request that did not make it there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded<T> {
    pub batch: T,
    pub refused: Vec<Refused>,
}

impl<T> From<T> for Decoded<T> {
    fn from(batch: T) -> Self {
        Self { batch, refused: Vec::new() }
    }
}

impl<T> Decoded<T> {
    pub(crate) fn refuse(&mut self, reason: RefusedReason, count: u64, example: impl FnOnce() -> String) {
        refuse(&mut self.refused, reason, count, example);
    }
}

/// Counts a refusal; of each reason the first example stays.
pub(crate) fn refuse(list: &mut Vec<Refused>, reason: RefusedReason, count: u64, example: impl FnOnce() -> String) {
    match list.iter_mut().find(|r| r.reason == reason) {
        Some(known) => known.count += count,
        None => list.push(Refused { reason, example: shorten(example()), count }),
    }
}

/// Examples are for reading: 300 characters are enough.
fn shorten(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().nth(300) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// Why nothing of a body could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{what} is larger than {limit_bytes} bytes; send smaller requests")]
    TooLarge { what: &'static str, limit_bytes: usize },
    #[error("{format}: {place}: {reason}")]
    Malformed { format: &'static str, place: String, reason: String },
    #[error("unsupported content encoding `{name}`; use {supported}")]
    Encoding { name: String, supported: &'static str },
    /// The body is well formed and holds nothing.
    #[error("{0}")]
    Empty(&'static str),
}

impl DecodeError {
    pub(crate) fn at_byte(format: &'static str, offset: usize, reason: impl Into<String>) -> Self {
        Self::Malformed { format, place: format!("byte {offset}"), reason: reason.into() }
    }
}
