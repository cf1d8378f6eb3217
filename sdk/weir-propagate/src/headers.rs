//! Headers of messages, whatever library has them.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

/// Headers that can be looked at. Where a name stands several times the last one counts, as the last hop wrote it.
pub trait ReadHeaders {
    fn get(&self, name: &str) -> Option<&[u8]>;
}

/// Headers that can be written to.
pub trait WriteHeaders {
    /// Replaces what a header of this name says.
    fn set(&mut self, name: &'static str, value: &[u8]);
}

impl ReadHeaders for [(String, Vec<u8>)] {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().rfind(|(known, _)| known == name).map(|(_, value)| &value[..])
    }
}

impl ReadHeaders for Vec<(String, Vec<u8>)> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        ReadHeaders::get(&self[..], name)
    }
}

impl WriteHeaders for Vec<(String, Vec<u8>)> {
    fn set(&mut self, name: &'static str, value: &[u8]) {
        self.retain(|(known, _)| known != name);
        self.push((name.to_owned(), value.to_vec()));
    }
}

impl<S: BuildHasher> ReadHeaders for HashMap<String, Vec<u8>, S> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        HashMap::get(self, name).map(Vec::as_slice)
    }
}

impl<S: BuildHasher> WriteHeaders for HashMap<String, Vec<u8>, S> {
    fn set(&mut self, name: &'static str, value: &[u8]) {
        self.insert(name.to_owned(), value.to_vec());
    }
}

impl ReadHeaders for BTreeMap<String, Vec<u8>> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        BTreeMap::get(self, name).map(Vec::as_slice)
    }
}

impl WriteHeaders for BTreeMap<String, Vec<u8>> {
    fn set(&mut self, name: &'static str, value: &[u8]) {
        self.insert(name.to_owned(), value.to_vec());
    }
}
