//! What an expression depends on by name.

use std::collections::BTreeSet;

use weir_model::MatchOp;
use weir_model::labels::METRIC_NAME;

use crate::ast::{Expr, ExprKind};

impl Expr {
    /// Labels whose values it tells apart: matched, grouped by, joined on, carried over, or rewritten. Not those
    /// that it drops with `without` and `ignoring`.
    pub fn labels_used(&self) -> BTreeSet<&str> {
        let mut used = BTreeSet::new();
        self.walk(&mut |expr| match &expr.kind {
            ExprKind::Vector(selector) | ExprKind::Matrix(selector, _) => {
                used.extend(selector.matchers.iter().map(|m| m.name.as_str()));
            }
            ExprKind::Aggregate(aggregate) if !aggregate.without => {
                used.extend(aggregate.grouping.iter().map(String::as_str));
            }
            ExprKind::Binary(binary) => {
                if let Some(matching) = &binary.matching {
                    let on = matching.labels.iter().filter(|_| matching.on);
                    used.extend(on.chain(&matching.include).map(String::as_str));
                }
            }
            // Of the texts some are names of labels; a name too many does no harm.
            ExprKind::Call(call) => used.extend(call.args.iter().filter_map(|arg| match &arg.unparen().kind {
                ExprKind::String(text) => Some(text.as_str()),
                _ => None,
            })),
            _ => {}
        });
        used.remove(METRIC_NAME);
        used
    }

    /// Metrics that it names; a pattern over names is none.
    pub fn metrics_used(&self) -> BTreeSet<&str> {
        let mut used = BTreeSet::new();
        self.walk(&mut |expr| {
            if let ExprKind::Vector(selector) | ExprKind::Matrix(selector, _) = &expr.kind {
                let named = selector.matchers.iter().find(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal);
                used.extend(named.map(|m| m.value.as_str()));
            }
        });
        used
    }
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn labels_and_metrics_are_found_wherever_they_stand() {
        for (query, labels, metrics) in [
            (r#"sum by (a) (rate(m{b="1", c!~"x"}[5m]))"#, "a b c", "m"),
            ("sum without (a) (m)", "", "m"),
            ("m * on (a) group_left (b) n", "a b", "m n"),
            ("m * ignoring (a) n", "", "m n"),
            (r#"label_replace({__name__="m"}, "d", "$1", "s", "(.*)")"#, "$1 (.*) d s", "m"),
            (r#"count({__name__=~"m.*"})"#, "", ""),
            ("max_over_time(sum by (a) (m)[1h:1m])", "a", "m"),
        ] {
            let expr = parse(query).unwrap();
            let joined = |set: std::collections::BTreeSet<&str>| set.into_iter().collect::<Vec<_>>().join(" ");
            assert_eq!(
                (joined(expr.labels_used()).as_str(), joined(expr.metrics_used()).as_str()),
                (labels, metrics),
                "{query}"
            );
        }
    }
}
