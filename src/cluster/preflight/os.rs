//! The operating system is Linux with systemd. An untested distribution is only a warning.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "OS", description: "systemd is the init system; the distribution is a known one", run };

/// Distributions that comparable tools test or users asked for, as `ID` in /etc/os-release.
const KNOWN: [&str; 14] = [
    "debian",
    "ubuntu",
    "rhel",
    "centos",
    "rocky",
    "almalinux",
    "anolis",
    "alinux",
    "openEuler",
    "kylin",
    "uos",
    "fedora",
    "sles",
    "opensuse-leap",
];

fn run(input: &Input, report: &mut Report) {
    for host in &input.hosts {
        if !host.facts.systemd {
            report.fail(
                host.address,
                format!("systemd is not the init system of {}", host.facts.os_name),
                "use a distribution with systemd: sealift runs its services by it",
            );
        } else if !KNOWN.iter().any(|id| id.eq_ignore_ascii_case(&host.facts.os_id)) {
            let name = if host.facts.os_name.is_empty() { "unknown" } else { &host.facts.os_name };
            report.warn(host.address, format!("unknown distribution: {name}"), "it will probably work: try it on a test host first");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn systemd_is_needed_and_the_name_is_not() {
        assert_findings("OS", |input| input.hosts[0].facts.os_id = "openeuler".into(), &[]);
        assert_findings("OS", |input| input.hosts[0].facts.os_id = "gentoo".into(), &[Warn]);
        assert_findings("OS", |input| input.hosts[0].facts.systemd = false, &[Fail]);
    }
}
