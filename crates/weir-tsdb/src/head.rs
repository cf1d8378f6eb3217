//! The head: all series of all tenants, their newest samples in memory.

mod census;
mod cut;
mod read;
mod stats;
mod tenant;

pub(crate) use cut::Frozen;
pub(crate) use read::HeadCursor;

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use weir_model::sink::{
    ColumnsOutcome, LogMark, MetricBatch, MetricSink, Outcome, RawRequest, SampleColumns, SeriesBatch, SeriesRef,
    SeriesSink, WriteError,
};
use weir_model::{Budget, BudgetExceeded, Labels, Reservation, TenantId};

use tenant::Tenant;

/// What a sample may cost at most while its buffer grows, on the average of a batch.
const SAMPLE_BYTES: u64 = 24;
/// What a new series may cost at most: its place in the index and labels that nobody had before.
const NEW_SERIES_BYTES: u64 = 4096;

/// Metrics of all tenants in memory, under a budget.
///
/// Writers of different series meet only in short locks of one shard each; readers take what they need
/// under the same locks and decode without them.
pub struct Head {
    tenants: RwLock<AHashMap<TenantId, Arc<Tenant>>>,
    account: Mutex<Account>,
    full: WhenFull,
    /// Held by those who began to read since the last cut.
    reading: RwLock<Arc<()>>,
}

/// What a head does when its budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Forget the oldest tenth of the time held: for a head that is all there is.
    DropOldest,
    /// Refuse writes until somebody has made room by cutting blocks.
    Refuse,
}

struct Account {
    held: Reservation,
    /// Taken beyond the reservation, because memory is counted exactly only afterwards.
    owed: u64,
}

impl Account {
    fn take(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        self.held.grow(bytes + self.owed)?;
        self.owed = 0;
        Ok(())
    }

    /// Replaces an estimate by what was really taken.
    fn settle(&mut self, estimated: u64, taken: i64) {
        let difference = i128::from(taken) - i128::from(estimated);
        if difference <= 0 {
            self.give_back(u64::try_from(-difference).unwrap_or(u64::MAX));
        } else {
            let more = u64::try_from(difference).unwrap_or(u64::MAX);
            if self.held.grow(more).is_err() {
                self.owed += more;
            }
        }
    }

    fn give_back(&mut self, bytes: u64) {
        let from_owed = bytes.min(self.owed);
        self.owed -= from_owed;
        self.held.shrink(bytes - from_owed);
    }
}

impl Head {
    /// A head that is all there is: the oldest samples go when `budget` is used up, everything when the
    /// process ends.
    pub fn new(budget: &Budget) -> Self {
        Self::with(budget, WhenFull::DropOldest)
    }

    pub fn with(budget: &Budget, full: WhenFull) -> Self {
        let held = budget.try_reserve(0).expect("nothing fits into any budget");
        Self {
            tenants: RwLock::default(),
            account: Mutex::new(Account { held, owed: 0 }),
            full,
            reading: RwLock::default(),
        }
    }

    /// Number of series held, over all tenants.
    pub fn n_series(&self) -> usize {
        self.tenants.read().values().map(|t| t.n_series()).sum()
    }

    fn tenant(&self, tenant: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.read().get(tenant).cloned()
    }

    fn tenant_or_new(&self, tenant: &TenantId) -> Arc<Tenant> {
        match self.tenant(tenant) {
            Some(found) => found,
            None => self.tenants.write().entry(tenant.clone()).or_default().clone(),
        }
    }

    /// Reserves memory, dropping old samples while it does not fit if that is allowed.
    fn reserve(&self, bytes: u64) -> Result<(), WriteError> {
        let mut account = self.account.lock();
        let Err(full) = account.take(bytes) else { return Ok(()) };
        if self.full == WhenFull::Refuse {
            return Err(full.into());
        }
        let freed = self.drop_oldest(bytes + account.owed);
        account.give_back(freed);
        Ok(account.take(bytes)?)
    }

    /// Drops the oldest samples by tenths of the time held until `wanted` bytes are free; bytes freed.
    fn drop_oldest(&self, wanted: u64) -> u64 {
        let tenants: Vec<_> = self.tenants.read().values().cloned().collect();
        let spans: Vec<_> = tenants.iter().filter_map(|t| t.span()).collect();
        let (Some(first), Some(last)) = (spans.iter().map(|s| s.0).min(), spans.iter().map(|s| s.1).max()) else {
            return 0;
        };
        let tenth = (last.saturating_sub(first) / 10).saturating_add(1);
        let (mut cutoff, mut freed) = (first, 0);
        for _ in 0..10 {
            cutoff = cutoff.saturating_add(tenth);
            freed += tenants.iter().map(|t| t.drop_before(cutoff)).sum::<u64>();
            if freed >= wanted {
                break;
            }
        }
        tracing::info!(freed_bytes = freed, cutoff_ms = cutoff, "memory budget used up: oldest samples dropped");
        freed
    }

    /// Registers the series of a batch and puts its floats into columns.
    fn columns(&self, tenant: &Tenant, all: &[&SeriesBatch]) -> Result<SampleColumns, WriteError> {
        let mut columns = SampleColumns::default();
        for series in all {
            let labels: Vec<_> = series.labels.iter().map(|l| (&*l.name, &*l.value)).collect();
            columns.push(self.register_in(tenant, &labels)?, series.samples.iter().copied());
        }
        Ok(columns)
    }

