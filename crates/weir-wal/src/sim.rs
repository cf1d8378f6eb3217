//! A disk in memory that breaks on purpose, from a seed.
//!
//! What was not synced is lost, kept or torn at a crash, each name and each sector on its own; the disk
//! has a capacity; a sync can fail, after which what it should have written never becomes durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::dir::{Dir, DirError, DirFile, folder_of};

const SECTOR_BYTES: usize = 512;

/// A simulated disk; clones share it.
#[derive(Clone)]
pub struct SimDir(Arc<Mutex<Sim>>);

struct Sim {
    seed: u64,
    inodes: Vec<Inode>,
    /// What a running program sees.
    names: BTreeMap<String, usize>,
    /// What certainly survives a crash.
    durable_names: BTreeMap<String, usize>,
    /// Changes of names that were not synced, in order.
    unsynced_names: Vec<NameChange>,
    folders: BTreeSet<String>,
    capacity_bytes: u64,
    steps_left: Option<u64>,
    crashed: bool,
    failing_syncs: u32,
    flip_one_read_in: Option<u64>,
    /// Counts crashes; files opened before one are dead.
    life: u64,
    n_syncs: u64,
}

#[derive(Default)]
struct Inode {
    data: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

enum NameChange {
    Link { path: String, inode: usize },
    Unlink { path: String },
    Rename { from: String, to: String, inode: usize },
}

impl NameChange {
    fn is_in(&self, folder: &str) -> bool {
        match self {
            Self::Link { path, .. } | Self::Unlink { path } => folder_of(path) == folder,
            Self::Rename { from, to, .. } => folder_of(from) == folder || folder_of(to) == folder,
        }
    }
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink { path } => {
                names.remove(path);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

fn apply(change: &Change, data: &mut Vec<u8>) {
    match change {
        Change::Write { offset, bytes } => {
            let end = offset + bytes.len();
            if data.len() < end {
                data.resize(end, 0);
            }
            data[*offset..end].copy_from_slice(bytes);
        }
        Change::SetLen(len) => data.resize(*len, 0),
    }
}

impl SimDir {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Sim {
            seed,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            folders: BTreeSet::new(),
            capacity_bytes: u64::MAX,
            steps_left: None,
            crashed: false,
            failing_syncs: 0,
            flip_one_read_in: None,
            life: 0,
            n_syncs: 0,
        })))
    }

    /// Power goes after `steps` more: each byte written is one, and each other change or sync.
    pub fn crash_after(&self, steps: u64) {
        self.0.lock().steps_left = Some(steps);
    }
    pub fn has_crashed(&self) -> bool {
        self.0.lock().crashed
    }
    /// Power goes now if it has not; the disk comes back with what survived, and can be used again.
    pub fn restart(&self) {
        self.0.lock().restart();
    }
    /// Writes that would make the files larger than this together fail as on a full disk.
    pub fn set_capacity(&self, bytes: u64) {
        self.0.lock().capacity_bytes = bytes;
    }
    /// The next `n` syncs of files fail.
    pub fn fail_syncs(&self, n: u32) {
        self.0.lock().failing_syncs = n;
    }
    /// One read in `n` comes back with a bit flipped; the disk itself stays right.
    pub fn flip_reads(&self, one_in: Option<u64>) {
        self.0.lock().flip_one_read_in = one_in;
    }
    /// Flips a bit on the disk.
    pub fn flip_bit(&self, path: &str, byte: usize, bit: u8) -> bool {
        let mut sim = self.0.lock();
        let Some(inode) = sim.names.get(path).copied() else { return false };
        let inode = &mut sim.inodes[inode];
        for content in [&mut inode.data, &mut inode.durable] {
            if let Some(byte) = content.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        }
        byte < inode.data.len()
    }
    /// Successful syncs of files so far.
    pub fn n_syncs(&self) -> u64 {
        self.0.lock().n_syncs
    }
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }
}

