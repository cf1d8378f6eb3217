//! An append-only set of checksummed objects on an object store with faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use weir_model::TenantId;
use weir_model::source::BoxFuture;

const DELAY: Duration = Duration::from_millis(50);
/// One call in this many fails.
const FAULT_EVERY: u64 = 100;
const TRIES: u32 = 8;

type Call<T> = BoxFuture<'static, object_store::Result<T>>;

pub struct Objects {
    store: Arc<dyn ObjectStore>,
    next: AtomicU64,
    /// State of the generator that decides on faults.
    random: AtomicU64,
    n_faults: AtomicU64,
}

#[derive(Debug)]
pub struct Fault(String);

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Objects {
    pub fn faulty(seed: u64) -> (Arc<Self>, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a temp directory");
        let store = Arc::new(LocalFileSystem::new_with_prefix(dir.path()).expect("a directory"));
        let objects =
            Self { store, next: AtomicU64::new(0), random: AtomicU64::new(seed), n_faults: AtomicU64::new(0) };
        (Arc::new(objects), dir)
    }

    pub fn n_faults(&self) -> u64 {
        self.n_faults.load(Ordering::Relaxed)
    }

    /// The faults of a store far away: every call is late, some fail before or after they took effect.
    async fn call<T>(&self, run: impl Fn() -> Call<T> + Send + Sync) -> Result<T, Fault> {
        let mut last = String::new();
        for _ in 0..TRIES {
            tokio::time::sleep(DELAY).await;
            let draw = self.draw();
            if draw.is_multiple_of(FAULT_EVERY) {
                self.n_faults.fetch_add(1, Ordering::Relaxed);
                if draw.is_multiple_of(2 * FAULT_EVERY) {
                    let _ = run().await;
                }
                last = "injected fault".into();
                continue;
            }
            match run().await {
                Ok(done) => return Ok(done),
                Err(error) => last = error.to_string(),
            }
        }
        Err(Fault(last))
    }

    /// splitmix64.
    fn draw(&self) -> u64 {
        let x = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Stores an object for good. Create-only, so a repeated call after a fault that took effect is
    /// recognised and is no second object.
    pub fn put(&self, folder: &str, body: &[u8]) -> Result<(), Fault> {
        let name = Path::from(format!("{folder}/{:020}", self.next.fetch_add(1, Ordering::Relaxed)));
        let mut bytes = crc32c::crc32c(body).to_le_bytes().to_vec();
        bytes.extend_from_slice(body);
        let put = self.call(|| {
            let (store, name, bytes) = (self.store.clone(), name.clone(), bytes.clone());
            Box::pin(async move {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                match store.put_opts(&name, bytes.into(), options).await {
                    Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            })
        });
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(put))
    }

    /// All bodies in order of writing.
    pub async fn all(&self, folder: &str) -> Result<Vec<Vec<u8>>, Fault> {
        let prefix = Path::from(folder);
        let listed = self.call(|| {
            let (store, prefix) = (self.store.clone(), prefix.clone());
            Box::pin(async move { store.list(Some(&prefix)).try_collect::<Vec<_>>().await })
        });
        let mut names: Vec<_> = listed.await?.into_iter().map(|object| object.location).collect();
        names.sort();
        futures_util::future::try_join_all(names.into_iter().map(|name| self.get(name))).await
    }

    async fn get(&self, name: Path) -> Result<Vec<u8>, Fault> {
        let read = self.call(|| {
            let (store, name) = (self.store.clone(), name.clone());
            Box::pin(async move { store.get(&name).await?.bytes().await })
        });
        let bytes = read.await?;
        let damaged = || Fault(format!("{name}: damaged at offset 0"));
        let (sum, body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(damaged());
        }
        Ok(body.to_vec())
    }

    /// [`Objects::all`] from synchronous code.
    pub fn all_now(&self, folder: &str) -> Result<Vec<Vec<u8>>, Fault> {
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.all(folder)))
    }
}

/// Tenants may hold characters that paths may not.
pub fn folder(signal: &str, tenant: &TenantId) -> String {
    let name: String = tenant.as_str().bytes().map(|b| format!("{b:02x}")).collect();
    format!("{signal}/{name}")
}
