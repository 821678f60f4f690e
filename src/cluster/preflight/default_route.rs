//! Programs on a host reach Services: the kernel looks for a route before kube-proxy's rules see a packet.

use ipnet::IpNet;

use super::{Check, HostInput, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check = Check { id: "DefaultRoute", description: "there is a route to Services", run };

fn run(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    for host in &input.hosts {
        for (number, services) in input.services.iter().enumerate().filter(|(_, services)| !has_route(host, services)) {
            let remedy = format!(
                "add a route for good, for example `ip {}route add {services} dev {}`, or a default route; it need not lead anywhere",
                if services.addr().is_ipv6() { "-6 " } else { "" },
                interface(host)
            );
            // IPVS has the addresses of Services on a link of its own; network plugins use Services of the first family
            if input.services_have_link {
                let message = "no default route: network plugins such as flannel choose their network interface by it".to_owned();
                report.warn(host.address, message, remedy);
            } else if number > 0 {
                let message =
                    format!("no default route and none to the Services' network {services}: programs on the host do not reach it");
                report.warn(host.address, message, remedy);
            } else {
                let message = format!(
                    "no default route and none to the Services' network {services}: the network plugin cannot reach the API server, and nodes never become ready"
                );
                report.fail(host.address, message, remedy);
            }
        }
    }
}

fn has_route(host: &HostInput, services: &IpNet) -> bool {
    let has_default = if services.addr().is_ipv6() { host.facts.default_route_v6 } else { host.facts.default_route_v4 };
    has_default || host.facts.routes.iter().any(|route| route.network.contains(services))
}

/// The interface to the host's own network.
fn interface(host: &HostInput) -> &str {
    host.facts.routes.iter().find(|route| route.network.contains(&host.address)).map_or("eth0", |route| &route.interface)
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};
    use crate::host::facts::Route;
    use crate::image::RuntimeKind;

    fn route(network: &str) -> Route {
        Route { network: network.parse().unwrap(), interface: "ens3".into() }
    }

    #[test]
    fn services_need_a_route() {
        let without = |input: &mut super::Input| {
            input.hosts[0].facts.default_route_v4 = false;
            input.hosts[0].facts.default_route_v6 = true;
            input.hosts[0].facts.routes = vec![route("192.168.7.0/24")];
        };
        assert_findings("DefaultRoute", |_| (), &[]);
        let findings = assert_findings("DefaultRoute", without, &[Fail]);
        assert!(findings[0].message.contains("10.96.0.0/22") && findings[0].remedy.contains("ip route add 10.96.0.0/22 dev ens3"));
        let ipvs = |input: &mut super::Input| {
            without(input);
            input.services_have_link = true;
        };
        assert_findings("DefaultRoute", ipvs, &[Warn]);
        let covered = |input: &mut super::Input| {
            without(input);
            input.hosts[0].facts.routes.push(route("10.96.0.0/22"));
        };
        assert_findings("DefaultRoute", covered, &[]);
        let second_family = |input: &mut super::Input| input.services.push("fd00:96::/112".parse().unwrap());
        let findings = assert_findings("DefaultRoute", second_family, &[Warn, Warn]);
        assert!(findings[0].remedy.contains("ip -6 route add fd00:96::/112"), "{findings:?}");
        let none = |input: &mut super::Input| {
            without(input);
            input.runtime = RuntimeKind::None;
        };
        assert_findings("DefaultRoute", none, &[]);
    }
}