impl Sim {
    /// splitmix64: few lines, and the same on every platform for ever.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.random() % n.max(1) as u64) as usize
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].data.len() as u64).sum()
    }

    fn alive(&self, action: &'static str, path: &str) -> Result<(), DirError> {
        let gone = || DirError::new(action, path, &io::Error::other("the simulated machine is off"));
        if self.crashed { Err(gone()) } else { Ok(()) }
    }

    /// Takes up to `wanted` steps; fewer means that power goes after them.
    fn take_steps(&mut self, wanted: u64) -> u64 {
        let Some(left) = &mut self.steps_left else { return wanted };
        let taken = wanted.min(*left);
        *left -= taken;
        self.crashed |= taken < wanted;
        taken
    }

    /// One step of something that changes the disk.
    fn step(&mut self, action: &'static str, path: &str) -> Result<(), DirError> {
        self.alive(action, path)?;
        self.take_steps(1);
        self.alive(action, path)
    }

    fn find(&self, action: &'static str, path: &str) -> Result<usize, DirError> {
        let missing = || DirError::new(action, path, &io::ErrorKind::NotFound.into());
        self.names.get(path).copied().ok_or_else(missing)
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn write(&mut self, inode: usize, path: &str, offset: u64, bytes: &[u8]) -> Result<(), DirError> {
        self.alive("write", path)?;
        let room = self.capacity_bytes.saturating_sub(self.used_bytes());
        let offset = usize::try_from(offset).unwrap_or(usize::MAX / 2);
        let len = self.inodes[inode].data.len() as u64;
        let fits = (len + room).saturating_sub(offset as u64).min(bytes.len() as u64);
        let n = self.take_steps(fits) as usize;
        let change = Change::Write { offset, bytes: bytes[..n].to_vec() };
        apply(&change, &mut self.inodes[inode].data);
        self.inodes[inode].unsynced.push(change);
        self.alive("write", path)?;
        if n < bytes.len() {
            return Err(DirError::new("write", path, &io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    }

    fn sync(&mut self, inode: usize, path: &str) -> Result<(), DirError> {
        self.step("sync", path)?;
        let file = &mut self.inodes[inode];
        let changes = std::mem::take(&mut file.unsynced);
        if self.failing_syncs > 0 {
            // The kernel marks the pages clean: readers see the content until the machine goes off.
            self.failing_syncs -= 1;
            return Err(DirError::new("sync", path, &io::Error::other("simulated input/output error")));
        }
        changes.iter().for_each(|change| apply(change, &mut file.durable));
        self.n_syncs += 1;
        Ok(())
    }

    fn sync_folder(&mut self, folder: &str) -> Result<(), DirError> {
        self.step("sync folder", folder)?;
        let changes = std::mem::take(&mut self.unsynced_names);
        for change in changes {
            if change.is_in(folder) {
                change.apply(&mut self.durable_names);
            } else {
                self.unsynced_names.push(change);
            }
        }
        Ok(())
    }

    fn restart(&mut self) {
        for change in std::mem::take(&mut self.unsynced_names) {
            if self.below(2) == 0 {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        for k in 0..self.inodes.len() {
            let changes = std::mem::take(&mut self.inodes[k].unsynced);
            let mut survived = std::mem::take(&mut self.inodes[k].durable);
            for change in changes {
                for part in self.torn(change) {
                    apply(&part, &mut survived);
                }
            }
            self.inodes[k] = Inode { data: survived.clone(), durable: survived, unsynced: Vec::new() };
        }
        (self.steps_left, self.crashed, self.failing_syncs) = (None, false, 0);
        self.life += 1;
    }

    /// What is left of a change that was not synced: all, nothing, a beginning, or some of its sectors.
    fn torn(&mut self, change: Change) -> Vec<Change> {
        let Change::Write { offset, bytes } = &change else {
            return if self.below(2) == 0 { vec![change] } else { Vec::new() };
        };
        match self.below(4) {
            0 => vec![change],
            1 => Vec::new(),
            2 => vec![Change::Write { offset: *offset, bytes: bytes[..self.below(bytes.len() + 1)].to_vec() }],
            _ => {
                let mut parts = Vec::new();
                let mut at = *offset;
                let end = offset + bytes.len();
                while at < end {
                    let sector_end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
                    if self.below(2) == 0 {
                        parts.push(Change::Write {
                            offset: at,
                            bytes: bytes[at - offset..sector_end - offset].to_vec(),
                        });
                    }
                    at = sector_end;
                }
                parts
            }
        }
    }
}

struct SimFile {
    sim: Arc<Mutex<Sim>>,
    inode: usize,
    path: String,
    life: u64,
}

impl SimFile {
    fn with<T>(&self, action: &'static str, f: impl FnOnce(&mut Sim) -> Result<T, DirError>) -> Result<T, DirError> {
        let mut sim = self.sim.lock();
        if sim.life != self.life {
            return Err(DirError::new(action, &self.path, &io::Error::other("opened before the machine went off")));
        }
        f(&mut sim)
    }
}

impl DirFile for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DirError> {
        self.with("write", |sim| sim.write(self.inode, &self.path, offset, bytes))
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DirError> {
        self.with("read", |sim| {
            sim.alive("read", &self.path)?;
            let data = &sim.inodes[self.inode].data;
            let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
            let n = buffer.len().min(data.len() - offset);
            buffer[..n].copy_from_slice(&data[offset..offset + n]);
            if let Some(one_in) = sim.flip_one_read_in
                && n > 0
                && sim.random().is_multiple_of(one_in)
            {
                let at = sim.below(n * 8);
                buffer[at / 8] ^= 1 << (at % 8);
            }
            Ok(n)
        })
    }
    fn len(&self) -> Result<u64, DirError> {
        self.with("read the length of", |sim| {
            sim.alive("read the length of", &self.path)?;
            Ok(sim.inodes[self.inode].data.len() as u64)
        })
    }
    fn sync(&self) -> Result<(), DirError> {
        self.with("sync", |sim| sim.sync(self.inode, &self.path))
    }
    fn truncate(&self, len: u64) -> Result<(), DirError> {
        self.with("truncate", |sim| {
            sim.step("truncate", &self.path)?;
            let change = Change::SetLen(usize::try_from(len).unwrap_or(usize::MAX));
            apply(&change, &mut sim.inodes[self.inode].data);
            sim.inodes[self.inode].unsynced.push(change);
            Ok(())
        })
    }
    fn preallocate(&self, len: u64) -> Result<(), DirError> {
        self.with("preallocate", |sim| {
            sim.step("preallocate", &self.path)?;
            let now = sim.inodes[self.inode].data.len() as u64;
            if len > now && len - now > sim.capacity_bytes.saturating_sub(sim.used_bytes()) {
                return Err(DirError::new("preallocate", &self.path, &io::ErrorKind::StorageFull.into()));
            }
            let change = Change::SetLen(usize::try_from(len.max(now)).unwrap_or(usize::MAX));
            apply(&change, &mut sim.inodes[self.inode].data);
            sim.inodes[self.inode].unsynced.push(change);
            Ok(())
        })
    }
}

impl SimDir {
    fn handle(&self, sim: &Sim, path: &str, inode: usize) -> Arc<dyn DirFile> {
        Arc::new(SimFile { sim: self.0.clone(), inode, path: path.to_owned(), life: sim.life })
    }

    /// Content and name of a whole file in one step of the disk, as a journalled rename gives it.
    fn put(&self, action: &'static str, path: &str, bytes: &[u8], must_be_new: bool) -> Result<(), DirError> {
        let mut sim = self.0.lock();
        sim.alive(action, path)?;
        if must_be_new && sim.names.contains_key(path) {
            return Err(DirError::new(action, path, &io::ErrorKind::AlreadyExists.into()));
        }
        if bytes.len() as u64 > sim.capacity_bytes.saturating_sub(sim.used_bytes()) {
            return Err(DirError::new(action, path, &io::ErrorKind::StorageFull.into()));
        }
        // Power may go while the content is written, or between the rename and its sync.
        sim.take_steps(bytes.len() as u64);
        sim.alive(action, path)?;
        let inode = sim.inodes.len();
        sim.inodes.push(Inode { data: bytes.to_vec(), durable: bytes.to_vec(), unsynced: Vec::new() });
        sim.change_names(NameChange::Link { path: path.to_owned(), inode });
        sim.sync_folder(folder_of(path))
    }
}

impl Dir for SimDir {
    fn create(&self, path: &str) -> Result<Arc<dyn DirFile>, DirError> {
        let mut sim = self.0.lock();
        sim.step("create", path)?;
        if sim.names.contains_key(path) {
            return Err(DirError::new("create", path, &io::ErrorKind::AlreadyExists.into()));
        }
        let folder = folder_of(path);
        if !folder.is_empty() && !sim.folders.contains(folder) {
            return Err(DirError::new("create", path, &io::ErrorKind::NotFound.into()));
        }
        let inode = sim.inodes.len();
        sim.inodes.push(Inode::default());
        sim.change_names(NameChange::Link { path: path.to_owned(), inode });
        Ok(self.handle(&sim, path, inode))
    }
    fn open(&self, path: &str) -> Result<Arc<dyn DirFile>, DirError> {
        let sim = self.0.lock();
        sim.alive("open", path)?;
        let inode = sim.find("open", path)?;
        Ok(self.handle(&sim, path, inode))
    }
    fn create_folder(&self, path: &str) -> Result<(), DirError> {
        let mut sim = self.0.lock();
        sim.step("create folder", path)?;
        let mut made = String::new();
        for part in path.split('/') {
            made = if made.is_empty() { part.to_owned() } else { format!("{made}/{part}") };
            sim.folders.insert(made.clone());
        }
        Ok(())
    }
    fn sync_folder(&self, path: &str) -> Result<(), DirError> {
        self.0.lock().sync_folder(path)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DirError> {
        let mut sim = self.0.lock();
        sim.step("rename", from)?;
        let inode = sim.find("rename", from)?;
        sim.change_names(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }
    fn remove(&self, path: &str) -> Result<(), DirError> {
        let mut sim = self.0.lock();
        sim.step("remove", path)?;
        sim.find("remove", path)?;
        sim.change_names(NameChange::Unlink { path: path.to_owned() });
        Ok(())
    }
    fn remove_folder(&self, path: &str) -> Result<(), DirError> {
        let mut sim = self.0.lock();
        sim.step("remove folder", path)?;
        let inside = format!("{path}/");
        if sim.names.keys().chain(&sim.folders).any(|name| name.starts_with(&inside)) {
            return Err(DirError::new("remove folder", path, &io::ErrorKind::DirectoryNotEmpty.into()));
        }
        if !sim.folders.remove(path) {
            return Err(DirError::new("remove folder", path, &io::ErrorKind::NotFound.into()));
        }
        Ok(())
    }
    fn list(&self, folder: &str) -> Result<Vec<String>, DirError> {
        let sim = self.0.lock();
        sim.alive("list", folder)?;
        let files = sim.names.keys().filter(|path| folder_of(path) == folder);
        let folders = sim.folders.iter().filter(|path| folder_of(path) == folder && !path.is_empty());
        let name = |path: &String| path.rsplit('/').next().unwrap_or(path).to_owned();
        let mut names: Vec<String> = files.map(name).chain(folders.map(|path| name(path) + "/")).collect();
        names.sort_unstable();
        Ok(names)
    }
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<(), DirError> {
        self.put("create", path, bytes, true)
    }
    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DirError> {
        self.put("replace", path, bytes, false)
    }
    fn free_bytes(&self) -> Result<u64, DirError> {
        let sim = self.0.lock();
        Ok(sim.capacity_bytes.saturating_sub(sim.used_bytes()))
    }
}
