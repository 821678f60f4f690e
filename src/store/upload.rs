//! Uploads that survive: bytes of a blob whose digest is told at the end, as a registry takes them.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use rand::Rng as _;

use super::Store;
use super::partial::Partial;
use crate::error::Failure;
use crate::image::{Algorithm, Blob, Digest};

/// An upload under way in `ingest/<id>.upload`, locked against other processes. Dropped, it stays for the next go; `prune` removes it.
pub struct Upload {
    part: Partial,
    blobs: PathBuf,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("offset", &self.offset()).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins an upload; its id.
    pub fn begin_upload(&self) -> Result<(String, Upload)> {
        fs_err::create_dir_all(self.ingest_dir())?;
        let id = hex::encode(rand::rng().random::<[u8; 16]>());
        let upload = self.open_upload(&id)?;
        Ok((id, upload))
    }

    /// Goes on with an upload, in another process too; `None` if there is no such.
    pub fn upload(&self, id: &str) -> Result<Option<Upload>> {
        let known = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && self.upload_path(id).exists();
        known.then(|| self.open_upload(id)).transpose()
    }

    fn open_upload(&self, id: &str) -> Result<Upload> {
        Ok(Upload { part: Partial::open(self.upload_path(id), Algorithm::Sha256)?, blobs: self.root.join("blobs") })
    }

    fn upload_path(&self, id: &str) -> PathBuf {
        self.ingest_dir().join(format!("{id}.upload"))
    }
}

impl Upload {
    /// Bytes here already.
    pub fn offset(&self) -> u64 {
        self.part.offset()
    }

    /// Moves the blob to its place. Another digest than `expected` throws the bytes away and is an error of kind `Verification`.
    pub fn commit(self, expected: &Digest) -> Result<Blob> {
        let blobs = self.blobs;
        // nobody told beforehand: other digests than the usual ones cost a second look
        self.part.hashed_by(expected.algorithm())?.finish(|found| {
            if found.digest != *expected {
                bail!(Failure::verification(format!("the uploaded bytes have digest {}, expected {expected}", found.digest)));
            }
            Ok(blobs.join(expected.place()))
        })
    }

    /// Removes it with what came.
    pub fn cancel(self) -> Result<()> {
        self.part.throw_away()
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.part.flush()
    }
}
