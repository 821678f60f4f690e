//! Reads a blob and verifies its digest, or writes a new blob and computes its digest.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

use super::Store;
use crate::atomic_file;
use crate::error::Failure;
use crate::image::{Algorithm, Blob, Hasher};

/// Reads a blob and verifies it on the way: [`Read::read`] fails at the end if digest or size are wrong.
pub struct BlobReader {
    file: File,
    expected: Blob,
    hasher: Option<Hasher<io::Sink>>,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader").field("blob", &self.expected).finish_non_exhaustive()
    }
}

impl BlobReader {
    pub(super) fn open(path: &Path, expected: Blob) -> Result<Self> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow::Error::from(missing(&expected)),
            _ => anyhow::Error::from(error).context(path.display().to_string()),
        })?;
        let found = file.metadata().with_context(|| path.display().to_string())?.len();
        if found != expected.size {
            return Err(size_mismatch(&expected, found).into());
        }
        Ok(BlobReader { file, expected, hasher: Some(Hasher::with_algorithm(expected.digest.algorithm(), io::sink())) })
    }

    fn verify(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let (found, _) = hasher.finish();
        if found.size != self.expected.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, size_mismatch(&self.expected, found.size)));
        }
        if found.digest != self.expected.digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, digest_mismatch(&self.expected)));
        }
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        match &mut self.hasher {
            Some(hasher) if count > 0 => hasher.update(&into[..count]),
            _ if into.is_empty() => {}
            _ => self.verify()?,
        }
        Ok(count)
    }
}

pub(super) fn missing(blob: &Blob) -> Failure {
    Failure::verification(format!("blob {} is not in the store", blob.digest)).hint("pull, load or build the image again")
}

pub(super) fn digest_mismatch(blob: &Blob) -> Failure {
    Failure::verification(format!("blob {} is damaged: its content does not match the digest", blob.digest))
        .hint("`sealift fsck` checks the whole store")
}

pub(super) fn size_mismatch(blob: &Blob, found: u64) -> Failure {
    Failure::verification(format!("blob {} is damaged: {found} bytes, expected {}", blob.digest, blob.size))
        .hint("`sealift fsck` checks the whole store")
}

/// Turns an error of writing into `dir` into one with a hint if the disk is full.
pub(super) fn write_error(dir: &Path, error: io::Error) -> io::Error {
    if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return error;
    }
    let failure = Failure::failed(format!("no disk space for blobs in {}: {error}", dir.display()))
        .hint("`sealift prune` frees space; `--store DIR` uses another disk");
    io::Error::new(error.kind(), failure)
}

/// Writes a new blob into a temporary file. It appears in the store with [`BlobWriter::commit`]; dropping it deletes the file.
pub struct BlobWriter {
    out: Hasher<BufWriter<NamedTempFile>>,
    blobs: PathBuf,
}

impl std::fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobWriter").field("written", &self.out.written()).finish_non_exhaustive()
    }
}

impl BlobWriter {
    pub(super) fn create(store: &Store) -> Result<Self> {
        let dir = store.ingest_dir();
        fs_err::create_dir_all(&dir)?;
        let file = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(&dir)
            .with_context(|| dir.display().to_string())?;
        Ok(BlobWriter { out: Hasher::new(BufWriter::with_capacity(256 << 10, file)), blobs: store.blobs_dir(Algorithm::Sha256) })
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.out.written()
    }

    /// Syncs the blob, moves it to its place and returns its digest (sha256) and size in bytes.
    pub fn commit(self) -> Result<Blob> {
        let (blob, out) = self.out.finish();
        let full = |error| write_error(&self.blobs, error);
        let file = out.into_inner().map_err(|error| full(error.into_error())).with_context(|| format!("write blob {}", blob.digest))?;
        file.as_file().sync_all().map_err(full).with_context(|| format!("write blob {}", blob.digest))?;
        // other users of the store may read it, as they may read what `put` writes
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        let path = self.blobs.join(blob.digest.hex());
        file.persist(&path).map_err(|error| error.error).with_context(|| path.display().to_string())?;
        atomic_file::sync_dir(&self.blobs)?;
        Ok(blob)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| write_error(&self.blobs, error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
