//! Reading the head.

use std::sync::Arc;

use roaring::RoaringBitmap;
use weir_model::sink::SeriesRef;
use weir_model::source::{
    BoxFuture, MetricCursor, MetricFragment, MetricSource, Projection, ReadContext, ReadError, SeriesData,
};
use weir_model::{Exemplar, HistogramSample, Labels, Matcher, MetricMetadata, Reservation, TenantId, TimeRange};

use super::Head;
use super::tenant::Tenant;
use crate::index::slot_of;
use crate::run::Buffers;

/// Series a cursor copies at a time.
const BATCH: usize = 256;

/// The selected series of a tenant: any of them first by its labels, then all others.
pub(crate) struct HeadCursor {
    /// `None` for a tenant that never wrote.
    tenant: Option<Arc<Tenant>>,
    series: std::vec::IntoIter<SeriesRef>,
    /// Slots of those that were asked for by their labels.
    taken: RoaringBitmap,
    range: TimeRange,
    projection: Projection,
    context: ReadContext,
    /// Held until the reader is done, as the copies live that long.
    held: Reservation,
    buffers: Buffers,
    /// While it lives, a cut does not forget what it set aside.
    _reading: Arc<()>,
}

impl HeadCursor {
    /// The series with these labels, which is not handed out again; `None` when it has nothing in the range.
    pub fn take(&mut self, labels: &Labels) -> Result<Option<SeriesData>, ReadError> {
        let Some(tenant) = self.tenant.clone() else { return Ok(None) };
        let pairs: Vec<_> = labels.iter().map(|l| (&*l.name, &*l.value)).collect();
        let Some(series) = tenant.find(&pairs) else { return Ok(None) };
        self.taken.insert(slot_of(series));
        // Who wants labels alone has them.
        if self.projection == Projection::Series { Ok(None) } else { self.read(&tenant, series) }
    }

    fn read(&mut self, tenant: &Tenant, series: SeriesRef) -> Result<Option<SeriesData>, ReadError> {
        let range = self.range;
        if self.projection == Projection::Series {
            let is_live = tenant.is_live(series, range);
            let labels = if is_live { tenant.labels(series) } else { None };
            return Ok(labels.map(|labels| SeriesData { labels, ..SeriesData::default() }));
        }
        let Some((found, histograms)) = tenant.with(series, |s| (s.find(range), s.histograms(range))) else {
            return Ok(None);
        };
        let samples = found.samples(range, &mut self.buffers);
        if samples.is_empty() && histograms.is_empty() {
            return Ok(None);
        }
        let shared = histograms.len() * std::mem::size_of::<HistogramSample>();
        self.held.grow(samples.len() as u64 * 16 + shared as u64)?;
        // Dead since: what was read belonged to nobody any more.
        Ok(tenant.labels(series).map(|labels| SeriesData { labels, samples, histograms, weights: Vec::new() }))
    }
}

impl MetricCursor for HeadCursor {
    fn next(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError> {
        self.context.cancel.check()?;
        let Some(tenant) = self.tenant.clone() else { return Ok(None) };
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(series) = self.series.next()
        {
            if self.taken.contains(slot_of(series)) {
                continue;
            }
            batch.extend(self.read(&tenant, series)?);
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

impl Tenant {
    fn select(&self, matchers: &[Matcher]) -> Vec<SeriesRef> {
        let index = self.index();
        let found = index.select(matchers);
        found.iter().map(|slot| index.series(slot)).collect()
    }

    fn is_live(&self, series: SeriesRef, range: TimeRange) -> bool {
        self.with(series, |s| s.has_samples_in(range)) == Some(true)
    }

    fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
        if matchers.is_empty() && range == TimeRange::ALL {
            return self.index().names().map(ToString::to_string).collect();
        }
        let mut live = self.select(matchers);
        live.retain(|series| self.is_live(*series, range));
        let index = self.index();
        let slots = live.into_iter().filter(|s| index.labels(*s).is_some()).map(slot_of);
        index.names_of(slots).into_iter().map(ToString::to_string).collect()
    }

    fn label_values(&self, name: &str, matchers: &[Matcher], range: TimeRange) -> Vec<String> {
        if matchers.is_empty() && range == TimeRange::ALL {
            return self.index().values(name).map(|(value, _)| value.to_string()).collect();
        }
        let candidates: Vec<(String, Vec<SeriesRef>)> = {
            let index = self.index();
            let found = index.select(matchers);
            let series = |slots: roaring::RoaringBitmap| slots.iter().map(|slot| index.series(slot)).collect();
            index.values(name).map(|(value, slots)| (value.to_string(), series(slots & &found))).collect()
        };
        let live = candidates.into_iter().filter(|(_, series)| series.iter().any(|s| self.is_live(*s, range)));
        live.map(|(value, _)| value).collect()
    }
}

impl Head {
    pub(crate) fn cursor(
        &self,
        tenant: &TenantId,
        fragment: &MetricFragment,
        context: &ReadContext,
    ) -> Result<HeadCursor, ReadError> {
        let reading = self.reading.read().clone();
        let tenant = self.tenant(tenant);
        let series = tenant.as_ref().map(|t| t.select(&fragment.matchers)).unwrap_or_default();
        let held = context.budget.try_reserve(series.len() as u64 * 8)?;
        Ok(HeadCursor {
            tenant,
            series: series.into_iter(),
            taken: RoaringBitmap::new(),
            range: fragment.range,
            projection: fragment.projection,
            context: context.clone(),
            held,
            buffers: Buffers::default(),
            _reading: reading,
        })
    }

    fn exemplars_now(&self, tenant: &TenantId, matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, Vec<Exemplar>)> {
        let Some(tenant) = self.tenant(tenant) else { return Vec::new() };
        let of = |series: SeriesRef| {
            let found = tenant.with(series, |s| s.exemplars(range)).filter(|found| !found.is_empty())?;
            Some((tenant.labels(series)?, found))
        };
        tenant.select(matchers).into_iter().filter_map(of).collect()
    }
}

impl MetricSource for Head {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        Box::pin(async move { Ok(Box::new(self.cursor(tenant, fragment, context)?) as Box<dyn MetricCursor>) })
    }

    fn label_names<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(async move { Ok(self.tenant(tenant).map(|t| t.label_names(matchers, range)).unwrap_or_default()) })
    }

    fn label_values<'a>(
        &'a self,
        tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(
            async move { Ok(self.tenant(tenant).map(|t| t.label_values(name, matchers, range)).unwrap_or_default()) },
        )
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
        Box::pin(async move { Ok(self.exemplars_now(tenant, matchers, range)) })
    }
}
