//! Service discovery: groups of targets that change while weir runs.
//!
//! A provider runs one [`SdConfig`] and keeps its [`Found`] true; the collector looks there whenever
//! it hears of a change. What a provider cannot reach for a while keeps its last targets.

mod consul;
mod dns;
mod file;
mod group;
mod http;
pub(crate) mod kubernetes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use dns::wire::parse_answer as parse_dns_answer;
pub use group::TargetGroup;

use crate::config::SdConfig;

/// What one provider knows now.
pub(crate) struct Found {
    groups: Mutex<BTreeMap<String, Arc<TargetGroup>>>,
    is_changed: AtomicBool,
    /// Shared by all providers.
    notify: Arc<Notify>,
    /// Why the last attempt failed; empty when it did not.
    error: Mutex<String>,
}

impl Found {
    pub fn new(notify: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { groups: Mutex::default(), is_changed: AtomicBool::new(true), notify, error: Mutex::default() })
    }

    /// Everything that this provider knows.
    fn replace(&self, groups: Vec<TargetGroup>) {
        let next: BTreeMap<String, Arc<TargetGroup>> =
            groups.into_iter().map(|group| (group.source.clone(), Arc::new(group))).collect();
        let mut known = self.groups.lock();
        let is_same = *known == next;
        *known = next;
        drop(known);
        self.error.lock().clear();
        if !is_same {
            self.changed();
        }
    }

    /// One source's group; `None` takes it away.
    fn set(&self, source: &str, group: Option<TargetGroup>) {
        let mut known = self.groups.lock();
        let is_same = known.get(source).map(|g| &**g) == group.as_ref();
        match group {
            Some(group) => drop(known.insert(source.to_owned(), Arc::new(group))),
            None => drop(known.remove(source)),
        }
        drop(known);
        if !is_same {
            self.changed();
        }
    }

    /// Takes away the sources that are not wanted any more.
    fn retain(&self, wanted: impl Fn(&str) -> bool) {
        let mut known = self.groups.lock();
        let n = known.len();
        known.retain(|source, _| wanted(source));
        let is_same = n == known.len();
        drop(known);
        if !is_same {
            self.changed();
        }
    }

    fn failed(&self, kind: &'static str, error: String) {
        let mut known = self.error.lock();
        if *known != error {
            tracing::warn!(kind, %error, "discovery failed; the last targets stay");
            *known = error;
        }
    }

    fn worked(&self) {
        self.error.lock().clear();
    }

    fn changed(&self) {
        self.is_changed.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Whether something changed since this was asked last.
    pub fn take_changed(&self) -> bool {
        self.is_changed.swap(false, Ordering::AcqRel)
    }

    pub fn groups(&self) -> Vec<Arc<TargetGroup>> {
        self.groups.lock().values().cloned().collect()
    }

    pub fn error(&self) -> String {
        self.error.lock().clone()
    }
}

/// Runs until `stop`.
pub(crate) async fn run(config: SdConfig, found: Arc<Found>, stop: CancellationToken) {
    let work = async {
        match &config {
            SdConfig::File(config) => file::run(config, &found).await,
            SdConfig::Http(config) => http::run(config, &found).await,
            SdConfig::Dns(config) => dns::run(config, &found).await,
            SdConfig::Consul(config) => consul::run(config, &found).await,
            SdConfig::Kubernetes(config) => kubernetes::run(config, &found).await,
        }
    };
    stop.run_until_cancelled(work).await;
}
