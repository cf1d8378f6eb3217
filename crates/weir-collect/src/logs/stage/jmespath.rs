//! The part of JMESPath that picks values: names, members, elements, slices of them, `*`, `||`, `@` and pipes.
//!
//! Functions, filters, multi-selects, comparisons and literals are refused by name. Source: the JMESPath grammar.

use serde_json::Value;

/// Wildcards within wildcards; a line's own depth is bounded by its reader.
const STEPS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// The first that gives something true, as JMESPath understands it.
    choices: Vec<Vec<Step>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    Element(i64),
    /// What follows applies to each element.
    Elements,
    /// Or each member.
    Members,
    /// Elements, those that are lists taken apart.
    Flatten,
    /// Ends the reach of the wildcards before it.
    Pipe,
}

impl Path {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0 };
        let mut choices = vec![parser.steps()?];
        while parser.eat("||") {
            choices.push(parser.steps()?);
        }
        parser.skip_space();
        if parser.at < text.len() {
            return Err(parser.unexpected());
        }
        Ok(Self { choices })
    }

    /// `None` where JMESPath has null.
    pub fn search(&self, data: &Value) -> Option<Value> {
        let found = |steps: &Vec<Step>| search(data, steps).filter(|value| !value.is_null());
        let (last, others) = self.choices.split_last()?;
        others.iter().filter_map(found).find(is_true).or_else(|| found(last))
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_set) => *is_set,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Number(_) => true,
    }
}

fn search(data: &Value, steps: &[Step]) -> Option<Value> {
    let Some((step, rest)) = steps.split_first() else { return Some(data.clone()) };
    match step {
        Step::Member(name) => search(data.get(name)?, rest),
        Step::Element(idx) => {
            let items = data.as_array()?;
            let idx = if *idx < 0 { items.len() as i64 + idx } else { *idx };
            search(items.get(usize::try_from(idx).ok()?)?, rest)
        }
        Step::Pipe => search(data, rest),
        Step::Elements | Step::Members | Step::Flatten => {
            let items: Vec<&Value> = match (step, data) {
                (Step::Elements, Value::Array(items)) => items.iter().collect(),
                (Step::Members, Value::Object(members)) => members.values().collect(),
                (Step::Flatten, Value::Array(items)) => items.iter().flat_map(flat).collect(),
                _ => return None,
            };
            // A pipe and a flattening look at all that was found.
            let is_end = |step: &Step| matches!(step, Step::Pipe | Step::Flatten);
            let end = rest.iter().position(is_end).unwrap_or(rest.len());
            let found =
                items.into_iter().filter_map(|item| search(item, &rest[..end])).filter(|value| !value.is_null());
            search(&Value::Array(found.collect()), &rest[end..])
        }
    }
}

fn flat(item: &Value) -> &[Value] {
    match item {
        Value::Array(items) => items,
        other => std::slice::from_ref(other),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn unexpected(&self) -> String {
        let what = self.rest().chars().next().map_or("the end".to_owned(), |c| format!("`{c}`"));
        let column = self.text[..self.at].chars().count() + 1;
        format!(
            "`{}`: {what} at column {column}: names, `.`, `[0]`, `[*]`, `[]`, `*`, `|` and `||` are read",
            self.text
        )
    }

    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut out = Vec::new();
        self.first(&mut out)?;
        loop {
            if out.len() > STEPS_MAX {
                return Err(format!("`{}` has more than {STEPS_MAX} steps", self.text));
            }
            self.skip_space();
            if self.rest().starts_with("||") {
                return Ok(out);
            }
            if self.eat(".") {
                out.push(if self.eat("*") { Step::Members } else { Step::Member(self.name()?) });
            } else if self.rest().starts_with('[') {
                self.bracket(&mut out)?;
            } else if self.eat("|") {
                out.push(Step::Pipe);
                self.first(&mut out)?;
            } else {
                return Ok(out);
            }
        }
    }

    fn first(&mut self, out: &mut Vec<Step>) -> Result<(), String> {
        self.skip_space();
        match self.rest().chars().next() {
            Some('@') => self.at += 1,
            Some('*') => {
                self.at += 1;
                out.push(Step::Members);
            }
            Some('[') => self.bracket(out)?,
            _ => {
                let name = self.name()?;
                out.push(Step::Member(name));
            }
        }
        if self.rest().starts_with('(') { Err(self.unexpected()) } else { Ok(()) }
    }

    fn bracket(&mut self, out: &mut Vec<Step>) -> Result<(), String> {
        self.at += 1;
        let step = if self.eat("*") {
            Step::Elements
        } else {
            self.skip_space();
            let digits = self.rest().find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(self.rest().len());
            if digits == 0 {
                if !self.rest().starts_with(']') {
                    return Err(self.unexpected());
                }
                Step::Flatten
            } else {
                let number = self.rest()[..digits].parse().map_err(|_| self.unexpected())?;
                self.at += digits;
                Step::Element(number)
            }
        };
        if !self.eat("]") {
            return Err(self.unexpected());
        }
        out.push(step);
        Ok(())
    }

    fn name(&mut self) -> Result<String, String> {
        self.skip_space();
        if self.rest().starts_with('"') {
            let mut read = serde_json::Deserializer::from_str(self.rest()).into_iter::<String>();
            let name = match read.next() {
                Some(Ok(name)) => name,
                _ => return Err(self.unexpected()),
            };
            self.at += read.byte_offset();
            return Ok(name);
        }
        let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = self.rest().find(|c: char| !is_letter(c)).unwrap_or(self.rest().len());
        if end == 0 || self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.unexpected());
        }
        let name = self.rest()[..end].to_owned();
        self.at += end;
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_picked() {
        let data: Value = serde_json::from_str(
            r#"{"a":{"b":{"c":[{"d":[0,[1,2]]},{"d":[3,4]}]}},"x-y":1,"n":null,"e":"","t":"v","l":["p","q","r"]}"#,
        )
        .unwrap();
        let check = |path: &str, want: &str| {
            let got = Path::parse(path).unwrap().search(&data).map_or("null".to_owned(), |v| v.to_string());
            assert_eq!(got, want, "{path}");
        };
        check("t", r#""v""#);
        check("a.b.c[0].d[1][0]", "1");
        check("a.b.c[-1].d", "[3,4]");
        check("\"x-y\"", "1");
        check("n", "null");
        check("none.at.all", "null");
        check("l[5]", "null");
        check("l[1]", r#""q""#);
        check("a.b.c[*].d[0]", "[0,3]");
        check("a.b.c[*].d | [1]", "[3,4]");
        check("a.b.c[].d[]", "[0,[1,2],3,4]");
        check("a.*.c", r#"[[{"d":[0,[1,2]]},{"d":[3,4]}]]"#);
        check("none || n || t", r#""v""#);
        check("e || t", r#""v""#);
        check("@.t", r#""v""#);
        let refused = |path: &str, want: &str| {
            let error = Path::parse(path).unwrap_err();
            assert!(error.contains(want), "{path}: {error}");
        };
        refused("length(l)", "`(` at column 7");
        refused("l[?x]", "`?` at column 3");
        refused("{a: b}", "`{` at column 1");
        refused("a.", "the end");
        refused("a b", "`b` at column 3");
        refused("l[0:1]", "`:`");
        refused("", "the end");
    }
}
