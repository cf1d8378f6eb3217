//! Entries to a server that takes Loki's push format: protobuf in a snappy block.
//!
//! Source: Loki `pkg/push/push.proto`.

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use weir_model::{Labels, LogEntry, TenantId};

use super::config::LogClient;
use crate::http::{Http, bounded, chain};
use crate::remote::{Verdict, verdict};

/// Of an answer's text, for the log.
const ANSWER_BYTES_MAX: usize = 4096;
const TENANT: &str = "X-Scope-OrgID";

/// One receiver.
pub struct PushClient {
    config: LogClient,
    http: Http,
}

impl PushClient {
    pub fn new(config: LogClient) -> Result<Self, String> {
        let http = Http::new(&config.http).map_err(|e| format!("client `{}`: {e}", config.url))?;
        Ok(Self { config, http })
    }

    pub fn config(&self) -> &LogClient {
        &self.config
    }

    /// Sends a request made by [`encode`].
    pub async fn send(&self, tenant: &TenantId, plain: &[u8]) -> Verdict {
        let body = match snap::raw::Encoder::new().compress_vec(plain) {
            Ok(body) => body,
            Err(error) => return Verdict::Refused(error.to_string()),
        };
        let mut request = self
            .http
            .client
            .post(&self.config.url)
            .timeout(self.config.timeout)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(CONTENT_ENCODING, "snappy");
        let has_tenant = *tenant != TenantId::anonymous();
        if has_tenant {
            request = request.header(TENANT, tenant.as_str());
        }
        // What the request says itself wins, as in Promtail.
        let is_own = |name: &str| {
            let is = |own: &str| name.eq_ignore_ascii_case(own);
            is(CONTENT_TYPE.as_str()) || is(CONTENT_ENCODING.as_str()) || has_tenant && is(TENANT)
        };
        for (name, value) in self.config.headers.iter().filter(|(name, _)| !is_own(name)) {
            request = request.header(name, value);
        }
        let request = match self.http.dress(request).await {
            Ok(request) => request.body(body),
            // A secret's file may come back.
            Err(why) => return Verdict::Again { why, after: None },
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Verdict::Again { why: chain(&error), after: None },
        };
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let text = if status.is_success() {
            Vec::new()
        } else {
            bounded(response, ANSWER_BYTES_MAX).await.unwrap_or_default()
        };
        let retries_429 = !self.config.drops_rate_limited;
        verdict(status.as_u16(), after.as_deref(), retries_429, &String::from_utf8_lossy(&text))
    }
}

/// `logproto.PushRequest`.
pub fn encode<'a>(streams: impl IntoIterator<Item = (&'a Labels, &'a [LogEntry])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (labels, entries) in streams {
        let mut stream = Vec::new();
        bytes(&mut stream, 1, labels.to_string().as_bytes());
        for entry in entries {
            let (mut time, mut body) = (Vec::new(), Vec::new());
            number(&mut time, 1, entry.at.0.div_euclid(1_000_000_000).cast_unsigned());
            number(&mut time, 2, entry.at.0.rem_euclid(1_000_000_000).cast_unsigned());
            bytes(&mut body, 1, &time);
            bytes(&mut body, 2, entry.line.as_bytes());
            for (name, value) in &entry.metadata {
                let mut pair = Vec::new();
                bytes(&mut pair, 1, name.as_bytes());
                bytes(&mut pair, 2, value.as_bytes());
                bytes(&mut body, 3, &pair);
            }
            bytes(&mut stream, 2, &body);
        }
        bytes(&mut out, 1, &stream);
    }
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_ingest::{LabelCache, Limits};
    use weir_model::Nanos;

    #[test]
    fn what_is_encoded_is_read_by_the_decoder() {
        let labels = Labels::from_pairs([("app", "x\"\\\nä"), ("service_name", "s")]);
        let entry = |at, line: &str| LogEntry {
            at: Nanos(at),
            line: line.into(),
            metadata: vec![("detected_level".into(), "info".into()), ("k".into(), "v".into())],
        };
        let entries = [entry(1_700_000_000_123_456_789, "one"), entry(-1, &"long ".repeat(100))];
        let limits = Limits::default();
        let body = encode([(&labels, &entries[..])]);
        let got = weir_ingest::loki::decode_proto(&body, &limits, &LabelCache::new(limits.stream_labels)).unwrap();
        assert_eq!((got.batch.len(), got.refused.len()), (1, 0));
        assert_eq!(got.batch[0].labels, labels);
        assert_eq!(got.batch[0].entries, entries);
    }
}
