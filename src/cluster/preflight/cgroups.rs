//! The kernel supports containers: cgroup controllers and overlayfs.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check =
    Check { id: "SystemVerification", description: "the kernel has overlay and the cgroup controllers that containers need", run };

/// The cgroup controllers that kubeadm's system validators require.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

fn run(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    for host in &input.hosts {
        let missing: Vec<&str> =
            CONTROLLERS.into_iter().filter(|name| !host.facts.cgroup_controllers.iter().any(|have| have == name)).collect();
        if !missing.is_empty() {
            report.fail(
                host.address,
                format!("cgroup controllers are missing: {}", missing.join(", ")),
                "enable them on the kernel's command line, for example `cgroup_enable=memory`",
            );
        }
        if !host.facts.kernel_filesystems.iter().any(|name| name == "overlay") {
            report.warn(
                host.address,
                "the overlay filesystem is not loaded in the kernel".to_owned(),
                "sealift loads the module `overlay`; if the kernel lacks it, install the package with its extra modules",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};
    use crate::image::RuntimeKind;

    #[test]
    fn containers_need_controllers_and_overlay() {
        assert_findings("SystemVerification", |_| (), &[]);
        assert_findings("SystemVerification", |input| input.hosts[0].facts.kernel_filesystems.clear(), &[Warn]);
        let findings =
            assert_findings("SystemVerification", |input| input.hosts[0].facts.cgroup_controllers.retain(|name| name != "memory"), &[Fail]);
        assert!(findings[0].message.contains("memory"));
    }

    #[test]
    fn clusters_without_containers_do_not() {
        let change = |input: &mut super::Input| {
            input.runtime = RuntimeKind::None;
            input.hosts[0].facts.cgroup_controllers.clear();
        };
        assert_findings("SystemVerification", change, &[]);
    }
}
