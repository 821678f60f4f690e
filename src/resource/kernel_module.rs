//! A kernel module.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::text_lines::{self, Place};
use super::{Reconcile, Snapshot, State, System};

const FILE: &str = "/etc/modules-load.d/sealift.conf";

/// A kernel module, loaded now and at boot; built into the kernel counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelModule {
    /// Its name.
    pub name: String,
    /// Whether a kernel that does not have it is good enough.
    #[serde(default)]
    pub optional: bool,
}

impl KernelModule {
    /// The module `name`.
    pub fn new(name: impl Into<String>) -> Self {
        KernelModule { name: name.into(), optional: false }
    }

    /// The same, but a kernel without it is good enough.
    pub fn optional(self) -> Self {
        KernelModule { optional: true, ..self }
    }

    fn file_name(&self) -> String {
        self.name.replace('-', "_")
    }

    fn is_listed(&self, system: &System) -> Result<bool> {
        Ok(text_lines::find(&system.text(FILE)?, |line| line == self.name).is_some())
    }

    fn is_loaded(&self, system: &System) -> bool {
        let shown = format!("/sys/module/{}", self.file_name());
        system.path(shown).exists() || self.is_built_in(system) || self.shows_elsewhere(system)
    }

    fn is_built_in(&self, system: &System) -> bool {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let list = system.text(format!("/lib/modules/{release}/modules.builtin")).unwrap_or_default();
        let wanted = format!("{}.ko", self.file_name());
        list.lines().filter_map(|line| line.rsplit('/').next()).any(|file| file.replace('-', "_") == wanted)
    }

    /// Kernels without a module tree: what a module makes is there.
    fn shows_elsewhere(&self, system: &System) -> bool {
        match self.name.as_str() {
            "overlay" => system.text("/proc/filesystems").unwrap_or_default().lines().any(|line| line.ends_with("\toverlay")),
            "br_netfilter" => system.path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists(),
            "nf_conntrack" => system.path("/proc/sys/net/netfilter/nf_conntrack_max").exists(),
            _ => false,
        }
    }

    fn list(&self, system: &System, listed: bool) -> Result<()> {
        let line = listed.then_some(self.name.as_str());
        system.write_text(FILE, &text_lines::set(&system.text(FILE)?, |line| line == self.name, line, Place::Last))
    }
}

impl Reconcile for KernelModule {
    fn title(&self) -> String {
        format!("module {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        Ok(match (self.is_loaded(system) || self.optional, self.is_listed(system)?) {
            (true, true) => State::Present,
            (true, false) => State::differs("not loaded at boot", "loaded at boot"),
            (false, _) => State::Absent,
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(json!({"listed": self.is_listed(system)?, "loaded": self.is_loaded(system)}))
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        if !self.is_loaded(system) {
            match system.run(&["modprobe", &self.name], say) {
                Err(error) if self.optional => say(&format!("module {}: this kernel does not have it: {error}", self.name)),
                result => result?,
            }
        }
        self.list(system, true)
    }

    fn undo(&self, system: &System, before: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<()> {
        self.list(system, before["listed"] == true)?;
        if before["loaded"] == false && system.path(format!("/sys/module/{}", self.file_name())).exists() {
            // in use by others now: stays until the next boot
            if let Err(error) = system.run(&["modprobe", "-r", &self.name], &mut |_| ()) {
                say(&format!("module {} stays loaded: {error}", self.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn modules_are_loaded_now_and_at_boot() {
        let lab = Lab::new();
        lab.program("modprobe", "mkdir -p $ROOT/sys/module; [ $1 = -r ] && rm -r $ROOT/sys/module/$2 || mkdir $ROOT/sys/module/$1");
        round(&lab, &KernelModule::new("ip_vs"));
        assert!(!lab.system.path(FILE).exists());
    }

    #[test]
    fn what_the_kernel_lacks_is_an_error_unless_optional() {
        let lab = Lab::new();
        lab.program("modprobe", "echo 'FATAL: Module ip_vs not found'; exit 1");
        let error = KernelModule::new("ip_vs").apply(&lab.system, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("not found"), "{error}");
        round(&lab, &KernelModule::new("ip_vs").optional());
    }

    #[test]
    fn built_in_counts() {
        let lab = Lab::new();
        lab.program("modprobe", "exit 1");
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        lab.write(&format!("/lib/modules/{release}/modules.builtin"), "kernel/net/bridge/br-netfilter.ko\n");
        round(&lab, &KernelModule::new("br_netfilter"));
    }
}
