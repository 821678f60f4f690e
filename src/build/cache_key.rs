//! Cache keys: digests of everything that a result depends on.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;

use crate::image::{Digest, Hasher};
use crate::layer::{Entry, Source, Tree};

/// The number of entries whose contents are read in parallel.
const BATCH: usize = 4096;

/// A key in the making. Every part goes in with its length, so that no two sequences of parts give the same key.
pub struct CacheKey(Hasher<std::io::Sink>);

impl CacheKey {
    /// A key of its kind: keys of different kinds are never the same.
    pub fn new(kind: &str) -> Self {
        let mut key = CacheKey(Hasher::new(std::io::sink()));
        key.part(kind);
        key
    }

    /// Adds a part.
    pub fn part(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// Adds entries of a tree: paths, kinds, modes, owners, and contents by their digests; not times.
    pub fn entries(&mut self, entries: &[(&Path, &Entry)], digest: impl Fn(&Path) -> Result<Digest> + Sync) -> Result<()> {
        self.all(entries, |path, _| Ok(digest(path)?.to_string().into_bytes()))
    }

    /// Adds what [`Self::entries`] adds, but the sizes of contents instead of their digests.
    pub fn shape(&mut self, entries: &[(&Path, &Entry)]) -> Result<()> {
        self.all(entries, |_, size| Ok(size.to_le_bytes().to_vec()))
    }

    fn all(&mut self, entries: &[(&Path, &Entry)], file: impl Fn(&Path, u64) -> Result<Vec<u8>> + Sync) -> Result<()> {
        for batch in entries.chunks(BATCH) {
            let contents: Vec<Vec<u8>> = batch.par_iter().map(|(_, entry)| content(&entry.source, &file)).collect::<Result<_>>()?;
            for ((path, entry), content) in batch.iter().zip(contents) {
                self.entry(path, entry, &content);
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, entry: &Entry, content: &[u8]) {
        self.part(path.as_os_str().as_bytes());
        self.part(content);
        self.part(format!("{:o} {} {}", entry.mode, entry.uid, entry.gid));
        for (name, value) in &entry.xattrs {
            self.part(name);
            self.part(value);
        }
    }

    /// The key.
    pub fn finish(self) -> Digest {
        self.0.finish().0.digest
    }
}

/// The entries of a tree, as [`CacheKey::entries`] takes them.
pub fn entries(tree: &Tree) -> Vec<(&Path, &Entry)> {
    tree.iter().map(|(path, entry)| (path.as_path(), entry)).collect()
}

/// The part of a key that stands for an entry's content; `file` gives it for a file.
fn content(source: &Source, file: impl Fn(&Path, u64) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    Ok(match source {
        Source::Directory => b"directory".to_vec(),
        Source::File(path, size) => file(path, *size)?,
        Source::Bytes(bytes) => Digest::of(bytes).to_string().into_bytes(),
        Source::Symlink(target) => [b"link ", target.as_os_str().as_bytes()].concat(),
        Source::Hardlink(target) => [b"same ", target.as_os_str().as_bytes()].concat(),
        Source::Whiteout => b"whiteout".to_vec(),
        Source::OpaqueDirectory => b"opaque".to_vec(),
    })
}
