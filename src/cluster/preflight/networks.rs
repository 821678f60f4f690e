//! The networks of pods, services and hosts do not overlap.

use ipnet::IpNet;

use super::{Check, HostInput, Input, Report};

pub(super) static CHECK: Check = Check { id: "Networks", description: "pod, service and host networks do not overlap", run };

const REMEDY: &str = "choose other networks: `podSubnet` and `serviceSubnet` of ClusterConfiguration, or PodCIDR and SvcCIDR in `env`";

fn overlap(first: &IpNet, other: &IpNet) -> bool {
    first.contains(other) || other.contains(first)
}

fn run(input: &Input, report: &mut Report) {
    for (at, network) in input.networks.iter().enumerate() {
        for other in input.networks[at + 1..].iter().filter(|other| overlap(network, other)) {
            report.fail(None, format!("the networks {network} and {other} overlap"), REMEDY);
        }
        for host in &input.hosts {
            check_host(network, host, input, report);
        }
    }
}

fn check_host(network: &IpNet, host: &HostInput, input: &Input, report: &mut Report) {
    if let Some(address) = host.facts.addresses.iter().find(|address| network.contains(*address) && **address == host.address) {
        report.fail(host.address, format!("the host's address {address} is inside the cluster's network {network}"), REMEDY);
    } else if !host.belongs_to(&input.cluster)
        && let Some(route) = host.facts.routes.iter().find(|route| overlap(network, &route.network))
    {
        let message = format!("the host's route to {} (dev {}) overlaps the cluster's network {network}", route.network, route.interface);
        report.fail(host.address, message, REMEDY);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};
    use crate::host::facts::Route;

    fn route(network: &str) -> Route {
        Route { network: network.parse().unwrap(), interface: "eth1".into() }
    }

    #[test]
    fn overlapping_networks_are_refused() {
        assert_findings("Networks", |input| input.hosts[0].facts.routes.push(route("192.168.7.0/24")), &[]);
        assert_findings("Networks", |input| input.networks.push("10.244.7.0/24".parse().unwrap()), &[Fail]);
        assert_findings("Networks", |input| input.hosts[0].facts.routes.push(route("10.0.0.0/8")), &[Fail, Fail]);
        assert_findings("Networks", |input| input.networks[0] = "192.168.0.0/16".parse().unwrap(), &[Fail, Fail]);
    }

    #[test]
    fn routes_to_our_own_pods_are_no_overlap() {
        let change = |input: &mut super::Input| {
            input.hosts[0].facts.installed.changed = true;
            input.hosts[0].facts.routes.push(route("10.244.0.0/24"));
        };
        assert_findings("Networks", change, &[]);
    }
}
