//! Writing a block.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::{HistogramSample, Labels, TimeRange, Timestamp};
use weir_wal::{Dir, DirFile, TEMPORARY, folder_of};

use super::page::{PAGE_BYTES, Place};
use super::postings::List;
use super::series::{ChunkAt, Encoder, Entry};
use super::{BlockError, CHUNK_SAMPLES, WINDOW_MS};
use crate::chunk::reader::{put_varint, put_zigzag};
use crate::chunk::{self, ChunkHead, Scratch, histograms};

pub(super) const MAGIC: &[u8; 8] = b"weirblk1";
/// Bytes gathered before they go to the file.
const WRITE_BYTES: usize = 256 * 1024;

/// What is known of a block once it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub range: TimeRange,
    pub n_series: u64,
    pub n_samples: u64,
    pub n_bytes: u64,
}

/// Writes one block: series ascending by labels, each with its chunks ascending by time.
///
/// A block that is not finished leaves nothing, or after a crash a temporary file, which
/// [`super::Blocks`] removes when it opens.
pub struct BlockWriter {
    dir: Arc<dyn Dir>,
    path: String,
    file: Arc<dyn DirFile>,
    pending: Vec<u8>,
    pending_at: u64,
    page: Vec<u8>,
    page_lens: Vec<usize>,
    place: Place,
    symbols: AHashMap<Arc<str>, u32>,
    symbol_list: Vec<Arc<str>>,
    times: AHashMap<(i64, i64, Box<[u8]>), u32>,
    times_section: Vec<u8>,
    series: Encoder,
    n_series: u32,
    postings: AHashMap<(u32, u32), List>,
    last_labels: Option<Labels>,
    n_samples: u64,
    range: Option<TimeRange>,
    scratch: Scratch,
    /// Chunks end where a multiple of this begins.
    window_ms: i64,
    /// Whether the temporary file has got its name.
    renamed: bool,
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.renamed {
            // A full disk must not fill up further; what fails here is removed at the next start.
            let _ = self.dir.remove(&format!("{}{TEMPORARY}", self.path));
        }
    }
}

impl BlockWriter {
    /// `path` is where the finished block will be.
    pub fn create(dir: Arc<dyn Dir>, path: &str) -> Result<Self, BlockError> {
        dir.create_folder(folder_of(path))?;
        let file = dir.create(&format!("{path}{TEMPORARY}"))?;
        Ok(Self {
            dir,
            path: path.to_owned(),
            file,
            pending: MAGIC.to_vec(),
            pending_at: 0,
            page: Vec::new(),
            page_lens: Vec::new(),
            place: Place::default(),
            symbols: AHashMap::new(),
            symbol_list: Vec::new(),
            times: AHashMap::new(),
            times_section: Vec::new(),
            series: Encoder::default(),
            n_series: 0,
            postings: AHashMap::new(),
            last_labels: None,
            n_samples: 0,
            range: None,
            scratch: Scratch::default(),
            window_ms: WINDOW_MS,
            renamed: false,
        })
    }

    /// For samples that are far apart: chunks end when they are full.
    pub(super) fn with_long_chunks(mut self) -> Self {
        self.window_ms = i64::MAX;
        self
    }

    pub fn is_empty(&self) -> bool {
        self.n_series == 0
    }

    /// Adds a series by its samples: floats as columns, and histograms. Times ascend strictly in each. A
    /// series without samples is left out.
    pub fn add(
        &mut self,
        labels: &Labels,
        times: &[i64],
        values: &[f64],
        histograms: &[HistogramSample],
    ) -> Result<(), BlockError> {
        let mut chunks = Vec::new();
        let mut from = 0;
        while from < times.len() {
            let window_end = times[from].div_euclid(self.window_ms).saturating_add(1).saturating_mul(self.window_ms);
            let n = times[from..].partition_point(|at| *at < window_end).clamp(1, CHUNK_SAMPLES);
            chunks.push(self.encode(&times[from..from + n], &values[from..from + n])?);
            from += n;
        }
        let histograms = self.put_histograms(histograms)?;
        self.add_entry(labels, chunks, histograms)
    }

