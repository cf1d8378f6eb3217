//! What a line gets at the door: `detected_level`, `trace_id` and `span_id` as structured metadata.

use std::sync::Arc;

use weir_model::Labels;

use crate::{ids, level, line};

/// What nearly every line gets. Of each thread its own, so that two do not count references in one place.
struct Words {
    detected_level: Arc<str>,
    trace_id: Arc<str>,
    span_id: Arc<str>,
    levels: [Arc<str>; level::WORDS.len()],
}

thread_local! {
    static WORDS: Words = Words {
        detected_level: "detected_level".into(),
        trace_id: "trace_id".into(),
        span_id: "span_id".into(),
        levels: level::WORDS.map(Into::into),
    };
}

type Metadata = Vec<(Arc<str>, Arc<str>)>;

/// Adds levels and ids to the lines of one stream.
pub(crate) struct Enricher {
    /// The first of the level's names among the labels: its rank, and the level.
    label: Option<(usize, Option<&'static str>)>,
}

impl Enricher {
    pub(crate) fn new(labels: &Labels) -> Self {
        let names = level::NAMES.iter().enumerate();
        let label = names.filter_map(|(rank, name)| labels.get(name).map(|value| (rank, level::fold(value)))).next();
        Self { label }
    }

    /// Adds what is not there yet; ids that are there are normalised. `metadata` ends sorted by name.
    ///
    /// `severity` is OTLP's number. A level comes from the first of: labels and metadata, severity,
    /// fields of the line, a word of the line; else it is `unknown`.
    pub(crate) fn add(&self, severity: Option<i32>, text: &str, metadata: &mut Metadata) {
        let mut trace = take_id(metadata, "trace_id", ids::is_trace_key, ids::trace_id);
        let mut span = take_id(metadata, "span_id", ids::is_span_key, ids::span_id);
        let mut level = self.named_level(metadata).or_else(|| severity.and_then(level::of_severity));
        if level.is_none() || trace.is_none() || span.is_none() {
            let found = line::fields(text);
            trace = trace.or(found.trace_id);
            // A span id of the line belongs to the trace of the line.
            span = span.or(found.span_id);
            level = level.or(found.level);
        }
        let has_level = metadata.iter().any(|(name, _)| &**name == "detected_level");
        metadata.reserve_exact(usize::from(!has_level) + usize::from(trace.is_some()) + usize::from(span.is_some()));
        WORDS.with(|words| {
            if !has_level {
                let level = level.or_else(|| level::scan(text)).unwrap_or(level::UNKNOWN);
                let known = words.levels.iter().find(|known| &***known == level);
                metadata.push((words.detected_level.clone(), known.cloned().unwrap_or_else(|| level.into())));
            }
            if let Some(id) = span {
                replace(metadata, &words.span_id, id.to_text());
            }
            if let Some(id) = trace {
                replace(metadata, &words.trace_id, id.to_text());
            }
        });
        metadata.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// The level that a label or a piece of metadata names.
    fn named_level(&self, metadata: &[(Arc<str>, Arc<str>)]) -> Option<&'static str> {
        let ranked = metadata.iter().filter_map(|(name, value)| level::rank(name).map(|rank| (rank, value)));
        match (self.label, ranked.min_by_key(|(rank, _)| *rank)) {
            (Some((of_label, _)), Some((rank, value))) if rank < of_label => level::fold(value),
            (Some((_, level)), _) => level,
            (None, Some((_, value))) => level::fold(value),
            (None, None) => None,
        }
    }
}

fn replace(metadata: &mut Metadata, name: &Arc<str>, value: Arc<str>) {
    metadata.retain(|(known, _)| known != name);
    metadata.push((name.clone(), value));
}

/// The normalised id: from the entry of that very name, else from one in another spelling.
fn take_id<T>(
    metadata: &[(Arc<str>, Arc<str>)],
    name: &str,
    is_key: fn(&str) -> bool,
    normalise: fn(&str) -> Option<T>,
) -> Option<T> {
    let exact = metadata.iter().find(|(known, _)| &**known == name).and_then(|(_, value)| normalise(value));
    exact.or_else(|| metadata.iter().filter(|(known, _)| is_key(known)).find_map(|(_, value)| normalise(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[(&str, &str)], metadata: &[(&str, &str)], severity: Option<i32>, line: &str, want: &str) {
        let mut metadata: Metadata = metadata.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Enricher::new(&Labels::from_pairs(labels.iter().copied())).add(severity, line, &mut metadata);
        let got: Vec<String> = metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
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
        check(&[("level", "info")], &[("level", "error")], None, "", "detected_level=info level=error");
        check(&[("lvl", "info")], &[("level", "error")], None, "", "detected_level=error level=error");
        check(&[("level", "x")], &[("lvl", "error")], Some(9), "", "detected_level=info lvl=error");
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
