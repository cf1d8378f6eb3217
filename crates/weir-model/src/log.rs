//! Log entries.

use std::sync::Arc;

use crate::time::Nanos;

/// One line of a stream with its structured metadata (sorted by name).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub at: Nanos,
    pub line: Arc<str>,
    pub metadata: Vec<(Arc<str>, Arc<str>)>,
}

impl LogEntry {
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v)
    }
    pub fn size_bytes(&self) -> usize {
        self.line.len() + self.metadata.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
    }
}
