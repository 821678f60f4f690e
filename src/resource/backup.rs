//! What was at a path before: kept, and put back.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::System;
use crate::atomic_file;
use crate::image::{Digest, Hasher};
use crate::paths::UNDO_BACKUPS;

/// Permission bits and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMode {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl FileMode {
    /// The rights that a file has.
    pub fn of(meta: &std::fs::Metadata) -> Self {
        FileMode { mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() }
    }

    /// Permission bits of this process's user: root, on hosts.
    pub fn own(mode: u32) -> Self {
        FileMode { mode, uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// Whether a file has them.
    pub fn are(self, meta: &std::fs::Metadata) -> bool {
        self == FileMode::of(meta)
    }
}

/// What was at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "was", rename_all = "kebab-case")]
pub enum Backup {
    /// Nothing; and as many directories above it were missing too.
    Absent {
        /// Missing directories above.
        parents: usize,
    },
    /// A symbolic link.
    Link {
        /// Where it pointed.
        target: PathBuf,
    },
    /// A regular file; its content is kept under its digest.
    File {
        /// The digest of its content.
        saved: Digest,
        /// Its rights.
        #[serde(flatten)]
        rights: FileMode,
    },
    /// A directory.
    Directory {
        /// Its rights.
        #[serde(flatten)]
        rights: FileMode,
    },
}

impl Backup {
    /// Keeps what is at `path` of the host now.
    pub fn of(system: &System, path: &Path) -> Result<Backup> {
        let place = system.path(path);
        let Some(meta) = meta(&place)? else {
            let missing = place.ancestors().skip(1).take_while(|dir| fs_err::symlink_metadata(dir).is_err());
            return Ok(Backup::Absent { parents: missing.count() });
        };
        let rights = FileMode::of(&meta);
        if meta.is_symlink() {
            return Ok(Backup::Link { target: fs_err::read_link(&place)? });
        }
        if meta.is_dir() {
            return Ok(Backup::Directory { rights });
        }
        if !meta.is_file() {
            bail!("{}: neither file, directory nor link; left alone", path.display());
        }
        Ok(Backup::File { saved: save(system, &place)?, rights })
    }

    /// Puts it back.
    pub fn restore(&self, system: &System, path: &Path) -> Result<()> {
        let place = system.path(path);
        match self {
            Backup::Absent { parents } => {
                remove(&place)?;
                let above = place.ancestors().skip(1).take(*parents);
                above.take_while(|dir| std::fs::remove_dir(dir).is_ok()).count();
                Ok(())
            }
            Backup::Link { target } => put_link(&place, target),
            Backup::File { saved, rights } => {
                if meta(&place)?.is_some_and(|meta| !meta.is_file()) {
                    remove(&place)?;
                }
                copy_whole(&system.path(UNDO_BACKUPS).join(saved.hex()), &place, rights.mode)?;
                set_rights(&place, *rights)
            }
            Backup::Directory { rights } => {
                if meta(&place)?.is_some_and(|meta| !meta.is_dir()) {
                    remove(&place)?;
                }
                fs_err::create_dir_all(&place)?;
                set_rights(&place, *rights)
            }
        }
    }
}

/// Copies a file to where replaced ones are kept, and gives its digest.
fn save(system: &System, place: &Path) -> Result<Digest> {
    let dir = system.path(UNDO_BACKUPS);
    fs_err::create_dir_all(&dir)?;
    let new = tempfile::NamedTempFile::new_in(&dir)?;
    let mut hasher = Hasher::new(new);
    std::io::copy(&mut fs_err::File::open(place)?, &mut hasher)?;
    let (blob, new) = hasher.finish();
    new.as_file().sync_all()?;
    new.persist(dir.join(blob.digest.hex()))?;
    atomic_file::sync_dir(&dir)?;
    Ok(blob.digest)
}

/// Copies a file so that it is there whole or not at all.
fn copy_whole(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let parent = to.parent().unwrap_or(Path::new("/"));
    fs_err::create_dir_all(parent)?;
    let mut new = tempfile::NamedTempFile::new_in(parent)?;
    std::io::copy(&mut fs_err::File::open(from)?, &mut new)?;
    new.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    new.persist(to)?;
    atomic_file::sync_dir(parent)
}

/// What is known of `place` itself, not of what a link points at; `None` if there is nothing.
pub fn meta(place: &Path) -> Result<Option<std::fs::Metadata>> {
    match fs_err::symlink_metadata(place) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a file, a link, or an empty directory; a directory with content stays.
pub fn remove(place: &Path) -> Result<()> {
    match meta(place)? {
        None => Ok(()),
        Some(meta) if meta.is_dir() => match std::fs::remove_dir(place) {
            Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => Err(error).context(place.display().to_string()),
            _ => Ok(()),
        },
        Some(_) => Ok(fs_err::remove_file(place)?),
    }
}

/// Writes a file with its rights, whole or not at all.
pub fn put_file(place: &Path, bytes: &[u8], rights: FileMode) -> Result<()> {
    atomic_file::write(place, bytes, rights.mode)?;
    set_rights(place, rights)
}

/// Makes a symbolic link in one step, replacing what is there.
pub fn put_link(place: &Path, target: &Path) -> Result<()> {
    let parent = place.parent().unwrap_or(Path::new("/"));
    fs_err::create_dir_all(parent)?;
    if meta(place)?.is_some_and(|meta| meta.is_dir()) {
        remove(place)?;
    }
    let name = place.file_name().context("a link needs a name")?.to_string_lossy();
    let new = parent.join(format!(".new-{name}-{}", std::process::id()));
    remove(&new)?;
    symlink(target, &new).with_context(|| new.display().to_string())?;
    fs_err::rename(&new, place)?;
    atomic_file::sync_dir(parent)
}

/// Sets owner and permission bits. Where only root could set the owner, others keep theirs.
pub fn set_rights(place: &Path, rights: FileMode) -> Result<()> {
    let meta = fs_err::metadata(place)?;
    if (meta.uid(), meta.gid()) != (rights.uid, rights.gid) {
        std::os::unix::fs::chown(place, Some(rights.uid), Some(rights.gid)).with_context(|| format!("owner of {}", place.display()))?;
    }
    Ok(fs_err::set_permissions(place, std::fs::Permissions::from_mode(rights.mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let system = System::new(dir.path());
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/file"), b"old").unwrap();
        symlink("elsewhere", dir.path().join("etc/link")).unwrap();
        for path in ["/etc/file", "/etc/link", "/etc/deep/er/new"] {
            let path = Path::new(path);
            let kept = Backup::of(&system, path).unwrap();
            put_file(&system.path(path), b"new", FileMode::own(0o600)).unwrap();
            let text = serde_json::to_string(&kept).unwrap();
            for _ in 0..2 {
                serde_json::from_str::<Backup>(&text).unwrap().restore(&system, path).unwrap();
            }
        }
        assert_eq!(std::fs::read(dir.path().join("etc/file")).unwrap(), b"old");
        assert_eq!(std::fs::metadata(dir.path().join("etc/file")).unwrap().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_link(dir.path().join("etc/link")).unwrap(), Path::new("elsewhere"));
        assert!(!dir.path().join("etc/deep").exists());
    }

    #[test]
    fn directories_with_content_stay() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/theirs"), b"x").unwrap();
        Backup::Absent { parents: 0 }.restore(&System::new(dir.path()), Path::new("/a")).unwrap();
        assert!(dir.path().join("a/theirs").exists());
    }
}
