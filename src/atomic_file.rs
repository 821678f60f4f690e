//! Files that are there whole or not at all: written beside their place, synced, renamed.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

/// Writes `bytes` to `path` with permission bits `mode`, replacing what is there in one step.
///
/// Missing parent directories are made. After it returns the content survives a power loss.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = beside(path, mode, |out| out.write_all(bytes))?;
    file.as_file().sync_all().with_context(|| path.display().to_string())?;
    put(file, path)?;
    sync_dir(parent_of(path))
}

/// Replaces a file as [`write`] does with what `fill` writes, but syncs nothing: after a power loss there may be anything. For what
/// can be made again and is checked when it is read.
pub fn replace(path: &Path, mode: u32, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    put(beside(path, mode, fill)?, path)
}

fn beside(path: &Path, mode: u32, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<NamedTempFile> {
    let place = || path.display().to_string();
    fs_err::create_dir_all(parent_of(path))?;
    let mut out = BufWriter::new(tempfile::Builder::new().prefix(".new-").tempfile_in(parent_of(path)).with_context(place)?);
    fill(&mut out).with_context(place)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error).with_context(place)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).with_context(place)?;
    Ok(file)
}

fn put(file: NamedTempFile, path: &Path) -> Result<()> {
    file.persist(path).map_err(|error| error.error).with_context(|| path.display().to_string())?;
    Ok(())
}

/// Begins a file that takes the place of `path` when it is whole; until then it lies beside it, locked, and goes when dropped.
pub fn draft(path: &Path) -> io::Result<NamedTempFile> {
    let file = tempfile::Builder::new().prefix(&draft_prefix(path)).tempfile_in(parent_of(path))?;
    // not all file systems have locks
    file.as_file().try_lock().ok();
    Ok(file)
}

/// Deletes what processes that were killed left of [`draft`]s for the same path.
pub fn sweep(path: &Path) {
    let prefix = draft_prefix(path);
    for entry in std::fs::read_dir(parent_of(path)).into_iter().flatten().flatten() {
        let is_draft = entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes());
        if is_draft && std::fs::File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

fn draft_prefix(path: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".new-");
    prefix
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a rename or removal inside `dir` survive a power loss.
pub fn sync_dir(dir: &Path) -> Result<()> {
    Ok(fs_err::File::open(dir)?.sync_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_replaces_whole_files_and_leaves_no_others() {
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
    fn what_a_killed_process_left_of_a_draft_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        let left = draft(&path).unwrap().into_temp_path().keep().unwrap();
        let at_work = draft(&path).unwrap();
        let other = draft(&dir.path().join("b.tar")).unwrap().into_temp_path().keep().unwrap();
        sweep(&path);
        assert_eq!((left.exists(), at_work.path().exists(), other.exists()), (false, true, true));
    }
}
