//! One queued batch: bytes as `docs/format/remote-queue.md` draws them.

use weir_ingest::LabelCache;
use weir_ingest::remote_write::{decode_v1, encode_v1};
use weir_model::sink::MetricBatch;
use weir_model::{TenantId, Timestamp};

/// A frame's kind, which is its version too.
pub(super) const KIND: u8 = 1;

/// A batch is no larger than a decoded body may be.
const PLAIN_BYTES_MAX: usize = 256 << 20;

#[derive(Clone, Debug, PartialEq)]
pub struct Queued {
    pub tenant: TenantId,
    pub at: Timestamp,
    pub batch: MetricBatch,
}

/// Head and body: time, length and name of the tenant; then the batch as remote write 1.0 in snappy.
pub(super) fn write(tenant: &TenantId, batch: &MetricBatch, at: Timestamp) -> Result<(Vec<u8>, Vec<u8>), String> {
    let name = tenant.as_str();
    let mut head = Vec::with_capacity(10 + name.len());
    head.extend(at.0.to_le_bytes());
    head.extend(u16::try_from(name.len()).map_err(|_| "the tenant's name is too long")?.to_le_bytes());
    head.extend(name.as_bytes());
    let body = snap::raw::Encoder::new().compress_vec(&encode_v1(batch)).map_err(|e| e.to_string())?;
    Ok((head, body))
}

/// Reads what [`write`] wrote; an error tells what does not fit.
pub fn read_frame(payload: &[u8], cache: &LabelCache) -> Result<Queued, String> {
    let (time, rest) = payload.split_first_chunk::<8>().ok_or("cut in its time")?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or("cut in its tenant")?;
    let (name, body) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or("cut in its tenant")?;
    let name = std::str::from_utf8(name).map_err(|_| "its tenant is not UTF-8")?;
    let tenant = TenantId::parse(name).map_err(|e| e.to_string())?;
    let claimed = snap::raw::decompress_len(body).map_err(|e| e.to_string())?;
    if claimed > PLAIN_BYTES_MAX {
        return Err(format!("claims {claimed} bytes"));
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|e| e.to_string())?;
    let batch = decode_v1(&plain, cache).map_err(|e| e.to_string())?.decoded.batch;
    Ok(Queued { tenant, at: Timestamp(i64::from_le_bytes(*time)), batch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_ingest::Limits;
    use weir_model::sink::SeriesBatch;
    use weir_model::{Labels, Sample};

    #[test]
    fn frames_come_back() {
        let cache = LabelCache::new(Limits::default().series_labels);
        let series = SeriesBatch {
            labels: Labels::from_pairs([("__name__", "a")]),
            samples: vec![Sample::new(5, 1.5)],
            ..SeriesBatch::default()
        };
        let batch = MetricBatch { series: vec![series], ..MetricBatch::default() };
        let tenant = TenantId::parse("t1").unwrap();
        let (head, body) = write(&tenant, &batch, Timestamp(7)).unwrap();
        let frame = [head, body].concat();
        let want = Queued { tenant, at: Timestamp(7), batch };
        assert_eq!(read_frame(&frame, &cache).unwrap(), want);
        for n in 0..frame.len() {
            assert!(read_frame(&frame[..n], &cache).is_err(), "{n} bytes");
        }
    }
}
