//! The canonical text of an expression, as Prometheus prints it on one line.

use std::fmt::{self, Display, Formatter};

use weir_model::MatchOp;
use weir_model::labels::METRIC_NAME;

use crate::ast::*;
use crate::number::{format_duration, format_literal};
use crate::parse::quote::go_string;

fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn label_name(name: &str) -> String {
    if is_plain_name(name) { name.to_owned() } else { go_string(name) }
}

fn label_list(names: &[String]) -> String {
    names.iter().map(|n| label_name(n)).collect::<Vec<_>>().join(", ")
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(value) => f.write_str(&format_literal(*value)),
            ExprKind::String(text) => f.write_str(&go_string(text)),
            ExprKind::Vector(selector) => {
                write_selector(f, selector)?;
                write_shift(f, selector.at, selector.offset_ms, &selector.offset_expr)?;
                write_extended(f, selector.extended)
            }
            ExprKind::Matrix(selector, range) => {
                write_selector(f, selector)?;
                write!(f, "[{}]", written(&selector.range_expr, *range))?;
                write_shift(f, selector.at, selector.offset_ms, &selector.offset_expr)?;
                write_extended(f, selector.extended)
            }
            ExprKind::Subquery(sub) => {
                let step = match (&sub.step_expr, sub.step) {
                    (Some(written), _) => written.to_string(),
                    (None, step) => step.map(duration).unwrap_or_default(),
                };
                write!(f, "{}[{}:{step}]", sub.expr, written(&sub.range_expr, sub.range))?;
                write_shift(f, sub.at, sub.offset_ms, &sub.offset_expr)
            }
            ExprKind::Call(call) => {
                write!(f, "{}(", call.function.name)?;
                for (idx, arg) in call.args.iter().enumerate() {
                    write!(f, "{}{arg}", if idx == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            ExprKind::Aggregate(agg) => {
                write!(f, "{}(", aggregate_head(agg))?;
                if let Some(param) = &agg.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", agg.expr)
            }
            ExprKind::Binary(b) => write!(f, "{} {} {}", b.lhs, binary_head(b), b.rhs),
            ExprKind::Unary { negative, expr } => write!(f, "{}{expr}", if *negative { "-" } else { "+" }),
            ExprKind::Paren(expr) => write!(f, "({expr})"),
        }
    }
}

fn written(expr: &Option<Box<DurationExpr>>, d: std::time::Duration) -> String {
    expr.as_ref().map_or_else(|| duration(d), |expr| expr.to_string())
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(secs, true) => f.write_str(&format_duration((secs * 1000.0).round() as i64)),
            Self::Literal(secs, false) => f.write_str(&format_literal(*secs)),
            Self::Step => f.write_str("step()"),
            Self::Range => f.write_str("range()"),
            Self::MinOf(a, b) => write!(f, "min_of({a}, {b})"),
            Self::MaxOf(a, b) => write!(f, "max_of({a}, {b})"),
            Self::Binary(op, a, b) => write!(f, "{a} {} {b}", op.as_str()),
            Self::Unary { negative, expr } => write!(f, "{}{expr}", if *negative { '-' } else { '+' }),
            Self::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

fn write_extended(f: &mut Formatter<'_>, extended: Option<Extended>) -> fmt::Result {
    match extended {
        Some(extended) => write!(f, " {}", extended.as_str()),
        None => Ok(()),
    }
}

fn duration(d: std::time::Duration) -> String {
    format_duration(i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// `sum by (a, b) ` up to the parenthesis.
pub(crate) fn aggregate_head(agg: &Aggregate) -> String {
    let op = agg.op.as_str();
    match (agg.without, agg.grouping.is_empty()) {
        (true, _) => format!("{op} without ({}) ", label_list(&agg.grouping)),
        (false, false) => format!("{op} by ({}) ", label_list(&agg.grouping)),
        (false, true) => op.to_owned(),
    }
}

/// The operator with its modifiers.
pub(crate) fn binary_head(b: &Binary) -> String {
    let mut out = b.op.as_str().to_owned();
    if b.return_bool {
        out.push_str(" bool");
    }
    let Some(m) = b.matching.as_ref() else { return out };
    if m.on || !m.labels.is_empty() {
        out.push_str(if m.on { " on (" } else { " ignoring (" });
        out.push_str(&label_list(&m.labels));
        out.push(')');
        let side = match m.card {
            Cardinality::ManyToOne => Some("group_left"),
            Cardinality::OneToMany => Some("group_right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if let Some(side) = side {
            out.push_str(&format!(" {side} ({})", label_list(&m.include)));
        }
    }
    match (m.fill_left, m.fill_right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
            out.push_str(&format!(" fill ({})", format_literal(left)));
        }
        (left, right) => {
            for (name, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    out.push_str(&format!(" {name} ({})", format_literal(value)));
                }
            }
        }
    }
    out
}

fn write_selector(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    let mut parts = Vec::new();
    for m in &selector.matchers {
        if m.name == METRIC_NAME && m.op == MatchOp::Equal && selector.name.is_some() {
            continue;
        }
        parts.push(format!("{}{}{}", label_name(&m.name), m.op.as_str(), go_string(&m.value)));
    }
    parts.sort();
    f.write_str(selector.name.as_deref().unwrap_or(""))?;
    if parts.is_empty() { Ok(()) } else { write!(f, "{{{}}}", parts.join(",")) }
}

fn write_shift(
    f: &mut Formatter<'_>,
    at: Option<At>,
    offset_ms: i64,
    offset_expr: &Option<Box<DurationExpr>>,
) -> fmt::Result {
    match at {
        Some(At::Time(t)) => write!(f, " @ {:.3}", t.secs_f64())?,
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        None => {}
    }
    if let Some(written) = offset_expr {
        return write!(f, " offset {written}");
    }
    if offset_ms == 0 { Ok(()) } else { write!(f, " offset {}", format_duration(offset_ms)) }
}
