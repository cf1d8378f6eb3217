//! Functions that change what a path names: a row each.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use regex::Regex;

use super::eval::{Scene, value};
use super::parse::Expr;
use super::path::Path;
use super::value::{Value, attributes};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Set,
    DeleteKey,
    DeleteMatchingKeys,
    KeepKeys,
    KeepMatchingKeys,
    ReplacePattern,
    ReplaceAllPatterns,
    ReplaceMatch,
    ReplaceAllMatches,
    TruncateAll,
    Limit,
    MergeMaps,
    Append,
    Flatten,
}

pub(super) struct Editor {
    pub name: &'static str,
    pub kind: Kind,
    /// The first is the target.
    pub params: &'static [&'static str],
    pub n_required: usize,
    pub pattern: Option<usize>,
}

const fn row(
    name: &'static str,
    kind: Kind,
    params: &'static [&'static str],
    n_required: usize,
    pattern: Option<usize>,
) -> Editor {
    Editor { name, kind, params, n_required, pattern }
}

pub(super) const EDITORS: &[Editor] = &[
    row("set", Kind::Set, &["target", "value"], 2, None),
    row("delete_key", Kind::DeleteKey, &["target", "key"], 2, None),
    row("delete_matching_keys", Kind::DeleteMatchingKeys, &["target", "pattern"], 2, Some(1)),
    row("keep_keys", Kind::KeepKeys, &["target", "keys"], 2, None),
    row("keep_matching_keys", Kind::KeepMatchingKeys, &["target", "pattern"], 2, Some(1)),
    row("replace_pattern", Kind::ReplacePattern, &["target", "regex", "replacement"], 3, Some(1)),
    row("replace_all_patterns", Kind::ReplaceAllPatterns, &["target", "mode", "regex", "replacement"], 4, Some(2)),
    row("replace_match", Kind::ReplaceMatch, &["target", "pattern", "replacement"], 3, None),
    row("replace_all_matches", Kind::ReplaceAllMatches, &["target", "pattern", "replacement"], 3, None),
    row("truncate_all", Kind::TruncateAll, &["target", "limit"], 2, None),
    row("limit", Kind::Limit, &["target", "limit", "priority_keys"], 3, None),
    row("merge_maps", Kind::MergeMaps, &["target", "source", "strategy"], 3, None),
    row("append", Kind::Append, &["target", "value", "values"], 1, None),
    row("flatten", Kind::Flatten, &["target", "prefix", "depth"], 1, None),
];

/// A checked edit.
#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub kind: Kind,
    pub target: Path,
    /// Those after the target.
    pub args: Vec<Option<Expr>>,
    pub regex: Option<Regex>,
}

impl Edit {
    fn arg(&self, k: usize, scene: &mut Scene<'_>) -> Result<Value, String> {
        self.args.get(k).and_then(Option::as_ref).map_or(Ok(Value::Nil), |expr| value(expr, scene))
    }
    fn text(&self, k: usize, scene: &mut Scene<'_>) -> Result<String, String> {
        match self.arg(k, scene)? {
            Value::Str(text) => Ok(text),
            other => Err(format!("expected a string, not a {}", other.kind())),
        }
    }
    fn texts(&self, k: usize, scene: &mut Scene<'_>) -> Result<Vec<String>, String> {
        let Value::List(items) = self.arg(k, scene)? else { return Err("expected a list of strings".to_owned()) };
        let text = |item| match item {
            Value::Str(text) => Ok(text),
            other => Err(format!("expected strings in the list, not a {}", other.kind())),
        };
        items.into_iter().map(text).collect()
    }
    fn count(&self, k: usize, scene: &mut Scene<'_>) -> Result<usize, String> {
        match self.arg(k, scene)? {
            Value::Int(v) if v >= 0 => Ok(usize::try_from(v).unwrap_or(usize::MAX)),
            _ => Err("expected a number, not below zero".to_owned()),
        }
    }
    fn regex(&self, k: usize, scene: &mut Scene<'_>) -> Result<Regex, String> {
        match &self.regex {
            Some(regex) => Ok(regex.clone()),
            None => weir_go::regex(&self.text(k, scene)?).map_err(|e| e.to_string()),
        }
    }
}

