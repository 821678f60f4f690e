//! Each host has enough memory.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check =
    Check { id: "Mem", description: "a master has at least 1700 MB of memory (kubeadm), a worker 1000 MB", run };

/// kubeadm's minimum for the control plane, in bytes.
const MASTER: u64 = 1700 << 20;
/// The minimum for a kubelet, a container runtime and a few pods, in bytes.
const WORKER: u64 = 1000 << 20;

fn run(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    for host in &input.hosts {
        let (minimum, what) = if host.master { (MASTER, "control plane") } else { (WORKER, "worker") };
        if host.facts.memory < minimum {
            report.fail(
                host.address,
                format!("{} MB of memory; a {what} needs {} MB", host.facts.memory >> 20, minimum >> 20),
                "give the machine more memory",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn masters_need_more_than_workers() {
        assert_findings("Mem", |input| input.hosts[0].facts.memory = 1700 << 20, &[]);
        assert_findings("Mem", |input| input.hosts[0].facts.memory = 1699 << 20, &[Fail]);
        assert_findings("Mem", |input| input.hosts[1].facts.memory = 1000 << 20, &[]);
        assert_findings("Mem", |input| input.hosts[1].facts.memory = 999 << 20, &[Fail]);
    }
}
