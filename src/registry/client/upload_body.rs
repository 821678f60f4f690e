//! Streams a blob of the store as the bodies of requests: read once, in order, and verified.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};

use super::idle_timeout::IdleTimeout;
use super::transfer::{BUFFER_SIZE, Meter, QUEUE_LENGTH};
use crate::error::{Failure, Kind, kind_of};
use crate::image::Blob;
use crate::store::Store;

/// A blob that a thread reads into a queue.
pub struct UploadBody {
    buffers: Arc<Mutex<BufferQueue>>,
    reader: Option<JoinHandle<Result<()>>>,
}

struct BufferQueue {
    queue: mpsc::Receiver<Bytes>,
    left: Bytes,
}

/// The body of one request.
pub struct RequestBody {
    /// The stream of bytes.
    pub stream: Body,
    sent: Arc<AtomicU64>,
}

impl RequestBody {
    /// Counts the bytes that the connection has taken.
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.sent.clone()
    }
}

impl UploadBody {
    /// Reads the blob from `offset` on; the bytes before it are read too, for the digest.
    pub fn open(store: &Store, blob: Blob, offset: u64) -> UploadBody {
        let (sender, queue) = mpsc::channel(QUEUE_LENGTH);
        let store = store.clone();
        let reader = spawn_blocking(move || read(&store, blob, offset, &sender));
        UploadBody { buffers: Arc::new(Mutex::new(BufferQueue { queue, left: Bytes::new() })), reader: Some(reader) }
    }

    /// The next `length` bytes as a body, from offset `from`. Resets `idle` and advances `meter` as they are sent.
    pub fn body(&mut self, from: u64, length: u64, meter: &Arc<Meter>, idle: &IdleTimeout) -> RequestBody {
        let sent = Arc::new(AtomicU64::new(0));
        let state = (self.buffers.clone(), sent.clone(), meter.clone(), idle.clone());
        let buffers = stream::try_unfold(state, move |(buffers, sent, meter, idle)| async move {
            let already = sent.load(Ordering::Relaxed);
            let Some(bytes) = buffers.lock().await.next(length - already).await? else { return Ok::<_, std::io::Error>(None) };
            let total = sent.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
            idle.reset();
            meter.advance_to(from + total);
            Ok(Some((bytes, (buffers, sent, meter, idle))))
        });
        RequestBody { stream: Body::wrap_stream(buffers), sent }
    }

    /// Waits for the reader; fails if the blob could not be read or does not match its digest.
    pub async fn finish(&mut self) -> Result<()> {
        match self.reader.take() {
            Some(reader) => reader.await.context("the reader of a blob")?,
            None => Ok(()),
        }
    }

    /// The error of the reader, if it failed.
    pub async fn failure(&mut self) -> Option<anyhow::Error> {
        // close the queue first, or a reader that waits for it would never end
        self.buffers.lock().await.queue.close();
        self.finish().await.err()
    }
}

impl BufferQueue {
    /// The next bytes, at most `limit`; `None` if the limit is 0.
    async fn next(&mut self, limit: u64) -> std::io::Result<Option<Bytes>> {
        if limit == 0 {
            return Ok(None);
        }
        if self.left.is_empty() {
            self.left = self.queue.recv().await.ok_or_else(|| std::io::Error::other("the blob could not be read to its end"))?;
        }
        let count = self.left.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Some(self.left.split_to(count)))
    }
}

/// Reads the blob to its end and sends the bytes from `offset` on. A closed queue is not an error.
fn read(store: &Store, blob: Blob, offset: u64, sender: &mpsc::Sender<Bytes>) -> Result<()> {
    let mut reader = store.reader(&blob)?;
    let mut position = 0;
    loop {
        let mut buffer = vec![0; BUFFER_SIZE];
        let count = reader.read(&mut buffer).map_err(|error| unreadable(error.into(), &blob))?;
        if count == 0 {
            ensure!(position == blob.size, unreadable(anyhow::anyhow!("it ends after {position} of {} bytes", blob.size), &blob));
            return Ok(());
        }
        buffer.truncate(count);
        let skip = offset.saturating_sub(position).min(count as u64);
        position += count as u64;
        let bytes = Bytes::from(buffer).slice(usize::try_from(skip).expect("it is within the buffer")..);
        if !bytes.is_empty() && sender.blocking_send(bytes).is_err() {
            return Ok(());
        }
    }
}

fn unreadable(error: anyhow::Error, blob: &Blob) -> anyhow::Error {
    match kind_of(&error) {
        Kind::Verification => error,
        _ => error.context(
            Failure::verification(format!("blob {} in the store cannot be read", blob.digest))
                .hint("`sealift fsck` lists damaged blobs; pull, load or build the image again"),
        ),
    }
}