fn string_mut(kv: &mut KeyValue) -> Option<&mut String> {
    match kv.value.as_mut()?.value.as_mut()? {
        Any::StringValue(text) => Some(text),
        _ => None,
    }
}

/// `$1` and `${name}` in a replacement are groups.
fn replaced(regex: &Regex, text: &str, replacement: &str) -> Option<String> {
    regex.is_match(text).then(|| regex.replace_all(text, replacement).into_owned())
}

pub(super) fn apply(edit: &Edit, scene: &mut Scene<'_>) -> Result<(), String> {
    match edit.kind {
        Kind::Set => {
            let value = edit.arg(0, scene)?;
            // Nil changes nothing, as upstream has it.
            if value == Value::Nil { Ok(()) } else { scene.set(&edit.target, value) }
        }
        Kind::ReplacePattern => {
            let (regex, with) = (edit.regex(0, scene)?, edit.text(1, scene)?);
            match scene.get(&edit.target) {
                Value::Str(text) => match replaced(&regex, &text, &with) {
                    Some(text) => scene.set(&edit.target, Value::Str(text)),
                    None => Ok(()),
                },
                _ => Ok(()),
            }
        }
        Kind::ReplaceMatch => {
            let (glob, with) = (glob(&edit.text(0, scene)?)?, edit.text(1, scene)?);
            match scene.get(&edit.target) {
                Value::Str(text) if glob.is_match(&text) => scene.set(&edit.target, Value::Str(with)),
                _ => Ok(()),
            }
        }
        Kind::Append => append(edit, scene),
        _ => edit_map(edit, scene),
    }
}

fn append(edit: &Edit, scene: &mut Scene<'_>) -> Result<(), String> {
    let mut list = match scene.get(&edit.target) {
        Value::Nil => Vec::new(),
        Value::List(list) => list,
        single => vec![single],
    };
    match (edit.arg(0, scene)?, edit.arg(1, scene)?) {
        (Value::Nil, Value::Nil) => return Err("append needs `value` or `values`".to_owned()),
        (one, Value::Nil) => list.push(one),
        (Value::Nil, Value::List(more)) => list.extend(more),
        _ => return Err("append takes either `value` or a list as `values`".to_owned()),
    }
    scene.set(&edit.target, Value::List(list))
}

/// Edits of a map's entries. A target that is no map stays as it is.
fn edit_map(edit: &Edit, scene: &mut Scene<'_>) -> Result<(), String> {
    match edit.kind {
        Kind::DeleteKey => {
            let key = edit.text(0, scene)?;
            with_map(edit, scene, |map| map.retain(|kv| kv.key != key));
        }
        Kind::DeleteMatchingKeys => {
            let regex = edit.regex(0, scene)?;
            with_map(edit, scene, |map| map.retain(|kv| !regex.is_match(&kv.key)));
        }
        Kind::KeepKeys => {
            let keys = edit.texts(0, scene)?;
            with_map(edit, scene, |map| map.retain(|kv| keys.contains(&kv.key)));
        }
        Kind::KeepMatchingKeys => {
            let regex = edit.regex(0, scene)?;
            with_map(edit, scene, |map| map.retain(|kv| regex.is_match(&kv.key)));
        }
        Kind::ReplaceAllPatterns => {
            let (mode, regex, with) = (edit.text(0, scene)?, edit.regex(1, scene)?, edit.text(2, scene)?);
            match &*mode {
                "key" => with_map(edit, scene, |map| {
                    for kv in map {
                        if let Some(key) = replaced(&regex, &kv.key, &with) {
                            kv.key = key;
                        }
                    }
                }),
                "value" => with_map(edit, scene, |map| {
                    for text in map.iter_mut().filter_map(string_mut) {
                        if let Some(new) = replaced(&regex, text, &with) {
                            *text = new;
                        }
                    }
                }),
                other => return Err(format!("`{other}` is no mode: key, value")),
            }
        }
        Kind::ReplaceAllMatches => {
            let (glob, with) = (glob(&edit.text(0, scene)?)?, edit.text(1, scene)?);
            with_map(edit, scene, |map| {
                map.iter_mut().filter_map(string_mut).filter(|t| glob.is_match(t)).for_each(|t| *t = with.clone());
            });
        }
        Kind::TruncateAll => {
            let limit = edit.count(0, scene)?;
            with_map(edit, scene, |map| {
                map.iter_mut().filter_map(string_mut).for_each(|t| t.truncate(t.floor_char_boundary(limit)));
            });
        }
        Kind::Limit => {
            let (limit, first) = (edit.count(0, scene)?, edit.texts(1, scene)?);
            if limit < first.len() {
                return Err(format!("{} priority keys and a limit of {limit}", first.len()));
            }
            with_map(edit, scene, |map| {
                let mut left = limit.saturating_sub(map.iter().filter(|kv| first.contains(&kv.key)).count());
                map.retain(|kv| {
                    let stays = first.contains(&kv.key) || left > 0;
                    if stays && !first.contains(&kv.key) {
                        left -= 1;
                    }
                    stays
                });
            });
        }
        Kind::MergeMaps => merge(edit, scene)?,
        Kind::Flatten => flatten(edit, scene)?,
        Kind::Set | Kind::ReplacePattern | Kind::ReplaceMatch | Kind::Append => {}
    }
    Ok(())
}

