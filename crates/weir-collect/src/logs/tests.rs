//! The tailer over a simulated file system: rotation, truncation, and crashes at any step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use weir_model::Nanos;

use super::pipeline::after;
use super::sim::SimFiles;
use super::*;

/// Runs a tailer until it waits; what it delivers is kept as a store does, which knows equal lines of one time.
struct World {
    files: SimFiles,
    config: PromtailConfig,
    tailer: Tailer,
    saved: Option<Vec<u8>>,
    now: Nanos,
    input: Input,
    stored: BTreeSet<(String, i64, String)>,
    n_delivered: usize,
}

const FILE: &str = "/log/app.log";

fn config(more: &str) -> PromtailConfig {
    let text =
        format!("scrape_configs:\n- job_name: j\n  static_configs: [{{labels: {{app: x, __path__: {FILE}}}}}]\n{more}");
    PromtailConfig::parse(&text, Path::new("/etc")).unwrap()
}

impl World {
    fn new(config: PromtailConfig) -> Self {
        let mut world = Self {
            files: SimFiles::default(),
            tailer: Tailer::new(None, config.tailer, LogMetrics::default()).unwrap(),
            config,
            saved: None,
            now: Nanos(1_700_000_000_000_000_000),
            input: Input::Tick,
            stored: BTreeSet::new(),
            n_delivered: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.tailer = Tailer::new(self.saved.as_deref(), self.config.tailer, LogMetrics::default()).unwrap();
        self.tailer.set_targets(LogTargets::of(&self.config, "here", |_| Vec::new()).active, self.now);
        self.input = Input::Tick;
    }

    /// One effect; whether there is more to do at once. With `crash` it is done or not, and the process ends.
    fn step(&mut self, crash: Option<bool>) -> bool {
        let effect = self.tailer.step(self.input, self.now, &self.files);
        let is_done = crash.unwrap_or(true);
        let mut is_busy = true;
        self.input = match effect {
            Effect::Save(bytes) => {
                if is_done {
                    self.saved = Some(bytes);
                }
                Input::Saved { is_ok: true }
            }
            Effect::Deliver(batch) => {
                if is_done {
                    self.store(&batch);
                }
                Input::Delivered
            }
            Effect::Wait(wait) => {
                self.now = after(self.now, wait);
                is_busy = wait.is_zero();
                Input::Tick
            }
        };
        if crash.is_some() {
            self.begin();
        }
        is_busy
    }

    fn store(&mut self, batch: &[Outgoing]) {
        for stream in batch {
            for entry in &stream.entries {
                self.n_delivered += 1;
                self.stored.insert((stream.labels.to_string(), entry.at.0, entry.line.to_string()));
            }
        }
    }

    fn settle(&mut self) {
        // A round that finds nothing, after a scan.
        for _ in 0..12 {
            while self.step(None) {}
        }
    }

    fn wait(&mut self, secs: u64) {
        self.now = after(self.now, Duration::from_secs(secs));
        self.settle();
    }

    fn lines(&self) -> Vec<&str> {
        let mut all: Vec<(i64, &str)> = self.stored.iter().map(|(_, at, line)| (*at, line.as_str())).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, line)| line).collect()
    }

    #[track_caller]
    fn check(&mut self, want: &[&str]) {
        self.settle();
        assert_eq!(self.lines(), want);
        assert_eq!(self.n_delivered, want.len(), "delivered once");
    }
}

#[test]
fn lines_come_whole_and_in_order() {
    let mut world = World::new(config(""));
    world.check(&[]);
    world.files.append(FILE, "one\ntwo\r\nthr");
    world.check(&["one", "two"]);
    world.files.append(FILE, "ee\n\nlast");
    world.check(&["one", "two", "three", ""]);
    let labels: BTreeSet<&str> = world.stored.iter().map(|(labels, ..)| labels.as_str()).collect();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), [r#"{app="x", filename="/log/app.log"}"#]);
    world.files.append(FILE, b" \xff\xfe\n");
    world.check(&["one", "two", "three", "", "last \u{fffd}\u{fffd}"]);
}

#[test]
fn a_renamed_file_is_read_to_its_end() {
    let mut world = World::new(config(""));
    world.files.append(FILE, "1\n");
    world.check(&["1"]);
    world.files.append(FILE, "2\n");
    world.files.rename(FILE, "/log/app.log.1");
    world.files.append(FILE, "4\n");
    world.check(&["1", "2", "4"]);
    // Its writer noticed late.
    world.files.append("/log/app.log.1", "3\nrest");
    world.check(&["1", "2", "4", "3"]);
    world.wait(61);
    world.check(&["1", "2", "4", "3", "rest"]);
    assert_eq!(world.tailer.n_files(), 1);
    world.files.append(FILE, "5\n");
    world.check(&["1", "2", "4", "3", "rest", "5"]);
}

