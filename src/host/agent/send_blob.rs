//! The runner sends a blob.

use std::io::Read;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::mpsc;

use super::client::{Call, Client};
use super::protocol::{CHUNK, Chunk, Event, Request, WINDOW};
use crate::error::Failure;
use crate::events::Task;
use crate::image::Blob;
use crate::store::{BlobReader, Store};

/// Sends a blob from `offset` on. Bytes are read, and verified, while earlier ones are under way.
pub async fn send(link: &Client, blob: &Blob, offset: u64, from: &Store, task: &Task) -> Result<()> {
    let (chunks, mut ready) = mpsc::channel(4);
    let (store, wanted) = (from.clone(), *blob);
    let reader = tokio::task::spawn_blocking(move || read(&store, &wanted, offset, &chunks));
    let mut call = link.call(Request::Receive { blob: *blob, offset }).await?;
    let mut under_way = 0;
    let mut last = Vec::new();
    // one chunk is held back, so that the last one can say that it is the last: only then is the source verified
    while let Some(chunk) = ready.recv().await {
        let chunk = std::mem::replace(&mut last, chunk);
        if !chunk.is_empty() {
            push(&mut call, Chunk::Middle, chunk, &mut under_way, task).await?;
        }
    }
    if let Err(error) = reader.await.unwrap_or_else(|error| Err(anyhow!("read blob {}: {error}", blob.digest))) {
        call.send(Request::Data(Chunk::Worthless), Vec::new()).await?;
        return Err(error);
    }
    push(&mut call, Chunk::Last, last, &mut under_way, task).await?;
    loop {
        if hear(&mut call, &mut under_way, task).await? {
            return Ok(());
        }
    }
}

/// Sends a piece once there is room in the window.
async fn push(call: &mut Call<'_>, piece: Chunk, chunk: Vec<u8>, under_way: &mut u64, task: &Task) -> Result<()> {
    while *under_way + chunk.len() as u64 > WINDOW {
        if hear(call, under_way, task).await? {
            return Err(Failure::network("the host ended a transfer early").into());
        }
    }
    *under_way += chunk.len() as u64;
    call.send(Request::Data(piece), chunk).await
}

/// Hears one thing about the transfer; whether it is done.
async fn hear(call: &mut Call<'_>, under_way: &mut u64, task: &Task) -> Result<bool> {
    match call.next().await? {
        (Event::Took(bytes), _) => {
            *under_way = under_way.saturating_sub(bytes);
            task.advance(bytes);
            Ok(false)
        }
        (Event::Done(_), _) => Ok(true),
        _ => Ok(false),
    }
}

/// Reads the blob in chunks and hands over those after `offset`. Blocks.
fn read(store: &Store, blob: &Blob, offset: u64, chunks: &mpsc::Sender<Vec<u8>>) -> Result<()> {
    let place = || format!("local store {}", store.root().display());
    let mut reader: BlobReader = store.reader(blob).with_context(place)?;
    std::io::copy(&mut (&mut reader).take(offset), &mut std::io::sink()).with_context(place)?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        (&mut reader).take(CHUNK as u64).read_to_end(&mut chunk).with_context(place)?;
        if chunk.is_empty() || chunks.blocking_send(chunk).is_err() {
            return Ok(());
        }
    }
}
