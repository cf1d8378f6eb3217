//! The log against a model, from several threads, and in a process that is killed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;
use weir_wal::{Dir, DirErrorKind, Log, LogOptions, OsDir, Position, Replayed, SimDir};

fn frames(log: &Log, from: Position) -> Vec<(u8, Vec<u8>, Position)> {
    log.replay(from)
        .map(|item| match item.unwrap() {
            Replayed::Frame(frame) => (frame.kind, frame.payload.to_vec(), frame.end),
            Replayed::Damage(damage) => panic!("{damage}"),
        })
        .collect()
}

#[derive(Clone, Debug)]
enum Op {
    Append(u8, Vec<u8>),
    Sync,
    Roll,
    /// Truncates before the n-th frame known.
    Truncate(usize),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..=255_u8, proptest::collection::vec(any::<u8>(), 0..200)).prop_map(|(k, p)| Op::Append(k, p)),
        3 => Just(Op::Sync),
        1 => Just(Op::Roll),
        1 => (0..40_usize).prop_map(Op::Truncate),
        1 => Just(Op::Reopen),
    ]
}

fn check_against_model(ops: &[Op], preallocate: bool) {
    let dir = Arc::new(SimDir::new(1));
    let options = LogOptions { segment_bytes: 500, preallocate, ..LogOptions::default() };
    let open = |covered| Log::open(dir.clone(), "log", covered, options.clone()).unwrap();
    let (mut log, _) = open(Position::START);
    let mut model: Vec<(u8, Vec<u8>, Position)> = Vec::new();
    let mut covered = Position::START;
    for op in ops {
        match op {
            Op::Append(kind, payload) => {
                let end = log.append(*kind, &[payload]).unwrap();
                assert!(model.last().is_none_or(|last| last.2 < end), "positions ascend");
                model.push((*kind, payload.clone(), end));
            }
            Op::Sync => log.sync_to(log.end()).unwrap(),
            Op::Roll => {
                let end = log.roll();
                assert!(model.last().is_none_or(|last| last.2 <= end));
            }
            Op::Truncate(n) => {
                log.sync_all().unwrap();
                if let Some((_, _, end)) = model.get(*n).cloned() {
                    covered = end;
                    log.truncate_before(end).unwrap();
                    model.retain(|frame| frame.2 > end);
                }
            }
            Op::Reopen => {
                log.sync_all().unwrap();
                let (again, damage) = open(covered);
                assert_eq!(damage, []);
                log = again;
            }
        }
        if !matches!(op, Op::Append(..)) {
            log.sync_all().unwrap();
            assert_eq!(frames(&log, covered), model);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn the_log_agrees_with_a_list(ops in proptest::collection::vec(op(), 1..60), preallocate: bool) {
        check_against_model(&ops, preallocate);
    }

    #[test]
    fn any_bytes_replay_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), header: bool) {
        let dir = Arc::new(SimDir::new(1));
        dir.create_folder("log").unwrap();
        let mut content = if header { b"weirwal\x01\x01\0\0\0\0\0\0\0".to_vec() } else { Vec::new() };
        content.extend(bytes);
        dir.put_new(&format!("log/{:016x}.wal", 1), &content).unwrap();
        dir.put_new(&format!("log/{:016x}.wal", 2), &content).unwrap();
        if let Ok((log, _)) = Log::open(dir, "log", Position::START, LogOptions::default()) {
            log.replay(Position::START).for_each(drop);
        }
    }
}

#[test]
fn one_sync_serves_all_who_wait() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Arc::new(OsDir::open(folder.path()).unwrap());
    let (log, _) = Log::open(dir, "log", Position::START, LogOptions::default()).unwrap();
    let (threads, each) = (8, 200);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let log = &log;
            scope.spawn(move || {
                for n in 0..each {
                    let end = log.append(1, &[&[thread as u8], format!("{n}").as_bytes()]).unwrap();
                    log.sync_to(end).unwrap();
                }
            });
        }
    });
    let stats = log.stats();
    assert_eq!(stats.frames, threads * each);
    assert!(stats.syncs < stats.frames, "{stats:?}");
    let found = frames(&log, Position::START);
    for thread in 0..threads {
        let of: Vec<_> = found.iter().filter(|(_, payload, _)| payload[0] == thread as u8).collect();
        assert_eq!(of.len() as u64, each);
        assert!(of.iter().enumerate().all(|(n, f)| f.1[1..] == *format!("{n}").as_bytes()), "in order");
    }
}

