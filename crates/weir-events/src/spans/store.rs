//! The durable span store: writing, cutting blocks, retention, start.

use std::sync::Arc;
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use parking_lot::{Mutex, RwLock};
use weir_model::sink::{Outcome, SpanSink, WriteError};
use weir_model::source::{
    BoxFuture, ReadContext, ReadError, SpanColumnCursor, SpanColumns, SpanCursor, SpanFragment, SpanSource, TraceData,
};
use weir_model::{Budget, Nanos, Reservation, Span, TenantId, TraceId};
use weir_wal::{Dir, DirError, DirErrorKind, Log, LogError, LogOptions, Position, Replayed, SyncMode, TEMPORARY};

use super::block::{self, Block, BlockError};
use super::build::GROUP_ROWS;
use super::compact::{self, Compaction, Retention};
use super::cursor::{Cursor, OpenBlocks, Source};
use super::frame::{KIND, decode_frame, encode_frame};
use super::head::{Head, span_bytes};
use super::join;
use super::manifest::Manifest;
use super::scan::Scan;

const LOG_FOLDER: &str = "spans/wal";
const BLOCK_FOLDER: &str = "spans/blocks";
const MANIFEST: &str = "spans/manifest";
const BLOCK_SUFFIX: &str = ".spans";

#[derive(Debug, thiserror::Error)]
pub enum SpanStoreError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl SpanStoreError {
    fn is_full(&self) -> bool {
        match self {
            Self::Log(error) => error.is_full(),
            Self::Dir(error) | Self::Block(BlockError::Dir(error)) => error.is_full(),
            Self::Block(BlockError::Damaged { .. }) => false,
        }
    }
}

impl From<SpanStoreError> for WriteError {
    fn from(error: SpanStoreError) -> Self {
        if error.is_full() { Self::Full(error.to_string()) } else { Self::Storage(error.to_string()) }
    }
}

#[derive(Clone, Debug)]
pub struct SpanStoreOptions {
    pub sync: SyncMode,
    /// Spans whose block ended longer ago than this are removed, a block at a time.
    pub retention: Retention,
    /// A trace without a new span for so long gets its class.
    pub idle: Duration,
    /// A trace that took so long is slow, whatever its operation is used to; zero for never.
    pub slow: Duration,
    /// Memory of the spans that are in no block yet; they become blocks when they take more.
    pub head_bytes: u64,
    /// They also become blocks when the oldest of them arrived this long ago.
    pub head_age: Duration,
    /// Memory for what stays open of the blocks that queries used last.
    pub index_bytes: u64,
    /// Rows of a block whose columns are read together: fewer make look-ups of single traces cheaper and blocks larger.
    pub group_rows: usize,
}

fn days(n: u64) -> Duration {
    Duration::from_secs(n * 24 * 3600)
}

impl Default for SpanStoreOptions {
    fn default() -> Self {
        Self {
            sync: SyncMode::Always,
            // What the seeds ask of traces that were not sampled.
            retention: Retention { normal: days(14), slow: days(30), errors: days(90) },
            idle: Duration::from_secs(300),
            slow: Duration::ZERO,
            head_bytes: 64 << 20,
            head_age: Duration::from_secs(3600),
            index_bytes: 64 << 20,
            group_rows: GROUP_ROWS,
        }
    }
}

/// What is stored, and what went wrong since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanStoreStats {
    pub head_spans: u64,
    pub head_bytes: u64,
    pub blocks: u64,
    pub block_spans: u64,
    pub block_bytes: u64,
    pub log_bytes: u64,
}

/// Spans of all tenants: acknowledged when the log has them, searchable at once, in blocks later.
pub struct SpanStore {
    dir: Arc<dyn Dir>,
    log: Log,
    options: SpanStoreOptions,
    state: Mutex<State>,
    /// Held while blocks and the manifest change.
    changing: Mutex<()>,
    /// Held while blocks are merged or expire; blocks that went and may still be read.
    gone: Mutex<Vec<Arc<Block>>>,
    /// Paths of blocks that cannot be merged.
    stuck: Mutex<AHashSet<String>>,
    open: Arc<OpenBlocks>,
    held: Mutex<Reservation>,
}

#[derive(Default)]
struct State {
    tenants: AHashMap<TenantId, Tenant>,
    /// Of all live heads.
    live_bytes: u64,
    live_since: Option<Nanos>,
    /// The end of the frames in the frozen heads, while there are any.
    frozen_at: Option<Position>,
    frozen_bytes: u64,
    covered: Position,
    next_block: u64,
}

