//! The processes of the pipeline: started, kept running, and exchanged one by one in a deployment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Notify};

use super::child::{Child, Start};
use super::logship::{Line, LogShipper};
use crate::error::DemoError;
use crate::topology::{Instance, Role, Topology};

/// The line that a process logs when it has prepared everything and waits.
pub(crate) const STANDING_BY: &str = "standing by";

pub struct Pods {
    pub topology: Arc<Topology>,
    pub topology_file: PathBuf,
    pub program: PathBuf,
    pub shipper: Option<LogShipper>,
    pub client: reqwest::Client,
    running: Mutex<BTreeMap<String, Pod>>,
}

struct Pod {
    instance: Instance,
    version: String,
    child: Child,
}

impl Pods {
    pub fn new(
        topology: Arc<Topology>,
        topology_file: PathBuf,
        program: PathBuf,
        shipper: Option<LogShipper>,
        client: reqwest::Client,
    ) -> Self {
        Self { topology, topology_file, program, shipper, client, running: Mutex::default() }
    }

    /// Starts all processes of a role at `version` and waits until each is ready.
    pub async fn start_role(&self, role: Role, version: &str) -> Result<(), DemoError> {
        let instances: Vec<Instance> = self.topology.instances_of(role).cloned().collect();
        for instance in &instances {
            let (child, _) = self.spawn(instance, version, false)?;
            let pod = Pod { instance: instance.clone(), version: version.to_owned(), child };
            self.running.lock().await.insert(instance.pod.clone(), pod);
        }
        for instance in &instances {
            self.wait_ready(instance).await?;
        }
        Ok(())
    }

    fn spawn(&self, instance: &Instance, version: &str, standby: bool) -> Result<(Child, Arc<Notify>), DemoError> {
        let mut args = vec!["demo-service".into(), "--topology".into(), self.topology_file.clone().into()];
        args.extend(["--pod".into(), instance.pod.clone().into(), "--version".into(), version.into()]);
        if standby {
            args.push("--standby".into());
        }
        let (service, pod) = (self.topology.service(instance.role).to_owned(), instance.pod.clone());
        let shipper = self.shipper.clone();
        let standing_by = Arc::new(Notify::new());
        let notify = standing_by.clone();
        let on_line = move |text: String| {
            let line = Line::parse(&service, &pod, text, jiff::Timestamp::now());
            if line.text.contains(STANDING_BY) {
                notify.notify_one();
            }
            if let Some(shipper) = &shipper {
                shipper.push(line);
            }
        };
        let start = Start {
            name: &instance.pod,
            program: &self.program,
            args,
            low_priority: true,
            logs_dir: &self.topology.data_dir,
        };
        Ok((Child::start(start, on_line)?, standing_by))
    }

    async fn wait_ready(&self, instance: &Instance) -> Result<(), DemoError> {
        let url = format!("http://127.0.0.1:{}/ready", instance.port);
        let begun = Instant::now();
        let patience = Duration::from_secs(30);
        loop {
            let last = match self.client.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("{url} answers {}", answer.status()),
                Err(error) => error.to_string(),
            };
            if begun.elapsed() > patience {
                let what = format!("`{}`", instance.pod);
                return Err(DemoError::NotReady { what, seconds: patience.as_secs(), last });
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// The version that a role runs now.
    pub async fn version(&self, role: Role) -> String {
        let running = self.running.lock().await;
        running
            .values()
            .find(|p| p.instance.role == role)
            .map_or_else(|| self.topology.names.releases(role).first().to_owned(), |p| p.version.clone())
    }

    /// Exchanges the processes of a role for `version`, one after another. The successor is prepared before
    /// the predecessor stops, so that the gap is a fraction of a second.
    pub async fn roll(&self, role: Role, version: &str) -> Result<(), DemoError> {
        let instances: Vec<Instance> = self.topology.instances_of(role).cloned().collect();
        for instance in &instances {
            let (mut successor, standing_by) = self.spawn(instance, version, true)?;
            if tokio::time::timeout(Duration::from_secs(10), standing_by.notified()).await.is_err() {
                let what = format!("`{}` at {version}", instance.pod);
                return Err(DemoError::NotReady { what, seconds: 10, last: "it does not stand by".into() });
            }
            let mut running = self.running.lock().await;
            if let Some(pod) = running.remove(&instance.pod) {
                pod.child.stop(Duration::from_secs(5)).await;
            }
            successor.go().await?;
            let pod = Pod { instance: instance.clone(), version: version.to_owned(), child: successor };
            running.insert(instance.pod.clone(), pod);
            drop(running);
            self.wait_ready(instance).await?;
        }
        Ok(())
    }

    /// Starts again what has ended by itself.
    pub async fn revive(&self) {
        let mut running = self.running.lock().await;
        for pod in running.values_mut() {
            let Some(status) = pod.child.ended() else { continue };
            tracing::warn!(pod = %pod.instance.pod, %status, "a process ended; starting it again");
            match self.spawn(&pod.instance, &pod.version, false) {
                Ok((child, _)) => pod.child = child,
                Err(error) => tracing::warn!(error = %error.chain(), "cannot start it again"),
            }
        }
    }

    /// `POST` to the control port of every process of a role.
    pub async fn control(&self, role: Role, path_and_query: &str) -> Result<(), DemoError> {
        for instance in self.topology.instances_of(role) {
            let url = format!("http://127.0.0.1:{}/control/{path_and_query}", instance.port);
            let answer = self.client.post(&url).send().await.and_then(reqwest::Response::error_for_status);
            answer.map_err(DemoError::http(format!("control `{}`", instance.pod)))?;
        }
        Ok(())
    }

    pub async fn pids(&self) -> Vec<(String, u32)> {
        let running = self.running.lock().await;
        running.values().filter_map(|p| Some((p.instance.pod.clone(), p.child.pid?))).collect()
    }

    /// Ends all processes, sources first.
    pub async fn stop(&self) {
        let mut pods: Vec<Pod> = std::mem::take(&mut *self.running.lock().await).into_values().collect();
        pods.sort_by_key(|p| p.instance.role);
        let ends = pods.into_iter().map(|pod| pod.child.stop(Duration::from_secs(5)));
        futures_util::future::join_all(ends).await;
    }
}
