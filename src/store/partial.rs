//! A file whose bytes arrive in several goes: hashed as they come, locked against other processes, kept when the process dies.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::blob::cannot_write;
use crate::atomic_file;
use crate::image::{Algorithm, Blob, Hasher};

/// Such a file. Dropped, it stays for the next go.
pub(super) struct Partial {
    out: Hasher<File>,
    algorithm: Algorithm,
    path: PathBuf,
}

impl Partial {
    /// Opens or makes it and counts what is in it, hashed so; waits while another process has it.
    pub(super) fn open(path: PathBuf, algorithm: Algorithm) -> Result<Self> {
        let file = lock(&path).with_context(|| path.display().to_string())?;
        Partial { out: Hasher::by(algorithm, file), algorithm, path }.counted()
    }

    /// The same with what is here hashed by another algorithm.
    pub(super) fn hashed_by(self, algorithm: Algorithm) -> Result<Self> {
        if algorithm == self.algorithm {
            return Ok(self);
        }
        let (_, mut file) = self.out.finish();
        file.seek(SeekFrom::Start(0))?;
        Partial { out: Hasher::by(algorithm, file), algorithm, path: self.path }.counted()
    }

    fn counted(mut self) -> Result<Self> {
        self.count_what_is_here().with_context(|| self.path.display().to_string())?;
        Ok(self)
    }

    /// Bytes here so far.
    pub(super) fn offset(&self) -> u64 {
        self.out.written()
    }

    /// Throws away what is here, and begins again.
    pub(super) fn restart(&mut self) -> Result<()> {
        let mut file = self.out.get_mut().try_clone()?;
        file.set_len(0).with_context(|| self.path.display().to_string())?;
        file.seek(SeekFrom::Start(0))?;
        self.out = Hasher::by(self.algorithm, file);
        Ok(())
    }

    /// Removes it.
    pub(super) fn throw_away(self) -> Result<()> {
        Ok(fs_err::remove_file(&self.path)?)
    }

    /// Ends it: moved to where `place` says by what came, or thrown away when that is an error.
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

    /// Hashes what an earlier go left, once, and goes to its end.
    fn count_what_is_here(&mut self) -> Result<()> {
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
        self.out.write(bytes).map_err(|error| cannot_write(self.path.parent().unwrap_or(&self.path), error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Opens and locks the file; not one that another process has meanwhile moved to its place or thrown away.
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
