//! Spans that two sources hold, as when a sender repeated a request after the first was in a block: what counts
//! spans must count them once. Traces in two places are found by their ids, then their spans are compared.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use weir_model::{SpanId, SpanKind, TraceId};
use weir_wal::Dir;

use super::block::{Block, BlockError};
use super::build::fixed;
use super::contents::Contents;
use super::cursor::{OpenBlocks, Source};
use super::scan::LeftOut;
use super::section::Fault;

/// Bits of the filter for each trace; one in about thirty is then looked at twice.
const BITS_PER_TRACE: usize = 16;

#[derive(Default)]
pub struct Repeats {
    /// By number of the source, ascending rows.
    rows: AHashMap<usize, Vec<u32>>,
    spans: AHashMap<usize, LeftOut>,
}

/// Where a trace's part is.
#[derive(Clone, Copy)]
struct Place {
    source: usize,
    ordinal: u32,
}

impl Repeats {
    /// What later sources hold that earlier ones have.
    pub fn find(sources: &[Source], dir: &dyn Dir, blocks: &OpenBlocks) -> Self {
        let mut repeats = Self::default();
        if sources.len() < 2 {
            return repeats;
        }
        let contents: Vec<Option<Arc<Contents>>> = sources
            .iter()
            .map(|source| match source {
                // A block that cannot be read is left out of everything.
                Source::Block(block) => blocks.get(dir, block).ok(),
                Source::Head(_) => None,
            })
            .collect();
        let mut shared: Vec<(TraceId, Place)> = in_two_places(sources, &contents);
        shared.sort_unstable_by_key(|(id, place)| (*id, place.source));
        let mut columns: AHashMap<(usize, usize), Option<GroupIds>> = AHashMap::new();
        for places in shared.chunk_by(|a, b| a.0 == b.0).filter(|places| places.len() > 1) {
            let mut seen: AHashSet<(SpanId, SpanKind)> = AHashSet::new();
            for (id, place) in places {
                repeats.take(*id, *place, sources, &contents, dir, &mut columns, &mut seen);
            }
        }
        repeats.rows.values_mut().for_each(|rows| rows.sort_unstable());
        repeats
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `find`, with all that it holds")]
    fn take(
        &mut self,
        id: TraceId,
        place: Place,
        sources: &[Source],
        contents: &[Option<Arc<Contents>>],
        dir: &dyn Dir,
        columns: &mut AHashMap<(usize, usize), Option<GroupIds>>,
        seen: &mut AHashSet<(SpanId, SpanKind)>,
    ) {
        match (&sources[place.source], &contents[place.source]) {
            (Source::Head(head), _) => {
                for span in head.read().trace(id).unwrap_or_default() {
                    if !seen.insert((span.span_id, span.kind)) {
                        self.spans.entry(place.source).or_default().insert((id, span.span_id, span.kind));
                    }
                }
            }
            (Source::Block(block), Some(contents)) => {
                let group = contents.group_of(place.ordinal);
                let ids = columns.entry((place.source, group)).or_insert_with(|| {
                    let read = GroupIds::read(block, contents, dir, group);
                    read.inspect_err(|error| tracing::error!(%error, "spans: repeated spans are not looked for")).ok()
                });
                let Some(ids) = ids else { return };
                let first = contents.groups[group].rows.start;
                for row in contents.rows(place.ordinal) {
                    let of_row = ids.0.get((row - first) as usize);
                    if of_row.is_some_and(|key| !seen.insert(*key)) {
                        self.rows.entry(place.source).or_default().push(row);
                    }
                }
            }
            (Source::Block(_), None) => {}
        }
    }

    pub fn of_block(&mut self, source: usize) -> Vec<u32> {
        self.rows.remove(&source).unwrap_or_default()
    }

    pub fn of_head(&mut self, source: usize) -> LeftOut {
        self.spans.remove(&source).unwrap_or_default()
    }
}

/// Ids and kinds of a group's rows.
struct GroupIds(Vec<(SpanId, SpanKind)>);

impl GroupIds {
    fn read(block: &Block, contents: &Contents, dir: &dyn Dir, group: usize) -> Result<Self, BlockError> {
        let file = block.file(dir)?;
        let read = || -> Result<Self, Fault> {
            let (mut ids, mut forms) = (Vec::new(), Vec::new());
            let load = |column| contents.load(&*file, column, group..group + 1);
            if let Some(packed) = load(fixed::IDS)?.group(group) {
                packed.unpack(&mut ids, |id| SpanId(id.to_be_bytes()));
            }
            if let Some(packed) = load(fixed::FORMS)?.group(group) {
                packed.unpack(&mut forms, |form| form as usize);
            }
            let kind = |form: &usize| contents.forms.get(*form).map_or(SpanKind::Unspecified, |form| form.kind);
            Ok(Self(ids.into_iter().zip(forms.iter().map(kind)).collect()))
        };
        read().map_err(|fault| block.damaged(fault))
    }
}

/// Ids that more than one source may hold, with all their places. A filter of bits first tells which ids were
/// perhaps seen before, which most were not.
fn in_two_places(sources: &[Source], contents: &[Option<Arc<Contents>>]) -> Vec<(TraceId, Place)> {
    let of_heads: Vec<Vec<TraceId>> = sources
        .iter()
        .map(|source| match source {
            Source::Head(head) => head.read().traces().map(|(id, _)| id).collect(),
            Source::Block(_) => Vec::new(),
        })
        .collect();
    let n: usize = contents.iter().flatten().map(|contents| contents.n_traces() as usize).sum::<usize>()
        + of_heads.iter().map(Vec::len).sum::<usize>();
    let bits = (n * BITS_PER_TRACE).next_power_of_two().max(64);
    let mut seen = vec![0_u64; bits / 64];
    let mut again = vec![0_u64; bits / 64];
    let each = |f: &mut dyn FnMut(TraceId, Place)| {
        for (source, contents) in contents.iter().enumerate() {
            if let Some(contents) = contents {
                contents.ids().for_each(|(id, ordinal)| f(id, Place { source, ordinal }));
            }
            of_heads[source].iter().for_each(|id| f(*id, Place { source, ordinal: 0 }));
        }
    };
    let bit = |id: TraceId| bit_of(id) & (bits - 1);
    let mut is_any = false;
    each(&mut |id, _| {
        let (word, mask) = (bit(id) / 64, 1 << (bit(id) % 64));
        if seen[word] & mask != 0 {
            again[word] |= mask;
            is_any = true;
        }
        seen[word] |= mask;
    });
    let mut found = Vec::new();
    if is_any {
        each(&mut |id, place| {
            if again[bit(id) / 64] & 1 << (bit(id) % 64) != 0 {
                found.push((id, place));
            }
        });
    }
    found
}

/// Ids are mostly random, but a sender may count.
fn bit_of(id: TraceId) -> usize {
    let half = |k: usize| u64::from_le_bytes(id.0[k..k + 8].try_into().unwrap_or_default());
    let mixed = (half(0) ^ half(8).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 20) as usize
}
