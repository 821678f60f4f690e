//! Downloads that survive: bytes of a blob whose digest is known, kept until they are whole.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Store;
use super::blob::{cannot_write, damaged, wrong_size};
use crate::durable;
use crate::image::{Blob, Hasher};

/// A download under way in `ingest/<digest>.part`, locked against other processes. Dropped, it stays for the next try.
pub struct Ingest {
    out: Hasher<File>,
    expected: Blob,
    /// The whole blob is in its place already: another process was faster.
    whole: bool,
    part: PathBuf,
    target: PathBuf,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("blob", &self.expected).field("offset", &self.offset()).finish_non_exhaustive()
    }
}

impl Ingest {
    pub(super) fn open(store: &Store, expected: Blob) -> Result<Self> {
        let part = store.ingest_dir().join(format!("{}.part", expected.digest.hex()));
        let target = store.blob_path(&expected.digest);
        fs_err::create_dir_all(store.ingest_dir())?;
        let file = lock(&part).with_context(|| part.display().to_string())?;
        let mut ingest = Ingest { out: Hasher::new(file), expected, whole: store.has(&expected), part, target };
        ingest.count_what_is_here().with_context(|| ingest.part.display().to_string())?;
        Ok(ingest)
    }

    /// Bytes here already: where to go on.
    pub fn offset(&self) -> u64 {
        if self.whole { self.expected.size } else { self.out.written() }
    }

    /// Throws away what is here: the other end could not go on from [`Ingest::offset`].
    pub fn restart(&mut self) -> Result<()> {
        let mut file = self.out.get_mut().try_clone()?;
        file.set_len(0).with_context(|| self.part.display().to_string())?;
        file.seek(SeekFrom::Start(0))?;
        self.out = Hasher::new(file);
        self.whole = false;
        Ok(())
    }

    /// Verifies and moves the blob to its place. A wrong digest or size throws the bytes away and is an error of kind
    /// `Verification` that names the blob.
    pub fn commit(self) -> Result<()> {
        let Ingest { out, expected, whole, part, target } = self;
        if whole {
            return Ok(fs_err::remove_file(&part)?);
        }
        let (found, file) = out.finish();
        if found != expected {
            fs_err::remove_file(&part)?;
            let failure = if found.size == expected.size { damaged(&expected) } else { wrong_size(&expected, found.size) };
            return Err(failure.into());
        }
        file.sync_all().with_context(|| part.display().to_string())?;
        fs_err::rename(&part, &target)?;
        durable::sync_dir(target.parent().unwrap_or(Path::new("/")))
    }

    /// Hashes what an earlier try left, once, and goes to its end. More than the blob has is no start of it.
    fn count_what_is_here(&mut self) -> Result<()> {
        let mut file = self.out.get_mut().try_clone()?;
        if file.metadata()?.len() > self.expected.size {
            return self.restart();
        }
        let mut buffer = vec![0; 256 << 10];
        loop {
            match io::Read::read(&mut file, &mut buffer)? {
                0 => return Ok(()),
                count => self.out.update(&buffer[..count]),
            }
        }
    }
}

/// Opens and locks the part; not one that another process has meanwhile moved to its place or thrown away.
fn lock(part: &Path) -> io::Result<File> {
    loop {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(part)?;
        file.lock()?;
        match std::fs::metadata(part) {
            Ok(now) if now.ino() == file.metadata()?.ino() => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let total = self.offset() + bytes.len() as u64;
        if total > self.expected.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, wrong_size(&self.expected, total)));
        }
        self.out.write(bytes).map_err(|error| cannot_write(self.part.parent().unwrap_or(&self.part), error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
