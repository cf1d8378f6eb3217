//! Power goes at every byte; disks fill up and fail; what was acknowledged is there afterwards, and the
//! test notices logs that cheat.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use weir_wal::{Log, LogError, LogOptions, Mutant, Position, Replayed, SimDir, SyncMode};

const FOLDER: &str = "wal/test";

fn options(mutant: Option<Mutant>) -> LogOptions {
    LogOptions { segment_bytes: 700, mutant, ..LogOptions::default() }
}

fn payload(n: u32) -> Vec<u8> {
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.extend((0..n * 37 % 290).map(|k| (k ^ n) as u8));
    bytes
}

/// Everything in the log, checked to be what was once written, ascending.
fn numbers(log: &Log, from: Position) -> Result<Vec<(u32, Position)>, String> {
    let mut found: Vec<(u32, Position)> = Vec::new();
    for item in log.replay(from) {
        let frame = match item.map_err(|error| error.to_string())? {
            Replayed::Frame(frame) => frame,
            // Frames that were never acknowledged may be torn in the middle of a batch.
            Replayed::Damage(_) => continue,
        };
        let n = u32::from_le_bytes(frame.payload[..4].try_into().unwrap());
        if frame.payload != payload(n) {
            return Err(format!("frame {n} came back changed"));
        }
        if found.last().is_some_and(|(last, end)| *last >= n || *end >= frame.end) {
            return Err(format!("frame {n} at {:?} is out of order after {:?}", frame.end, found.last()));
        }
        found.push((n, frame.end));
    }
    Ok(found)
}

/// What a careful store would remember beside its log, durable on its own.
#[derive(Default)]
struct Acknowledged {
    numbers: Vec<u32>,
    covered: Position,
    next: u32,
}

/// Appends in small groups, with a cut now and then, until the power goes or all is done.
fn work(log: &Log, known: &mut Acknowledged, groups: u32) -> Result<(), LogError> {
    for group in 0..groups {
        let mut group_numbers = Vec::new();
        let mut end = Position::START;
        for _ in 0..=group % 3 {
            known.next += 1;
            end = log.append(1, &[&payload(known.next)[..2], &payload(known.next)[2..]])?;
            group_numbers.push(known.next);
        }
        log.sync_to(end)?;
        known.numbers.extend(group_numbers);
        if group % 5 == 4 {
            let position = log.roll();
            log.sync_to(position)?;
            // The blocks of the cut are elsewhere; the log may forget.
            (known.covered, known.numbers) = (position, Vec::new());
            log.truncate_before(position)?;
        }
    }
    Ok(())
}

fn check_acknowledged(log: &Log, known: &Acknowledged) -> Result<(), String> {
    let found = numbers(log, known.covered)?;
    for n in &known.numbers {
        if !found.iter().any(|(m, _)| m == n) {
            return Err(format!("frame {n} was acknowledged and is gone; found {found:?}"));
        }
    }
    Ok(())
}

/// Three lives on one disk, each ended by a crash (or a fault and then a crash).
fn lives(seed: u64, steps: u64, failing_syncs: u32, mutant: Option<Mutant>) -> Result<(), String> {
    let dir = SimDir::new(seed);
    let mut known = Acknowledged::default();
    for life in 0..3 {
        dir.crash_after(steps + life * 17);
        if let Ok((log, _)) = Log::open(Arc::new(dir.clone()), FOLDER, known.covered, options(mutant)) {
            dir.fail_syncs(failing_syncs);
            for _ in 0..3 {
                if work(&log, &mut known, 12).is_err() {
                    log.reopen();
                }
            }
        }
        dir.restart();
        let (log, _) = Log::open(Arc::new(dir.clone()), FOLDER, known.covered, options(mutant))
            .map_err(|error| format!("cannot open after a crash: {error}"))?;
        check_acknowledged(&log, &known)?;
    }
    Ok(())
}

