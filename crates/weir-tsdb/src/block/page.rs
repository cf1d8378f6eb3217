//! Where a chunk's values lie: pages of some kilobytes, each with a checksum.

/// A page ends after the chunk that reaches this: small enough for one series, large enough to read
/// a metric's series in a few steps.
pub(super) const PAGE_BYTES: usize = 16 * 1024;

/// A place in the stream of values. Follows from the lengths alone, so that it is written rarely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub page: u32,
    pub offset: u32,
}

impl Place {
    /// The place after a column of `len` bytes here.
    pub fn after(self, len: u32) -> Self {
        let offset = self.offset.saturating_add(len);
        if offset as usize >= PAGE_BYTES {
            Self { page: self.page.saturating_add(1), offset: 0 }
        } else {
            Self { page: self.page, offset }
        }
    }
}

/// A page in the file, without the checksum after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageAt {
    pub offset: u64,
    pub len: u32,
}
