//! Resources: what a host must have, one kind per file: `os/` has what any host can have, `kube/` what asks or drives kubeadm, kubectl and
//! etcd. The agent checks, applies and undoes them on the host itself.
//!
//! A resource is a value that describes a desired state. The runner creates it, sends it to the agent and prints it in a plan;
//! only the agent changes the host. Paths go through [`System`], so that tests use a directory instead of `/`.

mod kube;
mod ledger;
mod os;
mod stop;
mod system;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::paths;

pub use kube::{
    AbsentEtcdMember, AbsentNode, DrainedNode, KUBEADM_TIMEOUT, KubeApp, KubeHealth, KubeNode, KubeadmInit, KubeadmJoin, is_manifest,
};
pub use ledger::{AppliedResource, Ledger, is_disk_full};
pub use os::{
    Backup, Command, Content, Directory, Endpoint, File, FileMode, HostFiles, HostsEntry, Htpasswd, KernelModule, Limit, OldRootfs,
    OwnedDirectory, PathMapping, RegistryMirror, Rootfs, Rule, Script, StoredImage, SwapOff, Symlink, Sysctl, SystemdUnit, remove_all,
};
pub use stop::{GRACE_PERIOD, interrupted, signal_tree};
pub use system::{PATH, System, run};

/// The actual state of a resource on a host, compared with the desired one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// As desired.
    Present,
    /// Not on the host.
    Absent,
    /// Drift. Both sides are short texts for a plan, without secrets.
    Differs {
        /// The actual state.
        #[serde(rename = "is")]
        actual: String,
        /// The desired state.
        #[serde(rename = "shall")]
        desired: String,
    },
}

impl State {
    /// Drift from `desired`.
    pub fn differs(actual: impl Into<String>, desired: impl Into<String>) -> Self {
        State::Differs { actual: actual.into(), desired: desired.into() }
    }
}

/// What a resource needs to restore the state before its first change, as JSON in a form of its own; input of [`Reconcile::undo`].
pub type Snapshot = serde_json::Value;

/// Checks, applies and undoes one kind of resource on the host itself.
pub trait Reconcile {
    /// A short text that is unique on its host: `sysctl net.ipv4.ip_forward=1`. The undo ledger knows the resource by it.
    fn title(&self) -> String;

    /// Compares the actual state with the desired one. Never changes the host.
    fn check(&self, system: &System) -> Result<State>;

    /// Records what undo needs to restore the present state; called before the first change, and written to the undo ledger.
    fn snapshot(&self, system: &System) -> Result<Snapshot>;

    /// Brings the host to the desired state. Idempotent. `log` gets lines of output, without their ends.
    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()>;

    /// Restores the state of the snapshot. Idempotent.
    fn undo(&self, system: &System, snapshot: &Snapshot, log: &mut dyn FnMut(&str)) -> Result<()>;
}

/// Any kind of resource, as it travels to the agent and stands in the undo ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "resource")]
#[expect(missing_docs, reason = "each is documented at its type")]
pub enum Resource {
    AbsentEtcdMember(AbsentEtcdMember),
    AbsentNode(AbsentNode),
    Command(Command),
    Directory(Directory),
    DrainedNode(DrainedNode),
    File(File),
    #[serde(rename = "host-tree")]
    HostFiles(HostFiles),
    HostsEntry(HostsEntry),
    Htpasswd(Htpasswd),
    KubeApp(KubeApp),
    KubeHealth(KubeHealth),
    KubeNode(KubeNode),
    KubeadmInit(KubeadmInit),
    KubeadmJoin(KubeadmJoin),
    Limit(Limit),
    #[serde(rename = "link")]
    Symlink(Symlink),
    #[serde(rename = "mirror")]
    RegistryMirror(RegistryMirror),
    #[serde(rename = "module")]
    KernelModule(KernelModule),
    OldRootfs(OldRootfs),
    #[serde(rename = "owned-tree")]
    OwnedDirectory(OwnedDirectory),
    Rootfs(Rootfs),
    Script(Script),
    StoredImage(Box<StoredImage>),
    SwapOff(SwapOff),
    Sysctl(Sysctl),
    #[serde(rename = "unit")]
    SystemdUnit(SystemdUnit),
}

