//! Texts, resources and scopes that come again and again, kept once. Bounded by constants; what is pushed out is
//! only made anew.

use std::sync::Arc;

/// Texts that are remembered, each in the one place its hash names.
const TEXTS: usize = 4096;
/// Longer texts seldom repeat.
const TEXT_BYTES_MAX: usize = 64;
/// Resources or scopes that are remembered, and how long the messages they came in may be.
const KNOWN: usize = 256;
const MESSAGE_BYTES_MAX: usize = 4096;

pub(super) struct Texts {
    places: Vec<Option<Arc<str>>>,
    hasher: ahash::RandomState,
    empty: Arc<str>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { places: vec![None; TEXTS], hasher: ahash::RandomState::new(), empty: Arc::from("") }
    }
}

impl Texts {
    pub fn empty(&self) -> Arc<str> {
        self.empty.clone()
    }

    /// The text, if the bytes are one.
    pub fn of(&mut self, bytes: &[u8]) -> Result<Arc<str>, std::str::Utf8Error> {
        if bytes.is_empty() {
            return Ok(self.empty.clone());
        }
        if bytes.len() > TEXT_BYTES_MAX {
            return std::str::from_utf8(bytes).map(Arc::from);
        }
        let place = &mut self.places[self.hasher.hash_one(bytes) as usize % TEXTS];
        if let Some(known) = place
            && known.as_bytes() == bytes
        {
            return Ok(known.clone());
        }
        let text: Arc<str> = std::str::from_utf8(bytes)?.into();
        *place = Some(text.clone());
        Ok(text)
    }
}

/// Decoded messages by their bytes.
pub(super) struct Known<T> {
    places: Vec<Option<(Box<[u8]>, Arc<T>)>>,
    hasher: ahash::RandomState,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { places: (0..KNOWN).map(|_| None).collect(), hasher: ahash::RandomState::new() }
    }
}

impl<T> Known<T> {
    pub fn of<E>(&mut self, bytes: &[u8], decode: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return decode().map(Arc::new);
        }
        let place = &mut self.places[self.hasher.hash_one(bytes) as usize % KNOWN];
        if let Some((of, known)) = place
            && **of == *bytes
        {
            return Ok(known.clone());
        }
        let made = Arc::new(decode()?);
        *place = Some((bytes.into(), made.clone()));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_others_their_own() {
        let mut texts = Texts::default();
        let first = texts.of(b"service.name").unwrap();
        assert!(Arc::ptr_eq(&first, &texts.of(b"service.name").unwrap()));
        for i in 0..3 * TEXTS {
            assert_eq!(&*texts.of(i.to_string().as_bytes()).unwrap(), i.to_string());
        }
        assert_eq!(&*texts.of(b"service.name").unwrap(), "service.name");
        assert!(texts.of(b"\xff").is_err());
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert_eq!(&*texts.of(long.as_bytes()).unwrap(), long);
    }

    #[test]
    fn what_cannot_be_decoded_is_not_remembered() {
        let mut known = Known::default();
        assert_eq!(known.of(b"a", || Err::<u8, _>("no")), Err("no"));
        assert_eq!(known.of(b"a", || Ok::<_, &str>(1)), Ok(Arc::new(1)));
        assert_eq!(known.of(b"a", || Ok::<_, &str>(2)), Ok(Arc::new(1)));
    }
}
