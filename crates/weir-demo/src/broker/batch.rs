//! Record batches, format v2: kept as the bytes the producer sent.
//!
//! The base offset and the leader epoch stand before the checksummed part, so a broker rewrites both
//! without touching the checksum. Source: Apache Kafka, "Record Batch" in the protocol guide.

use std::io::Read;

use bytes::{Bytes, BytesMut};

/// Bytes up to and including the record count.
pub const HEADER_BYTES: usize = 61;
/// Apache Kafka's default `message.max.bytes`.
pub const BATCH_BYTES_MAX: usize = 1_048_588;
/// What one batch may unpack to; time look-ups refuse more.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;
/// Length, attributes, time delta, offset delta, key length, value length, header count: one byte each.
const RECORD_BYTES_MIN: usize = 7;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("record batch is cut off: {have} of {want} bytes")]
    CutOff { have: usize, want: usize },
    #[error("record batch of {bytes} bytes is larger than {BATCH_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("record format v{0} is not supported, only v2")]
    OldFormat(i8),
    #[error("record batch checksum is {found:08x}, its header says {written:08x}")]
    Checksum { written: u32, found: u32 },
    #[error("record batch is not valid: {0}")]
    Invalid(&'static str),
}

/// The fields of a batch that a broker looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub base_offset: i64,
    pub last_offset_delta: i32,
    pub attributes: i16,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub n_records: i32,
    /// The whole batch, header included.
    pub bytes: Bytes,
}

impl Batch {
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
    /// The last sequence number; numbers wrap to 0 after `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        add_sequence(self.base_sequence, self.last_offset_delta)
    }

    /// A copy in an allocation of its own (the request's is larger and would live as long), at `offset`.
    pub fn placed_at(&self, offset: i64, leader_epoch: i32) -> Self {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[0..8].copy_from_slice(&offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        Self { base_offset: offset, bytes: bytes.freeze(), ..self.clone() }
    }

    /// Offset and time of each record, in the order of the batch.
    pub fn record_times(&self) -> Result<Vec<(i64, i64)>, BatchError> {
        let plain = unpack(&self.bytes[HEADER_BYTES..], self.attributes & 7)?;
        if self.attributes & 0x08 != 0 {
            // The broker's own time holds for all records of the batch.
            return Ok((0..=self.last_offset_delta)
                .map(|d| (self.base_offset + i64::from(d), self.max_timestamp))
                .collect());
        }
        let mut rest = &plain[..];
        let mut times = Vec::new();
        for _ in 0..self.n_records {
            let len = varint(&mut rest)?;
            let len = usize::try_from(len).map_err(|_| BatchError::Invalid("negative record length"))?;
            if rest.len() < len || len < RECORD_BYTES_MIN - 1 {
                return Err(BatchError::Invalid("record longer than its batch"));
            }
            let (mut record, tail) = rest.split_at(len);
            rest = tail;
            record = &record[1..];
            let time = self.base_timestamp.wrapping_add(varint(&mut record)?);
            let offset = self.base_offset.wrapping_add(varint(&mut record)?);
            times.push((offset, time));
        }
        Ok(times)
    }
}

pub fn add_sequence(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    (sum % (i64::from(i32::MAX) + 1)) as i32
}

/// The records field of a produce request: exactly one batch, as the protocol asks since version 3.
pub fn read_one(records: &Bytes) -> Result<Batch, BatchError> {
    let batch = read_first(records)?;
    if batch.bytes.len() < records.len() {
        return Err(BatchError::Invalid("more than one batch in a request"));
    }
    Ok(batch)
}

