//! What somebody is pushing: uploads that are open, and blobs that no manifest names yet. `prune` by another process would delete
//! them, so it waits for them, but not for ever: clients go away.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::image::Digest;
use crate::store::{SharedLock, Store};

/// After so long without a sign of life, a push counts as given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is being pushed into a store.
pub struct UploadGuard {
    store: Store,
    held: Arc<Mutex<Option<Held>>>,
}

struct Held {
    /// Keeps the store from being pruned.
    lock: Option<SharedLock>,
    /// Ids of uploads, and digests of blobs.
    what: BTreeSet<String>,
    touched: Instant,
}

impl UploadGuard {
    /// Nothing yet.
    pub fn new(store: Store) -> Self {
        UploadGuard { store, held: Arc::default() }
    }

    /// Somebody uploads something, or relies on a blob that is there. Waits while the store is pruned.
    pub fn add(&self, what: impl ToString) -> Result<()> {
        let mut held = self.held();
        match &mut *held {
            Some(held) => {
                held.what.insert(what.to_string());
                held.touched = Instant::now();
            }
            None => {
                let lock = Some(self.store.lock_shared()?);
                *held = Some(Held { lock, what: BTreeSet::from([what.to_string()]), touched: Instant::now() });
                tokio::spawn(give_up(self.held.clone()));
            }
        }
        Ok(())
    }

    /// These are named now, or given up.
    pub fn done<'a>(&self, what: impl IntoIterator<Item = &'a str>) {
        let mut held = self.held();
        let Some(pending) = &mut *held else { return };
        for done in what {
            pending.what.remove(done);
        }
        if pending.what.is_empty() {
            *held = None;
        }
    }

    /// Deletes a blob, which needs the store alone: what others push is held again at once.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let mut held = self.held();
        if let Some(held) = &mut *held {
            held.lock = None;
        }
        let removed = self.store.remove(digest);
        if let Some(held) = &mut *held {
            held.what.remove(&digest.to_string());
            held.lock = Some(self.store.lock_shared()?);
        }
        removed
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        held(&self.held)
    }
}

fn held(of: &Mutex<Option<Held>>) -> MutexGuard<'_, Option<Held>> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go once nobody has given a sign of life for long.
async fn give_up(of: Arc<Mutex<Option<Held>>>) {
    loop {
        let left = match &*held(&of) {
            Some(held) => PATIENCE.saturating_sub(held.touched.elapsed()),
            None => return,
        };
        if left.is_zero() {
            *held(&of) = None;
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
    async fn nothing_is_pruned_until_all_that_was_pushed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let pending = UploadGuard::new(store.clone());
        let cancelled = || {
            let ctx = Context::silent();
            ctx.cancel().cancel();
            store.prune(false, &ctx).is_err()
        };
        let blob = store.put(b"pushed").unwrap();
        pending.add("upload").unwrap();
        pending.add(blob.digest).unwrap();
        assert!(cancelled(), "a prune waits, until it is told to stop");
        pending.done(["upload"]);
        assert!(cancelled());
        let other = store.put(b"other").unwrap();
        assert!(pending.remove(&other.digest).unwrap(), "what is asked to be deleted is");
        assert!(cancelled(), "and the rest is held still");
        pending.done([blob.digest.to_string().as_str()]);
        store.prune(false, &Context::silent()).unwrap();
        assert!(!store.has(&blob));
    }
}
