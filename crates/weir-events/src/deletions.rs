//! Requests to delete log lines: in memory, and beside the lines in a small file that is swapped whole.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use weir_model::sink::WriteError;
use weir_model::{LogDeletion, LogDeletions, Nanos, TenantId};
use weir_wal::{Dir, DirError, DirErrorKind};

use crate::logs::{Damaged, Reader, put_bytes, put_int, put_uint};

/// Requests of one tenant; every read looks at each of them.
const DELETIONS_MAX: usize = 1000;
const MAGIC: &[u8; 8] = b"WEIRLDE1";
const FOLDER: &str = "logs";
const PATH: &str = "logs/deletions";

type ByTenant = AHashMap<TenantId, Arc<[LogDeletion]>>;

#[derive(Debug, thiserror::Error)]
pub enum DeletionsError {
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error(
        "{PATH} is damaged ({0}); without it deleted lines would be seen again: restore it, or remove it to show them"
    )]
    Damaged(Damaged),
}

/// Bounded by a constant per tenant. [`Deletions::default`] keeps them in memory alone.
#[derive(Default)]
pub struct Deletions {
    all: RwLock<ByTenant>,
    dir: Option<Arc<dyn Dir>>,
    /// One change at a time; readers wait for none.
    changing: Mutex<()>,
}

impl Deletions {
    /// Kept in `dir`: a request that was acknowledged outlives any crash.
    pub fn open(dir: Arc<dyn Dir>) -> Result<Self, DeletionsError> {
        dir.create_folder(FOLDER)?;
        let all = match dir.read(PATH) {
            Ok(bytes) => decode(&bytes).map_err(DeletionsError::Damaged)?,
            Err(error) if error.kind == DirErrorKind::NotFound => ByTenant::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { all: RwLock::new(all), dir: Some(dir), changing: Mutex::default() })
    }

    /// Durable first, then seen.
    fn change(&self, tenant: &TenantId, requests: Arc<[LogDeletion]>) -> Result<(), WriteError> {
        let mut next = self.all.read().clone();
        next.insert(tenant.clone(), requests);
        if let Some(dir) = &self.dir {
            dir.replace(PATH, &encode(&next)).map_err(|error| match error.kind {
                DirErrorKind::Full => WriteError::Full(error.to_string()),
                _ => WriteError::Storage(error.to_string()),
            })?;
        }
        *self.all.write() = next;
        Ok(())
    }
}

impl LogDeletions for Deletions {
    fn add(&self, tenant: &TenantId, deletion: LogDeletion) -> Result<(), WriteError> {
        let _alone = self.changing.lock();
        let known = self.list(tenant);
        if known.len() >= DELETIONS_MAX {
            let text = format!("{DELETIONS_MAX} delete requests exist; cancel some or delete with fewer, wider ones");
            return Err(WriteError::Storage(text));
        }
        self.change(tenant, known.iter().cloned().chain([deletion]).collect())
    }

    fn list(&self, tenant: &TenantId) -> Arc<[LogDeletion]> {
        self.all.read().get(tenant).cloned().unwrap_or_default()
    }

    fn cancel(&self, tenant: &TenantId, id: &str) -> Result<bool, WriteError> {
        let _alone = self.changing.lock();
        let known = self.list(tenant);
        if !known.iter().any(|d| &*d.id == id) {
            return Ok(false);
        }
        self.change(tenant, known.iter().filter(|d| &*d.id != id).cloned().collect())?;
        Ok(true)
    }
}

fn encode(all: &ByTenant) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let mut tenants: Vec<_> = all.iter().filter(|(_, requests)| !requests.is_empty()).collect();
    tenants.sort_by_key(|(tenant, _)| tenant.as_str());
    put_uint(&mut out, tenants.len() as u64);
    for (tenant, requests) in tenants {
        put_bytes(&mut out, tenant.as_str().as_bytes());
        put_uint(&mut out, requests.len() as u64);
        for LogDeletion { id, query, start, end, created_at } in requests.iter() {
            put_bytes(&mut out, id.as_bytes());
            put_bytes(&mut out, query.as_bytes());
            [start, end, created_at].iter().for_each(|at| put_int(&mut out, at.0));
        }
    }
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<ByTenant, Damaged> {
    let damaged = |what| Damaged { part: "delete requests", at: 0, what };
    let (body, sum) = bytes.split_at_checked(bytes.len().wrapping_sub(4)).ok_or_else(|| damaged("ends too early"))?;
    if crc32c::crc32c(body).to_le_bytes() != *sum {
        return Err(damaged("wrong checksum"));
    }
    decode_requests(body.strip_prefix(MAGIC).ok_or_else(|| damaged("no delete requests of this version"))?)
}

