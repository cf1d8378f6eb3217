//! Rules over the metrics store.

use std::sync::Arc;

use weir_model::source::{BoxFuture, Cancel, MetricSource, ReadContext};
use weir_model::{Budget, TenantId, Timestamp};
use weir_promql::{Engine, Expr, Value};

use crate::expand::Element;
use crate::manager::Evaluate;

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
            let context = ReadContext { budget: self.budget.clone(), cancel: Cancel::default() };
            let _stop = context.cancel.on_drop();
            let result = self.engine.instant(&*self.source, tenant, expr, at, &context).await;
            match result.map_err(|e| e.to_string())?.value {
                Value::Vector(samples) => Ok(samples.into_iter().map(|s| (s.labels, s.value)).collect()),
                Value::Scalar(sample) => Ok(vec![(weir_model::Labels::empty(), sample.value)]),
                other => Err(format!("a rule's expression gives a vector or a scalar, not a {:?}", other.value_type())),
            }
        })
    }
}
