//! Metric queries: range aggregations, vector aggregations, functions and operators.

use super::labels::compare;
use super::lexer::Token;
use super::{ParseError, Parser};
use crate::ast::{
    BinaryOp, Cardinality, Conversion, Expr, Grouping, LogExpr, Matching, MetricExpr, RangeAggregation, RangeOp,
    Unwrap, VectorOp,
};

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Result<Expr, ParseError> {
        // `({…} | json)` is a log query, `(rate(…))` a metric query: look behind the parentheses.
        let inner = (0..).find(|n| *self.peek_at(*n) != Token::Op("(")).unwrap_or(0);
        if *self.peek_at(inner) == Token::Op("{") {
            return self.parenthesised_log().map(Expr::Log);
        }
        self.metric(0).map(Expr::Metric)
    }

    fn parenthesised_log(&mut self) -> Result<LogExpr, ParseError> {
        if !self.take_op("(") {
            return self.log_expr();
        }
        let log = self.nested(Self::parenthesised_log)?;
        self.expect_op(")")?;
        Ok(log)
    }

    /// Operators that bind at least as tightly as `floor`.
    fn metric(&mut self, floor: u8) -> Result<MetricExpr, ParseError> {
        let mut lhs = self.nested(Self::operand)?;
        while let Some(op) = self.binary_op().filter(|op| op.precedence() >= floor) {
            let at = self.offset();
            self.advance();
            let matching = self.matching(op)?;
            // Only `^` groups to the right.
            let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let rhs = self.nested(|p| p.metric(next))?;
            let is_literal = |e: &MetricExpr| matches!(e, MetricExpr::Literal(_));
            if op.is_set() && (is_literal(&lhs) || is_literal(&rhs)) {
                return Err(self.error_at(
                    at,
                    format!(
                        "unexpected literal for {} leg of logical/set binary operation ({})",
                        if is_literal(&rhs) { "right" } else { "left" },
                        op.as_str()
                    ),
                ));
            }
            if let (MetricExpr::Literal(a), MetricExpr::Literal(b)) = (&lhs, &rhs) {
                lhs = MetricExpr::Literal(crate::eval::binary::fold(op, *a, *b));
            } else {
                lhs = MetricExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs), matching };
            }
        }
        Ok(lhs)
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        Some(match self.peek() {
            Token::Ident(word) => match word.as_str() {
                "or" => BinaryOp::Or,
                "and" => BinaryOp::And,
                "unless" => BinaryOp::Unless,
                _ => return None,
            },
            Token::Op("+") => BinaryOp::Add,
            Token::Op("-") => BinaryOp::Sub,
            Token::Op("*") => BinaryOp::Mul,
            Token::Op("/") => BinaryOp::Div,
            Token::Op("%") => BinaryOp::Mod,
            Token::Op("^") => BinaryOp::Pow,
            Token::Op("=") => return None,
            Token::Op(op) => BinaryOp::Compare(compare(op)?),
            _ => return None,
        })
    }

    fn matching(&mut self, op: BinaryOp) -> Result<Matching, ParseError> {
        let mut matching = Matching::default();
        if self.is_word("bool") {
            if !matches!(op, BinaryOp::Compare(_)) {
                return Err(self.error("bool modifier can only be used on comparison operators"));
            }
            self.advance();
            matching.return_bool = true;
        }
        for (word, on) in [("on", true), ("ignoring", false)] {
            if self.take_word(word) {
                matching.on = on;
                matching.written = true;
                matching.labels = self.name_list()?;
            }
        }
        for (word, cardinality) in [("group_left", Cardinality::ManyToOne), ("group_right", Cardinality::OneToMany)] {
            if !self.is_word(word) {
                continue;
            }
            if op.is_set() {
                return Err(self.error(format!("no grouping allowed for {} operation", op.as_str())));
            }
            if !matching.written {
                return Err(self.error(format!("{word} needs on(…) or ignoring(…) before it")));
            }
            self.advance();
            matching.cardinality = cardinality;
            if self.is_op("(") {
                matching.include = self.name_list()?;
            }
        }
        Ok(matching)
    }

    fn operand(&mut self) -> Result<MetricExpr, ParseError> {
        match self.peek().clone() {
            Token::Op("(") => {
                self.advance();
                let expr = self.metric(0)?;
                self.expect_op(")")?;
                Ok(expr)
            }
            Token::Number(_) | Token::Op("+" | "-") => Ok(MetricExpr::Literal(self.number()?)),
            Token::Ident(word) => {
                if let Some((_, op)) = VectorOp::ALL.iter().find(|(name, _)| *name == word) {
                    self.vector_aggregation(*op)
                } else if let Some((_, op)) = RangeOp::ALL.iter().find(|(name, _)| *name == word) {
                    self.range_aggregation(*op)
                } else if word == "label_replace" {
                    self.label_replace()
                } else if word == "vector" {
                    self.advance();
                    self.expect_op("(")?;
                    let value = self.number()?;
                    self.expect_op(")")?;
                    Ok(MetricExpr::Constant(value))
                } else {
                    Err(self.unexpected("a selector, a number or a function"))
                }
            }
            _ => Err(self.unexpected("a selector, a number or a function")),
        }
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, ParseError> {
        for (word, without) in [("by", false), ("without", true)] {
            if self.take_word(word) {
                return Ok(Some(Grouping { without, labels: self.name_list()? }));
            }
        }
        Ok(None)
    }

    fn vector_aggregation(&mut self, op: VectorOp) -> Result<MetricExpr, ParseError> {
        let at = self.offset();
        self.advance();
        let mut grouping = self.grouping()?;
        self.expect_op("(")?;
        let mut param = None;
        if op.needs_param() {
            let at = self.offset();
            let value = self.number()?;
            if value < 1.0 || value.fract() != 0.0 || value > 1e6 {
                return Err(
                    self.error_at(at, format!("invalid parameter (must be greater than 0) {}({value}", op.as_str()))
                );
            }
            param = Some(value as usize);
            self.expect_op(",")?;
        }
        let expr = Box::new(self.metric(0)?);
        self.expect_op(")")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        if grouping.is_some() && !op.allows_grouping() {
            return Err(self.error_at(at, format!("grouping not allowed for {} aggregation", op.as_str())));
        }
        Ok(MetricExpr::Vector { op, param, grouping, expr })
    }

    fn range_aggregation(&mut self, op: RangeOp) -> Result<MetricExpr, ParseError> {
        let at = self.offset();
        self.advance();
        self.expect_op("(")?;
        let mut param = None;
        if op == RangeOp::QuantileOverTime {
            param = Some(self.number()?);
            self.expect_op(",")?;
        }
        let mut range = RangeParts::default();
        let mut log = self.ranged_log(&mut range)?;
        self.range_suffix(&mut range)?;
        self.expect_op(")")?;
        let grouping = self.grouping()?;
        let Some(range_nanos) = range.nanos else {
            return Err(self.error_at(at, format!("syntax error: {} needs a range such as [5m]", op.as_str())));
        };
        if range.unwrap.is_some() && !op.allows_unwrap() {
            return Err(self.error_at(at, format!("invalid aggregation {} with unwrap", op.as_str())));
        }
        if range.unwrap.is_none() && op.needs_unwrap() {
            return Err(self.error_at(at, format!("invalid aggregation {} without unwrap", op.as_str())));
        }
        if grouping.is_some() && !op.allows_grouping() {
            return Err(self.error_at(at, format!("grouping not allowed for {} aggregation", op.as_str())));
        }
        log.stages.shrink_to_fit();
        let offset_nanos = range.offset_nanos;
        let aggregation =
            RangeAggregation { op, param, log, unwrap: range.unwrap, range_nanos, offset_nanos, grouping };
        Ok(MetricExpr::Range(Box::new(aggregation)))
    }

    /// The range may stand before or after the pipeline, inside or outside of parentheses.
    fn ranged_log(&mut self, range: &mut RangeParts) -> Result<LogExpr, ParseError> {
        if self.take_op("(") {
            let log = self.nested(|p| p.ranged_log(range))?;
            self.range_suffix(range)?;
            self.expect_op(")")?;
            return Ok(log);
        }
        let matchers = self.checked_selector()?;
        self.range_suffix(range)?;
        let stages = self.stages()?;
        if self.take_op("|") {
            range.unwrap = Some(self.unwrap()?);
        }
        self.range_suffix(range)?;
        Ok(LogExpr { matchers, stages })
    }

    fn range_suffix(&mut self, range: &mut RangeParts) -> Result<(), ParseError> {
        if range.nanos.is_none() && self.take_op("[") {
            match self.peek() {
                Token::Duration(nanos) if *nanos > 0 => range.nanos = Some(*nanos),
                _ => return Err(self.unexpected("DURATION")),
            }
            self.advance();
            self.expect_op("]")?;
        }
        if range.nanos.is_some() && self.take_word("offset") {
            let negative = self.take_op("-");
            match self.peek() {
                Token::Duration(nanos) => range.offset_nanos = if negative { -nanos } else { *nanos },
                _ => return Err(self.unexpected("DURATION")),
            }
            self.advance();
        }
        Ok(())
    }

    /// From the word `unwrap` on.
    fn unwrap(&mut self) -> Result<Unwrap, ParseError> {
        self.advance();
        let at = self.offset();
        let word = self.ident()?;
        let mut unwrap =
            Unwrap { label: word.clone(), conversion: Conversion::Number, function: None, filters: Vec::new() };
        if self.take_op("(") {
            unwrap.conversion = match word.as_str() {
                "duration" | "duration_seconds" => Conversion::Duration,
                "bytes" => Conversion::Bytes,
                _ => {
                    return Err(self.error_at(
                        at,
                        format!("unknown conversion `{word}`: use duration, duration_seconds or bytes"),
                    ));
                }
            };
            unwrap.function = Some(word);
            unwrap.label = self.ident()?;
            self.expect_op(")")?;
        }
        while self.take_op("|") {
            unwrap.filters.push(self.label_filter()?);
        }
        Ok(unwrap)
    }

    fn label_replace(&mut self) -> Result<MetricExpr, ParseError> {
        self.advance();
        self.expect_op("(")?;
        let expr = Box::new(self.metric(0)?);
        let mut texts = Vec::with_capacity(4);
        let mut at = self.offset();
        for _ in 0..4 {
            self.expect_op(",")?;
            at = self.offset();
            texts.push(self.string()?);
        }
        self.expect_op(")")?;
        let [dst, replacement, src, pattern] = texts.try_into().expect("four were read");
        let regex = weir_go::regex_anchored(&pattern).map_err(|e| self.error_at(at, e.to_string()))?;
        Ok(MetricExpr::LabelReplace { expr, dst, replacement, src, regex, pattern })
    }
}

#[derive(Default)]
struct RangeParts {
    nanos: Option<i64>,
    offset_nanos: i64,
    unwrap: Option<Unwrap>,
}
