//! The pod network of a host, as CNI plugins and kube-proxy set it up: its links, routes, rules and configuration, and how to remove only
//! these.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{System, mounts, packet_rules};

const CNI_DIR: &str = "/etc/cni/net.d";
const LINK_DIR: &str = "/sys/class/net";
/// Names of links that CNI plugins and kube-proxy create…
const LINK_NAMES: [&str; 14] = [
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
/// …and prefixes, followed by digits: flannel's, Calico's and Cilium's for pods.
const LINK_PREFIXES: [&str; 4] = ["flannel.", "flannel-v6.", "cali", "lxc"];
/// After Calico's or Cilium's prefix a pod's link has at least this many hex digits.
const POD_DIGITS: usize = 11;
/// Route protocols of BIRD (12), which Calico uses, Calico itself (80), and sealift's own cni-routes (90).
const PROTOCOLS: [&str; 4] = ["90", "bird", "12", "80"];

/// Where container runtimes mount the network namespaces of pods, and how CNI's names of them begin.
const NETNS_DIR: &str = "/run/netns";
const NETNS_PREFIX: &str = "cni-";
/// Parameters that kube-proxy sets.
const PARAMETERS: [&str; 5] = [
    "/proc/sys/net/ipv4/conf/all/route_localnet",
    "/proc/sys/net/ipv4/vs/conntrack",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established",
];

/// The links, routes, rules and CNI configuration files of a host at one time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Network {
    links: BTreeSet<String>,
    routes: BTreeSet<String>,
    /// Routes of IPv6; earlier versions did not record them.
    #[serde(default)]
    routes_v6: Option<BTreeSet<String>>,
    #[serde(rename = "cni")]
    cni_files: BTreeSet<String>,
    /// As [`packet_rules::of`] names them.
    #[serde(default)]
    rules: BTreeSet<String>,
    /// As [`packet_rules::tables`] names them; earlier versions did not record them.
    #[serde(default)]
    tables: Option<BTreeSet<String>>,
    /// The network namespaces of pods; earlier versions recorded neither these nor parameters.
    #[serde(default)]
    namespaces: Option<BTreeSet<String>>,
    /// The values of [`PARAMETERS`], by path.
    #[serde(default)]
    parameters: BTreeMap<String, String>,
}

impl Network {
    /// Reads the present ones.
    pub fn of(system: &System) -> Self {
        let routes = |argv: &[&str]| system.output(argv).unwrap_or_default().lines().map(|line| line.trim().to_owned()).collect();
        Network {
            links: entry_names(system, LINK_DIR),
            routes: routes(&["ip", "route", "show"]),
            routes_v6: Some(routes(&["ip", "-6", "route", "show"])),
            cni_files: entry_names(system, CNI_DIR),
            tables: Some(packet_rules::tables(system)), // before reading rules, which makes tables
            rules: packet_rules::of(system),
            namespaces: Some(entry_names(system, NETNS_DIR)),
            parameters: parameters(system),
        }
    }

    /// Removes what is new since this one was read and certainly a CNI plugin's: links by their names, routes by their links, by
    /// their protocol, or because they lead into the networks of pods and services; rules by their names and addresses.
    ///
    /// # Errors
    /// Fails if rules cannot be removed.
    pub fn restore(&self, system: &System, cidrs: &[IpNet], log: &mut dyn FnMut(&str)) -> Result<()> {
        packet_rules::remove(system, &self.rules, cidrs, log)?; // before the links, by whose addresses some are recognised
        if let Some(tables) = &self.tables {
            packet_rules::remove_empty_tables(system, tables);
        }
        let current = Network::of(system);
        let new_routes = |current: &BTreeSet<String>, before: &BTreeSet<String>| -> Vec<String> {
            current.difference(before).filter(|route| is_pod_route(route, cidrs)).cloned().collect()
        };
        for route in new_routes(&current.routes, &self.routes) {
            delete_route(system, &["ip", "route", "del"], &route);
        }
        for route in current.routes_v6.iter().zip(&self.routes_v6).flat_map(|(current, before)| new_routes(current, before)) {
            delete_route(system, &["ip", "-6", "route", "del"], &route);
        }
        let links: Vec<&String> = current.links.difference(&self.links).filter(|link| is_plugin_link(system, link)).collect();
        for link in links {
            log(&format!("network link {link}"));
            system.run(&["ip", "link", "delete", link], &mut |_| ()).ok(); // a veth peer is removed with it
        }
        for (path, value) in self.parameters.iter().filter(|(path, value)| current.parameters.get(*path).is_some_and(|now| now != *value)) {
            std::fs::write(system.path(path), value).ok(); // one that went with its kernel module
        }
        for namespace in current.namespaces.iter().zip(&self.namespaces).flat_map(|(current, before)| current.difference(before)) {
            if namespace.starts_with(NETNS_PREFIX) {
                mounts::remove_mounted_file(system, &Path::new(NETNS_DIR).join(namespace));
            }
        }
        for file in current.cni_files.difference(&self.cni_files) {
            std::fs::remove_file(system.path(CNI_DIR).join(file)).ok();
        }
        Ok(())
    }
}

