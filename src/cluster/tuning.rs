//! How the operating system is tuned for a cluster: kernel modules, parameters, limits, swap.
//!
//! Values and their sources are in the comments; where the peers differ, the value that does no harm to small sites is taken. Minima only
//! raise, switches are exact. What a small kernel or a container lacks is tolerated where the cluster works without.

use crate::resource::{KernelModule, Limit, Resource, SwapOff, Sysctl};

/// Modules that Kubernetes needs, with whether a kernel without them will do.
const MODULES: [(&str, bool); 3] = [("overlay", false), ("br_netfilter", false), ("nf_conntrack", true)];

/// What a host needs for Kubernetes, in the order in which it is applied.
pub fn kubernetes() -> Vec<Resource> {
    let modules = MODULES.map(|(name, optional)| Resource::Module(KernelModule { name: name.to_owned(), optional }));
    let mut resources = vec![Resource::SwapOff(SwapOff {})];
    resources.extend(modules);
    resources.extend(switches().into_iter().chain(minima()).map(Resource::Sysctl));
    resources.extend(limits());
    resources
}

/// Parameters that must be just this.
fn switches() -> Vec<Sysctl> {
    vec![
        // pods route; kubeadm refuses without
        Sysctl::exactly("net.ipv4.ip_forward", 1),
        // Services reach bridged pods; kubeadm refuses without
        Sysctl::exactly("net.bridge.bridge-nf-call-iptables", 1),
        Sysctl::exactly("net.bridge.bridge-nf-call-ip6tables", 1).optional(),
        // answers may take another way than questions
        Sysctl::exactly("net.ipv4.conf.all.rp_filter", 0).optional(),
        Sysctl::exactly("net.ipv4.conf.default.rp_filter", 0).optional(),
        // NodePorts are not given to outgoing connections
        Sysctl::exactly("net.ipv4.ip_local_reserved_ports", "30000-32767").optional(),
        // kubelet's protectKernelDefaults
        Sysctl::exactly("vm.overcommit_memory", 1).optional(),
        Sysctl::exactly("vm.panic_on_oom", 0).optional(),
        Sysctl::exactly("kernel.panic", 10).optional(),
        Sysctl::exactly("kernel.panic_on_oops", 1).optional(),
    ]
}

/// Parameters that must be at least this.
fn minima() -> Vec<Sysctl> {
    [
        // kubelet's protectKernelDefaults
        ("kernel.keys.root_maxkeys", 1_000_000),
        ("kernel.keys.root_maxbytes", 25_000_000),
        // kube-proxy's default is 32768 a core, at least this
        ("net.netfilter.nf_conntrack_max", 131_072),
        // the neighbour table holds every pod and node of the site
        ("net.ipv4.neigh.default.gc_thresh1", 512),
        ("net.ipv4.neigh.default.gc_thresh2", 2048),
        ("net.ipv4.neigh.default.gc_thresh3", 4096),
        ("net.core.somaxconn", 32_768),
        // kubelets and log collectors watch many files
        ("fs.inotify.max_user_instances", 8192),
        ("fs.inotify.max_user_watches", 524_288),
        ("fs.file-max", 2_097_152),
        // Elasticsearch and others that map files
        ("vm.max_map_count", 262_144),
        ("kernel.pid_max", 4_194_304),
    ]
    .map(|(key, value)| Sysctl::at_least(key, value).optional())
    .to_vec()
}

/// Limits of login sessions; services have theirs in their units.
fn limits() -> Vec<Resource> {
    vec![Resource::Limit(Limit::new("nofile", 1_048_576))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{State, System};

    #[test]
    fn every_parameter_is_named_once() {
        let mut titles: Vec<String> = kubernetes().iter().map(Resource::title).collect();
        let count = titles.len();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), count);
    }

    #[test]
    fn parameters_are_written_to_a_file_of_our_own_and_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path());
        for sysctl in switches().into_iter().chain(minima()) {
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
        assert!(!root.path().join("etc/sysctl.d/95-sealift.conf").exists());
    }
}
