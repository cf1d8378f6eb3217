//! Duration expressions to durations, once the query's step and range are known.
//!
//! Source: Prometheus 3 `promql/durations.go`.

use std::time::Duration;

use crate::ast::*;
use crate::result::QueryError;

/// The times of the whole query, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct QueryTimes {
    pub step: f64,
    pub range: f64,
}

/// Computes every duration of the tree that was written as an expression.
pub(crate) fn resolve(expr: &mut Expr, times: QueryTimes) -> Result<(), QueryError> {
    let at = expr.span;
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => Ok(()),
        ExprKind::Vector(selector) => offset(&selector.offset_expr, &mut selector.offset_ms, times, at),
        ExprKind::Matrix(selector, range) => {
            if let Some(written) = &selector.range_expr {
                *range = positive(written, times, at)?;
            }
            offset(&selector.offset_expr, &mut selector.offset_ms, times, at)
        }
        ExprKind::Subquery(sub) => {
            if let Some(written) = &sub.range_expr {
                sub.range = positive(written, times, at)?;
            }
            if let Some(written) = &sub.step_expr {
                sub.step = Some(positive(written, times, at)?);
            }
            offset(&sub.offset_expr, &mut sub.offset_ms, times, at)?;
            resolve(&mut sub.expr, times)
        }
        ExprKind::Call(call) => call.args.iter_mut().try_for_each(|arg| resolve(arg, times)),
        ExprKind::Aggregate(agg) => {
            if let Some(param) = &mut agg.param {
                resolve(param, times)?;
            }
            resolve(&mut agg.expr, times)
        }
        ExprKind::Binary(b) => {
            resolve(&mut b.lhs, times)?;
            resolve(&mut b.rhs, times)
        }
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => resolve(expr, times),
    }
}

fn offset(written: &Option<Box<DurationExpr>>, ms: &mut i64, times: QueryTimes, at: Span) -> Result<(), QueryError> {
    if let Some(written) = written {
        *ms = millis(written, times, at)?;
    }
    Ok(())
}

fn positive(written: &DurationExpr, times: QueryTimes, at: Span) -> Result<Duration, QueryError> {
    match u64::try_from(millis(written, times, at)?) {
        Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(bad(at, "duration must be greater than 0")),
    }
}

fn bad(at: Span, text: &str) -> QueryError {
    QueryError::Bad(format!("{}:{}: {text}", at.line, at.column))
}

fn millis(written: &DurationExpr, times: QueryTimes, at: Span) -> Result<i64, QueryError> {
    let secs = value(written, times).map_err(|text| bad(at, text))?;
    if !secs.is_finite() {
        return Err(bad(at, "duration is NaN or infinite"));
    }
    if secs.abs() > 9_223_372_036.0 {
        return Err(bad(at, "duration is out of range"));
    }
    Ok((secs * 1000.0) as i64)
}

/// Seconds. Also asked by the parser, which knows what does not depend on the query's times.
pub(crate) fn value(written: &DurationExpr, times: QueryTimes) -> Result<f64, &'static str> {
    Ok(match written {
        DurationExpr::Literal(secs, _) => *secs,
        DurationExpr::Step => times.step,
        DurationExpr::Range => times.range,
        DurationExpr::Paren(inner) => value(inner, times)?,
        DurationExpr::Unary { negative, expr } => {
            let secs = value(expr, times)?;
            if *negative { -secs } else { secs }
        }
        DurationExpr::MinOf(a, b) => value(a, times)?.min(value(b, times)?),
        DurationExpr::MaxOf(a, b) => value(a, times)?.max(value(b, times)?),
        DurationExpr::Binary(op, a, b) => {
            let (a, b) = (value(a, times)?, value(b, times)?);
            match op {
                BinaryOp::Div if b == 0.0 => return Err("division by zero"),
                BinaryOp::Mod if b == 0.0 => return Err("modulo by zero"),
                op => crate::eval::math::apply(*op, a, b),
            }
        }
    })
}
