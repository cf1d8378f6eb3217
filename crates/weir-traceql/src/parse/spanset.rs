//! Span sets, their operators, and pipeline stages.

use super::field::{arithmetic_op, compare_op};
use super::lexer::Token;
use super::{ParseError, Parser};
use crate::ast::{
    AggregateOp, FieldExpr, Literal, MetricsOp, Pipeline, Relation, ScalarExpr, Selection, SpansetExpr, SpansetOp,
    Stage,
};

fn structural(op: &str) -> Option<SpansetOp> {
    let (selection, relation) = match op.as_bytes().first()? {
        b'!' => (Selection::Unrelated, &op[1..]),
        b'&' => (Selection::Both, &op[1..]),
        _ => (Selection::Right, op),
    };
    let relation = match relation {
        ">" => Relation::Child,
        ">>" => Relation::Descendant,
        "<" => Relation::Parent,
        "<<" => Relation::Ancestor,
        "~" => Relation::Sibling,
        _ => return None,
    };
    Some(SpansetOp::Structural(relation, selection))
}

fn aggregate(word: &str) -> Option<AggregateOp> {
    Some(match word {
        "count" => AggregateOp::Count,
        "avg" => AggregateOp::Avg,
        "min" => AggregateOp::Min,
        "max" => AggregateOp::Max,
        "sum" => AggregateOp::Sum,
        _ => return None,
    })
}

impl Parser<'_> {
    pub(super) fn pipeline(&mut self) -> Result<Pipeline, ParseError> {
        let first = self.spanset()?;
        let mut stages = Vec::new();
        while self.op() == Some("|") && !self.metrics_follow() {
            self.advance();
            stages.push(self.stage()?);
        }
        Ok(Pipeline { first, stages })
    }

    /// Whether the stage after this `|` is one that makes metrics.
    fn metrics_follow(&self) -> bool {
        let is_metrics = |word: &str| MetricsOp::ALL.iter().any(|(name, _)| *name == word);
        matches!(self.peek_at(1), Token::Word(word) if is_metrics(word))
    }

    /// `&&` and `||` bind equally and group to the left; structural operators bind tighter.
    fn spanset(&mut self) -> Result<SpansetExpr, ParseError> {
        let mut lhs = self.related()?;
        loop {
            let op = match self.op() {
                Some("&&") => SpansetOp::And,
                Some("||") => SpansetOp::Or,
                _ => return Ok(lhs),
            };
            self.advance();
            lhs = SpansetExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(self.related()?) };
        }
    }

    fn related(&mut self) -> Result<SpansetExpr, ParseError> {
        let mut lhs = self.nested(Self::spanset_operand)?;
        while let Some(op) = self.op().and_then(structural) {
            self.advance();
            lhs = SpansetExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(self.nested(Self::spanset_operand)?) };
        }
        Ok(lhs)
    }

    fn spanset_operand(&mut self) -> Result<SpansetExpr, ParseError> {
        if self.take_op("(") {
            let pipeline = self.nested(Self::pipeline)?;
            self.expect_op(")")?;
            return Ok(SpansetExpr::Pipeline(Box::new(pipeline)));
        }
        self.expect_op("{")?;
        if self.take_op("}") {
            return Ok(SpansetExpr::Filter(FieldExpr::Literal(Literal::Bool(true))));
        }
        let filter = self.field_expr()?;
        self.expect_op("}")?;
        Ok(SpansetExpr::Filter(filter))
    }

    fn stage(&mut self) -> Result<Stage, ParseError> {
        let starts_spanset = match self.peek() {
            Token::Op("{") => true,
            // `(max(duration) - …)` is a number, `({…} | …)` a span set.
            Token::Op("(") => {
                let inner = (0..).find(|n| *self.peek_at(*n) != Token::Op("(")).unwrap_or(0);
                *self.peek_at(inner) == Token::Op("{")
            }
            _ => false,
        };
        if starts_spanset {
            return Ok(Stage::Filter(self.spanset()?));
        }
        if self.take_word("by") {
            self.expect_op("(")?;
            let start = self.tokens[self.at].1;
            let expr = self.field_expr()?;
            let end = self.tokens[self.at].1;
            self.expect_op(")")?;
            return Ok(Stage::By(expr, self.text[start..end].trim().to_owned()));
        }
        if self.take_word("coalesce") {
            self.expect_op("(")?;
            self.expect_op(")")?;
            return Ok(Stage::Coalesce);
        }
        if self.take_word("select") {
            return Ok(Stage::Select(self.field_list()?));
        }
        let lhs = self.scalar(1)?;
        let Some(op) = self.op().and_then(compare_op) else { return Err(self.unexpected()) };
        self.advance();
        Ok(Stage::Compare { lhs, op, rhs: self.scalar(1)? })
    }

    fn scalar(&mut self, floor: u8) -> Result<ScalarExpr, ParseError> {
        let mut lhs = self.nested(Self::scalar_operand)?;
        while let Some((op, precedence)) = self.op().and_then(arithmetic_op).filter(|(_, p)| *p >= floor) {
            self.advance();
            let rhs = self.nested(|p| p.scalar(precedence + 1))?;
            lhs = ScalarExpr::Binary(op, Box::new(lhs), Box::new(rhs));
        }
        Ok(lhs)
    }

    fn scalar_operand(&mut self) -> Result<ScalarExpr, ParseError> {
        if self.take_op("(") {
            let inner = self.nested(|p| p.scalar(1))?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        let op = match self.peek() {
            Token::Word(word) => aggregate(word),
            _ => None,
        };
        let Some(op) = op else { return Ok(ScalarExpr::Literal(self.literal()?)) };
        self.advance();
        self.expect_op("(")?;
        let field = if op == AggregateOp::Count { None } else { Some(self.field_expr()?) };
        self.expect_op(")")?;
        Ok(ScalarExpr::Aggregate(op, field))
    }
}
