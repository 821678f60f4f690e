//! Saves what is at a path before it is changed, and restores it.
//!
//! Contents of files go to `/var/lib/sealift/undo/` under their SHA-256 digest; everything else is in the undo ledger.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::System;
use crate::atomic_file;
use crate::error::Failure;
use crate::image::{Digest, Hasher};
use crate::paths::UNDO_BACKUPS;

/// Permission bits, owner and group, as `stat(2)` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMode {
    /// Permission bits, with setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Id of the group.
    pub gid: u32,
}

impl FileMode {
    /// Reads them from a file's metadata.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        FileMode { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }
    }

    /// These permission bits with this process's user and group as owner: root, on hosts.
    pub fn of_current_user(mode: u32) -> Self {
        FileMode { mode, uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// Whether a file has exactly these.
    pub fn matches(self, metadata: &std::fs::Metadata) -> bool {
        self == FileMode::of(metadata)
    }
}

/// What was at a path before its first change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "was", rename_all = "kebab-case")]
pub enum Backup {
    /// Nothing.
    Absent {
        /// How many directories above it were missing too.
        #[serde(rename = "parents")]
        missing_parents: usize,
    },
    /// A symbolic link.
    #[serde(rename = "link")]
    Symlink {
        /// What it pointed at.
        target: PathBuf,
    },
    /// A regular file; its content is saved under its digest.
    File {
        /// The digest of its content.
        #[serde(rename = "saved")]
        digest: Digest,
        /// Its permission bits and owner.
        #[serde(flatten)]
        permissions: FileMode,
    },
    /// A directory.
    Directory {
        /// Its permission bits and owner.
        #[serde(flatten)]
        permissions: FileMode,
    },
}

impl Backup {
    /// Saves what is at `path` of the host now.
    ///
    /// # Errors
    /// Fails for anything but a file, a directory or a symbolic link: a device or a socket cannot be restored.
    pub fn of(system: &System, path: &Path) -> Result<Backup> {
        let full_path = system.path(path);
        let Some(metadata) = metadata(&full_path)? else {
            let missing = full_path.ancestors().skip(1).take_while(|dir| fs_err::symlink_metadata(dir).is_err());
            return Ok(Backup::Absent { missing_parents: missing.count() });
        };
        let permissions = FileMode::of(&metadata);
        if metadata.is_symlink() {
            return Ok(Backup::Symlink { target: fs_err::read_link(&full_path)? });
        }
        if metadata.is_dir() {
            return Ok(Backup::Directory { permissions });
        }
        if !metadata.is_file() {
            return Err(Failure::failed(format!("{}: neither a file, a directory nor a symbolic link: left unchanged", path.display()))
                .hint("move it out of the way on the host, then run the same command again")
                .into());
        }
        Ok(Backup::File { digest: save_file(system, &full_path)?, permissions })
    }

    /// Restores it. Twice is the same as once.
    pub fn restore(&self, system: &System, path: &Path) -> Result<()> {
        let full_path = system.path(path);
        match self {
            Backup::Absent { missing_parents } => {
                remove(&full_path)?;
                let above = full_path.ancestors().skip(1).take(*missing_parents);
                above.take_while(|dir| std::fs::remove_dir(dir).is_ok()).count();
                Ok(())
            }
            Backup::Symlink { target } => replace_symlink(&full_path, target),
            Backup::File { digest, permissions } => {
                if metadata(&full_path)?.is_some_and(|metadata| !metadata.is_file()) {
                    remove(&full_path)?;
                }
                copy_atomically(&system.path(UNDO_BACKUPS).join(digest.hex()), &full_path, permissions.mode)?;
                set_permissions(&full_path, *permissions)
            }
            Backup::Directory { permissions } => {
                if metadata(&full_path)?.is_some_and(|metadata| !metadata.is_dir()) {
                    remove(&full_path)?;
                }
                fs_err::create_dir_all(&full_path)?;
                set_permissions(&full_path, *permissions)
            }
        }
    }
}

/// Copies a file to the backups, and returns its digest.
fn save_file(system: &System, full_path: &Path) -> Result<Digest> {
    let dir = system.path(UNDO_BACKUPS);
    fs_err::create_dir_all(&dir)?;
    let new = tempfile::NamedTempFile::new_in(&dir)?;
    let mut hasher = Hasher::new(new);
    std::io::copy(&mut fs_err::File::open(full_path)?, &mut hasher)?;
    let (blob, new) = hasher.finish();
    new.as_file().sync_all()?;
    new.persist(dir.join(blob.digest.hex()))?;
    atomic_file::sync_dir(&dir)?;
    Ok(blob.digest)
}

/// Copies a file atomically: it is there whole or not at all.
fn copy_atomically(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let parent = to.parent().unwrap_or(Path::new("/"));
    fs_err::create_dir_all(parent)?;
    let mut new = tempfile::NamedTempFile::new_in(parent)?;
    std::io::copy(&mut fs_err::File::open(from)?, &mut new)?;
    new.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    new.as_file().sync_all()?;
    new.persist(to)?;
    atomic_file::sync_dir(parent)
}

/// Reads the metadata of a path itself, not of what a link points at; `None` if there is nothing.
pub fn metadata(full_path: &Path) -> Result<Option<std::fs::Metadata>> {
    match fs_err::symlink_metadata(full_path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a file, a link or an empty directory; a directory that is not empty stays.
pub fn remove(full_path: &Path) -> Result<()> {
    match metadata(full_path)? {
        None => Ok(()),
        Some(metadata) if metadata.is_dir() => match std::fs::remove_dir(full_path) {
            Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => Err(error).context(full_path.display().to_string()),
            _ => Ok(()),
        },
        Some(_) => Ok(fs_err::remove_file(full_path)?),
    }
}

/// Writes a file with its permissions, atomically.
pub fn write_file(full_path: &Path, bytes: &[u8], permissions: FileMode) -> Result<()> {
    atomic_file::write(full_path, bytes, permissions.mode)?;
    set_permissions(full_path, permissions)
}

/// Creates a symbolic link atomically, replacing what is there.
///
/// # Errors
/// Fails where a directory that is not empty is in the way.
pub fn replace_symlink(full_path: &Path, target: &Path) -> Result<()> {
    let parent = full_path.parent().unwrap_or(Path::new("/"));
    fs_err::create_dir_all(parent)?;
    if metadata(full_path)?.is_some_and(|metadata| metadata.is_dir()) {
        remove(full_path)?;
    }
    let name =
        full_path.file_name().with_context(|| format!("{}: a symbolic link needs a file name", full_path.display()))?.to_string_lossy();
    let new = parent.join(format!(".new-{name}-{}", std::process::id()));
    remove(&new)?;
    symlink(target, &new).with_context(|| new.display().to_string())?;
    fs_err::rename(&new, full_path)?;
    atomic_file::sync_dir(parent)
}

/// Sets owner, group and permission bits of what a path or its link points at.
///
/// # Errors
/// Fails where only root may change the owner and this process is not root.
pub fn set_permissions(full_path: &Path, permissions: FileMode) -> Result<()> {
    let metadata = fs_err::metadata(full_path)?;
    if (metadata.uid(), metadata.gid()) != (permissions.uid, permissions.gid) {
        std::os::unix::fs::chown(full_path, Some(permissions.uid), Some(permissions.gid))
            .with_context(|| format!("{}: chown to {}:{}", full_path.display(), permissions.uid, permissions.gid))?;
    }
    Ok(fs_err::set_permissions(full_path, std::fs::Permissions::from_mode(permissions.mode))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let system = System::new(dir.path());
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/file"), b"old").unwrap();
        symlink("elsewhere", dir.path().join("etc/link")).unwrap();
        for path in ["/etc/file", "/etc/link", "/etc/deep/er/new"] {
            let path = Path::new(path);
            let backup = Backup::of(&system, path).unwrap();
            write_file(&system.path(path), b"new", FileMode::of_current_user(0o600)).unwrap();
            let text = serde_json::to_string(&backup).unwrap();
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
    fn directories_that_are_not_empty_stay() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/theirs"), b"x").unwrap();
        Backup::Absent { missing_parents: 0 }.restore(&System::new(dir.path()), Path::new("/a")).unwrap();
        assert!(dir.path().join("a/theirs").exists());
    }
}
