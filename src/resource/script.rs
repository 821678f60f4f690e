//! A script that an image brings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::system::run;
use super::{Reconcile, Snapshot, State, System};
use crate::error::Failure;
use crate::image::{Digest, Hasher};
use crate::paths::STAMPS;

/// A script with its counterparts that check and undo. Without one that checks, it is run again when it or its environment
/// changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// What it brings about, short: the title.
    pub name: String,
    /// Where it runs: an absolute path on the host.
    pub directory: PathBuf,
    /// The script, relative to the directory.
    pub apply: PathBuf,
    /// A script that ends with status 0 when all is as it shall be.
    #[serde(default)]
    pub check: Option<PathBuf>,
    /// A script that takes it back.
    #[serde(default)]
    pub undo: Option<PathBuf>,
    /// The environment of all three.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The names of variables that are no secrets: the script that takes it back gets these alone, for they stay on the host.
    #[serde(default)]
    pub public: BTreeSet<String>,
}

impl Script {
    fn place(&self, system: &System, script: &Path) -> PathBuf {
        system.path(self.directory.join(script))
    }

    fn run(&self, system: &System, script: &Path, say: &mut dyn FnMut(&str)) -> Result<()> {
        let place = self.place(system, script);
        if !place.is_file() {
            return Err(Failure::failed(format!("script {}: not in the image", place.display())).into());
        }
        let shell = if system.path("/bin/bash").exists() { "bash" } else { "sh" };
        let mut command = system.command(shell);
        command.arg(&place).envs(&self.env).current_dir(system.path(&self.directory));
        run(command, None, &script.display().to_string(), say).with_context(|| format!("script {}", self.name))
    }

    /// The same with its public variables only.
    pub(super) fn for_undo(&self) -> Self {
        let mut undo = self.clone();
        undo.env.retain(|name, _| self.public.contains(name));
        undo
    }

    fn stamp(&self) -> PathBuf {
        Path::new(STAMPS).join(Digest::of(self.name.as_bytes()).short())
    }

    /// What the stamp says after it ran: a digest of the script and its environment.
    fn digest(&self, system: &System) -> Result<String> {
        let mut hasher = Hasher::new(std::io::sink());
        hasher.update(&fs_err::read(self.place(system, &self.apply))?);
        hasher.update(serde_json::to_string(&self.env)?.as_bytes());
        Ok(format!("{}\n", hasher.finish().0.digest))
    }
}

impl Reconcile for Script {
    fn title(&self) -> String {
        format!("script {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        if !self.place(system, &self.apply).is_file() {
            return Ok(State::Absent);
        }
        let present = match &self.check {
            Some(script) => self.run(system, script, &mut |_| ()).is_ok(),
            None => system.text(self.stamp())? == self.digest(system)?,
        };
        Ok(if present { State::Present } else { State::Absent })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        self.run(system, &self.apply, say)?;
        if self.check.is_some() { Ok(()) } else { system.write_text(self.stamp(), &self.digest(system)?) }
    }

    fn undo(&self, system: &System, _: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<()> {
        if let Some(script) = &self.undo {
            // without the image's files there is nothing that could have been done, or nothing left to do it with
            if self.place(system, script).is_file() {
                self.run(system, script, say)?;
            }
        }
        system.write_text(self.stamp(), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    fn script(lab: &Lab) -> Script {
        lab.write("/image/install.sh", "echo installing $WHAT; touch done");
        lab.write("/image/check.sh", "test -e done");
        lab.write("/image/uninstall.sh", "rm -f done");
        Script {
            name: "install".into(),
            directory: "/image".into(),
            apply: "install.sh".into(),
            check: Some("check.sh".into()),
            undo: Some("uninstall.sh".into()),
            env: [("WHAT".to_owned(), "etcd".to_owned())].into(),
            public: BTreeSet::new(),
        }
    }

    #[test]
    fn scripts_run_in_their_directory_with_their_environment() {
        let lab = Lab::real_programs();
        let script = script(&lab);
        let mut lines = Vec::new();
        script.apply(&lab.system, &mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["installing etcd"]);
        script.undo(&lab.system, &json!({}), &mut |_| ()).unwrap();
        round(&lab, &script);
    }

    #[test]
    fn without_a_check_it_runs_again_when_it_changed() {
        let lab = Lab::real_programs();
        let mut script = Script { check: None, ..script(&lab) };
        round(&lab, &script);
        script.apply(&lab.system, &mut |_| ()).unwrap();
        script.env.insert("WHAT".into(), "redis".into());
        assert_eq!(script.check(&lab.system).unwrap(), State::Absent);
    }
}
