//! A directory whose whole content is a cluster's.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::backup::Backup;
use super::{Reconcile, Snapshot, State, System, mounts};

/// A directory that the cluster's programs fill. Taken back, it goes with everything in it, mounts included, if it was not
/// there or empty before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedDirectory {
    /// Its absolute path.
    pub path: PathBuf,
}

/// What was before.
#[derive(Serialize, Deserialize)]
struct Was {
    kept: Backup,
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
        Ok(serde_json::to_value(Was { kept: Backup::of(system, &self.path)?, empty: self.is_empty(system) })?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(fs_err::create_dir_all(system.path(&self.path))?)
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        let was = Was::deserialize(before)?;
        if !was.empty {
            return Ok(());
        }
        mounts::empty(system, &self.path)?;
        was.kept.restore(system, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn all_in_it_goes_unless_something_was_there_before() {
        let lab = Lab::new();
        let tree = OwnedDirectory { path: "/var/lib/containerd".into() };
        round(&lab, &tree);
        let before = tree.snapshot(&lab.system).unwrap();
        tree.apply(&lab.system, &mut |_| ()).unwrap();
        lab.write("/var/lib/containerd/io/x", "x");
        tree.undo(&lab.system, &before, &mut |_| ()).unwrap();
        assert!(!lab.system.path("/var/lib").exists());
        lab.write("/var/lib/containerd/theirs", "x");
        let before = tree.snapshot(&lab.system).unwrap();
        tree.undo(&lab.system, &before, &mut |_| ()).unwrap();
        assert!(lab.system.path("/var/lib/containerd/theirs").exists());
    }
}
