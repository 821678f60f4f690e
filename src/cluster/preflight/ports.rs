//! Ports that the cluster needs are free.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check = Check { id: "Port", about: "the TCP ports that the cluster needs are free", judge };

/// kube-apiserver, kube-scheduler, kube-controller-manager, etcd (clients, peers, metrics).
const MASTER: [u16; 6] = [6443, 10259, 10257, 2379, 2380, 2381];
/// kubelet (API, health), kube-proxy (metrics, health).
const NODE: [u16; 4] = [10250, 10248, 10249, 10256];

/// The ports that a host needs for its part in the cluster; `registry` is the registry's port where it runs one.
pub fn ports_needed(runtime: RuntimeKind, master: bool, registry: Option<u16>) -> Vec<u16> {
    let mut ports: Vec<u16> = registry.into_iter().collect();
    if runtime == RuntimeKind::Kubernetes {
        ports.extend(NODE);
        ports.extend(master.then_some(MASTER).into_iter().flatten());
        // on workers the balancer listens where the API server does on masters
        ports.extend((!master).then_some(MASTER[0]));
    }
    ports.sort_unstable();
    ports
}

fn judge(input: &Input, report: &mut Report) {
    for host in input.hosts.iter().filter(|host| !host.is_ours(&input.cluster)) {
        for listener in host.facts.listeners.iter().filter(|listener| host.ports.contains(&listener.port) && !listener.ours) {
            let who = listener.process.as_deref().unwrap_or("an unknown process");
            report.fail(
                host.address,
                format!("port {} is taken by {who}", listener.port),
                format!("stop {who}, or let it listen elsewhere (`ss -ltnp sport = :{}` shows it)", listener.port),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};
    use super::*;
    use crate::host::facts::Listener;

    fn listener(port: u16) -> Listener {
        Listener { port, process: Some("nginx".into()), ours: false }
    }

    #[test]
    fn taken_ports_are_refused_unless_by_ourselves() {
        finds("Port", |input| input.hosts[0].facts.listeners.push(listener(80)), &[]);
        let findings = finds("Port", |input| input.hosts[0].facts.listeners.push(listener(6443)), &[Fail]);
        assert!(findings[0].message.contains("nginx"));
        let own = |input: &mut Input| {
            input.hosts[0].facts.listeners.push(listener(6443));
            input.hosts[0].facts.installed.changed = true;
        };
        finds("Port", own, &[]);
    }

    #[test]
    fn each_part_needs_its_ports() {
        assert_eq!(ports_needed(RuntimeKind::Kubernetes, false, None), [6443, 10248, 10249, 10250, 10256]);
        assert_eq!(ports_needed(RuntimeKind::Kubernetes, true, Some(5000)).len(), 11);
        assert!(ports_needed(RuntimeKind::None, true, None).is_empty());
    }
}
