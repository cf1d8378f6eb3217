//! The log store: rows arrive in open heads, become segments, and are read from both.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use weir_model::columns::{LogScans, RowFilter};
use weir_model::matcher::all_match;
use weir_model::sink::{LogSink, Outcome, RawRequest, StreamBatch, WriteError};
use weir_model::source::{BoxFuture, Direction, LogCursor, LogFragment, LogSource, LogStats, ReadContext, ReadError};
use weir_model::{Budget, Labels, LogEntry, Matcher, Nanos, TenantId};

use super::cursor::{Cursor, Query};
use super::durable::{Durable, write_error};
use super::head::{Frozen, Open};
use super::load::Loader;
use super::memory::Held;
use super::plan::{Part, Plan};
use super::scan;
use super::slot::Slot;

/// Rows of a group's head before it becomes a segment.
pub(crate) const HEAD_ROWS: usize = 64 << 10;
/// Heads of all groups take at most this much, and at most a quarter of the budget.
const HEADS_BYTES: u64 = 48 << 20;
/// Streams of different services share a group past so many.
pub(crate) const GROUPS_MAX: usize = 16;
/// What an entry costs beside its text: its row, its metadata's lengths, slack.
const ENTRY_BYTES: u64 = 64;
const STREAM_BYTES: u64 = 400;

/// Streams whose lines look alike: those of a service.
#[derive(Default)]
pub(crate) struct Group {
    pub open: Open,
    /// What is becoming a segment; searched until it is one.
    pub freezing: Vec<(u64, Arc<Frozen>, u64)>,
    pub slots: Vec<Arc<Slot>>,
}

#[derive(Default)]
pub(crate) struct Tenant {
    /// By service, then by hash once there are many.
    by_service: RwLock<AHashMap<Arc<str>, usize>>,
    pub groups: [RwLock<Group>; GROUPS_MAX],
}

impl Tenant {
    fn group_of(&self, labels: &Labels) -> usize {
        let service = labels.value("service_name");
        if let Some(idx) = self.by_service.read().get(service) {
            return *idx;
        }
        let mut known = self.by_service.write();
        let next = known.len();
        if next >= GROUPS_MAX {
            let name = Labels::from_pairs([("service_name", service)]);
            return (name.fingerprint() % GROUPS_MAX as u64) as usize;
        }
        *known.entry(service.into()).or_insert(next)
    }

    pub(crate) fn add_slot(&self, slot: Arc<Slot>) {
        let idx = slot.head.runs.first().map_or(0, |run| self.group_of(&run.labels));
        self.groups[idx].write().slots.push(slot);
    }
}

/// Logs of all tenants as columns, under `budget`: in memory alone ([`LogStore::new`], the oldest
/// dropped when it is used up), or on disk too ([`LogStore::open`]), where memory is a cache.
pub struct LogStore {
    tenants: RwLock<AHashMap<TenantId, Arc<Tenant>>>,
    pub(crate) loader: Arc<Loader>,
    pub(crate) next_id: AtomicU64,
    heads_bytes_max: u64,
    pub(crate) limit_bytes: u64,
    pub(crate) durable: Option<Durable>,
}

impl LogStore {
    /// In memory alone.
    pub fn new(budget: &Budget) -> Self {
        Self::with(budget, None, 1)
    }

    pub(crate) fn with(budget: &Budget, durable: Option<Durable>, next_id: u64) -> Self {
        let heads_bytes_max = HEADS_BYTES.min(budget.limit_bytes() / 4);
        let dir = durable.as_ref().map(|d| d.dir.clone());
        let loader = Arc::new(Loader { held: Mutex::new(Held::new(budget)), dir });
        let (next_id, limit_bytes) = (AtomicU64::new(next_id), budget.limit_bytes());
        Self { tenants: RwLock::default(), loader, next_id, heads_bytes_max, limit_bytes, durable }
    }

    pub(crate) fn tenant_or_new(&self, tenant: &TenantId) -> Arc<Tenant> {
        let found = self.tenants.read().get(tenant).cloned();
        found.unwrap_or_else(|| self.tenants.write().entry(tenant.clone()).or_default().clone())
    }