#[derive(Default)]
struct Tenant {
    live: Arc<RwLock<Head>>,
    /// On its way to a block.
    frozen: Option<Arc<RwLock<Head>>>,
    blocks: Vec<Arc<Block>>,
}

fn tenant_folder(tenant: &TenantId) -> String {
    format!("{BLOCK_FOLDER}/{tenant}")
}

fn block_path(tenant: &TenantId, number: u64) -> String {
    format!("{BLOCK_FOLDER}/{tenant}/{number:016x}{BLOCK_SUFFIX}")
}

fn block_number(path: &str) -> Option<u64> {
    let name = path.rsplit('/').next()?.strip_suffix(BLOCK_SUFFIX)?;
    u64::from_str_radix(name, 16).ok()
}

impl SpanStore {
    /// Opens what is in `dir`, or begins there. What was acknowledged and is in no block is read from the
    /// log. Damage is logged and costs what it touches.
    pub fn open(dir: Arc<dyn Dir>, budget: &Budget, options: SpanStoreOptions) -> Result<Self, SpanStoreError> {
        let listed = match dir.read(MANIFEST) {
            Ok(bytes) => Manifest::decode(&bytes),
            Err(error) if error.kind == DirErrorKind::NotFound => Some(Manifest::default()),
            Err(error) => return Err(error.into()),
        };
        let is_listed = listed.is_some();
        if !is_listed {
            tracing::error!(path = MANIFEST, "damaged: every block that is there is taken, and the whole log read");
        }
        let manifest = listed.unwrap_or_default();
        let log_options = LogOptions { sync: options.sync, ..LogOptions::default() };
        let (log, damage) = Log::open(dir.clone(), LOG_FOLDER, manifest.covered, log_options)?;
        damage.iter().for_each(|damage| tracing::warn!(%damage, "spans: write-ahead log repaired"));
        let held = budget.try_reserve(0).expect("nothing fits into any budget");
        let store = Self {
            log,
            open: Arc::new(OpenBlocks::new(options.index_bytes)),
            options,
            state: Mutex::new(State { covered: manifest.covered, ..State::default() }),
            changing: Mutex::new(()),
            gone: Mutex::default(),
            stuck: Mutex::default(),
            held: Mutex::new(held),
            dir,
        };
        store.open_blocks(is_listed.then_some(&manifest))?;
        store.replay(manifest.covered)?;
        Ok(store)
    }

    /// The listed blocks, or all when there is no list; files that are not listed are removed.
    fn open_blocks(&self, manifest: Option<&Manifest>) -> Result<(), SpanStoreError> {
        let mut state = self.state.lock();
        let listed: Option<AHashSet<_>> = manifest.map(|manifest| manifest.blocks.iter().cloned().collect());
        for folder in self.dir.list(BLOCK_FOLDER)? {
            let Some(tenant) = folder.strip_suffix('/').and_then(|name| TenantId::parse(name).ok()) else { continue };
            for name in self.dir.list(&tenant_folder(&tenant))? {
                let path = format!("{}/{name}", tenant_folder(&tenant));
                let number = block_number(&name);
                if let Some(number) = number {
                    state.next_block = state.next_block.max(number);
                }
                let is_wanted = number.is_some_and(|number| {
                    listed.as_ref().is_none_or(|listed| listed.contains(&(tenant.clone(), number)))
                });
                if is_wanted {
                    match Block::open(&*self.dir, &path) {
                        Ok(block) => state.tenants.entry(tenant.clone()).or_default().blocks.push(Arc::new(block)),
                        Err(error) => tracing::error!(%error, "spans: a block cannot be read and is left out"),
                    }
                } else if number.is_some() || name.ends_with(TEMPORARY) {
                    tracing::info!(%path, "spans: left by a crash, or past its retention: removed");
                    self.dir.remove(&path)?;
                }
            }
        }
        for (tenant, number) in manifest.iter().flat_map(|manifest| &manifest.blocks) {
            state.next_block = state.next_block.max(*number);
            let path = block_path(tenant, *number);
            let blocks = state.tenants.get(tenant).map_or(&[][..], |tenant| &tenant.blocks);
            if !blocks.iter().any(|block| block.path == path) {
                tracing::error!(%path, "spans: a listed block is missing or damaged");
            }
        }
        Ok(())
    }

