//! Tokens to a tree; unknown functions, undefined variables and unclosed blocks are found here.

use std::collections::BTreeMap;

use super::TemplateError;
use super::builtin::Functions;
use super::lex::{Spanned, Token, lex};
use super::value::Value;

/// Deepest nesting of blocks and parentheses, which bounds the stack of parser and renderer.
const NESTING_MAX: usize = 60;

#[derive(Debug, Default)]
pub(super) struct Block(pub Vec<Node>);

impl Block {
    pub fn is_blank(&self) -> bool {
        self.0.iter().all(|n| matches!(n, Node::Text(t) if t.trim().is_empty()))
    }
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    /// `if` and `with`: the first pipe that is true wins; `with` also sets the dot.
    Branch {
        with: bool,
        arms: Vec<(Pipe, Block)>,
        otherwise: Block,
    },
    Range {
        pipe: Pipe,
        body: Block,
        otherwise: Block,
    },
    Template {
        name: String,
        line: usize,
        argument: Option<Pipe>,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub line: usize,
    /// Variables set by `:=` or `=`; two only in `range`.
    pub variables: Vec<String>,
    pub declares: bool,
    pub commands: Vec<Vec<Operand>>,
}

#[derive(Debug)]
pub(super) enum Operand {
    Dot,
    Constant(Value),
    Function(String),
    Variable(String),
    Pipe(Box<Pipe>),
    /// Fields or methods of the operand, left to right.
    Fields(Box<Operand>, Vec<String>),
}

pub(super) struct Parsed {
    pub body: Block,
    pub defined: BTreeMap<String, Block>,
}

pub(super) fn parse(name: &str, text: &str, functions: &Functions) -> Result<Parsed, TemplateError> {
    let fail = |line: usize, reason: String| TemplateError { name: name.to_owned(), line, reason };
    let tokens = lex(text).map_err(|e| fail(e.line, e.reason))?;
    let lines = 1 + text.bytes().filter(|b| *b == b'\n').count();
    let mut parser = Parser {
        tokens,
        at: 0,
        functions,
        variables: vec!["$".to_owned()],
        defined: BTreeMap::new(),
        line: 1,
        last_line: lines,
        depth: 0,
        loops: 0,
    };
    let result = parser.block().and_then(|(body, end)| match end {
        Ended::Text => Ok(body),
        other => Err(format!("unexpected {}", other.as_str())),
    });
    match result {
        Ok(body) => Ok(Parsed { body, defined: parser.defined }),
        Err(reason) => Err(fail(parser.line, reason)),
    }
}

/// What ended a block.
#[derive(PartialEq)]
enum Ended {
    Text,
    Body,
    /// `{{else`, with what follows still to be read.
    Else,
}

impl Ended {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Text => "end of text",
            Self::Body => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

struct Parser<'a> {
    tokens: Vec<Spanned>,
    /// Index of the next token.
    at: usize,
    functions: &'a Functions,
    variables: Vec<String>,
    defined: BTreeMap<String, Block>,
    line: usize,
    last_line: usize,
    depth: usize,
    loops: usize,
}

type Result_<T> = Result<T, String>;

impl Parser<'_> {
    fn next(&mut self) -> Result_<Token> {
        match self.tokens.get(self.at) {
            Some(spanned) => {
                self.at += 1;
                self.line = spanned.line;
                Ok(spanned.token.clone())
            }
            None => {
                self.line = self.last_line;
                Err("unexpected end of text".to_owned())
            }
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|s| &s.token)
    }

