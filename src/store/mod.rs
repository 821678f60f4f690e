//! The local store: an OCI image layout directory with whole-or-nothing blobs, names under a lock, resumable downloads.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use oci_spec::image::Descriptor;

use crate::image::{Blob, Digest, Name};

/// A local store, open.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// While it lives, `prune` by another process waits, so nothing that is being put together is deleted.
#[derive(Debug)]
pub struct InUse {}

impl Store {
    /// Opens the store at `root`, making an empty one if there is none. A directory that is something else is refused.
    pub fn open(root: &Path) -> Result<Store> {
        Ok(Store { root: root.to_owned() })
    }

    /// The directory it is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Holds off `prune`. Every command that adds or reads blobs holds it while it runs.
    pub fn in_use(&self) -> Result<InUse> {
        unimplemented!()
    }

    /// The size of the blob if it is here (whole: a blob appears under its digest only when verified).
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        unimplemented!("{digest}")
    }

    /// Whether the blob is here with its size.
    pub fn has(&self, blob: &Blob) -> bool {
        self.size_of(&blob.digest) == Some(blob.size)
    }

    /// Opens a blob for reading. The reader verifies: reading to the end fails when the bytes do not match digest and size.
    pub fn reader(&self, blob: &Blob) -> Result<BlobReader> {
        unimplemented!("{blob:?}")
    }

    /// Reads a small blob (a manifest, a config; at most 4 MiB), verified.
    pub fn read(&self, blob: &Blob) -> Result<Vec<u8>> {
        unimplemented!("{blob:?}")
    }

    /// Begins a blob whose digest is not known yet.
    pub fn writer(&self) -> Result<BlobWriter> {
        unimplemented!()
    }

    /// Stores a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Blob> {
        unimplemented!("{}", bytes.len())
    }

    /// Begins or continues the download of a blob whose digest is known; what arrived earlier is kept and counted.
    pub fn ingest(&self, blob: &Blob) -> Result<Ingest> {
        unimplemented!("{blob:?}")
    }

    /// What a name points at.
    pub fn resolve(&self, name: &Name) -> Result<Option<Descriptor>> {
        unimplemented!("{name}")
    }

    /// Points a name at a document that is in the store.
    pub fn tag(&self, name: &Name, descriptor: &Descriptor) -> Result<()> {
        unimplemented!("{name} {descriptor:?}")
    }

    /// Removes a name; whether it was there. Blobs stay until `prune`.
    pub fn untag(&self, name: &Name) -> Result<bool> {
        unimplemented!("{name}")
    }

    /// All names, sorted.
    pub fn names(&self) -> Result<Vec<(Name, Descriptor)>> {
        unimplemented!()
    }
}

/// Reads a blob and verifies it on the way: [`Read::read`] fails at the end if digest or size are wrong.
#[derive(Debug)]
pub struct BlobReader {}

impl Read for BlobReader {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        unimplemented!()
    }
}

/// Writes a new blob. Nothing is seen of it before [`BlobWriter::commit`]; dropped, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {}

impl BlobWriter {
    /// Ends the blob and gives its digest and size.
    pub fn commit(self) -> Result<Blob> {
        unimplemented!()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        unimplemented!()
    }

    fn flush(&mut self) -> std::io::Result<()> {
        unimplemented!()
    }
}

/// A download under way in `ingest/<digest>.part`, locked against other processes. Dropped, it stays for the next try.
#[derive(Debug)]
pub struct Ingest {}

impl Ingest {
    /// Bytes here already: where to go on.
    pub fn offset(&self) -> u64 {
        unimplemented!()
    }

    /// Throws away what is here: the other end could not go on from [`Ingest::offset`].
    pub fn restart(&mut self) -> Result<()> {
        unimplemented!()
    }

    /// Verifies and moves the blob to its place. A wrong digest or size throws the bytes away and is an error of kind
    /// `Verification` that names the blob.
    pub fn commit(self) -> Result<()> {
        unimplemented!()
    }
}

impl Write for Ingest {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        unimplemented!()
    }

    fn flush(&mut self) -> std::io::Result<()> {
        unimplemented!()
    }
}
