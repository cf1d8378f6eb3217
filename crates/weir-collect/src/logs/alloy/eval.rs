//! What expressions are worth. Targets stay what they are made of: they are known only while weir runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::functions;
use super::scan::{Fault, Pos};
use super::syntax::{Expr, Kind};
use crate::config::SdConfig;
use crate::relabel::RelabelConfig;

/// Of everything that one expression makes: elements and bytes.
const SIZE_MAX: usize = 16 << 20;
/// Of components that refer to each other: `concat(a, a)` of `concat(b, b)` of …
pub const SETS_MAX: usize = 1000;

/// Targets of one origin, and what relabelling makes of them.
#[derive(Clone, Debug)]
pub struct TargetSet {
    pub origin: Origin,
    pub rules: Vec<RelabelConfig>,
}

#[derive(Clone, Debug)]
pub enum Origin {
    Static(Arc<Vec<BTreeMap<String, String>>>),
    Discovered(Arc<SdConfig>),
}

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    Targets(Vec<TargetSet>),
    Rules(Arc<Vec<RelabelConfig>>),
    /// Of the component with that number.
    Receiver(usize),
    Function(String),
}

impl Value {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
            Self::Targets(_) => "a list of targets",
            Self::Rules(_) => "relabelling rules",
            Self::Receiver(_) => "a receiver",
            Self::Function(_) => "a function",
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(list) => list.iter().map(|value| 1 + value.size()).sum(),
            Self::Map(map) => map.iter().map(|(name, value)| 1 + name.len() + value.size()).sum(),
            Self::Targets(sets) => sets.len() * SIZE_MAX / SETS_MAX,
            _ => 1,
        }
    }

    /// `None` for what can only be handed from component to component.
    pub fn json(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(is) => (*is).into(),
            // Counts are read as whole numbers.
            Self::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => (*number as i64).into(),
            Self::Number(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(list) => serde_json::Value::Array(list.iter().map(Self::json).collect::<Option<_>>()?),
            Self::Map(map) => {
                let pairs: Option<_> = map.iter().map(|(name, value)| Some((name.clone(), value.json()?))).collect();
                serde_json::Value::Object(pairs?)
            }
            Self::Targets(_) | Self::Rules(_) | Self::Receiver(_) | Self::Function(_) => return None,
        })
    }

    /// As a list of targets, written or discovered.
    pub fn targets(self, pos: Pos) -> Result<Vec<TargetSet>, Fault> {
        let list = match self {
            Self::Targets(sets) => return Ok(sets),
            Self::List(list) => list,
            other => return pos.fault(format!("expected a list of targets, got {}", other.kind())),
        };
        let mut all = Vec::new();
        for target in list {
            let Self::Map(labels) = target else {
                return pos.fault(format!("a target is an object of labels, not {}", target.kind()));
            };
            let text = |(name, value): (String, Self)| match value {
                Self::Text(text) => Ok((name, text)),
                Self::Number(_) | Self::Bool(_) => Ok((name, functions::text(&value))),
                other => pos.fault(format!("label `{name}` is {}, not a string", other.kind())),
            };
            all.push(labels.into_iter().map(text).collect::<Result<_, _>>()?);
        }
        Ok(vec![TargetSet { origin: Origin::Static(Arc::new(all)), rules: Vec::new() }])
    }
}

/// What names stand for.
pub trait Scope {
    /// What a component exports under the path; `None` when no component is called so. Answers how much of the path
    /// was used.
    fn component(&mut self, path: &[&str], pos: Pos) -> Option<Result<(Value, usize), Fault>>;
    fn env(&self, name: &str) -> Option<String>;
}

pub fn eval(expr: &Expr, scope: &mut dyn Scope) -> Result<Value, Fault> {
    let value = match &expr.kind {
        Kind::Null => Value::Null,
        Kind::Bool(is) => Value::Bool(*is),
        Kind::Number(number) => Value::Number(*number),
        Kind::Text(text) => Value::Text(text.clone()),
        Kind::List(list) => Value::List(list.iter().map(|item| eval(item, scope)).collect::<Result<_, _>>()?),
        Kind::Map(map) => {
            let pairs = map.iter().map(|(name, value)| Ok((name.clone(), eval(value, scope)?)));
            Value::Map(pairs.collect::<Result<_, Fault>>()?)
        }
        Kind::Name(_) | Kind::Access(..) => name(expr, scope)?,
        Kind::Index(value, index) => {
            let (value, index) = (eval(value, scope)?, eval(index, scope)?);
            step(value, &index, expr.pos)?
        }
        Kind::Call(function, args) => match eval(function, scope)? {
            Value::Function(name) => {
                let args = args.iter().map(|arg| eval(arg, scope)).collect::<Result<_, _>>()?;
                functions::call(&name, args, &|name| scope.env(name)).or_else(|what| expr.pos.fault(what))?
            }
            other => return expr.pos.fault(format!("{} cannot be called", other.kind())),
        },
        Kind::Unary(sign, value) => match (*sign, eval(value, scope)?) {
            ("!", Value::Bool(is)) => Value::Bool(!is),
            ("-", Value::Number(number)) => Value::Number(-number),
            (sign, other) => return expr.pos.fault(format!("`{sign}` does not go with {}", other.kind())),
        },
        Kind::Binary(sign, left, right) => {
            let left = eval(left, scope)?;
            // The other side may be what the first one guards against.
            match (*sign, &left) {
                ("&&", Value::Bool(false)) | ("||", Value::Bool(true)) => left,
                _ => binary(sign, left, eval(right, scope)?, expr.pos)?,
            }
        }
    };
    if value.size() > SIZE_MAX {
        return expr.pos.fault("the value is too large");
    }
    Ok(value)
}

