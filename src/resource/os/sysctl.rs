//! A kernel parameter: `sysctl(8)` now, `sysctl.d(5)` at boot.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::text_lines::{self, Position};
use super::{Reconcile, Snapshot, State, System};
use crate::error::Failure;

/// Read after `99-sysctl.conf`, which is `/etc/sysctl.conf`: the last value of a parameter counts.
const FILE: &str = "/etc/sysctl.d/99-zz-sealift.conf";
/// The file of earlier versions, which `99-sysctl.conf` overrides. Lines move from it to the other.
const OLD_FILE: &str = "/etc/sysctl.d/95-sealift.conf";

/// How the actual value must compare with the desired one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Equal; lists of numbers in any order.
    Exactly,
    /// Equal or greater; several numbers are compared one by one.
    AtLeast,
}

/// A kernel parameter, set now, and at boot by `/etc/sysctl.d/99-zz-sealift.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Its name, as `sysctl(8)` writes it: `net.ipv4.ip_forward`.
    pub key: String,
    /// The desired value.
    pub value: String,
    /// How the actual value must compare with it.
    pub rule: Rule,
    /// Whether a kernel that does not have it, or does not allow setting it, is tolerated.
    #[serde(default)]
    pub optional: bool,
}

/// The snapshot.
#[derive(Serialize, Deserialize)]
struct PreviousState {
    line: Option<String>,
    #[serde(rename = "live")]
    runtime_value: Option<String>,
}

impl Sysctl {
    /// A parameter with exactly this value.
    pub fn exactly(key: impl Into<String>, value: impl ToString) -> Self {
        Sysctl { key: key.into(), value: value.to_string(), rule: Rule::Exactly, optional: false }
    }

    /// A parameter with this value or a greater one.
    pub fn at_least(key: impl Into<String>, value: impl ToString) -> Self {
        Sysctl { rule: Rule::AtLeast, ..Sysctl::exactly(key, value) }
    }

    /// The same, but a kernel that does not have it, or does not allow setting it, is tolerated.
    pub fn optional(self) -> Self {
        Sysctl { optional: true, ..self }
    }

    /// Its file below `/proc/sys`. The first separator decides which of `.` and `/` separates (sysctl.d(5)).
    fn file(&self) -> PathBuf {
        let slashed = self.key.find(['.', '/']).is_some_and(|at| self.key.as_bytes()[at] == b'/');
        let swap = |c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        };
        let path = if slashed { self.key.clone() } else { self.key.chars().map(swap).collect() };
        PathBuf::from("/proc/sys").join(path.trim_start_matches('/'))
    }

    fn runtime_value(&self, system: &System) -> Result<Option<String>> {
        match std::fs::read_to_string(system.path(self.file())) {
            Ok(text) => Ok(Some(text.split_whitespace().collect::<Vec<_>>().join(" "))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound || self.optional => Ok(None),
            Err(error) => Err(error).with_context(|| format!("sysctl {}", self.key)),
        }
    }

    fn satisfies(&self, actual: &str) -> bool {
        let desired: Vec<&str> = self.value.split_whitespace().collect();
        let actual: Vec<&str> = actual.split_whitespace().collect();
        actual.len() == desired.len()
            && actual.iter().zip(&desired).all(|(actual, desired)| match (self.rule, actual.parse::<u64>(), desired.parse::<u64>()) {
                (Rule::AtLeast, Ok(actual), Ok(desired)) => actual >= desired,
                _ => sorted(actual) == sorted(desired),
            })
    }

    fn line(&self) -> String {
        format!("{} = {}", self.key, self.value)
    }

    fn is_for_key(&self, line: &str) -> bool {
        line.split_once('=').is_some_and(|(key, _)| key.trim() == self.key)
    }

    fn set_line(&self, system: &System, line: Option<&str>) -> Result<()> {
        for (file, line) in [(FILE, line), (OLD_FILE, None)] {
            let text = system.read_text(file)?;
            let new = text_lines::set(&text, |line| self.is_for_key(line), line, Position::Last);
            if new != text {
                system.write_text(file, &new)?;
            }
        }
        Ok(())
    }

    /// Its line in one of the files.
    fn line_in(&self, system: &System, file: &str) -> Result<Option<String>> {
        Ok(text_lines::find(&system.read_text(file)?, |line| self.is_for_key(line)).map(str::to_owned))
    }

    fn set_runtime_value(&self, system: &System, value: &str) -> Result<()> {
        let path = system.path(self.file());
        let set = || -> std::io::Result<()> {
            use std::io::Write as _;
            std::fs::OpenOptions::new().write(true).truncate(true).open(&path)?.write_all(format!("{value}\n").as_bytes())
        };
        set().with_context(|| {
            Failure::failed(format!("sysctl {}: not set to {value}", self.key))
                .hint("the kernel does not have it, or a module must be loaded first (see `lsmod` on the host)")
        })
    }
}

impl Reconcile for Sysctl {
    fn title(&self) -> String {
        format!("sysctl {}{}{}", self.key, if self.rule == Rule::AtLeast { ">=" } else { "=" }, self.value)
    }

