//! A systemd unit: `systemctl enable` and `restart`.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::{Reconcile, Snapshot, State, System};
use crate::error::Failure;
use crate::image::{Digest, Hasher};

/// The environment variable with the digest of the inputs that a process was started with.
const INPUTS: &str = "SEALIFT_INPUTS";

/// A systemd unit: enabled, running, and restarted after its inputs changed.
///
/// A drop-in file puts a digest of the inputs into the process's environment; a process with another digest is out of date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemdUnit {
    /// Its full name: `containerd.service`.
    pub name: String,
    /// Whether it must be enabled; `false` leaves that unchanged.
    pub enabled: bool,
    /// Whether it must run; `false` leaves that unchanged.
    pub running: bool,
    /// Files that it must be restarted after a change of: the unit file, its configuration, its program.
    #[serde(default)]
    pub inputs: Vec<PathBuf>,
    /// The digests that inputs shall have, where the operator's machine knows them: those of files that an image brings. With them a
    /// check says whether the unit will be restarted before the files are on the host, so that a plan is exact.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contents: BTreeMap<PathBuf, Digest>,
}

/// Properties of a unit, as `systemctl show` reports them.
struct UnitProperties(BTreeMap<String, String>);

/// The snapshot.
#[derive(Serialize, Deserialize)]
struct PreviousState {
    enabled: bool,
    running: bool,
    drop_in: Backup,
}

impl SystemdUnit {
    /// A unit that is enabled and runs, and is restarted after a change of `inputs`.
    pub fn running(name: impl Into<String>, inputs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        SystemdUnit {
            name: name.into(),
            enabled: true,
            running: true,
            inputs: inputs.into_iter().map(Into::into).collect(),
            contents: BTreeMap::new(),
        }
    }

    /// A unit that is enabled, whether it runs or not.
    pub fn enabled(name: impl Into<String>) -> Self {
        SystemdUnit { name: name.into(), enabled: true, running: false, inputs: Vec::new(), contents: BTreeMap::new() }
    }

    fn drop_in(&self) -> PathBuf {
        PathBuf::from(format!("/etc/systemd/system/{}.d/50-sealift.conf", self.name))
    }

    fn drop_in_text(&self, system: &System) -> Result<Option<String>> {
        if self.inputs.is_empty() {
            return Ok(None);
        }
        Ok(Some(format!("# written by sealift\n[Service]\nEnvironment={INPUTS}={}\n", self.digest(system)?)))
    }

    /// A digest of the inputs: what each shall be where that is known, else what it is.
    fn digest(&self, system: &System) -> Result<String> {
        let mut hasher = Hasher::new(std::io::sink());
        for input in &self.inputs {
            hasher.update(input.as_os_str().as_bytes());
            match (self.contents.get(input), std::fs::File::open(system.path(input))) {
                (Some(digest), _) => hasher.update(digest.to_string().as_bytes()),
                (None, Ok(mut file)) => drop(std::io::copy(&mut file, &mut hasher).with_context(|| input.display().to_string())?),
                (None, Err(_)) => hasher.update(b"absent"),
            }
        }
        Ok(hasher.finish().0.digest.short())
    }

    fn properties(&self, system: &System) -> Result<UnitProperties> {
        let text = system.output(&[
            "systemctl",
            "show",
            "--property=LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,MainPID,Result",
            "--",
            &self.name,
        ])?;
        Ok(UnitProperties(text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()))
    }

    /// Whether the running process was started with the present inputs. A process that hides its environment counts as current.
    fn is_current(&self, system: &System, unit: &UnitProperties) -> Result<bool> {
        let Some(text) = self.drop_in_text(system)? else { return Ok(true) };
        if system.read_text(self.drop_in())? != text {
            return Ok(false);
        }
        Ok(self.has_present_inputs(system, unit)?.unwrap_or(true))
    }

    /// Whether the running process was started with the present inputs; `None` if its environment does not show them.
    fn has_present_inputs(&self, system: &System, unit: &UnitProperties) -> Result<Option<bool>> {
        let environment = std::fs::read(system.path(format!("/proc/{}/environ", unit.get("MainPID")))).unwrap_or_default();
        let expected = format!("{INPUTS}={}", self.digest(system)?);
        let variable = environment.split(|&byte| byte == 0).find(|variable| variable.starts_with(INPUTS.as_bytes()));
        Ok(variable.map(|variable| variable == expected.as_bytes()))
    }

    fn status_text(&self, system: &System) -> String {
        let status = system.command("systemctl").args(["status", "--no-pager", "--full", "--lines=8", "--", &self.name]).output();
        status.map(|output| String::from_utf8_lossy(&output.stdout).trim().replace('\n', "\n  ")).unwrap_or_default()
    }

    fn restart(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        system.run(&["systemctl", "reset-failed", "--", &self.name], &mut |_| ()).ok();
        system.run(&["systemctl", "restart", "--", &self.name], log).with_context(|| {
            Failure::failed(format!("unit {} does not start:\n  {}", self.name, self.status_text(system)))
                .hint(format!("see `journalctl -u {}` on the host", self.name))
        })
    }
}

impl UnitProperties {
    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn exists(&self) -> bool {
        !matches!(self.get("LoadState"), "not-found" | "")
    }

    fn is_enabled(&self) -> bool {
        matches!(self.get("UnitFileState"), "enabled" | "static" | "alias" | "generated" | "indirect")
    }

