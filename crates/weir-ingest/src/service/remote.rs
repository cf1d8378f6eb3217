//! Remote write into the metric store, without a label set or an allocation per series that is known.

use parking_lot::Mutex;
use weir_model::sink::{
    LogMark, MetricBatch, Outcome, RawRequest, Refused, RefusedReason, SampleColumns, SampleRun, SeriesRef, SeriesSink,
    WriteError,
};
use weir_model::usage::Signal;
use weir_model::{Commit, Labels, MetricMetadata, SeriesNames, TenantId, Timestamp};

use super::Ingest;
use super::metrics::drop_future_samples;
use crate::cache::show;
use crate::cardinality::Gate;
use crate::compress::decompress_into;
use crate::decoded::refuse;
use crate::known_series::{Made, Tally};
use crate::proto::Message;
use crate::remote_write::walk::{Series, Walk, Walked};
use crate::remote_write::{self, Version};
use crate::sender::SenderRef;
use crate::{DecodeError, Decoded, Encoding};

/// Sets of buffers kept for the next requests, and how large one may stay.
const SCRATCH_KEPT: usize = 8;
const SCRATCH_BYTES_MAX: usize = 16 << 20;

/// A remote-write request as it came.
#[derive(Clone, Copy, Debug)]
pub struct RemoteRequest<'a> {
    pub version: Version,
    /// Snappy or zstd.
    pub encoding: Encoding,
    pub body: &'a [u8],
}

impl RemoteRequest<'_> {
    /// What a log calls it; see [`RemoteRequest::from_log`].
    fn kind(&self) -> u8 {
        let encoding = if self.encoding == Encoding::Zstd { 2 } else { 0 };
        self.version as u8 + encoding
    }

    /// The request that a log holds as `kind`; `None` for a kind that is none of ours.
    pub fn from_log(kind: u8, body: &[u8]) -> Option<RemoteRequest<'_>> {
        let (version, encoding) = match kind {
            1 => (Version::V1, Encoding::SnappyBlock),
            2 => (Version::V2, Encoding::SnappyBlock),
            3 => (Version::V1, Encoding::Zstd),
            4 => (Version::V2, Encoding::Zstd),
            _ => return None,
        };
        Some(RemoteRequest { version, encoding, body })
    }
}

/// What a request brought that could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteCounts {
    pub samples: u64,
    pub histograms: u64,
    pub exemplars: u64,
}

/// What was stored.
#[derive(Clone, Debug, Default)]
pub struct RemoteWritten {
    pub outcome: Outcome,
    pub sent: RemoteCounts,
    /// To be handed to [`Ingest::sync`] before the acknowledgement.
    pub mark: Option<LogMark>,
}

/// Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The sender should not try again.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The sender should try again.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Buffers of one request, used again by another one.
#[derive(Default)]
struct Scratch {
    plain: Vec<u8>,
    walked: Walked,
    known: Vec<Option<SeriesRef>>,
    columns: SampleColumns,
}

#[derive(Default)]
pub(super) struct ScratchPool(Mutex<Vec<Scratch>>);

impl ScratchPool {
    fn take(&self) -> Scratch {
        self.0.lock().pop().unwrap_or_default()
    }
    fn give_back(&self, scratch: Scratch) {
        let is_small = scratch.plain.capacity() + scratch.walked.capacity_bytes() <= SCRATCH_BYTES_MAX;
        let mut kept = self.0.lock();
        if is_small && kept.len() < SCRATCH_KEPT {
            kept.push(scratch);
        }
    }
}

struct Names<'a>(&'a Ingest, &'a TenantId);

impl SeriesNames for Names<'_> {
    fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.0.to.series.as_ref()?.labels(self.1, series)
    }
}

/// Where a request comes from: a sender, or the log after a restart.
#[derive(Clone, Copy)]
enum From<'a> {
    Sender(&'a SenderRef),
    Log { received: Timestamp },
}

impl Ingest {
    /// Stores what can be stored. Not to be acknowledged before [`Ingest::sync`] of its mark.
    pub fn write_remote(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        request: RemoteRequest<'_>,
    ) -> Result<RemoteWritten, RemoteError> {
        self.remote(tenant, From::Sender(sender), request)
    }