#[test]
fn power_may_go_at_every_byte() {
    for steps in 0.. {
        let dir = SimDir::new(steps);
        let mut known = Acknowledged::default();
        dir.crash_after(steps);
        if let Ok((log, _)) = Log::open(Arc::new(dir.clone()), FOLDER, Position::START, options(None)) {
            let _ = work(&log, &mut known, 8);
        }
        if !dir.has_crashed() {
            assert!(steps > 1_500, "a cut and several segments were written");
            break;
        }
        dir.restart();
        let (log, _) = Log::open(Arc::new(dir), FOLDER, known.covered, options(None)).unwrap();
        check_acknowledged(&log, &known).unwrap_or_else(|error| panic!("crash after {steps} steps: {error}"));
    }
}

#[test]
fn power_may_go_again_and_again() {
    for seed in 0..150 {
        lives(seed, seed * 61 % 9_000, 0, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn failing_syncs_acknowledge_nothing() {
    for seed in 0..150 {
        lives(seed, seed * 61 % 9_000, (seed % 3) as u32 + 1, None)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn cheating_logs_are_noticed() {
    for mutant in [Mutant::SkipSync, Mutant::AcknowledgeBeforeWrite, Mutant::RetrySync] {
        let caught = (0..100).find(|seed| lives(*seed, 300 + seed * 61, 1, Some(mutant)).is_err());
        println!("{mutant:?}: noticed with seed {caught:?}");
        assert!(caught.is_some(), "{mutant:?} stayed unnoticed for 100 seeds");
    }
}

#[test]
fn a_full_disk_refuses_and_then_goes_on() {
    let dir = SimDir::new(5);
    let (log, _) = Log::open(Arc::new(dir.clone()), FOLDER, Position::START, options(None)).unwrap();
    let mut known = Acknowledged::default();
    for capacity in (900..20_000).step_by(1_300) {
        dir.set_capacity(capacity);
        let full = loop {
            known.next += 1;
            match log.append(1, &[&payload(known.next)]).and_then(|end| log.sync_to(end)) {
                Ok(()) => known.numbers.push(known.next),
                Err(error) => break error,
            }
        };
        assert!(matches!(full, LogError::Full(_)) && full.is_full(), "{full}");
        assert!(full.to_string().contains("make room"), "{full}");
        assert!(dir.used_bytes() <= capacity);
        check_acknowledged(&log, &known).unwrap();
    }
    assert!(known.numbers.len() > 50, "it went on each time room was made: {}", known.numbers.len());
    dir.restart();
    let (log, damage) = Log::open(Arc::new(dir.clone()), FOLDER, Position::START, options(None)).unwrap();
    assert_eq!(damage, []);
    check_acknowledged(&log, &known).unwrap();
}

#[test]
fn a_failed_sync_stops_appends_until_the_log_is_opened_again() {
    let dir = SimDir::new(5);
    let (log, _) = Log::open(Arc::new(dir.clone()), FOLDER, Position::START, options(None)).unwrap();
    let first = log.append(1, &[b"first"]).unwrap();
    log.sync_to(first).unwrap();
    let lost = log.append(1, &[b"lost"]).unwrap();
    dir.fail_syncs(1);
    assert!(matches!(log.sync_to(lost), Err(LogError::Failed(_))));
    assert!(matches!(log.append(1, &[b"refused"]), Err(LogError::Failed(_))));
    log.sync_to(first).unwrap();
    log.reopen();
    let last = log.append(1, &[b"last"]).unwrap();
    log.sync_to(last).unwrap();
    assert!(last.segment > lost.segment, "a new file");
    assert!(log.sync_to(lost).is_err(), "still lost, though the log went past it");
    dir.restart();
    let (log, _) = Log::open(Arc::new(dir), FOLDER, Position::START, options(None)).unwrap();
    let found: Vec<_> = log
        .replay(Position::START)
        .map(|item| match item.unwrap() {
            Replayed::Frame(frame) => frame.payload,
            Replayed::Damage(damage) => panic!("{damage}"),
        })
        .collect();
    assert_eq!(found, [&b"first"[..], b"last"]);
}

#[test]
fn an_interval_loses_at_most_what_came_since_the_last_tick() {
    use std::time::Duration;
    use weir_model::Nanos;
    let dir = SimDir::new(11);
    let options = LogOptions { sync: SyncMode::Interval(Duration::from_secs(1)), ..options(None) };
    let (log, _) = Log::open(Arc::new(dir.clone()), FOLDER, Position::START, options.clone()).unwrap();
    let mut safe = 0;
    for n in 1..=50 {
        let end = log.append(1, &[&payload(n)]).unwrap();
        log.sync_to(end).unwrap();
        let syncs = log.stats().syncs;
        log.tick(Nanos(i64::from(n) * 100_000_000)).unwrap();
        if log.stats().syncs > syncs {
            safe = n;
        }
    }
    assert_eq!(log.stats().syncs, 5, "one a second");
    dir.restart();
    let (log, _) = Log::open(Arc::new(dir), FOLDER, Position::START, options).unwrap();
    let found: Vec<u32> = numbers(&log, Position::START).unwrap().iter().map(|(n, _)| *n).collect();
    assert!(safe >= 41 && (1..=safe).all(|n| found.contains(&n)), "{safe}: {found:?}");
}

#[test]
fn a_flipped_bit_anywhere_costs_one_frame_and_is_told() {
    let dir = SimDir::new(3);
    let (log, _) = Log::open(Arc::new(dir.clone()), FOLDER, Position::START, options(None)).unwrap();
    let mut known = Acknowledged::default();
    work(&log, &mut known, 4).unwrap();
    let path = format!("{FOLDER}/{:016x}.wal", 1);
    for bit in 0..700 * 8 {
        if !dir.flip_bit(&path, bit / 8, (bit % 8) as u8) {
            break;
        }
        let items: Vec<_> = log.replay(Position::START).collect();
        let told: Vec<_> = items.iter().filter(|i| matches!(i, Ok(Replayed::Damage(_)))).collect();
        let frames = items.iter().filter(|i| matches!(i, Ok(Replayed::Frame(_)))).count();
        // The last bytes of a segment's header are spare.
        if (bit / 8) < 24 {
            assert_eq!(frames, known.numbers.len(), "bit {bit}");
        } else {
            assert_eq!((frames, told.len()), (known.numbers.len() - 1, 1), "bit {bit}");
        }
        dir.flip_bit(&path, bit / 8, (bit % 8) as u8);
    }
    dir.flip_reads(Some(3));
    for _ in 0..50 {
        let (log, _) = Log::open(Arc::new(dir.clone()), FOLDER, Position::START, options(None)).unwrap();
        let _ = log.replay(Position::START).count();
    }
    dir.flip_reads(None);
    check_acknowledged(&log, &known).unwrap();
}

#[test]
fn positions_never_start_again() {
    let dir = SimDir::new(1);
    let mut covered = Position::START;
    for n in 1..6 {
        let (log, _) = Log::open(Arc::new(dir.clone()), FOLDER, covered, options(None)).unwrap();
        let end = log.append(1, &[&payload(n)]).unwrap();
        assert!(end > covered);
        log.sync_to(end).unwrap();
        assert_eq!(numbers(&log, covered).unwrap().len(), 1, "written after what the store remembers");
        covered = log.roll();
        log.sync_to(covered).unwrap();
        log.truncate_before(covered).unwrap();
        assert_eq!(log.stats().segments, 0);
    }
}

#[test]
fn a_later_version_is_refused_by_name() {
    use weir_wal::Dir;
    let dir = SimDir::new(1);
    dir.create_folder(FOLDER).unwrap();
    let mut header = b"weirwal\x02\x01\0\0\0\0\0\0\0".to_vec();
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    header.extend([0; 4]);
    dir.put_new(&format!("{FOLDER}/{:016x}.wal", 1), &header).unwrap();
    let refused = Log::open(Arc::new(dir), FOLDER, Position::START, options(None)).err().unwrap();
    assert!(refused.to_string().contains("0000000000000001.wal has format version 2"), "{refused}");
}
