//! Series of several blocks side by side, ascending by labels, and their samples as one run.

use std::sync::Arc;

use roaring::RoaringBitmap;
use weir_model::matcher::all_match;
use weir_model::source::SeriesData;
use weir_model::{HistogramSample, Labels, Matcher, Sample, TimeRange, Timestamp};

use super::decode::Decoder;
use super::manifest::Deletion;
use super::series::{Entry, GROUP};
use super::{BlockError, BlockIndex};

/// One block being read in the order of its series.
pub(super) struct BlockCursor {
    pub id: u64,
    pub index: Arc<BlockIndex>,
    positions: std::vec::IntoIter<u32>,
    group: Option<(usize, Vec<Entry>)>,
    /// The series it stands at.
    pub current: Option<(Labels, Entry)>,
    pub decoder: Decoder,
}

impl BlockCursor {
    pub fn new(id: u64, index: Arc<BlockIndex>, selected: &RoaringBitmap) -> Result<Self, BlockError> {
        let positions = selected.iter().collect::<Vec<_>>().into_iter();
        let decoder = Decoder::new(index.clone());
        let mut cursor = Self { id, index, positions, group: None, current: None, decoder };
        cursor.advance()?;
        Ok(cursor)
    }

    pub fn advance(&mut self) -> Result<(), BlockError> {
        self.current = None;
        let Some(position) = self.positions.next() else { return Ok(()) };
        let (group, within) = (position as usize / GROUP, position as usize % GROUP);
        if self.group.as_ref().is_none_or(|(known, _)| *known != group) {
            self.group = Some((group, self.index.group(group)?));
        }
        let entry = self.group.as_mut().and_then(|(_, entries)| entries.get_mut(within)).map(std::mem::take);
        let entry = entry.unwrap_or_default();
        self.current = Some((self.index.labels(&entry)?, entry));
        Ok(())
    }
}

impl BlockIndex {
    /// The series that match, with their samples in the range; the first damage ends it.
    pub fn read_all(self: &Arc<Self>, matchers: &[Matcher], range: TimeRange) -> Result<Vec<SeriesData>, BlockError> {
        let mut cursor = BlockCursor::new(0, self.clone(), &self.select(matchers)?)?;
        let mut found = Vec::new();
        while let Some((labels, entry)) = cursor.current.take() {
            let mut samples = Samples::default();
            cursor.decoder.read(&entry, range, &[], &mut samples, &mut Err)?;
            samples.settle();
            found.push(SeriesData {
                labels,
                samples: samples.floats,
                histograms: samples.histograms,
                ..SeriesData::default()
            });
            cursor.advance()?;
        }
        Ok(found)
    }
}

/// Ranges of a series that are deleted in a block.
pub(super) fn deleted_in(deletions: &[Deletion], block: u64, labels: &Labels) -> Vec<TimeRange> {
    let concern = deletions.iter().filter(|d| block < d.id && all_match(&d.matchers, labels));
    concern.map(|d| d.range).collect()
}

/// The smallest labels that any cursor stands at, and which cursors do.
pub(super) fn next_series(cursors: &[BlockCursor]) -> Option<(Labels, Vec<usize>)> {
    let standing = || cursors.iter().enumerate().filter_map(|(idx, c)| Some((idx, &c.current.as_ref()?.0)));
    let least = standing().map(|(_, labels)| labels).min()?.clone();
    let at = standing().filter(|(_, labels)| **labels == least).map(|(idx, _)| idx).collect();
    Some((least, at))
}

/// Samples of one series from several places.
#[derive(Default)]
pub(super) struct Samples {
    pub floats: Vec<Sample>,
    pub histograms: Vec<HistogramSample>,
}

impl Samples {
    pub fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.histograms.is_empty()
    }

    pub fn size_bytes(&self) -> u64 {
        let histograms: usize = self.histograms.iter().map(|h| 16 + h.histogram.size_bytes()).sum();
        (self.floats.len() * size_of::<Sample>() + histograms) as u64
    }

    /// Sorts and leaves the first of equal times: what was written first stays, as at ingest. Of a float
    /// and a histogram at one time, which no single writer leaves, the float.
    pub fn settle(&mut self) {
        let floats = &mut self.floats;
        if !floats.is_sorted_by(|a, b| a.at < b.at) {
            floats.sort_by_key(|s| s.at);
            floats.dedup_by_key(|s| s.at);
        }
        if self.histograms.is_empty() {
            return;
        }
        self.histograms.sort_by_key(|s| s.at);
        self.histograms.dedup_by_key(|s| s.at);
        self.histograms.retain(|h| floats.binary_search_by_key(&h.at, |s| s.at).is_err());
    }
}

/// Samples as columns.
pub(super) fn columns(samples: &[Sample]) -> (Vec<i64>, Vec<f64>) {
    samples.iter().map(|s| (s.at.0, s.value)).unzip()
}

/// The whole of time, for reading what a block has.
pub(super) const EVER: TimeRange = TimeRange { start: Timestamp::MIN, end: Timestamp::MAX };
