//! Searches: the newest traces that match, each with a few of its matching spans.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::source::{ReadContext, SpanCursor, SpanFragment, SpanSource};
use weir_model::{AttrValue, Nanos, Span, TenantId, TraceId};

use super::value::field_of;
use super::{QueryError, SpanSet, Trace, predicates, spanset};
use crate::ast::{Field, FieldExpr, Intrinsic, Pipeline, Query, ScalarExpr, SpansetExpr, Stage};

/// A trace is in range when one of its spans starts in `[start, end)`.
#[derive(Clone, Copy, Debug)]
pub struct SearchParams {
    pub start: Nanos,
    pub end: Nanos,
    pub limit: usize,
    /// Spans shown of each span set; `usize::MAX` shows all.
    pub spans_per_set: usize,
}

/// What a query read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub traces: u64,
    pub spans: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SpanMatch {
    pub span: Arc<Span>,
    /// What the query names, in the order of naming; absent ones are left out.
    pub attributes: Vec<(String, AttrValue)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SpanSetMatch {
    pub spans: Vec<SpanMatch>,
    /// All spans that match, shown or not.
    pub matched: usize,
    /// Values of `by()`.
    pub attributes: Vec<(String, AttrValue)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TraceMatch {
    pub trace_id: TraceId,
    /// Of the earliest span without parent; `None` when it has not arrived.
    pub root: Option<Arc<Span>>,
    /// First start and last end of all spans.
    pub start: Nanos,
    pub end: Nanos,
    pub span_sets: Vec<SpanSetMatch>,
    /// Spans and failed spans by service.
    pub services: BTreeMap<String, (u32, u32)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchResult {
    /// Newest start first.
    pub traces: Vec<TraceMatch>,
    pub statistics: Statistics,
}

/// A search whose data is within reach.
pub struct OpenSearch {
    query: Query,
    params: SearchParams,
    cursor: Box<dyn SpanCursor>,
    context: ReadContext,
}

pub async fn open_search(
    source: &dyn SpanSource,
    tenant: &TenantId,
    query: Query,
    params: SearchParams,
    context: &ReadContext,
) -> Result<OpenSearch, QueryError> {
    let fragment = SpanFragment { start: params.start, end: params.end, predicates: predicates(&query) };
    let cursor = source.open(tenant, &fragment, context).await?;
    Ok(OpenSearch { query, params, cursor, context: context.clone() })
}

/// Opens and runs on the calling thread.
pub async fn search(
    source: &dyn SpanSource,
    tenant: &TenantId,
    query: Query,
    params: SearchParams,
    context: &ReadContext,
) -> Result<SearchResult, QueryError> {
    open_search(source, tenant, query, params, context).await?.run()
}

impl OpenSearch {
    pub fn run(mut self) -> Result<SearchResult, QueryError> {
        let mut result = SearchResult::default();
        let mut memory = self.context.budget.try_reserve(0)?;
        let fields = named_fields(&self.query.pipeline);
        'all: while let Some(batch) = self.cursor.next()? {
            self.context.cancel.check()?;
            for data in batch {
                result.statistics.traces += 1;
                result.statistics.spans += data.spans.len() as u64;
                result.statistics.bytes += data.spans.iter().map(|s| s.size_bytes() as u64).sum::<u64>();
                let trace = Trace::new(&data.spans);
                let sets = spanset::run(&self.query.pipeline, &trace);
                if sets.is_empty() {
                    continue;
                }
                let found = self.matched(data.trace_id, &trace, sets, &fields);
                let shown: usize = found.span_sets.iter().map(|s| s.spans.len()).sum();
                memory.grow(256 + 128 * shown as u64)?;
                result.traces.push(found);
                if result.traces.len() >= self.params.limit {
                    break 'all;
                }
            }
        }
        result.traces.sort_by(|a, b| b.start.cmp(&a.start).then_with(|| a.trace_id.cmp(&b.trace_id)));
        Ok(result)
    }

    fn matched(&self, trace_id: TraceId, trace: &Trace<'_>, sets: Vec<SpanSet>, fields: &[Field]) -> TraceMatch {
        let mut services: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for span in trace.spans {
            let service = span.resource.service();
            let counts = match services.get_mut(service) {
                Some(counts) => counts,
                None => services.entry(service.to_owned()).or_default(),
            };
            counts.0 += 1;
            counts.1 += u32::from(span.is_error());
        }
        let show = |idx: usize| SpanMatch {
            span: trace.spans[idx].clone(),
            attributes: fields
                .iter()
                .filter_map(|f| Some((f.bare_name().to_owned(), field_of(trace, idx, f).to_attribute()?)))
                .collect(),
        };
        let span_sets = sets
            .into_iter()
            .map(|set| SpanSetMatch {
                matched: set.spans.len(),
                spans: set.spans.iter().take(self.params.spans_per_set).map(|idx| show(*idx)).collect(),
                attributes: set
                    .groups
                    .into_iter()
                    .map(|(name, value)| (format!("by({name})"), value.unwrap_or_else(|| AttrValue::from("nil"))))
                    .collect(),
            })
            .collect();
        let root = trace.root.map(|idx| trace.spans[idx].clone());
        TraceMatch { trace_id, root, start: trace.start, end: trace.end, span_sets, services }
    }
}

/// Fields that the query names, each once; the answer shows them. What every span shows anyway
/// (its duration) and what is the same for all spans of the trace is left out.
fn named_fields(pipeline: &Pipeline) -> Vec<Field> {
    let mut fields = Vec::new();
    from_pipeline(pipeline, &mut fields);
    let mut seen = Vec::with_capacity(fields.len());
    for field in fields {
        let is_shown_anyway = matches!(
            field,
            Field::Intrinsic(
                Intrinsic::Duration
                    | Intrinsic::Name
                    | Intrinsic::Parent
                    | Intrinsic::SpanId
                    | Intrinsic::TraceId
                    | Intrinsic::TraceDuration
                    | Intrinsic::RootName
                    | Intrinsic::RootService
            )
        );
        if !is_shown_anyway && !seen.contains(&field) {
            seen.push(field);
        }
    }
    seen
}

fn from_pipeline(pipeline: &Pipeline, out: &mut Vec<Field>) {
    from_spanset(&pipeline.first, out);
    for stage in &pipeline.stages {
        match stage {
            Stage::Filter(expr) => from_spanset(expr, out),
            Stage::Compare { lhs, rhs, .. } => {
                from_scalar(lhs, out);
                from_scalar(rhs, out);
            }
            Stage::By(expr, _) => from_field(expr, out),
            Stage::Select(fields) => out.extend(fields.iter().cloned()),
            Stage::Coalesce => {}
        }
    }
}

fn from_spanset(expr: &SpansetExpr, out: &mut Vec<Field>) {
    match expr {
        SpansetExpr::Filter(filter) => from_field(filter, out),
        SpansetExpr::Pipeline(pipeline) => from_pipeline(pipeline, out),
        SpansetExpr::Binary { lhs, rhs, .. } => {
            from_spanset(lhs, out);
            from_spanset(rhs, out);
        }
    }
}

fn from_scalar(expr: &ScalarExpr, out: &mut Vec<Field>) {
    match expr {
        ScalarExpr::Aggregate(_, Some(field)) => from_field(field, out),
        ScalarExpr::Binary(_, a, b) => {
            from_scalar(a, out);
            from_scalar(b, out);
        }
        ScalarExpr::Aggregate(_, None) | ScalarExpr::Literal(_) => {}
    }
}

fn from_field(expr: &FieldExpr, out: &mut Vec<Field>) {
    match expr {
        FieldExpr::Literal(_) => {}
        FieldExpr::Field(field) => out.push(field.clone()),
        FieldExpr::Not(a) | FieldExpr::Negate(a) | FieldExpr::Match { value: a, .. } => from_field(a, out),
        FieldExpr::And(a, b) | FieldExpr::Or(a, b) | FieldExpr::Compare(_, a, b) | FieldExpr::Arithmetic(_, a, b) => {
            from_field(a, out);
            from_field(b, out);
        }
    }
}
