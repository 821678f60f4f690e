//! Removes Kubernetes from a host: what kubeadm, the kubelet, kube-proxy and network plugins leave behind.
//!
//! `kubeadm reset` leaves network links, routes, iptables rules and mounts (its last message says so), and needs an API server
//! that may be gone; this needs none. Links, routes and rules of others stay.

use std::path::Path;

use anyhow::Result;

use super::pod_network::{self, Network};
use super::{System, mounts};

/// Emptied, but not removed: they may be mount points.
const EMPTIED: [&str; 3] = ["/var/lib/kubelet", "/var/lib/etcd", "/var/lib/cni"];
const REMOVED: [&str; 9] = [
    "/etc/kubernetes/manifests",
    "/etc/kubernetes/pki",
    "/etc/kubernetes/tmp",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/super-admin.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/scheduler.conf",
];

/// Removes Kubernetes from this host; `baseline` is the network before kubeadm ran. Twice is the same as once.
pub fn reset_node(system: &System, baseline: &Network, log: &mut dyn FnMut(&str)) -> Result<()> {
    system.run(&["systemctl", "stop", "kubelet.service"], &mut |_| ()).ok();
    let cidrs = pod_network::cidrs(system)?;
    stop_containers(system, log);
    for directory in EMPTIED {
        mounts::remove_contents(system, Path::new(directory))?;
    }
    // the networks are known from files that are removed afterwards: what is interrupted here starts again with them
    baseline.restore(system, &cidrs, log)?;
    for path in REMOVED {
        mounts::remove_all(system, Path::new(path))?;
    }
    super::kubeadm_unit::clear_unfinished(system)
}

/// Stops and removes every container in the `k8s.io` namespace, by `ctr` too: the CRI may not answer any more.
fn stop_containers(system: &System, log: &mut dyn FnMut(&str)) {
    let list = |kind: &str| system.output(&["ctr", "-n", "k8s.io", kind, "list", "-q"]).unwrap_or_default();
    for pod in system.output(&["crictl", "pods", "-q"]).unwrap_or_default().split_whitespace() {
        log(&format!("pod {}", pod.get(..12).unwrap_or(pod)));
        system.run(&["crictl", "stopp", pod], &mut |_| ()).ok();
        system.run(&["crictl", "rmp", pod], &mut |_| ()).ok();
    }
    for task in list("tasks").split_whitespace() {
        system.run(&["ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", task], &mut |_| ()).ok();
        system.run(&["ctr", "-n", "k8s.io", "tasks", "delete", "-f", task], &mut |_| ()).ok();
    }
    for container in list("containers").split_whitespace() {
        system.run(&["ctr", "-n", "k8s.io", "containers", "delete", container], &mut |_| ()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

    #[test]
    fn files_of_kubernetes_are_removed_and_others_stay() {
        let host = FakeHost::new();
        host.write("/sys/class/net/eth0/x", "");
        host.write("/etc/cni/net.d/99-theirs.conf", "");
        let baseline = Network::of(&host.system);
        for path in
            ["/etc/cni/net.d/10-ours.conflist", "/etc/kubernetes/admin.conf", "/etc/kubernetes/pki/ca.crt", "/var/lib/etcd/member/db"]
        {
            host.write(path, "x");
        }
        host.write("/etc/kubernetes/audit-policy.yml", "theirs");
        for _ in 0..2 {
            reset_node(&host.system, &baseline, &mut |_| ()).unwrap();
        }
        for (path, stays) in [
            ("/etc/cni/net.d/99-theirs.conf", true),
            ("/etc/cni/net.d/10-ours.conflist", false),
            ("/etc/kubernetes/audit-policy.yml", true),
            ("/etc/kubernetes/admin.conf", false),
            ("/etc/kubernetes/pki", false),
            ("/var/lib/etcd", true),
            ("/var/lib/etcd/member", false),
        ] {
            assert_eq!(host.system.path(path).exists(), stays, "{path}");
        }
    }
}
