//! Walks a parsed template over its data.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::html::Scanner;
use super::parse::{Block, Node, Operand, Pipe};
use super::value::Value;
use super::{Named, Template, TemplateError, Templates};

/// Longest output of one rendering: above any notification, below what hurts.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Rounds of all loops and calls of all templates of one rendering together.
const STEPS_MAX: u32 = 1_000_000;
/// Templates calling templates; with the parser's own limit this bounds the stack.
const CALLS_MAX: usize = 24;

/// What a function sees beside its arguments.
pub struct Call<'a> {
    /// What the caller of `render_with` handed in.
    pub env: &'a dyn Any,
    templates: &'a Templates,
    template: &'a Template,
    depth: usize,
    steps: &'a Cell<u32>,
}

impl Call<'_> {
    /// Renders a named template, for functions such as Prometheus' `tmpl`.
    pub fn render(&self, name: &str, data: &Value) -> Result<String, String> {
        let named =
            find(self.templates, self.template, name).ok_or_else(|| format!("template {name:?} not defined"))?;
        let mut out = String::new();
        let run =
            Run { templates: self.templates, template: self.template, env: self.env, steps: self.steps, html: None };
        run.named(named, data, &mut out, self.depth + 1).map_err(|e| e.to_string())?;
        Ok(out)
    }
}

pub(super) fn render(
    templates: &Templates,
    template: &Template,
    data: &Value,
    env: &dyn Any,
    html: bool,
) -> Result<String, TemplateError> {
    let (steps, scanner) = (Cell::new(0), RefCell::default());
    let run = Run { templates, template, env, steps: &steps, html: html.then_some(&scanner) };
    let mut out = String::new();
    let mut frame = Frame { file: template.name.clone(), variables: vec![("$", data.clone())], depth: 0, line: 1 };
    let result = run.block(&template.body, data, &mut frame, &mut out);
    match result {
        Ok(_) => Ok(out),
        Err(Stop::Reason(reason)) => Err(TemplateError { name: frame.file.to_string(), line: frame.line, reason }),
        Err(Stop::Inner(error)) => Err(error),
    }
}

fn find<'a>(templates: &'a Templates, template: &'a Template, name: &str) -> Option<&'a Arc<Named>> {
    template.defined.get(name).or_else(|| templates.named.get(name))
}

enum Stop {
    Reason(String),
    /// From a called template, which knows its own place.
    Inner(TemplateError),
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Self::Reason(reason)
    }
}

enum Flow {
    Go,
    Break,
    Continue,
}

/// One template's variables and place.
struct Frame<'t> {
    file: Arc<str>,
    variables: Vec<(&'t str, Value)>,
    depth: usize,
    line: usize,
}

#[derive(Clone, Copy)]
struct Run<'a> {
    templates: &'a Templates,
    template: &'a Template,
    env: &'a dyn Any,
    steps: &'a Cell<u32>,
    /// Where in the HTML the output stands; `None` for plain text.
    html: Option<&'a RefCell<Scanner>>,
}

impl<'a> Run<'a> {
    fn named(&self, named: &'a Named, data: &Value, out: &mut String, depth: usize) -> Result<(), TemplateError> {
        let mut frame = Frame { file: named.file.clone(), variables: vec![("$", data.clone())], depth, line: 1 };
        let fail = |line, reason| TemplateError { name: named.file.to_string(), line, reason };
        if depth > CALLS_MAX {
            return Err(fail(1, format!("templates call each other more than {CALLS_MAX} deep")));
        }
        self.step().map_err(|reason| fail(1, reason))?;
        match self.block(&named.body, data, &mut frame, out) {
            Ok(_) => Ok(()),
            Err(Stop::Reason(reason)) => Err(fail(frame.line, reason)),
            Err(Stop::Inner(error)) => Err(error),
        }
    }

    fn step(&self) -> Result<(), String> {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > STEPS_MAX { Err(format!("more than {STEPS_MAX} loop rounds")) } else { Ok(()) }
    }

    /// Variables declared in the block end with it.
    fn block<'t>(&self, block: &'t Block, dot: &Value, frame: &mut Frame<'t>, out: &mut String) -> Result<Flow, Stop>
    where
        'a: 't,
    {
        let n_variables = frame.variables.len();
        for node in &block.0 {
            let flow = self.node(node, dot, frame, out)?;
            if out.len() > OUTPUT_BYTES_MAX {
                return Err(format!("output is longer than {OUTPUT_BYTES_MAX} bytes").into());
            }
            if !matches!(flow, Flow::Go) {
                frame.variables.truncate(n_variables);
                return Ok(flow);
            }
        }
        frame.variables.truncate(n_variables);
        Ok(Flow::Go)
    }

