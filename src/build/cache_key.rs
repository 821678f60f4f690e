//! Keys that stand for all that something depends on.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;

use crate::image::{Digest, Hasher};
use crate::layer::{Entry, Source, Tree};

/// The contents of so many entries are read before they are added to a key.
const AT_ONCE: usize = 4096;

/// Takes parts of a key so that no two sequences of parts look alike.
pub struct CacheKey(Hasher<std::io::Sink>);

impl CacheKey {
    /// A key of some kind.
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

    /// Adds what [`Key::entries`] adds, but of contents their sizes alone.
    pub fn shape(&mut self, entries: &[(&Path, &Entry)]) -> Result<()> {
        self.all(entries, |_, size| Ok(size.to_le_bytes().to_vec()))
    }

    fn all(&mut self, entries: &[(&Path, &Entry)], file: impl Fn(&Path, u64) -> Result<Vec<u8>> + Sync) -> Result<()> {
        for some in entries.chunks(AT_ONCE) {
            let contents: Vec<Vec<u8>> = some.par_iter().map(|(_, entry)| content(&entry.source, &file)).collect::<Result<_>>()?;
            for ((path, entry), content) in some.iter().zip(contents) {
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

/// All entries of a tree, to add to a key.
pub fn entries(tree: &Tree) -> Vec<(&Path, &Entry)> {
    tree.iter().map(|(path, entry)| (path.as_path(), entry)).collect()
}

/// What an entry is; `file` says what stands for a file's content.
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