/// The first of adjacent batches.
pub fn read_first(bytes: &Bytes) -> Result<Batch, BatchError> {
    let cut_off = |want| BatchError::CutOff { have: bytes.len(), want };
    if bytes.len() < 17 {
        return Err(cut_off(HEADER_BYTES));
    }
    match bytes[16] as i8 {
        2 => {}
        old => return Err(BatchError::OldFormat(old)),
    }
    let length = usize::try_from(be_i32(bytes, 8)).map_err(|_| BatchError::Invalid("negative length"))?;
    let want = length.saturating_add(12);
    if want > BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge { bytes: want });
    }
    if want < HEADER_BYTES {
        return Err(BatchError::Invalid("shorter than its header"));
    }
    if bytes.len() < want {
        return Err(cut_off(want));
    }
    let bytes = bytes.slice(..want);
    let written = be_i32(&bytes, 17) as u32;
    let found = crc32c::crc32c(&bytes[21..]);
    if written != found {
        return Err(BatchError::Checksum { written, found });
    }
    let batch = Batch {
        base_offset: be_i64(&bytes, 0),
        attributes: be_i16(&bytes, 21),
        last_offset_delta: be_i32(&bytes, 23),
        base_timestamp: be_i64(&bytes, 27),
        max_timestamp: be_i64(&bytes, 35),
        producer_id: be_i64(&bytes, 43),
        producer_epoch: be_i16(&bytes, 51),
        base_sequence: be_i32(&bytes, 53),
        n_records: be_i32(&bytes, 57),
        bytes,
    };
    check(&batch)?;
    Ok(batch)
}

fn check(batch: &Batch) -> Result<(), BatchError> {
    if batch.n_records < 1 || batch.last_offset_delta != batch.n_records - 1 {
        return Err(BatchError::Invalid("record count and offsets disagree"));
    }
    let codec = batch.attributes & 7;
    if codec > 4 {
        return Err(BatchError::Invalid("unknown compression"));
    }
    let body = batch.bytes.len() - HEADER_BYTES;
    if codec == 0 && (batch.n_records as usize).saturating_mul(RECORD_BYTES_MIN) > body {
        return Err(BatchError::Invalid("more records than bytes"));
    }
    if batch.producer_id >= 0 && (batch.producer_epoch < 0 || batch.base_sequence < 0) {
        return Err(BatchError::Invalid("producer id without epoch or sequence"));
    }
    Ok(())
}

fn be_i16(b: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(b[at..at + 2].try_into().expect("two bytes were sliced"))
}
fn be_i32(b: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(b[at..at + 4].try_into().expect("four bytes were sliced"))
}
fn be_i64(b: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(b[at..at + 8].try_into().expect("eight bytes were sliced"))
}

/// Zigzag varint of at most ten bytes.
fn varint(bytes: &mut &[u8]) -> Result<i64, BatchError> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else {
            return Err(BatchError::Invalid("cut-off number in a record"));
        };
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(BatchError::Invalid("number of more than ten bytes in a record"))
}

fn unpack(packed: &[u8], codec: i16) -> Result<Vec<u8>, BatchError> {
    let bad = |_| BatchError::Invalid("compressed records cannot be unpacked");
    let mut plain = Vec::new();
    match codec {
        0 => plain.extend_from_slice(packed),
        1 => read_bounded(flate2::read::MultiGzDecoder::new(packed), &mut plain).map_err(bad)?,
        2 => snappy(packed, &mut plain)?,
        3 => lz4(packed, &mut plain)?,
        4 => read_bounded(zstd::Decoder::with_buffer(packed).map_err(bad)?, &mut plain).map_err(bad)?,
        _ => return Err(BatchError::Invalid("unknown compression")),
    }
    Ok(plain)
}

fn read_bounded(from: impl Read, into: &mut Vec<u8>) -> std::io::Result<()> {
    from.take(UNPACKED_BYTES_MAX).read_to_end(into).map(|_n_bytes| ())
}

fn lz4(packed: &[u8], plain: &mut Vec<u8>) -> Result<(), BatchError> {
    use kafka_protocol::compression::{Decompressor, Lz4};
    // LZ4 grows at most 255 times, which the size of a batch bounds.
    let mut packed = Bytes::copy_from_slice(packed);
    Lz4::decompress(&mut packed, |unpacked| {
        plain.extend_from_slice(unpacked);
        Ok(())
    })
    .map_err(|_| BatchError::Invalid("lz4 records cannot be unpacked"))
}

