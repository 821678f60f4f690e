//! The network of pods on a host, as network plugins make it: its links, routes and configuration, told from all others.

use std::collections::BTreeSet;

use anyhow::Result;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::System;

const CNI: &str = "/etc/cni/net.d";
const LINKS: &str = "/sys/class/net";
/// Links that network plugins and kube-proxy make have these names…
const NAMES: [&str; 14] = [
    "cni0",
    "kube-ipvs0",
    "kube-bridge",
    "kube-dummy-if",
    "nodelocaldns",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
    "wg-v6.cali",
    "cilium_host",
    "cilium_net",
    "cilium_vxlan",
    "cilium_geneve",
    "lxc_health",
];
/// …or names that begin so and end in digits: flannel's, Calico's for pods, Cilium's for pods.
const PREFIXES: [&str; 4] = ["flannel.", "flannel-v6.", "cali", "lxc"];
/// The shortest name of a pod's link after Calico's or Cilium's prefix: 11 or 12 hex digits.
const POD_DIGITS: usize = 11;
/// BIRD (12), which Calico uses, Calico itself (80), and our cni-routes (90).
const PROTOCOLS: [&str; 4] = ["90", "bird", "12", "80"];

/// What of the network was there before, which stays in any case.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Network {
    links: BTreeSet<String>,
    routes: BTreeSet<String>,
    cni: BTreeSet<String>,
}

impl Network {
    /// What is there now.
    pub fn of(system: &System) -> Self {
        let routes = system.output(&["ip", "route", "show"]).unwrap_or_default();
        Network {
            links: names(system, LINKS),
            routes: routes.lines().map(|line| line.trim().to_owned()).collect(),
            cni: names(system, CNI),
        }
    }

    /// Removes what was not there before and is a network plugin's beyond doubt: links by their names, routes by their links,
    /// by the protocol that made them or because they lead into the networks of pods and services.
    pub fn restore(&self, system: &System, cidrs: &[IpNet], say: &mut dyn FnMut(&str)) {
        let now = Network::of(system);
        for route in now.routes.difference(&self.routes).filter(|route| is_pods(route, cidrs)) {
            let words = ["ip", "route", "del"].into_iter().chain(route.split_whitespace().filter(|word| *word != "linkdown"));
            system.run(&words.collect::<Vec<_>>(), &mut |_| ()).ok();
        }
        let links: Vec<&String> = now.links.difference(&self.links).filter(|link| is_plugins(system, link)).collect();
        for link in links {
            say(&format!("network link {link}"));
            system.run(&["ip", "link", "delete", link], &mut |_| ()).ok(); // the other end of a pair goes with the first
        }
        for file in now.cni.difference(&self.cni) {
            std::fs::remove_file(system.path(CNI).join(file)).ok();
        }
    }
}

/// The networks of pods and services, as far as files of the control plane and of flannel tell them.
pub fn cidrs(system: &System) -> Result<Vec<IpNet>> {
    let manifest = system.text("/etc/kubernetes/manifests/kube-controller-manager.yaml")?;
    let flannel = system.text("/run/flannel/subnet.env")?;
    let after = |line: &str| {
        let flags = ["- --cluster-cidr=", "- --service-cluster-ip-range=", "FLANNEL_NETWORK=", "FLANNEL_IPV6_NETWORK="];
        flags.iter().find_map(|flag| line.trim().strip_prefix(flag)).map(str::to_owned)
    };
    let lists = manifest.lines().chain(flannel.lines()).filter_map(after).collect::<Vec<_>>().join(",");
    Ok(lists.split(',').filter_map(|cidr| cidr.trim().parse::<IpNet>().ok()).filter(|cidr| cidr.prefix_len() > 0).collect())
}

fn is_plugins(system: &System, link: &str) -> bool {
    // an end of a pair that is a port of the plugin's bridge; other pairs are those of other container engines
    let bridged = || std::fs::read_link(system.path(LINKS).join(link).join("master")).is_ok_and(|master| master.ends_with("cni0"));
    is_named_so(link) || (link.starts_with("veth") && bridged())
}

fn is_named_so(link: &str) -> bool {
    let digits = |rest: &str, least| rest.len() >= least && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    NAMES.contains(&link)
        || PREFIXES.iter().any(|prefix| {
            let least = if prefix.ends_with('.') { 1 } else { POD_DIGITS };
            link.strip_prefix(prefix).is_some_and(|rest| digits(rest, least))
        })
}

