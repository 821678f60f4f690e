//! Files that are there whole or not at all: written beside their place, synced, renamed.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Writes `bytes` to `path` with permission bits `mode`, replacing what is there in one step.
///
/// Missing parent directories are made. After it returns the content survives a power loss.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = || path.display().to_string();
    fs_err::create_dir_all(parent)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent).with_context(place)?;
    file.write_all(bytes).with_context(place)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).with_context(place)?;
    file.as_file().sync_all().with_context(place)?;
    file.persist(path).map_err(|error| error.error).with_context(place)?;
    sync_dir(parent)
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
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
}
