//! From a message that came over the network to entries, as a scrape configuration says. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use weir_model::{Labels, LabelsBuilder, Nanos};

use super::SyslogMessage;
use crate::logs::LogMetrics;
use crate::logs::entry::Entry;
use crate::logs::pipeline::{Around, Pipeline};
use crate::logs::tailed::{LineLimit, Times};
use crate::logs::tailer::{Outgoing, group};
use crate::logs::targets::Job;
use crate::relabel::relabel;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogProtocol {
    Tcp,
    Udp,
}

/// A receiver as a configuration describes it.
#[derive(Clone, Debug)]
pub struct SyslogConfig {
    pub address: String,
    pub protocol: SyslogProtocol,
    /// After which a silent connection is closed.
    pub idle_timeout: Duration,
    pub message_bytes_max: usize,
    pub(crate) labels: Labels,
    pub(crate) labels_data: bool,
    pub(crate) takes_time: bool,
    pub(crate) keeps_header: bool,
    pub(crate) job: Arc<Job>,
    pub(crate) limit: LineLimit,
}

impl SyslogConfig {
    pub fn job(&self) -> &str {
        &self.job.name
    }
}

/// Entries of one receiver on their way.
pub struct SyslogPipe {
    config: SyslogConfig,
    pipeline: Pipeline,
    times: Times,
    n_messages: u64,
    out: Vec<Entry>,
    metrics: LogMetrics,
}

impl SyslogPipe {
    pub fn new(config: SyslogConfig, metrics: LogMetrics) -> Self {
        let pipeline = Pipeline::new(&config.job.stages);
        Self { config, pipeline, times: Times::default(), n_messages: 0, out: Vec::new(), metrics }
    }

    pub fn push(&mut self, bytes: &[u8], from: IpAddr, now: Nanos) {
        let message = SyslogMessage::parse(bytes, now, &TimeZone::UTC);
        if message.message.is_empty() {
            return self.metrics.drop_lines("empty_message", 1);
        }
        let Some(labels) = self.labels(&message, from) else {
            return self.metrics.drop_lines("relabelled", 1);
        };
        self.metrics.lines.inc();
        self.metrics.bytes.inc_by(bytes.len() as u64);
        // Two messages of one instant are two.
        let own = Nanos(self.times.take(now, 1));
        let at = message.at.filter(|_| self.config.takes_time).unwrap_or(own);
        let line = match self.config.keeps_header {
            true => String::from_utf8_lossy(bytes).trim_end_matches(['\n', '\r', '\0']).to_owned(),
            false => message.message,
        };
        self.n_messages += 1;
        let entry = Entry::new(labels, at, line, self.n_messages);
        self.pipeline.push(entry, &Around { now, metrics: &self.metrics }, &mut self.out);
    }

    /// `None` when relabelling drops the message.
    fn labels(&self, message: &SyslogMessage, from: IpAddr) -> Option<Labels> {
        let mut labels: LabelsBuilder = self.config.labels.to_builder();
        labels.set("__syslog_connection_ip_address", from.to_string());
        for (name, value) in message.labels(self.config.labels_data) {
            labels.set(name, value);
        }
        let labels = relabel(labels, &self.config.job.relabel)?.build();
        Some(labels.filter(|name| !name.starts_with("__")))
    }

    /// What may be delivered now.
    pub fn take(&mut self, now: Nanos) -> Vec<Outgoing> {
        self.pipeline.tick(&Around { now, metrics: &self.metrics }, &mut self.out);
        group(std::mem::take(&mut self.out), self.config.limit, &self.metrics)
    }

    /// What may be delivered when nothing follows.
    pub fn finish(&mut self, now: Nanos) -> Vec<Outgoing> {
        self.pipeline.finish(&Around { now, metrics: &self.metrics }, &mut self.out);
        self.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::PromtailConfig;
    use std::path::Path;

    #[test]
    fn messages_become_entries() {
        let text = r"
scrape_configs:
- job_name: s
  syslog:
    listen_address: 127.0.0.1:0
    label_structured_data: true
    labels: {job: syslog}
    use_incoming_timestamp: true
  relabel_configs:
  - {source_labels: [__syslog_message_hostname], target_label: host}
  - {source_labels: [__syslog_message_severity], target_label: severity}
  - {source_labels: [__syslog_message_sd_x_1_k], target_label: k}
  - {source_labels: [__syslog_connection_ip_address], target_label: from}
  - {source_labels: [__syslog_message_app_name], regex: noise, action: drop}
  pipeline_stages: [{static_labels: {a: b}}]
";
        let config = PromtailConfig::parse(text, Path::new("/")).unwrap();
        let syslog = config.syslog().next().unwrap().clone();
        assert_eq!((syslog.protocol, syslog.idle_timeout), (SyslogProtocol::Tcp, Duration::from_secs(120)));
        let mut pipe = SyslogPipe::new(syslog, LogMetrics::default());
        let now = Nanos(1_700_000_000_000_000_000);
        for message in [
            "<11>1 2023-11-14T00:00:00Z h app - - [x@1 k=\"v\"] one",
            "<14>two",
            "<14>two",
            "<14>noise: x",
            "<14>1 - - - - - -",
        ] {
            pipe.push(message.as_bytes(), [10, 0, 0, 1].into(), now);
        }
        let got = pipe.take(now);
        let shown: Vec<String> = got
            .iter()
            .flat_map(|s| s.entries.iter().map(move |e| format!("{} {} {}", s.labels, e.at.0 - now.0, e.line)))
            .collect();
        assert_eq!(
            shown,
            [
                r#"{a="b", from="10.0.0.1", host="h", job="syslog", k="v", severity="error"} -80000000000000 one"#,
                r#"{a="b", from="10.0.0.1", job="syslog", severity="informational"} 1 two"#,
                r#"{a="b", from="10.0.0.1", job="syslog", severity="informational"} 2 two"#,
            ]
        );
    }
}
