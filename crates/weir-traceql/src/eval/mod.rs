//! Evaluation over one trace at a time.

mod columns;
mod compare;
mod histogram;
pub mod metrics;
pub mod search;
mod spanset;
mod trace;
pub mod value;

use weir_model::source::{ReadError, SpanPredicate};

use crate::ast::{CompareOp, Field, FieldExpr, Intrinsic, Literal, Query, Scope, Selection, SpansetExpr, SpansetOp};
pub(crate) use spanset::SpanSet;
pub(crate) use trace::Trace;

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{0}")]
    Execution(String),
}

impl From<weir_model::BudgetExceeded> for QueryError {
    fn from(full: weir_model::BudgetExceeded) -> Self {
        Self::Read(full.into())
    }
}

/// Whether a trace has spans that the query selects.
pub fn matches_trace(query: &Query, data: &weir_model::source::TraceData) -> bool {
    let trace = Trace::new(&data.spans);
    !spanset::run(&query.pipeline, &trace).is_empty()
}

/// Conditions that some span of every matching trace meets; a source may use them to skip traces.
pub fn predicates(query: &Query) -> Vec<SpanPredicate> {
    let mut out = Vec::new();
    from_spanset(&query.pipeline.first, &mut out);
    out
}

fn from_spanset(expr: &SpansetExpr, out: &mut Vec<SpanPredicate>) {
    match expr {
        SpansetExpr::Filter(filter) => from_filter(filter, out),
        SpansetExpr::Pipeline(pipeline) => from_spanset(&pipeline.first, out),
        SpansetExpr::Binary { op: SpansetOp::Or, .. } => {}
        SpansetExpr::Binary { op: SpansetOp::Structural(_, Selection::Unrelated), rhs, .. } => from_spanset(rhs, out),
        SpansetExpr::Binary { lhs, rhs, .. } => {
            from_spanset(lhs, out);
            from_spanset(rhs, out);
        }
    }
}

fn from_filter(expr: &FieldExpr, out: &mut Vec<SpanPredicate>) {
    let (op, field, literal) = match expr {
        FieldExpr::And(a, b) => {
            from_filter(a, out);
            return from_filter(b, out);
        }
        FieldExpr::Compare(op, lhs, rhs) => match (&**lhs, &**rhs) {
            (FieldExpr::Field(field), FieldExpr::Literal(literal)) => (*op, field, literal),
            _ => return,
        },
        _ => return,
    };
    match (field, op, literal) {
        (Field::Intrinsic(Intrinsic::Name), CompareOp::Equal, Literal::Str(name)) => {
            out.push(SpanPredicate::Name(name.to_string()));
        }
        (Field::Intrinsic(Intrinsic::Status), CompareOp::Equal, Literal::Status(weir_model::StatusCode::Error)) => {
            out.push(SpanPredicate::Error);
        }
        (Field::Intrinsic(Intrinsic::Duration), CompareOp::Greater | CompareOp::GreaterEqual, literal) => {
            if let Literal::Duration(nanos) | Literal::Int(nanos) = literal {
                out.push(SpanPredicate::MinDuration(*nanos));
            }
        }
        (
            Field::Attribute { scope: Scope::Resource, name, of_parent: false },
            CompareOp::Equal,
            Literal::Str(service),
        ) if name == "service.name" => out.push(SpanPredicate::Service(service.to_string())),
        (
            Field::Attribute { scope: Scope::None | Scope::Span | Scope::Resource, name, of_parent: false },
            CompareOp::Equal,
            Literal::Str(text),
        ) => {
            out.push(SpanPredicate::Attribute(name.to_string(), weir_model::AttrValue::Str(text.as_ref().into())));
        }
        // Numbers equal across types, which a source does not know.
        _ => {}
    }
}
