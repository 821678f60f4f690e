//! A partial file: locked against other processes, hashed while it is written, and kept when the process dies, to be resumed.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::blob::write_error;
use crate::atomic_file;
use crate::image::{Algorithm, Blob, Hasher};

/// A partial file. Dropping it keeps the file, to be resumed.
pub(super) struct Partial {
    out: Hasher<File>,
    algorithm: Algorithm,
    path: PathBuf,
}

impl Partial {
    /// Opens or creates the file and hashes what it has; waits while another process has it locked.
    pub(super) fn open(path: PathBuf, algorithm: Algorithm) -> Result<Self> {
        let file = lock(&path).with_context(|| path.display().to_string())?;
        Partial { out: Hasher::with_algorithm(algorithm, file), algorithm, path }.with_existing_hashed()
    }

    /// Hashes the content again if the algorithm is another one.
    pub(super) fn rehash_with(self, algorithm: Algorithm) -> Result<Self> {
        if algorithm == self.algorithm {
            return Ok(self);
        }
        let (_, mut file) = self.out.finish();
        file.seek(SeekFrom::Start(0))?;
        Partial { out: Hasher::with_algorithm(algorithm, file), algorithm, path: self.path }.with_existing_hashed()
    }

    fn with_existing_hashed(mut self) -> Result<Self> {
        self.hash_existing().with_context(|| self.path.display().to_string())?;
        Ok(self)
    }

    /// Bytes written so far.
    pub(super) fn offset(&self) -> u64 {
        self.out.written()
    }

    /// Discards the content and begins again.
    pub(super) fn restart(&mut self) -> Result<()> {
        let mut file = self.out.get_mut().try_clone()?;
        file.set_len(0).with_context(|| self.path.display().to_string())?;
        file.seek(SeekFrom::Start(0))?;
        self.out = Hasher::with_algorithm(self.algorithm, file);
        Ok(())
    }

    /// Deletes the file.
    pub(super) fn discard(self) -> Result<()> {
        Ok(fs_err::remove_file(&self.path)?)
    }

    /// Moves the file to the path that `place` returns for its digest, or deletes it if `place` fails.
    pub(super) fn finish(self, place: impl FnOnce(&Blob) -> Result<PathBuf>) -> Result<Blob> {
        let (blob, file) = self.out.finish();
        let target = match place(&blob) {
            Ok(target) => target,
            Err(error) => {
                fs_err::remove_file(&self.path)?;
                return Err(error);
            }
        };
        file.sync_all().with_context(|| self.path.display().to_string())?;
        let directory = target.parent().unwrap_or(Path::new("/"));
        fs_err::create_dir_all(directory)?;
        fs_err::rename(&self.path, &target)?;
        atomic_file::sync_dir(directory)?;
        Ok(blob)
    }

    /// Hashes the content that an earlier process wrote, and moves to its end.
    fn hash_existing(&mut self) -> Result<()> {
        let mut file = self.out.get_mut().try_clone()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match io::Read::read(&mut file, &mut buffer)? {
                0 => return Ok(()),
                count => self.out.update(&buffer[..count]),
            }
        }
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(|error| write_error(self.path.parent().unwrap_or(&self.path), error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Opens and locks the file. Tries again if another process has moved or deleted it meanwhile.
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        file.lock()?;
        match std::fs::metadata(path) {
            Ok(now) if now.ino() == file.metadata()?.ino() => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}
