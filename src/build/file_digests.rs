//! The digests of the context's files, cached by (device, inode, size, mtime, ctime): unchanged files are not read.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::atomic_file;
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Digest, Hasher};

/// The digests of files. Builds keep them in a file.
#[derive(Debug)]
pub struct FileDigests {
    path: PathBuf,
    known: Mutex<HashMap<Stamp, Digest>>,
    /// The number of files that had to be read.
    read: AtomicU64,
}

/// Changes whenever a file's content may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: i128,
    changed: i128,
}

/// A file may change again without a new stamp this long after a change: until then its digest is not kept.
const SETTLED: Duration = Duration::from_millis(100);
/// The limit on digests that are kept.
const MAX_DIGESTS: usize = 1_000_000;

impl FileDigests {
    /// Reads the digests of earlier builds. Lines that are not valid are skipped.
    pub fn open(path: &Path) -> Self {
        let lines = std::fs::File::open(path).map(|file| BufReader::new(file).lines());
        let known = lines.into_iter().flatten().map_while(io::Result::ok).filter_map(|line| parse(&line)).take(MAX_DIGESTS).collect();
        FileDigests { path: path.to_owned(), known: Mutex::new(known), read: AtomicU64::new(0) }
    }

    /// The digest of a file's content.
    pub fn digest(&self, path: &Path, ctx: &Context) -> Result<Digest> {
        if let Some(digest) = self.known(&Stamp::of(&fs_err::metadata(path)?)) {
            return Ok(digest);
        }
        let mut found = None;
        let mut file = self.open_once(path, |digest| found = Some(digest))?;
        let mut buffer = vec![0; 1 << 18];
        while file.read(&mut buffer).with_context(|| path.display().to_string())? > 0 {
            ctx.check()?;
        }
        drop(file);
        found.ok_or_else(|| changed(path).into())
    }

    /// Opens a file to read it once from start to end. `found` gets its digest when all is read. If the file changed meanwhile, the last
    /// read fails.
    pub fn open_once<F: FnMut(Digest)>(&self, path: &Path, found: F) -> Result<ReadOnce<'_, F>> {
        let began = SystemTime::now();
        let file = fs_err::File::open(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        let state = match self.known(&stamp) {
            Some(digest) => DigestState::Known(digest),
            None => DigestState::Hashing(Hasher::new(io::sink()), began),
        };
        let mut reader = ReadOnce { digests: self, file, remaining: stamp.size, stamp, state, found };
        reader.advance(0)?;
        Ok(reader)
    }

    fn known(&self, stamp: &Stamp) -> Option<Digest> {
        self.lock().get(stamp).copied()
    }

    /// Writes the digests for the next build.
    pub fn save(&self) -> Result<()> {
        if self.read.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        atomic_file::replace(&self.path, 0o644, |out| {
            for (stamp, digest) in self.lock().iter() {
                let Stamp { device, inode, size, modified, changed } = stamp;
                writeln!(out, "{device} {inode} {size} {modified} {changed} {digest}")?;
            }
            Ok(())
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Stamp, Digest>> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, part: i64| i128::from(seconds) * 1_000_000_000 + i128::from(part);
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        i128::try_from(now.saturating_sub(SETTLED.as_nanos())).is_ok_and(|limit| self.changed < limit)
    }
}

fn parse(line: &str) -> Option<(Stamp, Digest)> {
    let mut words = line.split(' ');
    let stamp = Stamp {
        device: words.next()?.parse().ok()?,
        inode: words.next()?.parse().ok()?,
        size: words.next()?.parse().ok()?,
        modified: words.next()?.parse().ok()?,
        changed: words.next()?.parse().ok()?,
    };
    Some((stamp, words.next()?.parse().ok()?))
}

/// A file that is read and hashed at the same time.
pub struct ReadOnce<'a, F> {
    digests: &'a FileDigests,
    file: fs_err::File,
    stamp: Stamp,
    /// The number of bytes that are not read yet.
    remaining: u64,
    state: DigestState,
    found: F,
}

enum DigestState {
    Known(Digest),
    /// Hashing since that time.
    Hashing(Hasher<io::Sink>, SystemTime),
    Done,
}

impl<F: FnMut(Digest)> ReadOnce<'_, F> {
    fn advance(&mut self, count: usize) -> io::Result<()> {
        self.remaining = self.remaining.saturating_sub(count as u64);
        if self.remaining > 0 || matches!(self.state, DigestState::Done) {
            return Ok(());
        }
        if Stamp::of(&self.file.metadata()?) != self.stamp {
            return Err(io::Error::other(changed(self.file.path())));
        }
        let digest = match std::mem::replace(&mut self.state, DigestState::Done) {
            DigestState::Hashing(hasher, began) => self.remember(hasher.finish().0.digest, began),
            DigestState::Known(digest) => digest,
            DigestState::Done => return Ok(()),
        };
        (self.found)(digest);
        Ok(())
    }

    fn remember(&self, digest: Digest, began: SystemTime) -> Digest {
        self.digests.read.fetch_add(1, Ordering::Relaxed);
        if self.stamp.is_settled(began) {
            self.digests.lock().insert(self.stamp, digest);
        }
        digest
    }
}

impl<F: FnMut(Digest)> Read for ReadOnce<'_, F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        if let DigestState::Hashing(hasher, _) = &mut self.state {
            hasher.update(&into[..count]);
        }
        self.advance(count)?;
        Ok(count)
    }
}

/// The error of a file that was written to while it was read.
fn changed(path: &Path) -> Failure {
    Failure::failed(format!("{} changed while it was read", path.display())).hint("stop what writes to it, and build again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_once_until_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (file, saved) = (dir.path().join("a"), dir.path().join("saved"));
        std::fs::write(&file, "one").unwrap();
        std::thread::sleep(SETTLED * 2);
        let digests = FileDigests::open(&saved);
        assert_eq!(digests.digest(&file, &Context::silent()).unwrap(), Digest::of(b"one"));
        digests.save().unwrap();

        let digests = FileDigests::open(&saved);
        digests.digest(&file, &Context::silent()).unwrap();
        assert_eq!(digests.read.load(Ordering::Relaxed), 0);
        std::fs::write(&file, "two").unwrap();
        assert_eq!(digests.digest(&file, &Context::silent()).unwrap(), Digest::of(b"two"));
        assert_eq!(digests.read.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_file_that_just_changed_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let digests = FileDigests::open(&dir.path().join("saved"));
        std::fs::write(&file, "one").unwrap();
        digests.digest(&file, &Context::silent()).unwrap();
        digests.digest(&file, &Context::silent()).unwrap();
        assert_eq!(digests.read.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_file_is_hashed_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let digests = FileDigests::open(&dir.path().join("saved"));
        for content in ["", "some content"] {
            let file = dir.path().join("a");
            std::fs::write(&file, content).unwrap();
            let mut found = Vec::new();
            let mut text = String::new();
            digests.open_once(&file, |digest| found.push(digest)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), found), (content, vec![Digest::of(content.as_bytes())]));
        }
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let digests = FileDigests::open(&dir.path().join("saved"));
        std::fs::write(&file, "one two").unwrap();
        std::thread::sleep(SETTLED);
        let mut reader = digests.open_once(&file, |_| panic!("a changed file has no digest")).unwrap();
        reader.read_exact(&mut [0; 3]).unwrap();
        std::fs::write(&file, "two one").unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("changed while it was read"), "{error}");
    }
}
