//! What downloads and uploads have in common.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::events::{Context, Task, Unit};
use crate::image::Blob;

/// Bytes are handed between disk and network in pieces of this size.
pub const CHUNK: usize = 512 * 1024;
/// How many pieces may wait between disk and network.
pub const QUEUE: usize = 4;

/// The other end has other bytes than the digest says. A second try may bring the right ones.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

/// Runs `attempt`, and after a [`Mismatch`] tells the user and runs it once more.
pub async fn once_more<T, F>(ctx: &Context, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    match attempt().await {
        Err(error) if error.downcast_ref::<Mismatch>().is_some() => {
            ctx.warn(format!("{error:#}; trying again"));
            attempt().await
        }
        result => result,
    }
}

/// Shows how far a blob is, and counts the bytes that went over the wire for it.
pub struct Meter {
    task: Mutex<Option<Task>>,
    shown: AtomicU64,
    moved: AtomicU64,
    kept: AtomicU64,
}

impl Meter {
    /// A meter for a blob; `verb` says where it goes.
    pub fn new(ctx: &Context, verb: &str, blob: &Blob) -> Self {
        let task = ctx.task(format!("{verb} {}:{}", blob.digest.algorithm().name(), blob.digest.short()), Some(blob.size), Unit::Bytes);
        Meter { task: Mutex::new(Some(task)), shown: AtomicU64::new(0), moved: AtomicU64::new(0), kept: AtomicU64::new(0) }
    }

    /// The blob is there up to this byte. A retry that starts further back shows nothing until it is beyond what was shown.
    pub fn reach(&self, place: u64) {
        let shown = self.shown.fetch_max(place, Ordering::Relaxed);
        if place > shown
            && let Some(task) = &*self.task()
        {
            task.advance(place - shown);
        }
    }

    /// The receiving end has the blob up to this byte, and a next try need not send it again.
    pub fn keep(&self, place: u64) {
        self.kept.fetch_max(place, Ordering::Relaxed);
    }

    /// The furthest byte that the receiving end has had.
    pub fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// So many bytes went over the wire.
    pub fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The bytes that went over the wire so far.
    pub fn moved_bytes(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Ends well.
    pub fn done(&self, detail: &str) {
        if let Some(task) = self.task().take() {
            task.done(detail);
        }
    }

    /// Ends: it was there already.
    pub fn unchanged(&self) {
        if let Some(task) = self.task().take() {
            task.unchanged();
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
