//! Visiting the items of a batch, and dropping some.

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, metric::Data as MetricData};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use weir_model::Nanos;

use crate::data::{Data, n_points};
use crate::ottl::{Context, PointRef, Scene, Subject};

/// Says of an item whether it stays.
pub(crate) type Keep<'k, E> = &'k mut dyn FnMut(&mut Scene<'_>) -> Result<bool, E>;

/// Asks `keep` of every item at a context, and drops those for which it says no; groups without items go too.
/// After an error nothing more is asked, and the batch is not to be used.
pub(crate) fn retain<E>(data: &mut Data, at: Context, now: Nanos, keep: Keep<'_, E>) -> Result<(), E> {
    let mut visit = Visit { at, now, keep, failed: None };
    match data {
        Data::Traces(groups) => groups.retain_mut(|group| visit.traces(group)),
        Data::Metrics(groups) => groups.retain_mut(|group| visit.metrics(group)),
        Data::Logs(groups) => groups.retain_mut(|group| visit.logs(group)),
    }
    visit.failed.map_or(Ok(()), Err)
}

struct Visit<'k, E> {
    at: Context,
    now: Nanos,
    keep: Keep<'k, E>,
    failed: Option<E>,
}

/// What is around an item.
struct Around<'a> {
    resource: &'a mut Resource,
    resource_url: &'a mut String,
    scope: &'a mut InstrumentationScope,
    scope_url: &'a mut String,
}

impl<E> Visit<'_, E> {
    fn ask(&mut self, around: &mut Around<'_>, subject: Subject<'_>) -> bool {
        if self.failed.is_some() {
            return true;
        }
        let mut scene = Scene {
            resource: &mut *around.resource,
            resource_url: &mut *around.resource_url,
            scope: &mut *around.scope,
            scope_url: &mut *around.scope_url,
            subject,
            now: self.now,
            cache: Vec::new(),
        };
        match (self.keep)(&mut scene) {
            Ok(stays) => stays,
            Err(error) => {
                self.failed = Some(error);
                true
            }
        }
    }

    fn ask_resource(&mut self, resource: &mut Resource, url: &mut String) -> bool {
        let (mut scope, mut scope_url) = (InstrumentationScope::default(), String::new());
        let mut around = Around { resource, resource_url: url, scope: &mut scope, scope_url: &mut scope_url };
        self.ask(&mut around, Subject::None)
    }

    fn traces(&mut self, group: &mut ResourceSpans) -> bool {
        let resource = group.resource.get_or_insert_default();
        if self.at == Context::Resource {
            return self.ask_resource(resource, &mut group.schema_url);
        }
        group.scope_spans.retain_mut(|inner| {
            let mut around = Around {
                resource: &mut *resource,
                resource_url: &mut group.schema_url,
                scope: inner.scope.get_or_insert_default(),
                scope_url: &mut inner.schema_url,
            };
            match self.at {
                Context::Scope => self.ask(&mut around, Subject::None),
                Context::Span => {
                    inner.spans.retain_mut(|span| self.ask(&mut around, Subject::Span(span)));
                    !inner.spans.is_empty()
                }
                Context::SpanEvent => {
                    inner.spans.iter_mut().for_each(|span| self.events(&mut around, span));
                    true
                }
                _ => true,
            }
        });
        !group.scope_spans.is_empty()
    }

    fn events(&mut self, around: &mut Around<'_>, span: &mut Span) {
        let mut events = std::mem::take(&mut span.events);
        events.retain_mut(|event| self.ask(around, Subject::SpanEvent(span, event)));
        span.events = events;
    }

    fn logs(&mut self, group: &mut ResourceLogs) -> bool {
        let resource = group.resource.get_or_insert_default();
        if self.at == Context::Resource {
            return self.ask_resource(resource, &mut group.schema_url);
        }
        group.scope_logs.retain_mut(|inner| {
            let mut around = Around {
                resource: &mut *resource,
                resource_url: &mut group.schema_url,
                scope: inner.scope.get_or_insert_default(),
                scope_url: &mut inner.schema_url,
            };
            match self.at {
                Context::Scope => self.ask(&mut around, Subject::None),
                Context::Log => {
                    inner.log_records.retain_mut(|record| self.ask(&mut around, Subject::Log(record)));
                    !inner.log_records.is_empty()
                }
                _ => true,
            }
        });
        !group.scope_logs.is_empty()
    }

    fn metrics(&mut self, group: &mut ResourceMetrics) -> bool {
        let resource = group.resource.get_or_insert_default();
        if self.at == Context::Resource {
            return self.ask_resource(resource, &mut group.schema_url);
        }
        group.scope_metrics.retain_mut(|inner| {
            let mut around = Around {
                resource: &mut *resource,
                resource_url: &mut group.schema_url,
                scope: inner.scope.get_or_insert_default(),
                scope_url: &mut inner.schema_url,
            };
            match self.at {
                Context::Scope => self.ask(&mut around, Subject::None),
                Context::Metric => {
                    inner.metrics.retain_mut(|metric| self.ask(&mut around, Subject::Metric(metric)));
                    !inner.metrics.is_empty()
                }
                Context::DataPoint => {
                    inner.metrics.retain_mut(|metric| {
                        self.points(&mut around, metric);
                        n_points(&metric.data) > 0
                    });
                    !inner.metrics.is_empty()
                }
                _ => true,
            }
        });
        !group.scope_metrics.is_empty()
    }

    fn points(&mut self, around: &mut Around<'_>, metric: &mut Metric) {
        /// The points out of the metric, so that both can be handed on, and back.
        macro_rules! each {
            ($kind:ident, $point:ident) => {{
                let Some(MetricData::$kind(inner)) = &mut metric.data else { return };
                let mut points = std::mem::take(&mut inner.data_points);
                points.retain_mut(|p| self.ask(around, Subject::Point(metric, PointRef::$point(p))));
                if let Some(MetricData::$kind(inner)) = &mut metric.data {
                    inner.data_points = points;
                }
            }};
        }
        match &metric.data {
            None => {}
            Some(MetricData::Gauge(_)) => each!(Gauge, Number),
            Some(MetricData::Sum(_)) => each!(Sum, Number),
            Some(MetricData::Histogram(_)) => each!(Histogram, Histogram),
            Some(MetricData::ExponentialHistogram(_)) => each!(ExponentialHistogram, Exponential),
            Some(MetricData::Summary(_)) => each!(Summary, Summary),
        }
    }
}
