//! The local image store: an OCI image layout directory with atomic blobs, locked references and resumable downloads.
//!
//! ```text
//! oci-layout  index.json              references, and the descriptors that they point at
//! blobs/sha256/<hex>  blobs/sha512/…  blobs, complete and verified
//! ingest/<hex>.part  ingest/.new-*    downloads to resume, blobs being written
//! ingest/<hex>.<start>-<end>.piece    chunks of blobs that come in several parts
//! ingest/<id>.upload                  uploads to the registry server
//! checked/<hex>                       cached results of verifying a blob
//! lock  index.lock                    locks: users of blobs, writers of index.json
//! ```
//!
//! A blob that does not match its digest is an error of kind `Verification` that names it, also when [`Read::read`] returns it as
//! an I/O error.

mod blob;
mod chunk;
mod fsck;
mod graph;
mod ingest;
mod inspect;
mod layout;
mod lock;
mod lock_holders;
mod partial;
mod prune;
mod referrers;
mod refs;
mod upload_session;
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
pub use referrers::{belongs_to_image, is_referrer};
pub use refs::ref_name;
pub use upload_session::Upload;

/// The limit for indexes, manifests and configs, in bytes: 4 MiB, as registries have it.
pub const MAX_MANIFEST_SIZE: u64 = 4 << 20;

/// An open local store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store at `root`, creating an empty one if the directory is missing or empty. Any other directory is refused.
    ///
    /// A read-only store can be opened too.
    pub fn open(root: &Path) -> Result<Store> {
        layout::open_or_create(root).with_context(|| format!("store {}", root.display()))?;
        Ok(Store { root: root.to_owned() })
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a blob's file, whether it exists or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.blob_path())
    }

    /// The size of a blob in bytes; `None` if it is not in the store.
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.blob_path(digest)).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// Whether the blob is in the store, with this size.
    pub fn has(&self, blob: &Blob) -> bool {
        self.size_of(&blob.digest) == Some(blob.size)
    }

    /// Opens a blob for reading. The read that reaches the end fails if the content does not match digest and size.
    pub fn reader(&self, blob: &Blob) -> Result<BlobReader> {
        BlobReader::open(&self.blob_path(&blob.digest), *blob)
    }

    /// Reads a small blob (a manifest, a config; at most [`MAX_MANIFEST_SIZE`] bytes), verified.
    pub fn read(&self, blob: &Blob) -> Result<Vec<u8>> {
        ensure!(
            blob.size <= MAX_MANIFEST_SIZE,
            Failure::verification(format!("blob {} is too large for a manifest or config: {} bytes, limit 4 MiB", blob.digest, blob.size))
        );
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size)?);
        self.reader(blob)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Fails if the store is read-only.
    fn ensure_writable(&self) -> Result<()> {
        let denied = |error| {
            Failure::failed(format!("store {} is not writable: {error}", self.root.display()))
                .hint("use a writable store with `--store DIR`; this one can still be read")
        };
        Ok(rustix::fs::access(&self.root, rustix::fs::Access::WRITE_OK).map_err(denied)?)
    }

    /// Fails unless the store's filesystem has `needed` bytes free; `purpose` is for the message: `to pull`.
    pub fn ensure_disk_space(&self, needed: u64, purpose: &str) -> Result<()> {
        let Ok(filesystem) = rustix::fs::statvfs(&self.root) else { return Ok(()) };
        let free = filesystem.f_bavail.saturating_mul(filesystem.f_frsize);
        let message = || {
            format!("not enough disk space in {}: {} MiB {purpose}, {} MiB free", self.root.display(), needed.div_ceil(1 << 20), free >> 20)
        };
        ensure!(needed <= free, Failure::failed(message()).hint("`sealift prune` frees space; `--store DIR` uses another disk"));
        Ok(())
    }

    /// Begins a new blob whose digest is not known yet.
    pub fn writer(&self) -> Result<BlobWriter> {
        self.ensure_writable()?;
        BlobWriter::create(self)
    }

    /// Stores a small blob and returns its sha256 digest and size.
    pub fn put(&self, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob::of(bytes);
        self.put_verified(&blob, bytes)?;
        Ok(blob)
    }

    /// Stores a small blob whose digest is known; a mismatch is an error of kind `Verification`.
    pub fn put_verified(&self, blob: &Blob, bytes: &[u8]) -> Result<()> {
        if self.has(blob) {
            return Ok(());
        }
        if Blob::with_algorithm_of(&blob.digest, bytes) != *blob {
            return Err(blob::digest_mismatch(blob).into());
        }
        self.ensure_writable()?;
        crate::atomic_file::write(&self.blob_path(&blob.digest), bytes, 0o644)
    }

    /// Begins or resumes the download of a blob whose digest is known.
    ///
    /// Waits while another process downloads the same blob. An [`Ingest`] whose offset is the blob's size needs only
    /// [`Ingest::commit`].
    pub fn ingest(&self, blob: &Blob) -> Result<Ingest> {
        self.ensure_writable()?;
        Ingest::open(self, *blob)
    }

    /// The bytes of an interrupted download of a blob; 0 if there is none. Never changes the store.
    pub fn partial_size(&self, blob: &Blob) -> u64 {
        let part = self.ingest_dir().join(format!("{}.part", blob.digest.hex()));
        std::fs::metadata(part).map_or(0, |meta| meta.len()).min(blob.size)
    }

    /// The directory of blobs with digests of this algorithm.
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
