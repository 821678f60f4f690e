//! Locks between processes: users of blobs against `prune`, writers of `index.json` against each other.

use std::fs::{File, TryLockError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Store;
use super::lock_holders::lock_holders;
use crate::events::Context;

/// After this time, whoever waits looks again whom for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// While it exists, `prune` in another process waits, so blobs that no image names yet are not deleted.
#[derive(Debug)]
pub struct SharedLock {
    _lock: Option<File>,
}

impl Store {
    /// Takes the shared lock, which blocks `prune`. Every command that reads or adds blobs holds it.
    pub fn lock_shared(&self) -> Result<SharedLock> {
        let path = self.root.join("lock");
        let opened = File::options().create(true).append(true).open(&path).or_else(|_| File::open(&path));
        // a read-only store without a lock file: nobody can prune it
        let Ok(lock) = opened else {
            return Ok(SharedLock { _lock: None });
        };
        lock.lock_shared().with_context(|| format!("lock {}", path.display()))?;
        Ok(SharedLock { _lock: Some(lock) })
    }

    /// Waits until no other process uses the store, then takes the exclusive lock. Says whom it waits for, and again whenever that changes.
    pub fn lock_exclusive(&self, ctx: &Context) -> Result<File> {
        let (mut known, mut asked) = (None, None::<Instant>);
        loop {
            if let Some(lock) = self.try_lock_exclusive()? {
                return Ok(lock);
            }
            if asked.is_none_or(|asked| asked.elapsed() > ASK_AGAIN) {
                asked = Some(Instant::now());
                let holders = File::open(self.root.join("lock")).map_or_else(|_| Vec::new(), |lock| lock_holders(&lock));
                // the ages of the same processes grow
                let pids: Vec<String> = holders.iter().filter_map(|holder| holder.split(" (").next().map(str::to_owned)).collect();
                if known.as_ref() != Some(&pids) {
                    match holders.as_slice() {
                        [] => ctx.note("waiting for other commands to release the store"),
                        holders => ctx.note(format!("waiting for {} to release the store", holders.join(" and "))),
                    }
                    known = Some(pids);
                }
            }
            ctx.check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes the exclusive lock if no other process uses the store; else `None`.
    pub(super) fn try_lock_exclusive(&self) -> Result<Option<File>> {
        self.ensure_writable()?;
        let path = self.root.join("lock");
        let lock = File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Takes the lock for writing `index.json`.
    pub(super) fn lock_refs(&self) -> Result<File> {
        self.ensure_writable()?;
        let path = self.root.join("index.lock");
        let lock = File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
        lock.lock().with_context(|| path.display().to_string())?;
        Ok(lock)
    }
}
