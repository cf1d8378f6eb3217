//! The tailer over the machine's own files, with a writer of its own beside it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weir_collect::logs::{Effect, Input, LogDiscovery, LogMetrics, OsFiles, PromtailConfig, Tailer};
use weir_model::{Clock, SystemClock};

/// Lines by text, and whatever was saved last.
#[derive(Default)]
struct Life {
    stored: BTreeMap<(i64, String), usize>,
    saved: Option<Vec<u8>>,
}

impl Life {
    /// Follows until `is_over`, and ends without a word.
    fn follow(&mut self, config: &PromtailConfig, is_over: impl Fn(usize) -> bool) {
        let mut tailer = Tailer::new(self.saved.as_deref(), config.tailer, LogMetrics::default()).unwrap();
        let targets = LogDiscovery::default().targets(config, "here");
        tailer.set_targets(targets.active, SystemClock.now_nanos());
        let (mut input, started) = (Input::Tick, Instant::now());
        while !is_over(self.stored.len()) {
            assert!(started.elapsed() < Duration::from_secs(60), "{} lines only", self.stored.len());
            input = match tailer.step(input, SystemClock.now_nanos(), &OsFiles) {
                Effect::Save(bytes) => {
                    self.saved = Some(bytes);
                    Input::Saved { is_ok: true }
                }
                Effect::Deliver(batch) => {
                    for entry in batch.iter().flat_map(|stream| &stream.entries) {
                        *self.stored.entry((entry.at.0, entry.line.to_string())).or_default() += 1;
                    }
                    Input::Delivered
                }
                Effect::Wait(wait) => {
                    std::thread::sleep(wait.min(Duration::from_millis(10)));
                    Input::Tick
                }
            };
        }
    }
}

fn config(folder: &Path) -> PromtailConfig {
    let text = format!(
        "global: {{file_watch_config: {{min_poll_frequency: 10ms}}}}\n\
         scrape_configs: [{{job_name: j, static_configs: [{{labels: {{app: x, __path__: '{}/*.log'}}}}]}}]\n",
        folder.display()
    );
    PromtailConfig::parse(&text, folder).unwrap()
}

#[test]
fn every_line_of_a_busy_rotating_writer_is_read_once_over_many_lives() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let log = folder.path().join("app.log");
    let (n_written, n_stored, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let mut life = Life::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..20 {
                let mut file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
                for n in 0..500 {
                    // In two writes, so that readers see halves.
                    write!(file, "round {round} ").unwrap();
                    writeln!(file, "line {n}").unwrap();
                    n_written.fetch_add(1, Ordering::SeqCst);
                }
                // A file that comes and goes between two looks is nobody's: wait until it was seen.
                while n_stored.load(Ordering::SeqCst) < n_written.load(Ordering::SeqCst) - 400 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::fs::rename(&log, folder.path().join(format!("app.log.{round}"))).unwrap();
            }
            is_over.store(true, Ordering::SeqCst);
        });
        while !is_over.load(Ordering::SeqCst) {
            // Each life takes some hundred lines.
            let until = life.stored.len() + 700;
            life.follow(&config, |n| {
                n_stored.store(n, Ordering::SeqCst);
                n >= until || is_over.load(Ordering::SeqCst)
            });
        }
    });
    let n = n_written.load(Ordering::SeqCst);
    life.follow(&config, |stored| stored >= n);
    let mut lines: Vec<&str> = life.stored.keys().map(|(_, line)| line.as_str()).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((lines.len(), life.stored.len()), (n, n), "every line, and none at two times");
}

#[test]
fn a_real_file_that_is_truncated_is_read_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let log = folder.path().join("app.log");
    let mut life = Life::default();
    for round in 0..5 {
        let mut file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        for n in 0..100 {
            writeln!(file, "round {round} line {n}").unwrap();
        }
        life.follow(&config, |stored| stored >= (round + 1) * 100);
        std::fs::copy(&log, folder.path().join("app.log.1")).unwrap();
        OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    }
    assert_eq!(life.stored.len(), 500);
}
