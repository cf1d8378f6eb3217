//! `batch`: gathers what goes over the network into larger requests.

use std::time::Duration;

use weir_model::{Nanos, TenantId};

use crate::config::Section;
use crate::data::Data;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    pub timeout: Duration,
    /// Items from which on a batch is sent; zero sends only by time.
    pub send_batch_size: usize,
    /// Items at most; zero is no limit.
    pub send_batch_max_size: usize,
}

impl BatchConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let read = Self {
            timeout: section.duration_or("timeout", Duration::from_millis(200)),
            send_batch_size: section.size_or("send_batch_size", 8192),
            send_batch_max_size: section.size_or("send_batch_max_size", 0),
        };
        if read.send_batch_max_size != 0 && read.send_batch_max_size < read.send_batch_size {
            section.error(format!(
                "send_batch_max_size {} is below send_batch_size {}",
                read.send_batch_max_size, read.send_batch_size
            ));
        }
        // Tenants are kept apart anyway.
        section.unsupported(&["metadata_keys"]);
        section.get("metadata_cardinality_limit");
        section.finish();
        read
    }
}

/// What is gathered for one exporter.
pub(crate) struct Batcher {
    config: BatchConfig,
    waiting: Vec<Waiting>,
}

struct Waiting {
    tenant: TenantId,
    data: Data,
    n_items: usize,
    since: Nanos,
}

impl Batcher {
    pub fn new(config: BatchConfig) -> Self {
        Self { config, waiting: Vec::new() }
    }

    /// Adds a batch, and answers what is full.
    pub fn put(&mut self, tenant: &TenantId, data: Data, now: Nanos) -> Vec<(TenantId, Data)> {
        let (signal, n) = (data.signal(), data.n_items());
        let k = match self.waiting.iter().position(|w| w.tenant == *tenant && w.data.signal() == signal) {
            Some(k) => k,
            None => {
                self.waiting.push(Waiting {
                    tenant: tenant.clone(),
                    data: Data::empty(signal),
                    n_items: 0,
                    since: now,
                });
                self.waiting.len() - 1
            }
        };
        self.waiting[k].data.append(data);
        self.waiting[k].n_items += n;
        let size = self.config.send_batch_size;
        if self.config.timeout.is_zero() || (size > 0 && self.waiting[k].n_items >= size) {
            let full = self.waiting.swap_remove(k);
            return self.cut(full.tenant, full.data);
        }
        Vec::new()
    }

    /// What has waited long enough.
    pub fn due(&mut self, now: Nanos) -> Vec<(TenantId, Data)> {
        let timeout = i64::try_from(self.config.timeout.as_nanos()).unwrap_or(i64::MAX);
        let mut out = Vec::new();
        let mut k = 0;
        while k < self.waiting.len() {
            if now.0.saturating_sub(self.waiting[k].since.0) >= timeout {
                let due = self.waiting.swap_remove(k);
                out.extend(self.cut(due.tenant, due.data));
            } else {
                k += 1;
            }
        }
        out
    }

    fn cut(&self, tenant: TenantId, data: Data) -> Vec<(TenantId, Data)> {
        let max = self.config.send_batch_max_size;
        let parts = if max == 0 { vec![data] } else { split(data, max) };
        parts.into_iter().map(|part| (tenant.clone(), part)).collect()
    }
}

/// Batches of at most `max` items each; a metric's points stay together.
pub(crate) fn split(data: Data, max: usize) -> Vec<Data> {
    let signal = data.signal();
    let mut parts = vec![Data::empty(signal)];
    let mut room = max;
    // The next part when the present one is full, and how much of `n` fits.
    let mut take = |parts: &mut Vec<Data>, n: usize| {
        if room == 0 {
            parts.push(Data::empty(signal));
            room = max;
        }
        let taken = n.min(room);
        room -= taken;
        taken
    };
    macro_rules! each {
        ($groups:ident, $kind:ident, $scopes:ident, $items:ident) => {
            for mut group in $groups {
                for mut scope in std::mem::take(&mut group.$scopes) {
                    let mut rest = std::mem::take(&mut scope.$items);
                    while !rest.is_empty() {
                        let n = take(&mut parts, rest.len());
                        let tail = rest.split_off(n);
                        let (mut scope, mut group) = (scope.clone(), group.clone());
                        scope.$items = std::mem::replace(&mut rest, tail);
                        group.$scopes.push(scope);
                        if let Some(Data::$kind(all)) = parts.last_mut() {
                            all.push(group);
                        }
                    }
                }
            }
        };
    }
    match data {
        Data::Traces(groups) => each!(groups, Traces, scope_spans, spans),
        Data::Logs(groups) => each!(groups, Logs, scope_logs, log_records),
        Data::Metrics(groups) => each!(groups, Metrics, scope_metrics, metrics),
    }
    debug_assert_eq!(signal, parts[0].signal());
    parts.retain(|part| !part.is_empty());
    parts
}
