//! The contract of log lines: that each is JSON and says its trace, service, environment and severity.
//!
//! Which share of a service's lines keeps to it is counted as they come, before any is sampled: of the first thousand
//! all are looked at, then every sixteenth, which costs little and tells a share as well.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use weir_model::sink::StreamBatch;
use weir_model::{EntityRefs, Labels, LogEntry, TenantId, Timestamp};

use crate::{level, line};

/// What a line should have, in the order of [`Counts::carrying`].
pub const CONTRACT_FIELDS: [&str; 5] = ["json", "trace_id", "service", "env", "severity"];

const SERVICE_KEYS: [&str; 4] = ["service", "service.name", "service_name", "serviceName"];
const ENV_KEYS: [&str; 6] = [
    "env",
    "environment",
    "deployment.environment",
    "deployment.environment.name",
    "deployment_environment",
    "deployment_environment_name",
];

/// Services that are told apart; lines of more are not looked at.
const SERVICES_MAX: usize = 20_000;
/// Shares are of this and the window before it.
const WINDOW: Duration = Duration::from_secs(600);
const LOOK_AT_ALL: u64 = 1_000;
const LOOK_EVERY: u64 = 16;

/// Lines, and how many of them carry each field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub lines: u64,
    pub carrying: [u64; CONTRACT_FIELDS.len()],
}

impl Counts {
    pub fn add(&mut self, carries: [bool; CONTRACT_FIELDS.len()]) {
        self.lines += 1;
        self.carrying.iter_mut().zip(carries).for_each(|(n, carries)| *n += u64::from(carries));
    }
    fn merge(&mut self, other: &Self) {
        self.lines += other.lines;
        self.carrying.iter_mut().zip(other.carrying).for_each(|(n, more)| *n += more);
    }
    /// Shares in the order of [`CONTRACT_FIELDS`]; `None` when no line was looked at.
    pub fn shares(&self) -> Option<[f64; CONTRACT_FIELDS.len()]> {
        (self.lines > 0).then(|| self.carrying.map(|n| n as f64 / self.lines as f64))
    }
}

#[derive(Default)]
struct Row {
    /// Lines that came, looked at or not.
    seen: u64,
    window: i64,
    now: Counts,
    before: Counts,
    total: Counts,
}

impl Row {
    fn turn(&mut self, at: Timestamp) {
        let window = at.0.div_euclid(WINDOW.as_millis() as i64);
        if window > self.window {
            self.before = if window == self.window + 1 { self.now } else { Counts::default() };
            (self.window, self.now) = (window, Counts::default());
        }
    }
}

/// A service and what its lines carry.
#[derive(Clone, Debug, PartialEq)]
pub struct ContractRow {
    pub tenant: TenantId,
    pub namespace: Arc<str>,
    pub service: Arc<str>,
    /// Of lines looked at in the last ten to twenty minutes.
    pub recent: Counts,
    /// Of lines looked at since weir started.
    pub total: Counts,
}

type Key = (TenantId, Arc<str>, Arc<str>);

/// What lines carry, by service.
#[derive(Default)]
pub struct LogContracts {
    rows: Mutex<AHashMap<Key, Row>>,
}

impl LogContracts {
    pub(crate) fn note(&self, tenant: &TenantId, refs: &EntityRefs, stream: &StreamBatch, now: Timestamp) {
        let of = |name: &Option<Arc<str>>| name.clone().unwrap_or_default();
        let key = (tenant.clone(), of(&refs.namespace), of(&refs.emitter));
        let seen = {
            let mut rows = self.rows.lock();
            if rows.len() >= SERVICES_MAX && !rows.contains_key(&key) {
                return;
            }
            let row = rows.entry(key.clone()).or_default();
            let seen = row.seen;
            row.seen += stream.entries.len() as u64;
            seen
        };
        let labelled = Labelled::new(&stream.labels, refs.emitter.is_some());
        let mut counts = Counts::default();
        for (n, entry) in (seen..).zip(&stream.entries) {
            if n < LOOK_AT_ALL || n % LOOK_EVERY == 0 {
                counts.add(labelled.carries(entry));
            }
        }
        if counts.lines > 0
            && let Some(row) = self.rows.lock().get_mut(&key)
        {
            row.turn(now);
            row.now.merge(&counts);
            row.total.merge(&counts);
        }
    }

    /// Of every service that wrote since weir started; ascending.
    pub fn rows(&self, now: Timestamp) -> Vec<ContractRow> {
        let mut out: Vec<ContractRow> = Vec::new();
        for ((tenant, namespace, service), row) in self.rows.lock().iter_mut() {
            row.turn(now);
            let mut recent = row.now;
            recent.merge(&row.before);
            let (tenant, namespace, service) = (tenant.clone(), namespace.clone(), service.clone());
            out.push(ContractRow { tenant, namespace, service, recent, total: row.total });
        }
        out.sort_by(|a, b| (&a.tenant, &a.namespace, &a.service).cmp(&(&b.tenant, &b.namespace, &b.service)));
        out
    }
}

/// What a stream's labels say for all of its lines.
struct Labelled {
    service: bool,
    env: bool,
    level: bool,
}