    fn is_active(&self) -> bool {
        matches!(self.get("ActiveState"), "active" | "reloading")
    }
}

impl Reconcile for SystemdUnit {
    fn title(&self) -> String {
        format!("unit {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        let unit = self.properties(system)?;
        Ok(if !unit.exists() {
            State::Absent
        } else if self.enabled && !unit.is_enabled() {
            State::differs("disabled", "enabled")
        } else if self.running && !unit.is_active() {
            State::differs(format!("{} ({})", unit.get("ActiveState"), unit.get("SubState")), "running")
        } else if self.running && (unit.get("NeedDaemonReload") == "yes" || !self.is_current(system, &unit)?) {
            State::differs("started before its files changed", "restarted")
        } else {
            State::Present
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let unit = self.properties(system)?;
        let exists = unit.exists();
        let drop_in = Backup::of(system, &self.drop_in())?;
        Ok(serde_json::to_value(PreviousState { enabled: exists && unit.is_enabled(), running: exists && unit.is_active(), drop_in })?)
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        if let Some(text) = self.drop_in_text(system)?
            && system.read_text(self.drop_in())? != text
        {
            backup::write_file(&system.path(self.drop_in()), text.as_bytes(), FileMode::of_current_user(0o644))?;
        }
        system.run(&["systemctl", "daemon-reload"], log)?;
        let unit = self.properties(system)?;
        if !unit.exists() {
            return Err(Failure::failed(format!("unit {}: no such unit file", self.name))
                .hint("add it to the image below `host/etc/systemd/system/`")
                .into());
        }
        if self.enabled && !unit.is_enabled() {
            system.run(&["systemctl", "enable", "--quiet", "--", &self.name], log)?;
        }
        // a process that hides its environment may be out of date: restart it
        if self.running && !(unit.is_active() && (self.inputs.is_empty() || self.has_present_inputs(system, &unit)? == Some(true))) {
            self.restart(system, log)?;
        }
        Ok(())
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, log: &mut dyn FnMut(&str)) -> Result<()> {
        let previous = PreviousState::deserialize(snapshot)?;
        let unit = self.properties(system)?;
        if unit.exists() && !previous.running {
            system.run(&["systemctl", "stop", "--", &self.name], log)?;
            system.run(&["systemctl", "reset-failed", "--", &self.name], &mut |_| ()).ok();
        }
        if unit.exists() && !previous.enabled && unit.get("UnitFileState") == "enabled" {
            system.run(&["systemctl", "disable", "--quiet", "--", &self.name], log)?;
        }
        previous.drop_in.restore(system, Path::new(&self.drop_in()))?;
        system.run(&["systemctl", "daemon-reload"], log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::ROOTFS;
    use crate::resource::tests::FakeHost;

    /// A unit whose process was started with what is on the host now.
    fn started(host: &FakeHost, unit: &SystemdUnit) {
        host.program("systemctl", "printf 'LoadState=loaded\\nActiveState=active\\nUnitFileState=enabled\\nMainPID=7\\n'");
        let text = unit.drop_in_text(&host.system).unwrap().unwrap();
        host.write(&unit.drop_in().display().to_string(), &text);
        host.write("/proc/7/environ", &format!("A=b\0{INPUTS}={}\0", unit.digest(&host.system).unwrap()));
    }

    #[test]
    fn a_unit_is_out_of_date_when_what_it_reads_changes_and_only_then() {
        let host = FakeHost::new();
        host.write("/etc/a.conf", "a");
        let unit = SystemdUnit::running("a.service", ["/etc/a.conf", "/usr/bin/a", "/etc/absent"]);
        let with = |program: &str| {
            let contents = [(PathBuf::from("/usr/bin/a"), Digest::of(program.as_bytes()))].into();
            SystemdUnit { contents, ..unit.clone() }
        };
        started(&host, &with("program"));
        let present = |unit: &SystemdUnit| unit.check(&host.system).unwrap() == State::Present;
        assert!(present(&with("program")), "with the program's file not even there yet");
        host.write("/usr/bin/a", "whatever is installed before");
        assert!(present(&with("program")));
        assert!(!present(&with("next program")), "known before it is installed");
        host.write("/etc/a.conf", "b");
        assert!(!present(&with("program")));
    }

    #[test]
    fn the_same_program_in_another_root_file_system_is_no_change() {
        let host = FakeHost::new();
        let unit = SystemdUnit::running("x.service", ["/usr/bin/x", "/etc/x.toml"]);
        host.write("/etc/x.toml", "a = 1\n");
        for (rootfs, program) in [("1", "elf 1"), ("2", "elf 1"), ("3", "elf 2")] {
            host.write(&format!("{ROOTFS}/{rootfs}/host/usr/bin/x"), program);
        }
        backup::replace_symlink(&host.system.path("/usr/bin/x"), &host.system.path(ROOTFS).join("current/host/usr/bin/x")).unwrap();
        let digest_with = |rootfs: &str| {
            backup::replace_symlink(&host.system.path(ROOTFS).join("current"), Path::new(rootfs)).unwrap();
            unit.digest(&host.system).unwrap()
        };
        let first = digest_with("1");
        assert_eq!(digest_with("2"), first);
        assert_ne!(digest_with("3"), first);
        host.write("/etc/x.toml", "a = 2\n");
        assert_ne!(digest_with("1"), first);
    }
}
