//! The build's own directory in the store: gone when the build is, and when it was killed, with the next build.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};

use crate::store::Store;

/// A build's directory: made when something goes into it, locked while it lives.
#[derive(Debug)]
pub struct ScratchDir {
    parent: PathBuf,
    made: OnceLock<Locked>,
}

#[derive(Debug)]
struct Locked {
    path: PathBuf,
    _lock: File,
}

impl ScratchDir {
    /// One in a store.
    pub fn new(store: &Store) -> Self {
        ScratchDir { parent: store.root().join("build/work"), made: OnceLock::new() }
    }

    /// Where it is. The first call makes it, and removes what killed builds left.
    pub fn path(&self) -> Result<&Path> {
        if let Some(made) = self.made.get() {
            return Ok(&made.path);
        }
        let made = self.make()?;
        Ok(&self.made.get_or_init(|| made).path)
    }

    fn make(&self) -> Result<Locked> {
        let parent = &self.parent;
        fs_err::create_dir_all(parent)?;
        // one build at a time looks, so that none takes a directory that another has made and not locked yet
        let door = File::create(parent.join("lock")).with_context(|| parent.display().to_string())?;
        door.lock()?;
        for left in fs_err::read_dir(parent)?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            if File::open(&left).is_ok_and(|dir| dir.try_lock().is_ok()) {
                remove(&left).ok();
            }
        }
        let path = tempfile::Builder::new().prefix("b-").tempdir_in(parent)?.keep();
        let lock = File::open(&path)?;
        lock.lock()?;
        Ok(Locked { path, _lock: lock })
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if let Some(made) = self.made.get() {
            remove(&made.path).ok();
        }
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
        let running = ScratchDir::new(&store);
        running.path().unwrap();
        let left = dir.path().join("build/work/b-left");
        std::fs::create_dir_all(left.join("closed")).unwrap();
        std::fs::set_permissions(left.join("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
        let other = ScratchDir::new(&store);
        let path = other.path().unwrap().to_owned();
        assert!(!left.exists() && running.path().unwrap().exists());
        drop(other);
        assert!(!path.exists());
    }
}
