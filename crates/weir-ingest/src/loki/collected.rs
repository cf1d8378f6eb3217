//! Entries that weir collected itself: the same checks and additions that a push gets.

use std::borrow::Cow;

use weir_model::sink::StreamBatch;
use weir_model::{Labels, LogEntry};

use super::{Receiving, Sent};
use crate::Decoded;
use crate::cache::LabelCache;
use crate::limits::Limits;

/// Streams with bad labels are refused and counted, the rest is kept.
pub fn collected<'a>(
    streams: impl IntoIterator<Item = (&'a Labels, &'a [LogEntry])>,
    limits: &Limits,
    cache: &LabelCache,
) -> Decoded<Vec<StreamBatch>> {
    let mut out = Decoded::default();
    for (labels, entries) in streams {
        let pairs: Vec<(&str, &str)> = labels.iter().map(|label| (&*label.name, &*label.value)).collect();
        let labels = match super::labels::from_pairs(&pairs, cache) {
            Ok(labels) => labels,
            Err(refused) => {
                out.refuse(refused.reason, entries.len() as u64, || refused.example);
                continue;
            }
        };
        let mut stream = Receiving::new(labels, entries.len());
        for entry in entries {
            let LogEntry { at, line, metadata } = entry.clone();
            stream.push(Sent { at, line: Cow::Borrowed(&*line), metadata }, limits, &mut out);
        }
        stream.finish(&mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::Nanos;

    #[test]
    fn lines_are_enriched_and_bad_streams_refused() {
        let limits = Limits::default();
        let entry = |line: &str| [LogEntry { at: Nanos(1), line: line.into(), metadata: Vec::new() }];
        let (good, bad) = (Labels::from_pairs([("app", "x")]), Labels::from_pairs([("a b", "x")]));
        let (one, two) = (entry("level=warn hi"), entry("y"));
        let streams = [(&good, &one[..]), (&bad, &two[..])];
        let got = collected(streams, &limits, &LabelCache::new(limits.stream_labels));
        assert_eq!(
            super::super::show(&got.batch),
            [r#"{app="x", service_name="x"} 1 level=warn hi [detected_level=warn]"#]
        );
        assert_eq!(got.refused.iter().map(|r| r.count).collect::<Vec<_>>(), [1]);
    }
}
