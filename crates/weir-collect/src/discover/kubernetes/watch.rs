//! Lists a kind of object and follows its changes.
//!
//! A list in pages gives the objects and a version; a watch from that version gives changes, and
//! bookmarks that move the version on while nothing changes. When the server does not know the
//! version any more, the list is read again. Source: Kubernetes API concepts, "Efficient detection of
//! changes".

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Api, ApiError};
use super::object::{Meta, Object, key};
use super::{Change, Store, Stores};
use crate::config::{KubernetesRole, KubernetesSd};
use crate::discover::Found;

const PAGE: usize = 500;
/// The server ends a watch after this; another one goes on from its last version.
const WATCH_FOR: Duration = Duration::from_secs(290);
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// One changed object; etcd takes no more than 1.5 MiB.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// Starts the watches of one provider.
pub(super) struct Starter<'a> {
    pub config: &'a KubernetesSd,
    pub api: &'a Arc<Api>,
    pub stores: &'a Arc<Stores>,
    pub changes: &'a mpsc::Sender<Change>,
    pub found: &'a Arc<Found>,
    pub watches: &'a mut JoinSet<()>,
    pub kinds: &'a mut Vec<&'static str>,
}

impl Starter<'_> {
    /// One watch, or one per namespace.
    pub fn start<T: Object>(&mut self, store: fn(&Stores) -> &Store<T>) {
        let all = [String::new()];
        let namespaces =
            if T::IS_NAMESPACED && !self.api.namespaces.is_empty() { &self.api.namespaces[..] } else { &all[..] };
        for namespace in namespaces {
            self.kinds.push(T::KIND);
            let watch = Watch::<T> {
                api: self.api.clone(),
                stores: self.stores.clone(),
                store,
                namespace: namespace.clone(),
                selector: role(T::KIND).and_then(|role| self.config.selectors.get(&role)).cloned().unwrap_or_default(),
                changes: self.changes.clone(),
                found: self.found.clone(),
            };
            self.watches.spawn(watch.run());
        }
    }
}

fn role(kind: &str) -> Option<KubernetesRole> {
    Some(match kind {
        "Node" => KubernetesRole::Node,
        "Pod" => KubernetesRole::Pod,
        "Service" => KubernetesRole::Service,
        "Endpoints" => KubernetesRole::Endpoints,
        "EndpointSlice" => KubernetesRole::EndpointSlice,
        "Ingress" => KubernetesRole::Ingress,
        _ => return None,
    })
}

struct Watch<T> {
    api: Arc<Api>,
    stores: Arc<Stores>,
    store: fn(&Stores) -> &Store<T>,
    namespace: String,
    /// Labels, fields.
    selector: (String, String),
    changes: mpsc::Sender<Change>,
    found: Arc<Found>,
}

#[derive(Deserialize)]
struct List<T> {
    metadata: ListMeta,
    // `null` when there is none.
    items: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    object: &'a serde_json::value::RawValue,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Bare {
    metadata: Meta,
    code: u16,
    message: String,
}

