//! Streams into the log store.

use weir_model::sink::{Outcome, RawRequest, RefusedReason, StreamBatch, WriteError};
use weir_model::usage::{Amount, Signal};
use weir_model::{Commit, TenantId};

use super::{Ingest, add_amount};
use crate::Decoded;
use crate::sampling::{LogSampler, Sampled};
use crate::sender::SenderRef;

impl Ingest {
    pub fn write_logs(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        decoded: impl Into<Decoded<Vec<StreamBatch>>>,
    ) -> Result<Outcome, WriteError> {
        self.write_request(tenant, sender, None, decoded.into())
    }

    /// The same with what was decoded: a body of this kind.
    pub fn write_logs_request(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        (kind, body): (u8, &[u8]),
        decoded: Decoded<Vec<StreamBatch>>,
    ) -> Result<Outcome, WriteError> {
        let request = RawRequest { kind, received: self.to.clock.now(), body };
        self.write_request(tenant, sender, Some(request), decoded)
    }

    fn write_request(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        request: Option<RawRequest<'_>>,
        mut decoded: Decoded<Vec<StreamBatch>>,
    ) -> Result<Outcome, WriteError> {
        self.drop_untimely_entries(&mut decoded);
        let is_redacted = self.redactor.get().is_some_and(|redactor| redactor.streams(&mut decoded.batch));
        self.note_contract(tenant, &decoded.batch);
        let sampler = self.sampler.get();
        let sampled = sampler.map(|sampler| self.thin_out(sampler, tenant, &mut decoded.batch));
        let is_sampled = sampled.as_ref().is_some_and(Sampled::changed);
        let streams = decoded.batch;
        // A request of which something was refused, taken out or left out says more than what is stored.
        let stored = match request.filter(|_| decoded.refused.is_empty() && !is_redacted && !is_sampled) {
            _ if streams.is_empty() => Ok(Outcome::default()),
            Some(request) => self.to.logs.append_request(tenant, request, &streams),
            None => self.to.logs.append(tenant, &streams),
        };
        let mut bytes = 0;
        if stored.is_ok() {
            bytes = self.after_logs(tenant, &streams);
            self.own.sampled_out(sampled.map_or(0, |sampled| sampled.dropped));
        } else if let (Some(sampler), Some(sampled)) = (sampler, sampled) {
            sampler.undo(sampled);
        }
        self.settle(Signal::Logs, tenant, sender, stored, decoded.refused, bytes)
    }

    fn note_contract(&self, tenant: &TenantId, streams: &[StreamBatch]) {
        let now = self.to.clock.now();
        for stream in streams {
            let refs = self.known.labels(tenant, &stream.labels, now, &self.to.aliases, &self.to.entities);
            self.contracts.note(tenant, &refs, stream, now);
        }
    }

    fn thin_out(&self, sampler: &LogSampler, tenant: &TenantId, streams: &mut Vec<StreamBatch>) -> Sampled {
        let now = self.to.clock.now();
        sampler.apply(tenant, streams, now, |stream| {
            self.known.labels(tenant, &stream.labels, now, &self.to.aliases, &self.to.entities)
        })
    }

    fn drop_untimely_entries(&self, decoded: &mut Decoded<Vec<StreamBatch>>) {
        let newest = self.newest_allowed().nanos();
        let oldest = self.to.clock.now().minus(self.to.limits.log_age).nanos();
        let Decoded { batch, refused } = decoded;
        for stream in batch.iter_mut() {
            if stream.entries.iter().all(|e| oldest <= e.at && e.at <= newest) {
                continue;
            }
            let labels = &stream.labels;
            stream.entries.retain(|entry| {
                let at = || entry.at.millis().rfc3339();
                if entry.at > newest {
                    crate::decoded::refuse(refused, RefusedReason::TooFarInFuture, 1, || {
                        format!("entry for stream '{labels}' has timestamp too new: {}", at())
                    });
                } else if entry.at < oldest {
                    crate::decoded::refuse(refused, RefusedReason::TooOld, 1, || {
                        let oldest = oldest.millis().rfc3339();
                        format!("entry for stream '{labels}' has timestamp too old: {}, oldest acceptable timestamp is: {oldest}", at())
                    });
                }
                oldest <= entry.at && entry.at <= newest
            });
        }
        batch.retain(|stream| !stream.entries.is_empty());
    }

    fn after_logs(&self, tenant: &TenantId, streams: &[StreamBatch]) -> u64 {
        let mut rows = Vec::new();
        let mut total = 0;
        for stream in streams {
            let Some(newest) = stream.entries.iter().map(|e| e.at).max() else { continue };
            let refs = self.known.labels(tenant, &stream.labels, newest.millis(), &self.to.aliases, &self.to.entities);
            let bytes = stream.entries.iter().map(|e| e.size_bytes() as u64).sum();
            total += bytes;
            add_amount(&mut rows, &refs, Amount { items: stream.entries.len() as u64, bytes });
            self.to.feed.publish(tenant, &Commit::Logs { stream: &stream.labels, entries: &stream.entries });
        }
        self.count_usage(Signal::Logs, tenant, &rows);
        total
    }
}
