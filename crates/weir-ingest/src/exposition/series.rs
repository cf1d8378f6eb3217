//! `name{label="value"}` and `{"utf-8 name", "label"="value"}`.

use std::borrow::Cow;

use weir_model::labels::METRIC_NAME;

/// Names and values as written, `__name__` first when there is a name.
pub type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// The byte after the series: after its `}`, or at the first blank when it has no labels.
pub(super) fn series_end(line: &str) -> Result<usize, String> {
    let bytes = line.as_bytes();
    let Some(open) = line.find(['{', ' ', '\t']) else { return Ok(line.len()) };
    let brace = if bytes[open] == b'{' {
        open
    } else {
        // Blanks may stand between name and brace.
        let skipped = open + bytes[open..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        if bytes.get(skipped) != Some(&b'{') {
            return Ok(open);
        }
        skipped
    };
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in bytes.iter().enumerate().skip(brace + 1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'}' if !is_quoted => return Ok(at + 1),
            _ => {}
        }
    }
    Err(if is_quoted { "a quote is not closed".to_owned() } else { "`{` is not closed".to_owned() })
}

/// The labels of a series' text.
pub fn series_pairs(series: &str) -> Result<Pairs<'_>, String> {
    let (name, labels) = series.split_once('{').map_or((series, None), |(name, labels)| (name, Some(labels)));
    let name = name.trim();
    let mut pairs: Pairs<'_> = Vec::new();
    if !name.is_empty() {
        if !is_name(name, true) {
            return Err(format!("`{name}` is no metric name"));
        }
        pairs.push((METRIC_NAME.into(), name.into()));
    }
    let Some(mut rest) = labels else { return Ok(pairs) };
    let mut is_first = true;
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return if after.trim().is_empty() { Ok(pairs) } else { Err("text after `}`".to_owned()) };
        }
        if !is_first {
            rest = rest.strip_prefix(',').ok_or("expected `,` between labels")?.trim_start();
            if rest.starts_with('}') {
                continue;
            }
        }
        is_first = false;
        rest = pair(rest, &mut pairs)?;
    }
}

/// Reads `name="value"`, `"name"="value"` or a quoted metric name; answers what follows.
fn pair<'a>(rest: &'a str, pairs: &mut Pairs<'a>) -> Result<&'a str, String> {
    let (name, after) = if rest.starts_with('"') {
        quoted(rest)?
    } else {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        let name = &rest[..end];
        if !is_name(name, false) {
            return Err(format!("expected a label name, found `{}`", rest.chars().take(20).collect::<String>()));
        }
        (Cow::Borrowed(name), &rest[end..])
    };
    let after = after.trim_start();
    if let Some(value) = after.strip_prefix('=') {
        let (value, after) = quoted(value.trim_start())?;
        pairs.push((name, value));
        return Ok(after);
    }
    if rest.starts_with('"') && !pairs.iter().any(|(n, _)| n == METRIC_NAME) {
        pairs.push((METRIC_NAME.into(), name));
        return Ok(after);
    }
    Err(format!("label `{name}` has no `=`"))
}

fn is_name(name: &str, with_colon: bool) -> bool {
    !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || (with_colon && b == b':'))
}

/// A quoted text, and what follows it.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let inner = text.strip_prefix('"').ok_or("expected a quoted value")?;
    let stop = inner.find(['"', '\\']).ok_or("a quote is not closed")?;
    if inner.as_bytes()[stop] == b'"' {
        return Ok((Cow::Borrowed(&inner[..stop]), &inner[stop + 1..]));
    }
    let mut out = String::from(&inner[..stop]);
    let mut chars = inner[stop..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Cow::Owned(out), &inner[stop + at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                // Other escapes stand for themselves, as upstream has it.
                Some((_, c)) => out.extend(['\\', c]),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a quote is not closed".to_owned())
}