    fn replay(&self, from: Position) -> Result<(), SpanStoreError> {
        let mut n_spans = 0;
        for item in self.log.replay(from) {
            let frame = match item? {
                Replayed::Frame(frame) => frame,
                Replayed::Damage(damage) => {
                    tracing::error!(%damage, "spans: write-ahead log is damaged");
                    continue;
                }
            };
            let (tenant, spans) = match decode_frame(&frame.payload) {
                Ok(decoded) if frame.kind == KIND => decoded,
                other => {
                    let error = other.err().map_or_else(|| "unknown kind".to_owned(), |error| error.to_string());
                    tracing::error!(position = ?frame.end, %error, "spans: a frame of the log cannot be read");
                    continue;
                }
            };
            n_spans += spans.len();
            let taken = self.state.lock().insert(&tenant, &spans);
            // More than the budget has room for was taken before the restart too.
            if self.held.lock().grow(taken).is_err() || self.state.lock().live_bytes >= self.options.head_bytes {
                self.cut(Some(frame.end))?;
            }
        }
        if n_spans > 0 {
            tracing::info!(spans = n_spans, "spans: read from the write-ahead log");
        }
        Ok(())
    }

    /// Does what is due at `now`: repairs and syncs of the log, blocks of spans that waited long enough,
    /// compaction, retention. To be called every second or so; it may write for a while.
    pub fn tick(&self, now: Nanos) -> Result<(), SpanStoreError> {
        self.log.tick(now)?;
        let is_due = {
            let mut state = self.state.lock();
            let is_old = |since: Nanos| now.0.saturating_sub(since.0) as u128 >= self.options.head_age.as_nanos();
            let is_aged = state.live_bytes > 0 && is_old(*state.live_since.get_or_insert(now));
            is_aged || state.frozen_at.is_some()
        };
        if is_due || self.log.wants_cut() {
            self.cut(None)?;
        }
        self.maintain(now)
    }

    /// Puts everything that is in memory into blocks.
    pub fn flush(&self) -> Result<(), SpanStoreError> {
        self.cut(None)
    }

    /// Writes blocks of what is in memory; `replayed` is how far the log was read, at the start.
    fn cut(&self, replayed: Option<Position>) -> Result<(), SpanStoreError> {
        let _changing = self.changing.lock();
        self.cut_alone(replayed)
    }

    fn cut_if_over(&self, limit_bytes: u64) -> Result<(), SpanStoreError> {
        let _changing = self.changing.lock();
        // Whoever held the lock before may have done it.
        if self.state.lock().live_bytes < limit_bytes { Ok(()) } else { self.cut_alone(None) }
    }

    fn cut_alone(&self, replayed: Option<Position>) -> Result<(), SpanStoreError> {
        let (position, heads) = {
            let mut state = self.state.lock();
            let position = match state.frozen_at {
                // An earlier try did not come to its end.
                Some(position) => position,
                None => {
                    let position = replayed.unwrap_or_else(|| self.log.roll());
                    state.freeze(position);
                    position
                }
            };
            let heads: Vec<_> =
                state.tenants.iter().filter_map(|(id, t)| Some((id.clone(), t.frozen.clone()?))).collect();
            (position, heads)
        };
        let mut made = Vec::new();
        let listed = self.write_blocks(heads, &mut made).and_then(|()| self.list(position, &made));
        if let Err(error) = listed {
            self.discard(made);
            return Err(error);
        }
        let freed = self.state.lock().thaw(position, made);
        self.held.lock().shrink(freed);
        // The log may keep more than it must, never less.
        if let Err(error) = self.log.sync_to(position).and_then(|()| self.log.truncate_before(position)) {
            tracing::warn!(%error, "spans: the write-ahead log is not truncated");
        }
        Ok(())
    }

    fn write_blocks(
        &self,
        heads: Vec<(TenantId, Arc<RwLock<Head>>)>,
        made: &mut Vec<(TenantId, Arc<Block>)>,
    ) -> Result<(), SpanStoreError> {
        for (tenant, head) in heads {
            // Nobody writes to it any more, so that the lock delays no one.
            let traces = head.read().traces().map(|(id, spans)| (id, spans.to_vec())).collect();
            let bytes = block::encode(traces, self.options.group_rows);
            self.write_block(&tenant, &bytes, made)?;
        }
        Ok(())
    }