impl Resource {
    /// The code that checks, applies and undoes it.
    pub fn reconciler(&self) -> &dyn Reconcile {
        match self {
            Resource::AbsentEtcdMember(it) => it,
            Resource::AbsentNode(it) => it,
            Resource::Command(it) => it,
            Resource::Directory(it) => it,
            Resource::DrainedNode(it) => it,
            Resource::File(it) => it,
            Resource::HostFiles(it) => it,
            Resource::HostsEntry(it) => it,
            Resource::Htpasswd(it) => it,
            Resource::KubeApp(it) => it,
            Resource::KubeHealth(it) => it,
            Resource::KubeNode(it) => it,
            Resource::KubeadmInit(it) => it,
            Resource::KubeadmJoin(it) => it,
            Resource::Limit(it) => it,
            Resource::Symlink(it) => it,
            Resource::RegistryMirror(it) => it,
            Resource::KernelModule(it) => it,
            Resource::OldRootfs(it) => it,
            Resource::OwnedDirectory(it) => it,
            Resource::Rootfs(it) => it,
            Resource::Script(it) => it,
            Resource::StoredImage(it) => it.as_ref(),
            Resource::SwapOff(it) => it,
            Resource::Sysctl(it) => it,
            Resource::SystemdUnit(it) => it,
        }
    }

    /// A short text that is unique on its host; see [`Reconcile::title`].
    pub fn title(&self) -> String {
        self.reconciler().title()
    }

    /// Its identity on its host, a kind and a key: `sysctl/vm.swappiness`. Unlike the title it stays the same when the value changes.
    pub fn id(&self) -> String {
        let path = |kind: &str, path: &std::path::Path| format!("{kind}/{}", path.display());
        match self {
            Resource::AbsentEtcdMember(it) => format!("etcd-member/{}", it.peer),
            Resource::AbsentNode(it) => format!("node/{}", it.node),
            Resource::Command(it) => format!("command/{}", it.title()),
            Resource::Directory(it) => path("directory", &it.path),
            Resource::DrainedNode(it) => format!("drained-node/{}", it.node),
            Resource::File(it) => path("file", &it.path),
            Resource::HostFiles(_) => "host-files".to_owned(),
            Resource::HostsEntry(it) => format!("hosts-entry/{}", it.name),
            Resource::Htpasswd(it) => path("htpasswd", &it.path),
            Resource::KubeApp(it) => format!("app/{}", it.name),
            Resource::KubeHealth(_) => "cluster-health".to_owned(),
            Resource::KubeNode(it) => format!("node-settings/{}", it.node),
            Resource::KubeadmInit(it) => format!("member/{}", it.node),
            Resource::KubeadmJoin(it) => format!("member/{}", it.node),
            Resource::Limit(it) => format!("limit/{}", it.title()),
            Resource::Symlink(it) => path("symlink", &it.path),
            Resource::RegistryMirror(it) => format!("registry-mirror/{}", it.registry),
            Resource::KernelModule(it) => format!("kernel-module/{}", it.name),
            Resource::OldRootfs(_) => "old-rootfs".to_owned(),
            Resource::OwnedDirectory(it) => path("owned-directory", &it.path),
            Resource::Rootfs(it) if it.current => "rootfs".to_owned(),
            Resource::Rootfs(it) => format!("rootfs/{}", it.manifest.digest.short()),
            Resource::Script(it) => format!("script/{}", it.name),
            Resource::StoredImage(it) => format!("image/{}", it.name),
            Resource::SwapOff(_) => "swap".to_owned(),
            Resource::Sysctl(it) => format!("sysctl/{}", it.key),
            Resource::SystemdUnit(it) => format!("unit/{}", it.name),
        }
    }

    /// Whether it can be undone by itself when it is not wanted any more, while later changes stay. Files in a root file system go with it.
    pub fn is_revertible(&self) -> bool {
        match self {
            Resource::File(file) => !file.path.starts_with(crate::paths::ROOTFS),
            Resource::HostsEntry(_)
            | Resource::Htpasswd(_)
            | Resource::Symlink(_)
            | Resource::Sysctl(_)
            | Resource::Limit(_)
            | Resource::KernelModule(_)
            | Resource::RegistryMirror(_)
            | Resource::SystemdUnit(_) => true,
            _ => false,
        }
    }