/// Deletes a route by the line that `ip route show` prints of it.
fn delete_route(system: &System, command: &[&str], route: &str) {
    let words = command.iter().copied().chain(route.split_whitespace().filter(|word| *word != "linkdown"));
    system.run(&words.collect::<Vec<_>>(), &mut |_| ()).ok(); // one that is gone with its link
}

/// The CIDRs of pods and services, from the manifests of the control plane and the files of flannel.
pub fn cidrs(system: &System) -> Result<Vec<IpNet>> {
    let manifest = system.read_text("/etc/kubernetes/manifests/kube-controller-manager.yaml")?;
    let flannel = system.read_text("/run/flannel/subnet.env")?;
    let flag_value = |line: &str| {
        let flags = ["- --cluster-cidr=", "- --service-cluster-ip-range=", "FLANNEL_NETWORK=", "FLANNEL_IPV6_NETWORK="];
        flags.iter().find_map(|flag| line.trim().strip_prefix(flag)).map(str::to_owned)
    };
    let lists = manifest.lines().chain(flannel.lines()).filter_map(flag_value).collect::<Vec<_>>().join(",");
    Ok(lists.split(',').filter_map(|cidr| cidr.trim().parse::<IpNet>().ok()).filter(|cidr| cidr.prefix_len() > 0).collect())
}

fn is_plugin_link(system: &System, link: &str) -> bool {
    // a veth that is a port of the plugin's bridge; others belong to other container engines
    let bridged = || std::fs::read_link(system.path(LINK_DIR).join(link).join("master")).is_ok_and(|master| master.ends_with("cni0"));
    is_plugin_name(link) || (link.starts_with("veth") && bridged())
}

fn is_plugin_name(link: &str) -> bool {
    let digits = |rest: &str, min_digits| rest.len() >= min_digits && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    LINK_NAMES.contains(&link)
        || LINK_PREFIXES.iter().any(|prefix| {
            let min_digits = if prefix.ends_with('.') { 1 } else { POD_DIGITS };
            link.strip_prefix(prefix).is_some_and(|rest| digits(rest, min_digits))
        })
}

/// Whether a line of `ip route show` is a route of the pod network; a default route never is.
fn is_pod_route(route: &str, cidrs: &[IpNet]) -> bool {
    let mut words = route.split_whitespace().peekable();
    words.next_if(|word| ["blackhole", "unreachable", "prohibit"].contains(word));
    let Some(target) = words.next().filter(|word| *word != "default") else { return false };
    let target = target.parse::<IpNet>().ok().or_else(|| Some(target.parse::<std::net::IpAddr>().ok()?.into()));
    let Some(target) = target.filter(|target| target.prefix_len() > 0) else { return false };
    let words: Vec<&str> = words.collect();
    let field = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).copied().unwrap_or_default();
    is_plugin_name(field("dev")) || PROTOCOLS.contains(&field("proto")) || cidrs.iter().any(|cidr| cidr.contains(&target))
}

fn parameters(system: &System) -> BTreeMap<String, String> {
    let value = |path: &str| std::fs::read_to_string(system.path(path)).ok();
    PARAMETERS.iter().filter_map(|path| Some(((*path).to_owned(), value(path)?))).collect()
}

