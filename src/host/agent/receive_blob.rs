//! Receives a blob into the host's store.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc::UnboundedReceiver;

use super::protocol::ChunkKind;
use super::server::Responder;
use crate::error::Failure;
use crate::image::Blob;
use crate::paths::STORE;
use crate::resource::System;
use crate::store::Store;

/// Writes the chunks of a blob from `offset` on as they arrive, and verifies the whole. What arrived is kept if the connection is
/// lost. Blocks.
///
/// # Errors
/// Of kind `Verification` if the digest does not match or the source is damaged; `Network` if the stream ends early.
pub fn receive(
    system: &System,
    blob: &Blob,
    offset: u64,
    mut chunks: UnboundedReceiver<(ChunkKind, Vec<u8>)>,
    responder: &Responder,
) -> Result<()> {
    let store = Store::open(&system.path(STORE))?;
    if store.has(blob) {
        return Ok(()); // another run has sent it meanwhile
    }
    let mut ingest = store.ingest(blob)?;
    if ingest.offset() != offset {
        return Err(Failure::network(format!(
            "blob {}: the host has {} bytes of it, not {offset}: another run sends it too",
            blob.digest,
            ingest.offset()
        ))
        .hint("run the same command again to resume")
        .into());
    }
    while let Some((kind, bytes)) = chunks.blocking_recv() {
        if kind == ChunkKind::Abort {
            ingest.restart()?;
            return Err(Failure::verification(format!("blob {}: damaged in the store it is sent from", blob.digest))
                .hint("run `sealift fsck` where you started the command")
                .into());
        }
        ingest.write_all(&bytes).with_context(|| format!("write blob {} to {STORE}", blob.digest))?;
        responder.bytes_written(bytes.len() as u64);
        if kind == ChunkKind::Last {
            return ingest.commit();
        }
    }
    Err(Failure::network(format!("blob {}: the transfer was cut off", blob.digest)).hint("run the same command again to resume").into())
}