    /// Swaps the manifest for one that lists `made` too.
    fn list(&self, covered: Position, made: &[(TenantId, Arc<Block>)]) -> Result<(), SpanStoreError> {
        let mut blocks = self.state.lock().listed();
        blocks.extend(made.iter().filter_map(|(id, block)| Some((id.clone(), block_number(&block.path)?))));
        Ok(self.dir.replace(MANIFEST, &Manifest { covered, blocks }.encode())?)
    }

    /// Merges what is due, of one tenant; removes what is past its time and what nobody reads any more.
    fn maintain(&self, now: Nanos) -> Result<(), SpanStoreError> {
        let mut gone = self.gone.lock();
        self.compact(now, &mut gone)?;
        self.expire(now, &mut gone)?;
        // The cursors that were opened before hold them; the list does not, so that a start removes what is left.
        for block in gone.extract_if(.., |block| Arc::strong_count(block) == 1) {
            self.dir.remove(&block.path)?;
        }
        Ok(())
    }

    fn compact(&self, now: Nanos, gone: &mut Vec<Arc<Block>>) -> Result<(), SpanStoreError> {
        let due = {
            let (state, stuck) = (self.state.lock(), self.stuck.lock());
            state.tenants.iter().find_map(|(tenant, of)| {
                let whole = |block: &&Arc<Block>| !stuck.contains(&block.path);
                let blocks: Vec<_> = of.blocks.iter().filter(whole).cloned().collect();
                let places = compact::plan(&blocks, now, self.options.idle);
                (!places.is_empty()).then(|| (tenant.clone(), blocks, places))
            })
        };
        let Some((tenant, blocks, places)) = due else { return Ok(()) };
        let (inputs, others): (Vec<_>, Vec<_>) = blocks.iter().enumerate().partition(|(k, _)| places.contains(k));
        let plain = |list: Vec<(usize, &Arc<Block>)>| list.into_iter().map(|(_, b)| b.clone()).collect::<Vec<_>>();
        let (inputs, others) = (plain(inputs), plain(others));
        // What is made is in memory until it is a file, once as columns and once as bytes.
        let bytes = 2 * inputs.iter().map(|block| block.file_bytes).sum::<u64>();
        if self.held.lock().grow(bytes).is_err() {
            tracing::warn!(bytes, "spans: no memory to merge blocks, put off");
            return Ok(());
        }
        let mut made = Vec::new();
        let compaction = Compaction {
            dir: &*self.dir,
            open: &self.open,
            inputs: &inputs,
            others: &others,
            slow_nanos: i64::try_from(self.options.slow.as_nanos()).unwrap_or(i64::MAX),
            group_rows: self.options.group_rows,
        };
        let written = compaction.run(|bytes| self.write_block(&tenant, &bytes, &mut made));
        self.held.lock().shrink(bytes);
        match written {
            Ok(()) => self.replace(&tenant, &inputs, made, gone),
            Err(error) => {
                self.discard(made);
                // What is damaged stays damaged and is served as far as it can be read; the others go on.
                if let SpanStoreError::Block(BlockError::Damaged { path, .. }) = &error {
                    tracing::error!(path, "spans: a damaged block is not merged any more");
                    self.stuck.lock().insert(path.clone());
                }
                Err(error)
            }
        }
    }

    /// Swaps blocks for others that hold what they held, or what is to be kept of it.
    fn replace(
        &self,
        tenant: &TenantId,
        old: &[Arc<Block>],
        made: Vec<(TenantId, Arc<Block>)>,
        gone: &mut Vec<Arc<Block>>,
    ) -> Result<(), SpanStoreError> {
        let _changing = self.changing.lock();
        let is_old = |block: &Arc<Block>| old.iter().any(|old| Arc::ptr_eq(old, block));
        let manifest = {
            let state = self.state.lock();
            let mut blocks = state.listed();
            blocks.retain(|(of, number)| {
                of != tenant || !old.iter().any(|block| block_number(&block.path) == Some(*number))
            });
            blocks.extend(made.iter().filter_map(|(id, block)| Some((id.clone(), block_number(&block.path)?))));
            Manifest { covered: state.covered, blocks }
        };
        if let Err(error) = self.dir.replace(MANIFEST, &manifest.encode()) {
            self.discard(made);
            return Err(error.into());
        }
        let mut state = self.state.lock();
        if let Some(tenant) = state.tenants.get_mut(tenant) {
            gone.extend(tenant.blocks.extract_if(.., |block| is_old(block)));
            tenant.blocks.extend(made.into_iter().map(|(_, block)| block));
        }
        Ok(())
    }

