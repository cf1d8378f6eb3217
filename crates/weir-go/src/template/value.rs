//! The data that templates walk.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::number::format_v;

/// Data with named fields or methods, such as an alert or a label set.
pub trait Object: Send + Sync {
    /// For error messages.
    fn type_name(&self) -> &str;
    /// The field, or the method's answer. `None`: there is no such member.
    fn member(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>>;
    /// The list or map that `range`, `len`, `index` and conditions see; `Nil` if it is neither.
    fn view(&self) -> Value {
        Value::Nil
    }
    /// How it prints, unless as its view.
    fn print(&self) -> Option<String> {
        None
    }
    /// Itself, for functions that work on one type of object.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

#[derive(Clone, Default)]
pub enum Value {
    #[default]
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    List(Arc<[Value]>),
    Map(Arc<BTreeMap<Arc<str>, Value>>),
    Object(Arc<dyn Object>),
}

impl Value {
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        Self::List(items.into_iter().collect())
    }
    pub fn map<K: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Map(Arc::new(pairs.into_iter().map(|(k, v)| (k.into(), v)).collect()))
    }
    pub fn object(object: impl Object + 'static) -> Self {
        Self::Object(Arc::new(object))
    }

    /// Name of the Go type that this stands for, as error messages show it.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Object(o) => o.type_name(),
        }
    }

    /// The plain value behind an object that is a list or a map.
    pub fn plain(&self) -> Value {
        match self {
            Self::Object(o) => match o.view() {
                Self::Nil => self.clone(),
                view => view,
            },
            other => other.clone(),
        }
    }

    /// False for nil, false, zero and what is empty.
    pub fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(i) => *i != 0,
            Self::Float(f) => *f != 0.0,
            Self::Str(s) => !s.is_empty(),
            Self::List(l) => !l.is_empty(),
            Self::Map(m) => !m.is_empty(),
            Self::Object(o) => match o.view() {
                Self::Nil => true,
                view => view.truth(),
            },
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(s) = self { Some(s) } else { None }
    }

    /// Text of any value, as a function that wants a string sees it.
    pub fn text(&self) -> String {
        self.to_string()
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::Str(s.into())
    }
}
impl From<String> for Value {
    fn from(s: String) -> Self {
        Self::Str(s.into())
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}
impl From<i64> for Value {
    fn from(i: i64) -> Self {
        Self::Int(i)
    }
}
impl From<f64> for Value {
    fn from(f: f64) -> Self {
        Self::Float(f)
    }
}

/// As `%v` prints it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Float(v) => f.write_str(&format_v(*v)),
            Self::Str(s) => f.write_str(s),
            Self::List(items) => {
                f.write_str("[")?;
                for (idx, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if idx > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("map[")?;
                for (idx, (key, value)) in map.iter().enumerate() {
                    write!(f, "{}{key}:{value}", if idx > 0 { " " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Object(o) => match o.print() {
                Some(text) => f.write_str(&text),
                None => match o.view() {
                    Self::Nil => write!(f, "{{{}}}", o.type_name()),
                    view => write!(f, "{view}"),
                },
            },
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(s) => write!(f, "{s:?}"),
            other => write!(f, "{other}"),
        }
    }
}
