//! The networks of pods, services and hosts do not overlap.

use ipnet::IpNet;

use super::{Check, HostInput, Input, Report};

pub(super) static CHECK: Check = Check { id: "Networks", about: "pod, service and host networks do not overlap", judge };

const REMEDY: &str = "choose other networks: `podSubnet` and `serviceSubnet` of ClusterConfiguration, or PodCIDR and SvcCIDR in env";

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn judge(input: &Input, report: &mut Report) {
    for (at, network) in input.networks.iter().enumerate() {
        for other in input.networks[at + 1..].iter().filter(|other| overlap(network, other)) {
            report.fail(None, format!("the networks {network} and {other} overlap"), REMEDY);
        }
        for host in &input.hosts {
            judge_host(network, host, input, report);
        }
    }
}

fn judge_host(network: &IpNet, host: &HostInput, input: &Input, report: &mut Report) {
    if let Some(address) = host.facts.addresses.iter().find(|address| network.contains(*address) && **address == host.address) {
        report.fail(host.address, format!("the host's address {address} is inside the cluster's network {network}"), REMEDY);
    } else if !host.is_ours(&input.cluster)
        && let Some(route) = host.facts.routes.iter().find(|route| overlap(network, &route.network))
    {
        let message = format!("the host's route to {} (by {}) overlaps the cluster's network {network}", route.network, route.interface);
        report.fail(host.address, message, REMEDY);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};
    use crate::host::facts::Route;

    fn route(network: &str) -> Route {
        Route { network: network.parse().unwrap(), interface: "eth1".into() }
    }

    #[test]
    fn overlapping_networks_are_refused() {
        finds("Networks", |input| input.hosts[0].facts.routes.push(route("192.168.7.0/24")), &[]);
        finds("Networks", |input| input.networks.push("10.244.7.0/24".parse().unwrap()), &[Fail]);
        finds("Networks", |input| input.hosts[0].facts.routes.push(route("10.0.0.0/8")), &[Fail, Fail]);
        finds("Networks", |input| input.networks[0] = "192.168.0.0/16".parse().unwrap(), &[Fail, Fail]);
    }

    #[test]
    fn routes_to_our_own_pods_are_no_overlap() {
        let spoil = |input: &mut super::Input| {
            input.hosts[0].facts.installed.changed = true;
            input.hosts[0].facts.routes.push(route("10.244.0.0/24"));
        };
        finds("Networks", spoil, &[]);
    }
}
