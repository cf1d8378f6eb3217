//! Metrics in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use weir_model::sink::{MetricBatch, MetricSink, Outcome, Refused, RefusedReason, SeriesBatch, WriteError};
use weir_model::source::{
    BoxFuture, MetricCursor, MetricFragment, MetricSource, Projection, ReadContext, ReadError, SeriesData,
};
use weir_model::{
    Budget, Exemplar, HistogramSample, Labels, Matcher, MetricMetadata, Reservation, TenantId, TimeRange, Timestamp,
};

use crate::index::Index;
use crate::series::{Appended, Series, histogram_bytes};

/// What one sample costs, with slack for the ring's growth.
const SAMPLE_BYTES: u64 = 24;
/// What a series costs beside its samples: its struct, map entry, and a posting per label.
const SERIES_BYTES: u64 = 400;
const LABEL_BYTES: u64 = 48;
/// Series a cursor copies at a time.
const BATCH: usize = 256;

/// Metrics of all tenants in memory, under `budget`; when it is used up, the oldest tenth of the
/// kept time is dropped.
pub struct MemMetrics {
    tenants: RwLock<AHashMap<TenantId, Arc<Tenant>>>,
    /// All that is held, in one account.
    held: Mutex<Reservation>,
}

#[derive(Default)]
struct Tenant {
    index: RwLock<Index>,
    metadata: RwLock<BTreeMap<String, MetricMetadata>>,
}

impl MemMetrics {
    pub fn new(budget: &Budget) -> Self {
        let held = budget.try_reserve(0).expect("nothing fits into any budget");
        Self { tenants: RwLock::default(), held: Mutex::new(held) }
    }

    /// Number of series held, over all tenants.
    pub fn n_series(&self) -> usize {
        self.tenants.read().values().map(|t| t.index.read().len()).sum()
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

    /// Reserves what a batch needs at most, dropping old samples while it does not fit.
    fn reserve(&self, bytes: u64) -> Result<(), WriteError> {
        let mut held = self.held.lock();
        for _ in 0..20 {
            let Err(full) = held.grow(bytes) else { return Ok(()) };
            let freed = self.drop_oldest();
            if freed == 0 {
                return Err(full.into());
            }
            held.shrink(freed);
        }
        Ok(held.grow(bytes)?)
    }

    /// Drops the oldest tenth of the time held; bytes freed.
    fn drop_oldest(&self) -> u64 {
        let tenants: Vec<_> = self.tenants.read().values().cloned().collect();
        let all: Vec<Vec<Arc<Series>>> = tenants.iter().map(|t| t.index.read().all().to_vec()).collect();
        let spans = || all.iter().flatten().filter_map(|s| s.span());
        let (Some(first), Some(last)) = (spans().map(|r| r.start).min(), spans().map(|r| r.end).max()) else {
            return 0;
        };
        let cutoff = Timestamp(first.0.saturating_add((last.0.saturating_sub(first.0)) / 10).saturating_add(1));
        let mut freed = 0;
        for (tenant, series) in tenants.iter().zip(all) {
            let mut emptied = false;
            // By value: `compact` keeps a series that anybody still holds.
            for one in series {
                let (n_dropped, histograms_bytes, any_left) = one.drop_before(cutoff);
                freed += n_dropped as u64 * SAMPLE_BYTES + histograms_bytes;
                if n_dropped as u64 + histograms_bytes > 0 && !any_left {
                    emptied = true;
                    freed += series_bytes(&one.labels);
                }
            }
            if emptied {
                tenant.index.write().compact();
            }
        }
        tracing::info!(freed_bytes = freed, cutoff = %cutoff.rfc3339(), "memory budget used up: oldest samples dropped");
        freed
    }

    fn append_series(tenant: &Tenant, batch: &SeriesBatch, outcome: &mut Outcome, unused: &mut u64) {
        let found = tenant.index.read().get(&batch.labels).cloned();
        let series = match found {
            Some(series) => {
                *unused += series_bytes(&batch.labels);
                series
            }
            None => tenant.index.write().insert(&batch.labels),
        };
        let mut settle = |at: Timestamp, bytes: u64, got: Appended| {
            *unused += if got == Appended::Stored { 0 } else { bytes };
            match got {
                Appended::Stored | Appended::Repeated => outcome.accepted += 1,
                Appended::Conflict => refuse(outcome, RefusedReason::DuplicateTimestamp, || {
                    format!("{} has another value at {}", batch.labels, at.rfc3339())
                }),
            }
        };
        series.append(&batch.samples, |sample, got| settle(sample.at, SAMPLE_BYTES, got));
        series.append_histograms(&batch.histograms, |sample, got| settle(sample.at, histogram_bytes(sample), got));
        series.add_exemplars(&batch.exemplars);
    }
}

fn series_bytes(labels: &Labels) -> u64 {
    SERIES_BYTES + labels.len() as u64 * LABEL_BYTES
}

fn refuse(outcome: &mut Outcome, reason: RefusedReason, example: impl FnOnce() -> String) {
    match outcome.refused.iter_mut().find(|r| r.reason == reason) {
        Some(seen) => seen.count += 1,
        None => outcome.refused.push(Refused { reason, example: example(), count: 1 }),
    }
}

impl MetricSink for MemMetrics {
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        let with_samples = || batch.series.iter().filter(|s| s.n_samples() > 0);
        let samples_bytes = |s: &SeriesBatch| {
            s.samples.len() as u64 * SAMPLE_BYTES + s.histograms.iter().map(histogram_bytes).sum::<u64>()
        };
        let asked = with_samples().map(|s| samples_bytes(s) + series_bytes(&s.labels)).sum();
        self.reserve(asked)?;
        let tenant = self.tenant_or_new(tenant);
        let (mut outcome, mut unused) = (Outcome::default(), 0);
        for series in with_samples() {
            Self::append_series(&tenant, series, &mut outcome, &mut unused);
        }
        self.held.lock().shrink(unused);
        if !batch.metadata.is_empty() {
            let mut known = tenant.metadata.write();
            for entry in &batch.metadata {
                if known.get(&entry.family) != Some(entry) {
                    known.insert(entry.family.clone(), entry.clone());
                }
            }
        }
        Ok(outcome)
    }
}

