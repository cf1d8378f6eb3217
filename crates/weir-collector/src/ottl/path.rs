//! What a path may name in which context.

/// What an expression is evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    Resource,
    Scope,
    Span,
    SpanEvent,
    Metric,
    DataPoint,
    Log,
}

impl Context {
    pub const ALL: [Self; 7] =
        [Self::Resource, Self::Scope, Self::Span, Self::SpanEvent, Self::Metric, Self::DataPoint, Self::Log];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Scope => "scope",
            Self::Span => "span",
            Self::SpanEvent => "spanevent",
            Self::Metric => "metric",
            Self::DataPoint => "datapoint",
            Self::Log => "log",
        }
    }
    pub fn of_name(name: &str) -> Option<Self> {
        // The old name of `scope`.
        let name = if name == "instrumentation_scope" { "scope" } else { name };
        Self::ALL.into_iter().find(|c| c.as_str() == name)
    }
    /// Whether paths of `other` can be read where this is evaluated.
    pub fn sees(self, other: Self) -> bool {
        match other {
            Self::Resource => true,
            Self::Scope => self != Self::Resource,
            Self::Span => matches!(self, Self::Span | Self::SpanEvent),
            Self::Metric => matches!(self, Self::Metric | Self::DataPoint),
            other => self == other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Attributes,
    DroppedAttributes,
    SchemaUrl,
    Name,
    Version,
    Kind,
    KindString,
    TraceId,
    TraceIdString,
    SpanId,
    SpanIdString,
    ParentSpanId,
    ParentSpanIdString,
    TraceState,
    StartNanos,
    EndNanos,
    StartTime,
    EndTime,
    StatusCode,
    StatusMessage,
    Events,
    Links,
    DroppedEvents,
    DroppedLinks,
    Flags,
    Nanos,
    Time,
    ObservedNanos,
    ObservedTime,
    Description,
    Unit,
    Type,
    Temporality,
    IsMonotonic,
    ValueDouble,
    ValueInt,
    Count,
    Sum,
    BucketCounts,
    ExplicitBounds,
    Body,
    BodyString,
    SeverityNumber,
    SeverityText,
    EventName,
    /// Values that live as long as one item's statements.
    Cache,
}

use Context::{DataPoint, Log, Metric, Resource, Scope, Span, SpanEvent};

const PARTS: &[(&[Context], &str, Part)] = &[
    (&[Resource, Scope, Span, SpanEvent, DataPoint, Log], "attributes", Part::Attributes),
    (&[Resource, Scope, Span, SpanEvent, Log], "dropped_attributes_count", Part::DroppedAttributes),
    (&[Resource, Scope], "schema_url", Part::SchemaUrl),
    (&[Scope, Span, SpanEvent, Metric], "name", Part::Name),
    (&[Scope], "version", Part::Version),
    (&[Span], "kind", Part::Kind),
    (&[Span], "kind.string", Part::KindString),
    (&[Span, Log], "trace_id", Part::TraceId),
    (&[Span, Log], "trace_id.string", Part::TraceIdString),
    (&[Span, Log], "span_id", Part::SpanId),
    (&[Span, Log], "span_id.string", Part::SpanIdString),
    (&[Span], "parent_span_id", Part::ParentSpanId),
    (&[Span], "parent_span_id.string", Part::ParentSpanIdString),
    (&[Span], "trace_state", Part::TraceState),
    (&[Span, DataPoint], "start_time_unix_nano", Part::StartNanos),
    (&[Span], "end_time_unix_nano", Part::EndNanos),
    (&[Span, DataPoint], "start_time", Part::StartTime),
    (&[Span], "end_time", Part::EndTime),
    (&[Span], "status.code", Part::StatusCode),
    (&[Span], "status.message", Part::StatusMessage),
    (&[Span], "events", Part::Events),
    (&[Span], "links", Part::Links),
    (&[Span], "dropped_events_count", Part::DroppedEvents),
    (&[Span], "dropped_links_count", Part::DroppedLinks),
    (&[Span, DataPoint, Log], "flags", Part::Flags),
    (&[SpanEvent, DataPoint, Log], "time_unix_nano", Part::Nanos),
    (&[SpanEvent, DataPoint, Log], "time", Part::Time),
    (&[Log], "observed_time_unix_nano", Part::ObservedNanos),
    (&[Log], "observed_time", Part::ObservedTime),
    (&[Metric], "description", Part::Description),
    (&[Metric], "unit", Part::Unit),
    (&[Metric], "type", Part::Type),
    (&[Metric], "aggregation_temporality", Part::Temporality),
    (&[Metric], "is_monotonic", Part::IsMonotonic),
    (&[DataPoint], "value_double", Part::ValueDouble),
    (&[DataPoint], "value_int", Part::ValueInt),
    (&[DataPoint], "count", Part::Count),
    (&[DataPoint], "sum", Part::Sum),
    (&[DataPoint], "bucket_counts", Part::BucketCounts),
    (&[DataPoint], "explicit_bounds", Part::ExplicitBounds),
    (&[Log], "body", Part::Body),
    (&[Log], "body.string", Part::BodyString),
    (&[Log], "severity_number", Part::SeverityNumber),
    (&[Log], "severity_text", Part::SeverityText),
    (&[Log], "event_name", Part::EventName),
    (&[Resource, Scope, Span, SpanEvent, Metric, DataPoint, Log], "cache", Part::Cache),
];

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    Name(String),
    Index(i64),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    pub of: Context,
    pub part: Part,
    pub keys: Vec<Key>,
}