/// One raw block (librdkafka), or blocks framed as snappy-java frames them (Java).
fn snappy(packed: &[u8], plain: &mut Vec<u8>) -> Result<(), BatchError> {
    const MAGIC: &[u8] = b"\x82SNAPPY\0";
    const MAGIC_AND_VERSIONS: usize = 16;
    const BAD: BatchError = BatchError::Invalid("snappy records cannot be unpacked");
    let mut block = |bytes: &[u8]| {
        let len = snap::raw::decompress_len(bytes).map_err(|_| BAD)?;
        if (plain.len() + len) as u64 > UNPACKED_BYTES_MAX {
            return Err(BAD);
        }
        plain.append(&mut snap::raw::Decoder::new().decompress_vec(bytes).map_err(|_| BAD)?);
        Ok(())
    };
    if !packed.starts_with(MAGIC) {
        return block(packed);
    }
    let mut rest = packed.get(MAGIC_AND_VERSIONS..).ok_or(BatchError::Invalid("snappy header is cut off"))?;
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*len) as usize;
        let bytes = tail.get(..len).ok_or(BatchError::Invalid("snappy block is cut off"))?;
        block(bytes)?;
        rest = &tail[len..];
    }
    Ok(())
}

#[cfg(test)]
pub mod testing {
    use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

    use super::*;

    /// A batch with one record per time, as a producer without idempotence would send it.
    pub fn batch(times: &[i64]) -> Batch {
        read_one(&encode(times, Compression::None)).unwrap()
    }

    pub fn encode(times: &[i64], compression: Compression) -> Bytes {
        let record = |(offset, time): (usize, &i64)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset: offset as i64,
            // The encoder takes equal distances from the offset as one batch.
            sequence: offset as i32 - 1,
            timestamp: *time,
            key: None,
            value: Some(Bytes::from_static(b"value")),
            headers: Default::default(),
        };
        let records: Vec<Record> = times.iter().enumerate().map(record).collect();
        let mut out = BytesMut::new();
        RecordBatchEncoder::encode(&mut out, &records, &RecordEncodeOptions { version: 2, compression }).unwrap();
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::records::Compression;
    use proptest::prelude::*;

    use super::testing::encode;
    use super::*;

    const TIMES: [i64; 4] = [1_700_000_000_000, 1_700_000_000_007, 1_699_999_999_000, 1_700_000_000_007];

    #[test]
    fn record_times_are_read_through_every_compression() {
        let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        for codec in codecs {
            let batch = read_one(&encode(&TIMES, codec)).unwrap().placed_at(40, 0);
            let want: Vec<(i64, i64)> = (40..).zip(TIMES).collect();
            assert_eq!(batch.record_times().unwrap(), want, "{codec:?}");
        }
    }

    #[test]
    fn a_batch_keeps_its_checksum_when_it_is_placed() {
        let placed = read_one(&encode(&TIMES, Compression::None)).unwrap().placed_at(1 << 40, 0);
        let read = read_one(&placed.bytes).unwrap();
        assert_eq!((read.base_offset, read.last_offset()), (1 << 40, (1 << 40) + 3));
        assert_eq!(read, placed);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let good = encode(&TIMES, Compression::None);
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = BytesMut::from(&good[..]);
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            changed.freeze()
        };
        let twice: Bytes = [&good[..], &good[..]].concat().into();
        for (bytes, want) in [
            (Bytes::new(), "record batch is cut off: 0 of 61 bytes"),
            (good.slice(..good.len() - 1), "record batch is cut off"),
            (with(16, &[1]), "record format v1 is not supported, only v2"),
            (with(8, &i32::MAX.to_be_bytes()), "is larger than 1048588"),
            (with(8, &(-1_i32).to_be_bytes()), "negative length"),
            (with(8, &[0, 0, 0, 9]), "shorter than its header"),
            (with(70, &[0xff]), "checksum"),
            (twice, "more than one batch"),
        ] {
            let got = read_one(&bytes).unwrap_err().to_string();
            assert!(got.contains(want), "{got}: {want}");
        }
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(add_sequence(i32::MAX, 1), 0);
        assert_eq!(add_sequence(i32::MAX - 2, 5), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), codec in 0u8..8) {
            let bytes = Bytes::from(bytes);
            let _ = read_one(&bytes);
            // With a valid header before them, past the checksum.
            let mut made = BytesMut::from(&encode(&[1], Compression::None)[..HEADER_BYTES]);
            made.extend_from_slice(&bytes);
            let n = (made.len() - 12) as u32;
            made[8..12].copy_from_slice(&n.to_be_bytes());
            made[22] = codec;
            let crc = crc32c::crc32c(&made[21..]);
            made[17..21].copy_from_slice(&crc.to_be_bytes());
            if let Ok(batch) = read_one(&made.freeze()) {
                let _ = batch.record_times();
            }
        }
    }
}
