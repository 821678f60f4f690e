//! No other container runtime or kubelet is installed.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check =
    Check { id: "ContainerRuntimeConflict", description: "no container runtime or kubelet that sealift did not install", run };

fn run(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    for host in &input.hosts {
        for runtime in &host.facts.conflicting_runtimes {
            let message = format!("{} {} ({})", runtime.name, if runtime.running { "runs" } else { "is installed" }, runtime.path);
            let remedy = format!("stop it and remove its package, for example `apt-get purge {}`", runtime.name);
            // a stopped runtime does not occupy sockets, but its unit may be started again
            if runtime.running {
                report.fail(host.address, message, remedy);
            } else {
                report.warn(host.address, message, remedy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};
    use crate::host::facts::ConflictingRuntime;

    fn docker(running: bool) -> ConflictingRuntime {
        ConflictingRuntime { name: "dockerd".into(), path: "/usr/bin/dockerd".into(), running }
    }

    #[test]
    fn a_running_runtime_is_refused_and_a_stopped_one_is_a_warning() {
        assert_findings("ContainerRuntimeConflict", |_| (), &[]);
        assert_findings("ContainerRuntimeConflict", |input| input.hosts[1].facts.conflicting_runtimes.push(docker(true)), &[Fail]);
        assert_findings("ContainerRuntimeConflict", |input| input.hosts[1].facts.conflicting_runtimes.push(docker(false)), &[Warn]);
    }
}
