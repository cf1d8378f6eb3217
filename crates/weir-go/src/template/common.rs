//! Functions that Prometheus' and Alertmanager's templates have in common.

use super::builtin::Functions;
use super::value::Value;
use crate::humanize::{humanize, humanize_1024, humanize_duration, humanize_percentage, humanize_timestamp};

impl Functions {
    /// Case, `match`, `reReplaceAll`, `humanize*` and the like.
    pub fn with_common(mut self) -> Self {
        let text = |f: fn(&str) -> String| move |args: &[Value]| one(args).map(|v| Value::from(f(&v.text())));
        let upper = text(str::to_uppercase);
        let lower = text(str::to_lowercase);
        let titled = text(title);
        let same = text(str::to_owned);
        self.register("toUpper", move |_, args| upper(args));
        self.register("toLower", move |_, args| lower(args));
        self.register("title", move |_, args| titled(args));
        self.register("safeHtml", move |_, args| same(args));
        self.register("match", |_, args| {
            let [pattern, text] = exactly(args)?;
            let re = crate::regex(&pattern.text()).map_err(|e| e.to_string())?;
            Ok(Value::Bool(re.is_match(&text.text())))
        });
        self.register("reReplaceAll", |_, args| {
            let [pattern, with, text] = exactly(args)?;
            let re = crate::regex(&pattern.text()).map_err(|e| e.to_string())?;
            Ok(re.replace_all(&text.text(), &*with.text()).into_owned().into())
        });
        let number = |f: fn(f64) -> String| move |args: &[Value]| one(args).and_then(float).map(|v| Value::from(f(v)));
        let pairs: [(&'static str, fn(f64) -> String); 5] = [
            ("humanize", humanize),
            ("humanize1024", humanize_1024),
            ("humanizeDuration", humanize_duration),
            ("humanizePercentage", humanize_percentage),
            ("humanizeTimestamp", humanize_timestamp),
        ];
        for (name, f) in pairs {
            let f = number(f);
            self.register(name, move |_, args| f(args));
        }
        self
    }
}

fn exactly<const N: usize>(args: &[Value]) -> Result<&[Value; N], String> {
    args.try_into().map_err(|_| format!("wrong number of args: want {N} got {}", args.len()))
}
fn one(args: &[Value]) -> Result<&Value, String> {
    exactly::<1>(args).map(|[v]| v)
}

/// A number, or text that reads as one.
fn float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Int(i) => Ok(*i as f64),
        Value::Float(f) => Ok(*f),
        Value::Str(s) => s.parse().map_err(|_| format!("cannot read {s:?} as a number")),
        other => Err(format!("can't convert {} to float", other.type_name())),
    }
}

/// First letter of each word in upper case; a word starts after anything but letters, digits, `_`
/// and `'`.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::template::{Functions, Templates, Value};

    #[test]
    fn common_functions() {
        let templates = Templates::new(Functions::builtin().with_common());
        let check = |text: &str, want: &str| {
            let template = templates.parse("t", text).unwrap();
            assert_eq!(templates.render(&template, &Value::Nil).unwrap(), want, "{text}");
        };
        check(r#"{{"aa bb CC's" | title}} {{"aBc" | toUpper}} {{"aBc" | toLower}}"#, "Aa Bb CC's ABC abc");
        check(r#"{{match "^a.c$" "abc"}} {{match "x" "abc"}}"#, "true false");
        check(r#"{{reReplaceAll "(.*):(\\d+)" "$1 port ${2}" "host:80"}}"#, "host port 80");
        check(r#"{{humanize 1234567}} {{"0.5" | humanizePercentage}} {{humanizeDuration 90.0}}"#, "1.235M 50% 1m 30s");
    }
}
