//! `line_format` and `label_format`: Go templates over a row's labels. Functions stand in one file
//! per kind of value.

mod date;
mod number;
mod text;

use std::fmt;
use std::sync::{Arc, LazyLock};

use weir_go::template::{Functions, Template, Templates, Value};

use super::row::Row;

/// Longest text that a function may make out of a count (`repeat`, `indent`, `alignLeft`).
const MADE_BYTES_MAX: usize = 1 << 20;

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::new(functions()));

#[derive(Clone)]
pub struct LineTemplate {
    source: String,
    template: Template,
}

impl fmt::Debug for LineTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LineTemplate({:?})", self.source)
    }
}

/// What `__line__`, `__timestamp__` and `now` give.
struct LineEnv {
    line: Arc<str>,
    nanos: i64,
    /// When the query began.
    now_nanos: i64,
}

impl LineTemplate {
    pub fn parse(source: &str) -> Result<Self, String> {
        let template = TEMPLATES.parse("line", source).map_err(|e| e.to_string())?;
        Ok(Self { source: source.to_owned(), template })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn render(&self, row: &Row<'_>) -> Result<String, String> {
        self.render_with(row, &Self::data(row))
    }

    /// The labels of a row, as templates see them.
    pub(crate) fn data(row: &Row<'_>) -> Value {
        let mut pairs: Vec<(Arc<str>, Value)> = Vec::new();
        row.for_each(|_, name, value| pairs.push((name.into(), value.into())));
        pairs.extend(row.error_labels().map(|(name, value)| (name.into(), value.into())));
        Value::map(pairs)
    }

    /// `data` may be older than the row: the templates of one `label_format` all see the labels as
    /// they were at its first.
    pub(crate) fn render_with(&self, row: &Row<'_>, data: &Value) -> Result<String, String> {
        let env = LineEnv { line: row.line().into(), nanos: row.entry.at.0, now_nanos: row.now().0 };
        TEMPLATES.render_with(&self.template, data, &env).map_err(|e| e.to_string())
    }
}

/// What templates may call; `__line__`, `__timestamp__` and `now` fail where there is no line of a query.
pub fn functions() -> Functions {
    let mut f = Functions::builtin();
    f.register("__line__", |call, _| {
        let env = call.env.downcast_ref::<LineEnv>().ok_or("no line here")?;
        Ok(Value::Str(env.line.clone()))
    });
    text::register(&mut f);
    number::register(&mut f);
    date::register(&mut f);
    f
}

fn arg(args: &[Value], idx: usize) -> Result<&Value, String> {
    args.get(idx).ok_or_else(|| format!("wrong number of args: want at least {} got {}", idx + 1, args.len()))
}
fn text(args: &[Value], idx: usize) -> Result<String, String> {
    match arg(args, idx)? {
        Value::Str(text) => Ok(text.to_string()),
        other => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
    }
}
fn float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Int(v) => Ok(*v as f64),
        Value::Float(v) => Ok(*v),
        // An absent or unreadable label counts as zero, as in sprig's casts.
        other => Ok(other.text().trim().parse().unwrap_or(0.0)),
    }
}
fn int(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(v) => Ok(*v),
        Value::Float(v) => Ok(*v as i64),
        Value::Bool(v) => Ok(i64::from(*v)),
        other => {
            // What is no number counts as zero, as in sprig's casts.
            let text = other.text();
            let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
            let is_number = decimals.bytes().all(|b| b.is_ascii_digit());
            Ok(whole.parse().ok().filter(|_| is_number).unwrap_or(0))
        }
    }
}

/// The first argument as a count of things of `size` bytes.
fn count(args: &[Value], size: usize) -> Result<usize, String> {
    let n = usize::try_from(int(arg(args, 0)?)?).unwrap_or(0);
    if n.saturating_mul(size) > MADE_BYTES_MAX {
        return Err(format!("{n} is too many; the result may hold {MADE_BYTES_MAX} bytes"));
    }
    Ok(n)
}
