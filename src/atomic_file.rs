//! Atomic file writes: a temporary file in the same directory, synced, then renamed.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

/// Writes `bytes` to `path` with permission bits `mode`, replacing an existing file in one step.
///
/// Creates missing parent directories. After it returns, the content survives a power loss.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = write_temporary(path, mode, |out| out.write_all(bytes))?;
    file.as_file().sync_all().with_context(|| path.display().to_string())?;
    rename(file, path)?;
    sync_dir(parent_of(path))
}

/// Replaces a file as [`write`] does with what `fill` writes, but without syncing: after a power loss its content is undefined. For
/// caches, which are checked when they are read.
pub fn replace(path: &Path, mode: u32, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    rename(write_temporary(path, mode, fill)?, path)
}

fn write_temporary(path: &Path, mode: u32, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<NamedTempFile> {
    let place = || path.display().to_string();
    fs_err::create_dir_all(parent_of(path))?;
    let mut out = BufWriter::new(tempfile::Builder::new().prefix(".new-").tempfile_in(parent_of(path)).with_context(place)?);
    fill(&mut out).with_context(place)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error).with_context(place)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).with_context(place)?;
    Ok(file)
}

fn rename(file: NamedTempFile, path: &Path) -> Result<()> {
    file.persist(path).map_err(|error| error.error).with_context(|| path.display().to_string())?;
    Ok(())
}

/// Creates a temporary file beside `path`, to be renamed to it when complete. It is locked, and deleted when dropped.
pub fn create_temporary(path: &Path) -> io::Result<NamedTempFile> {
    let file = tempfile::Builder::new().prefix(&temporary_prefix(path)).tempfile_in(parent_of(path))?;
    // not all filesystems have locks
    file.as_file().try_lock().ok();
    Ok(file)
}

/// Deletes temporary files for `path` that killed processes left behind: those that nobody locks.
pub fn remove_stale_temporaries(path: &Path) {
    let prefix = temporary_prefix(path);
    for entry in std::fs::read_dir(parent_of(path)).into_iter().flatten().flatten() {
        let is_draft = entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        if is_draft && std::fs::File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

fn temporary_prefix(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".new-");
    prefix
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs a directory, so that renames and removals in it survive a power loss.
pub fn sync_dir(dir: &Path) -> Result<()> {
    Ok(fs_err::File::open(dir)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_replaces_the_file_and_leaves_no_temporary_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        replace(&path, 0o644, |out| out.write_all(b"three")).unwrap();
        replace(&path, 0o644, |_| Err(io::Error::other("no more"))).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"three");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn temporary_files_of_killed_processes_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        let left = create_temporary(&path).unwrap().into_temp_path().keep().unwrap();
        let at_work = create_temporary(&path).unwrap();
        let other = create_temporary(&dir.path().join("b.tar")).unwrap().into_temp_path().keep().unwrap();
        remove_stale_temporaries(&path);
        assert_eq!((left.exists(), at_work.path().exists(), other.exists()), (false, true, true));
    }
}