/// Whether a route, as `ip route show` writes it, is a pod network's; a default route never is.
fn is_pods(route: &str, cidrs: &[IpNet]) -> bool {
    let mut words = route.split_whitespace().peekable();
    words.next_if(|word| ["blackhole", "unreachable", "prohibit"].contains(word));
    let Some(target) = words.next().filter(|word| *word != "default") else { return false };
    let target = target.parse::<IpNet>().ok().or_else(|| Some(target.parse::<std::net::IpAddr>().ok()?.into()));
    let Some(target) = target.filter(|target| target.prefix_len() > 0) else { return false };
    let words: Vec<&str> = words.collect();
    let said = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).copied().unwrap_or_default();
    is_named_so(said("dev")) || PROTOCOLS.contains(&said("proto")) || cidrs.iter().any(|cidr| cidr.contains(&target))
}

fn names(system: &System, directory: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(system.path(directory)).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::Lab;

    #[test]
    fn only_routes_of_pods_are_theirs() {
        let cidrs = ["10.244.0.0/16".parse().unwrap(), "10.96.0.0/12".parse().unwrap()];
        for (route, theirs) in [
            ("default via 10.0.0.1 dev eth0 proto dhcp", false),
            ("default via 10.0.0.1 dev cni0 proto bird", false),
            ("0.0.0.0/0 dev cni0", false),
            ("172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1 linkdown", false),
            ("10.8.0.0/24 dev wg0 proto kernel scope link src 10.8.0.1", false),
            ("10.0.0.0/8 via 10.0.0.1 dev eth0", false),
            ("10.244.1.0/24 via 10.0.0.3 dev eth0", true),
            ("10.244.0.7 dev eth0", true),
            ("10.88.0.0/24 dev cni0 proto kernel scope link src 10.88.0.1", true),
            ("192.168.3.0/24 via 192.168.3.0 dev flannel.1 onlink", true),
            ("blackhole 192.168.9.64/26 proto 80", true),
            ("10.9.1.0/24 via 10.0.0.3 dev eth0 proto 90", true),
            ("192.168.9.64/26 via 10.0.0.3 dev tunl0 proto bird onlink", true),
            ("192.168.9.65 dev cali0123456789a scope link", true),
            ("", false),
        ] {
            assert_eq!(is_pods(route, &cidrs), theirs, "{route}");
        }
    }

    #[test]
    fn the_networks_stand_in_the_files_of_the_control_plane_and_of_flannel() {
        let lab = Lab::new();
        assert!(cidrs(&lab.system).unwrap().is_empty());
        lab.write(
            "/etc/kubernetes/manifests/kube-controller-manager.yaml",
            "    - --cluster-cidr=10.1.0.0/16,fd00::/48\n    - --service-cluster-ip-range=10.2.0.0/16\n",
        );
        lab.write("/run/flannel/subnet.env", "FLANNEL_NETWORK=10.3.0.0/16\nFLANNEL_SUBNET=10.3.1.1/24\nFLANNEL_IPV6_NETWORK=::/0\n");
        let found: Vec<String> = cidrs(&lab.system).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.1.0.0/16", "fd00::/48", "10.2.0.0/16", "10.3.0.0/16"]);
    }

    #[test]
    fn links_of_others_that_came_since_stay() {
        let lab = Lab::new();
        lab.write("/sys/class/net/cali0123456789a/x", ""); // another cluster's: it was there before
        let before = Network::of(&lab.system);
        let theirs = ["bond0", "eth0.5", "wg0", "docker0", "lxcbr0", "lxdbr0", "veth1", "veth2", "calibration", "tun0"];
        let ours = ["cni0", "flannel.1", "kube-ipvs0", "cali00000000001", "lxc0123456789ab", "vxlan.calico", "veth3"];
        for link in theirs.iter().chain(&ours) {
            lab.write(&format!("/sys/class/net/{link}/x"), "");
        }
        for (link, master) in [("veth2", "docker0"), ("veth3", "cni0")] {
            std::os::unix::fs::symlink(format!("../{master}"), lab.system.path(LINKS).join(link).join("master")).unwrap();
        }
        let routes = "default via 10.0.0.9 dev bond0\n10.9.0.0/24 dev cni0 linkdown\n";
        lab.program("ip", &format!("[ \"$2\" = show ] && printf '{routes}' || echo \"$@\" >>$ROOT/done"));
        before.restore(&lab.system, &[], &mut |_| ());
        let mut done: Vec<String> = lab.read("/done").lines().map(str::to_owned).collect();
        assert_eq!(done.remove(0), "route del 10.9.0.0/24 dev cni0");
        let mut expected: Vec<String> = ours.iter().map(|link| format!("link delete {link}")).collect();
        expected.sort();
        assert_eq!(done, expected);
    }
}
