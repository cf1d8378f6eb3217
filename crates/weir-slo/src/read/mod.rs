//! Objectives from files: weir's short form, OpenSLO, Sloth, told apart by what stands in them.

mod openslo;
mod own;
mod sloth;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use weir_promql::{Expr, ExprKind, ValueType};

use crate::slo::{Sli, Slo};

/// One thing wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct SloFileError {
    pub file: String,
    /// From 1; 0 where the whole file is meant.
    pub line: u64,
    pub reason: String,
}

/// What a document says of its kind.
#[derive(Deserialize)]
struct Kind {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    version: String,
}

const BYTES_MAX: usize = 4 << 20;

/// All objectives of a file, in its order. Names must not repeat.
pub fn parse(file: &str, text: &str) -> Result<Vec<Slo>, SloFileError> {
    let fail = |line: u64, reason: String| SloFileError { file: file.to_owned(), line, reason };
    if text.len() > BYTES_MAX {
        return Err(fail(0, format!("{} bytes; at most {BYTES_MAX} are read", text.len())));
    }
    let (mut slos, mut open) = (Vec::new(), openslo::Documents::default());
    for (first, document) in documents(text) {
        if document.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
            continue;
        }
        let at = |(line, reason): (u64, String)| fail(if line == 0 { first } else { first + line - 1 }, reason);
        let kind: Kind = yaml(document).map_err(at)?;
        match (&*kind.api_version, &*kind.version) {
            ("openslo/v1", _) => open.add(document, first).map_err(at)?,
            ("sloth.slok.dev/v1", _) => slos.extend(sloth::kubernetes(document).map_err(at)?),
            ("", "prometheus/v1") => slos.extend(sloth::plain(document).map_err(at)?),
            ("", "") => slos.extend(own::read(document).map_err(at)?),
            (api, version) => {
                let found = if api.is_empty() { format!("version `{version}`") } else { format!("apiVersion `{api}`") };
                let reason = format!(
                    "{found} is not known: openslo/v1, sloth.slok.dev/v1, prometheus/v1 (Sloth) or none (weir)"
                );
                return Err(fail(first, reason));
            }
        }
        for slo in slos.iter_mut().filter(|s: &&mut Slo| s.file.is_empty()) {
            (slo.file, slo.line) = (file.to_owned(), slo.line + first - 1);
        }
    }
    let mut found = open.finish().map_err(|(line, reason)| fail(line, reason))?;
    found.iter_mut().for_each(|slo| slo.file = file.to_owned());
    slos.extend(found);
    for (k, slo) in slos.iter().enumerate() {
        check(slo).map_err(|reason| fail(slo.line, format!("objective `{}`: {reason}", slo.id)))?;
        if let Some(first) = slos[..k].iter().find(|s| s.id == slo.id) {
            return Err(fail(slo.line, format!("objective `{}` stands in line {} already", slo.id, first.line)));
        }
    }
    Ok(slos)
}

/// Documents between lines of `---`, each with the number of its first line.
fn documents(text: &str) -> Vec<(u64, &str)> {
    let (mut found, mut start, mut first, mut at) = (Vec::new(), 0, 1, 0);
    for (k, line) in text.split_inclusive('\n').enumerate() {
        at += line.len();
        if line.trim_end() == "---" {
            found.push((first, &text[start..at - line.len()]));
            (start, first) = (at, k as u64 + 2);
        }
    }
    found.push((first, &text[start..]));
    found
}

/// Line within the document, and what is wrong.
type At = (u64, String);

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, At> {
    serde_saphyr::from_str(text).map_err(|e| {
        let line = e.location().map_or(0, |l| l.line());
        let text = e.without_snippet().to_string();
        (line, text.lines().next().unwrap_or_default().to_owned())
    })
}

fn check(slo: &Slo) -> Result<(), String> {
    if slo.id.is_empty() || slo.service.is_empty() {
        return Err("`name` and `service` must not be empty".to_owned());
    }
    if !(slo.objective > 0.0 && slo.objective < 1.0) {
        return Err(format!("{} % is no objective: give one above 0 and below 100", slo.objective * 100.0));
    }
    for name in slo.labels.keys().chain(slo.alerts.page.labels.keys()).chain(slo.alerts.ticket.labels.keys()) {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
            return Err(format!("`{name}` is no name of a label"));
        }
    }
    let queries: Vec<(&str, &String)> = match &slo.sli {
        Sli::Events { bad, total } => vec![("bad events", bad), ("all events", total)],
        Sli::Ratio { bad } => vec![("share of bad events", bad)],
    };
    for (what, query) in queries {
        if !query.contains("{{.window}}") {
            return Err(format!("{what}: `{query}` has no `{{{{.window}}}}`, and windows differ"));
        }
        parsed(&query.replace("{{.window}}", "5m")).map_err(|e| format!("{what}: {e}"))?;
    }
    Ok(())
}

fn parsed(query: &str) -> Result<Expr, String> {
    let expr = weir_promql::parse(query).map_err(|e| format!("`{query}`: {e}"))?;
    match expr.value_type() {
        ValueType::Vector | ValueType::Scalar => Ok(expr),
        other => Err(format!("`{query}` gives a {other:?}, not a vector")),
    }
}

/// `sum(rate(…[window]))` of a counter that a selector names.
fn rate_of(selector: &str) -> Result<String, String> {
    match parsed(selector)?.kind {
        ExprKind::Vector(_) => Ok(format!("sum(rate({}[{{{{.window}}}}]))", selector.trim())),
        _ => Err(format!("`{selector}`: give a selector of counters, such as http_requests_total{{code=~\"5..\"}}")),
    }
}

/// Of percent, without what floating point adds: 99.9 % is 0.999.
fn share(percent: f64) -> f64 {
    (percent * 1e10).round() / 1e12
}
