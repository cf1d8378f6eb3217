//! `weir agent`: what it scraped arrives, whatever ends in between.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use prost::Message;

use crate::remote_write::WriteRequest;

struct Agent(Child);

impl Agent {
    fn start(config: &Path, data: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["agent", "--listen", "127.0.0.1:0", "--otlp-grpc-listen", "127.0.0.1:0"]);
        command.arg("--prometheus-config").arg(config).arg("--data-dir").arg(data);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("weir ready http://"), "{line}");
        Self(child)
    }
}

/// SIGKILL: nothing is flushed.
impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers each scrape with the next number, and takes writes once it is asked to.
#[derive(Default)]
struct World {
    n_scrapes: AtomicU64,
    is_away: AtomicBool,
    n_refused: AtomicU64,
    /// Values of `n`, by the labels that the sender adds.
    got: Mutex<BTreeSet<u64>>,
    /// Times of scrapes that the agent gave up, as `up` tells: on a busy machine 100 ms may pass.
    timed_out: Mutex<BTreeSet<i64>>,
}

impl World {
    fn take(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        assert_eq!(headers["x-prometheus-remote-write-version"], "0.1.0");
        if self.is_away.load(Ordering::SeqCst) {
            self.n_refused.fetch_add(1, Ordering::SeqCst);
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let plain = snap::raw::Decoder::new().decompress_vec(body).unwrap();
        for series in WriteRequest::decode(&plain[..]).unwrap().timeseries {
            let value = |name: &str| series.labels.iter().find(|l| l.name == name).map(|l| l.value.as_str());
            if value("__name__") == Some("n") {
                assert_eq!((value("job"), value("cluster")), (Some("j"), Some("c1")));
                let values = series.samples.iter().filter(|s| !s.value.is_nan()).map(|s| s.value as u64);
                self.got.lock().unwrap().extend(values);
            }
            if value("__name__") == Some("up") {
                let down = series.samples.iter().filter(|s| s.value == 0.0).map(|s| s.timestamp);
                self.timed_out.lock().unwrap().extend(down);
            }
        }
        StatusCode::NO_CONTENT
    }

    async fn until(&self, what: &str, is_done: impl Fn(&Self) -> bool) {
        for _ in 0..2400 {
            if is_done(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{what}: {} scrapes, got {:?}", self.n_scrapes.load(Ordering::SeqCst), self.got.lock().unwrap());
    }
}

async fn start_world(world: &Arc<World>) -> String {
    let (target, receiver) = (world.clone(), world.clone());
    let router = Router::new()
        .route(
            "/metrics",
            get(move || async move { format!("n {}\n", target.n_scrapes.fetch_add(1, Ordering::SeqCst) + 1) }),
        )
        .route(
            "/push",
            post(move |headers: HeaderMap, body: axum::body::Bytes| async move { receiver.take(&headers, &body) }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

#[tokio::test]
async fn nothing_scraped_is_lost_while_the_receiver_is_away_and_the_agent_is_killed() {
    let world = Arc::new(World { is_away: AtomicBool::new(true), ..World::default() });
    let address = start_world(&world).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 100ms, external_labels: {{cluster: c1}}}}\n\
         remote_write: [{{url: 'http://{address}/push', queue_config: {{batch_send_deadline: 100ms, max_backoff: 200ms}}}}]\n\
         scrape_configs: [{{job_name: j, fallback_scrape_protocol: PrometheusText0.0.4, static_configs: [{{targets: ['{address}']}}]}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let data = folder.path().join("data");
    let mut killed_after = Vec::new();
    for _ in 0..3 {
        let agent = Agent::start(&config, &data);
        let before = world.n_scrapes.load(Ordering::SeqCst);
        world.until("scrapes while the receiver is away", |w| w.n_scrapes.load(Ordering::SeqCst) >= before + 8).await;
        drop(agent);
        killed_after.push(world.n_scrapes.load(Ordering::SeqCst));
    }
    assert!(world.n_refused.load(Ordering::SeqCst) > 0, "the receiver was asked meanwhile");
    world.is_away.store(false, Ordering::SeqCst);
    let _agent = Agent::start(&config, &data);
    let last = *killed_after.last().unwrap();
    // What was answered at the moment of a kill may not have been written yet.
    let is_wanted = |n: &u64| !killed_after.contains(n);
    world
        .until("everything arrives", |w| {
            let got = w.got.lock().unwrap();
            let n_missing = (1..=last + 3).filter(is_wanted).filter(|n| !got.contains(n)).count();
            got.last() >= Some(&(last + 3)) && n_missing <= w.timed_out.lock().unwrap().len()
        })
        .await;
}
