//! Sends a blob to an agent.

use std::io::Read;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::mpsc;

use super::client::{Call, Client};
use super::protocol::{CHUNK, ChunkKind, Event, Request, WINDOW};
use crate::error::Failure;
use crate::events::Task;
use crate::image::Blob;
use crate::store::{BlobReader, Store};

/// Sends a blob from `offset` on; reads and verifies the next chunks meanwhile. `task` counts written bytes.
pub async fn send(client: &Client, blob: &Blob, offset: u64, from: &Store, task: &Task) -> Result<()> {
    let (chunks, mut chunks_read) = mpsc::channel(4);
    let (store, requested) = (from.clone(), *blob);
    let reader = tokio::task::spawn_blocking(move || read(&store, &requested, offset, &chunks));
    let mut call = client.call(Request::ReceiveBlob { blob: *blob, offset }).await?;
    let mut in_flight = 0;
    let mut last = Vec::new();
    // one chunk is held back: whether it is the last is known only when the source is read and verified
    while let Some(chunk) = chunks_read.recv().await {
        let chunk = std::mem::replace(&mut last, chunk);
        if !chunk.is_empty() {
            send_chunk(&mut call, ChunkKind::Middle, chunk, &mut in_flight, task).await?;
        }
    }
    if let Err(error) = reader.await.unwrap_or_else(|error| Err(anyhow!("read blob {}: {error}", blob.digest))) {
        call.send(Request::Data(ChunkKind::Abort), Vec::new()).await?;
        return Err(error);
    }
    send_chunk(&mut call, ChunkKind::Last, last, &mut in_flight, task).await?;
    loop {
        if receive_event(&mut call, &mut in_flight, task).await? {
            return Ok(());
        }
    }
}

/// Sends a chunk as soon as the window has space for it.
async fn send_chunk(call: &mut Call<'_>, kind: ChunkKind, chunk: Vec<u8>, in_flight: &mut u64, task: &Task) -> Result<()> {
    while *in_flight + chunk.len() as u64 > WINDOW {
        if receive_event(call, in_flight, task).await? {
            return Err(Failure::network("the host ended the transfer early").hint("run the same command again to resume").into());
        }
    }
    *in_flight += chunk.len() as u64;
    call.send(Request::Data(kind), chunk).await
}

/// Waits for one event of the transfer, and returns whether that is done.
async fn receive_event(call: &mut Call<'_>, in_flight: &mut u64, task: &Task) -> Result<bool> {
    match call.next().await? {
        (Event::BytesWritten(bytes), _) => {
            *in_flight = in_flight.saturating_sub(bytes);
            task.advance(bytes);
            Ok(false)
        }
        (Event::Done(_), _) => Ok(true),
        _ => Ok(false),
    }
}

/// Reads the whole blob, which verifies it, and passes on the chunks after `offset`. Blocks.
fn read(store: &Store, blob: &Blob, offset: u64, chunks: &mpsc::Sender<Vec<u8>>) -> Result<()> {
    let source = || format!("local store {}", store.root().display());
    let mut reader: BlobReader = store.reader(blob).with_context(source)?;
    std::io::copy(&mut (&mut reader).take(offset), &mut std::io::sink()).with_context(source)?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        (&mut reader).take(CHUNK as u64).read_to_end(&mut chunk).with_context(source)?;
        if chunk.is_empty() || chunks.blocking_send(chunk).is_err() {
            return Ok(());
        }
    }
}