#[test]
fn a_crash_under_several_threads_loses_nothing_acknowledged() {
    for seed in 0..30 {
        let dir = SimDir::new(seed);
        let options = LogOptions { segment_bytes: 2_000, ..LogOptions::default() };
        let (log, _) = Log::open(Arc::new(dir.clone()), "log", Position::START, options.clone()).unwrap();
        dir.crash_after(2_000 + seed * 97);
        let acknowledged: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4_u8)
                .map(|thread| {
                    let log = &log;
                    scope.spawn(move || {
                        (0..u8::MAX)
                            .map(|n| vec![thread, n, n, n])
                            .take_while(|frame| log.append(1, &[frame]).and_then(|end| log.sync_to(end)).is_ok())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        dir.restart();
        let (log, _) = Log::open(Arc::new(dir), "log", Position::START, options).unwrap();
        let found: Vec<Vec<u8>> = log
            .replay(Position::START)
            .filter_map(|item| match item.unwrap() {
                Replayed::Frame(frame) => Some(frame.payload.to_vec()),
                Replayed::Damage(_) => None,
            })
            .collect();
        for frame in acknowledged {
            assert!(found.contains(&frame), "seed {seed}: {frame:?} was acknowledged");
        }
    }
}

/// Run by the next test in a process of its own: writes, and prints what is acknowledged, until killed.
#[test]
fn child_writes_until_killed() {
    let Ok(folder) = std::env::var("WEIR_WAL_TEST_FOLDER") else { return };
    let dir = Arc::new(OsDir::open(folder.as_ref()).unwrap());
    let options = LogOptions { segment_bytes: 4_000, ..LogOptions::default() };
    let (log, _) = Log::open(dir, "log", Position::START, options).unwrap();
    let start = frames(&log, Position::START).len();
    for n in start.. {
        let end = log.append(1, &[format!("frame {n}").as_bytes()]).unwrap();
        log.sync_to(end).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {n}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_killed", "--nocapture"])
            .env("WEIR_WAL_TEST_FOLDER", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut last = None;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The harness writes its own line before the first.
        for line in lines.map(|line| line.unwrap()) {
            let Some((_, n)) = line.split_once("acknowledged ") else { continue };
            let n: usize = n.parse().unwrap();
            if last.is_none() {
                child.kill().unwrap();
            }
            last = Some(n);
            if n % 100 == 99 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let last = last.expect("the child acknowledged something");
        let dir = Arc::new(OsDir::open(folder.path()).unwrap());
        let (log, _) = Log::open(dir, "log", Position::START, LogOptions::default()).unwrap();
        let found = frames(&log, Position::START);
        assert!(found.len() > last, "round {round}: {last} acknowledged, {} found", found.len());
        for (n, (_, payload, _)) in found.iter().enumerate() {
            assert_eq!(payload, format!("frame {n}").as_bytes());
        }
    }
}

#[test]
fn both_folders_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let dirs: [Arc<dyn Dir>; 2] = [Arc::new(OsDir::open(folder.path()).unwrap()), Arc::new(SimDir::new(1))];
    for dir in dirs {
        assert_eq!(dir.list("a/b").unwrap(), Vec::<String>::new());
        assert_eq!(dir.create("a/b/x").err().unwrap().kind, DirErrorKind::NotFound);
        dir.create_folder("a/b").unwrap();
        dir.create_folder("a/b").unwrap();
        let file = dir.create("a/b/x").unwrap();
        assert_eq!(dir.create("a/b/x").err().unwrap().kind, DirErrorKind::Exists);
        file.write_at(3, b"def").unwrap();
        file.write_at(0, b"abc").unwrap();
        file.sync().unwrap();
        let mut buffer = [0; 10];
        assert_eq!((file.read_at(1, &mut buffer).unwrap(), &buffer[..5]), (5, &b"bcdef"[..]));
        assert_eq!(&file.read_exact_at(2, 3).unwrap()[..], b"cde");
        assert!(file.read_exact_at(2, 30).is_err());
        file.truncate(4).unwrap();
        file.preallocate(10).unwrap();
        assert_eq!((file.len().unwrap(), &dir.read("a/b/x").unwrap()[..]), (10, &b"abcd\0\0\0\0\0\0"[..]));
        dir.put_new("a/new", b"1").unwrap();
        assert_eq!(dir.put_new("a/new", b"2").err().unwrap().kind, DirErrorKind::Exists);
        dir.replace("a/new", b"3").unwrap();
        dir.replace("a/other", b"4").unwrap();
        dir.rename("a/new", "a/other").unwrap();
        assert_eq!(&dir.read("a/other").unwrap()[..], b"3");
        assert_eq!(dir.list("a").unwrap(), ["b/", "other"]);
        assert!(dir.remove_folder("a/b").is_err(), "not empty");
        dir.remove("a/b/x").unwrap();
        let missing = dir.open("a/b/x").err().unwrap();
        assert!(missing.kind == DirErrorKind::NotFound && missing.to_string().contains("a/b/x"), "{missing}");
        dir.remove_folder("a/b").unwrap();
        dir.sync_folder("a").unwrap();
        assert!(dir.free_bytes().unwrap() > 1000);
    }
}