#[test]
fn a_file_that_was_renamed_while_nobody_looked_is_found() {
    let mut world = World::new(config(""));
    world.files.append(FILE, "1\n");
    world.check(&["1"]);
    world.files.append(FILE, "2\n");
    world.files.rename(FILE, "/log/app.log.1");
    world.files.append(FILE, "3\n");
    world.begin();
    world.settle();
    assert_eq!(world.stored.len(), 3, "{:?}", world.stored);
    assert_eq!(world.n_delivered, 3);
    assert!(world.stored.iter().all(|(labels, ..)| labels.contains("filename=\"/log/app.log\"")));
}

#[test]
fn a_truncated_file_is_read_from_its_start() {
    let mut world = World::new(config(""));
    world.files.append(FILE, "1\n2\n");
    world.check(&["1", "2"]);
    world.files.truncate(FILE, 0);
    world.check(&["1", "2"]);
    world.files.append(FILE, "3\n");
    world.check(&["1", "2", "3"]);
    // Longer than it was, before anyone looked.
    world.files.truncate(FILE, 0);
    world.files.append(FILE, "four\nfive\n");
    world.check(&["1", "2", "3", "four", "five"]);
    // As long as it was.
    world.files.truncate(FILE, 0);
    world.files.append(FILE, "FOUR\nFIVE\n");
    world.check(&["1", "2", "3", "four", "five", "FOUR", "FIVE"]);
    // A writer that kept its offset leaves a hole.
    world.files.truncate(FILE, 0);
    world.files.append(FILE, [&[0; 5000][..], b"six\n"].concat());
    world.check(&["1", "2", "3", "four", "five", "FOUR", "FIVE", "six"]);
}

#[test]
fn a_removed_file_is_let_go_and_its_successor_read() {
    let mut world = World::new(config(""));
    world.files.append(FILE, "1\nend");
    world.check(&["1"]);
    world.files.remove(FILE);
    world.wait(2);
    world.wait(61);
    world.check(&["1", "end"]);
    assert_eq!(world.tailer.n_files(), 0);
    world.files.append(FILE, "1\n");
    world.settle();
    assert_eq!(world.n_delivered, 3);
}

#[test]
fn long_lines_are_cut_and_the_rest_passed_over() {
    let mut world = World::new(config("limits_config: {max_line_size: 10, max_line_size_truncate: true}\n"));
    world.files.append(FILE, "0123456789\n0123456789abc\n");
    world.check(&["0123456789", "0123456789"]);
    world.files.append(FILE, "123456789äöü, and it goes on");
    world.check(&["0123456789", "0123456789", "123456789"]);
    world.begin();
    world.files.append(FILE, " and on\nnext\n");
    world.check(&["0123456789", "0123456789", "123456789", "next"]);
    let mut world = World::new(config("limits_config: {max_line_size: 10}\n"));
    world.files.append(FILE, "0123456789abc\nnext\n");
    world.check(&["next"]);
    // Without a limit of one's own there is the store's; memory does not grow with the line.
    let mut world = World::new(config(""));
    let line = "x".repeat(3 << 20);
    world.files.append(FILE, format!("{line}\nnext\n"));
    world.settle();
    let mut lens: Vec<usize> = world.lines().iter().map(|line| line.len()).collect();
    lens.sort_unstable();
    assert_eq!(lens, [4, 256 << 10]);
}

#[test]
fn what_promtail_has_read_is_not_read_again() {
    let mut world = World::new(config(""));
    world.files.append(FILE, "1\n2\n");
    world.tailer.import("positions:\n  /log/app.log: \"2\"\n").unwrap();
    world.check(&["2"]);
}

#[test]
fn files_that_rotation_packed_are_passed_over() {
    let mut world = World::new(
        PromtailConfig::parse(
            "scrape_configs:\n- job_name: j\n  static_configs: [{labels: {__path__: '/log/*', __path_exclude__: '/log/*.tmp'}}]\n",
            Path::new("/"),
        )
        .unwrap(),
    );
    world.files.append("/log/a.log", "1\n");
    world.files.append("/log/a.log.1.gz", "x\n");
    world.files.append("/log/b.tmp", "y\n");
    world.check(&["1"]);
    // Renamed to a name that matches too, it stays the file that it is.
    world.files.rename("/log/a.log", "/log/a.log.1");
    world.files.append("/log/a.log.1", "2\n");
    world.wait(100);
    world.files.append("/log/a.log.1", "3\n");
    world.check(&["1", "2", "3"]);
}

#[test]
fn a_block_that_is_held_back_is_not_lost_with_the_process() {
    let stages = "  pipeline_stages: [{multiline: {firstline: '^\\[', max_wait_time: 1h}}]\n";
    let mut world = World::new(config(stages));
    world.files.append(FILE, "[1] a\n[2] b\n  c\n");
    world.check(&["[1] a"]);
    world.begin();
    world.files.append(FILE, "  d\n[3]\n");
    world.check(&["[1] a", "[2] b\n  c\n  d"]);
}

