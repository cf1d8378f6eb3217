#![allow(clippy::unwrap_used, reason = "a test harness: what it reads it has written itself")]
//! The second implementation of the storage traits: plain files behind an object store that takes
//! 50 ms for everything and fails one call in a hundred. It exists to prove that the traits can be
//! kept by a store with such habits; it is not a store to use.

mod logs;
mod metrics;
mod objects;
mod spans;

use objects::Objects;
use weir_model::suite;

/// Writing is synchronous in the traits, so the runtime needs a second thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_in_files_keep_the_contract() {
    let (objects, _dir) = Objects::faulty(11);
    suite::metrics(&metrics::FileMetrics(objects)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_in_files_keep_the_contract() {
    let (objects, _dir) = Objects::faulty(12);
    suite::logs(&logs::FileLogs(objects)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_in_files_keep_the_contract() {
    let (objects, _dir) = Objects::faulty(13);
    suite::spans(&spans::FileSpans(objects)).await;
}

/// The harness does fail calls, and a repeated call loses and doubles nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_injected() {
    let (objects, _dir) = Objects::faulty(14);
    for n in 0..40 {
        objects.put("t", format!("{n}").as_bytes()).unwrap();
    }
    assert_eq!(objects.all("t").await.unwrap().len(), 40, "every acknowledged object is listed");
    assert!(objects.n_faults() > 0, "some calls failed and were repeated");
}