    /// A chunk ends with its window, and where the buckets change.
    fn put_histograms(&mut self, all: &[HistogramSample]) -> Result<Vec<ChunkAt>, BlockError> {
        let mut chunks = Vec::new();
        let mut left = all;
        while let Some(first) = left.first() {
            let window = first.at.0.div_euclid(self.window_ms);
            let fits = |h: &&HistogramSample| {
                h.at.0.div_euclid(self.window_ms) == window && histograms::same_shape(&first.histogram, &h.histogram)
            };
            let n = left.iter().take_while(fits).count();
            let n = n.clamp(1, CHUNK_SAMPLES.min(histograms::fitting(&first.histogram)));
            let times: Vec<_> = left[..n].iter().map(|h| h.at.0).collect();
            let run: Vec<_> = left[..n].iter().map(|h| &*h.histogram).collect();
            let mut encoded = Vec::new();
            histograms::encode(&run, &mut self.scratch, &mut encoded);
            chunks.push(self.put_with_times(&times, &encoded)?);
            left = &left[n..];
        }
        Ok(chunks)
    }

    /// Adds a series by chunks of floats that are encoded already, ascending, not overlapping.
    pub(super) fn add_encoded(
        &mut self,
        labels: &Labels,
        encoded: &[(ChunkHead, &[u8], &[u8])],
    ) -> Result<(), BlockError> {
        let mut chunks = Vec::with_capacity(encoded.len());
        for (head, times, values) in encoded {
            chunks.push(self.put_chunk(*head, times, values)?);
        }
        self.add_entry(labels, chunks, Vec::new())
    }

    fn encode(&mut self, times: &[i64], values: &[f64]) -> Result<ChunkAt, BlockError> {
        let mut encoded = Vec::new();
        chunk::encode_values(values, &mut self.scratch, &mut encoded);
        self.put_with_times(times, &encoded)
    }

    fn put_with_times(&mut self, times: &[i64], encoded: &[u8]) -> Result<ChunkAt, BlockError> {
        let (first, last) = (times[0], times[times.len() - 1]);
        let head = ChunkHead { n_samples: times.len(), range: TimeRange::new(Timestamp(first), Timestamp(last)) };
        let mut times_bytes = Vec::new();
        chunk::encode_times(times, &mut self.scratch, &mut times_bytes);
        self.put_chunk(head, &times_bytes, encoded)
    }

    fn put_chunk(&mut self, head: ChunkHead, times: &[u8], values: &[u8]) -> Result<ChunkAt, BlockError> {
        let (first, last) = (head.range.start.0, head.range.end.0);
        let n_known = self.times.len() as u32;
        let times_idx = *self.times.entry((first, head.n_samples as i64, times.into())).or_insert(n_known);
        if times_idx == n_known {
            let out = &mut self.times_section;
            put_varint(out, head.n_samples as u64);
            put_zigzag(out, first);
            put_varint(out, last.wrapping_sub(first) as u64);
            put_varint(out, times.len() as u64);
            out.extend_from_slice(times);
        }
        let at = ChunkAt { times: times_idx, values: self.place, values_len: values.len() as u32 };
        self.page.extend_from_slice(values);
        self.place = self.place.after(values.len() as u32);
        if self.page.len() >= PAGE_BYTES {
            self.end_page()?;
        }
        self.n_samples += head.n_samples as u64;
        let so_far = self.range.get_or_insert(head.range);
        *so_far = TimeRange::new(so_far.start.min(head.range.start), so_far.end.max(head.range.end));
        Ok(at)
    }

    fn add_entry(&mut self, labels: &Labels, chunks: Vec<ChunkAt>, histograms: Vec<ChunkAt>) -> Result<(), BlockError> {
        if chunks.is_empty() && histograms.is_empty() {
            return Ok(());
        }
        if self.last_labels.as_ref().is_some_and(|last| last >= labels) {
            return Err(BlockError::Misuse("series must ascend by labels"));
        }
        if self.n_series == u32::MAX {
            return Err(BlockError::Misuse("too many series for one block"));
        }
        let pairs: Vec<_> = labels.iter().map(|l| (self.symbol(&l.name), self.symbol(&l.value))).collect();
        for pair in &pairs {
            self.postings.entry(*pair).or_default().push(self.n_series);
        }
        self.series.push(&Entry { pairs, chunks, histograms });
        self.n_series += 1;
        self.last_labels = Some(labels.clone());
        Ok(())
    }