#[test]
fn one_file_that_never_ends_does_not_starve_another() {
    let config = PromtailConfig::parse(
        "scrape_configs:\n- job_name: j\n  static_configs: [{labels: {__path__: '/log/*.log'}}]\n",
        Path::new("/"),
    );
    let mut world = World::new(config.unwrap());
    let line = format!("{}\n", "x".repeat(1000));
    world.files.append("/log/a.log", line.repeat(20_000));
    world.files.append("/log/b.log", line.repeat(20_000));
    world.files.append("/log/c.log", "here\n");
    for _ in 0..12 {
        world.step(None);
    }
    assert!(world.lines().contains(&"here"), "{} delivered", world.n_delivered);
}

fn many(files_max: usize) -> World {
    let mut config = PromtailConfig::parse(
        "scrape_configs:\n- job_name: j\n  static_configs: [{labels: {__path__: '/log/*.log'}}]\n",
        Path::new("/"),
    )
    .unwrap();
    config.tailer.files_max = files_max;
    World::new(config)
}

#[test]
fn more_files_than_may_be_open_take_turns() {
    let mut world = many(3);
    let mut want = BTreeSet::new();
    let mut n = 0;
    for round in 0..6 {
        for file in 0..20 {
            n += 1;
            let line = format!("round {round} of file {file}");
            world.files.append(&format!("/log/{file:02}.log"), format!("{line}\n"));
            want.insert(line);
        }
        world.settle();
        assert_eq!(world.stored.iter().map(|(.., line)| line.clone()).collect::<BTreeSet<_>>(), want, "round {round}");
        assert_eq!((world.n_delivered, world.files.n_open()), (n, 3));
    }
    assert_eq!(world.tailer.n_files(), 20);
    // Renamed and written to while closed; removed while closed.
    for file in 0..10 {
        let path = format!("/log/{file:02}.log");
        world.files.append(&path, "late\n");
        world.files.rename(&path, &format!("{path}.1"));
        world.files.append(&format!("{path}.1"), "later\n");
    }
    world.files.remove("/log/19.log");
    world.settle();
    assert_eq!((world.n_delivered, world.files.n_open()), (n + 20, 3));
    assert!(world.stored.iter().filter(|(.., line)| line == "later").all(|(labels, ..)| labels.contains(".log\"")));
    world.wait(61);
    world.wait(61);
    assert_eq!((world.tailer.n_files(), world.n_delivered), (9, n + 20));
}

#[test]
fn a_long_file_does_not_keep_others_from_their_turn() {
    let mut world = many(1);
    let line = format!("{}\n", "x".repeat(1000));
    for file in ["a", "b", "c"] {
        world.files.append(&format!("/log/{file}.log"), line.repeat(5000) + "unfinished");
    }
    world.settle();
    assert_eq!((world.n_delivered, world.files.n_open()), (15_000, 1));
}

/// Writers, rotation and crashes in every order that the seed draws.
fn run(seed: u64, files_max: usize) {
    let mut random = Random(seed.wrapping_mul(2).wrapping_add(1));
    let mut config = config("");
    config.tailer.files_max = files_max;
    let mut world = World::new(config);
    let mut written: BTreeMap<String, usize> = BTreeMap::new();
    let (mut n, mut n_files, mut n_crashes) = (0, 0, 0);
    for _ in 0..300 {
        match random.below(8) {
            0..3 => {
                let mut text = String::new();
                for _ in 0..random.below(40) {
                    n += 1;
                    // Some lines are the same, which makes them no less.
                    let line = if n % 7 == 0 { "again".to_owned() } else { format!("line {n}") };
                    text += &format!("{line}\n");
                    *written.entry(line).or_default() += 1;
                }
                world.files.append(FILE, text);
            }
            3 if world.is_known() => {
                n_files += 1;
                world.files.rename(FILE, &format!("{FILE}.{n_files}"));
            }
            4 => {
                let is_done = random.below(2) == 0;
                world.step(Some(is_done));
                n_crashes += 1;
            }
            5 => world.now = after(world.now, Duration::from_millis(random.below(1500))),
            _ => drop(world.step(None)),
        }
        assert!(world.files.n_open() <= files_max, "seed {seed}");
    }
    world.settle();
    let mut stored: BTreeMap<String, usize> = BTreeMap::new();
    world.stored.iter().for_each(|(_, _, line)| *stored.entry(line.clone()).or_default() += 1);
    assert_eq!(stored, written, "seed {seed}");
    assert!(n_crashes > 0 || world.n_delivered == n, "seed {seed}: repeats without a crash");
}

impl World {
    /// Whether the file that stands there was written down: one that comes and goes between two looks, with
    /// nobody alive to hold it, is nobody's.
    fn is_known(&self) -> bool {
        let Ok(about) = self.files.about(Path::new(FILE)) else { return false };
        let saved = self.saved.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        saved.contains(&format!("\"inode\":{},", about.id.inode))
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

#[test]
fn every_line_is_stored_once_whatever_crashes_and_rotates() {
    for seed in 0..60 {
        run(seed, usize::MAX);
        run(seed, 1);
    }
}