    /// Whether it lies in an unpacked image, or puts files of one on the host.
    fn belongs_to_image(&self) -> bool {
        match self {
            Resource::Rootfs(_) | Resource::HostFiles(_) => true,
            Resource::File(file) => file.path.starts_with(paths::ROOTFS),
            _ => false,
        }
    }

    /// Whether it describes that something is absent, or about to be.
    pub fn is_removal(&self) -> bool {
        matches!(self, Resource::AbsentEtcdMember(_) | Resource::AbsentNode(_) | Resource::DrainedNode(_))
    }

    /// Whether its undo may need files of an unpacked image: scripts, programs, units.
    fn uses_image(&self) -> bool {
        matches!(self, Resource::Script(_) | Resource::KubeadmInit(_) | Resource::KubeadmJoin(_) | Resource::SystemdUnit(_))
    }

    /// The part that [`Reconcile::undo`] needs, without contents that may be secret: the undo ledger holds this.
    fn for_undo(&self) -> Resource {
        match self {
            Resource::File(file) => Resource::File(File { content: Content::default(), ..file.clone() }),
            Resource::KubeadmInit(it) => Resource::KubeadmInit(KubeadmInit { config: Content::default(), ..it.clone() }),
            Resource::KubeadmJoin(it) => Resource::KubeadmJoin(KubeadmJoin { config: Content::default(), ..it.clone() }),
            Resource::Htpasswd(it) => Resource::Htpasswd(Htpasswd { password: Content::default(), ..it.clone() }),
            Resource::RegistryMirror(it) => Resource::RegistryMirror(RegistryMirror { endpoints: Vec::new(), ..it.clone() }),
            Resource::Command(it) => Resource::Command(Command { env: BTreeMap::new(), ..it.clone() }),
            Resource::HostFiles(it) => Resource::HostFiles(HostFiles { env: BTreeMap::new(), ..it.clone() }),
            Resource::Script(it) => Resource::Script(it.for_undo()),
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A temporary directory as a host's root, with scripts in place of its programs.
    pub struct FakeHost {
        root: tempfile::TempDir,
        pub system: System,
    }

    impl FakeHost {
        pub fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let programs = format!("{}/fake-programs", root.path().display());
            let system = System::new(root.path()).with_programs(programs);
            FakeHost { root, system }
        }

        pub fn real_programs() -> Self {
            let root = tempfile::tempdir().unwrap();
            let system = System::new(root.path());
            FakeHost { root, system }
        }

        pub fn write(&self, path: &str, text: &str) {
            let path = self.system.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        pub fn read(&self, path: &str) -> String {
            std::fs::read_to_string(self.system.path(path)).unwrap()
        }

        /// Adds a fake program: a shell script that has the host's root in `$ROOT`.
        pub fn program(&self, name: &str, script: &str) {
            let root = self.root.path().display();
            let path = format!("/fake-programs/{name}");
            self.write(&path, &format!("#!/bin/sh\nPATH=/usr/bin:/bin ROOT={root}\n{script}\n"));
            std::fs::set_permissions(self.system.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
        }

        /// The file, owned by whoever runs the test.
        pub fn owned_file(&self, file: File) -> File {
            File { permissions: FileMode::of_current_user(file.permissions.mode), ..file }
        }
    }

    #[test]
    fn states_travel_under_the_names_of_the_first_version() {
        let json = serde_json::json!({"state": "differs", "is": "0", "shall": "1"});
        assert_eq!(serde_json::to_value(State::differs("0", "1")).unwrap(), json);
    }

    /// Asserts that apply brings the desired state, undo the first one, and that twice is the same as once.
    pub fn assert_round_trip(host: &FakeHost, resource: &dyn Reconcile) {
        let silent: &mut dyn FnMut(&str) = &mut |_| ();
        let first = resource.check(&host.system).unwrap();
        assert_ne!(first, State::Present, "{}", resource.title());
        let snapshot = resource.snapshot(&host.system).unwrap();
        for _ in 0..2 {
            resource.apply(&host.system, silent).unwrap();
            assert_eq!(resource.check(&host.system).unwrap(), State::Present, "{}", resource.title());
        }
        for _ in 0..2 {
            resource.undo(&host.system, &snapshot, silent).unwrap();
            assert_eq!(resource.check(&host.system).unwrap(), first, "{}", resource.title());
        }
    }
}
