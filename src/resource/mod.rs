//! The things a host can have, one file each. They are checked, applied and undone by the agent on the host itself.
//!
//! A resource is a value: it says what shall be. The runner makes it, sends it, prints it in a plan; only the agent touches
//! the host. Paths go through [`System`], so that tests use a directory instead of `/`.

mod backup;
mod command;
mod directory;
mod file;
mod host_files;
mod hosts_entry;
mod htpasswd;
mod kernel_module;
mod kube_app;
mod kube_health;
mod kube_node;
mod kubeadm_init;
mod kubeadm_join;
mod kubeadm_member;
mod kubeadm_reset;
mod kubeadm_unit;
mod kubectl;
mod ledger;
mod limits;
mod mounts;
mod owned_directory;
mod pod_network;
mod registry_mirror;
mod rootfs;
mod script;
mod stored_image;
mod swap;
mod symlink;
mod sysctl;
mod system;
mod systemd_unit;
mod text_lines;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub use backup::{Backup, FileMode};
pub use command::Command;
pub use directory::Directory;
pub use file::{Content, File};
pub use host_files::{HostFiles, Place};
pub use hosts_entry::HostsEntry;
pub use htpasswd::Htpasswd;
pub use kernel_module::KernelModule;
pub use kube_app::{KubeApp, is_manifest};
pub use kube_health::KubeHealth;
pub use kube_node::KubeNode;
pub use kubeadm_init::KubeadmInit;
pub use kubeadm_join::KubeadmJoin;
pub use ledger::Ledger;
pub use limits::Limit;
pub use mounts::remove;
pub use owned_directory::OwnedDirectory;
pub use registry_mirror::{Endpoint, RegistryMirror};
pub use rootfs::Rootfs;
pub use script::Script;
pub use stored_image::StoredImage;
pub use swap::SwapOff;
pub use symlink::Symlink;
pub use sysctl::{Rule, Sysctl};
pub use system::{PATH, System, run};
pub use systemd_unit::SystemdUnit;

/// How a resource is found on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// As it shall be.
    Present,
    /// Not there at all.
    Absent,
    /// There, but otherwise. Both sides are short texts for a plan, without secrets.
    Differs {
        /// What is.
        actual: String,
        /// What shall be.
        desired: String,
    },
}

impl State {
    /// There, but otherwise.
    pub fn differs(is: impl Into<String>, shall: impl Into<String>) -> Self {
        State::Differs { actual: is.into(), desired: shall.into() }
    }
}

/// What a resource found before its first change, as it wants it back for [`Act::undo`].
pub type Snapshot = serde_json::Value;

/// One thing a host must have.
pub trait Reconcile {
    /// What it is, short and unique on its host: `sysctl net.ipv4.ip_forward=1`.
    fn title(&self) -> String;

    /// How it is now. Never changes the host.
    fn check(&self, system: &System) -> Result<State>;

    /// What is needed to bring back what is now; taken before the first change and written to the undo ledger.
    fn snapshot(&self, system: &System) -> Result<Snapshot>;

    /// Makes it so. Twice is the same as once. `say` takes lines of output.
    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()>;

    /// Back to what it was before. Twice is the same as once.
    fn undo(&self, system: &System, before: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<()>;
}

/// One thing a host must have: any of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "resource")]
#[expect(missing_docs, reason = "each is what its type says")]
pub enum Resource {
    Command(Command),
    Directory(Directory),
    File(File),
    HostTree(HostFiles),
    HostsEntry(HostsEntry),
    Htpasswd(Htpasswd),
    KubeApp(KubeApp),
    KubeHealth(KubeHealth),
    KubeNode(KubeNode),
    KubeadmInit(KubeadmInit),
    KubeadmJoin(KubeadmJoin),
    Limit(Limit),
    Link(Symlink),
    Mirror(RegistryMirror),
    Module(KernelModule),
    OwnedTree(OwnedDirectory),
    Rootfs(Rootfs),
    Script(Script),
    StoredImage(Box<StoredImage>),
    SwapOff(SwapOff),
    Sysctl(Sysctl),
    Unit(SystemdUnit),
}

impl Resource {
    /// What it can do.
    pub fn reconciler(&self) -> &dyn Reconcile {
        match self {
            Resource::Command(it) => it,
            Resource::Directory(it) => it,
            Resource::File(it) => it,
            Resource::HostTree(it) => it,
            Resource::HostsEntry(it) => it,
            Resource::Htpasswd(it) => it,
            Resource::KubeApp(it) => it,
            Resource::KubeHealth(it) => it,
            Resource::KubeNode(it) => it,
            Resource::KubeadmInit(it) => it,
            Resource::KubeadmJoin(it) => it,
            Resource::Limit(it) => it,
            Resource::Link(it) => it,
            Resource::Mirror(it) => it,
            Resource::Module(it) => it,
            Resource::OwnedTree(it) => it,
            Resource::Rootfs(it) => it,
            Resource::Script(it) => it,
            Resource::StoredImage(it) => it.as_ref(),
            Resource::SwapOff(it) => it,
            Resource::Sysctl(it) => it,
            Resource::Unit(it) => it,
        }
    }

