//! The things a host can have, one file each. They are checked, applied and undone by the agent on the host itself.
//!
//! A resource is a value: it says what shall be. The runner makes it, sends it, prints it in a plan; only the agent touches
//! the host. Paths go through [`System`], so that tests use a directory instead of `/`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// The host as resources see it.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
}

impl System {
    /// The host whose root directory is `root`: `/`, or a test's directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        System { root: root.into() }
    }

    /// Where the absolute `path` of the host is.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// How a resource is found on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// As it shall be.
    Present,
    /// Not there at all.
    Absent,
    /// There, but otherwise. Both sides are short texts for a plan, without secrets.
    Differs {
        /// What is.
        is: String,
        /// What shall be.
        shall: String,
    },
}

/// What a resource found before its first change, as it wants it back for [`Act::undo`].
pub type Before = serde_json::Value;

/// One thing a host must have.
pub trait Act {
    /// What it is, short and unique on its host: `sysctl net.ipv4.ip_forward=1`.
    fn title(&self) -> String;

    /// How it is now. Never changes the host.
    fn check(&self, system: &System) -> Result<State>;

    /// What is needed to bring back what is now; taken before the first change and written to the undo ledger.
    fn before(&self, system: &System) -> Result<Before>;

    /// Makes it so. Twice is the same as once. `say` takes lines of output.
    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()>;

    /// Back to what it was before. Twice is the same as once.
    fn undo(&self, system: &System, before: &Before, say: &mut dyn FnMut(&str)) -> Result<()>;
}
