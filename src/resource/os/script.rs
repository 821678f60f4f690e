//! A script of an image that changes a host, with scripts that check and undo it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Reconcile, Snapshot, State, System};
use crate::error::Failure;
use crate::image::{Digest, Hasher};
use crate::paths::STAMPS;
use crate::resource::stop::run_stoppable;

/// A script, with optional scripts that check and undo what it does. Without a check it runs again only after it or its
/// environment changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// A short name for the title: `install`.
    pub name: String,
    /// The working directory, absolute on the host.
    pub directory: PathBuf,
    /// The script, relative to the directory.
    pub apply: PathBuf,
    /// A script that exits with 0 if nothing has to be done.
    #[serde(default)]
    pub check: Option<PathBuf>,
    /// A script that undoes it. It also runs where the script itself was interrupted or failed, and again until it succeeds.
    #[serde(default)]
    pub undo: Option<PathBuf>,
    /// The environment variables of all three. May hold secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The names of variables that are not secret. The undo script gets only these, because they are stored on the host.
    #[serde(default)]
    pub public: BTreeSet<String>,
}

impl Script {
    fn full_path(&self, system: &System, script: &Path) -> PathBuf {
        system.path(self.directory.join(script))
    }

    fn run(&self, system: &System, script: &Path, log: &mut dyn FnMut(&str)) -> Result<()> {
        let full_path = self.full_path(system, script);
        if !full_path.is_file() {
            return Err(Failure::failed(format!("script {}: not in the image", full_path.display()))
                .hint("check the path in the image with `sealift inspect --files`")
                .into());
        }
        let mut command = system.shell();
        command.arg(&full_path).envs(&self.env).current_dir(system.path(&self.directory));
        run_stoppable(system, command, &script.display().to_string(), log).with_context(|| format!("script {}", self.name))
    }

    /// The same with public variables only.
    pub(in crate::resource) fn for_undo(&self) -> Self {
        let mut undo = self.clone();
        undo.env.retain(|name, _| self.public.contains(name));
        undo
    }

    fn stamp(&self) -> PathBuf {
        Path::new(STAMPS).join(Digest::of(self.name.as_bytes()).short())
    }

    /// The content of the stamp after it ran: a digest of the script and its environment.
    fn digest(&self, system: &System) -> Result<String> {
        let mut hasher = Hasher::new(std::io::sink());
        hasher.update(&fs_err::read(self.full_path(system, &self.apply))?);
        hasher.update(serde_json::to_string(&self.env)?.as_bytes());
        Ok(format!("{}\n", hasher.finish().0.digest))
    }
}

fn missing_undo(path: &Path) -> anyhow::Error {
    let path = path.display();
    Failure::failed(format!("{path}: not on the host: what the image installed cannot be undone without it"))
        .hint("put the image's files on the host again: `sealift run`, then reset")
        .hint(format!("if you have removed by hand what the image installed, put an empty file at {path}"))
        .into()
}

impl Reconcile for Script {
    fn title(&self) -> String {
        format!("script {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        if !self.full_path(system, &self.apply).is_file() {
            return Ok(State::Absent);
        }
        let present = match &self.check {
            Some(script) => self.run(&system.without_stop(), script, &mut |_| ()).is_ok(),
            None => system.read_text(self.stamp())? == self.digest(system)?,
        };
        Ok(if present { State::Present } else { State::Absent })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        self.run(system, &self.apply, log)?;
        if self.check.is_some() { Ok(()) } else { system.write_text(self.stamp(), &self.digest(system)?) }
    }

    fn undo(&self, system: &System, _: &Snapshot, log: &mut dyn FnMut(&str)) -> Result<()> {
        if let Some(script) = &self.undo {
            if !self.full_path(system, script).is_file() {
                return Err(missing_undo(&self.directory.join(script)));
            }
            self.run(system, script, log)?;
        }
        system.write_text(self.stamp(), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    fn script(host: &FakeHost) -> Script {
        host.write("/image/install.sh", "echo installing $WHAT; touch done");
        host.write("/image/check.sh", "test -e done");
        host.write("/image/uninstall.sh", "rm -f done");
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
        let host = FakeHost::real_programs();
        let script = script(&host);
        let mut lines = Vec::new();
        script.apply(&host.system, &mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["installing etcd"]);
        script.undo(&host.system, &json!({}), &mut |_| ()).unwrap();
        assert_round_trip(&host, &script);
    }

    #[test]
    fn without_a_check_it_runs_again_after_a_change() {
        let host = FakeHost::real_programs();
        let mut script = Script { check: None, ..script(&host) };
        assert_round_trip(&host, &script);
        script.apply(&host.system, &mut |_| ()).unwrap();
        script.env.insert("WHAT".into(), "redis".into());
        assert_eq!(script.check(&host.system).unwrap(), State::Absent);
    }
}
