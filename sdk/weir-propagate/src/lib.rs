//! Trace context through messages: one event stays one trace from its producer to its last consumer.
//!
//! [`inject`] writes W3C trace context and baggage into the headers of a message, [`extract`] reads them; headers are
//! anything that is [`WriteHeaders`] or [`ReadHeaders`], with the feature `rdkafka` also those of rdkafka.
//! [`send`], [`process`] and [`process_batch`] open the spans of producers and consumers by OpenTelemetry's conventions
//! for messaging. It knows no exporter and no broker: what a span becomes is up to the tracer that is handed in.
//!
//! ```
//! use opentelemetry::{Context, global, trace::TraceContextExt as _};
//! use weir_propagate::{Message, process, send};
//!
//! let tracer = global::tracer("shop");
//! let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
//! // The producer: a span, whose context goes into the headers.
//! let sending = send(&tracer, &Context::current(), &Message::kafka("orders"), &mut headers);
//! sending.span().end();
//! // The consumer: its span is a child of the producer's.
//! let processing = process(&tracer, &headers, &Message::kafka("orders").partition(3).offset(17).group("billing"));
//! processing.span().end();
//! ```
//!
//! Invariants: a message whose headers say nothing, or nothing valid, starts a trace of its own and is never refused;
//! what is read of headers is bounded.

mod baggage;
mod headers;
#[cfg(feature = "rdkafka")]
mod kafka;
mod span;
mod trace;

pub use headers::{ReadHeaders, WriteHeaders};
pub use span::{Message, failed, process, process_batch, receive, send};

use opentelemetry::Context;

/// Writes the span and the baggage of a context into headers. Without a valid span or baggage nothing is written.
pub fn inject(context: &Context, headers: &mut impl WriteHeaders) {
    trace::inject(context, headers);
    baggage::inject(context, headers);
}

/// The context that headers carry: the producer's span as a remote one, and its baggage.
pub fn extract(headers: &(impl ReadHeaders + ?Sized)) -> Context {
    baggage::extract(&trace::extract(&Context::new(), headers), headers)
}
