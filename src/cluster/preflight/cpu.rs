//! Each master has enough CPUs.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check = Check { id: "NumCPU", description: "a control plane has at least 2 CPUs (kubeadm)", run };

/// kubeadm's minimum for the control plane.
const MINIMUM: u32 = 2;

fn run(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    for host in input.hosts.iter().filter(|host| host.master && host.facts.cpus < MINIMUM) {
        report.fail(
            host.address,
            format!("{} CPU; a control plane needs {MINIMUM}", host.facts.cpus),
            "give the machine more CPUs, or make another host a master",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn masters_need_two_and_workers_one() {
        assert_findings("NumCPU", |input| input.hosts[0].facts.cpus = 2, &[]);
        assert_findings("NumCPU", |input| input.hosts[0].facts.cpus = 1, &[Fail]);
        assert_findings("NumCPU", |input| input.hosts[1].facts.cpus = 1, &[]);
    }
}
