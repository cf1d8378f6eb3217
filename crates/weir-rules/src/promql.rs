//! Rules over the metrics store.

use std::sync::Arc;

use weir_model::source::{BoxFuture, Cancel, MetricSource, ReadContext};
use weir_model::{Budget, Labels, TenantId, Timestamp};
use weir_promql::{Engine, Expr, Value, VectorSample};

use crate::expand::Element;
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
        expr: &'a Expr,
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
        expr: &'a Expr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Recorded)>, String>> {
        Box::pin(async move {
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
}
