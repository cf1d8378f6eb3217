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
                write_shift(f, selector.at, selector.offset_ms)
            }
            ExprKind::Matrix(selector, range) => {
                write_selector(f, selector)?;
                write!(f, "[{}]", duration(*range))?;
                write_shift(f, selector.at, selector.offset_ms)
            }
            ExprKind::Subquery(sub) => {
                let step = sub.step.map(duration).unwrap_or_default();
                write!(f, "{}[{}:{step}]", sub.expr, duration(sub.range))?;
                write_shift(f, sub.at, sub.offset_ms)
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
    let Some(m) = b.matching.as_ref().filter(|m| m.on || !m.labels.is_empty()) else { return out };
    out.push_str(if m.on { " on (" } else { " ignoring (" });
    out.push_str(&label_list(&m.labels));
    out.push(')');
    let side = match m.card {
        Cardinality::ManyToOne => " group_left (",
        Cardinality::OneToMany => " group_right (",
        Cardinality::OneToOne | Cardinality::ManyToMany => return out,
    };
    out.push_str(side);
    out.push_str(&label_list(&m.include));
    out.push(')');
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

fn write_shift(f: &mut Formatter<'_>, at: Option<At>, offset_ms: i64) -> fmt::Result {
    match at {
        Some(At::Time(t)) => write!(f, " @ {:.3}", t.secs_f64())?,
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        None => {}
    }
    if offset_ms == 0 { Ok(()) } else { write!(f, " offset {}", format_duration(offset_ms)) }
}
