//! Types and arities. Order and wording follow Prometheus `promql/parser/parse.go`, `checkAST`.

use super::ParseError;
use super::quote::go_string;
use crate::ast::*;

fn fail(span: Span, message: impl Into<String>) -> Result<(), ParseError> {
    Err(ParseError { span: Some(span), message: message.into() })
}

/// Checks the tree and drops vector matching where an operand is a scalar.
pub(super) fn check(expr: &mut Expr) -> Result<(), ParseError> {
    let span = expr.span;
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => Ok(()),
        ExprKind::Vector(selector) | ExprKind::Matrix(selector, _) => {
            if selector.name.is_none() && selector.matchers.iter().all(|m| m.matches_empty()) {
                return fail(span, "vector selector must contain at least one non-empty matcher");
            }
            Ok(())
        }
        ExprKind::Paren(inner) => check(inner),
        ExprKind::Unary { expr: inner, .. } => {
            check(inner)?;
            match inner.value_type() {
                ValueType::Scalar | ValueType::Vector => Ok(()),
                other => {
                    let got = go_string(other.documented());
                    let text = "unary expression only allowed on expressions of type scalar or instant vector, got";
                    fail(span, format!("{text} {got}"))
                }
            }
        }
        ExprKind::Subquery(sub) => {
            check(&mut sub.expr)?;
            match sub.expr.value_type() {
                ValueType::Vector => Ok(()),
                other => {
                    fail(span, format!("subquery is only allowed on instant vector, got {} instead", other.as_str()))
                }
            }
        }
        ExprKind::Call(call) => check_call(call, span),
        ExprKind::Aggregate(agg) => {
            expect(&mut agg.expr, ValueType::Vector, "aggregation expression")?;
            let want = if agg.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
            match &mut agg.param {
                Some(param) => expect(param, want, "aggregation parameter"),
                None => Ok(()),
            }
        }
        ExprKind::Binary(binary) => check_binary(binary, span),
    }
}

fn expect(expr: &mut Expr, want: ValueType, context: &str) -> Result<(), ParseError> {
    check(expr)?;
    let got = expr.value_type();
    if got == want {
        return Ok(());
    }
    fail(expr.span, format!("expected type {} in {context}, got {}", want.documented(), got.documented()))
}

fn check_call(call: &mut Call, span: Span) -> Result<(), ParseError> {
    let function = call.function;
    let (declared, got) = (function.args.len(), call.args.len());
    let name = go_string(function.name);
    let required = declared - usize::from(function.variadic != 0);
    if function.variadic == 0 && got != declared {
        return fail(span, format!("expected {declared} argument(s) in call to {name}, got {got}"));
    }
    if got < required {
        return fail(span, format!("expected at least {required} argument(s) in call to {name}, got {got}"));
    }
    if let Ok(extra) = usize::try_from(function.variadic)
        && extra > 0
        && got > required + extra
    {
        return fail(span, format!("expected at most {} argument(s) in call to {name}, got {got}", required + extra));
    }
    let context = format!("call to function {name}");
    if function.name == "info" && got > 1 {
        return check_info(call, &context);
    }
    for (idx, arg) in call.args.iter_mut().enumerate() {
        expect(arg, function.args[idx.min(declared - 1)], &context)?;
    }
    Ok(())
}

/// The second argument of `info()` is a selector of labels, which may accept every series.
fn check_info(call: &mut Call, context: &str) -> Result<(), ParseError> {
    expect(&mut call.args[0], ValueType::Vector, context)?;
    let arg = &call.args[1];
    match &arg.unparen().kind {
        ExprKind::Vector(selector) if selector.name.is_some() => {
            fail(arg.span, "expected label selectors only, got vector selector instead")
        }
        ExprKind::Vector(_) => Ok(()),
        _ => fail(arg.span, "expected label selectors only"),
    }
}

fn check_binary(binary: &mut Binary, span: Span) -> Result<(), ParseError> {
    check(&mut binary.lhs)?;
    check(&mut binary.rhs)?;
    let (left, right) = (binary.lhs.value_type(), binary.rhs.value_type());
    for (ty, side) in [(left, binary.lhs.span), (right, binary.rhs.span)] {
        if !matches!(ty, ValueType::Scalar | ValueType::Vector) {
            return fail(side, "binary expression must contain only scalar and instant vector types");
        }
    }
    let has_scalar = left == ValueType::Scalar || right == ValueType::Scalar;
    if let Some(matching) = &binary.matching {
        if has_scalar {
            if matching.fill_left.is_some() || matching.fill_right.is_some() {
                return fail(span, "filling in missing series only allowed between instant vectors");
            }
            if !matching.labels.is_empty() {
                return fail(span, "vector matching only allowed between instant vectors");
            }
            binary.matching = None;
        } else if binary.op.is_set() && (matching.fill_left.is_some() || matching.fill_right.is_some()) {
            return fail(span, "filling in missing series not allowed for set operators");
        } else if binary.op.is_set() && matching.card != Cardinality::ManyToMany {
            return fail(span, format!("no grouping allowed for {} operation", go_string(binary.op.as_str())));
        }
    }
    if has_scalar && binary.op.is_set() {
        let op = go_string(binary.op.as_str());
        return fail(span, format!("set operator {op} not allowed in binary scalar expression"));
    }
    Ok(())
}
