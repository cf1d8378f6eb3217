//! Positions read from consumer spans: the only trace of a consumer that keeps its offsets itself.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use weir_model::{AttrValue, Commit, CommitListener, Span, SpanKind, TenantId, Timestamp};

use crate::table::{Observed, PartitionId};

/// Positions remembered; past these the oldest goes.
const POSITIONS_MAX: usize = 50_000;
/// A consumer silent for longer is taken to be gone for good.
const KEEP: Duration = Duration::from_secs(7 * 86_400);

/// The newest position per group and partition, from spans of kind consumer that name system `kafka`,
/// topic, partition, offset and group by OpenTelemetry's messaging conventions.
pub struct ObservedPositions {
    tenant: TenantId,
    positions: Mutex<AHashMap<(Arc<str>, PartitionId), Position>>,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    next_offset: i64,
    at: Timestamp,
}

impl ObservedPositions {
    /// Spans of other tenants are passed over.
    pub fn new(tenant: TenantId) -> Self {
        Self { tenant, positions: Mutex::default() }
    }

    /// All positions not older than a week.
    pub fn all(&self, now: Timestamp) -> Vec<Observed> {
        let mut positions = self.positions.lock();
        positions.retain(|_, p| now.since(p.at) < KEEP);
        let observed = |((group, partition), p): (&(Arc<str>, PartitionId), &Position)| Observed {
            group: Arc::clone(group),
            partition: partition.clone(),
            position: p.next_offset,
            at: p.at,
        };
        positions.iter().map(observed).collect()
    }

    fn note(&self, group: &str, topic: &str, partition: i32, next_offset: i64, at: Timestamp) {
        let key = (Arc::from(group), PartitionId { topic: topic.into(), partition });
        let mut positions = self.positions.lock();
        if let Some(known) = positions.get_mut(&key) {
            if at >= known.at {
                *known = Position { next_offset, at };
            }
            return;
        }
        if positions.len() >= POSITIONS_MAX
            && let Some(oldest) = positions.iter().min_by_key(|(_, p)| p.at).map(|(key, _)| key.clone())
        {
            positions.remove(&oldest);
        }
        positions.insert(key, Position { next_offset, at });
    }
}

impl CommitListener for ObservedPositions {
    fn on_commit(&self, tenant: &TenantId, commit: &Commit<'_>) {
        let Commit::Spans { spans } = commit else { return };
        if *tenant != self.tenant {
            return;
        }
        for span in *spans {
            if let Some((group, topic, partition, offset)) = read(span) {
                // A record whose work failed is not behind the consumer yet.
                let next_offset = if span.is_error() { offset } else { offset + 1 };
                self.note(group, topic, partition, next_offset, span.end.millis());
            }
        }
    }
}

fn read(span: &Span) -> Option<(&str, &str, i32, i64)> {
    if span.kind != SpanKind::Consumer || span.get("messaging.system")?.as_str()? != "kafka" {
        return None;
    }
    let first = |names: &[&str]| names.iter().find_map(|name| span.get(name));
    let topic = first(&["messaging.destination.name", "messaging.destination"])?.as_str()?;
    let group =
        first(&["messaging.consumer.group.name", "messaging.kafka.consumer.group", "messaging.kafka.consumer_group"])?;
    let partition = number(first(&[
        "messaging.destination.partition.id",
        "messaging.kafka.destination.partition",
        "messaging.kafka.partition",
    ])?)?;
    let offset = number(first(&["messaging.kafka.offset", "messaging.kafka.message.offset"])?)?;
    let partition = i32::try_from(partition).ok().filter(|p| *p >= 0)?;
    (0..i64::MAX).contains(&offset).then_some((group.as_str()?, topic, partition, offset))
}

fn number(value: &AttrValue) -> Option<i64> {
    match value {
        AttrValue::Int(n) => Some(*n),
        AttrValue::Str(s) => s.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{Nanos, Resource, Scope, SpanId, SpanStatus, StatusCode, TraceId};

    use super::*;

    fn span(end_ms: i64, attributes: &[(&str, AttrValue)]) -> Span {
        Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([1; 8]),
            parent: None,
            name: "process".into(),
            kind: SpanKind::Consumer,
            start: Nanos(0),
            end: Timestamp(end_ms).nanos(),
            status: SpanStatus::default(),
            attributes: attributes.iter().map(|(k, v)| (Arc::from(*k), v.clone())).collect(),
            events: Vec::new(),
            links: Vec::new(),
            trace_state: "".into(),
            flags: 0,
            resource: Arc::new(Resource::default()),
            scope: Arc::new(Scope::default()),
        }
    }

    fn consumed(end_ms: i64, offset: i64) -> Span {
        span(
            end_ms,
            &[
                ("messaging.system", "kafka".into()),
                ("messaging.destination.name", "orders".into()),
                ("messaging.destination.partition.id", "3".into()),
                ("messaging.kafka.offset", AttrValue::Int(offset)),
                ("messaging.consumer.group.name", "billing".into()),
            ],
        )
    }

    #[track_caller]
    fn check(tenant: &str, spans: Vec<Span>, want: &[(&str, &str, i32, i64)]) {
        let positions = ObservedPositions::new(TenantId::anonymous());
        let spans: Vec<Arc<Span>> = spans.into_iter().map(Arc::new).collect();
        positions.on_commit(&TenantId::parse(tenant).unwrap(), &Commit::Spans { spans: &spans });
        let all = positions.all(Timestamp(0));
        let got: Vec<_> =
            all.iter().map(|o| (&*o.group, &*o.partition.topic, o.partition.partition, o.position)).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn the_newest_span_tells_the_position() {
        check("anonymous", vec![consumed(2000, 41), consumed(1000, 99)], &[("billing", "orders", 3, 42)]);
        let mut failed = consumed(3000, 42);
        failed.status.code = StatusCode::Error;
        check("anonymous", vec![consumed(2000, 41), failed], &[("billing", "orders", 3, 42)]);
    }

    #[test]
    fn other_spans_and_other_tenants_tell_nothing() {
        check("other", vec![consumed(2000, 41)], &[]);
        let mut producer = consumed(2000, 41);
        producer.kind = SpanKind::Producer;
        let mut rabbit = consumed(2000, 41);
        rabbit.attributes[0].1 = "rabbitmq".into();
        let mut no_offset = consumed(2000, 41);
        no_offset.attributes.remove(3);
        check("anonymous", vec![producer, rabbit, no_offset, consumed(1, -1)], &[]);
    }
}
