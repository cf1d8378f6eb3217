//! Who sends: last seen, accepted, refused by reason with the last example.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use serde::Serialize;
use weir_model::sink::{Refused, RefusedReason};
use weir_model::usage::Amount;
use weir_model::{TenantId, Timestamp};

/// Past these the one that was silent longest is forgotten.
const SENDERS_MAX: usize = 2_000;
/// A user agent is for reading; a longer one is cut.
const USER_AGENT_CHARS_MAX: usize = 120;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    RemoteWrite,
    OtlpHttp,
    OtlpGrpc,
    LokiPush,
    ElasticBulk,
    Pushgateway,
    Scrape,
    /// Log files that weir follows.
    Tail,
    /// weir writing for itself: recorded series, span metrics, lag.
    Internal,
}

/// Who a request came from: all that tells senders of one tenant apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SenderRef {
    pub protocol: Protocol,
    /// Without the port, which changes with every connection; a target's URL for scrapes.
    pub address: String,
    pub user_agent: String,
}

impl SenderRef {
    pub fn new(protocol: Protocol, address: impl Into<String>, user_agent: &str) -> Self {
        let user_agent = user_agent.chars().take(USER_AGENT_CHARS_MAX).collect();
        Self { protocol, address: address.into(), user_agent }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    pub reason: RefusedReason,
    pub count: u64,
    pub last_example: String,
    pub last_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderRow {
    /// Stable over restarts.
    pub id: String,
    pub sender: SenderRef,
    pub tenant: TenantId,
    pub last_seen: Timestamp,
    pub accepted: Amount,
    pub refused: Vec<RefusedRow>,
}

#[derive(Default)]
pub struct SenderTable {
    rows: Mutex<HashMap<(TenantId, SenderRef), Counts>>,
}

#[derive(Default)]
struct Counts {
    last_seen: Timestamp,
    accepted: Amount,
    refused: BTreeMap<RefusedReason, RefusedRow>,
}

impl SenderTable {
    pub fn note(&self, tenant: &TenantId, sender: &SenderRef, at: Timestamp, accepted: Amount, refused: &[Refused]) {
        let mut rows = self.rows.lock();
        let key = (tenant.clone(), sender.clone());
        if rows.len() >= SENDERS_MAX && !rows.contains_key(&key) {
            let oldest = rows.iter().min_by_key(|(_, counts)| counts.last_seen).map(|(key, _)| key.clone());
            oldest.map(|key| rows.remove(&key));
        }
        let counts = rows.entry(key).or_default();
        counts.last_seen = counts.last_seen.max(at);
        counts.accepted.items += accepted.items;
        counts.accepted.bytes += accepted.bytes;
        for part in refused {
            let row = counts.refused.entry(part.reason).or_insert_with(|| RefusedRow {
                reason: part.reason,
                count: 0,
                last_example: String::new(),
                last_at: at,
            });
            row.count += part.count;
            row.last_example.clone_from(&part.example);
            row.last_at = at;
        }
    }

    /// Of one tenant, the last seen first.
    pub fn rows(&self, tenant: &TenantId) -> Vec<SenderRow> {
        let rows = self.rows.lock();
        let mut out: Vec<SenderRow> = rows
            .iter()
            .filter(|((of, _), _)| of == tenant)
            .map(|((tenant, sender), counts)| SenderRow {
                id: id(tenant, sender),
                sender: sender.clone(),
                tenant: tenant.clone(),
                last_seen: counts.last_seen,
                accepted: counts.accepted,
                refused: counts.refused.values().cloned().collect(),
            })
            .collect();
        out.sort_by(|a, b| b.last_seen.cmp(&a.last_seen).then_with(|| a.sender.cmp(&b.sender)));
        out
    }
}

/// FNV-1a 64 over all parts.
fn id(tenant: &TenantId, sender: &SenderRef) -> String {
    let text = format!("{tenant}\0{:?}\0{}\0{}", sender.protocol, sender.address, sender.user_agent);
    let hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_the_last_example_stays() {
        let table = SenderTable::default();
        let tenant = TenantId::anonymous();
        let sender = SenderRef::new(Protocol::LokiPush, "10.0.0.1", "promtail/3");
        let refused =
            |example: &str| [Refused { reason: RefusedReason::TooOld, example: example.to_owned(), count: 2 }];
        table.note(&tenant, &sender, Timestamp(1), Amount { items: 3, bytes: 30 }, &refused("one"));
        table.note(&tenant, &sender, Timestamp(2), Amount { items: 1, bytes: 10 }, &refused("two"));
        let rows = table.rows(&tenant);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].accepted, rows[0].last_seen), (Amount { items: 4, bytes: 40 }, Timestamp(2)));
        let row = &rows[0].refused[0];
        assert_eq!((row.count, row.last_example.as_str(), row.last_at), (4, "two", Timestamp(2)));
        assert!(table.rows(&TenantId::parse("other").unwrap()).is_empty());
    }

    #[test]
    fn the_table_is_bounded() {
        let table = SenderTable::default();
        let tenant = TenantId::anonymous();
        for k in 0..SENDERS_MAX + 5 {
            let sender = SenderRef::new(Protocol::RemoteWrite, format!("a{k}"), "");
            table.note(&tenant, &sender, Timestamp(k as i64), Amount::default(), &[]);
        }
        let rows = table.rows(&tenant);
        assert_eq!(rows.len(), SENDERS_MAX);
        assert_eq!(rows.last().unwrap().sender.address, "a5");
    }
}
