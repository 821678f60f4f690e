//! A directory with its owner and permissions.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::{Reconcile, Snapshot, State, System};

/// A directory with its owner and permissions. Undo removes it only if it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its permission bits and owner.
    #[serde(flatten)]
    pub permissions: FileMode,
}

impl Directory {
    /// A directory owned by root, with the permission bits `mode`.
    pub fn new(path: impl Into<PathBuf>, mode: u32) -> Self {
        Directory { path: path.into(), permissions: FileMode { mode, uid: 0, gid: 0 } }
    }
}

impl Reconcile for Directory {
    fn title(&self) -> String {
        format!("directory {}", self.path.display())
    }

    fn check(&self, system: &System) -> Result<State> {
        Ok(match backup::metadata(&system.path(&self.path))? {
            None => State::Absent,
            Some(meta) if !meta.is_dir() => State::differs("not a directory", "a directory"),
            Some(meta) => compare_permissions(&meta, self.permissions).unwrap_or(State::Present),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Backup::of(system, &self.path)?)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let path = system.path(&self.path);
        if backup::metadata(&path)?.is_some_and(|meta| !meta.is_dir()) {
            backup::remove(&path)?;
        }
        fs_err::create_dir_all(&path)?;
        backup::set_permissions(&path, self.permissions)
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Backup::deserialize(snapshot)?.restore(system, &self.path)
    }
}

/// The drift of owner and permission bits, if there is any.
pub(super) fn compare_permissions(meta: &std::fs::Metadata, desired: FileMode) -> Option<State> {
    let actual = FileMode::of(meta);
    let describe = |permissions: FileMode| format!("mode {:04o} owner {}:{}", permissions.mode, permissions.uid, permissions.gid);
    (actual != desired).then(|| State::differs(describe(actual), describe(desired)))
}