impl<T: Object> Watch<T> {
    async fn run(self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.list().await {
                Ok(version) => {
                    backoff = BACKOFF_MIN;
                    self.follow(version).await;
                }
                // A page's place was lost, or too old: start over.
                Err(ApiError::Gone) => {}
                Err(ApiError::Other(error)) => {
                    self.found.failed("kubernetes", error);
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn path(&self) -> String {
        match self.namespace.as_str() {
            "" => format!("{}/{}", T::API, T::PLURAL),
            namespace => format!("{}/namespaces/{namespace}/{}", T::API, T::PLURAL),
        }
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let (labels, fields) = &self.selector;
        let all = [("labelSelector", labels), ("fieldSelector", fields)];
        all.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, text.clone())).collect()
    }

    /// Reads everything; gives the version to watch from.
    async fn list(&self) -> Result<String, ApiError> {
        let mut seen = BTreeSet::new();
        let mut next = String::new();
        let version = loop {
            let mut query = self.query();
            query.push(("limit", PAGE.to_string()));
            if !next.is_empty() {
                query.push(("continue", next));
            }
            let body = self.api.page(&self.path(), &query).await?;
            let page: List<T> = serde_json::from_slice(&body)
                .map_err(|e| ApiError::Other(format!("{}: not a list: {e}", self.path())))?;
            for object in page.items.into_iter().flatten() {
                seen.insert(key(&object.meta().namespace, &object.meta().name));
                self.put(object).await;
            }
            if page.metadata.next.is_empty() {
                break page.metadata.resource_version;
            }
            next = page.metadata.next;
        };
        self.forget_others(&seen).await;
        self.tell(Change::Listed { kind: T::KIND }).await;
        Ok(version)
    }

    /// Until the version is not known any more.
    async fn follow(&self, mut version: String) {
        let mut backoff = BACKOFF_MIN;
        loop {
            match self.watch(&mut version).await {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(ApiError::Gone) => return,
                Err(ApiError::Other(error)) => {
                    self.found.failed("kubernetes", error);
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// One watch, until the server ends it.
    async fn watch(&self, version: &mut String) -> Result<(), ApiError> {
        let mut query = self.query();
        query.extend([
            ("watch", "true".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("resourceVersion", version.clone()),
            ("timeoutSeconds", WATCH_FOR.as_secs().to_string()),
        ]);
        let mut response = self.api.open(&self.path(), &query).await?;
        let fail = |e: String| ApiError::Other(format!("watch of {}: {e}", self.path()));
        let mut buffer: Vec<u8> = Vec::new();
        loop {
            // A connection that died silently must not hang for ever.
            let chunk = match tokio::time::timeout(WATCH_FOR + WATCH_FOR / 8, response.chunk()).await {
                Ok(chunk) => chunk.map_err(|e| fail(crate::http::chain(&e)))?,
                Err(_) => return Err(fail("the server fell silent".to_owned())),
            };
            let Some(chunk) = chunk else { return Ok(()) };
            buffer.extend_from_slice(&chunk);
            let mut start = 0;
            while let Some(length) = buffer[start..].iter().position(|b| *b == b'\n') {
                self.event(&buffer[start..start + length], version).await?;
                start += length + 1;
            }
            buffer.drain(..start);
            if buffer.len() > EVENT_BYTES_MAX {
                return Err(fail(format!("an event is larger than {EVENT_BYTES_MAX} bytes")));
            }
        }
    }

    async fn event(&self, line: &[u8], version: &mut String) -> Result<(), ApiError> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let fail = |e: String| ApiError::Other(format!("watch of {}: {e}", self.path()));
        let event: Event<'_> = serde_json::from_slice(line).map_err(|e| fail(e.to_string()))?;
        let bare: Bare = serde_json::from_str(event.object.get()).map_err(|e| fail(e.to_string()))?;
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => {
                let object: T = serde_json::from_str(event.object.get()).map_err(|e| fail(e.to_string()))?;
                self.put(object).await;
            }
            "DELETED" => {
                let key = key(&bare.metadata.namespace, &bare.metadata.name);
                (self.store)(&self.stores).lock().remove(&key);
                self.touched(&bare.metadata.namespace, &bare.metadata.name).await;
            }
            "BOOKMARK" => {}
            "ERROR" if bare.code == 410 => return Err(ApiError::Gone),
            "ERROR" => return Err(fail(bare.message)),
            other => return Err(fail(format!("unknown event `{other}`"))),
        }
        *version = bare.metadata.resource_version;
        Ok(())
    }

    async fn put(&self, object: T) {
        let (namespace, name) = (object.meta().namespace.clone(), object.meta().name.clone());
        (self.store)(&self.stores).lock().insert(key(&namespace, &name), Arc::new(object));
        self.touched(&namespace, &name).await;
    }

    /// What went away while nobody watched.
    async fn forget_others(&self, seen: &BTreeSet<String>) {
        let mut gone = Vec::new();
        (self.store)(&self.stores).lock().retain(|key, object| {
            let is_ours = self.namespace.is_empty() || object.meta().namespace == self.namespace;
            let is_gone = is_ours && !seen.contains(key);
            if is_gone {
                gone.push((object.meta().namespace.clone(), object.meta().name.clone()));
            }
            !is_gone
        });
        for (namespace, name) in gone {
            self.touched(&namespace, &name).await;
        }
    }

    async fn touched(&self, namespace: &str, name: &str) {
        self.tell(Change::Object { kind: T::KIND, namespace: namespace.to_owned(), name: name.to_owned() }).await;
    }

    async fn tell(&self, change: Change) {
        // The receiver ends only together with this task.
        let _ = self.changes.send(change).await;
    }
}