fn with_map(edit: &Edit, scene: &mut Scene<'_>, change: impl FnOnce(&mut Vec<KeyValue>)) {
    if let Some(map) = scene.map_mut(&edit.target) {
        change(map);
    }
}

fn merge(edit: &Edit, scene: &mut Scene<'_>) -> Result<(), String> {
    let (source, strategy) = (edit.arg(0, scene)?, edit.text(1, scene)?);
    let Value::Map(source) = source else { return Err(format!("expected a map, not a {}", source.kind())) };
    let (replaces, adds) = match &*strategy {
        "insert" => (false, true),
        "update" => (true, false),
        "upsert" => (true, true),
        other => return Err(format!("`{other}` is no strategy: insert, update, upsert")),
    };
    with_map(edit, scene, |map| {
        for kv in attributes(source) {
            match map.iter_mut().find(|known| known.key == kv.key) {
                Some(known) if replaces => known.value = kv.value,
                None if adds => map.push(kv),
                _ => {}
            }
        }
    });
    Ok(())
}

fn flatten(edit: &Edit, scene: &mut Scene<'_>) -> Result<(), String> {
    fn into(out: &mut Vec<KeyValue>, key: String, value: AnyValue, depth: usize) {
        let entries: Vec<(String, AnyValue)> = match value.value {
            Some(Any::KvlistValue(map)) if depth > 0 => {
                map.values.into_iter().map(|kv| (kv.key, kv.value.unwrap_or_default())).collect()
            }
            Some(Any::ArrayValue(list)) if depth > 0 => {
                list.values.into_iter().enumerate().map(|(k, v)| (k.to_string(), v)).collect()
            }
            value => {
                out.push(KeyValue { key, value: Some(AnyValue { value }), ..KeyValue::default() });
                return;
            }
        };
        entries.into_iter().for_each(|(inner, v)| into(out, format!("{key}.{inner}"), v, depth - 1));
    }
    let prefix = match edit.arg(0, scene)? {
        Value::Str(prefix) if !prefix.is_empty() => format!("{prefix}."),
        _ => String::new(),
    };
    let depth = if edit.args.get(1).is_some_and(Option::is_some) { edit.count(1, scene)? } else { 64 };
    with_map(edit, scene, |map| {
        let mut out = Vec::with_capacity(map.len());
        for kv in std::mem::take(map) {
            into(&mut out, format!("{prefix}{}", kv.key), kv.value.unwrap_or_default(), depth);
        }
        *map = out;
    });
    Ok(())
}

/// `*` and `?`, over the whole text.
fn glob(pattern: &str) -> Result<Regex, String> {
    let mut out = String::from("(?s)^");
    for c in pattern.chars() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push('$');
    weir_go::regex(&out).map_err(|e| e.to_string())
}
