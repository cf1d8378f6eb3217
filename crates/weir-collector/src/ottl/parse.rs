//! From text to checked expressions.

use regex::Regex;

use super::convert::{CONVERTERS, Converter};
use super::edit::{EDITORS, Edit, Editor};
use super::lex::{Token, tokens};
use super::path::{Context, Key, Path, constant};
use super::value::Value;
use super::{OttlError, Paths};

/// Deeper nesting is refused, as evaluation recurses.
const DEPTH_MAX: usize = 50;
const BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Math {
    Add,
    Sub,
    Mul,
    Div,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Literal(Value),
    Path(Path),
    /// Keys after something that is no path.
    Index(Box<Expr>, Vec<Key>),
    Call(Box<Call>),
    List(Vec<Expr>),
    Map(Vec<(String, Expr)>),
    Math(Math, Box<Expr>, Box<Expr>),
    Compare(Compare, Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub converter: &'static Converter,
    /// By the position of parameters.
    pub args: Vec<Option<Expr>>,
    /// Compiled where the pattern is a literal.
    pub regex: Option<Regex>,
}

pub(super) struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    paths: Paths,
    /// Contexts of paths so far, with the place of each.
    seen: Vec<(usize, Context)>,
    /// What functions ask for that look at a whole item.
    needs: Vec<(usize, Context)>,
}

type Parsed<T> = Result<T, OttlError>;

