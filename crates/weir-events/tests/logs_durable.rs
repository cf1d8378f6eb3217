//! The log store on a disk that crashes, fills up and rots.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use weir_events::{LogRetention, LogStore, LogStoreOptions, Recovered, RetentionLimits, RetentionRule};
use weir_model::sink::{LogSink, Outcome, RawRequest, StreamBatch, WriteError};
use weir_model::source::{Direction, LogFragment, LogSource, ReadContext};
use weir_model::{Budget, Clock, Labels, LogEntry, Matcher, Nanos, SimClock, TenantId, Timestamp, suite};
use weir_wal::{Dir, SimDir};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn open(dir: &SimDir, clock: &Arc<SimClock>) -> (LogStore, Recovered) {
    LogStore::open(Arc::new(dir.clone()), &Budget::unlimited(), clock.clone(), LogStoreOptions::default()).unwrap()
}

/// Stores of which some writes are logged as the requests they came in: here texts of "time line" for one stream.
fn open_with_requests(dir: &SimDir, clock: &Arc<SimClock>) -> (LogStore, Recovered) {
    let options = LogStoreOptions { requests: Some(decode_text), ..LogStoreOptions::default() };
    LogStore::open(Arc::new(dir.clone()), &Budget::unlimited(), clock.clone(), options).unwrap()
}

const TEXT: u8 = 7;

fn decode_text(kind: u8, received: Timestamp, body: &[u8]) -> Result<Vec<StreamBatch>, String> {
    assert_eq!((kind, received), (TEXT, NOW));
    let entry = |line: &str| line.split_once(' ').and_then(|(at, line)| Some((at.parse().ok()?, line.to_owned())));
    let text = std::str::from_utf8(body).map_err(|e| e.to_string())?;
    let entries: Option<Vec<(i64, String)>> = text.lines().map(entry).collect();
    Ok(vec![batch("a", &entries.ok_or("no entries")?)])
}

fn append_text(store: &LogStore, entries: &[(i64, String)]) -> Result<Outcome, WriteError> {
    let body: String = entries.iter().map(|(at, line)| format!("{at} {line}\n")).collect();
    let request = RawRequest { kind: TEXT, received: NOW, body: body.as_bytes() };
    store.append_request(&TenantId::anonymous(), request, &[batch("a", entries)])
}

fn batch(app: &str, entries: &[(i64, String)]) -> StreamBatch {
    let entry = |(at, line): &(i64, String)| LogEntry {
        at: Nanos(*at),
        line: line.as_str().into(),
        metadata: vec![("detected_level".into(), "info".into())],
    };
    StreamBatch { labels: Labels::from_pairs([("app", app)]), entries: entries.iter().map(entry).collect() }
}

