//! Takes Kubernetes off a host: what kubeadm, the kubelet, kube-proxy and network plugins leave behind.
//!
//! `kubeadm reset` leaves network links, routes, packet filter rules and mounts (its own closing message says so), and asks a
//! cluster that may be gone; this asks nobody.

use std::path::Path;

use anyhow::Result;

use super::pod_network::{self, Network};
use super::{System, mounts};

/// Emptied, but kept: they may be mount points.
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

/// Takes Kubernetes off this host. Twice is the same as once.
pub fn clean(system: &System, before: &Network, say: &mut dyn FnMut(&str)) -> Result<()> {
    system.run(&["systemctl", "stop", "kubelet.service"], &mut |_| ()).ok();
    let cidrs = pod_network::cidrs(system)?; // they stand in files that go
    stop_containers(system, say);
    for directory in EMPTIED {
        mounts::empty(system, Path::new(directory))?;
    }
    for path in REMOVED {
        mounts::remove(system, Path::new(path))?;
    }
    before.restore(system, &cidrs, say);
    remove_rules(system, say);
    super::kubeadm_unit::remove_unit(system)
}

/// Ends every container of Kubernetes, by the container runtime's own tool: the CRI may be gone already.
fn stop_containers(system: &System, say: &mut dyn FnMut(&str)) {
    let list = |kind: &str| system.output(&["ctr", "-n", "k8s.io", kind, "list", "-q"]).unwrap_or_default();
    for pod in system.output(&["crictl", "pods", "-q"]).unwrap_or_default().split_whitespace() {
        say(&format!("pod {}", pod.get(..12).unwrap_or(pod)));
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

/// Removes the chains of kube-proxy, the kubelet and CNI plugins, and the rules that jump into them.
fn remove_rules(system: &System, say: &mut dyn FnMut(&str)) {
    let script = r#"
        for kind in iptables ip6tables; do
            command -v $kind-save >/dev/null && command -v $kind-restore >/dev/null || continue
            $kind-save 2>/dev/null | grep -q -e KUBE- -e CNI- || continue
            $kind-save | grep -v -e KUBE- -e CNI- | $kind-restore
        done
        ! command -v ipvsadm >/dev/null || ipvsadm --clear"#;
    if system.path("/bin/sh").exists() {
        system.run(&["sh", "-c", script], say).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::Lab;

    #[test]
    fn what_kubernetes_left_goes_and_what_was_there_stays() {
        let lab = Lab::new();
        lab.write("/sys/class/net/eth0/x", "");
        lab.write("/etc/cni/net.d/99-theirs.conf", "");
        let before = Network::of(&lab.system);
        for path in
            ["/etc/cni/net.d/10-ours.conflist", "/etc/kubernetes/admin.conf", "/etc/kubernetes/pki/ca.crt", "/var/lib/etcd/member/db"]
        {
            lab.write(path, "x");
        }
        lab.write("/etc/kubernetes/audit-policy.yml", "theirs");
        for _ in 0..2 {
            clean(&lab.system, &before, &mut |_| ()).unwrap();
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
            assert_eq!(lab.system.path(path).exists(), stays, "{path}");
        }
    }
}
