//! The paths of sealift on hosts. Every path below `/var/lib/sealift` is defined here.

/// The directory of sealift on a host, and, for root, on the operator's machine.
pub const HOME: &str = "/var/lib/sealift";
/// The executable of sealift: the agent, and the program of its systemd units.
pub const EXECUTABLE: &str = "/var/lib/sealift/bin/sealift";
/// The store of images.
pub const STORE: &str = "/var/lib/sealift/store";
/// Unpacked root file systems, each in a directory named after its digest.
pub const ROOTFS: &str = "/var/lib/sealift/rootfs";
/// A link to the root file system in use.
pub const ROOTFS_CURRENT: &str = "/var/lib/sealift/rootfs/current";
/// A directory for each cluster that the host belongs to.
pub const CLUSTERS: &str = "/var/lib/sealift/clusters";
/// Application data, where a Clusterfile names no other `dataRoot`.
pub const DATA: &str = "/var/lib/sealift/data";
/// The lease on a cluster, on one of its masters.
pub const LEASE: &str = "/var/lib/sealift/lease.json";
/// Which cluster the host belongs to, and the highest number of a lease that its agent has seen.
pub const CLAIM: &str = "/var/lib/sealift/claim.json";
/// Locked while an agent changes the host.
pub const CHANGE_LOCK: &str = "/var/lib/sealift/change.lock";
/// Private key and certificate of the local registry, in one PEM file.
pub const REGISTRY_TLS: &str = "/var/lib/sealift/registry/tls.pem";
/// The users of the local registry, in the format of `htpasswd -B`.
pub const REGISTRY_USERS: &str = "/var/lib/sealift/registry/htpasswd";
/// The certificates of all local registries of a cluster, which containerd trusts.
pub const REGISTRY_CA: &str = "/var/lib/sealift/registry/ca.crt";
/// The undo ledger: what resources found before their first change.
pub const UNDO_LEDGER: &str = "/var/lib/sealift/undo/ledger.jsonl";
/// Backups of files that were replaced, named after their digests.
pub const UNDO_BACKUPS: &str = "/var/lib/sealift/undo/saved";
/// A file for each command or script that has run: it is not run again.
pub const STAMPS: &str = "/var/lib/sealift/stamps";
/// A marker file that exists while kubeadm changes the host, and after it failed.
pub const KUBEADM_BEGUN: &str = "/var/lib/sealift/kubeadm/begun";
/// What kubectl remembers of an API server: not in root's home, which is the user's.
pub const KUBECTL_CACHE: &str = "/var/lib/sealift/kubectl";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_lies_below_home() {
        let all = [
            EXECUTABLE,
            STORE,
            ROOTFS,
            ROOTFS_CURRENT,
            CLUSTERS,
            DATA,
            LEASE,
            CLAIM,
            CHANGE_LOCK,
            REGISTRY_TLS,
            REGISTRY_USERS,
            REGISTRY_CA,
            UNDO_LEDGER,
            UNDO_BACKUPS,
            STAMPS,
            KUBEADM_BEGUN,
            KUBECTL_CACHE,
        ];
        for path in all {
            assert!(path.strip_prefix(HOME).is_some_and(|rest| rest.starts_with('/')), "{path}");
        }
    }
}
