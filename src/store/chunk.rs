//! Pieces of a blob that arrive out of order, as from one disk after another: kept until all are here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

use super::Store;
use super::blob::cannot_write;
use crate::image::Blob;

/// A piece that is being written. Nothing is seen of it before [`Piece::keep`]; dropped, it leaves nothing.
pub struct Chunk {
    file: NamedTempFile,
    path: PathBuf,
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piece").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Begins the piece of a blob that has these of its bytes.
    pub fn chunk(&self, blob: &Blob, range: &Range<u64>) -> Result<Chunk> {
        self.ensure_writable()?;
        let dir = self.ingest_dir();
        fs_err::create_dir_all(&dir)?;
        let file = tempfile::Builder::new().prefix(".new-").tempfile_in(&dir).with_context(|| dir.display().to_string())?;
        Ok(Chunk { file, path: self.chunk_path(blob, range) })
    }

    /// Whether the piece of a blob that has these of its bytes is here.
    pub fn has_chunk(&self, blob: &Blob, range: &Range<u64>) -> bool {
        std::fs::metadata(self.chunk_path(blob, range)).is_ok_and(|found| found.len() == range.end - range.start)
    }

    /// Reads pieces that are here, one after the other.
    pub fn read_chunks(&self, blob: &Blob, ranges: &[Range<u64>]) -> Result<impl Read + use<>> {
        let open = |range| {
            let path = self.chunk_path(blob, range);
            File::open(&path).with_context(|| path.display().to_string())
        };
        let files = ranges.iter().map(open).collect::<Result<Vec<_>>>()?;
        Ok(files.into_iter().fold(Box::new(io::empty()) as Box<dyn Read>, |before, file| Box::new(before.chain(file))))
    }

    /// Puts a blob together from all of its pieces, which go then. Bytes that do not make the blob are an error of kind `Verification`;
    /// the pieces go all the same.
    pub fn join_chunks(&self, blob: &Blob, ranges: &[Range<u64>]) -> Result<()> {
        let mut ingest = self.ingest(blob)?;
        ingest.restart()?;
        io::copy(&mut self.read_chunks(blob, ranges)?, &mut ingest).with_context(|| format!("blob {}", blob.digest))?;
        let joined = ingest.commit();
        self.drop_chunks(blob, ranges)?;
        joined
    }

    /// Deletes pieces.
    pub fn drop_chunks(&self, blob: &Blob, ranges: &[Range<u64>]) -> Result<()> {
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
    /// Puts it in its place, whole.
    pub fn keep(self) -> Result<()> {
        self.file.as_file().sync_data().with_context(|| self.path.display().to_string())?;
        self.file.persist(&self.path).map_err(|error| error.error).with_context(|| self.path.display().to_string())?;
        Ok(())
    }
}

impl Write for Chunk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| cannot_write(self.path.parent().unwrap_or(&self.path), error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