    fn check(&self, system: &System) -> Result<State> {
        let listed = self.line_in(system, FILE)? == Some(self.line());
        if self.line_in(system, OLD_FILE)?.is_some() {
            return Ok(State::differs(format!("set at boot by {OLD_FILE}"), format!("set at boot by {FILE}")));
        }
        Ok(match self.runtime_value(system)? {
            Some(actual) if self.satisfies(&actual) && (listed || self.rule == Rule::AtLeast) => State::Present,
            Some(actual) if self.satisfies(&actual) => State::differs("not set at boot", "set at boot"),
            Some(_) | None if self.optional && listed => State::Present,
            Some(actual) => State::differs(actual, self.value.clone()),
            None => State::Absent,
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let line = self.line_in(system, FILE)?;
        Ok(serde_json::to_value(PreviousState { line, runtime_value: self.runtime_value(system)? })?)
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        self.set_line(system, Some(&self.line()))?;
        if self.runtime_value(system)?.is_some_and(|actual| self.satisfies(&actual)) {
            return Ok(());
        }
        match self.set_runtime_value(system, &self.value) {
            // an optional parameter that the kernel does not have is not worth a line; one that cannot be set is
            Err(_) if self.optional && !system.path(self.file()).exists() => {}
            Err(error) if self.optional => log(&format!("{error:#}: tolerated")),
            result => result?,
        }
        Ok(())
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, log: &mut dyn FnMut(&str)) -> Result<()> {
        let previous = PreviousState::deserialize(snapshot)?;
        self.set_line(system, previous.line.as_deref())?;
        let Some(runtime_value) = previous.runtime_value else { return Ok(()) };
        if self.runtime_value(system)?.is_some_and(|actual| actual != runtime_value)
            && let Err(error) = self.set_runtime_value(system, &runtime_value)
        {
            log(&format!("{error:#}: stays as it is until the next boot"));
        }
        Ok(())
    }
}

/// The kernel returns lists such as `ip_local_reserved_ports` in its own order.
fn sorted(value: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = value.split(',').collect();
    parts.sort_unstable();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn keys_become_paths_as_in_sysctl() {
        for (key, file) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
            ("net.ipv4.conf.eth0/1.rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
        ] {
            assert_eq!(Sysctl::exactly(key, 1).file(), PathBuf::from(file), "{key}");
        }
    }

    #[test]
    fn values_satisfy_their_rule() {
        for (rule, desired, actual, expected) in [
            (Rule::Exactly, "1", "1", true),
            (Rule::Exactly, "1", "2", false),
            (Rule::Exactly, "4096 87380 6291456", "4096\t87380\t6291456", true),
            (Rule::Exactly, "30000-32767,6443", "6443,30000-32767", true),
            (Rule::AtLeast, "100", "99", false),
            (Rule::AtLeast, "100", "100", true),
            (Rule::AtLeast, "100", "9223372036854775807", true),
            (Rule::AtLeast, "1 2", "1 1", false),
        ] {
            assert_eq!(Sysctl { rule, ..Sysctl::exactly("k", desired) }.satisfies(actual), expected, "{rule:?} {desired} {actual}");
        }
    }

    #[test]
    fn parameters_are_set_now_and_at_boot_and_undone() {
        let host = FakeHost::new();
        host.write("/proc/sys/net/ipv4/ip_forward", "0\n");
        assert_round_trip(&host, &Sysctl::exactly("net.ipv4.ip_forward", 1));
        assert_eq!(host.read("/proc/sys/net/ipv4/ip_forward"), "0\n");
        assert!(!host.system.path(FILE).exists());
    }

    #[test]
    fn the_file_is_read_after_that_of_the_administrator() {
        let name = |path: &str| path.rsplit('/').next().unwrap().to_owned();
        assert!(name(FILE) > name("/etc/sysctl.d/99-sysctl.conf") && name(OLD_FILE) < name("/etc/sysctl.d/99-sysctl.conf"));
    }

    #[test]
    fn lines_of_earlier_versions_move_and_are_undone() {
        let host = FakeHost::new();
        host.write("/proc/sys/vm/x", "1\n");
        host.write("/proc/sys/vm/y", "500\n");
        host.write(OLD_FILE, "vm.x = 1\nvm.y = 100\n");
        for sysctl in [Sysctl::exactly("vm.x", 1), Sysctl::at_least("vm.y", 100)] {
            assert!(matches!(sysctl.check(&host.system).unwrap(), State::Differs { .. }), "{}", sysctl.title());
            sysctl.apply(&host.system, &mut |_| ()).unwrap();
            assert_eq!(sysctl.check(&host.system).unwrap(), State::Present);
        }
        assert!(!host.system.path(OLD_FILE).exists());
        assert_eq!(host.read(FILE), "vm.x = 1\nvm.y = 100\n");
        let of_earlier_version = serde_json::json!({"line": null, "live": "0"});
        Sysctl::exactly("vm.x", 1).undo(&host.system, &of_earlier_version, &mut |_| ()).unwrap();
        assert_eq!((host.read(FILE).as_str(), host.read("/proc/sys/vm/x").as_str()), ("vm.y = 100\n", "0\n"));
        host.write(OLD_FILE, "vm.y = 100\n");
        Sysctl::at_least("vm.y", 100).undo(&host.system, &of_earlier_version, &mut |_| ()).unwrap();
        assert!(!host.system.path(OLD_FILE).exists() && !host.system.path(FILE).exists());
    }

    #[test]
    fn a_greater_value_is_left_unchanged() {
        let host = FakeHost::new();
        host.write("/proc/sys/fs/file-max", "9999999\n");
        assert_eq!(Sysctl::at_least("fs.file-max", 1000).check(&host.system).unwrap(), State::Present);
    }

    #[test]
    fn a_missing_parameter_is_an_error_unless_optional() {
        let host = FakeHost::new();
        let sysctl = Sysctl::exactly("fs.may_detach_mounts", 1);
        assert!(sysctl.apply(&host.system, &mut |_| ()).unwrap_err().to_string().contains("fs.may_detach_mounts"));
        assert_round_trip(&FakeHost::new(), &sysctl.optional());
    }
}
