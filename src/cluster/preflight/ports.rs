//! The TCP ports that the cluster needs are free.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check = Check { id: "Port", description: "the TCP ports that the cluster needs are free", run };

/// The ports of kube-apiserver, kube-scheduler, kube-controller-manager and etcd (clients, peers, metrics).
const MASTER: [u16; 6] = [6443, 10259, 10257, 2379, 2380, 2381];
/// The ports of kubelet (API, health) and kube-proxy (metrics, health).
const NODE: [u16; 4] = [10250, 10248, 10249, 10256];

/// The TCP ports that a host needs, sorted. `registry` is the port of the local registry if the host runs it.
pub fn required_ports(runtime: RuntimeKind, master: bool, registry: Option<u16>) -> Vec<u16> {
    let mut ports: Vec<u16> = registry.into_iter().collect();
    if runtime == RuntimeKind::Kubernetes {
        ports.extend(NODE);
        ports.extend(master.then_some(MASTER).into_iter().flatten());
        // on workers the load balancer listens on the port of kube-apiserver
        ports.extend((!master).then_some(MASTER[0]));
    }
    ports.sort_unstable();
    ports
}

fn run(input: &Input, report: &mut Report) {
    for host in input.hosts.iter().filter(|host| !host.belongs_to(&input.cluster)) {
        for listener in host.facts.listeners.iter().filter(|listener| host.ports.contains(&listener.port) && !listener.is_sealift) {
            let who = listener.process.as_deref().unwrap_or("an unknown process");
            report.fail(
                host.address,
                format!("port {} is already in use by {who}", listener.port),
                format!("stop {who}, or configure another port for it (`ss -ltnp sport = :{}` shows it)", listener.port),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};
    use super::*;
    use crate::host::facts::Listener;

    fn listener(port: u16) -> Listener {
        Listener { port, process: Some("nginx".into()), is_sealift: false }
    }

    #[test]
    fn ports_in_use_are_refused_unless_the_cluster_uses_them() {
        assert_findings("Port", |input| input.hosts[0].facts.listeners.push(listener(80)), &[]);
        let findings = assert_findings("Port", |input| input.hosts[0].facts.listeners.push(listener(6443)), &[Fail]);
        assert!(findings[0].message.contains("nginx"));
        let own = |input: &mut Input| {
            input.hosts[0].facts.listeners.push(listener(6443));
            input.hosts[0].facts.installed.changed = true;
        };
        assert_findings("Port", own, &[]);
    }

    #[test]
    fn masters_workers_and_registry_hosts_need_their_ports() {
        assert_eq!(required_ports(RuntimeKind::Kubernetes, false, None), [6443, 10248, 10249, 10250, 10256]);
        assert_eq!(required_ports(RuntimeKind::Kubernetes, true, Some(5000)).len(), 11);
        assert!(required_ports(RuntimeKind::None, true, None).is_empty());
    }
}