impl Labelled {
    fn new(labels: &Labels, has_service: bool) -> Self {
        Self {
            service: has_service,
            env: ENV_KEYS.iter().any(|name| labels.get(name).is_some()),
            level: level::NAMES.iter().any(|name| labels.get(name).is_some()),
        }
    }

    fn carries(&self, entry: &LogEntry) -> [bool; CONTRACT_FIELDS.len()] {
        let [json, trace, service, env, level] = carried_by_line(&entry.line);
        let named = |name: &str| entry.metadata(name).is_some();
        let leveled = || entry.metadata.iter().any(|(name, _)| level::rank(name).is_some());
        [
            json,
            trace || named("trace_id"),
            service || self.service,
            env || self.env || ENV_KEYS.iter().any(|name| named(name)),
            level || self.level || leveled() || named("severity_number"),
        ]
    }
}

/// What the text of a line alone carries, in the order of [`CONTRACT_FIELDS`].
pub fn carried_by_line(text: &str) -> [bool; CONTRACT_FIELDS.len()] {
    let is_json = text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let found = line::fields(text);
    [is_json, found.trace_id.is_some(), has_key(text, &SERVICE_KEYS), has_key(text, &ENV_KEYS), found.level.is_some()]
}

/// Whether one of the keys stands in a line, as JSON or logfmt write keys, with a value.
fn has_key(text: &str, keys: &[&str]) -> bool {
    keys.iter().any(|key| {
        memchr::memmem::find_iter(text.as_bytes(), key).any(|at| {
            let (before, after) = (&text[..at], &text[at + key.len()..]);
            if let Some(rest) = after.strip_prefix('"') {
                let value = rest.trim_start().strip_prefix(':').map(str::trim_start);
                return before.ends_with('"')
                    && value.is_some_and(|v| !v.starts_with("\"\"") && !v.starts_with("null"));
            }
            let starts = before.is_empty() || before.ends_with(' ');
            starts
                && after
                    .strip_prefix('=')
                    .is_some_and(|v| !v.is_empty() && !v.starts_with(' ') && !v.starts_with("\"\""))
        })
    })
}

#[cfg(test)]
mod tests {
    use weir_model::Nanos;

    use super::*;

    #[test]
    fn what_a_line_carries() {
        let whole =
            r#"{"level":"info","trace_id":"2f3e0cee77ae5dc9c17ade3689eb2e54","service.name":"a","env" : "prod"}"#;
        let cases: [(&str, [u8; 5]); 8] = [
            (whole, [1, 1, 1, 1, 1]),
            (r#"{"level":"info""#, [0, 0, 0, 0, 1]),
            (r#"{"service":"","environment":null}"#, [1, 0, 0, 0, 0]),
            (r#"{"message":"the \"env\" is gone"}"#, [1, 0, 0, 0, 0]),
            ("level=warn env=prod service=a trace_id=2f3e0cee77ae5dc9c17ade3689eb2e54", [0, 1, 1, 1, 1]),
            ("env= service=\"\"", [0, 0, 0, 0, 0]),
            ("an error in the environment=prod", [0, 0, 0, 1, 0]),
            ("", [0, 0, 0, 0, 0]),
        ];
        for (line, want) in cases {
            assert_eq!(carried_by_line(line).map(u8::from), want, "{line}");
        }
    }

    fn note(contracts: &LogContracts, labels: &[(&str, &str)], lines: usize, at: Timestamp) {
        let entry = LogEntry { at: Nanos(1), line: "plain".into(), metadata: vec![("trace_id".into(), "abc".into())] };
        let stream = StreamBatch { labels: Labels::from_pairs(labels.iter().copied()), entries: vec![entry; lines] };
        let refs = EntityRefs { emitter: Some("web".into()), ..EntityRefs::default() };
        contracts.note(&TenantId::anonymous(), &refs, &stream, at);
    }

    #[test]
    fn labels_and_metadata_count_and_old_windows_go() {
        let contracts = LogContracts::default();
        note(&contracts, &[("env", "prod")], 3, Timestamp(0));
        let [row] = contracts.rows(Timestamp(0)).try_into().unwrap();
        assert_eq!(row.recent, Counts { lines: 3, carrying: [0, 3, 3, 3, 0] });
        note(&contracts, &[("severity", "info")], 1, Timestamp(600_000));
        assert_eq!(contracts.rows(Timestamp(600_000))[0].recent.lines, 4);
        let later = &contracts.rows(Timestamp(1_200_000))[0];
        assert_eq!((later.recent, later.total.lines), (Counts { lines: 1, carrying: [0, 1, 1, 0, 1] }, 4));
        assert_eq!(contracts.rows(Timestamp(9_000_000))[0].recent.shares(), None);
    }

    #[test]
    fn of_many_lines_some_are_looked_at() {
        let contracts = LogContracts::default();
        (0..100).for_each(|_| note(&contracts, &[], 100, Timestamp(0)));
        let row = &contracts.rows(Timestamp(0))[0];
        // Multiples of 16 from 1,008 to 9,984.
        assert_eq!(row.total.lines, 1_000 + 562);
    }
}
