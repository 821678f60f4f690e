//! A command that an image or a Clusterfile wants run once on a host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::system::run;
use super::{Reconcile, Snapshot, State, System};
use crate::image::Digest;
use crate::paths::STAMPS;

/// A line for the shell. It is run again when it, its environment or what it belongs to changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What it belongs to, short: the title.
    pub name: String,
    /// Where it runs: an absolute path on the host.
    pub directory: PathBuf,
    /// The line.
    pub line: String,
    /// Its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The digest of the image that it came with.
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
        let stamp = system.text(self.stamp())?;
        Ok(if stamp.is_empty() {
            State::Absent
        } else if stamp == self.digest()? {
            State::Present
        } else {
            State::differs("ran with another image or environment", "run")
        })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        let shell = if system.path("/bin/bash").exists() { "bash" } else { "sh" };
        let mut command = system.command(shell);
        command.arg("-ec").arg(&self.line).envs(&self.env).current_dir(system.path(&self.directory));
        run(command, None, &self.line, say).with_context(|| self.name.clone())?;
        system.write_text(self.stamp(), &self.digest()?)
    }

    fn undo(&self, system: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        system.write_text(self.stamp(), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn commands_run_once_and_again_when_they_changed() {
        let lab = Lab::real_programs();
        lab.write("/bin/sh", "");
        lab.write("/app/x", "");
        let mut command = Command {
            name: "app x".into(),
            directory: "/app".into(),
            line: "echo $WHAT >> said".into(),
            env: [("WHAT".to_owned(), "one".to_owned())].into(),
            image: Digest::of(b"image"),
        };
        round(&lab, &command);
        command.apply(&lab.system, &mut |_| ()).unwrap();
        command.env.insert("WHAT".into(), "two".into());
        assert!(matches!(command.check(&lab.system).unwrap(), State::Differs { .. }));
        command.apply(&lab.system, &mut |_| ()).unwrap();
        assert!(lab.read("/app/said").ends_with("one\ntwo\n"));
    }
}
