//! Expressions inside braces.

use weir_model::{SpanKind, StatusCode};

use super::lexer::{Token, as_text};
use super::{ParseError, Parser};
use crate::ast::{ArithmeticOp, CompareOp, Field, FieldExpr, Intrinsic, Literal};

pub(super) fn compare_op(op: &str) -> Option<CompareOp> {
    Some(match op {
        "=" => CompareOp::Equal,
        "!=" => CompareOp::NotEqual,
        ">" => CompareOp::Greater,
        ">=" => CompareOp::GreaterEqual,
        "<" => CompareOp::Less,
        "<=" => CompareOp::LessEqual,
        _ => return None,
    })
}

/// Operator and how tightly it binds.
pub(super) fn arithmetic_op(op: &str) -> Option<(ArithmeticOp, u8)> {
    Some(match op {
        "+" => (ArithmeticOp::Add, 1),
        "-" => (ArithmeticOp::Sub, 1),
        "*" => (ArithmeticOp::Mul, 2),
        "/" => (ArithmeticOp::Div, 2),
        "%" => (ArithmeticOp::Mod, 2),
        "^" => (ArithmeticOp::Pow, 3),
        _ => return None,
    })
}

/// Words that stand for values.
fn constant(word: &str) -> Option<Literal> {
    Some(match word {
        "true" => Literal::Bool(true),
        "false" => Literal::Bool(false),
        "nil" => Literal::Nil,
        "ok" => Literal::Status(StatusCode::Ok),
        "error" => Literal::Status(StatusCode::Error),
        "unset" => Literal::Status(StatusCode::Unset),
        "unspecified" => Literal::Kind(SpanKind::Unspecified),
        "internal" => Literal::Kind(SpanKind::Internal),
        "server" => Literal::Kind(SpanKind::Server),
        "client" => Literal::Kind(SpanKind::Client),
        "producer" => Literal::Kind(SpanKind::Producer),
        "consumer" => Literal::Kind(SpanKind::Consumer),
        _ => return None,
    })
}

impl Parser<'_> {
    /// `&&` and `||` bind equally and group to the left.
    pub(super) fn field_expr(&mut self) -> Result<FieldExpr, ParseError> {
        let mut lhs = self.comparison()?;
        loop {
            if self.take_op("&&") {
                lhs = FieldExpr::And(Box::new(lhs), Box::new(self.comparison()?));
            } else if self.take_op("||") {
                lhs = FieldExpr::Or(Box::new(lhs), Box::new(self.comparison()?));
            } else {
                return Ok(lhs);
            }
        }
    }

    fn comparison(&mut self) -> Result<FieldExpr, ParseError> {
        let lhs = self.arithmetic(1)?;
        let Some(op) = self.op() else { return Ok(lhs) };
        if matches!(op, "=~" | "!~") {
            self.advance();
            let Some(pattern) = as_text(self.peek()) else { return Err(self.unexpected()) };
            let regex = weir_go::regex_anchored(&pattern).map_err(|e| self.error(e.to_string()))?;
            self.advance();
            return Ok(FieldExpr::Match { negated: op == "!~", value: Box::new(lhs), regex });
        }
        let Some(op) = compare_op(op) else { return Ok(lhs) };
        self.advance();
        let rhs = self.arithmetic(1)?;
        Ok(FieldExpr::Compare(op, Box::new(lhs), Box::new(rhs)))
    }

    fn arithmetic(&mut self, floor: u8) -> Result<FieldExpr, ParseError> {
        let mut lhs = self.nested(Self::unary)?;
        while let Some((op, precedence)) = self.op().and_then(arithmetic_op).filter(|(_, p)| *p >= floor) {
            self.advance();
            // Only `^` groups to the right.
            let next = if op == ArithmeticOp::Pow { precedence } else { precedence + 1 };
            let rhs = self.nested(|p| p.arithmetic(next))?;
            lhs = FieldExpr::Arithmetic(op, Box::new(lhs), Box::new(rhs));
        }
        Ok(lhs)
    }

    fn unary(&mut self) -> Result<FieldExpr, ParseError> {
        if self.take_op("-") {
            return Ok(FieldExpr::Negate(Box::new(self.nested(Self::unary)?)));
        }
        if self.take_op("!") {
            return Ok(FieldExpr::Not(Box::new(self.nested(Self::unary)?)));
        }
        if self.take_op("(") {
            let inner = self.nested(Self::field_expr)?;
            self.expect_op(")")?;
            return Ok(inner);
        }
        match self.peek() {
            Token::Literal(_) => Ok(FieldExpr::Literal(self.literal()?)),
            Token::Word(word) if constant(word).is_some() => Ok(FieldExpr::Literal(self.literal()?)),
            _ => Ok(FieldExpr::Field(self.field()?)),
        }
    }

    pub(super) fn literal(&mut self) -> Result<Literal, ParseError> {
        let negative = self.take_op("-");
        let literal = match self.peek() {
            Token::Literal(literal) => Some(literal.clone()),
            Token::Word(word) => constant(word),
            _ => None,
        };
        let literal = match (negative, literal) {
            (false, Some(literal)) => literal,
            (true, Some(Literal::Int(v))) => Literal::Int(-v),
            (true, Some(Literal::Float(v))) => Literal::Float(-v),
            (true, Some(Literal::Duration(v))) => Literal::Duration(-v),
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(literal)
    }

    pub(super) fn field(&mut self) -> Result<Field, ParseError> {
        let field = match self.peek() {
            Token::Field(field) => field.clone(),
            Token::Word(word) => match Intrinsic::parse(word) {
                Some(intrinsic) => Field::Intrinsic(intrinsic),
                None => {
                    let hint = format!("{}: write .{word}, span.{word} or resource.{word}", self.unexpected().message);
                    return Err(self.error(hint));
                }
            },
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(field)
    }

    /// `(a, b, c)`; at least one.
    pub(super) fn field_list(&mut self) -> Result<Vec<Field>, ParseError> {
        self.expect_op("(")?;
        let mut fields = vec![self.field()?];
        while self.take_op(",") {
            fields.push(self.field()?);
        }
        self.expect_op(")")?;
        Ok(fields)
    }
}
