//! The kernel supports containers: cgroup controllers and overlayfs; from Kubernetes 1.35 on, cgroup v2.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check =
    Check { id: "SystemVerification", description: "the kernel has overlay and the cgroups that containers need", run };

/// The cgroup controllers that kubeadm's system validators require.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

fn run(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    // kubelets of 1.35 and later end at once on cgroup v1 (`failCgroupV1`), and kubeadm refuses it beforehand
    let needs_cgroup_v2 = input.release.is_some_and(|release| release.is_at_least(35));
    for host in &input.hosts {
        if needs_cgroup_v2 && !host.facts.cgroup_v2 {
            report.fail(
                host.address,
                "it uses cgroup v1, on which kubelets since Kubernetes 1.35 do not start".to_owned(),
                "boot it with `systemd.unified_cgroup_hierarchy=1` on the kernel's command line, or use an image with an earlier Kubernetes",
            );
        }
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
    use crate::cluster::runtime::kubeadm::Release;
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
    fn kubernetes_since_1_35_needs_cgroup_v2() {
        for (version, v2, expected) in
            [("v1.34.9", false, &[][..]), ("v1.35.0", false, &[Fail]), ("v1.35.0", true, &[]), ("v1.37.1", false, &[Fail])]
        {
            let change = |input: &mut super::Input| {
                input.release = Some(Release::parse(version).unwrap());
                input.hosts[0].facts.cgroup_v2 = v2;
            };
            let findings = assert_findings("SystemVerification", change, expected);
            assert!(findings.iter().all(|finding| finding.remedy.contains("unified_cgroup_hierarchy")), "{version}: {findings:?}");
        }
    }

    #[test]
    fn clusters_without_containers_do_not() {
        let change = |input: &mut super::Input| {
            input.runtime = RuntimeKind::None;
            input.hosts[0].facts.cgroup_controllers.clear();
            input.hosts[0].facts.cgroup_v2 = false;
        };
        assert_findings("SystemVerification", change, &[]);
    }
}
