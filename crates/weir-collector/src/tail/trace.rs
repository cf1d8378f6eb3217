//! A trace while it is held: packed, as most are thrown away.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

/// What the spans of one sender and library have in common; shared by the traces of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Around {
    pub resource: Option<Resource>,
    pub resource_url: String,
    pub scope: Option<InstrumentationScope>,
    pub scope_url: String,
}

/// Spans of one trace out of one request, each as protobuf after its length.
#[derive(Clone, Debug)]
struct Fragment {
    around: Arc<Around>,
    spans: Vec<u8>,
    n_spans: u32,
}

/// The spans of one trace so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    fragments: Vec<Fragment>,
}

/// A fragment beside its bytes: itself, its allocation and its share of what is around it.
const FRAGMENT_BYTES: u64 = 160;

impl Packed {
    /// Answers by how many bytes it has grown.
    pub fn push(&mut self, around: &Arc<Around>, span: &Span) -> u64 {
        let mut grown = 0;
        if self.fragments.last().is_none_or(|last| !Arc::ptr_eq(&last.around, around)) {
            self.fragments.push(Fragment { around: around.clone(), spans: Vec::new(), n_spans: 0 });
            grown += FRAGMENT_BYTES;
        }
        if let Some(last) = self.fragments.last_mut() {
            let before = last.spans.len();
            // Into a vector, which grows: it cannot fail.
            let _ = span.encode_length_delimited(&mut last.spans);
            last.n_spans += 1;
            grown += (last.spans.len() - before) as u64;
        }
        grown
    }

    pub fn n_spans(&self) -> u64 {
        self.fragments.iter().map(|f| u64::from(f.n_spans)).sum()
    }

    /// Of the spans alone.
    pub fn spans_bytes(&self) -> u64 {
        self.fragments.iter().map(|f| f.spans.len() as u64).sum()
    }

    /// Gives back what growing took too much.
    pub fn shrink(&mut self) {
        if let Some(last) = self.fragments.last_mut() {
            last.spans.shrink_to_fit();
        }
        self.fragments.shrink_to_fit();
    }

    pub fn unpack(&self) -> Vec<ResourceSpans> {
        self.fragments.iter().map(Fragment::unpack).collect()
    }
}

impl Fragment {
    fn unpack(&self) -> ResourceSpans {
        let mut spans = Vec::with_capacity(self.n_spans as usize);
        let mut rest = &self.spans[..];
        while !rest.is_empty() {
            match Span::decode_length_delimited(&mut rest) {
                Ok(span) => spans.push(span),
                Err(error) => {
                    // They were encoded by this process.
                    debug_assert!(false, "a packed span is whole: {error}");
                    break;
                }
            }
        }
        let Around { resource, resource_url, scope, scope_url } = (*self.around).clone();
        ResourceSpans {
            resource,
            scope_spans: vec![ScopeSpans { scope, spans, schema_url: scope_url }],
            schema_url: resource_url,
        }
    }
}