    /// What it is, short and unique on its host.
    pub fn title(&self) -> String {
        self.reconciler().title()
    }

    /// The same as far as [`Act::undo`] needs it, without contents that may be secret: so it stands in the undo ledger.
    fn for_undo(&self) -> Resource {
        match self {
            Resource::File(file) => Resource::File(File { content: Content::default(), ..file.clone() }),
            Resource::KubeadmInit(it) => Resource::KubeadmInit(KubeadmInit { config: Content::default(), ..it.clone() }),
            Resource::KubeadmJoin(it) => Resource::KubeadmJoin(KubeadmJoin { config: Content::default(), ..it.clone() }),
            Resource::Htpasswd(it) => Resource::Htpasswd(Htpasswd { password: Content::default(), ..it.clone() }),
            Resource::Mirror(it) => Resource::Mirror(RegistryMirror { endpoints: Vec::new(), ..it.clone() }),
            Resource::Command(it) => Resource::Command(Command { env: BTreeMap::new(), ..it.clone() }),
            Resource::HostTree(it) => Resource::HostTree(HostFiles { env: BTreeMap::new(), ..it.clone() }),
            Resource::Script(it) => Resource::Script(it.for_undo()),
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A directory that stands for a host, with stand-ins for its programs.
    pub struct Lab {
        root: tempfile::TempDir,
        pub system: System,
    }

    impl Lab {
        pub fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let programs = format!("{}/stand-ins", root.path().display());
            let system = System::new(root.path()).with_programs(programs);
            Lab { root, system }
        }

        pub fn real_programs() -> Self {
            let root = tempfile::tempdir().unwrap();
            let system = System::new(root.path());
            Lab { root, system }
        }

        pub fn write(&self, path: &str, text: &str) {
            let path = self.system.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        pub fn read(&self, path: &str) -> String {
            std::fs::read_to_string(self.system.path(path)).unwrap()
        }

        /// A stand-in for a program: a script that finds the host's root in `$ROOT`.
        pub fn program(&self, name: &str, script: &str) {
            let root = self.root.path().display();
            let path = format!("/stand-ins/{name}");
            self.write(&path, &format!("#!/bin/sh\nPATH=/usr/bin:/bin ROOT={root}\n{script}\n"));
            std::fs::set_permissions(self.system.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
        }

        /// The file, owned by whoever runs the test.
        pub fn owned_file(&self, file: File) -> File {
            File { rights: FileMode::own(file.rights.mode), ..file }
        }
    }

    /// Goes once round: not there, applied, applied again, taken back, taken back again.
    pub fn round(lab: &Lab, act: &dyn Reconcile) {
        let silent: &mut dyn FnMut(&str) = &mut |_| ();
        let first = act.check(&lab.system).unwrap();
        assert_ne!(first, State::Present, "{}", act.title());
        let before = act.snapshot(&lab.system).unwrap();
        for _ in 0..2 {
            act.apply(&lab.system, silent).unwrap();
            assert_eq!(act.check(&lab.system).unwrap(), State::Present, "{}", act.title());
        }
        for _ in 0..2 {
            act.undo(&lab.system, &before, silent).unwrap();
            assert_eq!(act.check(&lab.system).unwrap(), first, "{}", act.title());
        }
    }
}
