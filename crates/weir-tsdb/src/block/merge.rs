//! Series of several blocks side by side, ascending by labels, and their samples as one run.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;
use roaring::RoaringBitmap;
use weir_model::matcher::all_match;
use weir_model::source::SeriesData;
use weir_model::{HistogramSample, Labels, Matcher, Sample, TimeRange, Timestamp};

use super::manifest::Deletion;
use super::series::{ChunkAt, Entry, GROUP};
use super::{BlockError, BlockIndex};
use crate::chunk::{self, Scratch, histograms, within};

/// Columns of times kept decoded per block; all series of a scrape share one.
const TIMES_KEPT: usize = 1024;

/// One block being read in the order of its series.
pub(super) struct BlockCursor {
    pub id: u64,
    pub index: Arc<BlockIndex>,
    positions: std::vec::IntoIter<u32>,
    group: Option<(usize, Vec<Entry>)>,
    /// The series it stands at.
    pub current: Option<(Labels, Entry)>,
    page: Option<(u32, Bytes)>,
    times: AHashMap<u32, Arc<[i64]>>,
    scratch: Scratch,
}

impl BlockCursor {
    pub fn new(id: u64, index: Arc<BlockIndex>, selected: &RoaringBitmap) -> Result<Self, BlockError> {
        let positions = selected.iter().collect::<Vec<_>>().into_iter();
        let mut cursor = Self {
            id,
            index,
            positions,
            group: None,
            current: None,
            page: None,
            times: AHashMap::new(),
            scratch: Scratch::default(),
        };
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

    fn times(&mut self, times: u32) -> Result<Arc<[i64]>, BlockError> {
        if let Some(known) = self.times.get(&times) {
            return Ok(known.clone());
        }
        let mut decoded = Vec::new();
        self.index.decode_times(times, &mut decoded)?;
        let decoded: Arc<[i64]> = decoded.into();
        if self.times.len() >= TIMES_KEPT {
            self.times.clear();
        }
        self.times.insert(times, decoded.clone());
        Ok(decoded)
    }

    /// A chunk's encoded values.
    pub fn encoded(&mut self, at: &ChunkAt) -> Result<Bytes, BlockError> {
        let page = match &self.page {
            Some((known, page)) if *known == at.values.page => page.clone(),
            _ => {
                let page = self.index.page(at.values.page)?;
                self.page = Some((at.values.page, page.clone()));
                page
            }
        };
        let values = self.index.values_of(&page, at)?;
        Ok(page.slice_ref(values))
    }

    /// Whether the entry has a sample in the range; decodes times only when a chunk spans the range.
    pub fn has_samples(&mut self, entry: &Entry, range: TimeRange) -> Result<bool, BlockError> {
        for at in entry.chunks.iter().chain(&entry.histograms) {
            let chunk = self.index.times_head(at.times)?.range;
            if chunk.start > range.end || chunk.end < range.start {
                continue;
            }
            if range.contains(chunk.start)
                || range.contains(chunk.end)
                || !within(&self.times(at.times)?, range).is_empty()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Appends the entry's samples in the range, without deleted ones. A chunk that cannot be read costs
    /// itself: it goes to `report`.
    pub fn read(
        &mut self,
        entry: &Entry,
        range: TimeRange,
        deleted: &[TimeRange],
        out: &mut Samples,
        report: &mut dyn FnMut(BlockError) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let floats = entry.chunks.iter().map(|at| (at, false));
        for (at, is_histogram) in floats.chain(entry.histograms.iter().map(|at| (at, true))) {
            let chunk = self.index.times_head(at.times)?.range;
            if chunk.start > range.end || chunk.end < range.start {
                continue;
            }
            let read = if is_histogram {
                self.read_histograms(at, range, deleted, &mut out.histograms)
            } else {
                self.read_chunk(at, range, deleted, &mut out.floats)
            };
            if let Err(error) = read {
                report(error)?;
            }
        }
        Ok(())
    }

    fn read_histograms(
        &mut self,
        at: &ChunkAt,
        range: TimeRange,
        deleted: &[TimeRange],
        out: &mut Vec<HistogramSample>,
    ) -> Result<(), BlockError> {
        let times = self.times(at.times)?;
        let wanted = within(&times, range);
        if wanted.is_empty() {
            return Ok(());
        }
        let encoded = self.encoded(at)?;
        let found = histograms::decode(&encoded, times.len(), wanted.clone(), &mut self.scratch)
            .map_err(|e| self.index.page_damaged(at, e))?;
        let samples = times[wanted].iter().zip(found);
        let samples = samples.map(|(at, h)| HistogramSample { at: Timestamp(*at), histogram: Arc::new(h) });
        out.extend(samples.filter(|s| !deleted.iter().any(|d| d.contains(s.at))));
        Ok(())
    }

    fn read_chunk(
        &mut self,
        at: &ChunkAt,
        range: TimeRange,
        deleted: &[TimeRange],
        out: &mut Vec<Sample>,
    ) -> Result<(), BlockError> {
        let times = self.times(at.times)?;
        let wanted = within(&times, range);
        if wanted.is_empty() {
            return Ok(());
        }
        let encoded = self.encoded(at)?;
        let mut values = Vec::with_capacity(wanted.len());
        chunk::decode_values(&encoded, times.len(), wanted.clone(), &mut self.scratch, &mut values)
            .map_err(|e| self.index.page_damaged(at, e))?;
        let samples = times[wanted].iter().zip(values).map(|(at, value)| Sample::new(*at, value));
        if deleted.is_empty() {
            out.extend(samples);
        } else {
            out.extend(samples.filter(|s| !deleted.iter().any(|d| d.contains(s.at))));
        }
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
            cursor.read(&entry, range, &[], &mut samples, &mut Err)?;
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
