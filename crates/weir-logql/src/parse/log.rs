//! Selectors and pipeline stages.

use weir_model::{MatchOp, Matcher};

use super::lexer::Token;
use super::{ParseError, Parser};
use crate::ast::{LabelFormat, LabelPick, LineFilter, LineOp, LogExpr, Needle, Stage};
use crate::pipeline::ip::IpMatcher;
use crate::pipeline::json;
use crate::pipeline::line_pattern::LinePattern;
use crate::pipeline::pattern::PatternParser;
use crate::pipeline::template::LineTemplate;

impl Parser<'_> {
    pub(super) fn log_expr(&mut self) -> Result<LogExpr, ParseError> {
        let matchers = self.checked_selector()?;
        let stages = self.stages()?;
        if self.take_op("|") {
            return Err(self.error("unwrap stands only inside a range aggregation"));
        }
        Ok(LogExpr { matchers, stages })
    }

    /// A selector of a query: at least one matcher rejects the empty string.
    pub(super) fn checked_selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        let start = self.offset();
        let matchers = self.selector()?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(self.error_at(
                start,
                "queries require at least one regexp or equality matcher that does not have an empty-compatible \
                 value. For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
            ));
        }
        Ok(matchers)
    }

    pub(super) fn selector(&mut self) -> Result<Vec<Matcher>, ParseError> {
        self.expect_op("{")?;
        let mut matchers = Vec::new();
        while !self.take_op("}") {
            if !matchers.is_empty() {
                self.expect_op(",")?;
                if self.take_op("}") {
                    break;
                }
            }
            let name = match self.peek() {
                Token::Str(_) => self.string()?,
                Token::Ident(_) => self.ident()?,
                _ => return Err(self.unexpected("IDENTIFIER or }")),
            };
            let op = self.match_op()?;
            let at = self.offset();
            let value = self.string()?;
            matchers.push(Matcher::new(name, op, value).map_err(|e| self.error_at(at, e.to_string()))?);
        }
        Ok(matchers)
    }

    pub(super) fn match_op(&mut self) -> Result<MatchOp, ParseError> {
        let op = match self.peek() {
            Token::Op("=") => MatchOp::Equal,
            Token::Op("!=") => MatchOp::NotEqual,
            Token::Op("=~") => MatchOp::Regex,
            Token::Op("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected("= or != or =~ or !~")),
        };
        self.advance();
        Ok(op)
    }

    pub(super) fn stages(&mut self) -> Result<Vec<Stage>, ParseError> {
        let mut stages = Vec::new();
        loop {
            if let Some(op) = self.line_op() {
                self.advance();
                stages.push(Stage::Line(self.line_filter(op)?));
            } else if self.is_op("|") && !matches!(self.peek_at(1), Token::Ident(w) if w == "unwrap") {
                self.advance();
                stages.push(self.stage()?);
            } else {
                return Ok(stages);
            }
        }
    }

    fn line_op(&self) -> Option<LineOp> {
        Some(match self.peek() {
            Token::Op("|=") => LineOp::Contains,
            Token::Op("!=") => LineOp::NotContains,
            Token::Op("|~") => LineOp::Regex,
            Token::Op("!~") => LineOp::NotRegex,
            Token::Op("|>") => LineOp::Pattern,
            Token::Op("!>") => LineOp::NotPattern,
            _ => return None,
        })
    }

    fn line_filter(&mut self, op: LineOp) -> Result<LineFilter, ParseError> {
        let mut needles = vec![self.needle(op)?];
        while self.take_word("or") {
            needles.push(self.needle(op)?);
        }
        Ok(LineFilter { op, needles })
    }

    fn needle(&mut self, op: LineOp) -> Result<Needle, ParseError> {
        if matches!(op, LineOp::Contains | LineOp::NotContains) && self.is_word("ip") {
            self.advance();
            return Ok(Needle::Ip(self.ip_argument()?));
        }
        let at = self.offset();
        let text = self.string()?;
        Ok(match op {
            LineOp::Contains | LineOp::NotContains => Needle::Text(text),
            LineOp::Regex | LineOp::NotRegex => {
                Needle::Regex(weir_go::regex(&text).map_err(|e| self.error_at(at, e.to_string()))?)
            }
            LineOp::Pattern | LineOp::NotPattern => Needle::Pattern(
                LinePattern::parse(&text)
                    .ok_or_else(|| self.error_at(at, "two wildcards side by side in a line pattern"))?,
            ),
        })
    }

    /// `("10.0.0.0/8")`.
    pub(super) fn ip_argument(&mut self) -> Result<IpMatcher, ParseError> {
        self.expect_op("(")?;
        let at = self.offset();
        let text = self.string()?;
        let ip = IpMatcher::parse(&text)
            .ok_or_else(|| self.error_at(at, format!("ip: `{text}` is no address, range (a-b) or network (a/bits)")))?;
        self.expect_op(")")?;
        Ok(ip)
    }

    /// What follows a `|`.
    fn stage(&mut self) -> Result<Stage, ParseError> {
        let Token::Ident(word) = self.peek().clone() else {
            return if self.is_op("(") {
                Ok(Stage::Label(self.label_filter()?))
            } else {
                Err(self.unexpected("a stage"))
            };
        };
        if self.comparison_follows() {
            return Ok(Stage::Label(self.label_filter()?));
        }
        let at = self.offset();
        self.advance();
        Ok(match word.as_str() {
            "json" => Stage::Json(self.json_fields()?),
            "logfmt" => self.logfmt()?,
            "pattern" => {
                let at = self.offset();
                let text = self.string()?;
                Stage::Pattern(
                    PatternParser::parse(&text).map_err(|e| self.error_at(at, format!("invalid pattern: {e}")))?,
                )
            }
            "regexp" => {
                let at = self.offset();
                let text = self.string()?;
                let regex = weir_go::regex(&text).map_err(|e| self.error_at(at, e.to_string()))?;
                if regex.capture_names().flatten().next().is_none() {
                    return Err(self.error_at(at, "at least one named capture must be supplied"));
                }
                Stage::Regexp(regex)
            }
            "unpack" => Stage::Unpack,
            "decolorize" => Stage::Decolorize,
            "drop" => Stage::Drop(self.picks()?),
            "keep" => Stage::Keep(self.picks()?),
            "label_format" => Stage::LabelFormat(self.label_format()?),
            "line_format" => Stage::LineFormat(self.template()?),
            _ => {
                return Err(
                    self.error_at(at, format!("syntax error: unexpected IDENTIFIER `{word}`, expecting a stage"))
                );
            }
        })
    }

    /// Whether the identifier here is a label compared with something.
    fn comparison_follows(&self) -> bool {
        matches!(self.peek_at(1), Token::Op("=" | "==" | "!=" | "=~" | "!~" | ">" | ">=" | "<" | "<="))
    }

    fn json_fields(&mut self) -> Result<Vec<(String, json::JsonPath, String)>, ParseError> {
        let mut fields = Vec::new();
        while matches!(self.peek(), Token::Ident(_)) {
            let label = self.ident()?;
            let at = self.offset();
            let source = if self.take_op("=") { self.string()? } else { label.clone() };
            let path = json::parse_path(&source).map_err(|e| self.error_at(at, e))?;
            fields.push((label, path, source));
            if !self.take_op(",") {
                break;
            }
        }
        Ok(fields)
    }

    fn logfmt(&mut self) -> Result<Stage, ParseError> {
        let (mut strict, mut keep_empty) = (false, false);
        while let Token::Flag(flag) = self.peek() {
            match *flag {
                "--strict" => strict = true,
                _ => keep_empty = true,
            }
            self.advance();
        }
        let mut fields = Vec::new();
        while matches!(self.peek(), Token::Ident(_)) {
            let label = self.ident()?;
            let key = if self.take_op("=") { self.string()? } else { label.clone() };
            fields.push((label, key));
            if !self.take_op(",") {
                break;
            }
        }
        Ok(Stage::Logfmt { strict, keep_empty, fields })
    }

    fn picks(&mut self) -> Result<Vec<LabelPick>, ParseError> {
        let mut picks = Vec::new();
        loop {
            let name = self.ident()?;
            let matcher = if matches!(self.peek(), Token::Op("=" | "!=" | "=~" | "!~")) {
                let op = self.match_op()?;
                let at = self.offset();
                let value = self.string()?;
                Some(Matcher::new(name.clone(), op, value).map_err(|e| self.error_at(at, e.to_string()))?)
            } else {
                None
            };
            picks.push(LabelPick { name, matcher });
            if !self.take_op(",") {
                return Ok(picks);
            }
        }
    }

    fn template(&mut self) -> Result<LineTemplate, ParseError> {
        let at = self.offset();
        let source = self.string()?;
        LineTemplate::parse(&source).map_err(|e| self.error_at(at, format!("invalid template: {e}")))
    }

    fn label_format(&mut self) -> Result<Vec<LabelFormat>, ParseError> {
        let mut formats: Vec<LabelFormat> = Vec::new();
        loop {
            let at = self.offset();
            let to = self.ident()?;
            self.expect_op("=")?;
            if to == "__error__" {
                return Err(self.error_at(at, "__error__ cannot be formatted"));
            }
            if formats.iter().any(|f| f.to() == to) {
                let message = format!("multiple label name '{to}' not allowed in a single format operation");
                return Err(self.error_at(at, message));
            }
            formats.push(if matches!(self.peek(), Token::Str(_)) {
                LabelFormat::Template { to, template: self.template()? }
            } else {
                LabelFormat::Rename { to, from: self.ident()? }
            });
            if !self.take_op(",") {
                return Ok(formats);
            }
        }
    }
}
