//! The agent takes a blob into the host's store.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc::UnboundedReceiver;

use super::protocol::Chunk;
use super::server::Responder;
use crate::error::Failure;
use crate::image::Blob;
use crate::paths::STORE;
use crate::resource::System;
use crate::store::Store;

/// Writes the pieces of a blob as they come, from `offset` on, and verifies the whole. What arrived is kept when the stream
/// breaks off. Blocks.
pub fn receive(
    system: &System,
    blob: &Blob,
    offset: u64,
    mut pieces: UnboundedReceiver<(Chunk, Vec<u8>)>,
    speaker: &Responder,
) -> Result<()> {
    let store = Store::open(&system.path(STORE))?;
    if store.has(blob) {
        return Ok(()); // another runner was faster
    }
    let mut ingest = store.ingest(blob)?;
    if ingest.offset() != offset {
        return Err(Failure::network(format!("blob {}: {} bytes are here, not {offset}", blob.digest, ingest.offset())).into());
    }
    while let Some((piece, bytes)) = pieces.blocking_recv() {
        if piece == Chunk::Worthless {
            ingest.restart()?;
            return Err(Failure::verification(format!("blob {}: damaged at its source", blob.digest)).into());
        }
        ingest.write_all(&bytes).with_context(|| format!("write blob {} to {}", blob.digest, STORE))?;
        speaker.took(bytes.len() as u64);
        if piece == Chunk::Last {
            return ingest.commit();
        }
    }
    Err(Failure::network(format!("blob {}: broken off", blob.digest)).into())
}
