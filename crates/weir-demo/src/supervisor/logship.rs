//! Ships log lines of the pipeline to weir, as a node's log agent does: batches of Loki push JSON, with retry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Lines that wait while weir does not answer; past that the newest are dropped and counted.
const QUEUE: usize = 20_000;
const BATCH: usize = 2_000;
const EVERY: Duration = Duration::from_millis(300);

/// A line with the labels of its stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub service: String,
    pub pod: String,
    pub level: String,
    pub at_nanos: i128,
    pub text: String,
}

impl Line {
    /// Reads time and level from a JSON line; what is not JSON is shipped as it is, at `now`.
    pub fn parse(service: &str, pod: &str, text: String, now: jiff::Timestamp) -> Self {
        let fields: Option<Value> = serde_json::from_str(&text).ok();
        let field = |name: &str| fields.as_ref().and_then(|f| f[name].as_str());
        let at = field("timestamp").and_then(|t| t.parse::<jiff::Timestamp>().ok()).unwrap_or(now);
        let level = field("level").unwrap_or("INFO").to_ascii_lowercase();
        Self { service: service.to_owned(), pod: pod.to_owned(), level, at_nanos: at.as_nanosecond(), text }
    }
}

/// Where readers of output put lines.
#[derive(Clone)]
pub struct LogShipper {
    queue: mpsc::Sender<Line>,
    n_dropped: Arc<AtomicU64>,
}

impl LogShipper {
    /// Starts the task that pushes to `base_url`; it ends when all handles are gone.
    pub fn start(base_url: String, namespace: String, client: reqwest::Client) -> Self {
        let (queue, lines) = mpsc::channel(QUEUE);
        tokio::spawn(ship(lines, base_url, namespace, client));
        Self { queue, n_dropped: Arc::default() }
    }

    pub fn push(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            let n = self.n_dropped.fetch_add(1, Ordering::Relaxed);
            if n.is_power_of_two() {
                tracing::warn!(dropped = n + 1, "log lines dropped: weir does not take them");
            }
        }
    }
}

async fn ship(mut lines: mpsc::Receiver<Line>, base_url: String, namespace: String, client: reqwest::Client) {
    let url = format!("{base_url}/loki/api/v1/push");
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, BATCH).await > 0 {
        let body = encode(&batch, &namespace);
        let mut pause = Duration::from_millis(200);
        for attempt in 1..=8 {
            match client.post(&url).json(&body).send().await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) if answer.status().is_client_error() && answer.status().as_u16() != 429 => {
                    let status = answer.status();
                    let text = answer.text().await.unwrap_or_default();
                    tracing::warn!(%status, text, "weir refused log lines");
                    break;
                }
                Ok(answer) => tracing::debug!(status = %answer.status(), attempt, "log lines not taken yet"),
                Err(error) => tracing::debug!(%error, attempt, "log lines not taken yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        batch.clear();
        tokio::time::sleep(EVERY).await;
    }
}

/// Loki's push JSON: one stream per pod, the level as structured metadata of each line.
fn encode(lines: &[Line], namespace: &str) -> Value {
    let mut streams: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for line in lines {
        let entry = json!([line.at_nanos.to_string(), line.text, {"level": line.level}]);
        streams.entry((&line.service, &line.pod)).or_default().push(entry);
    }
    let streams: Vec<Value> = streams
        .into_iter()
        .map(|((service, pod), values)| {
            json!({"stream": {"app": service, "namespace": namespace, "pod": pod}, "values": values})
        })
        .collect();
    json!({ "streams": streams })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_own_time_and_level() {
        let now = jiff::Timestamp::from_second(9).unwrap();
        let text = r#"{"timestamp":"1970-01-01T00:00:05.5Z","level":"WARN"}"#;
        let line = Line::parse("s", "p", text.into(), now);
        assert_eq!((line.at_nanos, line.level.as_str()), (5_500_000_000, "warn"));
        let line = Line::parse("s", "p", "panicked".into(), now);
        assert_eq!((line.at_nanos, line.level.as_str()), (9_000_000_000, "info"));
    }

    #[test]
    fn streams_are_per_pod() {
        let line = |pod: &str| Line {
            service: "s".into(),
            pod: pod.into(),
            level: "info".into(),
            at_nanos: 1,
            text: "t".into(),
        };
        let got = encode(&[line("a"), line("b"), line("a")], "n");
        assert_eq!(
            got,
            json!({"streams": [
                {"stream": {"app": "s", "namespace": "n", "pod": "a"},
                 "values": [["1", "t", {"level": "info"}], ["1", "t", {"level": "info"}]]},
                {"stream": {"app": "s", "namespace": "n", "pod": "b"}, "values": [["1", "t", {"level": "info"}]]},
            ]})
        );
    }
}