fn decode_requests(body: &[u8]) -> Result<ByTenant, Damaged> {
    let mut reader = Reader::new("delete requests", body);
    let mut all = ByTenant::default();
    for _ in 0..reader.count()? {
        let tenant = TenantId::parse(reader.text()?).map_err(|_| reader.damaged("no name of a tenant"))?;
        let mut requests = Vec::new();
        for _ in 0..reader.count()? {
            let (id, query) = (reader.text()?.into(), reader.text()?.into());
            let mut time = || reader.int().map(Nanos);
            requests.push(LogDeletion { id, query, start: time()?, end: time()?, created_at: time()? });
        }
        all.insert(tenant, requests.into());
    }
    Ok(all)
}

/// For the fuzzer: bytes behind the magic, without a checksum.
pub fn decode_deletions(body: &[u8]) -> Result<usize, Damaged> {
    decode_requests(body).map(|all| all.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_wal::SimDir;

    use super::*;

    fn deletion(id: &str) -> LogDeletion {
        let at = Nanos(0);
        LogDeletion { id: id.into(), query: "{a=\"b\"}".into(), start: at, end: at, created_at: at }
    }

    #[test]
    fn requests_belong_to_a_tenant_and_are_bounded() {
        let all = Deletions::default();
        let (a, b) = (TenantId::anonymous(), TenantId::parse("b").unwrap());
        all.add(&a, deletion("1")).unwrap();
        assert_eq!((all.list(&a).len(), all.list(&b).len()), (1, 0));
        assert!(!all.cancel(&b, "1").unwrap());
        assert!(all.cancel(&a, "1").unwrap());
        assert!(all.list(&a).is_empty());
        (0..DELETIONS_MAX).for_each(|n| all.add(&a, deletion(&n.to_string())).unwrap());
        assert!(all.add(&a, deletion("more")).unwrap_err().to_string().contains("1000 delete requests"));
    }

    #[test]
    fn what_was_acknowledged_survives_any_crash() {
        let tenant = TenantId::anonymous();
        let mut n_crashes = 0;
        for seed in 0..60 {
            let dir = SimDir::new(seed);
            // What must be there, and what one unanswered change may have made of it.
            let (mut sure, mut maybe): (Vec<String>, Option<Vec<String>>) = (Vec::new(), None);
            for life in 0..3 {
                let all = Deletions::open(Arc::new(dir.clone())).unwrap();
                let found: Vec<String> = all.list(&tenant).iter().map(|d| d.id.to_string()).collect();
                assert!(found == sure || maybe.as_ref() == Some(&found), "seed {seed}: {found:?}, not {sure:?}");
                (sure, maybe) = (found, None);
                dir.crash_after(1 + (seed * 7_919 + life * 104_729) % 900);
                for n in 0..8 {
                    let mut next = sure.clone();
                    let done = if n % 3 == 2 {
                        let gone = next.remove(0);
                        all.cancel(&tenant, &gone).map(drop)
                    } else {
                        let id = format!("{life}-{n}");
                        next.push(id.clone());
                        all.add(&tenant, deletion(&id))
                    };
                    match done {
                        Ok(()) => sure = next,
                        Err(_) => {
                            maybe = Some(next);
                            break;
                        }
                    }
                }
                n_crashes += u32::from(dir.has_crashed());
                drop(all);
                dir.restart();
            }
        }
        assert!(n_crashes > 60, "{n_crashes}");
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let dir = SimDir::new(1);
        Deletions::open(Arc::new(dir.clone())).unwrap().add(&TenantId::anonymous(), deletion("x")).unwrap();
        let mut bytes = dir.read(PATH).unwrap().to_vec();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(decode(&bytes).is_err() && decode(&bytes[..at]).is_err(), "{at}");
            bytes[at] ^= 1;
        }
        bytes[9] ^= 1;
        dir.replace(PATH, &bytes).unwrap();
        let error = Deletions::open(Arc::new(dir.clone())).err().unwrap();
        assert!(error.to_string().starts_with("logs/deletions is damaged"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_requests(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode_deletions(&bytes);
        }
    }
}
