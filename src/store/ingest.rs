//! Resumable downloads of blobs whose digest is known.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::Store;
use super::blob::{digest_mismatch, size_mismatch};
use super::partial::Partial;
use crate::image::Blob;

/// A download in `ingest/<digest>.part`, locked against other processes. Dropping it keeps the file, to be resumed.
pub struct Ingest {
    part: Partial,
    expected: Blob,
    /// The blob is in the store already: another process was faster.
    complete: bool,
    target: PathBuf,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("blob", &self.expected).field("offset", &self.offset()).finish_non_exhaustive()
    }
}

impl Ingest {
    pub(super) fn open(store: &Store, expected: Blob) -> Result<Self> {
        fs_err::create_dir_all(store.ingest_dir())?;
        let mut part = Partial::open(store.ingest_dir().join(format!("{}.part", expected.digest.hex())), expected.digest.algorithm())?;
        // more bytes than the blob has cannot be its beginning
        if part.offset() > expected.size {
            part.restart()?;
        }
        Ok(Ingest { part, expected, complete: store.has(&expected), target: store.blob_path(&expected.digest) })
    }

    /// Bytes received so far: where to resume.
    pub fn offset(&self) -> u64 {
        if self.complete { self.expected.size } else { self.part.offset() }
    }

    /// Discards the bytes received so far, for a source that cannot resume at [`Ingest::offset`].
    pub fn restart(&mut self) -> Result<()> {
        self.complete = false;
        self.part.restart()
    }

    /// Verifies the blob and moves it to its place. A wrong digest or size discards the bytes and is an error of kind `Verification`.
    pub fn commit(self) -> Result<()> {
        let Ingest { part, expected, complete, target } = self;
        if complete {
            return part.discard();
        }
        let place = |found: &Blob| match found.size {
            size if size != expected.size => bail!(size_mismatch(&expected, size)),
            _ if found.digest != expected.digest => bail!(digest_mismatch(&expected)),
            _ => Ok(target),
        };
        part.finish(place).map(drop)
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let total = self.offset() + bytes.len() as u64;
        if total > self.expected.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, size_mismatch(&self.expected, total)));
        }
        self.part.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.part.flush()
    }
}
