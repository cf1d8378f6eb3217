//! Expressions over several lines, broken where one line would be too long.
//! Layout follows Prometheus `promql/parser/prettier.go`.

use crate::ast::*;
use crate::display::{aggregate_head, binary_head};

/// Longest text that stays on one line, in bytes.
const LINE_MAX: usize = 100;

/// The canonical text, broken into indented lines.
pub fn pretty(expr: &Expr) -> String {
    at_level(expr, 0)
}

fn at_level(expr: &Expr, level: usize) -> String {
    let indent = "  ".repeat(level);
    let line = expr.to_string();
    let short = line.len() <= LINE_MAX;
    match &expr.kind {
        // Its sign stands in front of the first line, whatever follows.
        ExprKind::Unary { negative, expr } => {
            let sign = if *negative { '-' } else { '+' };
            format!("{indent}{sign}{}", at_level(expr, level).trim_start())
        }
        ExprKind::Aggregate(agg) if !short => {
            let param = agg.param.iter().map(|p| format!("{},\n", at_level(p, level + 1))).collect::<String>();
            let inner = at_level(&agg.expr, level + 1);
            format!("{indent}{}(\n{param}{inner}\n{indent})", aggregate_head(agg))
        }
        ExprKind::Binary(b) if !short => {
            let (left, right) = (at_level(&b.lhs, level + 1), at_level(&b.rhs, level + 1));
            format!("{left}\n{indent}{}\n{right}", binary_head(b))
        }
        ExprKind::Call(call) if !short => {
            let args: Vec<String> = call.args.iter().map(|a| at_level(a, level + 1)).collect();
            format!("{indent}{}(\n{}\n{indent})", call.function.name, args.join(",\n"))
        }
        ExprKind::Paren(inner) if !short => format!("{indent}(\n{}\n{indent})", at_level(inner, level + 1)),
        ExprKind::Subquery(sub) if !short => {
            let suffix = &line[sub.expr.to_string().len()..];
            format!("{}{suffix}", at_level(&sub.expr, level))
        }
        _ => format!("{indent}{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::pretty;
    use crate::parse;

    #[test]
    fn long_expressions_are_broken() {
        let query = "sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m])) / sum by (job) \
                     (rate(http_requests_total{job=\"a_rather_long_name\"}[5m]))";
        let want = "  sum by (job) (rate(http_requests_total{code=~\"5..\"}[5m]))\n/\n  sum by (job) \
                    (rate(http_requests_total{job=\"a_rather_long_name\"}[5m]))";
        assert_eq!(pretty(&parse(query).unwrap()), want);
        assert_eq!(pretty(&parse("foo+ bar").unwrap()), "foo + bar");
        let again = pretty(&parse(want).unwrap());
        assert_eq!(again, want);
    }
}
