//! The contract of a log store.

use std::sync::Arc;

use crate::sink::{LogSink, StreamBatch};
use crate::source::{Direction, LinePredicate, LogFragment, LogSource, LogStats, ReadContext};
use crate::{Labels, LogEntry, Matcher, Nanos, TenantId};

fn entry(at: i64, line: &str) -> LogEntry {
    LogEntry { at: Nanos(at), line: line.into(), metadata: Vec::new() }
}

fn stream(app: &str, entries: Vec<LogEntry>) -> StreamBatch {
    StreamBatch { labels: Labels::from_pairs([("app", app)]), entries }
}

fn fragment(app: &str, start: i64, end: i64, direction: Direction) -> LogFragment {
    LogFragment {
        matchers: vec![Matcher::equal("app", app)],
        start: Nanos(start),
        end: Nanos(end),
        direction,
        predicates: Vec::new(),
    }
}

/// Lines per stream in the order they came; a store may use predicates or not, so they are applied here.
async fn read<S: LogSource>(store: &S, tenant: &TenantId, fragment: &LogFragment) -> Vec<(String, Vec<Arc<str>>)> {
    let mut cursor = store.open(tenant, fragment, &ReadContext::unlimited()).await.expect("open");
    let mut found: Vec<(String, Vec<Arc<str>>)> = Vec::new();
    while let Some(batch) = cursor.next(None).expect("next") {
        let app = batch.labels.value("app").to_owned();
        let keep = |line: &str| {
            fragment.predicates.iter().all(|p| match p {
                LinePredicate::Contains(text) => line.contains(text.as_str()),
                LinePredicate::NotContains(text) => !line.contains(text.as_str()),
            })
        };
        let lines = batch.entries.into_iter().map(|e| e.line).filter(|line| keep(line));
        match found.iter_mut().find(|(name, _)| *name == app) {
            Some((_, seen)) => seen.extend(lines),
            None => found.push((app, lines.collect())),
        }
    }
    found.retain(|(_, lines)| !lines.is_empty());
    found.sort();
    found
}

/// `store` is empty and accepts a few kilobytes.
pub async fn logs<S: LogSink + LogSource>(store: &S) {
    let tenant = TenantId::parse("suite").expect("a valid name");
    let mut with_metadata = entry(50, "five");
    with_metadata.metadata.push(("trace_id".into(), "ab".into()));
    let first = vec![entry(10, "one"), entry(30, "three, timed out"), with_metadata.clone()];
    let got = store.append(&tenant, &[stream("a", first), stream("b", vec![entry(20, "other")])]).expect("append");
    assert_eq!(got.accepted, 4);
    let late = vec![entry(20, "two"), entry(30, "three again"), entry(30, "three, timed out")];
    assert_eq!(
        store.append(&tenant, &[stream("a", late)]).expect("append").accepted,
        3,
        "a repeated line counts as accepted"
    );

    let check = async |fragment: LogFragment, want: &[(&str, &[&str])]| {
        let got = read(store, &tenant, &fragment).await;
        let got: Vec<_> =
            got.iter().map(|(app, lines)| (app.as_str(), lines.iter().map(|l| &**l).collect::<Vec<_>>())).collect();
        let want: Vec<_> = want.iter().map(|(app, lines)| (*app, lines.to_vec())).collect();
        assert_eq!(got, want, "{fragment:?}");
    };
    let all = ["one", "two", "three, timed out", "three again", "five"];
    check(fragment("a", 0, 100, Direction::Forward), &[("a", &all)]).await;
    let mut reversed = all;
    reversed.reverse();
    check(fragment("a", 0, 100, Direction::Backward), &[("a", &reversed)]).await;
    check(fragment("a", 20, 50, Direction::Forward), &[("a", &all[1..4])]).await;
    check(fragment("a", 51, 100, Direction::Forward), &[]).await;
    let mut any = fragment("a", 0, 100, Direction::Forward);
    any.matchers.clear();
    check(any.clone(), &[("a", &all), ("b", &["other"])]).await;
    any.predicates = vec![LinePredicate::Contains("t".into()), LinePredicate::NotContains("timed out".into())];
    check(any, &[("a", &["two", "three again"]), ("b", &["other"])]).await;

    bounds(store, &tenant).await;
    streams(store, &tenant).await;
    let mut cursor =
        store.open(&tenant, &fragment("a", 50, 51, Direction::Forward), &ReadContext::unlimited()).await.expect("open");
    let batch = cursor.next(None).expect("next").expect("one batch");
    assert_eq!(batch.entries, [with_metadata], "structured metadata is kept");
}

async fn bounds<S: LogSink + LogSource>(store: &S, tenant: &TenantId) {
    for (direction, bound, must) in [(Direction::Backward, 30, "five"), (Direction::Forward, 20, "one")] {
        let fragment = fragment("a", 0, 100, direction);
        let mut cursor = store.open(tenant, &fragment, &ReadContext::unlimited()).await.expect("open");
        let mut lines = Vec::new();
        while let Some(batch) = cursor.next(Some(Nanos(bound))).expect("next") {
            lines.extend(batch.entries.into_iter().map(|e| e.line));
        }
        assert!(lines.iter().any(|l| &**l == must), "{direction:?}: entries within the bound come");
    }
}

async fn streams<S: LogSink + LogSource>(store: &S, tenant: &TenantId) {
    let mut found = store.streams(tenant, &[], Nanos(0), Nanos(100)).await.expect("streams");
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let apps: Vec<_> = found.iter().map(|(labels, _)| labels.value("app")).collect();
    assert_eq!(apps, ["a", "b"]);
    assert_eq!(found[1].1, LogStats { streams: 1, entries: 1, bytes: 5 });
    assert_eq!(found[0].1.entries, 5);
    let later = store.streams(tenant, &[], Nanos(50), Nanos(60)).await.expect("streams");
    assert_eq!(later.len(), 1, "streams without entries in the range do not come");
    let other = TenantId::parse("other").expect("a valid name");
    assert!(store.streams(&other, &[], Nanos(0), Nanos(100)).await.expect("streams").is_empty());
}
