//! Undecided traces in the write-ahead log. Bytes: `docs/format/collector.md`.

use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, TracesData};
use prost::Message as _;
use weir_model::{Nanos, TenantId, TraceId};
use weir_wal::{Damage, Dir, Log, LogError, LogOptions, Position, Replayed, SyncMode};

/// Spans that wait.
const SPANS: u8 = 1;
/// Traces that were decided, and whose spans, if kept, were handed on.
const DECISIONS: u8 = 2;

/// Small enough that what is decided leaves the disk soon.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Twice this is the most that may wait on the disk.
const CAP_BYTES: u64 = 4 << 30;

/// A record of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Spans { tenant: TenantId, received: Nanos, groups: Vec<ResourceSpans> },
    Decisions { tenant: TenantId, traces: Vec<(TraceId, bool)> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of waiting traces cannot be read: {0}")]
pub struct RecordError(String);

pub(crate) struct Journal {
    log: Log,
}

fn head(tenant: &TenantId) -> Vec<u8> {
    let name = tenant.as_str().as_bytes();
    let len = u8::try_from(name.len()).expect("names of tenants have at most 150 bytes");
    [&[len][..], name].concat()
}

impl Journal {
    pub fn open(dir: std::sync::Arc<dyn Dir>, folder: &str, sync: SyncMode) -> Result<(Self, Vec<Damage>), LogError> {
        let options = LogOptions { sync, segment_bytes: SEGMENT_BYTES, cap_bytes: CAP_BYTES, ..LogOptions::default() };
        let (log, damage) = Log::open(dir, folder, Position::START, options)?;
        Ok((Self { log }, damage))
    }

    /// To be synced before the acknowledgement.
    pub fn append_spans(&self, tenant: &TenantId, now: Nanos, groups: &[ResourceSpans]) -> Result<Position, LogError> {
        // Encoded by reference: a message of its own would copy every span.
        let mut body = Vec::new();
        for group in groups {
            prost::encoding::message::encode(1, group, &mut body);
        }
        self.log.append(SPANS, &[&head(tenant), &now.0.to_le_bytes(), &body])
    }

    pub fn append_decisions(&self, tenant: &TenantId, traces: &[(TraceId, bool)]) -> Result<Position, LogError> {
        let mut body = Vec::with_capacity(traces.len() * 17);
        for (id, is_sampled) in traces {
            body.extend_from_slice(&id.0);
            body.push(u8::from(*is_sampled));
        }
        self.log.append(DECISIONS, &[&head(tenant), &body])
    }

    pub fn sync_to(&self, end: Position) -> Result<(), LogError> {
        self.log.sync_to(end)
    }

    /// Tries a failed log again and syncs what is due.
    pub fn tick(&self, now: Nanos) -> Result<(), LogError> {
        self.log.tick(now)
    }

    /// Drops the segments before the first that still has a trace to be decided; of none, all there are.
    pub fn truncate(&self, first: Option<u64>) -> Result<(), LogError> {
        match first {
            Some(segment) => self.log.truncate_before(Position { segment, offset: 0 }),
            // A segment of decisions alone would stay for ever; a small one may.
            None if self.log.stats().size_bytes < SEGMENT_BYTES / 4 => Ok(()),
            None => {
                // What is not synced cannot be cut off.
                self.log.sync_all()?;
                self.log.truncate_before(self.log.roll())
            }
        }
    }

    /// Each with its segment; of one that cannot be read what is wrong with it.
    pub fn records(&self) -> impl Iterator<Item = Result<(u64, Record), String>> {
        self.log.replay(Position::START).map(|replayed| match replayed {
            Ok(Replayed::Frame(frame)) => {
                decode(frame.kind, &frame.payload).map(|record| (frame.end.segment, record)).map_err(|e| e.to_string())
            }
            Ok(Replayed::Damage(damage)) => Err(damage.to_string()),
            Err(error) => Err(error.to_string()),
        })
    }
}

/// A record from its frame.
pub fn decode(kind: u8, payload: &[u8]) -> Result<Record, RecordError> {
    let short = || RecordError(format!("{} bytes end early", payload.len()));
    let (len, rest) = payload.split_first().ok_or_else(short)?;
    let (name, rest) = rest.split_at_checked(usize::from(*len)).ok_or_else(short)?;
    let name = std::str::from_utf8(name).map_err(|e| RecordError(e.to_string()))?;
    let tenant = TenantId::parse(name).map_err(|e| RecordError(e.to_string()))?;
    match kind {
        SPANS => {
            let (received, body) = rest.split_first_chunk::<8>().ok_or_else(short)?;
            let data = TracesData::decode(body).map_err(|e| RecordError(e.to_string()))?;
            Ok(Record::Spans { tenant, received: Nanos(i64::from_le_bytes(*received)), groups: data.resource_spans })
        }
        DECISIONS => {
            let (traces, rest) = rest.as_chunks::<17>();
            if !rest.is_empty() {
                return Err(short());
            }
            let trace = |bytes: &[u8; 17]| {
                let mut id = [0; 16];
                id.copy_from_slice(&bytes[..16]);
                (TraceId(id), bytes[16] == 1)
            };
            Ok(Record::Decisions { tenant, traces: traces.iter().map(trace).collect() })
        }
        other => Err(RecordError(format!("kind {other} is of a later version"))),
    }
}