impl Path {
    /// `words`: the parts between dots, without the context's name.
    pub fn resolve(of: Context, words: &[String], keys: Vec<Key>) -> Result<Self, String> {
        let dotted = words.join(".");
        let found = PARTS.iter().find(|(contexts, name, _)| *name == dotted && contexts.contains(&of));
        let Some((.., part)) = found else {
            let known: Vec<&str> =
                PARTS.iter().filter(|(contexts, ..)| contexts.contains(&of)).map(|(_, name, _)| *name).collect();
            return Err(format!("`{dotted}` is no path of {}; known are {}", of.as_str(), known.join(", ")));
        };
        let takes_keys = matches!(part, Part::Attributes | Part::Cache | Part::Body | Part::TraceState);
        if !keys.is_empty() && !takes_keys {
            return Err(format!("`{dotted}` has no keys"));
        }
        Ok(Self { of, part: *part, keys })
    }
}

/// Numbers that have names.
pub(super) fn constant(name: &str) -> Option<i64> {
    const SEVERITIES: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"];
    if let Some(level) = name.strip_prefix("SEVERITY_NUMBER_") {
        if level == "UNSPECIFIED" {
            return Some(0);
        }
        let word = level.trim_end_matches(|c: char| c.is_ascii_digit());
        let nth = SEVERITIES.iter().position(|s| *s == word)? as i64;
        let within = match &level[word.len()..] {
            "" => 1,
            "2" => 2,
            "3" => 3,
            "4" => 4,
            _ => return None,
        };
        return Some(nth * 4 + within);
    }
    let tables: [(&str, &[&str]); 4] = [
        ("SPAN_KIND_", &["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]),
        ("STATUS_CODE_", &["UNSET", "OK", "ERROR"]),
        ("METRIC_DATA_TYPE_", &["NONE", "GAUGE", "SUM", "HISTOGRAM", "EXPONENTIAL_HISTOGRAM", "SUMMARY"]),
        ("AGGREGATION_TEMPORALITY_", &["UNSPECIFIED", "DELTA", "CUMULATIVE"]),
    ];
    tables.iter().find_map(|(prefix, names)| {
        let word = name.strip_prefix(prefix)?;
        names.iter().position(|n| *n == word).map(|n| n as i64)
    })
}
