//! Addresses, routes and TCP listeners of a host, from `/proc/net`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::resource::System;

/// A route to a network, without its gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    pub network: IpNet,
    /// The outgoing interface.
    pub interface: String,
}

/// A process that listens on a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The TCP port.
    pub port: u16,
    /// The process's name, if it could be found.
    pub process: Option<String>,
    /// Whether sealift installed its program.
    #[serde(rename = "ours")]
    pub is_sealift: bool,
}

/// Returns the host's addresses: `/32 host LOCAL` leaves of `/proc/net/fib_trie`, and `/proc/net/if_inet6` without loopback and link-local ones.
pub fn addresses(fib_trie: &str, if_inet6: &str) -> Vec<IpAddr> {
    let mut found = BTreeSet::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in fib_trie.lines() {
        let line = line.trim_start();
        if let Some(rest) = line.strip_prefix("|-- ") {
            leaf = rest.trim().parse().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = leaf.filter(|address| !address.is_loopback())
        {
            found.insert(IpAddr::V4(address));
        }
    }
    for line in if_inet6.lines() {
        let parsed = line.split_whitespace().next().and_then(|hex| u128::from_str_radix(hex, 16).ok()).map(Ipv6Addr::from);
        if let Some(address) = parsed.filter(|address| !address.is_loopback() && !address.is_unicast_link_local()) {
            found.insert(IpAddr::V6(address));
        }
    }
    found.into_iter().collect()
}

/// Returns the routes of `/proc/net/route` and `/proc/net/ipv6_route`, without default routes.
pub fn routes(route: &str, ipv6_route: &str) -> Vec<Route> {
    ipv4_routes(route).chain(ipv6_routes(ipv6_route)).filter(|route| route.network.prefix_len() > 0).collect()
}

/// Returns whether one of them has a default route.
pub fn has_default_route(route: &str, ipv6_route: &str) -> bool {
    ipv4_routes(route).chain(ipv6_routes(ipv6_route)).any(|route| route.network.prefix_len() == 0)
}

/// Entries of `/proc/net/ipv6_route`: destination and prefix length as hex first, flags ninth, the interface last. Without those
/// that every host has: loopback, link-local, multicast, local addresses (RTF_LOCAL), and unreachable ones (RTF_REJECT).
fn ipv6_routes(text: &str) -> impl Iterator<Item = Route> {
    const RTF_REJECT: u32 = 0x0200;
    const RTF_LOCAL: u32 = 0x8000_0000;
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
        let network = Ipv6Net::new(address, u8::from_str_radix(fields.get(1)?, 16).ok()?).ok()?;
        let flags = u32::from_str_radix(fields.get(8)?, 16).ok()?;
        let is_local = address.is_loopback() || address.is_unicast_link_local() || address.is_multicast();
        let interface = (*fields.get(9)?).to_owned();
        (flags & (RTF_REJECT | RTF_LOCAL) == 0 && !is_local).then_some(Route { network: IpNet::V6(network), interface })
    })
}

/// Entries of `/proc/net/route`: interface, destination and mask as little-endian hex.
fn ipv4_routes(text: &str) -> impl Iterator<Item = Route> {
    let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(|value| Ipv4Addr::from(value.to_le_bytes()));
    text.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (interface, destination, mask) = (fields.first()?, fields.get(1)?, fields.get(7)?);
        let network = Ipv4Net::with_netmask(address(destination)?, address(mask)?).ok()?;
        Some(Route { network: IpNet::V4(network), interface: (*interface).to_owned() })
    })
}

/// Returns the listeners on `ports`, at most one for each.
pub fn listeners(system: &System, ports: &[u16]) -> Vec<Listener> {
    let text = |path| std::fs::read_to_string(system.path(path)).unwrap_or_default();
    let sockets: BTreeSet<(u16, u64)> = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().flat_map(|path| listening(&text(path))).collect();
    let mut found: Vec<Listener> = Vec::new();
    for (port, inode) in sockets.into_iter().filter(|(port, _)| ports.contains(port)) {
        let owner = super::runtime::owner_of_socket(system, inode);
        let (process, is_sealift) = owner.map_or((None, false), |process| (Some(process.name), process.is_sealift));
        if !found.iter().any(|listener| listener.port == port) {
            found.push(Listener { port, process, is_sealift });
        }
    }
    found
}

/// Ports and socket inodes of sockets in state LISTEN (0A) of `/proc/net/tcp` or `tcp6`.
fn listening(text: &str) -> Vec<(u16, u64)> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        (fields.get(3)? == &"0A").then_some((port, fields.get(9)?.parse().ok()?))
    };
    text.lines().skip(1).filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_local_leaves() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.0.0\n        /24 link UNICAST\nLocal:\n     |-- 10.1.0.5\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.1.0.255\n        /32 link BROADCAST\n";
        let six = "fe800000000000000000000000000001 02 40 20 80 eth0\nfd000000000000000000000000000005 02 40 00 80 eth0\n00000000000000000000000000000001 01 80 10 80 lo\n";
        assert_eq!(addresses(trie, six), ["10.1.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]);
        assert!(addresses("garbage", "garbage").is_empty());
    }

    #[test]
    fn ipv4_routes_are_little_endian_hex() {
        let text = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\neth0 00000000 0100010A 0003 0 0 0 00000000 0 0 0\ncni0 0001F40A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        assert!(has_default_route(text, ""));
        assert_eq!(routes(text, ""), [Route { network: "10.244.1.0/24".parse().unwrap(), interface: "cni0".into() }]);
        assert!(!has_default_route("", "") && routes("header\nbroken line\n", "broken line\n").is_empty());
    }

    #[test]
    fn ipv6_routes_are_those_to_other_networks() {
        let line = |destination: &str, prefix: &str, flags: &str| {
            format!("{destination} {prefix} {0} 00 {0} 00000400 00000001 00000000 {flags} eth0\n", "0".repeat(32))
        };
        let default = line(&"0".repeat(32), "00", "00450003");
        let refused = line(&"0".repeat(32), "00", "00200200");
        let network = line("fd000000000000000000000000000000", "40", "00000001");
        let own = line("fd000000000000000000000000000005", "80", "80200001");
        let link_local = line("fe800000000000000000000000000000", "40", "00000001");
        let text = [default, refused.clone(), network, own, link_local].concat();
        assert!(has_default_route("", &text) && !has_default_route("", &refused));
        assert_eq!(routes("", &text), [Route { network: "fd00::/64".parse().unwrap(), interface: "eth0".into() }]);
    }

    #[test]
    fn only_listening_sockets_count() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   1: 0100007F:192B 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(listening(text), [(6443, 4711)]);
    }

    #[test]
    fn a_real_listener_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listeners(&System::new("/"), &[port]);
        assert_eq!(found.len(), 1);
        assert!(found[0].process.as_deref().is_some_and(|name| !name.is_empty()), "{found:?}");
    }
}
