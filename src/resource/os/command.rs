//! A shell command that an image or a Clusterfile runs once on a host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Reconcile, Snapshot, State, System};
use crate::image::Digest;
use crate::paths::STAMPS;
use crate::resource::stop::run_stoppable;

/// A shell command. It runs again only after the command, its environment or its image changed.
///
/// A digest of all of these is kept in a stamp file on the host; the environment itself, which may hold secrets, is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What it belongs to, for the title: `app shop`.
    pub name: String,
    /// Its working directory, absolute on the host.
    pub directory: PathBuf,
    /// The command line, run by `bash -ec`, or `sh -ec` where there is no bash.
    pub line: String,
    /// Its environment variables. May hold secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The digest of the image that contains it.
    pub image: Digest,
}

impl Command {
    fn stamp(&self) -> PathBuf {
        Path::new(STAMPS).join(Digest::of(self.title().as_bytes()).short())
    }

    fn digest(&self) -> Result<String> {
        Ok(format!("{}\n", Digest::of(serde_json::to_string(self)?.as_bytes())))
    }
}

impl Reconcile for Command {
    fn title(&self) -> String {
        format!("{}: {}", self.name, self.line)
    }

    fn check(&self, system: &System) -> Result<State> {
        let stamp = system.read_text(self.stamp())?;
        Ok(if stamp.is_empty() {
            State::Absent
        } else if stamp == self.digest()? {
            State::Present
        } else {
            State::differs("ran with another image or environment", "run with this one")
        })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        let mut command = system.shell();
        command.arg("-ec").arg(&self.line).envs(&self.env).current_dir(system.path(&self.directory));
        run_stoppable(system, command, &self.line, log).with_context(|| self.name.clone())?;
        system.write_text(self.stamp(), &self.digest()?)
    }

    fn undo(&self, system: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        system.write_text(self.stamp(), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn commands_run_once_and_again_after_a_change() {
        let host = FakeHost::real_programs();
        host.write("/bin/sh", "");
        host.write("/app/x", "");
        let mut command = Command {
            name: "app x".into(),
            directory: "/app".into(),
            line: "echo $WHAT >> output".into(),
            env: [("WHAT".to_owned(), "one".to_owned())].into(),
            image: Digest::of(b"image"),
        };
        assert_round_trip(&host, &command);
        command.apply(&host.system, &mut |_| ()).unwrap();
        command.env.insert("WHAT".into(), "two".into());
        assert!(matches!(command.check(&host.system).unwrap(), State::Differs { .. }));
        command.apply(&host.system, &mut |_| ()).unwrap();
        assert!(host.read("/app/output").ends_with("one\ntwo\n"));
    }
}