async fn lines(store: &LogStore) -> Vec<(i64, String)> {
    let fragment = LogFragment {
        matchers: vec![],
        start: Nanos::MIN,
        end: Nanos::MAX,
        direction: Direction::Forward,
        predicates: vec![],
    };
    let tenant = TenantId::anonymous();
    let mut cursor = store.open(&tenant, &fragment, &ReadContext::unlimited()).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = cursor.next(None).unwrap() {
        found.extend(batch.entries.iter().map(|e| (e.at.0, e.line.to_string())));
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_store_on_disk_keeps_the_contract() {
    suite::logs(&open(&SimDir::new(1), &Arc::new(SimClock::at(NOW))).0).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_any_crash() {
    let mut n_crashes = 0;
    for seed in 0..150_u64 {
        let dir = SimDir::new(seed);
        let clock = Arc::new(SimClock::at(NOW));
        let (mut sent, mut acknowledged) = (Vec::new(), Vec::new());
        for life in 0..3_u64 {
            let (store, _) = open_with_requests(&dir, &clock);
            let found = lines(&store).await;
            for line in &acknowledged {
                assert!(found.contains(line), "seed {seed}, life {life}: {line:?} is lost");
            }
            assert!(found.iter().all(|line| sent.contains(line)), "seed {seed}: a line nobody sent");
            assert!(found.windows(2).all(|w| w[0] != w[1]), "seed {seed}: a line twice");
            // Each byte written is a step: somewhere among the next writes and cuts.
            dir.crash_after(1 + (seed * 7_919 + life * 104_729) % 2_500);
            for write in 0..12 {
                let at = NOW.nanos().0 + (life * 100 + write) as i64;
                let new = vec![(at, format!("life {life} write {write} of {seed}")), (at, "same".to_owned())];
                sent.extend(new.iter().cloned());
                let stored = match write % 2 {
                    0 => store.append(&TenantId::anonymous(), &[batch("a", &new)]),
                    _ => append_text(&store, &new),
                };
                if stored.is_ok() {
                    acknowledged.extend(new);
                }
                if write % 5 == 4 {
                    let _ = store.cut();
                }
                if write == 7 {
                    let _ = store.compact();
                }
            }
            n_crashes += u32::from(dir.has_crashed());
            drop(store);
            dir.restart();
        }
    }
    assert!(n_crashes > 200, "{n_crashes} crashes only");
}

#[tokio::test]
async fn a_request_in_the_log_is_read_by_its_decoder_or_not_at_all() {
    let (dir, clock) = (SimDir::new(4), Arc::new(SimClock::at(NOW)));
    let (store, _) = open_with_requests(&dir, &clock);
    append_text(&store, &[(1, "one".to_owned()), (2, "two".to_owned())]).unwrap();
    let before = lines(&store).await;
    drop(store);
    let (store, recovered) = open_with_requests(&dir, &clock);
    assert_eq!((recovered.replayed_entries, recovered.damaged), (2, 0));
    assert_eq!(lines(&store).await, before);
    drop(store);
    let options = LogStoreOptions::default();
    let opened = LogStore::open(Arc::new(dir.clone()), &Budget::unlimited(), clock.clone(), options);
    let text = opened.err().unwrap().to_string();
    assert!(text.contains("nothing here reads them"), "{text}");
    // Without a decoder none are written.
    let other = SimDir::new(5);
    let (store, _) = open(&other, &clock);
    append_text(&store, &[(1, "one".to_owned())]).unwrap();
    drop(store);
    assert_eq!(lines(&open(&other, &clock).0).await, [(1, "one".to_owned())]);
}

#[tokio::test]
async fn a_cut_moves_rows_from_the_log_to_files() {
    let (dir, clock) = (SimDir::new(3), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    let new: Vec<_> = (0..500).map(|i| (i, format!("line {i}"))).collect();
    store.append(&TenantId::anonymous(), &[batch("a", &new)]).unwrap();
    store.cut().unwrap();
    let before = lines(&store).await;
    drop(store);
    let (store, recovered) = open(&dir, &clock);
    assert_eq!(recovered, Recovered { files: 1, segments: 1, damaged: 0, replayed_entries: 0 });
    assert_eq!(lines(&store).await, before);
    assert_eq!(before.len(), 500);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_still_answers() {
    let (dir, clock) = (SimDir::new(5), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    store.append(&TenantId::anonymous(), &[batch("a", &[(1, "first".to_owned())])]).unwrap();
    dir.set_capacity(dir.used_bytes());
    let long = vec![(2, "x".repeat(100_000))];
    let refused = store.append(&TenantId::anonymous(), &[batch("a", &long)]);
    assert!(matches!(refused, Err(WriteError::Full(_))), "{refused:?}");
    assert!(lines(&store).await.contains(&(1, "first".to_owned())));
    dir.set_capacity(1 << 30);
    // The log tries again a second after a failure.
    clock.advance(Duration::from_secs(2));
    store.maintain().unwrap();
    clock.advance(Duration::from_secs(2));
    store.maintain().unwrap();
    store.append(&TenantId::anonymous(), &[batch("a", &[(3, "after".to_owned())])]).unwrap();
    drop(store);
    let found = lines(&open(&dir, &clock).0).await;
    assert!(found.contains(&(1, "first".to_owned())) && found.contains(&(3, "after".to_owned())));
}

#[tokio::test]
async fn old_files_are_deleted_and_never_early() {
    let (dir, clock) = (SimDir::new(7), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    for day in 0..3 {
        let at = clock.now_nanos().0;
        store.append(&TenantId::anonymous(), &[batch("a", &[(at, format!("day {day}"))])]).unwrap();
        store.cut().unwrap();
        clock.advance(Duration::from_secs(86_400));
    }
    clock.advance(Duration::from_secs(86_400 * 27 - 1));
    store.maintain().unwrap();
    assert_eq!(lines(&store).await.len(), 3, "the first is 30 days old in a second");
    clock.advance(Duration::from_secs(2));
    store.maintain().unwrap();
    assert_eq!(lines(&store).await.len(), 2);
    assert_eq!(dir.list("logs/blocks/t-anonymous").unwrap().len(), 2);
    drop(store);
    assert_eq!(lines(&open(&dir, &clock).0).await.len(), 2);
}

#[tokio::test]
async fn streams_are_deleted_by_their_own_time_and_leave_the_others() {
    let (dir, clock) = (SimDir::new(8), Arc::new(SimClock::at(NOW)));
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let rule =
        |app: &str, n| RetentionRule { matchers: vec![Matcher::equal("app", app)], priority: 0, period: Some(days(n)) };
    let limits = RetentionLimits { period: Some(days(30)), rules: vec![rule("brief", 1), rule("long", 90)] };
    let options = || LogStoreOptions {
        retention: LogRetention { limits: limits.clone(), ..LogRetention::default() },
        ..LogStoreOptions::default()
    };
    let open = || LogStore::open(Arc::new(dir.clone()), &Budget::unlimited(), clock.clone(), options()).unwrap().0;
    let mut store = open();
    let at = clock.now_nanos().0;
    let of = |app: &str| batch(app, &[(at, format!("{app} 1")), (at + 1, format!("{app} 2"))]);
    store.append(&TenantId::anonymous(), &[of("brief"), of("usual"), of("long")]).unwrap();
    store.append(&TenantId::anonymous(), &[batch("brief", &[(at, "brief alone".to_owned())])]).unwrap();
    store.cut().unwrap();
    let left = async |store: &LogStore| lines(store).await.into_iter().map(|(_, line)| line).collect::<Vec<_>>();
    let bytes = || {
        let names = dir.list("logs/blocks/t-anonymous").unwrap();
        names.iter().map(|name| dir.read(&format!("logs/blocks/t-anonymous/{name}")).unwrap().len()).sum::<usize>()
    };
    let (before, all) = (bytes(), left(&store).await);
    for (advance, want) in [
        (days(1) - Duration::from_secs(1), all.as_slice()),
        (Duration::from_secs(11), &["long 1".into(), "long 2".into(), "usual 1".into(), "usual 2".into()]),
        (days(30), &["long 1".into(), "long 2".into()]),
        (days(60), &[]),
    ] {
        clock.advance(advance);
        store.maintain().unwrap();
        let mut got = left(&store).await;
        got.sort();
        let mut want = want.to_vec();
        want.sort();
        assert_eq!(got, want);
        // Nothing comes back after a crash, and what went is in no file.
        drop(store);
        store = open();
        let mut got = left(&store).await;
        got.sort();
        assert_eq!(got, want);
        if want.len() < all.len() {
            assert!(bytes() < before || want.is_empty(), "{} bytes, {before} before", bytes());
        }
    }
    assert_eq!(bytes(), 0);
}

#[tokio::test]
async fn a_damaged_segment_costs_itself() {
    let (dir, clock) = (SimDir::new(9), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    for part in 0..2_i64 {
        let new: Vec<_> = (0..300).map(|i| (part * 1000 + i, format!("part {part} line {}", i * 7919))).collect();
        store.append(&TenantId::anonymous(), &[batch("a", &new)]).unwrap();
        store.cut().unwrap();
    }
    drop(store);
    let folder = "logs/blocks/t-anonymous";
    let first = format!("{folder}/{}", dir.list(folder).unwrap()[0]);
    let len = dir.read(&first).unwrap().len();
    // In its data: the head is whole, so that the damage shows when a query reads it.
    assert!(dir.flip_bit(&first, len / 2, 3));
    let (store, recovered) = open(&dir, &clock);
    assert_eq!(recovered.segments + recovered.damaged, 2);
    let found = lines(&store).await;
    assert_eq!(found.len(), 300);
    assert!(found.iter().all(|(_, line)| line.starts_with("part 1")));
}

fn n_files(dir: &SimDir) -> usize {
    dir.list("logs/blocks/t-anonymous").unwrap().len()
}

#[tokio::test]
async fn small_files_become_one_and_readers_notice_nothing() {
    let (dir, clock) = (SimDir::new(3), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    let tenant = TenantId::anonymous();
    for cut in 0..20_i64 {
        // Late, repeated and equal times, in several streams.
        let new: Vec<_> =
            (0..30).map(|i| (NOW.nanos().0 + cut % 7 * 10 + i % 5, format!("line {} of {i}", cut / 2))).collect();
        let apps = ["a", "b"].map(|app| batch(app, &new));
        store.append(&tenant, &apps).unwrap();
        store.cut().unwrap();
    }
    assert_eq!(n_files(&dir), 20);
    let all = LogFragment {
        matchers: vec![],
        start: Nanos::MIN,
        end: Nanos::MAX,
        direction: Direction::Forward,
        predicates: vec![],
    };
    async fn in_order(store: &LogStore, all: &LogFragment) -> Vec<(Labels, LogEntry)> {
        let mut cursor = store.open(&TenantId::anonymous(), all, &ReadContext::unlimited()).await.unwrap();
        drain(&mut *cursor)
    }
    fn drain(cursor: &mut dyn weir_model::source::LogCursor) -> Vec<(Labels, LogEntry)> {
        let mut found = Vec::new();
        while let Some(batch) = cursor.next(None).unwrap() {
            found.extend(batch.entries.into_iter().map(|e| (batch.labels.clone(), e)));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }
    let before = in_order(&store, &all).await;
    let mut reading = store.open(&tenant, &all, &ReadContext::unlimited()).await.unwrap();
    assert!(store.compact().unwrap());
    assert_eq!(n_files(&dir), 21, "a reader is left");
    assert_eq!(in_order(&store, &all).await, before);
    assert_eq!(drain(&mut *reading), before);
    drop(reading);
    store.maintain().unwrap();
    assert_eq!(n_files(&dir), 1);
    assert!(!store.compact().unwrap());
    drop(store);
    let (store, recovered) = open(&dir, &clock);
    assert_eq!((recovered.files, recovered.damaged, recovered.replayed_entries), (1, 0, 0));
    assert_eq!(in_order(&store, &all).await, before);
}

#[tokio::test]
async fn a_crash_while_files_are_merged_loses_and_repeats_nothing() {
    let mut n_crashes = 0;
    for seed in 0..120_u64 {
        let (dir, clock) = (SimDir::new(seed), Arc::new(SimClock::at(NOW)));
        let (store, _) = open(&dir, &clock);
        for cut in 0..9_i64 {
            store.append(&TenantId::anonymous(), &[batch("a", &[(cut, format!("line {cut}"))])]).unwrap();
            store.cut().unwrap();
        }
        let before = lines(&store).await;
        dir.crash_after(1 + seed * 13 % 700);
        let _ = store.compact();
        n_crashes += u32::from(dir.has_crashed());
        drop(store);
        dir.restart();
        let (store, recovered) = open(&dir, &clock);
        assert_eq!(recovered.damaged, 0, "seed {seed}");
        assert_eq!(lines(&store).await, before, "seed {seed}");
        assert!(matches!(n_files(&dir), 1 | 9), "seed {seed}: {} files", n_files(&dir));
    }
    assert!(n_crashes > 30, "{n_crashes} crashes only");
}
