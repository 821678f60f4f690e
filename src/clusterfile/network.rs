//! The networks inside a cluster: what is said of them, and that they do not overlap with each other or with hosts.

use ipnet::IpNet;
use serde_json::Value;

use super::finding::Findings;
use super::model::{HostSpec, Networks};
use crate::diagnostic::Span;
use crate::yaml::Node;

/// A network, what it is for, and where the file says it.
struct Placed {
    name: &'static str,
    net: IpNet,
    span: Span,
}

/// What says the networks of pods or of services.
pub struct Sources<'a> {
    /// The texts, comma-separated networks each, the strongest first.
    pub pods: Vec<&'a Node>,
    /// The same for services.
    pub services: Vec<&'a Node>,
}

/// The texts that a document says of its networks: `NAME=value` in env, and kubeadm's `networking`.
pub fn read(sources: &Sources<'_>, hosts: &[HostSpec], findings: &mut Findings) -> Networks {
    let pods = read_one("pod", &sources.pods, findings);
    let services = read_one("service", &sources.services, findings);
    check_overlap(&pods, &services, hosts, findings);
    let nets = |placed: Vec<Placed>| placed.into_iter().map(|placed| placed.net).collect();
    Networks { pods: nets(pods), services: nets(services) }
}

fn read_one(name: &'static str, sources: &[&Node], findings: &mut Findings) -> Vec<Placed> {
    let Some(node) = sources.first() else { return Vec::new() };
    let text = node.text().unwrap_or_default();
    let text = text.split_once('=').map_or(text, |(_, value)| value).trim().trim_matches('"');
    let mut placed: Vec<Placed> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<IpNet>() {
            Ok(net) => {
                if net.network() != net.addr() {
                    findings.warning(&node.span, format!("{name} network {net} starts at {}", net.network()));
                }
                placed.push(Placed { name, net: net.trunc(), span: node.span.clone() });
            }
            Err(_) => {
                findings.error(&node.span, format!("{name} network `{part}` is not a network such as 10.244.0.0/16"));
            }
        }
    }
    let same_family = placed.len() == 2 && placed[0].net.addr().is_ipv4() == placed[1].net.addr().is_ipv4();
    if placed.len() > 2 || same_family {
        findings.error(&node.span, format!("{name} networks: at most one of each address family"));
    }
    placed
}

fn check_overlap(pods: &[Placed], services: &[Placed], hosts: &[HostSpec], findings: &mut Findings) {
    for pod in pods {
        for service in services.iter().filter(|service| overlaps(&pod.net, &service.net)) {
            findings.error(&pod.span, format!("pod network {} overlaps service network {}", pod.net, service.net));
        }
    }
    for network in pods.iter().chain(services) {
        if let Some(host) = hosts.iter().find(|host| network.net.contains(&host.address)) {
            findings.error(&network.span, format!("{} network {} holds the address of host {}", network.name, network.net, host.address));
        }
    }
}

/// Whether two networks share an address.
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The networks that a kubeadm `ClusterConfiguration` says; what does not parse is left out.
pub fn of_cluster_configuration(document: &Value) -> Networks {
    let nets = |field: &str| -> Vec<IpNet> {
        let text = document.get("networking").and_then(|networking| networking.get(field)).and_then(Value::as_str).unwrap_or_default();
        text.split(',').filter_map(|part| part.trim().parse().ok()).collect()
    };
    Networks { pods: nets("podSubnet"), services: nets("serviceSubnet") }
}