    /// Stores what was stored before a restart; nobody is told but the entity table.
    pub fn replay_remote(
        &self,
        tenant: &TenantId,
        received: Timestamp,
        request: RemoteRequest<'_>,
    ) -> Result<(), RemoteError> {
        self.remote(tenant, From::Log { received }, request).map(|_| ())
    }

    /// Notes the entities of a batch that the store took back from its log.
    pub fn note_replayed(&self, tenant: &TenantId, batch: &MetricBatch) {
        self.touch_entities(tenant, batch);
    }

    /// Blocks until what was stored up to `mark` survives a crash.
    pub fn sync(&self, mark: LogMark) -> Result<(), WriteError> {
        self.series_sink()?.sync(mark)
    }

    fn series_sink(&self) -> Result<&dyn SeriesSink, WriteError> {
        let why = || WriteError::Storage("remote write is not taken in here".to_owned());
        self.to.series.as_deref().ok_or_else(why)
    }

    fn remote(
        &self,
        tenant: &TenantId,
        from: From<'_>,
        request: RemoteRequest<'_>,
    ) -> Result<RemoteWritten, RemoteError> {
        let mut scratch = self.scratch.take();
        let written = self.remote_with(tenant, from, request, &mut scratch);
        self.scratch.give_back(scratch);
        written
    }

    fn remote_with(
        &self,
        tenant: &TenantId,
        from: From<'_>,
        request: RemoteRequest<'_>,
        scratch: &mut Scratch,
    ) -> Result<RemoteWritten, RemoteError> {
        let received = match from {
            From::Sender(_) => self.to.clock.now(),
            From::Log { received } => received,
        };
        let newest_allowed = received.plus(self.to.limits.future);
        let Scratch { plain, walked, known, columns } = scratch;
        let len = decompress_into(request.encoding, request.body, self.to.limits.body_bytes_max, plain)?;
        let body = &plain[..len];
        Walk::new(request.version, body, newest_allowed, &self.series.seeds, tenant.as_str()).run(walked)?;
        let seldom = remote_write::decode_seldom(request.version, body, walked, &self.series_cache)?;
        let mut sent = RemoteCounts { exemplars: seldom.n_exemplars, ..RemoteCounts::default() };
        let mut rest = seldom.decoded;
        drop_future_samples(&mut rest, newest_allowed);

        columns.clear();
        std::mem::swap(&mut columns.times, &mut walked.times);
        std::mem::swap(&mut columns.values, &mut walked.values);
        let request_body = Body { version: request.version, body, walked };
        let mut tally = Tally::default();
        self.series.find(&walked.series, known, &mut tally);
        if let (From::Sender(sender), Some(gate)) = (from, self.gate()) {
            gate.learn(tenant, &rest.batch.metadata);
            if !self.all_admitted(gate, tenant, &request_body, known, &rest.batch)? {
                return self.remote_thorough(tenant, sender, request.version, body);
            }
        }
        self.register_new(tenant, &request_body, known, &mut rest, &mut tally)?;
        columns.runs.extend(runs(&walked.series, known));
        sent.samples = columns.runs.iter().map(|run| run.range().len() as u64).sum();
        for series in &rest.batch.series {
            sent.samples += series.samples.len() as u64;
            sent.histograms += series.histograms.len() as u64;
        }
        request_body.refuse_future(&mut rest.refused, newest_allowed)?;

        let raw = match from {
            From::Sender(_) => Some(RawRequest { kind: request.kind(), received, body: request.body }),
            From::Log { .. } => None,
        };
        let stored = self.append(tenant, raw, &request_body, columns, known, &rest.batch);
        let (stored, mark) = match stored {
            Ok((outcome, mark)) => (Ok(outcome), mark),
            Err(RemoteError::Write(error)) => (Err(error), None),
            Err(error) => return Err(error),
        };
        let From::Sender(sender) = from else {
            self.touch_owners(tenant, columns, &tally);
            self.touch_entities(tenant, &rest.batch);
            return Ok(RemoteWritten { outcome: stored?, sent, mark });
        };
        let mut bytes = 0;
        if stored.is_ok() {
            bytes = self.account(tenant, columns, &tally) + self.after_metrics(tenant, &rest.batch);
        }
        let outcome = self.settle(Signal::Metrics, tenant, sender, stored, rest.refused, bytes)?;
        Ok(RemoteWritten { outcome, sent, mark })
    }

