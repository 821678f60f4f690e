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

/// A shell command. It runs again only after the command, its environment or its image changed, also when that is one that ran before.
///
/// The commands of one application share a stamp file on the host: the image that ran last, and a digest of each of its commands that
/// ran. The environment itself, which may hold secrets, is not kept. Hosts that earlier versions set up have a stamp for each command.
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

/// What a stamp file says.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ran {
    image: Option<Digest>,
    /// The digest of each command, by its title.
    commands: BTreeMap<String, Digest>,
}

impl Command {
    /// What its commands have in common: a second one with the same line is called `launch (time 2)`.
    fn group(&self) -> &str {
        self.name.split(" (time ").next().unwrap_or(&self.name)
    }

    fn stamp(&self) -> PathBuf {
        Path::new(STAMPS).join(format!("{}.json", Digest::of(self.group().as_bytes()).short()))
    }

    /// The stamp of earlier versions: one for each command.
    fn own_stamp(&self) -> PathBuf {
        Path::new(STAMPS).join(Digest::of(self.title().as_bytes()).short())
    }

    fn digest(&self) -> Result<Digest> {
        Ok(Digest::of(serde_json::to_string(self)?.as_bytes()))
    }

    /// What ran; `None` without a stamp. One that cannot be read says nothing.
    fn ran(&self, system: &System) -> Result<Option<Ran>> {
        let text = system.read_text(self.stamp())?;
        Ok((!text.is_empty()).then(|| serde_json::from_str(&text).unwrap_or_default()))
    }
}

impl Reconcile for Command {
    fn title(&self) -> String {
        format!("{}: {}", self.name, self.line)
    }

    fn check(&self, system: &System) -> Result<State> {
        let digest = self.digest()?;
        let (before, now) = match self.ran(system)? {
            Some(ran) => (ran.image.is_some(), ran.image == Some(self.image) && ran.commands.get(&self.title()) == Some(&digest)),
            None => {
                let stamp = system.read_text(self.own_stamp())?;
                (!stamp.is_empty(), stamp.trim_end() == digest.to_string())
            }
        };
        Ok(match (now, before) {
            (true, _) => State::Present,
            (false, true) => State::differs("ran with another image or environment", "run with this one"),
            (false, false) => State::Absent,
        })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        let mut command = system.shell();
        command.arg("-ec").arg(&self.line).envs(&self.env).current_dir(system.path(&self.directory));
        run_stoppable(system, command, &self.line, log).with_context(|| self.name.clone())?;
        let ran = self.ran(system)?.filter(|ran| ran.image == Some(self.image));
        let mut ran = ran.unwrap_or_else(|| Ran { image: Some(self.image), commands: BTreeMap::new() });
        ran.commands.insert(self.title(), self.digest()?);
        system.write_text(self.stamp(), &serde_json::to_string(&ran)?)?;
        system.write_text(self.own_stamp(), "")
    }

    fn undo(&self, system: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        system.write_text(self.stamp(), "")?;
        system.write_text(self.own_stamp(), "")
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

    #[test]
    fn going_back_to_an_earlier_image_runs_its_commands_again() {
        let host = FakeHost::real_programs();
        host.write("/bin/sh", "");
        host.write("/app/x", "");
        let command = |image: &str, line: &str| Command {
            name: "launch team/app".into(),
            directory: "/app".into(),
            line: format!("echo {line} >> output"),
            env: BTreeMap::new(),
            image: Digest::of(image.as_bytes()),
        };
        for (image, lines) in [("one", ["a", "b"]), ("two", ["c", "d"]), ("one", ["a", "b"])] {
            let commands = lines.map(|line| command(image, line));
            assert!(commands.iter().all(|command| command.check(&host.system).unwrap() != State::Present), "{image}");
            for command in &commands {
                assert_ne!(command.check(&host.system).unwrap(), State::Present, "{image}: {}", command.line);
                command.apply(&host.system, &mut |_| ()).unwrap();
            }
            assert!(commands.iter().all(|command| command.check(&host.system).unwrap() == State::Present), "{image}");
        }
        assert_eq!(host.read("/app/output"), "a\nb\nc\nd\na\nb\n");
    }

    #[test]
    fn a_stamp_of_an_earlier_version_counts() {
        let host = FakeHost::real_programs();
        let command = Command {
            name: "launch".into(),
            directory: "/app".into(),
            line: "true".into(),
            env: BTreeMap::new(),
            image: Digest::of(b"image"),
        };
        host.system.write_text(command.own_stamp(), &format!("{}\n", command.digest().unwrap())).unwrap();
        assert_eq!(command.check(&host.system).unwrap(), State::Present);
    }
}
