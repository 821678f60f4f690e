//! Common parts of downloads and uploads: retry after a digest mismatch, progress of a blob.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::events::{Context, Task, Unit};
use crate::image::Blob;

/// The size of buffers between disk and network, in bytes.
pub const BUFFER_SIZE: usize = 512 * 1024;
/// The number of buffers in the queue between disk and network.
pub const QUEUE_LENGTH: usize = 4;

/// The content does not match the digest. A second attempt may get the right bytes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DigestMismatch(pub String);

/// Runs `attempt`, and after a [`DigestMismatch`] warns the user and runs it once more.
pub async fn retry_on_mismatch<T, F>(ctx: &Context, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    match attempt().await {
        Err(error) if error.downcast_ref::<DigestMismatch>().is_some() => {
            ctx.warn(format!("{error:#}; trying again"));
            attempt().await
        }
        result => result,
    }
}

/// Reports the progress of a blob and counts its transferred bytes.
pub struct Meter {
    task: Mutex<Option<Task>>,
    reported: AtomicU64,
    moved: AtomicU64,
    confirmed: AtomicU64,
}

impl Meter {
    /// A meter for a blob; `verb` is `pull` or `push`.
    pub fn new(ctx: &Context, verb: &str, blob: &Blob) -> Self {
        let task = ctx.task(format!("{verb} {}:{}", blob.digest.algorithm().name(), blob.digest.short()), Some(blob.size), Unit::Bytes);
        Meter { task: Mutex::new(Some(task)), reported: AtomicU64::new(0), moved: AtomicU64::new(0), confirmed: AtomicU64::new(0) }
    }

    /// Reports that the blob is transferred up to this offset. After a retry, progress shows only beyond the furthest offset.
    pub fn advance_to(&self, offset: u64) {
        let reported = self.reported.fetch_max(offset, Ordering::Relaxed);
        if offset > reported
            && let Some(task) = &*self.task()
        {
            task.advance(offset - reported);
        }
    }

    /// Records that the receiver has the blob up to this offset, and a retry resumes there.
    pub fn confirm(&self, offset: u64) {
        self.confirmed.fetch_max(offset, Ordering::Relaxed);
    }

    /// The furthest offset that the receiver has confirmed.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Counts transferred bytes, those of failed attempts included.
    pub fn add_moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The transferred bytes so far.
    pub fn moved_bytes(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Ends the task; `detail` may be empty.
    pub fn done(&self, detail: &str) {
        if let Some(task) = self.task().take() {
            task.done(detail);
        }
    }

    /// Ends the task: the receiver had the blob already.
    pub fn unchanged(&self) {
        if let Some(task) = self.task().take() {
            task.unchanged();
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<Task>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
