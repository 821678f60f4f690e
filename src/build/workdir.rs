//! The build's own directory in the store: gone when the build is, and when it was killed, with the next build.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::store::Store;

/// A build's directory, locked while it lives.
#[derive(Debug)]
pub struct Workdir {
    path: PathBuf,
    _lock: File,
}

impl Workdir {
    /// Makes one, and removes what killed builds left.
    pub fn new(store: &Store) -> Result<Self> {
        let parent = store.root().join("build/work");
        fs_err::create_dir_all(&parent)?;
        // one build at a time looks, so that none takes a directory that another has made and not locked yet
        let door = File::create(parent.join("lock")).with_context(|| parent.display().to_string())?;
        door.lock()?;
        for left in fs_err::read_dir(&parent)?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            if File::open(&left).is_ok_and(|dir| dir.try_lock().is_ok()) {
                remove(&left).ok();
            }
        }
        let path = tempfile::Builder::new().prefix("b-").tempdir_in(&parent)?.keep();
        let lock = File::open(&path)?;
        lock.lock()?;
        Ok(Workdir { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        remove(&self.path).ok();
    }
}

/// Removes a directory, also one whose directories forbid it to their owner.
fn remove(path: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(path).or_else(|_| {
        open_up(path)?;
        std::fs::remove_dir_all(path)
    })
}

fn open_up(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_builds_left_goes_and_running_builds_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let running = Workdir::new(&store).unwrap();
        let left = dir.path().join("build/work/b-left");
        std::fs::create_dir_all(left.join("closed")).unwrap();
        std::fs::set_permissions(left.join("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
        let other = Workdir::new(&store).unwrap();
        assert!(!left.exists() && running.path().exists());
        let path = other.path().to_owned();
        drop(other);
        assert!(!path.exists());
    }
}
