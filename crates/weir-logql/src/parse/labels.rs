//! Label filters: `a="x" and (b>5 or c<=1.5s), d=ip("10.0.0.0/8")`.

use weir_model::{MatchOp, Matcher};

use super::lexer::Token;
use super::{ParseError, Parser};
use crate::ast::{Compare, LabelFilter};

impl Parser<'_> {
    pub(super) fn label_filter(&mut self) -> Result<LabelFilter, ParseError> {
        let mut filter = self.label_conjunction()?;
        while self.take_word("or") {
            filter = LabelFilter::Or(Box::new(filter), Box::new(self.label_conjunction()?));
        }
        Ok(filter)
    }

    /// `and`, a comma or a mere space bind tighter than `or`.
    fn label_conjunction(&mut self) -> Result<LabelFilter, ParseError> {
        let mut filter = self.label_term()?;
        loop {
            let joined = self.take_word("and") || self.take_op(",");
            let another = self.is_op("(") || matches!(self.peek(), Token::Ident(w) if w != "or" && w != "offset");
            if !joined && !another {
                return Ok(filter);
            }
            filter = LabelFilter::And(Box::new(filter), Box::new(self.label_term()?));
        }
    }

    fn label_term(&mut self) -> Result<LabelFilter, ParseError> {
        if self.take_op("(") {
            let filter = self.nested(Self::label_filter)?;
            self.expect_op(")")?;
            return Ok(filter);
        }
        let name = self.ident()?;
        let op_at = self.offset();
        let Token::Op(op) = self.advance() else {
            return Err(self.error_at(op_at, "syntax error: expecting a comparison after the label"));
        };
        let value_at = self.offset();
        match self.peek().clone() {
            Token::Str(value) => {
                self.advance();
                let op = match op {
                    "=" | "==" => MatchOp::Equal,
                    "!=" => MatchOp::NotEqual,
                    "=~" => MatchOp::Regex,
                    "!~" => MatchOp::NotRegex,
                    _ => return Err(self.error_at(op_at, format!("syntax error: unexpected {op} before a STRING"))),
                };
                let matcher = Matcher::new(name, op, value).map_err(|e| self.error_at(value_at, e.to_string()))?;
                Ok(LabelFilter::Text(matcher))
            }
            Token::Ident(word) if word == "ip" && matches!(op, "=" | "==" | "!=") => {
                self.advance();
                Ok(LabelFilter::Ip { name, negated: op == "!=", ip: self.ip_argument()? })
            }
            _ => {
                let op = compare(op).ok_or_else(|| self.error_at(op_at, format!("syntax error: unexpected {op}")))?;
                self.quantity(name, op)
            }
        }
    }

    fn quantity(&mut self, name: String, op: Compare) -> Result<LabelFilter, ParseError> {
        let negative = self.is_op("-");
        if negative || self.is_op("+") {
            self.advance();
        }
        let sign = if negative { -1.0 } else { 1.0 };
        let filter = match self.peek().clone() {
            Token::Number(value) => LabelFilter::Number { name, op, value: sign * value },
            Token::Duration(value) => LabelFilter::Duration { name, op, value: if negative { -value } else { value } },
            Token::Bytes(value, text) => LabelFilter::Bytes { name, op, value: sign * value, text },
            _ => return Err(self.unexpected("STRING, NUMBER, DURATION, BYTES or ip")),
        };
        self.advance();
        Ok(filter)
    }
}

pub(super) fn compare(op: &str) -> Option<Compare> {
    Some(match op {
        "=" | "==" => Compare::Equal,
        "!=" => Compare::NotEqual,
        ">" => Compare::Greater,
        ">=" => Compare::GreaterEqual,
        "<" => Compare::Less,
        "<=" => Compare::LessEqual,
        _ => return None,
    })
}
