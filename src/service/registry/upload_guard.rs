//! Protects open uploads, and pushed blobs that no manifest lists yet, from `prune` in another process: `prune` waits for them, until
//! the client has been idle for too long.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::image::Digest;
use crate::store::{SharedLock, Store};

/// After this time without a request and without a byte, a push counts as abandoned.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The uploads and blobs that are being pushed into a store.
pub struct UploadGuard {
    store: Store,
    pending: Arc<Mutex<Option<Pending>>>,
}

struct Pending {
    /// Blocks `prune`.
    lock: Option<SharedLock>,
    /// Ids of uploads, and digests of blobs.
    ids: BTreeSet<String>,
    touched: Instant,
}

impl UploadGuard {
    /// A guard that protects nothing yet.
    pub fn new(store: Store) -> Self {
        UploadGuard { store, pending: Arc::default() }
    }

    /// Protects an upload (by its id) or a blob (by its digest). Waits while the store is pruned.
    pub fn add(&self, what: impl ToString) -> Result<()> {
        let mut guard = self.pending();
        match &mut *guard {
            Some(pending) => {
                pending.ids.insert(what.to_string());
                pending.touched = Instant::now();
            }
            None => {
                let lock = Some(self.store.lock_shared()?);
                *guard = Some(Pending { lock, ids: BTreeSet::from([what.to_string()]), touched: Instant::now() });
                tokio::spawn(expire(self.pending.clone(), TIMEOUT));
            }
        }
        Ok(())
    }

    /// Keeps what is protected for another while: bytes of an upload arrived.
    pub fn touch(&self) {
        if let Some(pending) = &mut *self.pending() {
            pending.touched = Instant::now();
        }
    }

    /// Ends the protection of uploads and blobs: a manifest lists them now, or they are abandoned.
    pub fn done<'a>(&self, what: impl IntoIterator<Item = &'a str>) {
        let mut guard = self.pending();
        let Some(pending) = &mut *guard else { return };
        for id in what {
            pending.ids.remove(id);
        }
        if pending.ids.is_empty() {
            *guard = None;
        }
    }

    /// Deletes a blob, which needs the exclusive lock: the shared lock is released and taken again.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let mut guard = self.pending();
        if let Some(pending) = &mut *guard {
            pending.lock = None;
        }
        let removed = self.store.remove(digest);
        if let Some(pending) = &mut *guard {
            pending.ids.remove(&digest.to_string());
            pending.lock = Some(self.store.lock_shared()?);
        }
        removed
    }

    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        lock(&self.pending)
    }
}

fn lock(of: &Mutex<Option<Pending>>) -> MutexGuard<'_, Option<Pending>> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all protection after this time without a request or a byte.
async fn expire(of: Arc<Mutex<Option<Pending>>>, timeout: Duration) {
    loop {
        let left = match &*lock(&of) {
            Some(pending) => timeout.saturating_sub(pending.touched.elapsed()),
            None => return,
        };
        if left.is_zero() {
            *lock(&of) = None;
            return;
        }
        tokio::time::sleep(left).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Context;

    #[tokio::test]
    async fn nothing_is_pruned_until_all_pushed_blobs_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let guard = UploadGuard::new(store.clone());
        let cancelled = || {
            let ctx = Context::silent();
            ctx.cancel().cancel();
            store.prune(false, &ctx).is_err()
        };
        let blob = store.put(b"pushed").unwrap();
        guard.add("upload").unwrap();
        guard.add(blob.digest).unwrap();
        assert!(cancelled(), "prune waits until it is cancelled");
        guard.done(["upload"]);
        assert!(cancelled());
        let other = store.put(b"other").unwrap();
        assert!(guard.remove(&other.digest).unwrap(), "the requested blob is deleted");
        assert!(cancelled(), "the others are still protected");
        guard.done([blob.digest.to_string().as_str()]);
        store.prune(false, &Context::silent()).unwrap();
        assert!(!store.has(&blob));
    }

    #[tokio::test]
    async fn an_upload_is_protected_as_long_as_its_bytes_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let guard = UploadGuard::new(store.clone());
        *guard.pending() =
            Some(Pending { lock: Some(store.lock_shared().unwrap()), ids: BTreeSet::from(["upload".to_owned()]), touched: Instant::now() });
        let idle = Duration::from_millis(400);
        let expiry = tokio::spawn(expire(guard.pending.clone(), idle));
        for _ in 0..8 {
            tokio::time::sleep(idle / 4).await;
            guard.touch();
        }
        assert!(guard.pending().is_some() && !expiry.is_finished(), "bytes have arrived all the time");
        expiry.await.unwrap();
        assert!(guard.pending().is_none(), "nobody is there any more");
        store.prune(false, &Context::silent()).unwrap();
    }
}
