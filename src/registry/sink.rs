//! Writes async data on a thread of its own, so that network and disk work at the same time.

use std::io::Write;

use anyhow::Result;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

/// The sending end of a queue to a writer thread. After a drop the thread writes what is queued, and ends.
pub struct Sink<W> {
    sender: mpsc::Sender<Bytes>,
    writer: JoinHandle<Result<W>>,
}

impl<W: Write + Send + 'static> Sink<W> {
    /// Starts a thread for `writer`, with a queue of at most `queue` buffers.
    pub fn new(mut writer: W, queue: usize) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Bytes>(queue);
        let writer = spawn_blocking(move || {
            while let Some(bytes) = receiver.blocking_recv() {
                writer.write_all(&bytes)?;
            }
            writer.flush()?;
            Ok(writer)
        });
        Sink { sender, writer }
    }

    /// Queues the next bytes; returns whether the writer still accepts any. If not, [`Sink::finish`] returns the error.
    pub async fn send(&self, bytes: Bytes) -> bool {
        self.sender.send(bytes).await.is_ok()
    }

    /// Waits until everything is written and flushed, and returns the writer.
    pub async fn finish(self) -> Result<W> {
        drop(self.sender);
        self.writer.await?
    }
}
