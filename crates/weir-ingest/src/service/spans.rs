//! Spans into the trace store.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::sink::{Outcome, RefusedReason, WriteError};
use weir_model::usage::{Amount, Signal};
use weir_model::{Commit, EntityRefs, Resource, Span, TenantId, Timestamp};

use super::{Ingest, add_amount};
use crate::Decoded;
use crate::sender::SenderRef;

impl Ingest {
    pub fn write_spans(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        decoded: impl Into<Decoded<Vec<Arc<Span>>>>,
    ) -> Result<Outcome, WriteError> {
        let mut decoded = decoded.into();
        let newest = self.newest_allowed().nanos();
        let Decoded { batch, refused } = &mut decoded;
        batch.retain(|span| {
            if span.start > newest {
                crate::decoded::refuse(refused, RefusedReason::TooFarInFuture, 1, || {
                    format!(
                        "{}: span `{}` starts at {}",
                        span.resource.service(),
                        span.name,
                        span.start.millis().rfc3339()
                    )
                });
            }
            span.start <= newest
        });
        let spans = decoded.batch;
        let stored = if spans.is_empty() { Ok(Outcome::default()) } else { self.to.spans.append(tenant, &spans) };
        let mut bytes = 0;
        if stored.is_ok() && !spans.is_empty() {
            bytes = self.after_spans(tenant, &spans);
        }
        self.settle(Signal::Traces, tenant, sender, stored, decoded.refused, bytes)
    }

    fn after_spans(&self, tenant: &TenantId, spans: &[Arc<Span>]) -> u64 {
        let now = self.to.clock.now();
        let mut rows = Vec::new();
        let mut total = 0;
        let mut resource: Option<(&Arc<Resource>, Arc<EntityRefs>)> = None;
        // A batch repeats the same few resources and subjects: each is noted once, at its newest.
        let mut seen: HashMap<EntityRefs, Timestamp, ahash::RandomState> = HashMap::default();
        for span in spans {
            let refs = match &resource {
                Some((of, refs)) if Arc::ptr_eq(of, &span.resource) => refs.clone(),
                _ => {
                    let refs = Arc::new(self.to.aliases.resolve_resource(&span.resource));
                    resource = Some((&span.resource, refs.clone()));
                    refs
                }
            };
            let bytes = span.size_bytes() as u64;
            total += bytes;
            add_amount(&mut rows, &refs, Amount { items: 1, bytes });
            let mut with_subjects = (*refs).clone();
            self.to.aliases.span_subjects(span, &mut with_subjects);
            let newest = seen.entry(with_subjects).or_insert(Timestamp::MIN);
            *newest = span.end.millis().min(now).max(*newest);
        }
        for (refs, newest) in &seen {
            self.to.entities.observe(tenant, refs, *newest);
        }
        self.count_usage(Signal::Traces, tenant, &rows);
        self.to.feed.publish(tenant, &Commit::Spans { spans });
        total
    }
}
