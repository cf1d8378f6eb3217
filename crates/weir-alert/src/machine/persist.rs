//! What outlives a restart: silences, what was said, and which alerts there were.
//!
//! Alerts are kept so that one that was noticed but not told yet is told after a crash, and one that
//! ends while weir is down is told to have ended. Each value is JSON with a version of its own.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_model::{Labels, MatchOp, Matcher, TenantId, Timestamp};
use weir_state::{Batch, State};

use super::{LogEntry, LogKey, Machine, RULE_ALERT_LIFE, Record};
use crate::machine::Alert;
use crate::silence::Silence;

const SILENCES: &str = "alert.silences";
const LOG: &str = "alert.notifications";
const ALERTS: &str = "alert.alerts";
/// Of the values in all three tables.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u8,
    #[serde(flatten)]
    value: T,
}

#[derive(Serialize, Deserialize)]
struct StoredSilence {
    id: String,
    /// Name, operator, value.
    matchers: Vec<(String, String, String)>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    updated_at: Timestamp,
    created_by: String,
    comment: String,
}

#[derive(Serialize, Deserialize)]
struct StoredEntry {
    group_key: String,
    receiver: String,
    integration: usize,
    entry: LogEntry,
}

pub(super) fn labels<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Labels, D::Error> {
    Ok(Labels::from_pairs(std::collections::BTreeMap::<String, String>::deserialize(from)?))
}

/// Names may be as long as labels; a key may not.
fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn log_name(key: &LogKey) -> String {
    digest(&format!("{:?}", key))
}

impl Machine {
    /// What changed since the last time, as it stands now.
    pub fn take_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for record in std::mem::take(&mut self.dirty) {
            let (table, tenant, name, value) = match &record {
                Record::Silence(tenant, id) => {
                    let silence = self.tenants.get(tenant).and_then(|t| t.silences.get(id));
                    (SILENCES, tenant, id.clone(), silence.map(|s| encode(&StoredSilence::of(s))))
                }
                Record::Log(tenant, key) => {
                    let entry = self.tenants.get(tenant).and_then(|t| t.log.get(key));
                    let stored = |entry: &LogEntry| StoredEntry {
                        group_key: key.0.clone(),
                        receiver: key.1.clone(),
                        integration: key.2,
                        entry: entry.clone(),
                    };
                    (LOG, tenant, log_name(key), entry.map(|e| encode(&stored(e))))
                }
                Record::Alert(tenant, labels) => {
                    let alert = self.tenants.get(tenant).and_then(|t| t.alerts.get(labels));
                    (ALERTS, tenant, digest(&labels.to_string()), alert.map(encode))
                }
            };
            match value {
                Some(value) => batch.put(table, tenant, name, value),
                None => batch.remove(table, tenant, name),
            }
        }
        batch
    }

    /// Takes up what an earlier run left. An alert that fired then fires on until its sender would have
    /// repeated it; what the log says of it is not said again.
    pub fn restore(&mut self, state: &State, now: Timestamp) {
        for (tenant, stored) in read::<StoredSilence>(state, SILENCES) {
            match stored.silence() {
                Some(silence) => self.tenants.entry(tenant).or_default().silences.restore(silence),
                None => tracing::error!(%tenant, "a silence of an earlier run cannot be read"),
            }
        }
        for (tenant, stored) in read::<StoredEntry>(state, LOG) {
            let key = (stored.group_key, stored.receiver, stored.integration);
            self.tenants.entry(tenant).or_default().log.insert(key, stored.entry);
        }
        for (tenant, mut alert) in read::<Alert>(state, ALERTS) {
            // Repetitions are not stored, so an end that was still to come then says nothing now.
            if alert.ends_at > alert.updated_at {
                (alert.ends_at, alert.timeout) = (alert.ends_at.max(now.plus(RULE_ALERT_LIFE)), true);
            }
            let labels = alert.labels.clone();
            self.tenants.entry(tenant.clone()).or_default().alerts.insert(labels.clone(), alert);
            self.route(&tenant, &labels, now);
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(&Versioned { v: VERSION, value }).expect("these types have only text keys")
}

fn read<T: for<'a> Deserialize<'a>>(state: &State, table: &str) -> Vec<(TenantId, T)> {
    let one =
        |(tenant, key, bytes): (TenantId, String, bytes::Bytes)| match serde_json::from_slice::<Versioned<T>>(&bytes) {
            Ok(stored) if stored.v == VERSION => Some((tenant, stored.value)),
            Ok(stored) => {
                tracing::error!(%tenant, table, key, version = stored.v, "a record of another version is left alone");
                None
            }
            Err(error) => {
                tracing::error!(%tenant, table, key, %error, "a record of an earlier run cannot be read");
                None
            }
        };
    state.scan(table).into_iter().filter_map(one).collect()
}

impl StoredSilence {
    fn of(silence: &Silence) -> Self {
        let matcher = |m: &Matcher| (m.name.clone(), m.op.as_str().to_owned(), m.value.clone());
        Self {
            id: silence.id.clone(),
            matchers: silence.matchers.iter().map(matcher).collect(),
            starts_at: silence.starts_at,
            ends_at: silence.ends_at,
            updated_at: silence.updated_at,
            created_by: silence.created_by.clone(),
            comment: silence.comment.clone(),
        }
    }

    fn silence(self) -> Option<Silence> {
        let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
        let matcher = |(name, op, value): (String, String, String)| {
            Matcher::new(name, ops.into_iter().find(|o| o.as_str() == op)?, value).ok()
        };
        Some(Silence {
            id: self.id,
            matchers: self.matchers.into_iter().map(matcher).collect::<Option<_>>()?,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            updated_at: self.updated_at,
            created_by: self.created_by,
            comment: self.comment,
        })
    }
}
