//! Functions that change or read labels.

use std::cmp::Ordering;

use weir_model::labels::METRIC_NAME;
use weir_model::{Labels, LabelsBuilder, MatchOp};

use super::table::Table;
use super::{Eval, Evaluator};
use crate::ast::*;
use crate::parse::quote::go_string;
use crate::plan::Steps;
use crate::result::QueryError;

impl Evaluator {
    pub(super) fn label_replace(&self, call: &Call, steps: &Steps) -> Eval<Table> {
        let mut table = self.vector(&call.args[0], steps)?;
        let text = |idx: usize| self.string(&call.args[idx], steps);
        let (dst, template, src, pattern) = (text(1)?, text(2)?, text(3)?, text(4)?);
        let regex = weir_go::regex_anchored(&pattern)
            .map_err(|_| QueryError::Execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        if dst.is_empty() {
            return Err(QueryError::Execution("invalid destination label name in label_replace(): ".to_owned()));
        }
        for series in &mut table.series {
            self.tick()?;
            let Some(captures) = regex.captures(series.labels.value(&src)) else { continue };
            let mut value = String::new();
            captures.expand(&template, &mut value);
            series.labels = series.labels.with(&dst, &value);
            series.drop_name &= dst != METRIC_NAME;
        }
        table.merged()
    }

    pub(super) fn label_join(&self, call: &Call, steps: &Steps) -> Eval<Table> {
        let mut table = self.vector(&call.args[0], steps)?;
        let (dst, separator) = (self.string(&call.args[1], steps)?, self.string(&call.args[2], steps)?);
        let sources = call.args[3..].iter().map(|a| self.string(a, steps)).collect::<Eval<Vec<_>>>()?;
        for (name, what) in std::iter::once((&dst, "destination")).chain(sources.iter().map(|s| (s, "source"))) {
            if name.is_empty() {
                return Err(QueryError::Execution(format!("invalid {what} label name in label_join(): {name}")));
            }
        }
        for series in &mut table.series {
            self.tick()?;
            let value = sources.iter().map(|s| series.labels.value(s)).collect::<Vec<_>>().join(&separator);
            series.labels = series.labels.with(&dst, &value);
            series.drop_name &= dst != METRIC_NAME;
        }
        table.merged()
    }

    pub(super) fn sort_by_label(&self, call: &Call, descending: bool, steps: &Steps) -> Eval<Table> {
        let mut table = self.vector(&call.args[0], steps)?;
        let names = call.args[1..].iter().map(|a| self.string(a, steps)).collect::<Eval<Vec<_>>>()?;
        table.series.sort_by(|a, b| {
            let by_name = |name: &String| natural(a.labels.value(name), b.labels.value(name));
            let order = names.iter().map(by_name).find(|o| o.is_ne()).unwrap_or_else(|| a.labels.cmp(&b.labels));
            if descending { order.reverse() } else { order }
        });
        Ok(table)
    }
}

/// Runs of digits compare as numbers: `node9` before `node10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(&x), Some(&y)) = (a.first(), b.first()) else { return a.len().cmp(&b.len()) };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let ((n, rest_a), (m, rest_b)) = (digits(a), digits(b));
            let order = n.len().cmp(&m.len()).then_with(|| n.cmp(m));
            if order.is_ne() {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        } else if x != y {
            return x.cmp(&y);
        } else {
            (a, b) = (&a[1..], &b[1..]);
        }
    }
}

/// The leading digits without zeros in front, and what follows.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let (run, rest) = text.split_at(text.iter().take_while(|b| b.is_ascii_digit()).count());
    (&run[run.iter().take_while(|b| **b == b'0').count()..], rest)
}

/// Labels of `absent(selector)`: those that one equality matcher pins.
pub(super) fn of_absent(arg: &Expr) -> Labels {
    let (ExprKind::Vector(selector) | ExprKind::Matrix(selector, _)) = &arg.unparen().kind else {
        return Labels::empty();
    };
    let mut builder = LabelsBuilder::default();
    for m in selector.matchers.iter().filter(|m| m.name != METRIC_NAME) {
        let pinned = m.op == MatchOp::Equal && selector.matchers.iter().filter(|o| o.name == m.name).count() == 1;
        if pinned {
            builder.set(m.name.as_str(), m.value.as_str());
        }
    }
    builder.build()
}

/// `{__name__="up", job="x"}`, as Go prints labels in errors.
pub(super) fn go_labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|l| format!("{}={}", l.name, go_string(&l.value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_compare_as_numbers() {
        for (a, b, want) in [
            ("node9", "node10", Ordering::Less),
            ("a", "b", Ordering::Less),
            ("a2b", "a02b", Ordering::Equal),
            ("a", "a1", Ordering::Less),
        ] {
            assert_eq!(natural(a, b), want, "{a} {b}");
        }
    }
}
