//! Downloads that survive: bytes of a blob whose digest is known, kept until they are whole.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::Store;
use super::blob::{damaged, wrong_size};
use super::partial::Partial;
use crate::image::Blob;

/// A download under way in `ingest/<digest>.part`, locked against other processes. Dropped, it stays for the next try.
pub struct Ingest {
    part: Partial,
    expected: Blob,
    /// The whole blob is in its place already: another process was faster.
    whole: bool,
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
        // more than the blob has is no start of it
        if part.offset() > expected.size {
            part.restart()?;
        }
        Ok(Ingest { part, expected, whole: store.has(&expected), target: store.blob_path(&expected.digest) })
    }

    /// Bytes here already: where to go on.
    pub fn offset(&self) -> u64 {
        if self.whole { self.expected.size } else { self.part.offset() }
    }

    /// Throws away what is here: the other end could not go on from [`Ingest::offset`].
    pub fn restart(&mut self) -> Result<()> {
        self.whole = false;
        self.part.restart()
    }

    /// Verifies and moves the blob to its place. A wrong digest or size throws the bytes away and is an error of kind
    /// `Verification` that names the blob.
    pub fn commit(self) -> Result<()> {
        let Ingest { part, expected, whole, target } = self;
        if whole {
            return part.throw_away();
        }
        let place = |found: &Blob| match found.size {
            size if size != expected.size => bail!(wrong_size(&expected, size)),
            _ if found.digest != expected.digest => bail!(damaged(&expected)),
            _ => Ok(target),
        };
        part.finish(place).map(drop)
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let total = self.offset() + bytes.len() as u64;
        if total > self.expected.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, wrong_size(&self.expected, total)));
        }
        self.part.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.part.flush()
    }
}