    /// Whether every new series has room in its budgets; those with bad labels do not count.
    fn all_admitted(
        &self,
        gate: &Gate,
        tenant: &TenantId,
        body: &Body<'_>,
        known: &[Option<SeriesRef>],
        rest: &MetricBatch,
    ) -> Result<bool, DecodeError> {
        let new: Vec<&Series> =
            body.walked.series.iter().zip(known).filter(|(_, known)| known.is_none()).map(|(one, _)| one).collect();
        if new.is_empty() && rest.series.is_empty() {
            return Ok(true);
        }

        let symbols = remote_write::symbols(body.body, body.walked)?;
        let mut checked: Vec<Vec<(&str, &str)>> =
            rest.series.iter().map(|s| s.labels.iter().map(|l| (&*l.name, &*l.value)).collect()).collect();
        for one in new {
            if let Ok(mut pairs) = remote_write::raw_labels(body.version, body.message(one), &symbols)?
                && self.series_cache.check(&mut pairs).is_ok()
            {
                checked.push(pairs);
            }
        }
        Ok(gate.admits(tenant, checked.iter().map(Vec::as_slice)))
    }

    /// The way of a request that brings more series than a budget has room for: decoded as a whole, and logged as
    /// what was let in.
    fn remote_thorough(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        version: Version,
        body: &[u8],
    ) -> Result<RemoteWritten, RemoteError> {
        let request = match version {
            Version::V1 => remote_write::decode_v1(body, &self.series_cache)?,
            Version::V2 => remote_write::decode_v2(body, &self.series_cache)?,
        };
        let all = &request.decoded.batch.series;
        let mut sent = RemoteCounts { exemplars: request.n_exemplars, ..RemoteCounts::default() };
        sent.samples = all.iter().map(|s| s.samples.len() as u64).sum();
        sent.histograms = all.iter().map(|s| s.histograms.len() as u64).sum();
        let outcome = self.write_metrics(tenant, sender, request.decoded)?;
        let n_refused: u64 = outcome.refused.iter().map(|r| r.count).sum();
        sent.samples = sent.samples.saturating_sub(n_refused);
        Ok(RemoteWritten { outcome, sent, mark: None })
    }

    /// Registers the series that are not known yet; one with bad labels is refused and stays unknown.
    fn register_new(
        &self,
        tenant: &TenantId,
        body: &Body<'_>,
        known: &mut [Option<SeriesRef>],
        rest: &mut Decoded<MetricBatch>,
        tally: &mut Tally,
    ) -> Result<(), RemoteError> {
        let mut symbols = None;
        let mut start = 0;
        for (one, known) in body.walked.series.iter().zip(known) {
            let n_samples = one.samples_end - start;
            start = one.samples_end;
            if known.is_some() {
                continue;
            }
            let symbols = match &mut symbols {
                Some(symbols) => symbols,
                none => none.insert(remote_write::symbols(body.body, body.walked)?),
            };
            match self.register(tenant, body, one, symbols)? {
                Ok(New { series, labels, metadata }) => {
                    let refs = self.to.aliases.resolve_labels(&labels);
                    let made = Made { tenant, series, refs, labels_bytes: labels.size_bytes() };
                    self.series.put(one.key, made, n_samples, tally);
                    rest.batch.metadata.extend(metadata);
                    *known = Some(series);
                }
                Err(bad) => rest.refuse(bad.reason, u64::from(n_samples), || bad.example),
            }
        }
        Ok(())
    }

    fn register(
        &self,
        tenant: &TenantId,
        body: &Body<'_>,
        series: &Series,
        symbols: &[&str],
    ) -> Result<Result<New, Refused>, RemoteError> {
        let message = body.message(series);
        let mut pairs = match remote_write::raw_labels(body.version, message, symbols)? {
            Ok(pairs) => pairs,
            Err(bad) => return Ok(Err(bad)),
        };
        if let Err(bad) = self.series_cache.check(&mut pairs) {
            return Ok(Err(bad));
        }
        let (series, labels) = self.series_sink()?.register(tenant, &pairs)?;
        let metadata = match body.version {
            Version::V1 => None,
            Version::V2 => remote_write::series_metadata(message, symbols, &labels)?,
        };
        Ok(Ok(New { series, labels, metadata }))
    }