    pub(crate) fn all_tenants(&self) -> Vec<(TenantId, Arc<Tenant>)> {
        self.tenants.read().iter().map(|(id, tenant)| (id.clone(), tenant.clone())).collect()
    }

    fn all_slots(&self) -> Vec<Arc<Slot>> {
        let slots = |t: Arc<Tenant>| t.groups.iter().flat_map(|g| g.read().slots.clone()).collect::<Vec<_>>();
        self.all_tenants().into_iter().flat_map(|(_, tenant)| slots(tenant)).collect()
    }

    // ---- memory ----------------------------------------------------------------------------

    /// Takes memory for rows that will come; makes room when there is none.
    fn reserve(&self, bytes: u64) -> Result<(), WriteError> {
        loop {
            let Err(full) = self.loader.held.lock().grow(bytes) else { return Ok(()) };
            if !self.make_room() && !self.freeze_largest() {
                return Err(full.into());
            }
        }
    }

    /// Lets the oldest segment's bytes go: from memory when the disk has them, else for good.
    fn make_room(&self) -> bool {
        if self.durable.is_some() {
            let slots = self.all_slots();
            let oldest = |wanted: fn(&Slot) -> bool| slots.iter().filter(|s| wanted(s)).min_by_key(|s| (s.max(), s.id));
            let freed = match oldest(Slot::can_be_evicted) {
                Some(slot) => slot.evict(),
                None => oldest(Slot::has_filter).map_or(0, |slot| slot.evict_filter()),
            };
            self.release(freed);
            return freed > 0;
        }
        let oldest = self.all_slots().into_iter().min_by_key(|s| (s.max(), s.id));
        let Some(oldest) = oldest else { return false };
        for (_, tenant) in self.all_tenants() {
            tenant.groups.iter().for_each(|group| group.write().slots.retain(|s| s.id != oldest.id));
        }
        self.release(oldest.bytes + oldest.head_bytes());
        let until = oldest.max().millis().rfc3339();
        tracing::info!(freed_bytes = oldest.bytes, until, "memory budget used up: oldest log segment dropped");
        true
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.loader.held.lock().shrink(bytes);
    }

    pub(crate) fn account_head(&self, slot: &Slot) {
        self.loader.held.lock().grow_or_owe(slot.head_bytes());
    }

    /// Replaces what was asked beforehand by what was taken.
    fn settle(&self, asked: u64, taken: u64) {
        let mut held = self.loader.held.lock();
        held.shrink(asked.saturating_sub(taken));
        held.grow_or_owe(taken.saturating_sub(asked));
    }

    fn heads_bytes(&self) -> u64 {
        let tenants = self.all_tenants();
        tenants.iter().flat_map(|(_, t)| &t.groups).map(|g| g.read().open.size_bytes()).sum()
    }

    /// Bytes of segments that are in no file yet.
    pub(crate) fn unsaved_bytes(&self) -> u64 {
        self.all_slots().iter().filter(|s| s.saved().is_none()).map(|s| s.bytes).sum()
    }

    /// Bytes of all segments as they are stored.
    pub fn stored_bytes(&self) -> u64 {
        self.all_slots().iter().map(|s| s.bytes).sum()
    }

    // ---- from rows to segments -------------------------------------------------------------

    /// Makes a segment of the largest head that has rows.
    fn freeze_largest(&self) -> bool {
        let mut largest: Option<(usize, Arc<Tenant>, usize)> = None;
        for (_, tenant) in self.all_tenants() {
            for (idx, group) in tenant.groups.iter().enumerate() {
                let n = group.read().open.n_rows();
                if n > largest.as_ref().map_or(0, |(most, ..)| *most) {
                    largest = Some((n, tenant.clone(), idx));
                }
            }
        }
        let Some((_, tenant, idx)) = largest else { return false };
        self.freeze(&tenant.groups[idx], 1);
        true
    }

    fn freeze(&self, group: &RwLock<Group>, rows_min: usize) {
        if let Some((id, frozen)) = self.begin_freeze(group, rows_min) {
            self.finish_freeze(group, id, &frozen);
        }
    }

