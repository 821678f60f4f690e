//! Chunks of a blob that arrive in any order, for example on several disks: stored in `ingest/` until the blob is complete.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

use super::Store;
use super::blob::write_error;
use crate::image::Blob;

/// A chunk that is being written. It appears in the store with [`Chunk::commit`]; dropping it deletes the file.
pub struct Chunk {
    file: NamedTempFile,
    path: PathBuf,
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunk").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins the chunk of a blob that has this range of its bytes.
    pub fn chunk(&self, blob: &Blob, range: &Range<u64>) -> Result<Chunk> {
        self.ensure_writable()?;
        let dir = self.ingest_dir();
        fs_err::create_dir_all(&dir)?;
        let file = tempfile::Builder::new().prefix(".new-").tempfile_in(&dir).with_context(|| dir.display().to_string())?;
        Ok(Chunk { file, path: self.chunk_path(blob, range) })
    }

    /// Whether the chunk of a blob with this range of its bytes is in the store.
    pub fn has_chunk(&self, blob: &Blob, range: &Range<u64>) -> bool {
        std::fs::metadata(self.chunk_path(blob, range)).is_ok_and(|found| found.len() == range.end - range.start)
    }

    /// Reads chunks of a blob one after the other. A missing chunk is an error.
    pub fn read_chunks(&self, blob: &Blob, ranges: &[Range<u64>]) -> Result<impl Read + use<>> {
        let open = |range| {
            let path = self.chunk_path(blob, range);
            File::open(&path).with_context(|| path.display().to_string())
        };
        let files = ranges.iter().map(open).collect::<Result<Vec<_>>>()?;
        Ok(files.into_iter().fold(Box::new(io::empty()) as Box<dyn Read>, |before, file| Box::new(before.chain(file))))
    }

    /// Joins all chunks of a blob, verifies it, and deletes the chunks, also when the blob does not match its digest: that is an error
    /// of kind `Verification`.
    pub fn join_chunks(&self, blob: &Blob, ranges: &[Range<u64>]) -> Result<()> {
        let mut ingest = self.ingest(blob)?;
        ingest.restart()?;
        io::copy(&mut self.read_chunks(blob, ranges)?, &mut ingest).with_context(|| format!("blob {}", blob.digest))?;
        let joined = ingest.commit();
        self.remove_chunks(blob, ranges)?;
        joined
    }

    /// Deletes chunks; those that are missing are skipped.
    pub fn remove_chunks(&self, blob: &Blob, ranges: &[Range<u64>]) -> Result<()> {
        for range in ranges {
            match std::fs::remove_file(self.chunk_path(blob, range)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).context(format!("blob {}", blob.digest)),
                _ => {}
            }
        }
        Ok(())
    }

    fn chunk_path(&self, blob: &Blob, range: &Range<u64>) -> PathBuf {
        self.ingest_dir().join(format!("{}.{}-{}.piece", blob.digest.hex(), range.start, range.end))
    }
}

impl Chunk {
    /// Syncs the chunk and moves it to its place.
    pub fn commit(self) -> Result<()> {
        self.file.as_file().sync_data().with_context(|| self.path.display().to_string())?;
        self.file.persist(&self.path).map_err(|error| error.error).with_context(|| self.path.display().to_string())?;
        Ok(())
    }
}

impl Write for Chunk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| write_error(self.path.parent().unwrap_or(&self.path), error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
