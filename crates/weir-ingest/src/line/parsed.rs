//! The same with a whole parser and char by char: what the quick reader is compared with.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Found, closing_quote, is_wanted};

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