    /// Takes the head's rows aside, if there are so many; readers see them throughout.
    pub(crate) fn begin_freeze(&self, group: &RwLock<Group>, rows_min: usize) -> Option<(u64, Arc<Frozen>)> {
        let mut group = group.write();
        if group.open.n_rows() < rows_min.max(1) {
            return None;
        }
        let open = std::mem::take(&mut group.open);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frozen = Arc::new(open.freeze(|_| true, Nanos::MIN, Nanos::MAX));
        group.freezing.push((id, frozen.clone(), open.size_bytes()));
        Some((id, frozen))
    }

    /// Makes the segment. Two may do so for the same rows; one of them puts it in.
    fn finish_freeze(&self, group: &RwLock<Group>, id: u64, frozen: &Frozen) {
        let segment = match frozen.to_segment(id) {
            Ok(segment) => Arc::new(segment),
            Err(error) => {
                // The rows stay readable as they are.
                tracing::error!(%error, "log rows cannot be made a segment");
                return;
            }
        };
        let slot = Arc::new(Slot::new(segment));
        let mut group = group.write();
        let Some(at) = group.freezing.iter().position(|(other, ..)| *other == id) else { return };
        let (_, _, head_bytes) = group.freezing.remove(at);
        group.slots.push(slot.clone());
        drop(group);
        let mut held = self.loader.held.lock();
        held.shrink(head_bytes);
        held.grow_or_owe(slot.bytes + slot.head_bytes());
    }

    /// Makes segments of everything taken aside before `limit`, whoever began it.
    pub(crate) fn finish_freezing(&self, group: &RwLock<Group>, limit: u64) {
        let waiting: Vec<(u64, Arc<Frozen>)> =
            group.read().freezing.iter().filter(|(id, ..)| *id < limit).map(|(id, f, _)| (*id, f.clone())).collect();
        waiting.iter().for_each(|(id, frozen)| self.finish_freeze(group, *id, frozen));
    }

    /// Every row into segments.
    pub fn freeze_all(&self) {
        for (_, tenant) in self.all_tenants() {
            tenant.groups.iter().for_each(|group| self.freeze(group, 1));
        }
    }

    // ---- writing and reading ---------------------------------------------------------------

    /// Rows into the heads; indices of groups whose head is full.
    fn put(&self, tenant: &Tenant, streams: &[StreamBatch]) -> (u64, Vec<usize>) {
        let mut grown = 0;
        let mut full = Vec::new();
        for batch in streams {
            let idx = tenant.group_of(&batch.labels);
            let mut group = tenant.groups[idx].write();
            let before = group.open.size_bytes();
            group.open.append(&batch.labels, &batch.entries);
            grown += group.open.size_bytes() - before;
            if group.open.n_rows() >= HEAD_ROWS {
                full.push(idx);
            }
        }
        (grown, full)
    }

    fn freeze_full(&self, tenant: &Tenant, full: &[usize]) {
        full.iter().for_each(|idx| self.freeze(&tenant.groups[*idx], HEAD_ROWS));
        while self.heads_bytes() > self.heads_bytes_max && self.freeze_largest() {}
    }

    /// What the write-ahead log gives back at the start.
    pub(crate) fn take(&self, tenant: &TenantId, streams: &[StreamBatch]) {
        let tenant = self.tenant_or_new(tenant);
        let (grown, full) = self.put(&tenant, streams);
        self.settle(0, grown);
        self.freeze_full(&tenant, &full);
    }

