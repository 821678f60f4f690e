//! Resumable uploads to the registry server: blobs whose digest the client sends at the end.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use rand::Rng as _;

use super::Store;
use super::partial::Partial;
use crate::error::Failure;
use crate::image::{Algorithm, Blob, Digest};

/// An upload in `ingest/<id>.upload`, locked against other processes. Dropping it keeps the file, to be resumed; `prune` deletes it.
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
    /// Starts an upload and returns its id: 32 hex digits.
    pub fn start_upload(&self) -> Result<(String, Upload)> {
        fs_err::create_dir_all(self.ingest_dir())?;
        let id = hex::encode(rand::rng().random::<[u8; 16]>());
        let upload = self.open_upload(&id)?;
        Ok((id, upload))
    }

    /// Resumes an upload, also one of another process; `None` if the id is unknown.
    pub fn resume_upload(&self, id: &str) -> Result<Option<Upload>> {
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
    /// Bytes received so far.
    pub fn offset(&self) -> u64 {
        self.part.offset()
    }

    /// Verifies the blob and moves it to its place. Another digest than `expected` discards it and is an error of kind `Verification`.
    pub fn commit(self, expected: &Digest) -> Result<Blob> {
        let blobs = self.blobs;
        // the algorithm is known only now: another than sha256 reads the file a second time
        self.part.rehash_with(expected.algorithm())?.finish(|found| {
            if found.digest != *expected {
                bail!(Failure::verification(format!("the uploaded bytes have digest {}, expected {expected}", found.digest)));
            }
            Ok(blobs.join(expected.blob_path()))
        })
    }

    /// Deletes the upload.
    pub fn cancel(self) -> Result<()> {
        self.part.discard()
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
