//! Digests of the context's files, remembered by (device, inode, size, mtime, ctime), so that what did not change is not read.

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

/// The digests of files, on disk between builds.
#[derive(Debug)]
pub struct FileDigests {
    path: PathBuf,
    known: Mutex<HashMap<Stamp, Digest>>,
    /// Files that had to be read.
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

/// A file that changed so short before it was read may change again without a new stamp.
const SETTLED: Duration = Duration::from_millis(100);
/// More are not kept.
const MOST: usize = 1_000_000;

impl FileDigests {
    /// Reads what earlier builds remembered; a file that cannot be understood is as none.
    pub fn open(path: &Path) -> Self {
        let lines = std::fs::File::open(path).map(|file| BufReader::new(file).lines());
        let known = lines.into_iter().flatten().map_while(io::Result::ok).filter_map(|line| parse(&line)).take(MOST).collect();
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

    /// Opens a file to read it from start to end, and to take its digest on the way: `found` is told when all was read. A file that
    /// changed meanwhile is an error of the last read.
    pub fn open_once<F: FnMut(Digest)>(&self, path: &Path, found: F) -> Result<ReadOnce<'_, F>> {
        let began = SystemTime::now();
        let file = fs_err::File::open(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        let taking = match self.known(&stamp) {
            Some(digest) => Taking::Known(digest),
            None => Taking::Anew(Hasher::new(io::sink()), began),
        };
        let mut reading = ReadOnce { digests: self, file, left: stamp.size, stamp, taking, found };
        reading.read_on(0)?;
        Ok(reading)
    }

    fn known(&self, stamp: &Stamp) -> Option<Digest> {
        self.lock().get(stamp).copied()
    }

    /// Remembers for the next build.
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

/// A file that is read from its start to its end, and its digest on the way.
pub struct ReadOnce<'a, F> {
    digests: &'a FileDigests,
    file: fs_err::File,
    stamp: Stamp,
    /// Bytes that were not read yet.
    left: u64,
    taking: Taking,
    found: F,
}

/// How a digest comes about.
enum Taking {
    Known(Digest),
    /// Since that moment.
    Anew(Hasher<io::Sink>, SystemTime),
    Taken,
}

impl<F: FnMut(Digest)> ReadOnce<'_, F> {
    fn read_on(&mut self, count: usize) -> io::Result<()> {
        self.left = self.left.saturating_sub(count as u64);
        if self.left > 0 || matches!(self.taking, Taking::Taken) {
            return Ok(());
        }
        if Stamp::of(&self.file.metadata()?) != self.stamp {
            return Err(io::Error::other(changed(self.file.path())));
        }
        let digest = match std::mem::replace(&mut self.taking, Taking::Taken) {
            Taking::Anew(hasher, began) => self.remember(hasher.finish().0.digest, began),
            Taking::Known(digest) => digest,
            Taking::Taken => return Ok(()),
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
        if let Taking::Anew(hasher, _) = &mut self.taking {
            hasher.update(&into[..count]);
        }
        self.read_on(count)?;
        Ok(count)
    }
}

/// A file that was written to while it was read.
fn changed(path: &Path) -> Failure {
    Failure::failed(format!("{} changed while it was read", path.display())).hint("run the command again when nothing writes there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_once_until_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (file, memory) = (dir.path().join("a"), dir.path().join("memory"));
        std::fs::write(&file, "one").unwrap();
        std::thread::sleep(SETTLED * 2);
        let digests = FileDigests::open(&memory);
        assert_eq!(digests.digest(&file, &Context::silent()).unwrap(), Digest::of(b"one"));
        digests.save().unwrap();

        let digests = FileDigests::open(&memory);
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
        let digests = FileDigests::open(&dir.path().join("memory"));
        std::fs::write(&file, "one").unwrap();
        digests.digest(&file, &Context::silent()).unwrap();
        digests.digest(&file, &Context::silent()).unwrap();
        assert_eq!(digests.read.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_digest_comes_of_the_one_reading_that_is_done_anyway() {
        let dir = tempfile::tempdir().unwrap();
        let digests = FileDigests::open(&dir.path().join("memory"));
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
        let digests = FileDigests::open(&dir.path().join("memory"));
        std::fs::write(&file, "one two").unwrap();
        std::thread::sleep(SETTLED);
        let mut reading = digests.open_once(&file, |_| panic!("it has no digest")).unwrap();
        reading.read_exact(&mut [0; 3]).unwrap();
        std::fs::write(&file, "two one").unwrap();
        let error = reading.read_to_end(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("changed while it was read"), "{error}");
    }
}
