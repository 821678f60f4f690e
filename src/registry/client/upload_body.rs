//! A blob of the store as bodies of requests: read once, in order, verified on the way.

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
use super::transfer::{CHUNK, Meter, QUEUE};
use crate::error::{Failure, Kind, kind_of};
use crate::image::Blob;
use crate::store::Store;

/// A blob that is being read by a thread of its own.
pub struct UploadBody {
    pieces: Arc<Mutex<Pieces>>,
    reader: Option<JoinHandle<Result<()>>>,
}

struct Pieces {
    queue: mpsc::Receiver<Bytes>,
    left: Bytes,
}

/// The body of one request.
pub struct Part {
    /// What is sent.
    pub stream: Body,
    taken: Arc<AtomicU64>,
}

impl Part {
    /// Bytes that the connection has taken so far.
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.taken.clone()
    }
}

impl UploadBody {
    /// Reads the blob from byte `offset`; what is before is read too, for the digest.
    pub fn open(store: &Store, blob: Blob, offset: u64) -> UploadBody {
        let (sender, queue) = mpsc::channel(QUEUE);
        let store = store.clone();
        let reader = spawn_blocking(move || read(&store, blob, offset, &sender));
        UploadBody { pieces: Arc::new(Mutex::new(Pieces { queue, left: Bytes::new() })), reader: Some(reader) }
    }

    /// The next `length` bytes as a body. Beats `pulse` and moves `meter` as they are taken.
    pub fn body(&mut self, from: u64, length: u64, meter: &Arc<Meter>, pulse: &IdleTimeout) -> Part {
        let taken = Arc::new(AtomicU64::new(0));
        let state = (self.pieces.clone(), taken.clone(), meter.clone(), pulse.clone());
        let pieces = stream::try_unfold(state, move |(pieces, taken, meter, pulse)| async move {
            let so_far = taken.load(Ordering::Relaxed);
            let Some(bytes) = pieces.lock().await.next(length - so_far).await? else { return Ok::<_, std::io::Error>(None) };
            let now = taken.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
            pulse.beat();
            meter.reach(from + now);
            Ok(Some((bytes, (pieces, taken, meter, pulse))))
        });
        Part { stream: Body::wrap_stream(pieces), taken }
    }

    /// Waits for the reader's verdict: the blob was read to its end and is what its digest says.
    pub async fn finish(&mut self) -> Result<()> {
        match self.reader.take() {
            Some(reader) => reader.await.context("the reader of a blob")?,
            None => Ok(()),
        }
    }

    /// Why the reader has given up, if it has.
    pub async fn failure(&mut self) -> Option<anyhow::Error> {
        // a reader that waits for its queue would never end: close it first
        self.pieces.lock().await.queue.close();
        self.finish().await.err()
    }
}

impl Pieces {
    /// The next bytes, at most `limit`; nothing at the limit.
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

/// Reads the blob to its end, hands on what is from `offset`. A receiver that went away is no error.
fn read(store: &Store, blob: Blob, offset: u64, sender: &mpsc::Sender<Bytes>) -> Result<()> {
    let mut reader = store.reader(&blob)?;
    let mut place = 0;
    loop {
        let mut buffer = vec![0; CHUNK];
        let count = reader.read(&mut buffer).map_err(|error| broken(error.into(), &blob))?;
        if count == 0 {
            ensure!(place == blob.size, broken(anyhow::anyhow!("it ends after {place} of {} bytes", blob.size), &blob));
            return Ok(());
        }
        buffer.truncate(count);
        let skip = offset.saturating_sub(place).min(count as u64);
        place += count as u64;
        let bytes = Bytes::from(buffer).slice(usize::try_from(skip).expect("it is within the buffer")..);
        if !bytes.is_empty() && sender.blocking_send(bytes).is_err() {
            return Ok(());
        }
    }
}

fn broken(error: anyhow::Error, blob: &Blob) -> anyhow::Error {
    match kind_of(&error) {
        Kind::Verification => error,
        _ => error.context(
            Failure::verification(format!("blob {} in the store cannot be read", blob.digest))
                .hint("`sealift fsck` lists damaged blobs; pull, load or build the image again"),
        ),
    }
}
