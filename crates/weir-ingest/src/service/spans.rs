//! Spans into the trace store.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use weir_model::entity::Aliases;
use weir_model::sink::{Outcome, RefusedReason, WriteError};
use weir_model::usage::{Amount, Signal};
use weir_model::{AttrValue, Commit, EntityRefs, Resource, Span, TenantId, Timestamp};

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
        let mut spans = decoded.batch;
        if let Some(redactor) = self.redactor.get() {
            redactor.spans(&mut spans);
        }
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
        // A batch repeats the same few resources and subjects: each is resolved once, and noted once at its newest.
        let mut seen: HashMap<u64, (EntityRefs, Timestamp), ahash::RandomState> = HashMap::default();
        for span in spans {
            let refs = match &resource {
                Some((of, refs)) if Arc::ptr_eq(of, &span.resource) => refs,
                _ => {
                    let refs = Arc::new(self.to.aliases.resolve_resource(&span.resource));
                    &resource.insert((&span.resource, refs)).1
                }
            };
            let bytes = span.size_bytes() as u64;
            total += bytes;
            add_amount(&mut rows, refs, Amount { items: 1, bytes });
            let (_, newest) = seen.entry(self.subjects.key(span)).or_insert_with(|| {
                let mut with_subjects = (**refs).clone();
                self.to.aliases.span_subjects(span, &mut with_subjects);
                (with_subjects, Timestamp::MIN)
            });
            *newest = span.end.millis().min(now).max(*newest);
        }
        for (refs, newest) in seen.values() {
            self.to.entities.observe(tenant, refs, *newest);
        }
        self.count_usage(Signal::Traces, tenant, &rows);
        self.to.feed.publish(tenant, &Commit::Spans { spans });
        total
    }
}

/// Tells spans of one request apart that are about different things.
pub(super) struct Subjects {
    names: HashSet<Box<str>, ahash::RandomState>,
    seed: ahash::RandomState,
}

impl Subjects {
    pub fn new(aliases: &Aliases) -> Self {
        let names = aliases.span_subject_names().map(Into::into).collect();
        Self { names, seed: ahash::RandomState::new() }
    }

    /// The same for spans of one resource whose subjects are the same. The seed is drawn at start, so that no sender
    /// can make two meet.
    fn key(&self, span: &Span) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_usize(Arc::as_ptr(&span.resource).addr());
        for (name, value) in &span.attributes {
            if !self.names.contains(&**name) {
                continue;
            }
            name.hash(&mut hasher);
            match value {
                AttrValue::Str(text) => text.hash(&mut hasher),
                AttrValue::Int(number) => number.hash(&mut hasher),
                // No name is read from others.
                _ => {}
            }
        }
        hasher.finish()
    }
}
