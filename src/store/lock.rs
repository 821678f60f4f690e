//! Locks between processes: users of blobs against `prune`, changers of names against each other.

use std::fs::{File, TryLockError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Store;
use crate::events::Context;

/// While it lives, `prune` by another process waits, so nothing that is being put together is deleted.
#[derive(Debug)]
pub struct SharedLock {
    _lock: Option<File>,
}

impl Store {
    /// Holds off `prune`. Every command that adds or reads blobs holds it while it runs.
    pub fn lock_shared(&self) -> Result<SharedLock> {
        let path = self.root.join("lock");
        let opened = File::options().create(true).append(true).open(&path).or_else(|_| File::open(&path));
        // a store that we may not write and that nobody locked yet: there is nothing to hold
        let Ok(lock) = opened else {
            return Ok(SharedLock { _lock: None });
        };
        lock.lock_shared().with_context(|| format!("lock {}", path.display()))?;
        Ok(SharedLock { _lock: Some(lock) })
    }

    /// Waits until no other process uses the store, and keeps it so.
    pub fn lock_exclusive(&self, ctx: &Context) -> Result<File> {
        let mut told = false;
        loop {
            if let Some(lock) = self.try_lock_exclusive()? {
                return Ok(lock);
            }
            if !std::mem::replace(&mut told, true) {
                ctx.note("waiting for other commands to release the store");
            }
            ctx.check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Keeps other processes from using the store, if none uses it now.
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

    /// Keeps other processes from changing names.
    pub(super) fn lock_refs(&self) -> Result<File> {
        self.ensure_writable()?;
        let path = self.root.join("index.lock");
        let lock = File::options().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
        lock.lock().with_context(|| path.display().to_string())?;
        Ok(lock)
    }
}