    fn expire(&self, now: Nanos, gone: &mut Vec<Arc<Block>>) -> Result<(), SpanStoreError> {
        loop {
            let due = {
                let state = self.state.lock();
                state.tenants.iter().find_map(|(tenant, of)| {
                    let is_past = |block: &&Arc<Block>| self.options.retention.is_past(block.class, block.last, now);
                    let block = of.blocks.iter().find(is_past)?.clone();
                    let stays = |other: &&Arc<Block>| !is_past(other);
                    Some((tenant.clone(), block, of.blocks.iter().filter(stays).cloned().collect::<Vec<_>>()))
                })
            };
            let Some((tenant, block, others)) = due else { return Ok(()) };
            let mut made = Vec::new();
            match compact::promoted(&*self.dir, &self.open, &block, &others, self.options.group_rows) {
                Ok(None) => {}
                Ok(Some(bytes)) => self.write_block(&tenant, &bytes, &mut made)?,
                Err(BlockError::Damaged { path, offset, what }) => {
                    tracing::error!(%path, offset, %what, "spans: damaged, and past its retention");
                }
                Err(error) => return Err(error.into()),
            }
            tracing::info!(path = %block.path, spans = block.n_spans, class = ?block.class, "spans: past their retention");
            self.replace(&tenant, &[block], made, gone)?;
        }
    }

    fn write_block(
        &self,
        tenant: &TenantId,
        bytes: &[u8],
        made: &mut Vec<(TenantId, Arc<Block>)>,
    ) -> Result<(), SpanStoreError> {
        let number = {
            let mut state = self.state.lock();
            state.next_block += 1;
            state.next_block
        };
        let path = block_path(tenant, number);
        self.dir.create_folder(&tenant_folder(tenant))?;
        self.dir.put_new(&path, bytes)?;
        made.push((tenant.clone(), Arc::new(Block::open(&*self.dir, &path)?)));
        Ok(())
    }

    /// They are not in the list; a full disk needs their room.
    fn discard(&self, made: Vec<(TenantId, Arc<Block>)>) {
        for (_, block) in made {
            let _ = self.dir.remove(&block.path);
        }
    }

    fn reserve(&self, bytes: u64) -> Result<(), WriteError> {
        let full = match self.held.lock().grow(bytes) {
            Ok(()) => return Ok(()),
            Err(full) => full,
        };
        // Others may have taken the memory: a block of a few spans would not help.
        if self.state.lock().live_bytes < self.options.head_bytes / 16 {
            return Err(full.into());
        }
        self.cut(None)?;
        Ok(self.held.lock().grow(bytes)?)
    }

    /// What a block has of a trace; most have nothing, and are not opened for it.
    fn part(&self, block: &Block, id: TraceId) -> Result<Option<Vec<Arc<Span>>>, BlockError> {
        let Some(ordinal) = block.find(&*self.dir, id)? else { return Ok(None) };
        let contents = self.open.get(&*self.dir, block)?;
        Ok(block.traces(&*self.dir, &contents, &[ordinal])?.pop().map(|(_, spans)| spans))
    }

    fn sources(&self, tenant: &TenantId) -> Vec<Source> {
        let state = self.state.lock();
        let Some(tenant) = state.tenants.get(tenant) else { return Vec::new() };
        let heads = tenant.frozen.iter().chain([&tenant.live]).map(|head| Source::Head(head.clone()));
        tenant.blocks.iter().map(|block| Source::Block(block.clone())).chain(heads).collect()
    }

    pub fn stats(&self) -> SpanStoreStats {
        let state = self.state.lock();
        let mut stats = SpanStoreStats {
            head_bytes: state.live_bytes + state.frozen_bytes,
            log_bytes: self.log.stats().size_bytes,
            ..SpanStoreStats::default()
        };
        for tenant in state.tenants.values() {
            stats.head_spans += tenant.live.read().n_spans;
            stats.head_spans += tenant.frozen.as_ref().map_or(0, |head| head.read().n_spans);
            for block in &tenant.blocks {
                stats.blocks += 1;
                stats.block_spans += block.n_spans;
                stats.block_bytes += block.file_bytes;
            }
        }
        stats
    }
}

