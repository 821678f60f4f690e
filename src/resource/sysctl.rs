//! A kernel parameter.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::text_lines::{self, Place};
use super::{Reconcile, Snapshot, State, System};
use crate::error::Failure;

const FILE: &str = "/etc/sysctl.d/95-sealift.conf";

/// How a kernel parameter must compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// It is this.
    Exactly,
    /// It is this or more; several numbers are compared one by one.
    AtLeast,
}

/// A kernel parameter, now and at boot, in a file of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Its name, as `sysctl(8)` writes it: `net.ipv4.ip_forward`.
    pub key: String,
    /// Its value.
    pub value: String,
    /// How it must compare.
    pub rule: Rule,
    /// Whether a kernel that does not have it, or lets nobody set it, is good enough.
    #[serde(default)]
    pub optional: bool,
}

/// What was before.
#[derive(Serialize, Deserialize)]
struct Was {
    line: Option<String>,
    live: Option<String>,
}

impl Sysctl {
    /// Exactly this value.
    pub fn exactly(key: impl Into<String>, value: impl ToString) -> Self {
        Sysctl { key: key.into(), value: value.to_string(), rule: Rule::Exactly, optional: false }
    }

    /// This value or more.
    pub fn at_least(key: impl Into<String>, value: impl ToString) -> Self {
        Sysctl { rule: Rule::AtLeast, ..Sysctl::exactly(key, value) }
    }

    /// The same, but a kernel that does not have it, or lets nobody set it, is good enough.
    pub fn optional(self) -> Self {
        Sysctl { optional: true, ..self }
    }

    /// Its file below `/proc/sys`. The first separator says which one is meant (sysctl.d(5)).
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

    fn live(&self, system: &System) -> Result<Option<String>> {
        match std::fs::read_to_string(system.path(self.file())) {
            Ok(text) => Ok(Some(text.split_whitespace().collect::<Vec<_>>().join(" "))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound || self.optional => Ok(None),
            Err(error) => Err(error).with_context(|| format!("sysctl {}", self.key)),
        }
    }

    fn suffices(&self, is: &str) -> bool {
        let shall: Vec<&str> = self.value.split_whitespace().collect();
        let is: Vec<&str> = is.split_whitespace().collect();
        is.len() == shall.len()
            && is.iter().zip(&shall).all(|(is, shall)| match (self.rule, is.parse::<u64>(), shall.parse::<u64>()) {
                (Rule::AtLeast, Ok(is), Ok(shall)) => is >= shall,
                _ => sorted(is) == sorted(shall),
            })
    }

    fn line(&self) -> String {
        format!("{} = {}", self.key, self.value)
    }

    fn is_ours(&self, line: &str) -> bool {
        line.split_once('=').is_some_and(|(key, _)| key.trim() == self.key)
    }

    fn set_line(&self, system: &System, line: Option<&str>) -> Result<()> {
        system.write_text(FILE, &text_lines::set(&system.text(FILE)?, |line| self.is_ours(line), line, Place::Last))
    }

    fn set_live(&self, system: &System, value: &str) -> Result<()> {
        let place = system.path(self.file());
        let set = || -> std::io::Result<()> {
            use std::io::Write as _;
            std::fs::OpenOptions::new().write(true).truncate(true).open(&place)?.write_all(format!("{value}\n").as_bytes())
        };
        set().with_context(|| {
            Failure::failed(format!("sysctl {}: set to {value}", self.key)).hint("the kernel lacks it or a module must be loaded first")
        })
    }
}

impl Reconcile for Sysctl {
    fn title(&self) -> String {
        format!("sysctl {}{}{}", self.key, if self.rule == Rule::AtLeast { ">=" } else { "=" }, self.value)
    }

