//! The local store: an OCI image layout directory with whole-or-nothing blobs, names under a lock, resumable downloads.
//!
//! ```text
//! oci-layout  index.json              names and what they point at
//! blobs/sha256/<hex>  blobs/sha512/…  blobs, whole and verified
//! ingest/<hex>.part  ingest/.new-*    downloads to go on with, blobs being written
//! ingest/<id>.upload                  uploads that the registry takes
//! checked/<hex>                       what was found out about a blob
//! lock  index.lock                    held by whoever uses blobs, changes names
//! ```
//!
//! Bytes that are not what their digest says are an error of kind `Verification` that names the blob, also when it comes
//! out of [`Read::read`] inside an I/O error.

mod blob;
mod chunk;
mod fsck;
mod graph;
mod ingest;
mod inspect;
mod layout;
mod lock;
mod partial;
mod prune;
mod referrers;
mod refs;
mod upload;
mod verification_cache;

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::error::Failure;
use crate::image::{Algorithm, Blob, Digest};

pub use blob::{BlobReader, BlobWriter};
pub use chunk::Chunk;
pub use fsck::Problem;
pub use graph::Node;
pub use ingest::Ingest;
pub use inspect::{InspectedImage, Workload};
pub use lock::SharedLock;
pub use prune::Pruned;
pub use referrers::is_referrer;
pub use refs::name_of;
pub use upload::Upload;

/// Documents (indexes, manifests, configs) are at most this many bytes.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// A local store, open.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store at `root`, making an empty one if there is none. A directory that is something else is refused.
    ///
    /// A store that may only be read can be opened too.
    pub fn open(root: &Path) -> Result<Store> {
        layout::open_or_make(root).with_context(|| format!("store {}", root.display()))?;
        Ok(Store { root: root.to_owned() })
    }

    /// The directory it is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that holds, or would hold, the blob.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.place())
    }

    /// The size of the blob if it is here (whole: a blob appears under its digest only when verified).
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.blob_path(digest)).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// Whether the blob is here with its size.
    pub fn has(&self, blob: &Blob) -> bool {
        self.size_of(&blob.digest) == Some(blob.size)
    }

    /// Opens a blob for reading. The reader verifies: reading to the end fails when the bytes do not match digest and size.
    pub fn reader(&self, blob: &Blob) -> Result<BlobReader> {
        BlobReader::open(&self.blob_path(&blob.digest), *blob)
    }

    /// Reads a small blob (a manifest, a config; at most [`MAX_DOCUMENT`] bytes), verified.
    pub fn read(&self, blob: &Blob) -> Result<Vec<u8>> {
        ensure!(
            blob.size <= MAX_DOCUMENT,
            Failure::verification(format!("blob {} is too large for a manifest or config: {} bytes, limit 4 MiB", blob.digest, blob.size))
        );
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size)?);
        self.reader(blob)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Fails where the store may only be read.
    fn ensure_writable(&self) -> Result<()> {
        let denied = |error| {
            Failure::failed(format!("store {} is not writable: {error}", self.root.display()))
                .hint("use a writable store with `--store DIR`; this one can still be read")
        };
        Ok(rustix::fs::access(&self.root, rustix::fs::Access::WRITE_OK).map_err(denied)?)
    }

    /// Fails unless the store's filesystem has room for so many bytes more; `purpose` says for what, `to pull`.
    pub fn ensure_room(&self, needed: u64, purpose: &str) -> Result<()> {
        let Ok(filesystem) = rustix::fs::statvfs(&self.root) else { return Ok(()) };
        let free = filesystem.f_bavail.saturating_mul(filesystem.f_frsize);
        let message = || {
            format!("not enough disk space in {}: {} MiB {purpose}, {} MiB free", self.root.display(), needed.div_ceil(1 << 20), free >> 20)
        };
        ensure!(needed <= free, Failure::failed(message()).hint("`sealift prune` frees space; `--store DIR` uses another disk"));
        Ok(())
    }

    /// Begins a blob whose digest is not known yet.
    pub fn writer(&self) -> Result<BlobWriter> {
        self.ensure_writable()?;
        BlobWriter::create(self)
    }

    /// Stores a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob::of(bytes);
        self.put_known(&blob, bytes)?;
        Ok(blob)
    }

    /// Stores a small blob whose digest is known; other bytes than its are an error of kind `Verification`.
    pub fn put_known(&self, blob: &Blob, bytes: &[u8]) -> Result<()> {
        if self.has(blob) {
            return Ok(());
        }
        if Blob::like(&blob.digest, bytes) != *blob {
            return Err(blob::damaged(blob).into());
        }
        self.ensure_writable()?;
        crate::atomic_file::write(&self.blob_path(&blob.digest), bytes, 0o644)
    }

    /// Begins or continues the download of a blob whose digest is known; what arrived earlier is kept and counted.
    ///
    /// Waits while another process downloads the same blob. An [`Ingest`] whose offset is the blob's size needs only
    /// [`Ingest::commit`].
    pub fn ingest(&self, blob: &Blob) -> Result<Ingest> {
        self.ensure_writable()?;
        Ingest::open(self, *blob)
    }

    /// How many bytes of an interrupted download are here; never changes the store.
    pub fn arrived(&self, blob: &Blob) -> u64 {
        let part = self.ingest_dir().join(format!("{}.part", blob.digest.hex()));
        std::fs::metadata(part).map_or(0, |meta| meta.len()).min(blob.size)
    }

    /// Where blobs are whose digests were computed so.
    fn blobs_dir(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.name())
    }

    fn ingest_dir(&self) -> PathBuf {
        self.root.join("ingest")
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }
}

#[cfg(test)]
mod tests;
