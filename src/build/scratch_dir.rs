//! A build's scratch directory in the store. It is removed when the build ends; if the build was killed, by the next one.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};

use crate::store::Store;

/// A build's scratch directory: created when it is needed, locked while it is used.
#[derive(Debug)]
pub struct ScratchDir {
    parent: PathBuf,
    created: OnceLock<Locked>,
}

#[derive(Debug)]
struct Locked {
    path: PathBuf,
    _lock: File,
}

impl ScratchDir {
    /// A scratch directory in a store; not created yet.
    pub fn new(store: &Store) -> Self {
        ScratchDir { parent: store.root().join("build/work"), created: OnceLock::new() }
    }

    /// Its path. The first call creates it, and removes the directories of killed builds.
    pub fn path(&self) -> Result<&Path> {
        if let Some(created) = self.created.get() {
            return Ok(&created.path);
        }
        let created = self.create()?;
        Ok(&self.created.get_or_init(|| created).path)
    }

    fn create(&self) -> Result<Locked> {
        let parent = &self.parent;
        fs_err::create_dir_all(parent)?;
        // held while directories are removed, so that none is that another build has created and not locked yet
        let parent_lock = File::create(parent.join("lock")).with_context(|| parent.display().to_string())?;
        parent_lock.lock()?;
        for stale in fs_err::read_dir(parent)?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
            if File::open(&stale).is_ok_and(|dir| dir.try_lock().is_ok()) {
                remove(&stale).ok();
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
        if let Some(created) = self.created.get() {
            remove(&created.path).ok();
        }
    }
}

/// Removes a directory, also one with subdirectories that their owner may not write to.
fn remove(path: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(path).or_else(|_| {
        make_writable(path)?;
        std::fs::remove_dir_all(path)
    })
}

fn make_writable(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_killed_builds_are_removed_and_those_of_running_builds_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let running = ScratchDir::new(&store);
        running.path().unwrap();
        let stale = dir.path().join("build/work/b-left");
        std::fs::create_dir_all(stale.join("closed")).unwrap();
        std::fs::set_permissions(stale.join("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
        let other = ScratchDir::new(&store);
        let path = other.path().unwrap().to_owned();
        assert!(!stale.exists() && running.path().unwrap().exists());
        drop(other);
        assert!(!path.exists());
    }
}