    fn node<'t>(&self, node: &'t Node, dot: &Value, frame: &mut Frame<'t>, out: &mut String) -> Result<Flow, Stop>
    where
        'a: 't,
    {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot, frame)?;
                if pipe.variables.is_empty() {
                    match (&value, self.html) {
                        (value, Some(scanner)) => {
                            let escaped = scanner.borrow_mut().escape(out, value);
                            out.push_str(&escaped);
                        }
                        (Value::Str(s), None) => out.push_str(s),
                        (other, None) => out.push_str(&other.text()),
                    }
                }
            }
            Node::Branch { with, arms, otherwise } => {
                let n_variables = frame.variables.len();
                let mut chosen = (otherwise, dot.clone());
                for (pipe, body) in arms {
                    let value = self.pipe(pipe, dot, frame)?;
                    if value.truth() {
                        chosen = (body, if *with { value } else { dot.clone() });
                        break;
                    }
                }
                let flow = self.block(chosen.0, &chosen.1, frame, out);
                frame.variables.truncate(n_variables);
                return flow;
            }
            Node::Range { pipe, body, otherwise } => return self.range(pipe, body, otherwise, dot, frame, out),
            Node::Template { name, line, argument } => {
                let data = match argument {
                    Some(pipe) => self.pipe(pipe, dot, frame)?,
                    None => Value::Nil,
                };
                frame.line = *line;
                let named = find(self.templates, self.template, name)
                    .ok_or_else(|| format!("template {name:?} not defined"))?;
                self.named(named, &data, out, frame.depth + 1).map_err(Stop::Inner)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Go)
    }

    fn range<'t>(
        &self,
        pipe: &'t Pipe,
        body: &'t Block,
        otherwise: &'t Block,
        dot: &Value,
        frame: &mut Frame<'t>,
        out: &mut String,
    ) -> Result<Flow, Stop>
    where
        'a: 't,
    {
        let n_variables = frame.variables.len();
        let over = self.pipe_value(pipe, dot, frame)?;
        let items: Box<dyn Iterator<Item = (Value, Value)>> = match over.plain() {
            Value::Nil => Box::new(std::iter::empty()),
            Value::List(list) => Box::new((0..list.len()).map(move |idx| (Value::Int(idx as i64), list[idx].clone()))),
            Value::Map(map) => {
                let pairs: Vec<_> = map.iter().map(|(k, v)| (Value::Str(k.clone()), v.clone())).collect();
                Box::new(pairs.into_iter())
            }
            Value::Int(n) => Box::new((0..n.max(0)).map(|i| (Value::Int(i), Value::Int(i)))),
            other => return Err(format!("range can't iterate over {other}").into()),
        };
        let mut empty = true;
        for (key, item) in items {
            empty = false;
            self.step()?;
            match &pipe.variables[..] {
                [] => {}
                [one] => set(frame, one, item.clone(), pipe.declares),
                [first, second, ..] => {
                    set(frame, first, key, pipe.declares);
                    set(frame, second, item.clone(), pipe.declares);
                }
            }
            let flow = self.block(body, &item, frame, out)?;
            frame.variables.truncate(n_variables);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        if empty {
            return self.block(otherwise, dot, frame, out);
        }
        Ok(Flow::Go)
    }

    fn pipe<'t>(&self, pipe: &'t Pipe, dot: &Value, frame: &mut Frame<'t>) -> Result<Value, Stop> {
        let value = self.pipe_value(pipe, dot, frame)?;
        for name in &pipe.variables {
            set(frame, name, value.clone(), pipe.declares);
        }
        Ok(value)
    }

    fn pipe_value<'t>(&self, pipe: &'t Pipe, dot: &Value, frame: &mut Frame<'t>) -> Result<Value, Stop> {
        frame.line = pipe.line;
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, frame, value)?);
            frame.line = pipe.line;
        }
        Ok(value.unwrap_or_default())
    }

    /// `input`: the value of the stage before, which becomes the last argument.
    fn command<'t>(
        &self,
        operands: &'t [Operand],
        dot: &Value,
        frame: &mut Frame<'t>,
        input: Option<Value>,
    ) -> Result<Value, Stop> {
        let (first, rest) = operands.split_first().ok_or_else(|| "empty command".to_owned())?;
        match first {
            Operand::Function(name) if matches!(&**name, "and" | "or") => {
                self.short_circuit(name == "and", rest, dot, frame, input)
            }
            Operand::Function(name) => {
                let args = self.arguments(rest, dot, frame, input)?;
                self.call(name, &args, frame).map_err(Stop::from)
            }
            Operand::Fields(base, names) => {
                let args = self.arguments(rest, dot, frame, input)?;
                let base = self.operand(base, dot, frame)?;
                Ok(fields(base, names, &args)?)
            }
            other if rest.is_empty() && input.is_none() => self.operand(other, dot, frame),
            _ => Err("can't give argument to non-function".to_owned().into()),
        }
    }

    fn arguments<'t>(
        &self,
        operands: &'t [Operand],
        dot: &Value,
        frame: &mut Frame<'t>,
        input: Option<Value>,
    ) -> Result<Vec<Value>, Stop> {
        let mut args = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            args.push(self.operand(operand, dot, frame)?);
        }
        args.extend(input);
        Ok(args)
    }

    /// The first argument that decides, else the last; what follows is not evaluated.
    fn short_circuit<'t>(
        &self,
        and: bool,
        operands: &'t [Operand],
        dot: &Value,
        frame: &mut Frame<'t>,
        input: Option<Value>,
    ) -> Result<Value, Stop> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot, frame)?;
            if value.truth() != and {
                return Ok(value);
            }
            last = Some(value);
        }
        let name = if and { "and" } else { "or" };
        input.or(last).ok_or_else(|| format!("wrong number of args for {name}: want at least 1 got 0").into())
    }

    fn call(&self, name: &str, args: &[Value], frame: &Frame<'_>) -> Result<Value, String> {
        let function =
            self.templates.functions.get(name).ok_or_else(|| format!("function {name:?} not defined"))?.clone();
        let call = Call {
            env: self.env,
            templates: self.templates,
            template: self.template,
            depth: frame.depth,
            steps: self.steps,
        };
        function(&call, args).map_err(|e| format!("error calling {name}: {e}"))
    }

    fn operand<'t>(&self, operand: &'t Operand, dot: &Value, frame: &mut Frame<'t>) -> Result<Value, Stop> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Constant(value) => Ok(value.clone()),
            Operand::Variable(name) => match frame.variables.iter().rev().find(|(n, _)| n == name) {
                Some((_, value)) => Ok(value.clone()),
                None => Err(format!("undefined variable: {name}").into()),
            },
            Operand::Function(name) => self.call(name, &[], frame).map_err(Stop::from),
            Operand::Pipe(pipe) => self.pipe(pipe, dot, frame),
            Operand::Fields(base, names) => {
                let base = self.operand(base, dot, frame)?;
                Ok(fields(base, names, &[])?)
            }
        }
    }
}

fn set<'t>(frame: &mut Frame<'t>, name: &'t str, value: Value, declares: bool) {
    if declares {
        frame.variables.push((name, value));
    } else if let Some(found) = frame.variables.iter_mut().rev().find(|(n, _)| *n == name) {
        found.1 = value;
    }
}

/// Follows `.a.b.c`; arguments belong to the last name, which must then be a method.
fn fields(mut value: Value, names: &[String], args: &[Value]) -> Result<Value, String> {
    for (idx, name) in names.iter().enumerate() {
        let args = if idx + 1 == names.len() { args } else { &[] };
        value = match &value {
            Value::Object(object) => match object.member(name, args) {
                Some(result) => result.map_err(|e| format!("error calling {name}: {e}"))?,
                None => return Err(format!("can't evaluate field {name} in type {}", object.type_name())),
            },
            Value::Map(_) if !args.is_empty() => {
                return Err(format!("{name} is not a method but has arguments"));
            }
            Value::Map(map) => map.get(&**name).cloned().unwrap_or_else(|| Value::from("")),
            Value::Nil => return Err(format!("nil data; no entry for key {name:?}")),
            other => return Err(format!("can't evaluate field {name} in type {}", other.type_name())),
        };
    }
    Ok(value)
}
