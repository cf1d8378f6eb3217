//! What a line gets at the door: `detected_level`, `trace_id` and `span_id` as structured metadata.

use std::sync::Arc;

use weir_model::{Labels, LogEntry};

use crate::{ids, level, line};

/// Adds what is not there yet; ids that are there are normalised. `metadata` ends sorted by name.
///
/// `severity` is OTLP's number. A level comes from the first of: labels and metadata, severity,
/// fields of the line, a word of the line; else it is `unknown`.
pub(crate) fn enrich(labels: &Labels, severity: Option<i32>, entry: &mut LogEntry) {
    let metadata = &mut entry.metadata;
    let mut trace =
        take_id(metadata, "trace_id", ids::is_trace_key, |text| ids::trace_id(text).map(|id| id.to_string()));
    let mut span = take_id(metadata, "span_id", ids::is_span_key, |text| ids::span_id(text).map(|id| id.to_string()));
    let has_level = metadata.iter().any(|(name, _)| &**name == "detected_level");
    let mut found_level = named_level(labels, metadata).or_else(|| severity.and_then(level::of_severity));
    if found_level.is_none() || trace.is_none() || span.is_none() {
        let found = line::fields(&entry.line);
        trace = trace.or(found.trace_id);
        // A span id of the line belongs to the trace of the line.
        span = span.or(found.span_id);
        found_level = found_level.or(found.level);
    }
    if !has_level {
        let level = found_level.or_else(|| level::scan(&entry.line)).unwrap_or("unknown");
        metadata.push(("detected_level".into(), level.into()));
    }
    for (name, id) in [("trace_id", trace), ("span_id", span)] {
        if let Some(id) = id {
            metadata.retain(|(known, _)| &**known != name);
            metadata.push((name.into(), id.into()));
        }
    }
    metadata.sort_by(|a, b| a.0.cmp(&b.0));
}

/// The level that a label or a piece of metadata names.
fn named_level(labels: &Labels, metadata: &[(Arc<str>, Arc<str>)]) -> Option<&'static str> {
    let value = level::NAMES.iter().find_map(|name| {
        let in_metadata = || metadata.iter().find(|(known, _)| &**known == *name).map(|(_, value)| &**value);
        labels.get(name).or_else(in_metadata)
    })?;
    level::fold(value)
}

/// The normalised id: from the entry of that very name, else from one in another spelling.
fn take_id(
    metadata: &[(Arc<str>, Arc<str>)],
    name: &str,
    is_key: fn(&str) -> bool,
    normalise: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let exact = metadata.iter().find(|(known, _)| &**known == name).and_then(|(_, value)| normalise(value));
    exact.or_else(|| metadata.iter().filter(|(known, _)| is_key(known)).find_map(|(_, value)| normalise(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::Nanos;

    #[track_caller]
    fn check(labels: &[(&str, &str)], metadata: &[(&str, &str)], severity: Option<i32>, line: &str, want: &str) {
        let mut entry = LogEntry {
            at: Nanos(0),
            line: line.into(),
            metadata: metadata.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        };
        enrich(&Labels::from_pairs(labels.iter().copied()), severity, &mut entry);
        let got: Vec<String> = entry.metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(got.join(" "), want, "{line}");
    }

    #[test]
    fn levels_come_from_the_first_source_that_knows() {
        check(&[], &[], None, "hello", "detected_level=unknown");
        check(&[("level", "WARNING")], &[], Some(17), "error", "detected_level=warn");
        check(&[], &[("severity", "crit")], None, "", "detected_level=critical severity=crit");
        check(&[], &[], Some(17), "level=info", "detected_level=error");
        check(&[], &[], None, "level=info error", "detected_level=info");
        check(&[], &[], None, "2026-01-01 [ERROR] broken", "detected_level=error");
        check(&[], &[("detected_level", "debug")], None, "error", "detected_level=debug");
    }

    #[test]
    fn ids_are_kept_normalised() {
        let t = "5b8efff798038103d269b633813fc60c";
        check(
            &[],
            &[("traceID", &t.to_uppercase())],
            None,
            "",
            &format!("detected_level=unknown traceID={} trace_id={t}", t.to_uppercase()),
        );
        check(&[], &[("trace_id", &t.to_uppercase())], None, "", &format!("detected_level=unknown trace_id={t}"));
        check(&[], &[], None, &format!("{{\"traceId\":\"{t}\"}}"), &format!("detected_level=unknown trace_id={t}"));
        check(&[], &[("trace_id", "not an id")], None, "", "detected_level=unknown trace_id=not an id");
    }
}
