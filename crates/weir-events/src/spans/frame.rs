//! A frame of the spans' log: a tenant and the spans of one request.

use std::sync::Arc;

use weir_model::{Span, TenantId, TraceId};

use super::bytes::{Corrupt, Reader, put, put_bytes};
use super::decode::decode_page;
use super::encode::encode_page;

/// Kind of a frame in the log: the version of its bytes.
pub(super) const KIND: u8 = 1;

pub(super) fn encode_frame(tenant: &TenantId, spans: &[Arc<Span>]) -> Vec<u8> {
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|span| span.trace_id);
    let traces: Vec<&[Arc<Span>]> = sorted.chunk_by(|a, b| a.trace_id == b.trace_id).collect();
    let mut out = Vec::new();
    put_bytes(&mut out, tenant.as_str().as_bytes());
    put(&mut out, traces.len() as u64);
    traces.iter().for_each(|trace| out.extend_from_slice(&trace[0].trace_id.0));
    out.extend_from_slice(&encode_page(&traces));
    out
}

/// The tenant and the spans, by trace.
pub fn decode_frame(bytes: &[u8]) -> Result<(TenantId, Vec<Arc<Span>>), Corrupt> {
    let mut reader = Reader::new(bytes);
    let tenant = std::str::from_utf8(reader.bytes()?).ok().and_then(|name| TenantId::parse(name).ok());
    let tenant = tenant.ok_or(Corrupt("not a tenant"))?;
    let n = reader.count()?;
    let ids = (0..n).map(|_| reader.array().map(TraceId)).collect::<Result<Vec<_>, _>>()?;
    let traces = decode_page(reader.rest(), &ids, |_| true)?;
    Ok((tenant, traces.into_iter().flat_map(|(_, spans)| spans).collect()))
}