    fn check(&self, system: &System) -> Result<State> {
        let text = system.text(FILE)?;
        let listed = text_lines::find(&text, |line| self.is_ours(line)) == Some(&self.line());
        Ok(match self.live(system)? {
            Some(is) if self.suffices(&is) && (listed || self.rule == Rule::AtLeast) => State::Present,
            Some(is) if self.suffices(&is) => State::differs("not set at boot", "set at boot"),
            Some(_) | None if self.optional && listed => State::Present,
            Some(is) => State::differs(is, self.value.clone()),
            None => State::Absent,
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let text = system.text(FILE)?;
        let line = text_lines::find(&text, |line| self.is_ours(line)).map(str::to_owned);
        Ok(serde_json::to_value(Was { line, live: self.live(system)? })?)
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        self.set_line(system, Some(&self.line()))?;
        if self.live(system)?.is_some_and(|is| self.suffices(&is)) {
            return Ok(());
        }
        match self.set_live(system, &self.value) {
            // that a kernel lacks an optional one is no news; that it keeps it from us may be
            Err(_) if self.optional && !system.path(self.file()).exists() => {}
            Err(error) if self.optional => say(&format!("{error:#}: tolerated")),
            result => result?,
        }
        Ok(())
    }

    fn undo(&self, system: &System, before: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<()> {
        let was = Was::deserialize(before)?;
        self.set_line(system, was.line.as_deref())?;
        let Some(live) = was.live else { return Ok(()) };
        if self.live(system)?.is_some_and(|is| is != live)
            && let Err(error) = self.set_live(system, &live)
        {
            say(&format!("{error:#}: stays until the next boot"));
        }
        Ok(())
    }
}

/// Lists like `ip_local_reserved_ports` come back in the kernel's order.
fn sorted(value: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = value.split(',').collect();
    parts.sort_unstable();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn names_become_files_as_sysctl_does_it() {
        for (key, file) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
            ("net.ipv4.conf.eth0/1.rp_filter", "/proc/sys/net/ipv4/conf/eth0.1/rp_filter"),
        ] {
            assert_eq!(Sysctl::exactly(key, 1).file(), PathBuf::from(file), "{key}");
        }
    }

    #[test]
    fn values_suffice_by_their_rule() {
        for (rule, shall, is, expected) in [
            (Rule::Exactly, "1", "1", true),
            (Rule::Exactly, "1", "2", false),
            (Rule::Exactly, "4096 87380 6291456", "4096\t87380\t6291456", true),
            (Rule::Exactly, "30000-32767,6443", "6443,30000-32767", true),
            (Rule::AtLeast, "100", "99", false),
            (Rule::AtLeast, "100", "100", true),
            (Rule::AtLeast, "100", "9223372036854775807", true),
            (Rule::AtLeast, "1 2", "1 1", false),
        ] {
            assert_eq!(Sysctl { rule, ..Sysctl::exactly("k", shall) }.suffices(is), expected, "{rule:?} {shall} {is}");
        }
    }

    #[test]
    fn parameters_are_set_now_and_at_boot_and_taken_back() {
        let lab = Lab::new();
        lab.write("/proc/sys/net/ipv4/ip_forward", "0\n");
        round(&lab, &Sysctl::exactly("net.ipv4.ip_forward", 1));
        assert_eq!(lab.read("/proc/sys/net/ipv4/ip_forward"), "0\n");
        assert!(!lab.system.path(FILE).exists());
    }

    #[test]
    fn what_is_high_enough_is_left_alone() {
        let lab = Lab::new();
        lab.write("/proc/sys/fs/file-max", "9999999\n");
        assert_eq!(Sysctl::at_least("fs.file-max", 1000).check(&lab.system).unwrap(), State::Present);
    }

    #[test]
    fn what_the_kernel_lacks_is_an_error_unless_optional() {
        let lab = Lab::new();
        let sysctl = Sysctl::exactly("fs.may_detach_mounts", 1);
        assert!(sysctl.apply(&lab.system, &mut |_| ()).unwrap_err().to_string().contains("fs.may_detach_mounts"));
        round(&Lab::new(), &sysctl.optional());
    }
}