    fn plan(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        (start, end): (Nanos, Nanos),
        direction: Direction,
    ) -> Plan {
        let mut parts = Vec::new();
        let tenant = self.tenants.read().get(tenant).cloned();
        for group in tenant.iter().flat_map(|t| &t.groups) {
            let group = group.read();
            let in_range = |s: &&Arc<Slot>| {
                let is_wanted = || s.head.runs.iter().any(|run| all_match(matchers, &run.labels));
                s.head.min < end && start <= s.head.max && !s.is_damaged() && is_wanted()
            };
            parts.extend(group.slots.iter().filter(in_range).cloned().map(Part::Segment));
            parts.extend(group.freezing.iter().map(|(id, frozen, _)| Part::Frozen(*id, frozen.clone())));
            if group.open.streams().iter().any(|labels| all_match(matchers, labels)) {
                let frozen = group.open.freeze(|labels| all_match(matchers, labels), start, end);
                if !frozen.is_empty() {
                    parts.push(Part::Frozen(u64::MAX, Arc::new(frozen)));
                }
            }
        }
        Plan::new(parts, matchers, start, end, direction)
    }

    fn cursor(
        &self,
        tenant: &TenantId,
        fragment: &LogFragment,
        filter: Option<Arc<dyn RowFilter>>,
        context: &ReadContext,
    ) -> Result<Cursor, ReadError> {
        let span = (fragment.start, fragment.end);
        let plan = self.plan(tenant, &fragment.matchers, span, fragment.direction);
        Cursor::new(plan, self.loader.clone(), Query::new(fragment, filter), context)
    }
}

impl LogStore {
    fn write(
        &self,
        tenant: &TenantId,
        request: Option<RawRequest<'_>>,
        streams: &[StreamBatch],
    ) -> Result<Outcome, WriteError> {
        let entry_bytes = |e: &LogEntry| ENTRY_BYTES + e.size_bytes() as u64;
        let size = |s: &StreamBatch| STREAM_BYTES + s.entries.iter().map(entry_bytes).sum::<u64>();
        let asked: u64 = streams.iter().map(size).sum();
        self.reserve(asked)?;
        let of_tenant = self.tenant_or_new(tenant);
        let (logged, (grown, full)) = match &self.durable {
            None => (Ok(None), self.put(&of_tenant, streams)),
            Some(durable) => {
                let _shared = durable.gate.read();
                match durable.log_write(tenant, request, streams) {
                    Ok(end) => (Ok(Some(end)), self.put(&of_tenant, streams)),
                    Err(error) => (Err(error), (0, Vec::new())),
                }
            }
        };
        self.settle(asked, grown);
        self.freeze_full(&of_tenant, &full);
        // Acknowledged means synced.
        if let (Some(durable), Some(end)) = (&self.durable, logged?) {
            durable.log.sync_to(end).map_err(|error| write_error(&error))?;
        }
        let accepted = streams.iter().map(|s| s.entries.len() as u64).sum();
        Ok(Outcome { accepted, refused: Vec::new() })
    }
}

impl LogSink for LogStore {
    fn append(&self, tenant: &TenantId, streams: &[StreamBatch]) -> Result<Outcome, WriteError> {
        self.write(tenant, None, streams)
    }

    fn append_request(
        &self,
        tenant: &TenantId,
        request: RawRequest<'_>,
        streams: &[StreamBatch],
    ) -> Result<Outcome, WriteError> {
        self.write(tenant, Some(request), streams)
    }
}

impl LogSource for LogStore {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        Box::pin(async move { Ok(Box::new(self.cursor(tenant, fragment, None, context)?) as Box<dyn LogCursor>) })
    }

    fn open_filtered<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        filter: Arc<dyn RowFilter>,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        Box::pin(
            async move { Ok(Box::new(self.cursor(tenant, fragment, Some(filter), context)?) as Box<dyn LogCursor>) },
        )
    }

    fn open_scans<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<LogScans, ReadError>> {
        Box::pin(async move {
            let span = (fragment.start, fragment.end);
            let plan = self.plan(tenant, &fragment.matchers, span, Direction::Forward);
            scan::scans(plan, &self.loader, fragment, context)
        })
    }

    fn streams<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        start: Nanos,
        end: Nanos,
    ) -> BoxFuture<'a, Result<Vec<(Labels, LogStats)>, ReadError>> {
        Box::pin(async move {
            let matchers = matchers.to_vec();
            let all = LogFragment { matchers, start, end, direction: Direction::Forward, predicates: Vec::new() };
            self.cursor(tenant, &all, None, &ReadContext::unlimited())?.stats()
        })
    }
}
