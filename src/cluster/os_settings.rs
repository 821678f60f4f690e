//! Tunes the operating system for Kubernetes: kernel modules, sysctl parameters, limits, swap.
//!
//! The comments give the source of each value. Where other tools differ, the value that is safe for small clusters is used. Minimum values
//! are only raised; the others are set exactly. A parameter that the kernel does not have is skipped if the cluster works without it.

use crate::resource::{KernelModule, Limit, Resource, SwapOff, Sysctl};

/// The kernel modules that Kubernetes needs, and whether each is optional.
const MODULES: [(&str, bool); 3] = [("overlay", false), ("br_netfilter", false), ("nf_conntrack", true)];

/// The desired resources of a host for Kubernetes, in the order they are applied.
pub fn kubernetes() -> Vec<Resource> {
    let modules = MODULES.map(|(name, optional)| Resource::KernelModule(KernelModule { name: name.to_owned(), optional }));
    let mut resources = vec![Resource::SwapOff(SwapOff {})];
    resources.extend(modules);
    resources.extend(exact_values().into_iter().chain(minimum_values()).map(Resource::Sysctl));
    resources.extend(limits());
    resources
}

/// Parameters with exact values.
fn exact_values() -> Vec<Sysctl> {
    vec![
        // pods are routed; required by kubeadm
        Sysctl::exactly("net.ipv4.ip_forward", 1),
        // Services reach bridged pods; required by kubeadm
        Sysctl::exactly("net.bridge.bridge-nf-call-iptables", 1),
        Sysctl::exactly("net.bridge.bridge-nf-call-ip6tables", 1).optional(),
        // replies may take another route than requests
        Sysctl::exactly("net.ipv4.conf.all.rp_filter", 0).optional(),
        Sysctl::exactly("net.ipv4.conf.default.rp_filter", 0).optional(),
        // NodePorts are not used for outgoing connections
        Sysctl::exactly("net.ipv4.ip_local_reserved_ports", "30000-32767").optional(),
        // kubelet's protectKernelDefaults
        Sysctl::exactly("vm.overcommit_memory", 1).optional(),
        Sysctl::exactly("vm.panic_on_oom", 0).optional(),
        Sysctl::exactly("kernel.panic", 10).optional(),
        Sysctl::exactly("kernel.panic_on_oops", 1).optional(),
    ]
}

/// Parameters with minimum values.
fn minimum_values() -> Vec<Sysctl> {
    [
        // kubelet's protectKernelDefaults
        ("kernel.keys.root_maxkeys", 1_000_000),
        ("kernel.keys.root_maxbytes", 25_000_000),
        // the minimum of kube-proxy, whose default is 32768 per core
        ("net.netfilter.nf_conntrack_max", 131_072),
        // the neighbour table contains every pod and node of the cluster
        ("net.ipv4.neigh.default.gc_thresh1", 512),
        ("net.ipv4.neigh.default.gc_thresh2", 2048),
        ("net.ipv4.neigh.default.gc_thresh3", 4096),
        ("net.core.somaxconn", 32_768),
        // kubelets and log collectors watch many files
        ("fs.inotify.max_user_instances", 8192),
        ("fs.inotify.max_user_watches", 524_288),
        ("fs.file-max", 2_097_152),
        // Elasticsearch and others map many files
        ("vm.max_map_count", 262_144),
        ("kernel.pid_max", 4_194_304),
    ]
    .map(|(key, value)| Sysctl::at_least(key, value).optional())
    .to_vec()
}

/// Limits of login sessions. Services have theirs in their systemd units.
fn limits() -> Vec<Resource> {
    vec![Resource::Limit(Limit::new("nofile", 1_048_576))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{State, System};

    #[test]
    fn every_parameter_is_set_once() {
        let mut titles: Vec<String> = kubernetes().iter().map(Resource::title).collect();
        let count = titles.len();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), count);
    }

    #[test]
    fn parameters_are_written_to_a_separate_file_and_undone() {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path());
        for sysctl in exact_values().into_iter().chain(minimum_values()) {
            let file = root.path().join("proc/sys").join(sysctl.key.replace('.', "/"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "3\n").unwrap();
        }
        let sysctls: Vec<Resource> = kubernetes().into_iter().filter(|resource| matches!(resource, Resource::Sysctl(_))).collect();
        let mut before = Vec::new();
        for resource in &sysctls {
            before.push(resource.reconciler().snapshot(&system).unwrap());
            resource.reconciler().apply(&system, &mut |_| ()).unwrap();
            assert_eq!(resource.reconciler().check(&system).unwrap(), State::Present, "{}", resource.title());
        }
        for (resource, before) in sysctls.iter().zip(&before).rev() {
            resource.reconciler().undo(&system, before, &mut |_| ()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(root.path().join("proc/sys/net/ipv4/ip_forward")).unwrap().trim(), "3");
        assert!(!root.path().join("etc/sysctl.d/99-zz-sealift.conf").exists());
    }
}
