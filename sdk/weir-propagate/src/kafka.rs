//! rdkafka's headers.

use rdkafka::message::{BorrowedHeaders, Header, Headers, OwnedHeaders};

use crate::{ReadHeaders, WriteHeaders};

fn last<'h>(headers: &'h impl Headers, name: &str) -> Option<&'h [u8]> {
    (0..headers.count()).rev().map(|k| headers.get(k)).find(|header| header.key == name).and_then(|header| header.value)
}

impl ReadHeaders for OwnedHeaders {
    fn get(&self, name: &str) -> Option<&[u8]> {
        last(self, name)
    }
}

impl ReadHeaders for BorrowedHeaders {
    fn get(&self, name: &str) -> Option<&[u8]> {
        last(self, name)
    }
}

/// A message may have no headers at all.
impl<H: ReadHeaders> ReadHeaders for Option<&H> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        (*self)?.get(name)
    }
}

impl WriteHeaders for OwnedHeaders {
    /// Adds to what is there, as a record's headers cannot be taken away; the last one of a name counts.
    fn set(&mut self, name: &'static str, value: &[u8]) {
        let before = std::mem::replace(self, OwnedHeaders::new_with_capacity(0));
        *self = before.insert(Header { key: name, value: Some(value) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_headers_counts() {
        let mut headers = OwnedHeaders::new();
        headers.set("traceparent", b"a");
        headers.set("other", b"x");
        headers.set("traceparent", b"b");
        assert_eq!(ReadHeaders::get(&headers, "traceparent"), Some(&b"b"[..]));
        assert_eq!(ReadHeaders::get(&headers, "none"), None);
        assert_eq!(ReadHeaders::get(&None::<&OwnedHeaders>, "traceparent"), None);
    }
}
