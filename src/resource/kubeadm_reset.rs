//! Removes Kubernetes from a host: what kubeadm, the kubelet, kube-proxy and network plugins leave behind.
//!
//! `kubeadm reset` leaves network links, routes, iptables rules and mounts (its last message says so), and needs an API server
//! that may be gone; this needs none.

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
    let cidrs = pod_network::cidrs(system)?; // read before their files are removed
    stop_containers(system, log);
    for directory in EMPTIED {
        mounts::remove_contents(system, Path::new(directory))?;
    }
    for path in REMOVED {
        mounts::remove_all(system, Path::new(path))?;
    }
    baseline.restore(system, &cidrs, log);
    remove_rules(system, log);
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

/// Removes the iptables chains of kube-proxy, the kubelet and CNI plugins, the rules that jump to them, and all IPVS rules.
fn remove_rules(system: &System, log: &mut dyn FnMut(&str)) {
    let script = r#"
        for kind in iptables ip6tables; do
            command -v $kind-save >/dev/null && command -v $kind-restore >/dev/null || continue
            $kind-save 2>/dev/null | grep -q -e KUBE- -e CNI- || continue
            $kind-save | grep -v -e KUBE- -e CNI- | $kind-restore
        done
        ! command -v ipvsadm >/dev/null || ipvsadm --clear"#;
    if system.path("/bin/sh").exists() {
        system.run(&["sh", "-c", script], log).ok();
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
