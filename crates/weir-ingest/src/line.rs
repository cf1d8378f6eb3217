//! Level and ids inside a line: a JSON object (two levels deep) or logfmt.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::{ids, level};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub level: Option<&'static str>,
    pub trace_id: Option<String>,
    pub span_id: Option<String>,
}

impl Found {
    /// Takes a field when it is one of the three and the first of its kind.
    fn offer(&mut self, name: &str, value: &str) {
        if self.level.is_none() && level::is_level_key(name) {
            self.level = level::fold(value);
        } else if self.trace_id.is_none() && ids::is_trace_key(name) {
            self.trace_id = ids::trace_id(value).map(|id| id.to_string());
        } else if self.span_id.is_none() && ids::is_span_key(name) {
            self.span_id = ids::span_id(value).map(|id| id.to_string());
        }
    }
}

fn is_wanted(name: &str) -> bool {
    level::is_level_key(name) || ids::is_trace_key(name) || ids::is_span_key(name)
}

pub(crate) fn fields(line: &str) -> Found {
    let mut found = Found::default();
    if line.trim_start().starts_with('{') {
        // A line cut in the middle still gave what stood before the cut.
        let mut json = serde_json::Deserializer::from_str(line);
        let _ = Object { found: &mut found, depth: 0 }.deserialize(&mut json);
    } else if line.contains('=') {
        logfmt(line, &mut found);
    }
    found
}

struct Object<'a> {
    found: &'a mut Found,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Anything but an object is passed over.
impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(name)) = map.next_key()? {
            if is_wanted(&name) {
                let Scalar(value) = map.next_value()?;
                if let Some(value) = value {
                    self.found.offer(&name, &value);
                }
            } else if self.depth == 0 {
                map.next_value_seed(Object { found: self.found, depth: 1 })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A text or a number as text; anything else is `None`.
struct Scalar(Option<String>);

impl<'de> serde::Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Some(text),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }))
    }
}

/// `key=value` and `key="quoted value"`; words without `=` are passed over.
fn logfmt(line: &str, found: &mut Found) {
    let mut rest = line;
    while let Some(eq) = rest.find('=') {
        let name = rest[..eq].rsplit(|c: char| c.is_whitespace() || c == '"').next().unwrap_or("");
        rest = &rest[eq + 1..];
        let value;
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = closing_quote(quoted);
            value = &quoted[..end];
            rest = &quoted[(end + 1).min(quoted.len())..];
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            value = &rest[..end];
            rest = &rest[end..];
        }
        if is_wanted(name) {
            found.offer(name, value);
        }
    }
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at,
            b'\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, level: &str, trace: &str, span: &str) {
        let got = fields(line);
        let text = |v: &Option<String>| v.clone().unwrap_or_default();
        assert_eq!(
            (got.level.unwrap_or(""), text(&got.trace_id), text(&got.span_id)),
            (level, trace.into(), span.into()),
            "{line}"
        );
    }

    const T: &str = "5b8efff798038103d269b633813fc60c";
    const S: &str = "eee19b7ec3c1b174";

    #[test]
    fn json_two_levels_deep() {
        check(&format!(r#"{{"level":"WARN","trace_id":"{T}","span_id":"{S}"}}"#), "warn", T, S);
        check(
            &format!(r#"{{"a":[1,{{"level":"error"}}],"ctx":{{"traceId":"{T}","x":{{"spanId":"{S}"}}}}}}"#),
            "",
            T,
            "",
        );
        check(
            r#"{"dd":{"trace_id":15163124803265218060},"level":"info"}"#,
            "info",
            "0000000000000000d26e3dabbf89c60c",
            "",
        );
        check(&format!(r#"{{"trace_id":"{T}", "broken"#), "", T, "");
        check(r#"{"level":{"x":1},"trace_id":null}"#, "", "", "");
    }

    #[test]
    fn logfmt() {
        check(&format!("ts=1 level=error msg=\"a \\\" level=info\" trace_id={T} span_id=\"{S}\""), "error", T, S);
        check("no fields here", "", "", "");
        check("a= b==c level=", "", "", "");
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in "\\PC{0,80}", tail in "[{\"=\\\\a-z: ]{0,40}") {
            fields(&line);
            fields(&format!("{{{tail}"));
            fields(&tail);
        }
    }
}
