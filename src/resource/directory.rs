//! A directory.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::{Reconcile, Snapshot, State, System};

/// A directory with its rights. Taken back, it goes if it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Its absolute path.
    pub path: PathBuf,
    /// Permission bits and owner.
    #[serde(flatten)]
    pub rights: FileMode,
}

impl Directory {
    /// The directory `path` of root with these permission bits.
    pub fn new(path: impl Into<PathBuf>, mode: u32) -> Self {
        Directory { path: path.into(), rights: FileMode { mode, uid: 0, gid: 0 } }
    }
}

impl Reconcile for Directory {
    fn title(&self) -> String {
        format!("directory {}", self.path.display())
    }

    fn check(&self, system: &System) -> Result<State> {
        Ok(match backup::meta(&system.path(&self.path))? {
            None => State::Absent,
            Some(meta) if !meta.is_dir() => State::differs("not a directory", "a directory"),
            Some(meta) => compare_rights(&meta, self.rights).unwrap_or(State::Present),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Backup::of(system, &self.path)?)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let place = system.path(&self.path);
        if backup::meta(&place)?.is_some_and(|meta| !meta.is_dir()) {
            backup::remove(&place)?;
        }
        fs_err::create_dir_all(&place)?;
        backup::set_rights(&place, self.rights)
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Backup::deserialize(before)?.restore(system, &self.path)
    }
}

/// How permission bits and owner differ, if they do.
pub(super) fn compare_rights(meta: &std::fs::Metadata, shall: FileMode) -> Option<State> {
    let is = FileMode::of(meta);
    let show = |rights: FileMode| format!("mode {:04o} owner {}:{}", rights.mode, rights.uid, rights.gid);
    (is != shall).then(|| State::differs(show(is), show(shall)))
}
