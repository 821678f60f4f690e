//! Container runtimes, kubelets and leftovers that are not ours, and what sealift did on this host earlier.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::paths::{CLUSTERS, HOME, REGISTRY_TLS, UNDO_LEDGER};
use crate::resource::System;

/// Programs that fight with ours over sockets, cgroups and iptables.
const PROGRAMS: [&str; 8] = ["containerd", "dockerd", "crio", "kubelet", "k3s", "rke2", "k0s", "podman"];
/// The directories programs are in.
const PROGRAM_DIRS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// What a Kubernetes node leaves behind (kubeadm's preflight checks DirAvailable and FileAvailable, and the peers' lists).
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

/// A container runtime or kubelet that sealift did not bring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// The program's name.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// Whether it runs now.
    pub running: bool,
}

/// What sealift did on this host earlier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Whether the undo ledger has entries: sealift has changed this host and not taken it back.
    pub changed: bool,
    /// The clusters this host belongs to.
    pub clusters: Vec<String>,
    /// The certificate of the registry on it (PEM), without its key.
    #[serde(default)]
    pub registry_certificate: Option<String>,
}

/// A process.
pub struct Process {
    /// Its name.
    pub name: String,
    /// Whether it runs a program of ours.
    pub ours: bool,
}

/// What is here of foreign runtimes: programs on disk that are no links into our rootfs, and running ones.
pub fn foreign(system: &System) -> Vec<Foreign> {
    let running = running(system);
    let installed = PROGRAMS.iter().flat_map(|name| PROGRAM_DIRS.iter().map(move |dir| format!("{dir}/{name}")));
    let mut found: Vec<Foreign> = installed
        .filter(|path| is_foreign(&system.path(path)))
        .map(|path| Foreign { name: file_name(Path::new(&path)), running: running.iter().any(|exe| exe == Path::new(&path)), path })
        .collect();
    for exe in running {
        let name = file_name(&exe);
        if PROGRAMS.contains(&name.as_str()) && !found.iter().any(|foreign| Path::new(&foreign.path) == exe) {
            found.push(Foreign { name, path: exe.display().to_string(), running: true });
        }
    }
    // podman without a running service does not get in the way
    found.retain(|foreign| foreign.name != "podman" || foreign.running);
    found
}

fn is_foreign(path: &Path) -> bool {
    match std::fs::read_link(path) {
        Ok(target) => !target.starts_with(HOME) && path.exists(),
        Err(_) => path.is_file(),
    }
}

/// Executables of running processes that are not ours. What runs in a container's process namespace, such as a docker daemon in
/// a pod, is the cluster's own business.
fn running(system: &System) -> Vec<PathBuf> {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/pid")).ok();
    let host = namespace(&system.path("/proc/self"));
    let of_host = |process: &PathBuf| host.is_none() || namespace(process).is_none_or(|own| Some(own) == host);
    let mut found: Vec<PathBuf> = processes(system)
        .filter(of_host)
        .filter_map(|process| std::fs::read_link(process.join("exe")).ok())
        .filter(|exe| !is_ours(exe))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn processes(system: &System) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(system.path("/proc")).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())).map(|entry| entry.path())
}

/// Programs below sealift's directory, and those of containers that our containerd runs from its own root directories.
fn is_ours(exe: &Path) -> bool {
    exe.starts_with(HOME)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().trim_end_matches(" (deleted)").to_owned()
}

/// The process that has the socket with this inode open.
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
    let ours = std::fs::read_link(process.join("exe")).is_ok_and(|exe| is_ours(&exe));
    Some(Process { name, ours })
}

/// What an earlier cluster left: files, and directories that are not empty.
pub fn leftovers(system: &System) -> Vec<String> {
    let there = |path: &&&str| {
        let place = system.path(path);
        place.is_file() || std::fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some())
    };
    LEFTOVERS.iter().filter(there).map(|path| (*path).to_owned()).collect()
}

/// What sealift did here earlier.
pub fn installed(system: &System) -> Installed {
    let ledger = std::fs::metadata(system.path(UNDO_LEDGER));
    let clusters = std::fs::read_dir(system.path(CLUSTERS)).into_iter().flatten().flatten();
    let mut clusters: Vec<String> = clusters.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    clusters.sort();
    let registry_certificate = std::fs::read_to_string(system.path(REGISTRY_TLS)).ok().and_then(certificate_of);
    Installed { changed: ledger.is_ok_and(|meta| meta.len() > 0), clusters, registry_certificate }
}

/// The certificate in a file that has its key too.
fn certificate_of(text: String) -> Option<String> {
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    text.contains("PRIVATE KEY-----").then(|| text[begin..].to_owned())
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
    fn a_foreign_runtime_is_seen_and_our_own_link_is_not() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "usr/bin/dockerd");
        write(root.path(), "usr/bin/podman");
        std::os::unix::fs::symlink("/var/lib/sealift/rootfs/current/host/usr/bin/kubelet", root.path().join("usr/bin/kubelet")).unwrap();
        let found = foreign(&System::new(root.path()));
        assert_eq!(found, [Foreign { name: "dockerd".into(), path: "/usr/bin/dockerd".into(), running: false }]);
    }

    #[test]
    fn a_runtime_inside_a_pod_is_not_foreign() {
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
        let found = foreign(&System::new(root.path()));
        assert_eq!(found, [Foreign { name: "k3s".into(), path: "/opt/k3s".into(), running: true }]);
    }

    #[test]
    fn empty_directories_are_no_leftovers() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/cni/net.d")).unwrap();
        std::fs::create_dir_all(root.path().join("etc/kubernetes/manifests")).unwrap();
        write(root.path(), "etc/kubernetes/admin.conf");
        assert_eq!(leftovers(&System::new(root.path())), ["/etc/kubernetes/admin.conf"]);
    }

    #[test]
    fn the_ledger_and_the_clusters_tell_what_was_done() {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path());
        assert_eq!(installed(&system), Installed::default());
        write(root.path(), "var/lib/sealift/undo/ledger.jsonl");
        write(root.path(), "var/lib/sealift/clusters/shop/Clusterfile");
        let registry = system.path("/var/lib/sealift/registry/tls.pem");
        std::fs::create_dir_all(registry.parent().unwrap()).unwrap();
        std::fs::write(&registry, "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\ny\n").unwrap();
        let registry_certificate = Some("-----BEGIN CERTIFICATE-----\ny\n".to_owned());
        assert_eq!(installed(&system), Installed { changed: true, clusters: vec!["shop".into()], registry_certificate });
    }
}
