//! A symbolic link on a host.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup};
use super::{Reconcile, Snapshot, State, System};

/// A symbolic link. It replaces a file or an empty directory; undo restores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    /// Its absolute path.
    pub path: PathBuf,
    /// What it points at, absolute or relative to its directory.
    pub target: PathBuf,
}

impl Symlink {
    /// A link at `path` that points at `target`.
    pub fn new(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Symlink { path: path.into(), target: target.into() }
    }
}

impl Reconcile for Symlink {
    fn title(&self) -> String {
        format!("link {}", self.path.display())
    }

    fn check(&self, system: &System) -> Result<State> {
        let path = system.path(&self.path);
        let desired = || format!("-> {}", self.target.display());
        Ok(match backup::metadata(&path)? {
            None => State::Absent,
            Some(meta) if !meta.is_symlink() => State::differs("not a symbolic link", desired()),
            Some(_) => {
                let actual = fs_err::read_link(&path)?;
                if actual == self.target { State::Present } else { State::differs(format!("-> {}", actual.display()), desired()) }
            }
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Backup::of(system, &self.path)?)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        backup::replace_symlink(&system.path(&self.path), &self.target)
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Backup::deserialize(snapshot)?.restore(system, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn links_replace_what_was_there_and_are_undone() {
        let host = FakeHost::new();
        host.write("/usr/bin/tool", "old");
        assert_round_trip(&host, &Symlink::new("/usr/bin/tool", "/var/lib/sealift/rootfs/current/host/usr/bin/tool"));
        assert_eq!(host.read("/usr/bin/tool"), "old");
    }
}