fn entry_names(system: &System, directory: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(system.path(directory)).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

    #[test]
    fn only_routes_of_the_pod_network_are_recognised() {
        let cidrs = ["10.244.0.0/16", "10.96.0.0/12", "fd00:244::/48"].map(|cidr| cidr.parse().unwrap());
        for (route, expected) in [
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
            ("fd00:244:0:1::/64 via fd00::3 dev eth0 metric 1024 pref medium", true),
            ("fd00::/64 dev eth0 proto kernel metric 256 pref medium", false),
            ("default via fe80::1 dev eth0 proto ra metric 100 pref medium", false),
            ("", false),
        ] {
            assert_eq!(is_pod_route(route, &cidrs), expected, "{route}");
        }
    }

    #[test]
    fn cidrs_are_read_from_the_control_plane_and_from_flannel() {
        let host = FakeHost::new();
        assert!(cidrs(&host.system).unwrap().is_empty());
        host.write(
            "/etc/kubernetes/manifests/kube-controller-manager.yaml",
            "    - --cluster-cidr=10.1.0.0/16,fd00::/48\n    - --service-cluster-ip-range=10.2.0.0/16\n",
        );
        host.write("/run/flannel/subnet.env", "FLANNEL_NETWORK=10.3.0.0/16\nFLANNEL_SUBNET=10.3.1.1/24\nFLANNEL_IPV6_NETWORK=::/0\n");
        let found: Vec<String> = cidrs(&host.system).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.1.0.0/16", "fd00::/48", "10.2.0.0/16", "10.3.0.0/16"]);
    }

    #[test]
    fn parameters_and_namespaces_of_pods_are_as_before() {
        let host = FakeHost::new();
        let localnet = "/proc/sys/net/ipv4/conf/all/route_localnet";
        host.write(localnet, "0\n");
        host.write("/run/netns/cni-theirs", "");
        let baseline = Network::of(&host.system);
        host.write(localnet, "1\n");
        for name in ["cni-0123", "vpn"] {
            host.write(&format!("/run/netns/{name}"), "");
        }
        for _ in 0..2 {
            baseline.restore(&host.system, &[], &mut |_| ()).unwrap();
            assert_eq!(host.read(localnet), "0\n");
            assert_eq!(entry_names(&host.system, NETNS_DIR), ["cni-theirs", "vpn"].map(str::to_owned).into());
        }
    }

    #[test]
    fn new_links_of_other_programs_stay() {
        let host = FakeHost::new();
        host.write("/sys/class/net/cali0123456789a/x", ""); // another cluster's: it was there before
        let baseline = Network::of(&host.system);
        assert!(baseline.routes_v6.is_some());
        let of_others = ["bond0", "eth0.5", "wg0", "docker0", "lxcbr0", "lxdbr0", "veth1", "veth2", "calibration", "tun0"];
        let of_plugins = ["cni0", "flannel.1", "kube-ipvs0", "cali00000000001", "lxc0123456789ab", "vxlan.calico", "veth3"];
        for link in of_others.iter().chain(&of_plugins) {
            host.write(&format!("/sys/class/net/{link}/x"), "");
        }
        for (link, master) in [("veth2", "docker0"), ("veth3", "cni0")] {
            std::os::unix::fs::symlink(format!("../{master}"), host.system.path(LINK_DIR).join(link).join("master")).unwrap();
        }
        let routes = "default via 10.0.0.9 dev bond0\n10.9.0.0/24 dev cni0 linkdown\n";
        host.program("ip", &format!("case \"$*\" in 'route show') printf '{routes}' ;; '-6 route show') echo fd00:9::/64 dev cni0 ;; *addr*) ;; *) echo \"$@\" >>$ROOT/done ;; esac"));
        baseline.restore(&host.system, &[], &mut |_| ()).unwrap();
        let mut done: Vec<String> = host.read("/done").lines().map(str::to_owned).collect();
        assert_eq!(done.remove(0), "route del 10.9.0.0/24 dev cni0");
        assert_eq!(done.remove(0), "-6 route del fd00:9::/64 dev cni0");
        let mut expected: Vec<String> = of_plugins.iter().map(|link| format!("link delete {link}")).collect();
        expected.sort();
        assert_eq!(done, expected);
    }
}
