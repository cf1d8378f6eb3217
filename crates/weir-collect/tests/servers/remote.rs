//! Receivers of remote write that are away, refuse, or take everything.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio_util::sync::CancellationToken;
use weir_collect::{PrometheusConfig, RemoteOptions, RemoteWrites};
use weir_ingest::remote_write::{decode_v1, decode_v2};
use weir_ingest::{LabelCache, Limits};
use weir_model::sink::{MetricBatch, MetricSink, SeriesBatch};
use weir_model::{Labels, MetricKind, MetricMetadata, Sample, SystemClock, TenantId};

use crate::support::{serve, wait_for};

struct Receiver {
    answer: Mutex<StatusCode>,
    n_refused: Mutex<u64>,
    /// Labels and values of all samples.
    got: Mutex<BTreeSet<(String, u64)>>,
    metadata: Mutex<BTreeSet<String>>,
    versions: Mutex<BTreeSet<String>>,
}

impl Receiver {
    async fn start(answer: StatusCode) -> (Arc<Self>, String) {
        let receiver = Arc::new(Self {
            answer: Mutex::new(answer),
            n_refused: Mutex::default(),
            got: Mutex::default(),
            metadata: Mutex::default(),
            versions: Mutex::default(),
        });
        let shared = receiver.clone();
        let take = move |headers: HeaderMap, body: Bytes| async move { shared.take(&headers, &body) };
        let address = serve(Router::new().route("/push", post(take))).await;
        (receiver, format!("http://{address}/push"))
    }

    fn take(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let answer = *self.answer.lock().unwrap();
        if !answer.is_success() {
            *self.n_refused.lock().unwrap() += 1;
            return answer;
        }
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text("content-encoding"), "snappy");
        let plain = snap::raw::Decoder::new().decompress_vec(body).unwrap();
        let cache = LabelCache::new(Limits::default().series_labels);
        let kind = text("content-type");
        let decode = if kind.contains("v2.Request") { decode_v2 } else { decode_v1 };
        let decoded = decode(&plain, &cache).unwrap().decoded;
        assert_eq!(decoded.refused, []);
        self.versions.lock().unwrap().insert(text("x-prometheus-remote-write-version"));
        for series in decoded.batch.series {
            let values = series.samples.iter().map(|s| (series.labels.to_string(), s.value as u64));
            self.got.lock().unwrap().extend(values);
        }
        let families = decoded.batch.metadata.into_iter().map(|m| format!("{} {}", m.family, m.help));
        self.metadata.lock().unwrap().extend(families);
        answer
    }

    async fn until(&self, what: &str, is_done: impl Fn(&Self) -> bool) {
        wait_for(what, || is_done(self), || format!("{:?}", self.got.lock().unwrap())).await;
    }
}

async fn idle(remote: &RemoteWrites) {
    wait_for("the queue is idle", || remote.status()[0].is_idle, || format!("{:?}", remote.status())).await;
}

fn open(folder: &Path, url: &str, keys: &str) -> (RemoteWrites, CancellationToken) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = format!(
        "global: {{external_labels: {{cluster: c1}}}}\nremote_write:\n- {{url: '{url}', {keys}, queue_config: \
         {{batch_send_deadline: 20ms, min_backoff: 5ms, max_backoff: 20ms, max_samples_per_send: 7}}}}\n"
    );
    let shutdown = CancellationToken::new();
    let remote = RemoteWrites::new(RemoteOptions {
        folder: Some(folder.to_owned()),
        clock: Arc::new(SystemClock),
        shutdown: shutdown.clone(),
        queue_bytes_max: 64 << 20,
    });
    remote.apply(&PrometheusConfig::parse(&text, Path::new(".")).unwrap()).unwrap();
    (remote, shutdown)
}

fn append(remote: &RemoteWrites, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let series = SeriesBatch {
            labels: Labels::from_pairs([("__name__", "n_total".to_owned()), ("shard", (n % 5).to_string())]),
            samples: vec![Sample::new(n as i64, n as f64)],
            ..SeriesBatch::default()
        };
        let metadata = MetricMetadata {
            family: "n_total".to_owned(),
            kind: MetricKind::Counter,
            help: "numbers".to_owned(),
            unit: String::new(),
        };
        let batch = MetricBatch { series: vec![series], metadata: vec![metadata] };
        assert_eq!(remote.append(&TenantId::anonymous(), &batch).unwrap().accepted, 1);
    }
}

fn all(numbers: std::ops::Range<u64>) -> BTreeSet<(String, u64)> {
    numbers.map(|n| (format!("n_total{{cluster=\"c1\", shard=\"{}\"}}", n % 5), n)).collect()
}

#[tokio::test]
async fn what_is_queued_outlives_the_program_and_arrives_when_the_receiver_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, url) = Receiver::start(StatusCode::SERVICE_UNAVAILABLE).await;
    let (remote, shutdown) = open(folder.path(), &url, "name: r");
    append(&remote, 0..60);
    receiver.until("tries while it is away", |r| *r.n_refused.lock().unwrap() > 3).await;
    assert!(remote.status()[0].last_error.contains("503"), "{:?}", remote.status());
    shutdown.cancel();
    drop(remote);
    let (remote, _shutdown) = open(folder.path(), &url, "name: r");
    append(&remote, 60..100);
    assert_eq!(receiver.got.lock().unwrap().len(), 0);
    *receiver.answer.lock().unwrap() = StatusCode::NO_CONTENT;
    receiver.until("everything arrives", |r| *r.got.lock().unwrap() == all(0..100)).await;
    receiver.until("metadata arrives", |r| r.metadata.lock().unwrap().contains("n_total numbers")).await;
    // The cursor has moved: a third life sends nothing again.
    idle(&remote).await;
    receiver.got.lock().unwrap().clear();
    drop(remote);
    let (remote, _shutdown) = open(folder.path(), &url, "name: r");
    append(&remote, 100..101);
    receiver.until("the next arrives", |r| !r.got.lock().unwrap().is_empty()).await;
    assert_eq!(*receiver.got.lock().unwrap(), all(100..101));
}

#[tokio::test]
async fn version_two_and_refusals() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, url) = Receiver::start(StatusCode::BAD_REQUEST).await;
    let (remote, _shutdown) = open(folder.path(), &url, "protobuf_message: io.prometheus.write.v2.Request");
    append(&remote, 0..3);
    // Refused for good: given up, so that what follows is not held back.
    idle(&remote).await;
    assert!(remote.status()[0].last_error.contains("lost"), "{:?}", remote.status());
    *receiver.answer.lock().unwrap() = StatusCode::OK;
    append(&remote, 3..20);
    receiver.until("what follows arrives", |r| *r.got.lock().unwrap() == all(3..20)).await;
    assert_eq!(*receiver.versions.lock().unwrap(), BTreeSet::from(["2.0.0".to_owned()]));
    assert!(receiver.metadata.lock().unwrap().contains("n_total numbers"));
}