    fn register_in(&self, tenant: &Tenant, labels: &[(&str, &str)]) -> Result<SeriesRef, WriteError> {
        if let Some(known) = tenant.find(labels) {
            return Ok(known);
        }
        let text: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        let estimated = NEW_SERIES_BYTES + text as u64;
        self.reserve(estimated)?;
        let (series, taken) = tenant.register(labels);
        self.account.lock().settle(estimated, i64::try_from(taken).unwrap_or(i64::MAX));
        Ok(series)
    }

    fn append_to(&self, tenant: &Tenant, columns: &SampleColumns) -> Result<(Outcome, Vec<u32>), WriteError> {
        let estimated = columns.times.len() as u64 * SAMPLE_BYTES;
        self.reserve(estimated)?;
        let appended = tenant.append(columns);
        self.account.lock().settle(estimated, appended.taken_bytes);
        let labels = appended.conflict.as_ref().and_then(|conflict| tenant.labels(conflict.series));
        Ok((appended.outcome(&labels.unwrap_or_default()), appended.dead))
    }

    /// Appends a batch to memory.
    pub(crate) fn append_batch(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        let tenant = self.tenant_or_new(tenant);
        let mut left: Vec<&SeriesBatch> = batch.series.iter().filter(|s| s.n_samples() > 0).collect();
        let mut total = Outcome::default();
        while !left.is_empty() {
            let (outcome, dead) = self.append_to(&tenant, &self.columns(&tenant, &left)?)?;
            add(&mut total, outcome);
            // Forgotten between registering and appending, which takes a cut at that very moment.
            left = dead.into_iter().map(|idx| left[idx as usize]).collect();
        }
        let is_more = |s: &&SeriesBatch| s.n_samples() > 0 && (!s.exemplars.is_empty() || !s.histograms.is_empty());
        for series in batch.series.iter().filter(is_more) {
            add(&mut total, self.append_more(&tenant, series)?);
        }
        tenant.add_metadata(&batch.metadata);
        Ok(total)
    }

    /// Histograms and exemplars.
    fn append_more(&self, tenant: &Tenant, batch: &SeriesBatch) -> Result<Outcome, WriteError> {
        let estimated = batch.histograms.iter().map(|h| h.histogram.size_bytes() as u64 + 64).sum();
        self.reserve(estimated)?;
        let labels: Vec<_> = batch.labels.iter().map(|l| (&*l.name, &*l.value)).collect();
        loop {
            let series = self.register_in(tenant, &labels)?;
            let Some(appended) = tenant.append_more(series, &batch.histograms, &batch.exemplars) else { continue };
            self.account.lock().settle(estimated, appended.taken_bytes);
            return Ok(appended.outcome(&batch.labels));
        }
    }

    /// Like [`Head::append_batch`], and takes exemplars of series whose samples are in blocks.
    pub(crate) fn restore_batch(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<(), WriteError> {
        self.append_batch(tenant, batch)?;
        let tenant = self.tenant_or_new(tenant);
        for series in batch.series.iter().filter(|s| s.n_samples() == 0 && !s.exemplars.is_empty()) {
            self.append_more(&tenant, series)?;
        }
        Ok(())
    }

    pub(crate) fn append_columns_only(
        &self,
        tenant: &TenantId,
        columns: &SampleColumns,
    ) -> Result<(Outcome, Vec<u32>), WriteError> {
        if columns.runs.is_empty() {
            return Ok(Default::default());
        }
        self.append_to(&self.tenant_or_new(tenant), columns)
    }
}

pub(crate) fn add(total: &mut Outcome, part: Outcome) {
    total.accepted += part.accepted;
    for refused in part.refused {
        match total.refused.iter_mut().find(|r| r.reason == refused.reason) {
            Some(seen) => seen.count += refused.count,
            None => total.refused.push(refused),
        }
    }
}

impl MetricSink for Head {
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        self.append_batch(tenant, batch)
    }
}

impl SeriesSink for Head {
    fn register(&self, tenant: &TenantId, labels: &[(&str, &str)]) -> Result<(SeriesRef, Labels), WriteError> {
        let tenant = self.tenant_or_new(tenant);
        loop {
            let series = self.register_in(&tenant, labels)?;
            // Dead already only if a cut took it at this very moment.
            if let Some(labels) = tenant.labels(series) {
                return Ok((series, labels));
            }
        }
    }

    fn labels(&self, tenant: &TenantId, series: SeriesRef) -> Option<Labels> {
        self.tenant(tenant)?.labels(series)
    }

    fn append_columns(
        &self,
        tenant: &TenantId,
        _raw: Option<RawRequest<'_>>,
        columns: &SampleColumns,
        rest: &MetricBatch,
    ) -> Result<ColumnsOutcome, WriteError> {
        let (mut outcome, dead) = self.append_columns_only(tenant, columns)?;
        if !rest.series.is_empty() || !rest.metadata.is_empty() {
            add(&mut outcome, self.append_batch(tenant, rest)?);
        }
        Ok(ColumnsOutcome { outcome, dead, mark: None })
    }

    fn sync(&self, _: LogMark) -> Result<(), WriteError> {
        Ok(())
    }
}
