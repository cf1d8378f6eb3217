//! `${env:NAME}`, `${env:NAME:-default}`, `${NAME}` and `$$` in values.

use super::node::Scalar;

/// A text with its references replaced; `None` when it has none. A value that is a reference as a whole is typed
/// as YAML would type what it stands for.
pub(crate) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Scalar>, String> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut n_references = 0;
    let mut outside = 0;
    while let Some(at) = rest.find('$') {
        outside += at;
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            outside += 1;
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let end = after.find('}').ok_or_else(|| format!("`${{{after}` is not closed"))?;
            out.push_str(&value_of(&after[..end], env)?);
            n_references += 1;
            rest = &after[end + 1..];
        } else {
            // `$1` and the like mean something to those who read the value.
            out.push('$');
            outside += 1;
            rest = after;
        }
    }
    outside += rest.len();
    out.push_str(rest);
    let is_whole = n_references == 1 && outside == 0;
    Ok(Some(if is_whole { typed(out) } else { Scalar::Str(out) }))
}

fn value_of(reference: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let name = match reference.split_once(':') {
        None => reference,
        Some(("env", rest)) => rest,
        Some((scheme, _)) if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_lowercase()) => {
            return Err(format!("`${{{reference}}}`: values from `{scheme}` are not supported, only from `env`"));
        }
        // `${NAME:-default}` without a scheme.
        Some(_) => reference,
    };
    let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default)));
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
        return Err(format!("`{name}` is no name of an environment variable"));
    }
    // One that is not set is empty, as upstream has it.
    Ok(env(name).or(default.map(str::to_owned)).unwrap_or_default())
}

fn typed(text: String) -> Scalar {
    match &*text {
        "" | "null" | "~" => Scalar::Null,
        "true" => Scalar::Bool(true),
        "false" => Scalar::Bool(false),
        other => {
            let is_number = other.starts_with(|c: char| c.is_ascii_digit() || c == '-');
            match (other.parse::<i64>(), other.parse::<f64>()) {
                (Ok(v), _) if is_number => Scalar::Int(v),
                (_, Ok(v)) if is_number => Scalar::Float(v),
                _ => Scalar::Str(text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced() {
        let env = |name: &str| match name {
            "HOST" => Some("tempo".to_owned()),
            "N" => Some("12".to_owned()),
            _ => None,
        };
        let check = |text: &str, want: Option<Scalar>| assert_eq!(expand(text, &env), Ok(want), "{text}");
        let text = |t: &str| Some(Scalar::Str(t.to_owned()));
        check("plain", None);
        check("http://${env:HOST}:4317", text("http://tempo:4317"));
        check("${HOST}", text("tempo"));
        check("${env:N}", Some(Scalar::Int(12)));
        check("${env:N}s", text("12s"));
        check("${env:NONE:-5s}", text("5s"));
        check("${env:NONE}", Some(Scalar::Null));
        check("$${env:HOST} $$1 $2", text("${env:HOST} $1 $2"));
        for bad in ["${env:HOST", "${file:/etc/x}", "${env:a b}", "${}"] {
            assert!(expand(bad, &env).is_err(), "{bad}");
        }
    }
}
