//! The operating system is Linux with systemd. Capabilities decide, not the distribution's name.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "OS", about: "systemd is the init system; the distribution is one that was tried", judge };

/// Distributions that peers test or users asked for.
const TRIED: [&str; 14] = [
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

fn judge(input: &Input, report: &mut Report) {
    for host in &input.hosts {
        if !host.facts.systemd {
            report.fail(host.address, format!("systemd does not run on {}", host.facts.os_name), "sealift needs systemd for its services");
        } else if !TRIED.iter().any(|id| id.eq_ignore_ascii_case(&host.facts.os_id)) {
            let name = if host.facts.os_name.is_empty() { "unknown" } else { &host.facts.os_name };
            report.warn(host.address, format!("the distribution ({name}) was not tried yet"), "it will probably do; tell us how it went");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};

    #[test]
    fn systemd_is_needed_and_the_name_is_not() {
        finds("OS", |input| input.hosts[0].facts.os_id = "openeuler".into(), &[]);
        finds("OS", |input| input.hosts[0].facts.os_id = "gentoo".into(), &[Warn]);
        finds("OS", |input| input.hosts[0].facts.systemd = false, &[Fail]);
    }
}
