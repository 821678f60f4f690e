//! Digests of the context's files, remembered by (device, inode, size, mtime, ctime), so that what did not change is not read.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::durable;
use crate::events::Job;
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
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let known = text.lines().filter_map(parse).take(MOST).collect();
        FileDigests { path: path.to_owned(), known: Mutex::new(known), read: AtomicU64::new(0) }
    }

    /// The digest of a file's content.
    pub fn digest(&self, path: &Path, job: &Job) -> Result<Digest> {
        let stamp = Stamp::of(&fs_err::metadata(path)?);
        if let Some(digest) = self.lock().get(&stamp) {
            return Ok(*digest);
        }
        let began = SystemTime::now();
        let digest = hash(path, job)?;
        self.read.fetch_add(1, Ordering::Relaxed);
        if stamp.is_settled(began) && Stamp::of(&fs_err::metadata(path)?) == stamp {
            self.lock().insert(stamp, digest);
        }
        Ok(digest)
    }

    /// Remembers for the next build.
    pub fn save(&self) -> Result<()> {
        if self.read.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let mut text = String::new();
        for (stamp, digest) in self.lock().iter() {
            let Stamp { device, inode, size, modified, changed } = stamp;
            writeln!(text, "{device} {inode} {size} {modified} {changed} {digest}")?;
        }
        durable::write(&self.path, text.as_bytes(), 0o644)
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

fn hash(path: &Path, job: &Job) -> Result<Digest> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = Hasher::new(std::io::sink());
    let mut buffer = vec![0; 1 << 18];
    loop {
        job.check()?;
        match std::io::Read::read(&mut file, &mut buffer).with_context(|| path.display().to_string())? {
            0 => return Ok(hasher.finish().0.digest),
            count => hasher.update(&buffer[..count]),
        }
    }
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
        assert_eq!(digests.digest(&file, &Job::silent()).unwrap(), Digest::of(b"one"));
        digests.save().unwrap();

        let digests = FileDigests::open(&memory);
        digests.digest(&file, &Job::silent()).unwrap();
        assert_eq!(digests.read.load(Ordering::Relaxed), 0);
        std::fs::write(&file, "two").unwrap();
        assert_eq!(digests.digest(&file, &Job::silent()).unwrap(), Digest::of(b"two"));
        assert_eq!(digests.read.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_file_that_just_changed_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let digests = FileDigests::open(&dir.path().join("memory"));
        std::fs::write(&file, "one").unwrap();
        digests.digest(&file, &Job::silent()).unwrap();
        digests.digest(&file, &Job::silent()).unwrap();
        assert_eq!(digests.read.load(Ordering::Relaxed), 2);
    }
}
