//! No other container runtime or kubelet is in the way.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check =
    Check { id: "ContainerRuntimeConflict", about: "no container runtime or kubelet that sealift did not bring", judge };

fn judge(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    for host in &input.hosts {
        for foreign in &host.facts.foreign {
            let message = format!("{} {} ({})", foreign.name, if foreign.running { "runs" } else { "is installed" }, foreign.path);
            let remedy = format!("stop it and remove its package, for example `apt-get purge {}`", foreign.name);
            // a stopped runtime of the distribution does not fight over sockets, but its unit may be started again
            if foreign.running {
                report.fail(host.address, message, remedy);
            } else {
                report.warn(host.address, message, remedy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};
    use crate::host::facts::Foreign;

    fn docker(running: bool) -> Foreign {
        Foreign { name: "dockerd".into(), path: "/usr/bin/dockerd".into(), running }
    }

    #[test]
    fn a_running_runtime_is_refused_and_a_stopped_one_told() {
        finds("ContainerRuntimeConflict", |_| (), &[]);
        finds("ContainerRuntimeConflict", |input| input.hosts[1].facts.foreign.push(docker(true)), &[Fail]);
        finds("ContainerRuntimeConflict", |input| input.hosts[1].facts.foreign.push(docker(false)), &[Warn]);
    }
}
