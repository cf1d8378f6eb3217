//! Rules over the metrics store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::source::{
    BoxFuture, Cancel, MetricFragment, MetricSource, Projection, ReadContext, ReadError, SeriesData,
};
use weir_model::{Budget, Labels, MatchOp, Matcher, Sample, TenantId, TimeRange, Timestamp};
use weir_promql::{Engine, Value, VectorSample};

use crate::expand::Element;
use crate::inputs::{Input, Series, Standing, Watched, standing};
use crate::language::RuleExpr;
use crate::manager::{Evaluate, Recorded};

/// Evaluates with the PromQL engine; memory comes from `budget`, which nobody else should use up.
pub struct PromqlEvaluator {
    pub engine: Arc<Engine>,
    pub source: Arc<dyn MetricSource>,
    pub budget: Budget,
}

impl Evaluate for PromqlEvaluator {
    fn instant<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a RuleExpr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Element>, String>> {
        Box::pin(async move {
            // An alert over histograms has no number to show; upstream shows 0.
            let number = |recorded| match recorded {
                Recorded::Float(value) => value,
                Recorded::Histogram(_) => 0.0,
            };
            let samples = self.record(tenant, expr, at).await?;
            Ok(samples.into_iter().map(|(labels, recorded)| (labels, number(recorded))).collect())
        })
    }

    fn record<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a RuleExpr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Recorded)>, String>> {
        Box::pin(async move {
            let RuleExpr::Promql(expr) = expr else {
                return Err(format!("{} cannot be evaluated here", expr.language().as_str()));
            };
            let context = ReadContext { budget: self.budget.clone(), cancel: Cancel::default() };
            let _stop = context.cancel.on_drop();
            let result = self.engine.instant(&*self.source, tenant, expr, at, &context).await;
            let recorded = |sample: VectorSample| match sample.histogram {
                Some(h) => (sample.labels, Recorded::Histogram(Arc::new(h.to_stored()))),
                None => (sample.labels, Recorded::Float(sample.value)),
            };
            match result.map_err(|e| e.to_string())?.value {
                Value::Vector(samples) => Ok(samples.into_iter().map(recorded).collect()),
                Value::Scalar(sample) => Ok(vec![(Labels::empty(), Recorded::Float(sample.value))]),
                other => Err(format!("a rule's expression gives a vector or a scalar, not a {:?}", other.value_type())),
            }
        })
    }

    fn inputs<'a>(
        &'a self,
        tenant: &'a TenantId,
        watched: &'a [Watched],
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Vec<Series>>, String>> {
        Box::pin(async move {
            let context = ReadContext { budget: self.budget.clone(), cancel: Cancel::default() };
            let _stop = context.cancel.on_drop();
            let look = Look { source: &*self.source, tenant, context: &context };
            let (mut all, mut sources) = (Vec::with_capacity(watched.len()), BTreeMap::new());
            for one in watched {
                let at = Timestamp(at.0.saturating_sub(one.offset_ms));
                all.push(look.series(one, at, &mut sources).await.map_err(|e| e.to_string())?);
            }
            Ok(Some(all))
        })
    }
}

/// Sources whose life is asked after in one evaluation; of others it is not known.
const SOURCES_MAX: usize = 64;
/// What a scraper says of a target, whether or not the target answers.
const REPORTS: [&str; 8] = [
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
    "scrape_timeout_seconds",
    "scrape_sample_limit",
    "scrape_body_size_bytes",
    "up",
];

/// Job and instance, and when it was asked.
type SourceKey = (String, String, Timestamp);

struct Look<'a> {
    source: &'a dyn MetricSource,
    tenant: &'a TenantId,
    context: &'a ReadContext,
}

impl Look<'_> {
    async fn read(
        &self,
        matchers: Vec<Matcher>,
        range: TimeRange,
        mut each: impl FnMut(SeriesData) -> bool,
    ) -> Result<(), ReadError> {
        let fragment = MetricFragment { matchers, range, projection: Projection::Samples, ..MetricFragment::default() };
        let mut cursor = self.source.open(self.tenant, &fragment, self.context).await?;
        while let Some(batch) = cursor.next()? {
            for series in batch {
                if !each(series) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn series(
        &self,
        watched: &Watched,
        at: Timestamp,
        sources: &mut BTreeMap<SourceKey, bool>,
    ) -> Result<Series, ReadError> {
        let mut found = Vec::new();
        let mut silent = Vec::new();
        let range = TimeRange::new(at.minus(watched.window()), at);
        self.read(watched.matchers.clone(), range, |series| {
            let first = series.samples.first().map(|s| s.at).into_iter().chain(series.histograms.first().map(|h| h.at));
            let last = series.samples.last().map(|s| s.at).into_iter().chain(series.histograms.last().map(|h| h.at));
            let (first, last) = (first.min().unwrap_or(range.start), last.max().unwrap_or(range.start));
            match stands(&series, at, watched.range) {
                Ok(standing) => found.push(Input { labels: series.labels, standing, first, last }),
                Err(()) => silent.push(Input { labels: series.labels, standing: Standing::Stopped, first, last }),
            }
            true
        })
        .await?;
        for mut input in silent {
            if self.ended_for_good(&input.labels, at, sources).await? {
                input.standing = Standing::Ended;
            }
            found.push(input);
        }
        Ok(found)
    }

    /// Whether a series that comes no more is gone, and not merely silent: its source says other things, or is
    /// no target any more.
    async fn ended_for_good(
        &self,
        labels: &Labels,
        at: Timestamp,
        sources: &mut BTreeMap<SourceKey, bool>,
    ) -> Result<bool, ReadError> {
        let (Some(job), Some(instance)) = (labels.get("job"), labels.get("instance")) else { return Ok(false) };
        let key = (job.to_owned(), instance.to_owned(), at);
        if let Some(known) = sources.get(&key) {
            return Ok(*known);
        }
        if sources.len() >= SOURCES_MAX {
            return Ok(false);
        }
        let of_source = [("job", job), ("instance", instance)].map(|(n, v)| Matcher::new(n, MatchOp::Equal, v));
        let Ok(matchers) = of_source.into_iter().collect::<Result<Vec<_>, _>>() else { return Ok(false) };
        let (mut let_go, mut lives) = (false, false);
        let range = TimeRange::new(at.minus(Watched::default().window()), at);
        self.read(matchers, range, |series| {
            let name = series.labels.metric_name();
            if name == "up" {
                // Its scraper ends it when it lets the target go; one that is killed ends nothing.
                let_go |= series.samples.last().is_some_and(|s| weir_model::is_stale(s.value));
            } else if !REPORTS.contains(&name) && !name.starts_with("ALERTS") && !name.contains(':') {
                lives |= stands(&series, at, Duration::ZERO) == Ok(Standing::Arriving);
            }
            !lives
        })
        .await?;
        sources.insert(key, lives || let_go);
        Ok(lives || let_go)
    }
}

fn stands(series: &SeriesData, at: Timestamp, range: Duration) -> Result<Standing, ()> {
    if series.histograms.is_empty() {
        return standing(series.samples.iter().copied(), at, range);
    }
    let histograms = series.histograms.iter().map(|h| Sample { at: h.at, value: 0.0 });
    let mut all: Vec<Sample> = series.samples.iter().copied().chain(histograms).collect();
    all.sort_by_key(|s| s.at);
    standing(all.into_iter(), at, range)
}