impl State {
    fn insert(&mut self, tenant: &TenantId, spans: &[Arc<Span>]) -> u64 {
        let tenant = match self.tenants.get_mut(tenant) {
            Some(found) => found,
            None => self.tenants.entry(tenant.clone()).or_default(),
        };
        let mut head = tenant.live.write();
        let taken = spans.iter().map(|span| head.insert(span)).sum();
        self.live_bytes += taken;
        taken
    }

    /// What is live becomes frozen; its frames end at `position`.
    fn freeze(&mut self, position: Position) {
        for tenant in self.tenants.values_mut() {
            if !tenant.live.read().is_empty() {
                tenant.frozen = Some(std::mem::take(&mut tenant.live));
            }
        }
        self.frozen_at = Some(position);
        self.frozen_bytes = std::mem::take(&mut self.live_bytes);
        self.live_since = None;
    }

    /// The frozen heads are blocks now; answers the bytes of memory that became free.
    fn thaw(&mut self, position: Position, made: Vec<(TenantId, Arc<Block>)>) -> u64 {
        for (tenant, block) in made {
            if let Some(tenant) = self.tenants.get_mut(&tenant) {
                tenant.blocks.push(block);
                tenant.frozen = None;
            }
        }
        self.frozen_at = None;
        self.covered = position;
        std::mem::take(&mut self.frozen_bytes)
    }

    fn listed(&self) -> Vec<(TenantId, u64)> {
        let numbers = |(id, tenant): (&TenantId, &Tenant)| {
            let id = id.clone();
            let number = move |block: &Arc<Block>| Some((id.clone(), block_number(&block.path)?));
            tenant.blocks.iter().filter_map(number).collect::<Vec<_>>()
        };
        self.tenants.iter().flat_map(numbers).collect()
    }
}

impl SpanSink for SpanStore {
    fn append(&self, tenant: &TenantId, spans: &[Arc<Span>]) -> Result<Outcome, WriteError> {
        let failed = |error: LogError| WriteError::from(SpanStoreError::from(error));
        self.log.check().map_err(failed)?;
        let frame = encode_frame(tenant, spans);
        let limit_bytes = self.options.head_bytes;
        if self.state.lock().live_bytes >= limit_bytes {
            self.cut_if_over(limit_bytes)?;
        }
        let asked: u64 = spans.iter().map(|span| span_bytes(span)).sum();
        self.reserve(asked)?;
        let (end, taken) = {
            let mut state = self.state.lock();
            match self.log.append(KIND, &[&frame]) {
                Ok(end) => (end, state.insert(tenant, spans)),
                Err(error) => {
                    drop(state);
                    self.held.lock().shrink(asked);
                    return Err(failed(error));
                }
            }
        };
        self.held.lock().shrink(asked - taken);
        self.log.sync_to(end).map_err(failed)?;
        Ok(Outcome { accepted: spans.len() as u64, refused: Vec::new() })
    }
}

impl SpanSource for SpanStore {
    fn trace<'a>(
        &'a self,
        tenant: &'a TenantId,
        trace_id: TraceId,
    ) -> BoxFuture<'a, Result<Option<TraceData>, ReadError>> {
        Box::pin(async move {
            let mut spans: Vec<Arc<Span>> = Vec::new();
            for source in self.sources(tenant) {
                let part = match source {
                    Source::Head(head) => head.read().trace(trace_id).map(<[_]>::to_vec),
                    Source::Block(block) => self.part(&block, trace_id).unwrap_or_else(|error| {
                        tracing::error!(%error, "spans: a block cannot be read and is left out");
                        None
                    }),
                };
                join(&mut spans, part.unwrap_or_default());
            }
            Ok((!spans.is_empty()).then_some(TraceData { trace_id, spans }))
        })
    }

    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a SpanFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn SpanCursor>, ReadError>> {
        Box::pin(async move {
            let (dir, open) = (self.dir.clone(), self.open.clone());
            Ok(Box::new(Cursor::new(self.sources(tenant), dir, open, fragment, context)?) as Box<dyn SpanCursor>)
        })
    }

    fn open_columns<'a>(
        &'a self,
        tenant: &'a TenantId,
        columns: &'a SpanColumns,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Option<Box<dyn SpanColumnCursor>>, ReadError>> {
        Box::pin(async move {
            let scan = Scan::new(self.sources(tenant), self.dir.clone(), self.open.clone(), columns, context);
            Ok(Some(Box::new(scan) as Box<dyn SpanColumnCursor>))
        })
    }
}
