//! Reads a directory tree of this machine as entries to pack.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::diff::{diff_by, same};
use super::{CAPABILITY, Entry, Source, Tree};

/// Reads a directory tree as entries that [`super::pack`] takes.
///
/// Hard links are recognized by their inode: the first path has the content. Sockets, pipes and devices are left out with a
/// warning in the log.
pub fn walk(root: &Path) -> Result<Tree> {
    Ok(snapshot(root)?.tree)
}

/// A directory tree at one moment, with what it takes to see later whether a file was written to.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The entries.
    pub tree: Tree,
    stamps: HashMap<PathBuf, Stamp>,
}

/// Which file it was, and when it was changed last, in nanoseconds: no program can set that back.
type Stamp = (u64, i64, i64);

/// Takes a snapshot of a directory.
pub fn snapshot(root: &Path) -> Result<Snapshot> {
    let mut walk = Walk { root, found: Snapshot::default(), linked: HashMap::new() };
    walk.directory(Path::new(""))?;
    Ok(walk.found)
}

impl Snapshot {
    /// What changed in the directory from this snapshot to a later one, as [`super::diff`] gives it; but no write is missed,
    /// be it of the same size and in the same second.
    pub fn changes(&self, later: &Snapshot) -> Tree {
        diff_by(&self.tree, &later.tree, |path, before, after| {
            same(before, after) && (!matches!(after.source, Source::File(..)) || self.stamps.get(path) == later.stamps.get(path))
        })
    }
}

struct Walk<'a> {
    root: &'a Path,
    found: Snapshot,
    /// The first path of each file that has several: by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Walk<'_> {
    fn directory(&mut self, relative: &Path) -> Result<()> {
        let dir = self.root.join(relative);
        let mut names = fs_err::read_dir(&dir)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            self.entry(relative.join(name))?;
        }
        Ok(())
    }

    fn entry(&mut self, relative: PathBuf) -> Result<()> {
        let path = self.root.join(&relative);
        let metadata = fs_err::symlink_metadata(&path)?;
        let Some(source) = self.source(&path, &relative, &metadata)? else {
            tracing::warn!("skipped {}: not a file, directory or link", path.display());
            return Ok(());
        };
        let entry = Entry {
            mode: metadata.mode() & 0o7777,
            uid: u64::from(metadata.uid()),
            gid: u64::from(metadata.gid()),
            mtime: metadata.mtime(),
            xattrs: capability(&path, &metadata)?,
            source,
        };
        self.found.tree.insert(relative.clone(), entry);
        if metadata.is_file() {
            self.found.stamps.insert(relative.clone(), (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()));
        }
        if metadata.is_dir() { self.directory(&relative) } else { Ok(()) }
    }

    fn source(&mut self, path: &Path, relative: &Path, metadata: &Metadata) -> Result<Option<Source>> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Ok(Some(Source::Directory));
        }
        if kind.is_symlink() {
            return Ok(Some(Source::Symlink(fs_err::read_link(path)?)));
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            return Ok(None);
        }
        if metadata.nlink() > 1 {
            let first = self.linked.entry((metadata.dev(), metadata.ino())).or_insert_with(|| relative.to_owned());
            if first != relative {
                return Ok(Some(Source::Hardlink(first.clone())));
            }
        }
        Ok(Some(Source::File(path.to_owned(), metadata.len())))
    }
}

/// File capabilities; only programs have them.
fn capability(path: &Path, metadata: &Metadata) -> Result<std::collections::BTreeMap<String, Vec<u8>>> {
    if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
        return Ok(Default::default());
    }
    match xattr::get(path, CAPABILITY) {
        Ok(value) => Ok(value.map(|value| (CAPABILITY.to_owned(), value)).into_iter().collect()),
        // file systems without extended attributes have no capabilities
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(Default::default()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}
