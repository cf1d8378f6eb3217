//! Tokens to blocks, attributes and expressions, each with its place.

use super::scan::{Fault, Pos, Token, scan};

/// Blocks and expressions within each other.
const DEPTH_MAX: usize = 100;
/// Operators and brackets within each other, or one behind the other.
const HEIGHT_MAX: usize = 200;
/// A file of a person.
const BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    pub attributes: Vec<Attribute>,
    /// In their order.
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    pub name: String,
    pub pos: Pos,
    pub value: Expr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// With its dots.
    pub name: String,
    pub label: Option<String>,
    pub pos: Pos,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub pos: Pos,
    pub kind: Kind,
    /// Of the tree below; whoever walks it needs so much of the stack.
    height: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Name(String),
    List(Vec<Expr>),
    Map(Vec<(String, Expr)>),
    Access(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Call(Box<Expr>, Vec<Expr>),
    Unary(&'static str, Box<Expr>),
    Binary(&'static str, Box<Expr>, Box<Expr>),
}

impl Expr {
    fn new(pos: Pos, kind: Kind) -> Result<Self, Fault> {
        let highest = |list: &[Self]| list.iter().map(|expr| expr.height).max().unwrap_or(0);
        let below = match &kind {
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Name(_) => 0,
            Kind::List(list) => highest(list),
            Kind::Map(map) => map.iter().map(|(_, value)| value.height).max().unwrap_or(0),
            Kind::Access(value, _) | Kind::Unary(_, value) => value.height,
            Kind::Index(left, right) | Kind::Binary(_, left, right) => left.height.max(right.height),
            Kind::Call(value, args) => value.height.max(highest(args)),
        };
        if below >= HEIGHT_MAX {
            return pos.fault(format!("more than {HEIGHT_MAX} steps in one expression"));
        }
        Ok(Self { pos, kind, height: below + 1 })
    }
}

impl Body {
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

pub fn parse(text: &str) -> Result<Body, Fault> {
    if text.len() > BYTES_MAX {
        return Pos { line: 1, column: 1 }.fault(format!("the file is larger than {} MiB", BYTES_MAX >> 20));
    }
    let mut parser = Parser { tokens: scan(text)?, at: 0, depth: 0 };
    let body = parser.body()?;
    match parser.token() {
        Token::Eof => Ok(body),
        other => parser.pos().fault(format!("expected a block or an attribute, got {other}")),
    }
}

struct Parser {
    /// The last one is the end of the file.
    tokens: Vec<(Token, Pos)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn token(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn pos(&self) -> Pos {
        self.tokens[self.at].1
    }

    fn next(&mut self) -> (Token, Pos) {
        let next = self.tokens[self.at].clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        next
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.token(), Token::Sign(found) if *found == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let is = self.is(sign);
        if is {
            self.next();
        }
        is
    }

    fn expect(&mut self, sign: &str) -> Result<Pos, Fault> {
        let pos = self.pos();
        if self.take(sign) { Ok(pos) } else { pos.fault(format!("expected `{sign}`, got {}", self.token())) }
    }

    fn within<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth >= DEPTH_MAX {
            return self.pos().fault(format!("more than {DEPTH_MAX} blocks or brackets within each other"));
        }
        self.depth += 1;
        let out = inner(self);
        self.depth -= 1;
        out
    }

    /// Up to a closing bracket or the end of the file.
    fn body(&mut self) -> Result<Body, Fault> {
        let mut body = Body::default();
        while matches!(self.token(), Token::Name(_)) {
            self.statement(&mut body)?;
            match self.token() {
                Token::End => drop(self.next()),
                Token::Sign("}") | Token::Eof => {}
                other => return self.pos().fault(format!("expected the end of the line, got {other}")),
            }
        }
        Ok(body)
    }

    fn statement(&mut self, body: &mut Body) -> Result<(), Fault> {
        let pos = self.pos();
        let mut name = self.name()?;
        while self.take(".") {
            name = format!("{name}.{}", self.name()?);
        }
        if self.is("=") {
            if name.contains('.') {
                return pos.fault(format!("`{name}`: the name of an attribute has no dots"));
            }
            if body.attribute(&name).is_some() {
                return pos.fault(format!("`{name}` is given twice"));
            }
            self.next();
            let value = self.expr()?;
            body.attributes.push(Attribute { name, pos, value });
            return Ok(());
        }
        let label = match self.token().clone() {
            Token::Text(label) => {
                let is_name = label.chars().all(|c| c.is_alphanumeric() || c == '_')
                    && !label.starts_with(|c: char| c.is_ascii_digit());
                if !is_name {
                    return self.pos().fault(format!("`{label}`: a label has letters, digits and `_`"));
                }
                self.next();
                (!label.is_empty()).then_some(label)
            }
            _ => None,
        };
        if !self.is("{") {
            let what = format!("expected `=` or `{{` behind `{name}`, got {}", self.token());
            return self.pos().fault(what);
        }
        self.next();
        let inner = self.within(Self::body)?;
        self.expect("}")?;
        body.blocks.push(Block { name, label, pos, body: inner });
        Ok(())
    }

    fn name(&mut self) -> Result<String, Fault> {
        match self.next() {
            (Token::Name(name), _) => Ok(name),
            (other, pos) => pos.fault(format!("expected a name, got {other}")),
        }
    }

    fn expr(&mut self) -> Result<Expr, Fault> {
        self.within(|parser| parser.binary(1))
    }

    /// Of operators that bind at least so tightly; all but `^` group from the left.
    fn binary(&mut self, tightness: u8) -> Result<Expr, Fault> {
        let mut left = self.power()?;
        loop {
            let Some((sign, own)) = (match self.token() {
                Token::Sign(sign) => binding(sign).map(|own| (*sign, own)),
                _ => None,
            }) else {
                return Ok(left);
            };
            if own < tightness {
                return Ok(left);
            }
            let (_, pos) = self.next();
            let right = self.binary(own + 1)?;
            left = Expr::new(pos, Kind::Binary(sign, Box::new(left), Box::new(right)))?;
        }
    }

    fn power(&mut self) -> Result<Expr, Fault> {
        let left = self.unary()?;
        if !self.is("^") {
            return Ok(left);
        }
        let (_, pos) = self.next();
        let right = self.within(Self::power)?;
        Expr::new(pos, Kind::Binary("^", Box::new(left), Box::new(right)))
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        for sign in ["!", "-"] {
            if self.is(sign) {
                let (_, pos) = self.next();
                let value = self.within(Self::unary)?;
                return Expr::new(pos, Kind::Unary(sign, Box::new(value)));
            }
        }
        let mut value = self.primary()?;
        loop {
            let pos = self.pos();
            let kind = if self.take(".") {
                Kind::Access(Box::new(value), self.name()?)
            } else if self.take("[") {
                let index = self.expr()?;
                self.expect("]")?;
                Kind::Index(Box::new(value), Box::new(index))
            } else if self.take("(") {
                Kind::Call(Box::new(value), self.list(")")?)
            } else {
                return Ok(value);
            };
            value = Expr::new(pos, kind)?;
        }
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let (token, pos) = self.next();
        let kind = match token {
            Token::Null => Kind::Null,
            Token::Bool(is) => Kind::Bool(is),
            Token::Number(number) => Kind::Number(number),
            Token::Text(text) => Kind::Text(text),
            Token::Name(name) => Kind::Name(name),
            Token::Sign("(") => {
                let inner = self.expr()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => Kind::List(self.list("]")?),
            Token::Sign("{") => Kind::Map(self.fields()?),
            other => return pos.fault(format!("expected a value, got {other}")),
        };
        Expr::new(pos, kind)
    }

    /// Up to the bracket; a comma may stand behind the last one.
    fn list(&mut self, close: &str) -> Result<Vec<Expr>, Fault> {
        let mut out = Vec::new();
        while !self.take(close) {
            out.push(self.expr()?);
            self.separator(close)?;
        }
        Ok(out)
    }

    fn separator(&mut self, close: &str) -> Result<(), Fault> {
        if self.take(",") || self.is(close) {
            return Ok(());
        }
        self.pos().fault(format!("expected `,` or `{close}`, got {}", self.token()))
    }

    fn fields(&mut self) -> Result<Vec<(String, Expr)>, Fault> {
        let mut out: Vec<(String, Expr)> = Vec::new();
        while !self.take("}") {
            let name = match self.next() {
                (Token::Name(name) | Token::Text(name), _) => name,
                (other, pos) => return pos.fault(format!("expected the name of a field, got {other}")),
            };
            let pos = self.expect("=")?;
            if out.iter().any(|(known, _)| *known == name) {
                return pos.fault(format!("`{name}` is given twice"));
            }
            out.push((name, self.expr()?));
            self.separator("}")?;
        }
        Ok(out)
    }
}

fn binding(sign: &str) -> Option<u8> {
    Some(match sign {
        "||" => 1,
        "&&" => 2,
        "==" | "!=" | "<" | "<=" | ">" | ">=" => 3,
        "+" | "-" => 4,
        "*" | "/" | "%" => 5,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(expr: &Expr) -> String {
        let all = |list: &[Expr]| list.iter().map(show).collect::<Vec<_>>().join(" ");
        match &expr.kind {
            Kind::Null => "null".to_owned(),
            Kind::Bool(is) => is.to_string(),
            Kind::Number(number) => number.to_string(),
            Kind::Text(text) => format!("{text:?}"),
            Kind::Name(name) => name.clone(),
            Kind::List(list) => format!("[{}]", all(list)),
            Kind::Map(map) => {
                format!("{{{}}}", map.iter().map(|(k, v)| format!("{k}={}", show(v))).collect::<Vec<_>>().join(" "))
            }
            Kind::Access(value, name) => format!("{}.{name}", show(value)),
            Kind::Index(value, index) => format!("{}[{}]", show(value), show(index)),
            Kind::Call(value, args) => format!("{}({})", show(value), all(args)),
            Kind::Unary(sign, value) => format!("({sign} {})", show(value)),
            Kind::Binary(sign, left, right) => format!("({} {sign} {})", show(left), show(right)),
        }
    }

    fn shown(body: &Body) -> String {
        let attributes = body.attributes.iter().map(|a| format!("{}={}", a.name, show(&a.value)));
        let blocks = body.blocks.iter().map(|b| {
            let label = b.label.as_ref().map(|label| format!(" {label}")).unwrap_or_default();
            format!("{}{label}@{}:{}{{{}}}", b.name, b.pos.line, b.pos.column, shown(&b.body))
        });
        attributes.chain(blocks).collect::<Vec<_>>().join("; ")
    }

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(parse(text).map(|body| shown(&body)), Ok(want.to_owned()), "{text}");
    }

    #[track_caller]
    fn refused(text: &str, want: &str) {
        let fault = parse(text).unwrap_err().to_string();
        assert!(fault.contains(want), "{text}: {fault}");
    }

    #[test]
    fn blocks_and_attributes() {
        check("", "");
        check("// only\n/* a\ncomment */", "");
        check("a = 1", "a=1");
        check("a { }\nb.c \"l\" {\n  d = `x\\`\n  e { }\n}\n", "a@1:1{}; b.c l@2:1{d=\"x\\\\\"; e@4:3{}}");
        check("a = 1 // one\nb = 2 /* two */\nc = [\n  1,\n  2,\n]", "a=1; b=2; c=[1 2]");
        check("a = /* in\n */ 1", "a=1");
        check("\u{feff}a = \"\\u00e4\\x41\\101\\n\\\"\"", "a=\"äAA\\n\\\"\"");
        check("a { b = 1 }", "a@1:1{b=1}");
    }

    #[test]
    fn expressions() {
        check("a = 1 + 2 * 3 ^ 2 ^ 2 - -1", "a=((1 + (2 * (3 ^ (2 ^ 2)))) - (- 1))");
        check("a = !b && c || 1 < 2", "a=(((! b) && c) || (1 < 2))");
        check("a = (1 + 2) * .5e1", "a=((1 + 2) * 5)");
        check("a = x.y[0](1, \"z\",).w", "a=x.y[0](1 \"z\").w");
        check("a = {b = 1, \"c-d\" = {\n},\n}", "a={b=1 c-d={}}");
        check("a = [null, true, false]", "a=[null true false]");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        refused("a = ", "line 1 column 5: expected a value");
        refused("a {\n  b = 1 c = 2\n}", "line 2 column 9: expected the end of the line, got `c`");
        refused("a {", "expected `}`, got the end of the file");
        refused("a = 'x'", "double quotes");
        refused("a = \"x\ny\"", "line 1 column 5: the string has no end");
        refused("a = \"\\d\"", "column 6: `\\d` is no escape");
        refused("a = 1\na = 2", "line 2 column 1: `a` is given twice");
        refused("a \"b c\" {}", "a label has");
        refused("a.b = 1", "has no dots");
        refused("a = [1 2]", "expected `,` or `]`");
        refused("/* a", "has no end");
        refused("a = 1 # x", "`#` means nothing");
        refused("}", "expected a block");
        refused(&format!("a = {}", "[".repeat(500)), "within each other");
        refused(&format!("a = {}1", "-".repeat(500)), "within each other");
        refused(&format!("a = b{}", ".c".repeat(500)), "steps in one expression");
        refused(&format!("a = 1{}", "+1".repeat(500)), "steps in one expression");
        refused(&"a {".repeat(500), "within each other");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "([a-c .={}\\[\\](),\"`\\n/*\\\\!^+0-9-]|//|/\\*|true|null|ä){0,60}") {
            let _ = parse(&text);
        }
    }
}
