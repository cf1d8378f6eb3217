//! File patterns with `*`, `?` and `[…]` in the last part of the path.

use std::path::{Path, PathBuf};

/// The files that match, sorted; an exact path counts only when it exists.
pub(crate) fn files(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let Some(last) = pattern.file_name().and_then(|name| name.to_str()) else {
        return Err("the pattern names no file".to_owned());
    };
    if !last.contains(['*', '?', '[']) {
        return Ok(if pattern.exists() { vec![pattern.to_owned()] } else { Vec::new() });
    }
    let folder = pattern.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut out: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| is_match(last.as_bytes(), name.as_bytes())))
        .map(|entry| entry.path())
        .collect();
    out.sort();
    Ok(out)
}

/// Steps back to the last `*` only, so that no pattern takes longer than pattern times name.
pub(crate) fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match one(&pattern[p..], name[n]) {
            Some(length) => {
                p += length;
                n += 1;
            }
            None if pattern.get(p) == Some(&b'*') => {
                star = Some((p, n));
                p += 1;
            }
            None => {
                let Some((at, eaten)) = star else { return false };
                star = Some((at, eaten + 1));
                (p, n) = (at + 1, eaten + 1);
            }
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// The length of the pattern's next item when it matches the byte; `*` is none.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'*' => None,
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().skip(1).position(|b| *b == b']')? + 1;
            let set = &pattern[1..end];
            let (set, is_negated) = set.strip_prefix(b"^").map_or((set, false), |rest| (rest, true));
            let is_in = set.iter().enumerate().any(|(i, b)| match (set.get(i + 1), set.get(i + 2)) {
                (Some(b'-'), Some(end)) => (*b..=*end).contains(&byte),
                _ => *b == byte,
            });
            (is_in != is_negated).then_some(end + 1)
        }
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b => (*b == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, name: &str, want: bool| {
            assert_eq!(is_match(pattern.as_bytes(), name.as_bytes()), want, "{pattern} {name}");
        };
        check("*.yml", "a.yml", true);
        check("*.yml", "a.yaml", false);
        check("a*b*c", "axxbyybzc", true);
        check("a*b*c", "axxbyyb", false);
        check("t?[0-9].json", "tx7.json", true);
        check("t?[^0-9].json", "tx7.json", false);
        check("*", "", true);
    }
}