    /// Appends; a series that died since it was looked up is registered again.
    fn append(
        &self,
        tenant: &TenantId,
        raw: Option<RawRequest<'_>>,
        body: &Body<'_>,
        columns: &SampleColumns,
        known: &[Option<SeriesRef>],
        rest: &MetricBatch,
    ) -> Result<(Outcome, Option<LogMark>), RemoteError> {
        if columns.runs.is_empty() && rest.series.is_empty() && rest.metadata.is_empty() {
            return Ok(Default::default());
        }
        let first = self.series_sink()?.append_columns(tenant, raw, columns, rest)?;
        let (mut outcome, mut mark) = (first.outcome, first.mark);
        if first.dead.is_empty() {
            return Ok((outcome, mark));
        }
        let symbols = remote_write::symbols(body.body, body.walked)?;
        let series: Vec<&Series> =
            body.walked.series.iter().zip(known).filter(|(_, known)| known.is_some()).map(|(s, _)| s).collect();
        let mut dead = first.dead;
        while !dead.is_empty() {
            let mut again = SampleColumns::default();
            for idx in &dead {
                if let Ok(new) = self.register(tenant, body, series[*idx as usize], &symbols)? {
                    again.push(new.series, columns.samples(columns.runs[*idx as usize]));
                }
            }
            // Logged once more: a cut may have gone by, after which the log forgets the first.
            let next = self.series_sink()?.append_columns(tenant, raw, &again, &MetricBatch::default())?;
            mark = mark.max(next.mark);
            outcome.accepted += next.outcome.accepted;
            for part in next.outcome.refused {
                refuse(&mut outcome.refused, part.reason, part.count, || part.example);
            }
            dead = next.dead.iter().map(|idx| dead[*idx as usize]).collect();
        }
        Ok((outcome, mark))
    }

    /// Entities, usage and the commit; answers the bytes.
    fn account(&self, tenant: &TenantId, columns: &SampleColumns, tally: &Tally) -> u64 {
        if columns.runs.is_empty() {
            return 0;
        }
        let newest = self.touch_owners(tenant, columns, tally);
        let rows: Vec<_> = tally.rows.iter().map(|(owner, amount)| (owner.refs.clone(), *amount)).collect();
        self.count_usage(Signal::Metrics, tenant, &rows);
        let names = Names(self, tenant);
        self.to.feed.publish(tenant, &Commit::Series { series: &columns.runs, names: &names, newest });
        tally.bytes()
    }

    /// The newest time.
    fn touch_owners(&self, tenant: &TenantId, columns: &SampleColumns, tally: &Tally) -> Timestamp {
        let newest = columns.times.iter().copied().max().map_or(Timestamp::MIN, Timestamp);
        for (owner, _) in &tally.rows {
            owner.touch(tenant, newest, &self.to.entities);
        }
        newest
    }
}

/// A series as it was just registered.
struct New {
    series: SeriesRef,
    labels: Labels,
    metadata: Option<MetricMetadata>,
}

/// A plain body and what the walk found in it.
struct Body<'a> {
    version: Version,
    body: &'a [u8],
    walked: &'a Walked,
}

impl<'a> Body<'a> {
    fn message(&self, series: &Series) -> Message<'a> {
        Message::stretch(self.version.format(), self.body, series.message.clone())
    }

    /// Counts the samples from the future; the first series that had one is the example.
    fn refuse_future(&self, refused: &mut Vec<Refused>, newest_allowed: Timestamp) -> Result<(), DecodeError> {
        let Some((range, at)) = &self.walked.future else { return Ok(()) };
        let message = Message::stretch(self.version.format(), self.body, range.clone());
        let symbols = remote_write::symbols(self.body, self.walked)?;
        let pairs = remote_write::raw_labels(self.version, message, &symbols)?.unwrap_or_default();
        refuse(refused, RefusedReason::TooFarInFuture, self.walked.n_future, || {
            format!("{} at {}: later than {}", show(&pairs), at.rfc3339(), newest_allowed.rfc3339())
        });
        Ok(())
    }
}

/// The runs of the series that are known.
fn runs<'a>(series: &'a [Series], known: &'a [Option<SeriesRef>]) -> impl Iterator<Item = SampleRun> + 'a {
    let mut start = 0;
    series.iter().zip(known).filter_map(move |(one, known)| {
        let run = known.map(|series| SampleRun { series, start, end: one.samples_end });
        start = one.samples_end;
        run
    })
}