    fn symbol(&mut self, text: &Arc<str>) -> u32 {
        if let Some(known) = self.symbols.get(text) {
            return *known;
        }
        let idx = self.symbol_list.len() as u32;
        self.symbols.insert(text.clone(), idx);
        self.symbol_list.push(text.clone());
        idx
    }

    fn end_page(&mut self) -> Result<(), BlockError> {
        if self.page.is_empty() {
            return Ok(());
        }
        let page = std::mem::take(&mut self.page);
        self.page_lens.push(page.len());
        self.put_checked(&page)?;
        self.page = page;
        self.page.clear();
        Ok(())
    }

    /// Bytes and their checksum.
    fn put_checked(&mut self, bytes: &[u8]) -> Result<(), BlockError> {
        self.pending.extend_from_slice(bytes);
        self.pending.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
        if self.pending.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.file.write_at(self.pending_at, &self.pending)?;
        self.pending_at += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn symbols_section(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.symbol_list.len() as u64);
        self.symbol_list.iter().for_each(|s| put_varint(&mut out, s.len() as u64));
        self.symbol_list.iter().for_each(|s| out.extend_from_slice(s.as_bytes()));
        out
    }

    /// The directory, sorted by name and value as text, then the lists.
    fn postings_section(&mut self) -> Vec<u8> {
        let mut all: Vec<_> = std::mem::take(&mut self.postings).into_iter().collect();
        let text = |idx: u32| &*self.symbol_list[idx as usize];
        all.sort_unstable_by(|((a, b), _), ((c, d), _)| (text(*a), text(*b)).cmp(&(text(*c), text(*d))));
        let (mut directory, mut lists) = (Vec::new(), Vec::new());
        let names = all.chunk_by_mut(|a, b| a.0.0 == b.0.0);
        let mut n_names = 0u64;
        for values in names {
            n_names += 1;
            put_varint(&mut directory, u64::from(values[0].0.0));
            put_varint(&mut directory, values.len() as u64);
            for ((_, value), list) in values {
                let start = lists.len();
                list.encode(&mut lists);
                put_varint(&mut directory, u64::from(*value));
                put_varint(&mut directory, (lists.len() - start) as u64);
            }
        }
        let mut out = Vec::with_capacity(directory.len() + lists.len() + 10);
        put_varint(&mut out, n_names);
        out.extend(directory);
        out.extend(lists);
        out
    }

    fn series_section(&mut self) -> Vec<u8> {
        self.series.finish();
        let mut out = Vec::new();
        put_varint(&mut out, u64::from(self.n_series));
        self.series.group_lens.iter().for_each(|len| put_varint(&mut out, *len as u64));
        out.extend(std::mem::take(&mut self.series.bytes));
        out
    }

    /// Writes the index, syncs, and gives the file its name; the folder is synced too. `None`, and no
    /// file, when there was no sample.
    pub fn finish(mut self) -> Result<Option<Written>, BlockError> {
        let Some(range) = self.range.filter(|_| self.n_series > 0) else {
            return Ok(None);
        };
        self.end_page()?;
        let mut pages = Vec::new();
        put_varint(&mut pages, self.page_lens.len() as u64);
        self.page_lens.iter().for_each(|len| put_varint(&mut pages, *len as u64));
        let mut times = Vec::new();
        put_varint(&mut times, self.times.len() as u64);
        times.extend(std::mem::take(&mut self.times_section));
        let sections = [pages, times, self.symbols_section(), self.series_section(), self.postings_section()];
        let mut footer = Vec::new();
        for section in &sections {
            put_varint(&mut footer, section.len() as u64);
            self.put_checked(section)?;
        }
        put_zigzag(&mut footer, range.start.0);
        put_zigzag(&mut footer, range.end.0);
        put_varint(&mut footer, self.n_samples);
        self.put_checked(&footer)?;
        self.pending.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        self.pending.extend_from_slice(MAGIC);
        self.flush()?;
        self.file.sync()?;
        self.dir.rename(&format!("{}{TEMPORARY}", self.path), &self.path)?;
        self.renamed = true;
        self.dir.sync_folder(folder_of(&self.path))?;
        let (n_series, n_samples) = (u64::from(self.n_series), self.n_samples);
        Ok(Some(Written { range, n_series, n_samples, n_bytes: self.pending_at }))
    }
}