impl<'t> Parser<'t> {
    pub fn new(text: &'t str, paths: Paths) -> Parsed<Self> {
        if text.len() > BYTES_MAX {
            return Err(OttlError::new("", 0, format!("longer than {BYTES_MAX} bytes")));
        }
        let tokens = tokens(text)?;
        Ok(Self { text, tokens, at: 0, depth: 0, paths, seen: Vec::new(), needs: Vec::new() })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].1
    }
    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].1.clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }
    fn place(&self) -> usize {
        self.tokens[self.at].0
    }
    fn fail<T>(&self, at: usize, reason: impl Into<String>) -> Parsed<T> {
        Err(OttlError::new(self.text, at, reason))
    }
    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        if found {
            self.next();
        }
        found
    }
    fn takes_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Lower(w) if w == word);
        if found {
            self.next();
        }
        found
    }
    fn expect(&mut self, sign: &str) -> Parsed<()> {
        if self.takes(sign) {
            return Ok(());
        }
        self.fail(self.place(), format!("expected `{sign}`, found {}", self.peek().shown()))
    }
    pub fn has_where(&mut self) -> bool {
        self.takes_word("where")
    }
    pub fn end(&mut self) -> Parsed<()> {
        match self.peek() {
            Token::End => Ok(()),
            other => self.fail(self.place(), format!("expected the end, found {}", other.shown())),
        }
    }

    /// What the expression is evaluated on: the given context, or the narrowest that its paths name.
    pub fn context(&self) -> Parsed<Context> {
        let narrowest = match self.paths {
            Paths::Of(context) => context,
            Paths::Prefixed => self.seen.iter().chain(&self.needs).map(|(_, c)| *c).max().unwrap_or(Context::Resource),
        };
        match self.seen.iter().chain(&self.needs).find(|(_, c)| !narrowest.sees(*c)) {
            None => Ok(narrowest),
            Some((at, other)) => {
                let text = format!("`{}` cannot be seen from `{}`", other.as_str(), narrowest.as_str());
                self.fail(*at, text)
            }
        }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            return self.fail(self.place(), format!("nested deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    pub fn condition(&mut self) -> Parsed<Expr> {
        self.deeper(|p| {
            let mut left = p.all_of()?;
            let mut n = 0;
            while p.takes_word("or") {
                n += 1;
                p.bounded(n)?;
                left = Expr::Or(Box::new(left), Box::new(p.all_of()?));
            }
            Ok(left)
        })
    }

    /// A chain of one operator is a tree as deep as it is long.
    fn bounded(&self, n: usize) -> Parsed<()> {
        if n <= 200 { Ok(()) } else { self.fail(self.place(), "a chain of more than 200 operators") }
    }

    fn all_of(&mut self) -> Parsed<Expr> {
        let mut left = self.negated()?;
        let mut n = 0;
        while self.takes_word("and") {
            n += 1;
            self.bounded(n)?;
            left = Expr::And(Box::new(left), Box::new(self.negated()?));
        }
        Ok(left)
    }

    fn negated(&mut self) -> Parsed<Expr> {
        if self.takes_word("not") {
            return self.deeper(|p| Ok(Expr::Not(Box::new(p.negated()?))));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed<Expr> {
        let left = self.sum()?;
        let compare = match self.peek() {
            Token::Sign("==") => Compare::Eq,
            Token::Sign("!=") => Compare::Ne,
            Token::Sign("<") => Compare::Lt,
            Token::Sign("<=") => Compare::Le,
            Token::Sign(">") => Compare::Gt,
            Token::Sign(">=") => Compare::Ge,
            _ => return Ok(left),
        };
        self.next();
        Ok(Expr::Compare(compare, Box::new(left), Box::new(self.sum()?)))
    }

    fn sum(&mut self) -> Parsed<Expr> {
        self.deeper(|p| {
            let mut left = p.product()?;
            let mut n = 0;
            loop {
                let math = match p.peek() {
                    Token::Sign("+") => Math::Add,
                    Token::Sign("-") => Math::Sub,
                    _ => return Ok(left),
                };
                p.next();
                n += 1;
                p.bounded(n)?;
                left = Expr::Math(math, Box::new(left), Box::new(p.product()?));
            }
        })
    }

    fn product(&mut self) -> Parsed<Expr> {
        let mut left = self.primary()?;
        let mut n = 0;
        loop {
            let math = match self.peek() {
                Token::Sign("*") => Math::Mul,
                Token::Sign("/") => Math::Div,
                _ => return Ok(left),
            };
            self.next();
            n += 1;
            self.bounded(n)?;
            left = Expr::Math(math, Box::new(left), Box::new(self.primary()?));
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let start = self.place();
        match self.next() {
            Token::Str(text) => Ok(Expr::Literal(Value::Str(text))),
            Token::Int(v) => Ok(Expr::Literal(Value::Int(v))),
            Token::Float(v) => Ok(Expr::Literal(Value::Float(v))),
            Token::Bytes(v) => Ok(Expr::Literal(Value::Bytes(v))),
            Token::Sign(sign @ ("-" | "+")) => match (sign, self.next()) {
                ("-", Token::Int(v)) => Ok(Expr::Literal(Value::Int(-v))),
                ("-", Token::Float(v)) => Ok(Expr::Literal(Value::Float(-v))),
                (_, Token::Int(v)) => Ok(Expr::Literal(Value::Int(v))),
                (_, Token::Float(v)) => Ok(Expr::Literal(Value::Float(v))),
                (_, other) => self.fail(start, format!("expected a number after `{sign}`, found {}", other.shown())),
            },
            Token::Sign("(") => {
                let inner = self.condition()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.list(),
            Token::Sign("{") => self.map(),
            Token::Lower(word) => match &*word {
                "true" => Ok(Expr::Literal(Value::Bool(true))),
                "false" => Ok(Expr::Literal(Value::Bool(false))),
                "nil" => Ok(Expr::Literal(Value::Nil)),
                "and" | "or" | "not" | "where" => self.fail(start, format!("expected a value, found `{word}`")),
                _ => Ok(Expr::Path(self.path(start, word)?)),
            },
            Token::Upper(name) => self.named(start, &name),
            other => self.fail(start, format!("expected a value, found {}", other.shown())),
        }
    }

    fn list(&mut self) -> Parsed<Expr> {
        let mut items = Vec::new();
        while !self.takes("]") {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.sum()?);
        }
        Ok(Expr::List(items))
    }

    fn map(&mut self) -> Parsed<Expr> {
        let mut entries = Vec::new();
        while !self.takes("}") {
            if !entries.is_empty() {
                self.expect(",")?;
            }
            let at = self.place();
            let Token::Str(key) = self.next() else { return self.fail(at, "a map's keys are texts") };
            self.expect(":")?;
            entries.push((key, self.sum()?));
        }
        Ok(Expr::Map(entries))
    }

    fn keys(&mut self) -> Parsed<Vec<Key>> {
        let mut keys = Vec::new();
        while self.takes("[") {
            let at = self.place();
            keys.push(match self.next() {
                Token::Str(name) => Key::Name(name),
                Token::Int(n) => Key::Index(n),
                other => return self.fail(at, format!("expected a text or a number as key, found {}", other.shown())),
            });
            self.expect("]")?;
            if keys.len() > DEPTH_MAX {
                return self.fail(at, "too many keys");
            }
        }
        Ok(keys)
    }

    fn path(&mut self, start: usize, first: String) -> Parsed<Path> {
        let mut words = vec![first];
        while self.takes(".") {
            let at = self.place();
            match self.next() {
                Token::Lower(word) => words.push(word),
                other => return self.fail(at, format!("expected a name after `.`, found {}", other.shown())),
            }
        }
        let keys = self.keys()?;
        let named = Context::of_name(&words[0]).filter(|_| words.len() > 1);
        let (of, words) = match (named, self.paths) {
            (Some(of), _) => (of, &words[1..]),
            (None, Paths::Of(context)) => (context, &words[..]),
            (None, Paths::Prefixed) => {
                let names: Vec<&str> = Context::ALL.iter().map(|c| c.as_str()).collect();
                let text = format!("`{}` needs its context in front: {}", words.join("."), names.join(", "));
                return self.fail(start, text);
            }
        };
        self.seen.push((start, of));
        Path::resolve(of, words, keys).map_err(|reason| OttlError::new(self.text, start, reason))
    }

    /// A function or a constant.
    fn named(&mut self, start: usize, name: &str) -> Parsed<Expr> {
        if !self.takes("(") {
            let known = constant(name).map(|v| Expr::Literal(Value::Int(v)));
            return known.ok_or_else(|| OttlError::new(self.text, start, format!("unknown constant `{name}`")));
        }
        let Some(converter) = CONVERTERS.iter().find(|c| c.name == name) else {
            return self.fail(start, format!("unknown function `{name}`"));
        };
        let args = self.args(start, name, converter.params, converter.n_required)?;
        let regex = self.pattern(start, &args, converter.pattern)?;
        if let Some(context) = converter.needs {
            self.needs.push((start, context));
        }
        let call = Expr::Call(Box::new(Call { converter, args, regex }));
        let keys = self.keys()?;
        Ok(if keys.is_empty() { call } else { Expr::Index(Box::new(call), keys) })
    }

    /// Arguments up to the closing parenthesis, each at its parameter's position.
    fn args(&mut self, start: usize, name: &str, params: &[&str], n_required: usize) -> Parsed<Vec<Option<Expr>>> {
        let mut args: Vec<Option<Expr>> = vec![None; params.len()];
        let mut next = 0;
        let mut is_first = true;
        while !self.takes(")") {
            if !is_first {
                self.expect(",")?;
            }
            is_first = false;
            let at = self.place();
            let position = match self.parameter_name() {
                Some(given) => match params.iter().position(|p| *p == given) {
                    Some(position) => position,
                    None => return self.fail(at, format!("`{name}` has no argument `{given}`")),
                },
                None => next,
            };
            if position >= params.len() {
                return self.fail(at, format!("`{name}` takes at most {} arguments", params.len()));
            }
            if args[position].is_some() {
                return self.fail(at, format!("argument `{}` is given twice", params[position]));
            }
            args[position] = Some(self.sum()?);
            next = position + 1;
        }
        match args[..n_required].iter().position(Option::is_none) {
            None => Ok(args),
            Some(k) => self.fail(start, format!("`{name}` needs the argument `{}`", params[k])),
        }
    }

    /// `name=` in front of an argument.
    fn parameter_name(&mut self) -> Option<String> {
        let (Token::Lower(word), Token::Sign("=")) = (self.peek(), &self.tokens.get(self.at + 1)?.1) else {
            return None;
        };
        let word = word.clone();
        self.at += 2;
        Some(word)
    }

    fn pattern(&self, start: usize, args: &[Option<Expr>], which: Option<usize>) -> Parsed<Option<Regex>> {
        let Some(Some(Expr::Literal(Value::Str(pattern)))) = which.map(|k| &args[k]) else { return Ok(None) };
        let compiled = weir_go::regex(pattern);
        compiled.map(Some).map_err(|e| OttlError::new(self.text, start, e.to_string()))
    }

    pub fn edit(&mut self) -> Parsed<Edit> {
        let start = self.place();
        let Token::Lower(name) = self.next() else {
            return self.fail(start, "a statement begins with a function that edits, such as set");
        };
        let Some((.., editor)) = EDITORS.iter().map(|e| (e.name, e)).find(|(n, _)| *n == name) else {
            let known: Vec<&str> = EDITORS.iter().map(|e| e.name).collect();
            return self.fail(start, format!("unknown function `{name}`; known are {}", known.join(", ")));
        };
        self.expect("(")?;
        let mut args = self.args(start, editor.name, editor.params, editor.n_required)?;
        let regex = self.pattern(start, &args, editor.pattern)?;
        self.edit_of(start, editor, &mut args, regex)
    }

    fn edit_of(
        &self,
        start: usize,
        editor: &'static Editor,
        args: &mut Vec<Option<Expr>>,
        regex: Option<Regex>,
    ) -> Parsed<Edit> {
        let target = match args.first_mut().and_then(Option::take) {
            Some(Expr::Path(path)) => path,
            _ => {
                return self
                    .fail(start, format!("the first argument of `{}` is the path that it changes", editor.name));
            }
        };
        let rest = args.drain(1..).collect();
        Ok(Edit { kind: editor.kind, target, args: rest, regex })
    }
}
