//! Reading the chunks of one block.

use std::ops::Range;
use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;
use weir_model::{HistogramSample, Sample, TimeRange, Timestamp};

use super::merge::Samples;
use super::series::{ChunkAt, Entry};
use super::{BlockError, BlockIndex};
use crate::chunk::{self, Scratch, histograms, within};

/// Columns of times kept decoded per block; all series of a scrape share one.
const TIMES_KEPT: usize = 1024;

/// What one thread of work has of a block at hand: a page, columns of times, buffers.
pub(super) struct Decoder {
    index: Arc<BlockIndex>,
    page: Option<(u32, Bytes)>,
    times: AHashMap<u32, Arc<[i64]>>,
    scratch: Scratch,
    values: Vec<f64>,
}

impl Decoder {
    pub fn new(index: Arc<BlockIndex>) -> Self {
        Self { index, page: None, times: AHashMap::new(), scratch: Scratch::default(), values: Vec::new() }
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

    /// About so many floats of the entry lie in the range: a chunk that it cuts gives its share by time. All of them
    /// would be a day's memory for the last five minutes.
    pub fn n_samples(&self, entry: &Entry, range: TimeRange) -> Result<usize, BlockError> {
        let mut n = 0;
        for at in &entry.chunks {
            let head = self.index.times_head(at.times)?;
            let (start, end) = (head.range.start.max(range.start).0, head.range.end.min(range.end).0);
            if start > end {
                continue;
            }
            let whole = (i128::from(head.range.end.0) - i128::from(head.range.start.0)).max(1) as f64;
            let share = (i128::from(end) - i128::from(start)).max(1) as f64 / whole;
            n += (head.n_samples as f64 * share.min(1.0)).ceil() as usize;
        }
        Ok(n)
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
        out.floats.reserve(self.n_samples(entry, range)?);
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

    /// Times of a chunk, which of them lie in the range, and its encoded values; `None` when none do.
    #[allow(clippy::type_complexity, reason = "three parts of one chunk")]
    fn wanted(
        &mut self,
        at: &ChunkAt,
        range: TimeRange,
    ) -> Result<Option<(Arc<[i64]>, Range<usize>, Bytes)>, BlockError> {
        let times = self.times(at.times)?;
        let wanted = within(&times, range);
        if wanted.is_empty() { Ok(None) } else { Ok(Some((times, wanted, self.encoded(at)?))) }
    }

    fn read_histograms(
        &mut self,
        at: &ChunkAt,
        range: TimeRange,
        deleted: &[TimeRange],
        out: &mut Vec<HistogramSample>,
    ) -> Result<(), BlockError> {
        let Some((times, wanted, encoded)) = self.wanted(at, range)? else { return Ok(()) };
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
        let Some((times, wanted, encoded)) = self.wanted(at, range)? else { return Ok(()) };
        self.values.clear();
        chunk::decode_values(&encoded, times.len(), wanted.clone(), &mut self.scratch, &mut self.values)
            .map_err(|e| self.index.page_damaged(at, e))?;
        let samples = times[wanted].iter().zip(&self.values).map(|(at, value)| Sample::new(*at, *value));
        if deleted.is_empty() {
            out.extend(samples);
        } else {
            out.extend(samples.filter(|s| !deleted.iter().any(|d| d.contains(s.at))));
        }
        Ok(())
    }
}