/// A component's export, a function, or a step into a value.
fn name(expr: &Expr, scope: &mut dyn Scope) -> Result<Value, Fault> {
    let mut path = Vec::new();
    let mut at = expr;
    while let Kind::Access(value, name) = &at.kind {
        path.push(name.as_str());
        at = value;
    }
    let Kind::Name(first) = &at.kind else {
        let Kind::Access(value, name) = &expr.kind else { return expr.pos.fault("expected a name") };
        return step(eval(value, scope)?, &Value::Text(name.clone()), expr.pos);
    };
    path.push(first);
    path.reverse();
    if let Some(found) = scope.component(&path, at.pos) {
        let (value, n) = found?;
        return path[n..].iter().try_fold(value, |value, name| step(value, &Value::Text((*name).to_owned()), expr.pos));
    }
    let whole = path.join(".");
    if functions::is_function(&whole) {
        return Ok(Value::Function(whole));
    }
    match whole.as_str() {
        "constants.hostname" => Ok(Value::Text(hostname(scope))),
        "constants.os" => Ok(Value::Text("linux".to_owned())),
        "constants.arch" => Ok(Value::Text(if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }.to_owned())),
        _ => at.pos.fault(format!("`{whole}` is no component of this file and no function")),
    }
}

fn hostname(scope: &dyn Scope) -> String {
    let own = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    own().or_else(|| scope.env("HOSTNAME")).unwrap_or_default()
}

fn step(value: Value, index: &Value, pos: Pos) -> Result<Value, Fault> {
    match (value, index) {
        (Value::Map(mut map), Value::Text(name)) => match map.remove(name) {
            Some(value) => Ok(value),
            None => pos.fault(format!("there is no `{name}` in it")),
        },
        (Value::List(mut list), Value::Number(number)) => {
            let idx = *number as usize;
            if number.fract() != 0.0 || *number < 0.0 || idx >= list.len() {
                return pos.fault(format!("there is no element {number} in a list of {}", list.len()));
            }
            Ok(list.swap_remove(idx))
        }
        (Value::Targets(_), _) => pos.fault("single targets cannot be picked: they are known only while weir runs"),
        (value, index) => pos.fault(format!("{} has no element that is {}", value.kind(), index.kind())),
    }
}

fn binary(sign: &str, left: Value, right: Value, pos: Pos) -> Result<Value, Fault> {
    let kinds = (left.kind(), right.kind());
    let value = match (sign, left, right) {
        ("==", left, right) => functions::equal(&left, &right).map(Value::Bool),
        ("!=", left, right) => functions::equal(&left, &right).map(|is| Value::Bool(!is)),
        ("&&" | "||", Value::Bool(_), Value::Bool(right)) => Some(Value::Bool(right)),
        ("+", Value::Text(left), Value::Text(right)) => Some(Value::Text(left + &right)),
        (sign, Value::Text(left), Value::Text(right)) => ordered(sign, left.cmp(&right)),
        ("+", Value::Number(left), Value::Number(right)) => Some(Value::Number(left + right)),
        ("-", Value::Number(left), Value::Number(right)) => Some(Value::Number(left - right)),
        ("*", Value::Number(left), Value::Number(right)) => Some(Value::Number(left * right)),
        ("^", Value::Number(left), Value::Number(right)) => Some(Value::Number(left.powf(right))),
        ("/" | "%", Value::Number(_), Value::Number(0.0)) => return pos.fault("division by zero"),
        ("%", Value::Number(left), Value::Number(right)) => Some(Value::Number(left % right)),
        // Whole numbers are divided as such.
        ("/", Value::Number(left), Value::Number(right)) => {
            let quotient = left / right;
            let is_whole = left.fract() == 0.0 && right.fract() == 0.0;
            Some(Value::Number(if is_whole { quotient.trunc() } else { quotient }))
        }
        (sign, Value::Number(left), Value::Number(right)) => {
            left.partial_cmp(&right).and_then(|ordering| ordered(sign, ordering))
        }
        _ => None,
    };
    value.map_or_else(|| pos.fault(format!("`{sign}` does not go with {} and {}", kinds.0, kinds.1)), Ok)
}

fn ordered(sign: &str, ordering: std::cmp::Ordering) -> Option<Value> {
    Some(Value::Bool(match sign {
        "<" => ordering.is_lt(),
        "<=" => ordering.is_le(),
        ">" => ordering.is_gt(),
        ">=" => ordering.is_ge(),
        _ => return None,
    }))
}
