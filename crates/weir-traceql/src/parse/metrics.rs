//! Stages that turn spans into series.

use super::field::compare_op;
use super::lexer::Token;
use super::{ParseError, Parser};
use weir_model::Nanos;

use crate::ast::{Comparison, Literal, MetricsOp, MetricsStage, SecondStage};

/// Tempo's limit of `by()` keys.
const KEYS_MAX: usize = 5;

impl Parser<'_> {
    /// The metrics stage, if one stands here.
    pub(super) fn metrics(&mut self) -> Result<Option<MetricsStage>, ParseError> {
        if !self.take_op("|") {
            return Ok(None);
        }
        let Token::Word(word) = self.advance() else { return Err(self.unexpected()) };
        let Some((_, op)) = MetricsOp::ALL.iter().find(|(name, _)| *name == word) else {
            return Err(self.unexpected());
        };
        let mut stage = MetricsStage {
            op: *op,
            field: None,
            quantiles: Vec::new(),
            by: Vec::new(),
            comparison: None,
            then: Vec::new(),
        };
        self.expect_op("(")?;
        if *op == MetricsOp::Compare {
            stage.comparison = Some(self.comparison_arguments()?);
            self.expect_op(")")?;
            return Ok(Some(stage));
        }
        if op.needs_field() {
            stage.field = Some(self.field()?);
            if *op == MetricsOp::QuantileOverTime {
                self.quantiles(&mut stage)?;
            }
        }
        self.expect_op(")")?;
        if self.take_word("by") {
            let at = self.at;
            stage.by = self.field_list()?;
            if stage.by.len() > KEYS_MAX {
                self.at = at;
                return Err(self.error(format!("by() takes at most {KEYS_MAX} attributes")));
            }
        }
        self.second_stages(&mut stage)?;
        Ok(Some(stage))
    }

    /// `{ selection }, top values, start, end`; all but the selection may be left out.
    fn comparison_arguments(&mut self) -> Result<Comparison, ParseError> {
        self.expect_op("{")?;
        let selection = self.field_expr()?;
        self.expect_op("}")?;
        let mut numbers = Vec::new();
        while self.take_op(",") {
            match self.literal()? {
                Literal::Int(n) if n > 0 => numbers.push(n),
                _ => return Err(self.error("compare() wants positive integers after the selection")),
            }
        }
        let window = match numbers[..] {
            [] | [_] => None,
            [_, from, to] if from < to => Some((Nanos(from), Nanos(to))),
            [_, _, _] => return Err(self.error("compare() end timestamp must be greater than start timestamp")),
            _ => return Err(self.error("compare() takes a selection, a number of values, a start and an end")),
        };
        // Tempo's default.
        let top = numbers.first().map_or(10, |n| usize::try_from(*n).unwrap_or(usize::MAX).min(1000));
        Ok(Comparison { selection, top, window })
    }

    fn quantiles(&mut self, stage: &mut MetricsStage) -> Result<(), ParseError> {
        while self.take_op(",") {
            let value = self.literal()?.number().filter(|q| (0.0..=1.0).contains(q));
            stage.quantiles.push(value.ok_or_else(|| self.error("a quantile is a number from 0 to 1"))?);
        }
        if stage.quantiles.is_empty() {
            return Err(self.error("quantile_over_time needs a quantile, such as .99"));
        }
        Ok(())
    }

    fn second_stages(&mut self, stage: &mut MetricsStage) -> Result<(), ParseError> {
        loop {
            if let Some(op) = self.op().and_then(compare_op) {
                self.advance();
                let literal = self.literal()?;
                // Durations come out of metrics in seconds.
                let scale = if matches!(literal, Literal::Duration(_)) { 1e-9 } else { 1.0 };
                let value = literal.number().ok_or_else(|| self.error("samples compare with a number"))?;
                stage.then.push(SecondStage::Filter(op, value * scale));
            } else if self.take_op("|") {
                let top = if self.take_word("topk") {
                    true
                } else if self.take_word("bottomk") {
                    false
                } else {
                    return Err(self.unexpected());
                };
                self.expect_op("(")?;
                let n = self.literal()?.number().filter(|n| (1.0..=1000.0).contains(n) && n.fract() == 0.0);
                let n = n.ok_or_else(|| self.error("a whole number from 1 to 1000 is needed here"))? as usize;
                self.expect_op(")")?;
                stage.then.push(if top { SecondStage::Topk(n) } else { SecondStage::Bottomk(n) });
            } else {
                return Ok(());
            }
        }
    }
}
