//! Container runtimes, kubelets and leftovers that sealift did not install, and what it did install.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::{Claim, claim};
use crate::image::Digest;
use crate::paths::{HOME, KUBEADM_BEGUN, REGISTRY_CA, REGISTRY_TLS};
use crate::resource::{Ledger, System};

/// Programs that conflict with those of sealift over sockets, cgroups and iptables.
const PROGRAMS: [&str; 8] = ["containerd", "dockerd", "crio", "kubelet", "k3s", "rke2", "k0s", "podman"];
/// The directories that are searched for them.
const PROGRAM_DIRS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// What a Kubernetes node leaves behind (kubeadm's preflight checks DirAvailable and FileAvailable, and more).
const LEFTOVERS: [&str; 9] = [
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/manifests",
    "/etc/kubernetes/pki/ca.crt",
    "/var/lib/etcd/member",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/rancher",
    "/etc/cni/net.d",
];

/// A container runtime or kubelet that sealift did not install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictingRuntime {
    /// The program's name.
    pub name: String,
    /// Its absolute path.
    pub path: String,
    /// Whether it is running.
    pub running: bool,
}

/// What sealift has installed on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Whether the undo ledger has changes that are not undone, or nobody can tell.
    pub changed: bool,
    /// Why a reset could not undo the changes of this host: what is wrong with its undo ledger or its claim.
    #[serde(default)]
    pub undo_problem: Option<String>,
    /// The clusters this host belongs to.
    pub clusters: Vec<String>,
    /// The certificate of the local registry on it (PEM), without its key.
    #[serde(default)]
    pub registry_certificate: Option<String>,
    /// The certificates of all local registries that this host trusts (PEM); empty if it trusts none.
    #[serde(default)]
    pub registry_authorities: String,
    /// What this host is in a Kubernetes cluster; `None` if it is no member, or kubeadm did not finish.
    #[serde(default)]
    pub node: Option<NodeIdentity>,
}

/// A host as a member of a Kubernetes cluster, as its own files say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIdentity {
    /// Whether it runs an API server.
    pub control_plane: bool,
    /// The digest of the cluster's certificate authority, which tells clusters of one name apart.
    pub authority: Option<String>,
}

/// A running process.
pub struct Process {
    /// Its name (`/proc/PID/comm`).
    pub name: String,
    /// Whether sealift installed its program.
    pub is_sealift: bool,
}

/// Finds conflicting runtimes: programs on disk that are not links into sealift's rootfs, and running ones.
pub fn conflicting_runtimes(system: &System) -> Vec<ConflictingRuntime> {
    let running = running(system);
    let installed = PROGRAMS.iter().flat_map(|name| PROGRAM_DIRS.iter().map(move |dir| format!("{dir}/{name}")));
    let mut found: Vec<ConflictingRuntime> = installed
        .filter(|path| is_conflicting(&system.path(path)))
        .map(|path| ConflictingRuntime {
            name: file_name(Path::new(&path)),
            running: running.iter().any(|exe| exe == Path::new(&path)),
            path,
        })
        .collect();
    for exe in running {
        let name = file_name(&exe);
        if PROGRAMS.contains(&name.as_str()) && !found.iter().any(|runtime| Path::new(&runtime.path) == exe) {
            found.push(ConflictingRuntime { name, path: exe.display().to_string(), running: true });
        }
    }
    // podman without a running service does not conflict
    found.retain(|runtime| runtime.name != "podman" || runtime.running);
    found
}

fn is_conflicting(path: &Path) -> bool {
    match std::fs::read_link(path) {
        Ok(target) => !target.starts_with(HOME) && path.exists(),
        Err(_) => path.is_file(),
    }
}

/// Executables of running processes that sealift did not install. Processes in a container's PID namespace, such as a docker
/// daemon in a pod, do not count.
fn running(system: &System) -> Vec<PathBuf> {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/pid")).ok();
    let host = namespace(&system.path("/proc/self"));
    let of_host = |process: &PathBuf| host.is_none() || namespace(process).is_none_or(|own| Some(own) == host);
    let mut found: Vec<PathBuf> = processes(system)
        .filter(of_host)
        .filter_map(|process| std::fs::read_link(process.join("exe")).ok())
        .filter(|exe| !is_program_of_sealift(exe))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn processes(system: &System) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(system.path("/proc")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())).map(|entry| entry.path())
}

/// Whether a program is below sealift's directory.
fn is_program_of_sealift(exe: &Path) -> bool {
    exe.starts_with(HOME)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().trim_end_matches(" (deleted)").to_owned()
}

/// Finds the process that has the socket with this inode open.
pub fn owner_of_socket(system: &System, inode: u64) -> Option<Process> {
    let link = PathBuf::from(format!("socket:[{inode}]"));
    let owns = |process: &PathBuf| {
        std::fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == link))
    };
    let process = processes(system).find(owns)?;
    let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned();
    let is_sealift = std::fs::read_link(process.join("exe")).is_ok_and(|exe| is_program_of_sealift(&exe));
    Some(Process { name, is_sealift })
}

/// Finds what an earlier cluster left: files, and directories that are not empty.
pub fn leftovers(system: &System) -> Vec<String> {
    let exists = |path: &&&str| {
        let full_path = system.path(path);
        full_path.is_file() || std::fs::read_dir(&full_path).is_ok_and(|mut entries| entries.next().is_some())
    };
    LEFTOVERS.iter().filter(exists).map(|path| (*path).to_owned()).collect()
}

