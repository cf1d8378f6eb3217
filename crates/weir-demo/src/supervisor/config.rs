//! The configuration files that a demo writes for weir: what to scrape, what to alert on, whom to page.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::error::DemoError;
use crate::topology::Topology;

/// Recording rules, the two objectives and the symptom alerts.
pub const RULES: &str = include_str!("../../config/rules.yml");

/// Routing key of the pager sink: of the right length, and nobody's.
pub const ROUTING_KEY: &str = "00000000000000000000000000000000";

/// Paths of the files for `weir serve`.
pub struct ConfigFiles {
    pub prometheus: PathBuf,
    pub alertmanager: PathBuf,
}

pub fn write(topology: &Topology, pager_url: &str) -> Result<ConfigFiles, DemoError> {
    let folder = &topology.data_dir;
    let files =
        ConfigFiles { prometheus: folder.join("prometheus.yml"), alertmanager: folder.join("alertmanager.yml") };
    put(&folder.join("rules.yml"), RULES)?;
    put(&files.prometheus, &prometheus(topology))?;
    put(&files.alertmanager, &alertmanager(pager_url))?;
    Ok(files)
}

fn put(path: &Path, text: &str) -> Result<(), DemoError> {
    std::fs::write(path, text).map_err(DemoError::io(format!("write {}", path.display())))
}

fn prometheus(topology: &Topology) -> String {
    let mut text = String::from(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 900ms\n  evaluation_interval: 1s\n\
         rule_files:\n  - rules.yml\nscrape_configs:\n",
    );
    let mut job = "";
    for instance in &topology.instances {
        let service = topology.service(instance.role);
        if service != job {
            let _ = write!(text, "  - job_name: {service}\n    static_configs:\n");
            job = service;
        }
        let _ = write!(
            text,
            "      - targets: ['127.0.0.1:{}']\n        labels:\n          service: {service}\n          \
             namespace: {}\n          pod: {}\n",
            instance.port, topology.names.namespace, instance.pod
        );
    }
    text
}

fn alertmanager(pager_url: &str) -> String {
    include_str!("../../config/alertmanager.yml").replace("PAGER_URL", pager_url).replace("ROUTING_KEY", ROUTING_KEY)
}
