//! Logs as JSON objects, one per batch; reading merges and sorts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_model::matcher::all_match;
use weir_model::sink::{LogSink, Outcome, StreamBatch, WriteError};
use weir_model::source::{
    BoxFuture, Direction, LogCursor, LogFragment, LogSource, LogStats, ReadContext, ReadError, StreamData,
};
use weir_model::{Labels, LogEntry, Matcher, Nanos, TenantId};

use crate::objects::{Objects, folder};

pub struct FileLogs(pub Arc<Objects>);

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl LogSink for FileLogs {
    fn append(&self, tenant: &TenantId, streams: &[StreamBatch]) -> Result<Outcome, WriteError> {
        let entry = |e: &LogEntry| {
            let metadata: Vec<_> = e.metadata.iter().map(|(n, v)| json!([**n, **v])).collect();
            json!([e.at.0, &*e.line, metadata])
        };
        let body: Vec<_> = streams
            .iter()
            .map(|s| json!({"labels": s.labels, "entries": s.entries.iter().map(entry).collect::<Vec<_>>()}))
            .collect();
        let put = self.0.put(&folder("logs", tenant), Value::from(body).to_string().as_bytes());
        put.map_err(|fault| WriteError::Storage(fault.to_string()))?;
        Ok(Outcome { accepted: streams.iter().map(|s| s.entries.len() as u64).sum(), refused: Vec::new() })
    }
}

struct Cursor(std::vec::IntoIter<StreamData>);

impl LogCursor for Cursor {
    /// The bound is a hint, and this source declines it.
    fn next(&mut self, _bound: Option<Nanos>) -> Result<Option<StreamData>, ReadError> {
        Ok(self.0.next())
    }
}

impl FileLogs {
    async fn select(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        start: Nanos,
        end: Nanos,
    ) -> Result<Vec<StreamData>, ReadError> {
        let bodies = self.0.all(&folder("logs", tenant)).await.map_err(|f| ReadError::Storage(f.to_string()))?;
        let mut streams: BTreeMap<Labels, Vec<LogEntry>> = BTreeMap::new();
        for body in bodies {
            let batch: Value = serde_json::from_slice(&body).expect("the checksum was right");
            for stream in batch.as_array().into_iter().flatten() {
                let pairs = stream["labels"].as_object().into_iter().flatten();
                let labels = Labels::from_pairs(pairs.map(|(k, v)| (k.as_str(), text(v))));
                let kept = streams.entry(labels).or_default();
                for entry in stream["entries"].as_array().into_iter().flatten() {
                    let pair = |p: &Value| (text(&p[0]).into(), text(&p[1]).into());
                    let entry = LogEntry {
                        at: Nanos(entry[0].as_i64().unwrap()),
                        line: text(&entry[1]).into(),
                        metadata: entry[2].as_array().into_iter().flatten().map(pair).collect(),
                    };
                    if !kept.iter().any(|e| e.at == entry.at && e.line == entry.line) {
                        kept.push(entry);
                    }
                }
            }
        }
        let matching = streams.into_iter().filter(|(labels, _)| all_match(matchers, labels));
        let narrowed = matching.map(|(labels, mut entries)| {
            entries.retain(|e| start <= e.at && e.at < end);
            entries.sort_by_key(|e| e.at);
            StreamData { labels, entries }
        });
        Ok(narrowed.filter(|s| !s.entries.is_empty()).collect())
    }
}

impl LogSource for FileLogs {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        _context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        Box::pin(async move {
            let mut found = self.select(tenant, &fragment.matchers, fragment.start, fragment.end).await?;
            if fragment.direction == Direction::Backward {
                found.iter_mut().for_each(|s| s.entries.reverse());
            }
            Ok(Box::new(Cursor(found.into_iter())) as Box<dyn LogCursor>)
        })
    }

    fn streams<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        start: Nanos,
        end: Nanos,
    ) -> BoxFuture<'a, Result<Vec<(Labels, LogStats)>, ReadError>> {
        Box::pin(async move {
            let found = self.select(tenant, matchers, start, end).await?.into_iter();
            let stats = |s: &StreamData| LogStats {
                streams: 1,
                entries: s.entries.len() as u64,
                bytes: s.entries.iter().map(|e| e.line.len() as u64).sum(),
            };
            Ok(found.map(|s| (s.labels.clone(), stats(&s))).collect())
        })
    }
}