    fn take(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn expect_close(&mut self, context: &str) -> Result_<()> {
        match self.next()? {
            Token::Close => Ok(()),
            other => Err(format!("unexpected {} in {context}", show(&other))),
        }
    }

    /// Variables and nesting of a block end with it.
    fn scoped<T>(&mut self, run: impl FnOnce(&mut Self) -> Result_<T>) -> Result_<T> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(format!("nested deeper than {NESTING_MAX} levels"));
        }
        let n_variables = self.variables.len();
        let result = run(self)?;
        self.variables.truncate(n_variables);
        self.depth -= 1;
        Ok(result)
    }

    fn block(&mut self) -> Result_<(Block, Ended)> {
        let mut nodes = Vec::new();
        while self.peek().is_some() {
            match self.next()? {
                Token::Text(text) => nodes.push(Node::Text(text)),
                Token::Open => {
                    let keyword = match self.peek() {
                        Some(Token::Ident(word)) => word.clone(),
                        _ => String::new(),
                    };
                    match &*keyword {
                        "end" => {
                            self.next()?;
                            self.expect_close("end")?;
                            return Ok((Block(nodes), Ended::Body));
                        }
                        "else" => {
                            self.next()?;
                            return Ok((Block(nodes), Ended::Else));
                        }
                        _ => nodes.extend(self.action(&keyword)?),
                    }
                }
                other => return Err(format!("unexpected {}", show(&other))),
            }
        }
        self.line = self.last_line;
        Ok((Block(nodes), Ended::Text))
    }

    fn action(&mut self, keyword: &str) -> Result_<Option<Node>> {
        if !matches!(keyword, "if" | "with" | "range" | "define" | "block" | "template" | "break" | "continue") {
            let pipe = self.pipe("command", false)?;
            self.expect_close("command")?;
            return Ok(Some(Node::Action(pipe)));
        }
        self.next()?;
        Ok(Some(match keyword {
            "if" => self.scoped(|p| p.branch(false))?,
            "with" => self.scoped(|p| p.branch(true))?,
            "range" => self.scoped(Self::range)?,
            "define" => {
                let name = self.template_name("define")?;
                self.expect_close("define clause")?;
                let body = self.separate_body("define")?;
                self.defined.insert(name, body);
                return Ok(None);
            }
            "block" => {
                let (name, line) = (self.template_name("block")?, self.line);
                let argument = Some(self.pipe("block clause", false)?);
                self.expect_close("block clause")?;
                let body = self.separate_body("block")?;
                self.defined.insert(name.clone(), body);
                Node::Template { name, line, argument }
            }
            "template" => {
                let (name, line) = (self.template_name("template")?, self.line);
                let argument =
                    if self.peek() == Some(&Token::Close) { None } else { Some(self.pipe("template clause", false)?) };
                self.expect_close("template clause")?;
                Node::Template { name, line, argument }
            }
            word => {
                self.expect_close(word)?;
                if self.loops == 0 {
                    return Err(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                if word == "break" { Node::Break } else { Node::Continue }
            }
        }))
    }

    fn template_name(&mut self, context: &str) -> Result_<String> {
        match self.next()? {
            Token::Str(name) => Ok(name),
            other => Err(format!("unexpected {} in {context} clause; a quoted name belongs there", show(&other))),
        }
    }

    /// The body of `define` or `block`, which sees no variables and no loop around it.
    fn separate_body(&mut self, context: &str) -> Result_<Block> {
        let outer = (std::mem::replace(&mut self.variables, vec!["$".to_owned()]), std::mem::take(&mut self.loops));
        let body = self.scoped(Self::block)?;
        (self.variables, self.loops) = outer;
        match body {
            (body, Ended::Body) => Ok(body),
            (_, other) => Err(format!("unexpected {} in {context} clause", other.as_str())),
        }
    }

    /// After `if` or `with`.
    fn branch(&mut self, with: bool) -> Result_<Node> {
        let context = if with { "with" } else { "if" };
        let mut arms = Vec::new();
        let mut otherwise = Block::default();
        loop {
            let pipe = self.pipe(context, false)?;
            self.expect_close(context)?;
            let (body, end) = self.block()?;
            arms.push((pipe, body));
            match end {
                Ended::Body => break,
                Ended::Text => return Err(format!("unclosed {{{{{context}}}}}: unexpected end of text")),
                Ended::Else if self.peek() == Some(&Token::Ident(context.to_owned())) => {
                    self.next()?;
                }
                Ended::Else => {
                    self.expect_close("else")?;
                    let (body, end) = self.block()?;
                    if end != Ended::Body {
                        return Err(format!("expected {{{{end}}}}; found {}", end.as_str()));
                    }
                    otherwise = body;
                    break;
                }
            }
        }
        Ok(Node::Branch { with, arms, otherwise })
    }

    fn range(&mut self) -> Result_<Node> {
        let pipe = self.pipe("range", true)?;
        self.expect_close("range")?;
        self.loops += 1;
        let (body, mut end) = self.block()?;
        self.loops -= 1;
        let mut otherwise = Block::default();
        if end == Ended::Else {
            self.expect_close("else")?;
            (otherwise, end) = self.block()?;
        }
        if end != Ended::Body {
            return Err(format!("expected {{{{end}}}}; found {}", end.as_str()));
        }
        Ok(Node::Range { pipe, body, otherwise })
    }

    fn pipe(&mut self, context: &str, in_range: bool) -> Result_<Pipe> {
        let line = self.tokens.get(self.at).map_or(self.line, |s| s.line);
        let (variables, declares) = self.declaration(in_range)?;
        let mut commands = vec![self.command(context)?];
        while self.take(&Token::Pipe) {
            let command = self.command(context)?;
            if !can_take_input(&command) {
                return Err(format!("non executable command in pipeline stage {}", commands.len() + 1));
            }
            commands.push(command);
        }
        // Visible only from here on: `{{$x := $x}}` reads the outer one.
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { line, variables, declares, commands })
    }

    /// `$x :=`, `$x =`, `$i, $e :=`. A variable not followed by one of these starts a command.
    fn declaration(&mut self, in_range: bool) -> Result_<(Vec<String>, bool)> {
        let mut ahead = self.tokens[self.at..].iter().map(|s| &s.token);
        let mut variables = Vec::new();
        loop {
            match (ahead.next(), ahead.next()) {
                (Some(Token::Variable(name)), Some(Token::Comma)) if in_range && variables.is_empty() => {
                    variables.push(name.clone());
                }
                (Some(Token::Variable(name)), Some(sign @ (Token::Declare | Token::Assign))) => {
                    let declares = *sign == Token::Declare;
                    variables.push(name.clone());
                    if !declares && let Some(unknown) = variables.iter().find(|v| !self.variables.contains(v)) {
                        return Err(format!("undefined variable {unknown:?}"));
                    }
                    self.at += 2 * variables.len();
                    return Ok((variables, declares));
                }
                _ => return Ok((Vec::new(), false)),
            }
        }
    }

    fn command(&mut self, context: &str) -> Result_<Vec<Operand>> {
        let mut operands = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Close | Token::Pipe | Token::RightParen) | None => break,
                _ => operands.push(self.operand(context)?),
            }
        }
        if operands.is_empty() {
            return Err(format!("missing value for {context}"));
        }
        if matches!(operands.first(), Some(Operand::Constant(Value::Nil))) {
            return Err("nil is not a command".to_owned());
        }
        Ok(operands)
    }

    fn operand(&mut self, context: &str) -> Result_<Operand> {
        let token = self.next()?;
        let is_constant = matches!(token, Token::Int(_) | Token::Float(_) | Token::Str(_));
        let operand = match token {
            Token::Dot => Operand::Dot,
            Token::Field(name) => Operand::Fields(Box::new(Operand::Dot), vec![name]),
            Token::Variable(name) if self.variables.contains(&name) => Operand::Variable(name),
            Token::Variable(name) => return Err(format!("undefined variable {name:?}")),
            Token::Int(i) => Operand::Constant(Value::Int(i)),
            Token::Float(f) => Operand::Constant(Value::Float(f)),
            Token::Str(s) => Operand::Constant(Value::from(s)),
            Token::Ident(word) => match &*word {
                "true" => Operand::Constant(Value::Bool(true)),
                "false" => Operand::Constant(Value::Bool(false)),
                "nil" => Operand::Constant(Value::Nil),
                _ if self.functions.contains(&word) => Operand::Function(word),
                _ => return Err(format!("function {word:?} not defined")),
            },
            Token::LeftParen => {
                let pipe = self.scoped(|p| p.pipe("parenthesized pipeline", false))?;
                match self.next()? {
                    Token::RightParen => Operand::Pipe(Box::new(pipe)),
                    other => return Err(format!("unclosed left paren: unexpected {}", show(&other))),
                }
            }
            other => return Err(format!("unexpected {} in {context}", show(&other))),
        };
        let mut fields = Vec::new();
        while let Some(Spanned { token: Token::Field(name), spaced: false, .. }) = self.tokens.get(self.at) {
            fields.push(name.clone());
            self.at += 1;
        }
        match (operand, fields) {
            (operand, fields) if fields.is_empty() => Ok(operand),
            (_, fields) if is_constant => Err(format!("unexpected . after term \".{}\"", fields.join("."))),
            (Operand::Fields(base, mut names), fields) => {
                names.extend(fields);
                Ok(Operand::Fields(base, names))
            }
            (operand, fields) => Ok(Operand::Fields(Box::new(operand), fields)),
        }
    }
}

/// Whether a later stage of a pipeline can take the value of the stage before it.
fn can_take_input(command: &[Operand]) -> bool {
    matches!(command.first(), Some(Operand::Function(_) | Operand::Fields(..)))
}

fn show(token: &Token) -> String {
    match token {
        Token::Text(text) => format!("{:?}", text.chars().take(20).collect::<String>()),
        Token::Open => "\"{{\"".to_owned(),
        Token::Close => "\"}}\"".to_owned(),
        Token::Ident(word) | Token::Variable(word) => format!("{word:?}"),
        Token::Field(name) => format!("\".{name}\""),
        Token::Dot => "<.>".to_owned(),
        Token::Int(i) => format!("\"{i}\""),
        Token::Float(f) => format!("\"{f}\""),
        Token::Str(s) => format!("{s:?}"),
        Token::Pipe => "\"|\"".to_owned(),
        Token::LeftParen => "\"(\"".to_owned(),
        Token::RightParen => "\")\"".to_owned(),
        Token::Declare => "\":=\"".to_owned(),
        Token::Assign => "\"=\"".to_owned(),
        Token::Comma => "\",\"".to_owned(),
    }
}
