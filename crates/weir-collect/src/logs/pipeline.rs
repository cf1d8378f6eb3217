//! [`Pipeline`]: the stages of one file with what they hold back, such as the lines of an unfinished block.

use std::sync::Arc;
use std::time::Duration;

use weir_model::{Labels, Nanos};

use super::entry::Entry;
use super::metrics::LogMetrics;
use super::stage::{Next, Stage};

/// Held entries of a stage by the labels they had when they came.
#[derive(Debug, Default)]
pub(crate) struct Held {
    blocks: Vec<Block>,
    /// Streams that ever had a block.
    begun: Vec<Labels>,
}

/// Streams of one file that are remembered to have had a block.
const BEGUN_MAX: usize = 100;

/// Lines that will be one.
#[derive(Debug)]
pub(crate) struct Block {
    pub stream: Labels,
    pub entry: Entry,
    pub n_lines: usize,
    /// Given up waiting then.
    pub due: Nanos,
}

impl Held {
    pub fn get(&mut self, stream: &Labels) -> Option<&mut Block> {
        self.blocks.iter_mut().find(|block| block.stream == *stream)
    }

    pub fn take(&mut self, stream: &Labels) -> Option<Block> {
        let idx = self.blocks.iter().position(|block| block.stream == *stream)?;
        Some(self.blocks.remove(idx))
    }

    pub fn put(&mut self, block: Block) {
        if !self.has_begun(&block.stream) {
            if self.begun.len() >= BEGUN_MAX {
                self.begun.remove(0);
            }
            self.begun.push(block.stream.clone());
        }
        self.blocks.push(block);
    }

    pub fn has_begun(&self, stream: &Labels) -> bool {
        self.begun.contains(stream)
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The one that waits longest.
    pub fn take_oldest(&mut self) -> Option<Block> {
        (!self.blocks.is_empty()).then(|| self.blocks.remove(0))
    }

    /// Removes what is due, or everything.
    fn take_due(&mut self, now: Option<Nanos>) -> Vec<Block> {
        self.blocks.extract_if(.., |block| now.is_none_or(|now| block.due <= now)).collect()
    }
}

/// A stage at work.
#[derive(Debug)]
struct Running {
    stage: Arc<Stage>,
    held: Held,
    /// The stages of a `match`.
    nested: Option<Pipeline>,
    /// Of the `timestamp` stage: the last time that was read.
    last_time: Option<Nanos>,
}

/// Not shared between files.
#[derive(Debug)]
pub(crate) struct Pipeline {
    stages: Vec<Running>,
    /// Whether any stage may look at labels as extracted values.
    seeds_labels: bool,
}

/// What stages need beside the entry.
pub(crate) struct Around<'a> {
    pub now: Nanos,
    pub metrics: &'a LogMetrics,
}

impl Pipeline {
    pub fn new(stages: &[Arc<Stage>]) -> Self {
        let run = |stage: &Arc<Stage>| Running {
            stage: stage.clone(),
            held: Held::default(),
            nested: stage.nested().map(Self::new),
            last_time: None,
        };
        Self {
            stages: stages.iter().map(run).collect(),
            seeds_labels: stages.iter().any(|stage| stage.reads_extracted()),
        }
    }

    /// A line from the file, through all stages.
    pub fn push(&mut self, mut entry: Entry, around: &Around<'_>, out: &mut Vec<Entry>) {
        self.seed(&mut entry);
        self.run(0, entry, around, out);
    }

    fn seed(&self, entry: &mut Entry) {
        if self.seeds_labels {
            entry.seed();
        }
    }

    fn run(&mut self, first: usize, entry: Entry, around: &Around<'_>, out: &mut Vec<Entry>) {
        let mut entry = entry;
        for idx in first..self.stages.len() {
            let Running { stage, held, nested, last_time } = &mut self.stages[idx];
            let next = match nested {
                Some(nested) if stage.selects(&entry, around.now) => {
                    let mut passed = Vec::new();
                    nested.push(entry, around, &mut passed);
                    Next::Many(passed)
                }
                Some(_) => Next::One(entry),
                None => stage.run(entry, held, last_time, around),
            };
            match next {
                Next::One(same) => entry = same,
                Next::None => return,
                Next::Many(many) => return many.into_iter().for_each(|one| self.run(idx + 1, one, around, out)),
            }
        }
        out.push(entry);
    }

    /// Lets go of blocks that waited long enough.
    pub fn tick(&mut self, around: &Around<'_>, out: &mut Vec<Entry>) {
        self.release(Some(around.now), around, out);
    }

    /// Lets go of everything: nothing follows.
    pub fn finish(&mut self, around: &Around<'_>, out: &mut Vec<Entry>) {
        self.release(None, around, out);
    }

    fn release(&mut self, now: Option<Nanos>, around: &Around<'_>, out: &mut Vec<Entry>) {
        for idx in 0..self.stages.len() {
            let running = &mut self.stages[idx];
            let mut passed: Vec<Entry> = running.held.take_due(now).into_iter().map(|block| block.entry).collect();
            if let Some(nested) = &mut running.nested {
                nested.release(now, around, &mut passed);
            }
            passed.into_iter().for_each(|entry| self.run(idx + 1, entry, around, out));
        }
    }

    /// Where in the file the first line stands that is held back.
    pub fn held_from(&self) -> Option<u64> {
        let own = |running: &Running| {
            let held = running.held.blocks.iter().map(|block| block.entry.from).min();
            let nested = running.nested.as_ref().and_then(Self::held_from);
            held.into_iter().chain(nested).min()
        };
        self.stages.iter().filter_map(own).min()
    }
}

/// `now` and some more.
pub(crate) fn after(now: Nanos, wait: Duration) -> Nanos {
    Nanos(now.0.saturating_add(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)))
}
