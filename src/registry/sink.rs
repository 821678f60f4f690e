//! From the network to the disk: async code feeds a writer that works on a thread of its own, so that both work at once.

use std::io::Write;

use anyhow::Result;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

/// A writer that is being fed. Dropped, it writes what it has, and ends.
pub struct Sink<W> {
    sender: mpsc::Sender<Bytes>,
    writer: JoinHandle<Result<W>>,
}

impl<W: Write + Send + 'static> Sink<W> {
    /// Feeds `writer`; at most `queue` pieces wait for it.
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

    /// Hands on the next bytes; whether the writer still takes any. If not, [`Sink::end`] says why.
    pub async fn put(&self, bytes: Bytes) -> bool {
        self.sender.send(bytes).await.is_ok()
    }

    /// Waits until all is written, and gives the writer back.
    pub async fn end(self) -> Result<W> {
        drop(self.sender);
        self.writer.await?
    }
}
