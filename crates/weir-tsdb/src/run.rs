//! A sealed run: samples of one series, ascending by time, encoded.

use std::sync::Arc;

use weir_model::{Sample, TimeRange, Timestamp};

use crate::chunk;

#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub min: i64,
    pub max: i64,
    pub n_samples: u32,
    bytes: Arc<[u8]>,
}

/// What encoding and decoding need; one per shard and per reader.
#[derive(Default)]
pub(crate) struct Buffers {
    scratch: chunk::Scratch,
    times: Vec<i64>,
    values: Vec<f64>,
}

impl Run {
    /// `samples`: ascending by time, at least one.
    pub fn seal(samples: impl Iterator<Item = Sample>, buffers: &mut Buffers) -> Self {
        let Buffers { scratch, times, values } = buffers;
        times.clear();
        values.clear();
        for sample in samples {
            times.push(sample.at.0);
            values.push(sample.value);
        }
        let bytes = chunk::encode(times, values, scratch);
        let (min, max) = (*times.first().expect("not empty"), *times.last().expect("not empty"));
        Self { min, max, n_samples: times.len() as u32, bytes: bytes.into() }
    }

    /// Adds the samples of the range.
    pub fn read(&self, range: TimeRange, buffers: &mut Buffers, out: &mut Vec<Sample>) {
        let Buffers { scratch, times, values } = buffers;
        times.clear();
        values.clear();
        chunk::decode(&self.bytes, range, scratch, times, values).expect("this process encoded it");
        out.extend(times.iter().zip(values).map(|(at, value)| Sample { at: Timestamp(*at), value: *value }));
    }

    /// With its place in a list.
    pub fn size_bytes(&self) -> u64 {
        (std::mem::size_of::<Self>() + self.bytes.len() + 16) as u64
    }
}
