//! `traceparent` and `tracestate`. Source: W3C Trace Context, level 1.

use std::str::FromStr as _;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};

use crate::{ReadHeaders, WriteHeaders};

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// Of version 00: two digits, the trace, the span, flags, and three dashes.
const LENGTH: usize = 55;
/// A longer state is not read; the specification asks for 512 at least.
const STATE_BYTES_MAX: usize = 4096;

pub(crate) fn inject(context: &Context, headers: &mut impl WriteHeaders) {
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return;
    }
    headers.set(PARENT, &parent(span));
    let state = span.trace_state().header();
    if !state.is_empty() {
        headers.set(STATE, state.as_bytes());
    }
}

fn parent(span: &SpanContext) -> [u8; LENGTH] {
    let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
    hex(&span.trace_id().to_bytes(), &mut out[3..35]);
    hex(&span.span_id().to_bytes(), &mut out[36..52]);
    hex(&[span.trace_flags().to_u8()], &mut out[53..]);
    out
}

fn hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

pub(crate) fn extract(context: &Context, headers: &(impl ReadHeaders + ?Sized)) -> Context {
    let Some((trace, span, flags)) = headers.get(PARENT).and_then(parse) else { return context.clone() };
    let state = headers.get(STATE).filter(|bytes| bytes.len() <= STATE_BYTES_MAX);
    let state = state.and_then(|bytes| TraceState::from_str(std::str::from_utf8(bytes).ok()?).ok());
    let span = SpanContext::new(trace, span, flags, true, state.unwrap_or_default());
    context.with_remote_span_context(span)
}

/// Later versions may go on after a dash; version `ff` is none, and zeros are no ids.
fn parse(bytes: &[u8]) -> Option<(TraceId, SpanId, TraceFlags)> {
    let are_dashes = bytes.len() >= LENGTH && [2, 35, 52].iter().all(|k| bytes[*k] == b'-');
    if !are_dashes {
        return None;
    }
    let [version] = unhex::<1>(&bytes[..2])?;
    let ends = bytes.len() == LENGTH || (version > 0 && bytes[LENGTH] == b'-');
    if version == 0xff || !ends {
        return None;
    }
    let trace = TraceId::from_bytes(unhex::<16>(&bytes[3..35])?);
    let span = SpanId::from_bytes(unhex::<8>(&bytes[36..52])?);
    let [flags] = unhex::<1>(&bytes[53..55])?;
    (trace != TraceId::INVALID && span != SpanId::INVALID).then(|| (trace, span, TraceFlags::new(flags & 1)))
}

/// Lower-case digits alone.
fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parents_are_those_of_the_specification() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let check = |text: &str, is_good: bool| assert_eq!(parse(text.as_bytes()).is_some(), is_good, "{text}");
        check(good, true);
        check(&good.replace("-01", "-00"), true);
        check(&format!("{good}-"), false);
        check(&format!("01{}-more", &good[2..]), true);
        check(&format!("01{}more", &good[2..]), false);
        check(&format!("ff{}", &good[2..]), false);
        check(&good.to_uppercase(), false);
        check(&good[..54], false);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check("", false);
    }

    proptest! {
        #[test]
        fn what_is_injected_is_extracted(trace in 1u128.., span in 1u64.., flags in 0u8..2, state in prop::option::of("[a-z]{1,5}=[a-z0-9]{1,9}")) {
            let state = state.map_or_else(TraceState::default, |text| TraceState::from_str(&text).unwrap());
            let own = SpanContext::new(TraceId::from(trace), SpanId::from(span), TraceFlags::new(flags), false, state);
            let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
            inject(&Context::new().with_remote_span_context(own.clone()), &mut headers);
            let got = extract(&Context::new(), &headers);
            let got = got.span().span_context().clone();
            prop_assert!(got.is_remote());
            prop_assert_eq!((got.trace_id(), got.span_id(), got.trace_flags()), (own.trace_id(), own.span_id(), own.trace_flags()));
            prop_assert_eq!(got.trace_state().header(), own.trace_state().header());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(parent in prop::collection::vec(any::<u8>(), 0..80), state in prop::collection::vec(any::<u8>(), 0..80)) {
            let headers = vec![("traceparent".to_owned(), parent), ("tracestate".to_owned(), state)];
            extract(&Context::new(), &headers);
        }
    }
}
