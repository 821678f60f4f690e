//! A kernel module: `modprobe(8)` now, `modules-load.d(5)` at boot.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::text_lines::{self, Position};
use super::{Reconcile, Snapshot, State, System};
use crate::error::Failure;

const FILE: &str = "/etc/modules-load.d/sealift.conf";

/// A kernel module, loaded now and at boot. One that is built into the kernel counts as loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelModule {
    /// Its name as `modprobe` takes it: `br_netfilter`.
    pub name: String,
    /// Whether a kernel without it is tolerated.
    #[serde(default)]
    pub optional: bool,
}

impl KernelModule {
    /// A module that the kernel must have.
    pub fn new(name: impl Into<String>) -> Self {
        KernelModule { name: name.into(), optional: false }
    }

    /// The same, but a kernel without it is tolerated.
    pub fn optional(self) -> Self {
        KernelModule { optional: true, ..self }
    }

    fn file_name(&self) -> String {
        self.name.replace('-', "_")
    }

    fn loads_at_boot(&self, system: &System) -> Result<bool> {
        Ok(text_lines::find(&system.read_text(FILE)?, |line| line == self.name).is_some())
    }

    fn is_loaded(&self, system: &System) -> bool {
        let path = format!("/sys/module/{}", self.file_name());
        system.path(path).exists() || self.is_built_in(system) || self.is_visible_in_proc(system)
    }

    fn is_built_in(&self, system: &System) -> bool {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let builtin_modules = system.read_text(format!("/lib/modules/{release}/modules.builtin")).unwrap_or_default();
        let file_name = format!("{}.ko", self.file_name());
        builtin_modules.lines().filter_map(|line| line.rsplit('/').next()).any(|file| file.replace('-', "_") == file_name)
    }

    /// On kernels without `/sys/module`: whether what the module adds to `/proc` is there.
    fn is_visible_in_proc(&self, system: &System) -> bool {
        match self.name.as_str() {
            "overlay" => system.read_text("/proc/filesystems").unwrap_or_default().lines().any(|line| line.ends_with("\toverlay")),
            "br_netfilter" => system.path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists(),
            "nf_conntrack" => system.path("/proc/sys/net/netfilter/nf_conntrack_max").exists(),
            _ => false,
        }
    }

    fn set_boot_load(&self, system: &System, at_boot: bool) -> Result<()> {
        let line = at_boot.then_some(self.name.as_str());
        system.write_text(FILE, &text_lines::set(&system.read_text(FILE)?, |line| line == self.name, line, Position::Last))
    }
}

impl Reconcile for KernelModule {
    fn title(&self) -> String {
        format!("module {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        Ok(match (self.is_loaded(system) || self.optional, self.loads_at_boot(system)?) {
            (true, true) => State::Present,
            (true, false) => State::differs("not loaded at boot", "loaded at boot"),
            (false, _) => State::Absent,
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(json!({"listed": self.loads_at_boot(system)?, "loaded": self.is_loaded(system)}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        if !self.is_loaded(system) {
            match system.run(&["modprobe", &self.name], log) {
                Err(error) if self.optional => log(&format!("module {}: not in this kernel, tolerated: {error}", self.name)),
                result => result.with_context(|| {
                    Failure::failed("not loaded")
                        .hint("install the kernel's modules on the host (`linux-modules-extra` on Ubuntu), or boot a kernel that has it")
                })?,
            }
        }
        self.set_boot_load(system, true)
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, log: &mut dyn FnMut(&str)) -> Result<()> {
        self.set_boot_load(system, snapshot["listed"] == true)?;
        if snapshot["loaded"] == false && system.path(format!("/sys/module/{}", self.file_name())).exists() {
            // in use by others by now: stays until the next boot
            if let Err(error) = system.run(&["modprobe", "-r", &self.name], &mut |_| ()) {
                log(&format!("module {} stays loaded until the next boot: {error}", self.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn modules_are_loaded_now_and_at_boot() {
        let host = FakeHost::new();
        host.program("modprobe", "mkdir -p $ROOT/sys/module; [ $1 = -r ] && rm -r $ROOT/sys/module/$2 || mkdir $ROOT/sys/module/$1");
        assert_round_trip(&host, &KernelModule::new("ip_vs"));
        assert!(!host.system.path(FILE).exists());
    }

    #[test]
    fn a_missing_module_is_an_error_unless_optional() {
        let host = FakeHost::new();
        host.program("modprobe", "echo 'FATAL: Module ip_vs not found'; exit 1");
        let error = KernelModule::new("ip_vs").apply(&host.system, &mut |_| ()).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("not found"), "{error}");
        assert_round_trip(&host, &KernelModule::new("ip_vs").optional());
    }

    #[test]
    fn a_built_in_module_counts_as_loaded() {
        let host = FakeHost::new();
        host.program("modprobe", "exit 1");
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        host.write(&format!("/lib/modules/{release}/modules.builtin"), "kernel/net/bridge/br-netfilter.ko\n");
        assert_round_trip(&host, &KernelModule::new("br_netfilter"));
    }
}