struct Cursor {
    series: std::vec::IntoIter<Arc<Series>>,
    range: TimeRange,
    projection: Projection,
    context: ReadContext,
    /// Held until the reader is done, as the copies live that long.
    _held: Reservation,
}

impl MetricCursor for Cursor {
    fn next(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError> {
        self.context.cancel.check()?;
        let mut batch = Vec::new();
        for series in self.series.by_ref() {
            match self.projection {
                Projection::Series if series.has_samples_in(self.range) => {
                    batch.push(SeriesData { labels: series.labels.clone(), ..SeriesData::default() });
                }
                Projection::Series => {}
                Projection::Samples => {
                    let (samples, histograms) = series.copy(self.range);
                    let data = SeriesData { labels: series.labels.clone(), samples, histograms };
                    if !data.is_empty() {
                        // Histograms are shared with the store; the copy is of their handles.
                        let n_bytes = data.samples.len() * 16 + data.histograms.len() * size_of::<HistogramSample>();
                        self._held.grow(n_bytes as u64)?;
                        batch.push(data);
                    }
                }
            }
            if batch.len() == BATCH {
                break;
            }
        }
        Ok(if batch.is_empty() { None } else { Some(batch) })
    }
}

impl MemMetrics {
    fn select(&self, tenant: &TenantId, matchers: &[Matcher]) -> Vec<Arc<Series>> {
        self.tenant(tenant).map(|t| t.index.read().select(matchers)).unwrap_or_default()
    }

    fn label_names_now(&self, tenant: &TenantId, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
        if matchers.is_empty() && range == TimeRange::ALL {
            let Some(tenant) = self.tenant(tenant) else { return Vec::new() };
            return tenant.index.read().names().map(ToString::to_string).collect();
        }
        let found = self.select(tenant, matchers);
        let live = found.iter().filter(|s| s.has_samples_in(range));
        let names: BTreeSet<&str> = live.flat_map(|s| s.labels.iter().map(|l| &*l.name)).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    fn label_values_now(&self, tenant: &TenantId, name: &str, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
        if matchers.is_empty() && range == TimeRange::ALL {
            let Some(tenant) = self.tenant(tenant) else { return Vec::new() };
            return tenant.index.read().values(name).map(ToString::to_string).collect();
        }
        let found = self.select(tenant, matchers);
        let live = found.iter().filter(|s| s.labels.get(name).is_some() && s.has_samples_in(range));
        let values: BTreeSet<&str> = live.map(|s| s.labels.value(name)).collect();
        values.into_iter().map(str::to_owned).collect()
    }
}

impl MetricSource for MemMetrics {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        Box::pin(async move {
            let series = self.select(tenant, &fragment.matchers).into_iter();
            let held = context.budget.try_reserve(0)?;
            let (range, projection, context) = (fragment.range, fragment.projection, context.clone());
            Ok(Box::new(Cursor { series, range, projection, context, _held: held }) as Box<dyn MetricCursor>)
        })
    }

    fn label_names<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(async move { Ok(self.label_names_now(tenant, matchers, range)) })
    }

    fn label_values<'a>(
        &'a self,
        tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(async move { Ok(self.label_values_now(tenant, name, matchers, range)) })
    }

    fn metadata<'a>(
        &'a self,
        tenant: &'a TenantId,
        family: &'a str,
    ) -> BoxFuture<'a, Result<Vec<MetricMetadata>, ReadError>> {
        Box::pin(async move {
            let Some(tenant) = self.tenant(tenant) else { return Ok(Vec::new()) };
            let known = tenant.metadata.read();
            Ok(match family {
                "" => known.values().cloned().collect(),
                family => known.get(family).cloned().into_iter().collect(),
            })
        })
    }

    fn exemplars<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Vec<Exemplar>)>, ReadError>> {
        Box::pin(async move {
            let found = self.select(tenant, matchers);
            let with = found.iter().map(|s| (s.labels.clone(), s.exemplars(range)));
            Ok(with.filter(|(_, exemplars)| !exemplars.is_empty()).collect())
        })
    }
}
