//! A systemd unit.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::{Reconcile, Snapshot, State, System};
use crate::error::Failure;
use crate::image::Hasher;
use crate::paths::ROOTFS;

/// The variable that tells a running unit's inputs.
const INPUTS: &str = "SEALIFT_INPUTS";

/// A systemd unit: enabled, running, and restarted when its inputs changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemdUnit {
    /// Its full name: `containerd.service`.
    pub name: String,
    /// Whether it starts at boot; `false` leaves that alone.
    pub enabled: bool,
    /// Whether it runs; `false` leaves that alone.
    pub running: bool,
    /// Files whose content decides whether what runs is current: the unit file, its configuration, its program.
    #[serde(default)]
    pub inputs: Vec<PathBuf>,
}

/// What systemd says about a unit.
struct Shown(BTreeMap<String, String>);

/// What was before.
#[derive(Serialize, Deserialize)]
struct Was {
    enabled: bool,
    running: bool,
    drop_in: Backup,
}

impl SystemdUnit {
    /// A unit that is enabled and runs, restarted when `inputs` changed.
    pub fn running(name: impl Into<String>, inputs: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        SystemdUnit { name: name.into(), enabled: true, running: true, inputs: inputs.into_iter().map(Into::into).collect() }
    }

    /// A unit that starts at boot, or when something else starts it.
    pub fn enabled(name: impl Into<String>) -> Self {
        SystemdUnit { name: name.into(), enabled: true, running: false, inputs: Vec::new() }
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

    /// A digest of the inputs as they are now. Files of an unpacked root file system are known by their place.
    fn digest(&self, system: &System) -> Result<String> {
        let mut hasher = Hasher::new(std::io::sink());
        for input in &self.inputs {
            let place = system.path(input);
            hasher.update(input.as_os_str().as_bytes());
            let real = std::fs::canonicalize(&place).unwrap_or(place);
            match std::fs::File::open(&real) {
                _ if real.starts_with(system.path(ROOTFS)) => hasher.update(real.as_os_str().as_bytes()),
                Ok(mut file) => drop(std::io::copy(&mut file, &mut hasher).with_context(|| input.display().to_string())?),
                Err(_) => hasher.update(b"absent"),
            }
        }
        Ok(hasher.finish().0.digest.short())
    }

    fn show(&self, system: &System) -> Result<Shown> {
        let text = system.output(&[
            "systemctl",
            "show",
            "--property=LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,MainPID,Result",
            "--",
            &self.name,
        ])?;
        Ok(Shown(text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()))
    }

    /// Whether what runs was started with the present inputs. Programs that hide their environment are believed.
    fn runs_current(&self, system: &System, shown: &Shown) -> Result<bool> {
        let Some(text) = self.drop_in_text(system)? else { return Ok(true) };
        if system.text(self.drop_in())? != text {
            return Ok(false);
        }
        let environment = std::fs::read(system.path(format!("/proc/{}/environ", shown.get("MainPID")))).unwrap_or_default();
        let wanted = format!("{INPUTS}={}", self.digest(system)?);
        let told = environment.split(|&byte| byte == 0).find(|variable| variable.starts_with(INPUTS.as_bytes()));
        Ok(match told {
            Some(variable) => variable == wanted.as_bytes(),
            None => true,
        })
    }

    fn why_not(&self, system: &System) -> String {
        let status = system.command("systemctl").args(["status", "--no-pager", "--full", "--lines=8", "--", &self.name]).output();
        status.map(|output| String::from_utf8_lossy(&output.stdout).trim().replace('\n', "\n  ")).unwrap_or_default()
    }

    fn restart(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        system.run(&["systemctl", "reset-failed", "--", &self.name], &mut |_| ()).ok();
        system.run(&["systemctl", "restart", "--", &self.name], say).with_context(|| {
            Failure::failed(format!("unit {} does not start:\n  {}", self.name, self.why_not(system)))
                .hint(format!("look at `journalctl -u {}` on the host", self.name))
        })
    }
}

impl Shown {
    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn is_there(&self) -> bool {
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
        let shown = self.show(system)?;
        Ok(if !shown.is_there() {
            State::Absent
        } else if self.enabled && !shown.is_enabled() {
            State::differs("not started at boot", "started at boot")
        } else if self.running && !shown.is_active() {
            State::differs(format!("{} ({})", shown.get("ActiveState"), shown.get("SubState")), "running")
        } else if self.running && (shown.get("NeedDaemonReload") == "yes" || !self.runs_current(system, &shown)?) {
            State::differs("started before its files changed", "restarted")
        } else {
            State::Present
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let shown = self.show(system)?;
        let there = shown.is_there();
        let drop_in = Backup::of(system, &self.drop_in())?;
        Ok(serde_json::to_value(Was { enabled: there && shown.is_enabled(), running: there && shown.is_active(), drop_in })?)
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        if let Some(text) = self.drop_in_text(system)?
            && system.text(self.drop_in())? != text
        {
            backup::put_file(&system.path(self.drop_in()), text.as_bytes(), FileMode::own(0o644))?;
        }
        system.run(&["systemctl", "daemon-reload"], say)?;
        let shown = self.show(system)?;
        if !shown.is_there() {
            return Err(Failure::failed(format!("unit {}: there is no such unit file", self.name)).into());
        }
        if self.enabled && !shown.is_enabled() {
            system.run(&["systemctl", "enable", "--quiet", "--", &self.name], say)?;
        }
        if self.running && !(shown.is_active() && self.started_current(system, &shown)?) {
            self.restart(system, say)?;
        }
        Ok(())
    }

    fn undo(&self, system: &System, before: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<()> {
        let was = Was::deserialize(before)?;
        let shown = self.show(system)?;
        if shown.is_there() && !was.running {
            system.run(&["systemctl", "stop", "--", &self.name], say)?;
            system.run(&["systemctl", "reset-failed", "--", &self.name], &mut |_| ()).ok();
        }
        if shown.is_there() && !was.enabled && shown.get("UnitFileState") == "enabled" {
            system.run(&["systemctl", "disable", "--quiet", "--", &self.name], say)?;
        }
        was.drop_in.restore(system, Path::new(&self.drop_in()))?;
        system.run(&["systemctl", "daemon-reload"], say)
    }
}

impl SystemdUnit {
    /// After a daemon-reload: whether the running process already has the present inputs.
    fn started_current(&self, system: &System, shown: &Shown) -> Result<bool> {
        if self.inputs.is_empty() {
            return Ok(true);
        }
        let environment = std::fs::read(system.path(format!("/proc/{}/environ", shown.get("MainPID")))).unwrap_or_default();
        let wanted = format!("{INPUTS}={}", self.digest(system)?);
        Ok(environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes()))
    }
}
