//! Spans on disk: a log of what arrived, the newest in memory, the rest in immutable blocks.

pub(crate) mod block;
mod build;
mod bytes;
mod class;
mod compact;
mod contents;
mod cursor;
mod decode;
mod encode;
mod find;
mod frame;
mod head;
mod held;
mod loose;
mod manifest;
mod packed;
mod repeats;
mod rows;
mod scan;
mod section;
mod store;
mod texts;

use std::sync::Arc;

use weir_model::source::SpanPredicate;
use weir_model::{AttrValue, Span};

pub use compact::Retention as SpanRetention;
pub use contents::decode_tables;
pub use frame::decode_frame;
pub use store::{SpanStore, SpanStoreError, SpanStoreOptions, SpanStoreStats};

/// Whether some span meets the predicate. An array holds each of its elements.
pub(crate) fn meets(spans: &[Arc<Span>], predicate: &SpanPredicate) -> bool {
    spans.iter().any(|span| match predicate {
        SpanPredicate::Service(name) => span.resource.service() == name,
        SpanPredicate::Name(name) => *span.name == **name,
        SpanPredicate::Error => span.is_error(),
        SpanPredicate::MinDuration(nanos) => span.duration_nanos() >= *nanos,
        SpanPredicate::Attribute(name, wanted) => {
            let named = |attributes: &[(Arc<str>, AttrValue)]| {
                attributes.iter().any(|(n, value)| **n == **name && holds(value, wanted))
            };
            named(&span.attributes) || named(&span.resource.attributes)
        }
    })
}

fn holds(value: &AttrValue, wanted: &AttrValue) -> bool {
    value == wanted || wanted.as_str().is_some_and(|wanted| has_text(value, wanted))
}

/// Bytes and maps count as the text that queries see, an array as each of its elements.
fn has_text(value: &AttrValue, wanted: &str) -> bool {
    match value {
        AttrValue::Str(text) => **text == *wanted,
        AttrValue::Array(items) => items.iter().any(|item| has_text(item, wanted)),
        AttrValue::Bytes(_) | AttrValue::Map(_) => value.to_text() == wanted,
        AttrValue::Int(_) | AttrValue::Double(_) | AttrValue::Bool(_) => false,
    }
}

/// Adds a part of a trace to another: ascending by start, each span (by id and kind) once.
pub(crate) fn join(spans: &mut Vec<Arc<Span>>, more: Vec<Arc<Span>>) {
    let known: ahash::AHashSet<_> = spans.iter().map(|span| (span.span_id, span.kind)).collect();
    spans.extend(more.into_iter().filter(|span| !known.contains(&(span.span_id, span.kind))));
    spans.sort_by_key(|span| span.start);
}
