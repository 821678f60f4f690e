//! A symbolic link.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup};
use super::{Reconcile, Snapshot, State, System};

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    /// Its absolute path.
    pub path: PathBuf,
    /// Where it points.
    pub target: PathBuf,
}

impl Symlink {
    /// The link `path` to `target`.
    pub fn new(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Symlink { path: path.into(), target: target.into() }
    }
}

impl Reconcile for Symlink {
    fn title(&self) -> String {
        format!("link {}", self.path.display())
    }

    fn check(&self, system: &System) -> Result<State> {
        let place = system.path(&self.path);
        let shall = || format!("-> {}", self.target.display());
        Ok(match backup::meta(&place)? {
            None => State::Absent,
            Some(meta) if !meta.is_symlink() => State::differs("not a link", shall()),
            Some(_) => {
                let is = fs_err::read_link(&place)?;
                if is == self.target { State::Present } else { State::differs(format!("-> {}", is.display()), shall()) }
            }
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Backup::of(system, &self.path)?)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        backup::put_link(&system.path(&self.path), &self.target)
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Backup::deserialize(before)?.restore(system, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn links_are_made_in_place_of_what_was_there_and_taken_back() {
        let lab = Lab::new();
        lab.write("/usr/bin/tool", "old");
        round(&lab, &Symlink::new("/usr/bin/tool", "/var/lib/sealift/rootfs/current/host/usr/bin/tool"));
        assert_eq!(lab.read("/usr/bin/tool"), "old");
    }
}