/// Finds what sealift has installed on this host.
pub fn installed(system: &System) -> Installed {
    let claim = Claim::read(system);
    let mut clusters = claim::clusters(system);
    clusters.extend(claim.as_ref().ok().cloned().flatten().map(|claim| claim.cluster));
    clusters.sort();
    clusters.dedup();
    let registry_certificate = std::fs::read_to_string(system.path(REGISTRY_TLS)).ok().and_then(certificate_of);
    let registry_authorities = std::fs::read_to_string(system.path(REGISTRY_CA)).unwrap_or_default();
    let problem = claim.map_or_else(Some, |claim| claim.and_then(|_| Ledger::problem(system)));
    Installed {
        changed: problem.is_some() || Ledger::has_changes(system),
        undo_problem: problem.map(|error| format!("{error:#}")),
        clusters,
        registry_certificate,
        registry_authorities,
        node: node_identity(system),
    }
}

/// Returns the certificate of a PEM file that also has its key.
fn certificate_of(text: String) -> Option<String> {
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    text.contains("PRIVATE KEY-----").then(|| text[begin..].to_owned())
}

/// What this host is in a Kubernetes cluster. A host on which kubeadm was cut off is no member.
fn node_identity(system: &System) -> Option<NodeIdentity> {
    let exists = |path: &str| system.path(path).is_file();
    if !exists("/etc/kubernetes/kubelet.conf") || exists(KUBEADM_BEGUN) {
        return None;
    }
    let authority = std::fs::read(system.path("/etc/kubernetes/pki/ca.crt")).ok();
    Some(NodeIdentity {
        control_plane: exists("/etc/kubernetes/manifests/kube-apiserver.yaml"),
        authority: authority.map(|pem| Digest::of(&pem).to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[test]
    fn a_runtime_of_others_conflicts_and_sealifts_own_link_does_not() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "usr/bin/dockerd");
        write(root.path(), "usr/bin/podman");
        std::os::unix::fs::symlink("/var/lib/sealift/rootfs/current/host/usr/bin/kubelet", root.path().join("usr/bin/kubelet")).unwrap();
        let found = conflicting_runtimes(&System::new(root.path()));
        assert_eq!(found, [ConflictingRuntime { name: "dockerd".into(), path: "/usr/bin/dockerd".into(), running: false }]);
    }

    #[test]
    fn a_runtime_inside_a_pod_does_not_conflict() {
        let root = tempfile::tempdir().unwrap();
        let link = |target: &str, path: &str| {
            let path = root.path().join("proc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
        };
        for (process, namespace, exe) in [("self", "pid:[1]", "/agent"), ("7", "pid:[1]", "/opt/k3s"), ("8", "pid:[2]", "/opt/dockerd")] {
            link(namespace, &format!("{process}/ns/pid"));
            link(exe, &format!("{process}/exe"));
        }
        let found = conflicting_runtimes(&System::new(root.path()));
        assert_eq!(found, [ConflictingRuntime { name: "k3s".into(), path: "/opt/k3s".into(), running: true }]);
    }

    #[test]
    fn empty_directories_are_not_leftovers() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/cni/net.d")).unwrap();
        std::fs::create_dir_all(root.path().join("etc/kubernetes/manifests")).unwrap();
        write(root.path(), "etc/kubernetes/admin.conf");
        assert_eq!(leftovers(&System::new(root.path())), ["/etc/kubernetes/admin.conf"]);
    }

    #[test]
    fn installed_state_is_read_from_ledger_clusters_and_registry() {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path());
        assert_eq!(installed(&system), Installed::default());
        write(root.path(), "var/lib/sealift/undo/ledger.jsonl");
        write(root.path(), "var/lib/sealift/clusters/shop/Clusterfile");
        let registry = system.path("/var/lib/sealift/registry/tls.pem");
        std::fs::create_dir_all(registry.parent().unwrap()).unwrap();
        std::fs::write(&registry, "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\ny\n").unwrap();
        let registry_certificate = Some("-----BEGIN CERTIFICATE-----\ny\n".to_owned());
        write(root.path(), "var/lib/sealift/registry/ca.crt");
        let expected = Installed {
            changed: true,
            undo_problem: Some("undo ledger".into()),
            clusters: vec!["shop".into()],
            registry_certificate,
            registry_authorities: "x".into(),
            node: None,
        };
        let mut found = installed(&system);
        let problem = found.undo_problem.replace("undo ledger".into()).unwrap();
        assert!(problem.contains("undo ledger"), "{problem}");
        assert_eq!(found, expected);
    }

    #[test]
    fn a_host_is_a_member_once_kubeadm_has_finished() {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path());
        let node = || installed(&system).node;
        assert_eq!(node(), None);
        write(root.path(), "etc/kubernetes/kubelet.conf");
        write(root.path(), "etc/kubernetes/pki/ca.crt");
        let authority = Some(Digest::of(b"x").to_string());
        assert_eq!(node(), Some(NodeIdentity { control_plane: false, authority: authority.clone() }));
        write(root.path(), "etc/kubernetes/manifests/kube-apiserver.yaml");
        assert_eq!(node(), Some(NodeIdentity { control_plane: true, authority }));
        write(root.path(), KUBEADM_BEGUN.trim_start_matches('/'));
        assert_eq!(node(), None);
    }
}
