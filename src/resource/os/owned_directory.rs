//! A directory that belongs to the cluster with everything in it, such as `/var/lib/containerd`.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::backup::Backup;
use super::{Reconcile, Snapshot, State, System, mounts};

/// A directory that the cluster's programs fill. Undo removes it with everything in it, mounts included, if it was absent or
/// empty before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedDirectory {
    /// Its absolute path.
    pub path: PathBuf,
}

/// The snapshot.
#[derive(Serialize, Deserialize)]
struct PreviousState {
    #[serde(rename = "kept")]
    backup: Backup,
    empty: bool,
}

impl OwnedDirectory {
    fn is_empty(&self, system: &System) -> bool {
        std::fs::read_dir(system.path(&self.path)).map_or(true, |mut entries| entries.next().is_none())
    }
}

impl Reconcile for OwnedDirectory {
    fn title(&self) -> String {
        format!("directory {} and all in it", self.path.display())
    }

    fn check(&self, system: &System) -> Result<State> {
        Ok(if system.path(&self.path).is_dir() { State::Present } else { State::Absent })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(PreviousState { backup: Backup::of(system, &self.path)?, empty: self.is_empty(system) })?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(fs_err::create_dir_all(system.path(&self.path))?)
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        let previous = PreviousState::deserialize(snapshot)?;
        if !previous.empty {
            return Ok(());
        }
        mounts::remove_contents(system, &self.path)?;
        previous.backup.restore(system, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn undo_removes_everything_unless_something_was_there_before() {
        let host = FakeHost::new();
        let directory = OwnedDirectory { path: "/var/lib/containerd".into() };
        assert_round_trip(&host, &directory);
        let snapshot = directory.snapshot(&host.system).unwrap();
        directory.apply(&host.system, &mut |_| ()).unwrap();
        host.write("/var/lib/containerd/io/x", "x");
        directory.undo(&host.system, &snapshot, &mut |_| ()).unwrap();
        assert!(!host.system.path("/var/lib").exists());
        host.write("/var/lib/containerd/theirs", "x");
        let snapshot = directory.snapshot(&host.system).unwrap();
        directory.undo(&host.system, &snapshot, &mut |_| ()).unwrap();
        assert!(host.system.path("/var/lib/containerd/theirs").exists());
    }
}
