//! Recursive descent with precedence climbing over the tokens.

use std::time::Duration;

use weir_model::labels::METRIC_NAME;
use weir_model::{MatchOp, Matcher, Timestamp};

use super::ParseError;
use super::lexer::{Tok, Token, lex};
use super::quote::go_string;
use crate::ast::*;
use crate::function;

type Parsed<T> = Result<T, ParseError>;

/// Words with a meaning of their own outside braces; they may still name a metric or a label.
const KEYWORDS: [&str; 13] = [
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "fill",
    "fill_left",
    "fill_right",
    "anchored",
    "smoothed",
];

pub(super) struct Parser<'a> {
    text: &'a str,
    /// Byte offsets at which lines start.
    lines: Vec<usize>,
    tokens: Vec<Token>,
    idx: usize,
    nesting: u16,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(idx, _)| idx + 1)).collect();
        Self { text, lines, tokens: lex(text), idx: 0, nesting: 0 }
    }

    pub(super) fn parse(mut self) -> Parsed<Expr> {
        if self.peek().tok == Tok::Eof {
            let span = (!self.text.is_empty()).then(|| self.span(0, 0));
            return Err(ParseError { span, message: "no expression found in input".to_owned() });
        }
        let expr = self.expr(0)?;
        match self.peek().tok {
            Tok::Eof => Ok(expr),
            _ => Err(self.unexpected("", "")),
        }
    }

    // ---- tokens and errors -------------------------------------------------------------------

    fn peek(&self) -> &Token {
        &self.tokens[self.idx]
    }
    fn peek_second(&self) -> &Tok {
        &self.tokens[(self.idx + 1).min(self.tokens.len() - 1)].tok
    }
    /// Takes a token; the last one (end or error) stays.
    fn advance(&mut self) -> Token {
        let token = self.tokens[self.idx].clone();
        self.idx = (self.idx + 1).min(self.tokens.len() - 1);
        token
    }
    fn at_op(&self, op: &str) -> bool {
        matches!(self.peek().tok, Tok::Op(found) if found == op)
    }
    fn take_op(&mut self, op: &str) -> bool {
        let found = self.at_op(op);
        if found {
            self.advance();
        }
        found
    }
    /// The word at hand in lower case, when it is an identifier.
    fn word(&self) -> Option<String> {
        let token = self.peek();
        (token.tok == Tok::Ident).then(|| self.text[token.start..token.end].to_ascii_lowercase())
    }
    fn take_word(&mut self, word: &str) -> bool {
        let found = self.word().is_some_and(|w| w == word);
        if found {
            self.advance();
        }
        found
    }
    fn prev_end(&self) -> usize {
        self.tokens[self.idx.saturating_sub(1)].end
    }

    fn span(&self, start: usize, end: usize) -> Span {
        let line = self.lines.partition_point(|at| *at <= start).max(1);
        Span { start, end, line: line as u32, column: (start - self.lines[line - 1] + 1) as u32 }
    }
    fn error(&self, start: usize, end: usize, message: impl Into<String>) -> ParseError {
        ParseError { span: Some(self.span(start, end)), message: message.into() }
    }
    fn error_at(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError { span: Some(span), message: message.into() }
    }

    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let token = self.peek();
        if let Tok::Error(message) = &token.tok {
            return self.error(token.start, token.end, message.clone());
        }
        let mut message = format!("unexpected {}", self.describe(token, context == "label matching"));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.error(token.start, token.end, message)
    }

    fn describe(&self, token: &Token, in_braces: bool) -> String {
        let text = &self.text[token.start..token.end];
        let quoted = || {
            let cut: String = text.chars().take(10).collect();
            if text.len() > 10 { format!("{}...", go_string(&cut)) } else { go_string(text) }
        };
        match &token.tok {
            Tok::Eof => "end of input".to_owned(),
            Tok::Error(message) => message.clone(),
            Tok::Ident if !in_braces => {
                let word = text.to_ascii_lowercase();
                let word = word.as_str();
                match word {
                    "and" | "or" | "unless" | "atan2" => format!("<op:{text}>"),
                    _ if KEYWORDS.contains(&word) => format!("<{text}>"),
                    _ if aggregate_op(word).is_some() => format!("<aggr:{text}>"),
                    _ => format!("identifier {}", go_string(text)),
                }
            }
            Tok::Ident => format!("identifier {}", go_string(text)),
            Tok::MetricIdent => format!("metric identifier {}", go_string(text)),
            Tok::Str(_) => format!("string {}", quoted()),
            Tok::Number(_) => format!("number {}", quoted()),
            Tok::Duration(_) => format!("duration {}", quoted()),
            Tok::Op(op @ ("(" | ")" | "{" | "}" | "[" | "]" | "," | ":" | "=")) => go_string(op),
            Tok::Op(op) => format!("<op:{op}>"),
        }
    }

    fn node(&self, kind: ExprKind, start: usize) -> Parsed<Expr> {
        let expr = Expr::new(kind, self.span(start, self.prev_end()));
        if expr.depth() > Expr::MAX_DEPTH {
            return Err(self.error_at(expr.span, format!("expression is nested deeper than {}", Expr::MAX_DEPTH)));
        }
        Ok(expr)
    }

    // ---- expressions -------------------------------------------------------------------------

    fn expr(&mut self, min_precedence: u8) -> Parsed<Expr> {
        self.nesting += 1;
        if self.nesting > Expr::MAX_DEPTH {
            let token = self.peek();
            let message = format!("expression is nested deeper than {}", Expr::MAX_DEPTH);
            return Err(self.error(token.start, token.end, message));
        }
        let mut lhs = self.unary()?;
        while let Some(op) = self.binary_op() {
            if op.precedence() < min_precedence {
                break;
            }
            let op_token = self.advance();
            let (return_bool, matching) = self.modifiers(op)?;
            let right_min = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let rhs = self.expr(right_min)?;
            let start = lhs.span.start;
            let (lhs_box, rhs_box) = (Box::new(lhs), Box::new(rhs));
            let binary = Binary { op, lhs: lhs_box, rhs: rhs_box, return_bool, matching: Some(matching) };
            self.check_modifiers(&binary, &op_token)?;
            lhs = self.node(ExprKind::Binary(binary), start)?;
        }
        self.nesting -= 1;
        Ok(lhs)
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        match &self.peek().tok {
            Tok::Op(op) => Some(match *op {
                "+" => BinaryOp::Add,
                "-" => BinaryOp::Sub,
                "*" => BinaryOp::Mul,
                "/" => BinaryOp::Div,
                "%" => BinaryOp::Mod,
                "^" => BinaryOp::Pow,
                "==" => BinaryOp::Eq,
                "!=" => BinaryOp::Ne,
                ">" => BinaryOp::Gt,
                "<" => BinaryOp::Lt,
                ">=" => BinaryOp::Ge,
                "<=" => BinaryOp::Le,
                "</" => BinaryOp::TrimUpper,
                ">/" => BinaryOp::TrimLower,
                _ => return None,
            }),
            Tok::Ident => match self.word()?.as_str() {
                "and" => Some(BinaryOp::And),
                "or" => Some(BinaryOp::Or),
                "unless" => Some(BinaryOp::Unless),
                "atan2" => Some(BinaryOp::Atan2),
                _ => None,
            },
            _ => None,
        }
    }

    fn modifiers(&mut self, op: BinaryOp) -> Parsed<(bool, VectorMatching)> {
        let card = if op.is_set() { Cardinality::ManyToMany } else { Cardinality::OneToOne };
        let mut matching = VectorMatching {
            card,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        let return_bool = self.take_word("bool");
        let is_on = match self.word().as_deref() {
            Some("on") => Some(true),
            Some("ignoring") => Some(false),
            _ => None,
        };
        if let Some(on) = is_on {
            matching.on = on;
            self.advance();
            matching.labels = self.grouping_labels()?;
            let side = match self.word().as_deref() {
                Some("group_left") => Some(Cardinality::ManyToOne),
                Some("group_right") => Some(Cardinality::OneToMany),
                _ => None,
            };
            if let Some(side) = side {
                matching.card = side;
                self.advance();
                if self.at_op("(") {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        self.fills(&mut matching)?;
        Ok((return_bool, matching))
    }

    /// `fill (1)`, or `fill_left (1)` and `fill_right (2)` in any order.
    fn fills(&mut self, matching: &mut VectorMatching) -> Parsed<()> {
        while *self.peek_second() == Tok::Op("(") {
            let (left, right) = match self.word().as_deref() {
                Some("fill") => (true, true),
                Some("fill_left") => (true, false),
                Some("fill_right") => (false, true),
                _ => return Ok(()),
            };
            if (left && matching.fill_left.is_some()) || (right && matching.fill_right.is_some()) {
                return Err(self.unexpected("", ""));
            }
            self.advance();
            self.advance();
            let negative = self.at_op("-");
            if negative || self.at_op("+") {
                self.advance();
            }
            let value = match self.peek().tok {
                Tok::Number(value) => value,
                Tok::Duration(ms) => ms as f64 / 1000.0,
                _ => return Err(self.unexpected("fill modifier", "number")),
            };
            self.advance();
            if !self.take_op(")") {
                return Err(self.unexpected("fill modifier", "\")\""));
            }
            let value = Some(if negative { -value } else { value });
            matching.fill_left = if left { value } else { matching.fill_left };
            matching.fill_right = if right { value } else { matching.fill_right };
        }
        Ok(())
    }

    /// What has the operator's own position in its message.
    fn check_modifiers(&self, binary: &Binary, op: &Token) -> Parsed<()> {
        let scalar = |e: &Expr| e.value_type() == ValueType::Scalar;
        if binary.return_bool && !binary.op.is_comparison() {
            return Err(self.error(op.start, op.end, "bool modifier can only be used on comparison operators"));
        }
        if binary.op.is_comparison() && !binary.return_bool && scalar(&binary.lhs) && scalar(&binary.rhs) {
            return Err(self.error(op.start, op.end, "comparisons between scalars must use BOOL modifier"));
        }
        let Some(matching) = binary.matching.as_ref().filter(|m| m.on) else { return Ok(()) };
        match matching.labels.iter().find(|l| matching.include.contains(l)) {
            Some(label) => {
                let message = format!("label {} must not occur in ON and GROUP clause at once", go_string(label));
                Err(self.error(op.start, op.end, message))
            }
            None => Ok(()),
        }
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let start = self.peek().start;
        let negative = match self.peek().tok {
            Tok::Op("-") => true,
            Tok::Op("+") => false,
            _ => return self.postfix(),
        };
        self.advance();
        // As tight as `*`: `-1 ^ 2` is `-(1 ^ 2)`, `-a * b` is `(-a) * b`.
        let inner = self.expr(BinaryOp::Pow.precedence())?;
        let kind = match inner.kind {
            ExprKind::Number(value) => ExprKind::Number(if negative { -value } else { value }),
            _ => ExprKind::Unary { negative, expr: Box::new(inner) },
        };
        self.node(kind, start)
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let mut expr = self.primary()?;
        loop {
            if self.at_op("[") {
                expr = self.brackets(expr)?;
            } else if self.at_op("@") {
                expr = self.at_modifier(expr)?;
            } else if self.word().as_deref() == Some("offset") {
                expr = self.offset_modifier(expr)?;
            } else if let Some(extended) = self.extended_word() {
                expr = self.extended_modifier(expr, extended)?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.peek().clone();
        match token.tok {
            Tok::Number(value) => {
                self.advance();
                self.node(ExprKind::Number(value), token.start)
            }
            Tok::Duration(ms) => {
                self.advance();
                self.node(ExprKind::Number(ms as f64 / 1000.0), token.start)
            }
            Tok::Str(value) => {
                self.advance();
                self.node(ExprKind::String(value), token.start)
            }
            Tok::Op("(") => {
                self.advance();
                let inner = self.expr(0)?;
                if !self.take_op(")") {
                    return Err(self.unexpected("", ""));
                }
                self.node(ExprKind::Paren(Box::new(inner)), token.start)
            }
            Tok::Op("{") => self.selector(None, token.start),
            Tok::MetricIdent => {
                self.advance();
                self.selector(Some(&token), token.start)
            }
            Tok::Ident => self.word_expr(&token),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// An aggregation, a call, or a metric whose name looks like a word of the language.
    fn word_expr(&mut self, token: &Token) -> Parsed<Expr> {
        let word = self.text[token.start..token.end].to_ascii_lowercase();
        let called = *self.peek_second() == Tok::Op("(");
        if let Some(op) = aggregate_op(&word) {
            let saved = self.idx;
            self.advance();
            if called || matches!(self.word().as_deref(), Some("by" | "without")) {
                return self.aggregate(op, token.start);
            }
            self.idx = saved;
        } else if matches!(word.as_str(), "on" | "ignoring" | "group_left" | "group_right" | "atan2") {
            return Err(self.unexpected("", ""));
        } else if called && !KEYWORDS.contains(&word.as_str()) {
            return self.call(token);
        }
        self.advance();
        self.selector(Some(token), token.start)
    }

    fn call(&mut self, name: &Token) -> Parsed<Expr> {
        let text = &self.text[name.start..name.end];
        let Some(function) = function::find(text) else {
            let message = format!("unknown function with name {}", go_string(text));
            return Err(self.error(name.start, name.end, message));
        };
        self.advance();
        let args = self.args()?;
        self.node(ExprKind::Call(Call { function, args }), name.start)
    }

    fn args(&mut self) -> Parsed<Vec<Expr>> {
        self.advance(); // the parenthesis that the caller saw
        let mut args = Vec::new();
        if self.take_op(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr(0)?);
            let comma = self.peek().clone();
            if self.take_op(")") {
                return Ok(args);
            }
            if !self.take_op(",") {
                return Err(self.unexpected("", ""));
            }
            if self.at_op(")") {
                let message = "trailing commas not allowed in function call args";
                return Err(self.error(comma.start, comma.end, message));
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp, start: usize) -> Parsed<Expr> {
        let before = self.aggregate_modifier()?;
        if !self.at_op("(") {
            return Err(self.unexpected("aggregation", ""));
        }
        let mut args = self.args()?;
        let args_end = self.prev_end();
        let modifier = match before {
            Some(modifier) => Some(modifier),
            None => self.aggregate_modifier()?,
        };
        let (without, grouping) = modifier.unwrap_or_default();
        let want = if op.takes_param() { 2 } else { 1 };
        let got = args.len();
        match (args.pop(), args.pop()) {
            (None, _) => {
                let message = "no arguments for aggregate expression provided";
                Err(self.error(start, args_end, message))
            }
            (Some(expr), param) if got == want => {
                let (expr, param) = (Box::new(expr), param.map(Box::new));
                self.node(ExprKind::Aggregate(Aggregate { op, expr, param, grouping, without }), start)
            }
            _ => {
                let message =
                    format!("wrong number of arguments for aggregate expression provided, expected {want}, got {got}");
                Err(self.error(start, args_end, message))
            }
        }
    }

    /// `by (…)` or `without (…)`: whether it is the second, and the labels.
    fn aggregate_modifier(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let without = match self.word().as_deref() {
            Some("by") => false,
            Some("without") => true,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some((without, self.grouping_labels()?)))
    }

    fn grouping_labels(&mut self) -> Parsed<Vec<String>> {
        if !self.take_op("(") {
            return Err(self.unexpected("grouping opts", "\"(\""));
        }
        let mut labels = Vec::new();
        while !self.take_op(")") {
            let token = self.peek().clone();
            match token.tok {
                Tok::Ident => labels.push(self.text[token.start..token.end].to_owned()),
                // `inf` and `nan` are labels like any other here.
                Tok::Number(_) if self.text[token.start..].starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    labels.push(self.text[token.start..token.end].to_owned());
                }
                Tok::Str(name) if !name.is_empty() => labels.push(name),
                _ => return Err(self.unexpected("grouping opts", "label")),
            }
            self.advance();
            if !self.take_op(",") && !self.at_op(")") {
                return Err(self.unexpected("grouping opts", "\",\" or \")\""));
            }
        }
        Ok(labels)
    }

    // ---- selectors ---------------------------------------------------------------------------

    fn selector(&mut self, name: Option<&Token>, start: usize) -> Parsed<Expr> {
        let name = name.map(|t| self.text[t.start..t.end].to_owned());
        let mut matchers = if self.at_op("{") { self.label_matchers()? } else { Vec::new() };
        if let Some(name) = &name {
            if let Some(second) = matchers.iter().find(|m| m.name == METRIC_NAME) {
                let (first, second) = (go_string(name), go_string(&second.value));
                let message = format!("metric name must not be set twice: {first} or {second}");
                return Err(self.error(start, self.prev_end(), message));
            }
            matchers.push(Matcher::equal(METRIC_NAME, name.clone()));
        }
        self.node(ExprKind::Vector(VectorSelector { name, matchers, ..VectorSelector::default() }), start)
    }

    fn label_matchers(&mut self) -> Parsed<Vec<Matcher>> {
        const CONTEXT: &str = "label matching";
        self.advance();
        let mut matchers = Vec::new();
        while !self.take_op("}") {
            let token = self.peek().clone();
            let (label, quoted) = match token.tok {
                Tok::Ident => (self.text[token.start..token.end].to_owned(), false),
                Tok::Str(ref text) => (text.clone(), true),
                _ => return Err(self.unexpected(CONTEXT, "identifier or \"}\"")),
            };
            self.advance();
            if quoted && (self.at_op(",") || self.at_op("}")) {
                if let Some(first) = matchers.iter().find(|m: &&Matcher| m.name == METRIC_NAME) {
                    let (first, second) = (go_string(&first.value), go_string(&label));
                    let message = format!("metric name must not be set twice: {first} or {second}");
                    return Err(self.error(token.start, token.end, message));
                }
                matchers.push(Matcher::equal(METRIC_NAME, label));
            } else {
                matchers.push(self.label_matcher(label, &token)?);
            }
            if !self.take_op(",") && !self.at_op("}") {
                return Err(self.unexpected(CONTEXT, "\",\" or \"}\""));
            }
        }
        Ok(matchers)
    }

    fn label_matcher(&mut self, label: String, at: &Token) -> Parsed<Matcher> {
        const CONTEXT: &str = "label matching";
        let op = match self.peek().tok {
            Tok::Op("=") => MatchOp::Equal,
            Tok::Op("!=") => MatchOp::NotEqual,
            Tok::Op("=~") => MatchOp::Regex,
            Tok::Op("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected(CONTEXT, "label matching operator")),
        };
        self.advance();
        let Tok::Str(value) = self.peek().tok.clone() else { return Err(self.unexpected(CONTEXT, "string")) };
        let value_token = self.advance();
        Matcher::new(label, op, value).map_err(|e| self.error(at.start, value_token.end, e.to_string()))
    }

    // ---- ranges, offsets, @ ------------------------------------------------------------------

    fn brackets(&mut self, expr: Expr) -> Parsed<Expr> {
        let open = self.advance();
        let (range, range_expr) = self.positive_duration("subquery or range selector")?;
        let start = expr.span.start;
        if self.take_op(":") {
            let (step, step_expr) = match self.at_op("]") {
                true => (None, None),
                false => {
                    let (step, written) = self.positive_duration("subquery selector")?;
                    (Some(step), written)
                }
            };
            self.close_bracket("subquery selector")?;
            let expr = Box::new(expr);
            let sub = Subquery { expr, range, step, offset_ms: 0, at: None, range_expr, step_expr, offset_expr: None };
            return self.node(ExprKind::Subquery(sub), start);
        }
        self.close_bracket("subquery or range")?;
        let message = match expr.kind {
            ExprKind::Vector(mut selector) if selector.at.is_none() && !selector.has_offset() => {
                selector.range_expr = range_expr;
                return self.node(ExprKind::Matrix(selector, range), start);
            }
            ExprKind::Vector(selector) if selector.at.is_some() => "no @ modifiers allowed before range",
            ExprKind::Vector(_) => "no offset modifiers allowed before range",
            _ => "ranges only allowed for vector selectors",
        };
        Err(self.error(open.start, self.prev_end(), message))
    }

    fn close_bracket(&mut self, context: &str) -> Parsed<()> {
        if self.take_op("]") { Ok(()) } else { Err(self.unexpected(context, "\"]\"")) }
    }

    // ---- durations ---------------------------------------------------------------------------

    /// A positive duration, and how it was written where that was an expression. One that depends
    /// on the query's times stands at a second until they are known.
    fn positive_duration(&mut self, context: &str) -> Parsed<(Duration, Option<Box<DurationExpr>>)> {
        let token = self.peek().clone();
        let written = self.duration_expr(context, 0)?;
        if let DurationExpr::Literal(secs, _) = written {
            let ms = self.literal_ms(&token, secs)?;
            return match u64::try_from(ms) {
                Ok(ms) if ms > 0 => Ok((Duration::from_millis(ms), None)),
                _ => Err(self.error(token.start, token.end, "duration must be greater than 0")),
            };
        }
        Ok((Duration::from_secs(1), Some(Box::new(written))))
    }

    fn literal_ms(&self, token: &Token, secs: f64) -> Parsed<i64> {
        if (secs * 1000.0).abs() < i64::MAX as f64 / 1e6 {
            return Ok((secs * 1000.0).round() as i64);
        }
        Err(self.error(token.start, token.end, "duration out of range"))
    }

    fn duration_expr(&mut self, context: &str, min_precedence: u8) -> Parsed<DurationExpr> {
        self.nesting += 1;
        if self.nesting > Expr::MAX_DEPTH {
            return Err(self.unexpected("", ""));
        }
        let mut lhs = self.duration_operand(context)?;
        while let Some(op) = self.binary_op() {
            let arithmetic = matches!(
                op,
                BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Pow
            );
            if !arithmetic || op.precedence() < min_precedence {
                break;
            }
            let token = self.advance();
            let right_min = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let rhs = self.duration_expr(context, right_min)?;
            if let DurationExpr::Literal(0.0, _) = rhs {
                match op {
                    BinaryOp::Div => return Err(self.error(token.start, token.end, "division by zero")),
                    BinaryOp::Mod => return Err(self.error(token.start, token.end, "modulo by zero")),
                    _ => {}
                }
            }
            lhs = DurationExpr::Binary(op, Box::new(lhs), Box::new(rhs));
        }
        self.nesting -= 1;
        Ok(lhs)
    }

    fn duration_operand(&mut self, context: &str) -> Parsed<DurationExpr> {
        let token = self.peek().clone();
        match token.tok {
            Tok::Number(secs) => {
                self.advance();
                self.literal_ms(&token, secs)?;
                Ok(DurationExpr::Literal(secs, false))
            }
            Tok::Duration(ms) => {
                self.advance();
                Ok(DurationExpr::Literal(ms as f64 / 1000.0, true))
            }
            Tok::Op(sign @ ("-" | "+")) => {
                self.advance();
                let negative = sign == "-";
                Ok(match self.duration_expr(context, BinaryOp::Mul.precedence() + 1)? {
                    DurationExpr::Literal(secs, units) => {
                        DurationExpr::Literal(if negative { -secs } else { secs }, units)
                    }
                    inner => DurationExpr::Unary { negative, expr: Box::new(inner) },
                })
            }
            Tok::Op("(") => {
                self.advance();
                let inner = self.duration_expr(context, 0)?;
                if !self.take_op(")") {
                    return Err(self.unexpected(context, "\")\""));
                }
                Ok(DurationExpr::Paren(Box::new(inner)))
            }
            Tok::Ident => self.duration_call(context),
            _ => Err(self.unexpected(context, "number, duration, step(), or range()")),
        }
    }

    fn duration_call(&mut self, context: &str) -> Parsed<DurationExpr> {
        let word = self.word().unwrap_or_default();
        if !matches!(word.as_str(), "step" | "range" | "min_of" | "max_of") {
            return Err(self.unexpected(context, "number, duration, step(), or range()"));
        }
        self.advance();
        if !self.take_op("(") {
            return Err(self.unexpected(context, "\"(\""));
        }
        let expr = match word.as_str() {
            "step" => DurationExpr::Step,
            "range" => DurationExpr::Range,
            _ => {
                let a = Box::new(self.duration_expr(context, 0)?);
                if !self.take_op(",") {
                    return Err(self.unexpected(context, "\",\""));
                }
                let b = Box::new(self.duration_expr(context, 0)?);
                if word == "min_of" { DurationExpr::MinOf(a, b) } else { DurationExpr::MaxOf(a, b) }
            }
        };
        if !self.take_op(")") {
            return Err(self.unexpected(context, "\")\""));
        }
        Ok(expr)
    }

    /// After `offset` an operator ends the duration, unless it stands in parentheses.
    fn offset_duration(&mut self) -> Parsed<(i64, Option<Box<DurationExpr>>)> {
        let token = self.peek().clone();
        let negative = self.at_op("-");
        if negative || self.at_op("+") {
            self.advance();
        }
        let signed = !matches!(token.tok, Tok::Op("-" | "+"));
        let written = self.duration_operand("offset")?;
        Ok(match written {
            DurationExpr::Literal(secs, _) => (self.literal_ms(&token, if negative { -secs } else { secs })?, None),
            written if signed => (0, Some(Box::new(written))),
            written => (0, Some(Box::new(DurationExpr::Unary { negative, expr: Box::new(written) }))),
        })
    }

    fn extended_word(&self) -> Option<Extended> {
        match self.word()?.as_str() {
            "anchored" => Some(Extended::Anchored),
            "smoothed" => Some(Extended::Smoothed),
            _ => None,
        }
    }

    fn extended_modifier(&mut self, mut expr: Expr, extended: Extended) -> Parsed<Expr> {
        self.advance();
        let (span, word) = (expr.span, extended.as_str());
        let selector = match &mut expr.kind {
            ExprKind::Vector(selector) | ExprKind::Matrix(selector, _) => selector,
            ExprKind::Subquery(_) => {
                return Err(self.error_at(span, format!("{word} modifier is not supported for subqueries")));
            }
            _ => return Err(self.error_at(span, format!("{word} modifier not implemented"))),
        };
        if selector.extended.is_some_and(|known| known != extended) {
            return Err(self.error_at(span, "anchored and smoothed modifiers cannot be used together"));
        }
        selector.extended = Some(extended);
        expr.span.end = self.prev_end();
        Ok(expr)
    }

    fn offset_modifier(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.advance();
        let (ms, written) = self.offset_duration()?;
        let span = expr.span;
        let (offset, offset_expr) = match &mut expr.kind {
            ExprKind::Vector(selector) | ExprKind::Matrix(selector, _) => {
                (&mut selector.offset_ms, &mut selector.offset_expr)
            }
            ExprKind::Subquery(subquery) => (&mut subquery.offset_ms, &mut subquery.offset_expr),
            _ => {
                let message = "offset modifier must be preceded by an instant vector selector or range vector \
                               selector or a subquery";
                return Err(self.error_at(span, message));
            }
        };
        if *offset != 0 || offset_expr.is_some() {
            return Err(self.error_at(span, "offset may not be set multiple times"));
        }
        (*offset, *offset_expr) = (ms, written);
        expr.span.end = self.prev_end();
        Ok(expr)
    }

    fn at_modifier(&mut self, mut expr: Expr) -> Parsed<Expr> {
        self.advance();
        let value = self.at_value()?;
        let span = expr.span;
        let at = match &mut expr.kind {
            ExprKind::Vector(selector) | ExprKind::Matrix(selector, _) => &mut selector.at,
            ExprKind::Subquery(subquery) => &mut subquery.at,
            _ => {
                let message = "@ modifier must be preceded by an instant vector selector or range vector selector \
                               or a subquery";
                return Err(self.error_at(span, message));
            }
        };
        if at.is_some() {
            return Err(self.error_at(span, "@ <timestamp> may not be set multiple times"));
        }
        *at = Some(value);
        expr.span.end = self.prev_end();
        Ok(expr)
    }

    fn at_value(&mut self) -> Parsed<At> {
        let preprocessor = match self.word().as_deref() {
            Some("start") => Some(At::Start),
            Some("end") => Some(At::End),
            _ => None,
        };
        if let Some(at) = preprocessor {
            self.advance();
            if !self.take_op("(") || !self.take_op(")") {
                return Err(self.unexpected("@", ""));
            }
            return Ok(at);
        }
        let sign = match self.peek().tok {
            Tok::Op("-") => -1.0,
            Tok::Op("+") => 1.0,
            _ => 0.0,
        };
        if sign != 0.0 {
            self.advance();
        }
        let token = self.peek().clone();
        let seconds = match token.tok {
            Tok::Number(value) => value,
            Tok::Duration(ms) => ms as f64 / 1000.0,
            _ => return Err(self.unexpected("@", "timestamp")),
        };
        self.advance();
        let ms = seconds * 1000.0 * if sign < 0.0 { -1.0 } else { 1.0 };
        if !ms.is_finite() || ms.abs() >= i64::MAX as f64 {
            let message = format!("timestamp out of bounds for @ modifier: {seconds:.6}");
            return Err(self.error(token.start, token.end, message));
        }
        Ok(At::Time(Timestamp(ms.round() as i64)))
    }
}

fn aggregate_op(word: &str) -> Option<AggregateOp> {
    AggregateOp::ALL.iter().find(|(name, _)| *name == word).map(|(_, op)| *op)
}
