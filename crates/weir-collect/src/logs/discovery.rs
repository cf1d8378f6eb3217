//! [`LogDiscovery`]: groups of targets that change while weir runs, for log files.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::config::PromtailConfig;
use super::targets::LogTargets;
use crate::config::{KubernetesRole, KubernetesSd, SdConfig};
use crate::discover::{self, Found};

/// What the sources of a configuration know.
#[derive(Default)]
pub struct LogDiscovery {
    changed: Arc<Notify>,
    providers: Mutex<Vec<Provider>>,
}

/// One source; equal ones share it.
struct Provider {
    config: SdConfig,
    found: Arc<Found>,
    stop: CancellationToken,
}

/// To be run by whoever asked.
pub type Watch = Pin<Box<dyn Future<Output = ()> + Send>>;

impl LogDiscovery {
    /// Takes the sources of a configuration over: those that stay keep running, those that are gone end, and the
    /// new ones' work is answered; it ends with `shutdown`.
    pub fn apply(&self, config: &PromtailConfig, host: &str, shutdown: &CancellationToken) -> Vec<Watch> {
        let mut providers = self.providers.lock();
        let mut before = std::mem::take(&mut *providers);
        let mut fresh: Vec<Watch> = Vec::new();
        for sd in config.scrape_configs.iter().flat_map(|scrape| &scrape.sd) {
            let sd = on_host(sd, host);
            if providers.iter().any(|known| known.config == sd) {
                continue;
            }
            if let Some(idx) = before.iter().position(|known| known.config == sd) {
                providers.push(before.swap_remove(idx));
                continue;
            }
            let (found, stop) = (Found::new(self.changed.clone()), shutdown.child_token());
            fresh.push(Box::pin(discover::run(sd.clone(), found.clone(), stop.clone())));
            providers.push(Provider { config: sd, found, stop });
        }
        before.iter().for_each(|gone| gone.stop.cancel());
        fresh
    }

    /// Returns when something may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is to be followed now.
    pub fn targets(&self, config: &PromtailConfig, host: &str) -> LogTargets {
        let providers = self.providers.lock();
        LogTargets::of(config, host, |sd| {
            let sd = on_host(sd, host);
            providers.iter().filter(|known| known.config == sd).flat_map(|known| known.found.groups()).collect()
        })
    }
}

/// Only this node's pods are asked for: files of the others are elsewhere.
fn on_host(sd: &SdConfig, host: &str) -> SdConfig {
    match sd {
        SdConfig::Kubernetes(kubernetes) if kubernetes.role == KubernetesRole::Pod && !host.is_empty() => {
            let mut kubernetes: KubernetesSd = (**kubernetes).clone();
            let (_, field) = kubernetes.selectors.entry(KubernetesRole::Pod).or_default();
            let own = format!("spec.nodeName={host}");
            if field.is_empty() {
                *field = own;
            } else if !field.contains(&own) {
                *field = format!("{field},{own}");
            }
            SdConfig::Kubernetes(Box::new(kubernetes))
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn pods_of_this_node_are_asked_for() {
        let text = "scrape_configs:\n- job_name: a\n  kubernetes_sd_configs: [{role: pod}, {role: node}, {role: pod, selectors: [{role: pod, label: x=y, field: status.phase=Running}]}]\n";
        let config = PromtailConfig::parse(text, Path::new("/")).unwrap();
        let field = |sd: &SdConfig| match on_host(sd, "n1") {
            SdConfig::Kubernetes(sd) => sd.selectors.get(&KubernetesRole::Pod).cloned(),
            other => panic!("{other:?}"),
        };
        let got: Vec<_> = config.scrape_configs[0].sd.iter().map(field).collect();
        let pair = |label: &str, field: &str| Some((label.to_owned(), field.to_owned()));
        assert_eq!(got, [pair("", "spec.nodeName=n1"), None, pair("x=y", "status.phase=Running,spec.nodeName=n1")]);
    }
}
