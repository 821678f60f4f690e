//! Hosts first: before anything is changed every host is checked, and all findings of all hosts are reported at once.
//!
//! The checks are a registry: each is one file with a pure `judge` from facts to findings. Identifiers follow kubeadm's where it has one.

mod address;
mod arch;
mod cgroups;
mod clock;
mod cpu;
mod foreign_runtime;
mod hostname;
mod kernel;
mod leftovers;
mod machine_id;
mod memory;
mod networks;
mod os;
mod ports;
mod privileges;
mod room;
mod swap;

use std::net::IpAddr;

use ipnet::IpNet;
use oci_spec::image::Platform;
use serde::Serialize;

use crate::error::{Failure, Kind};
use crate::host::facts::{Facts, FactsRequest};
use crate::image::RuntimeKind;

pub use ports::ports_needed;

/// Everything the checks judge.
#[derive(Debug, Clone)]
pub struct Input {
    /// The cluster's name.
    pub cluster: String,
    /// What kind of cluster it becomes.
    pub runtime: RuntimeKind,
    /// The image's platforms.
    pub platforms: Vec<Platform>,
    /// The networks of pods and services.
    pub networks: Vec<IpNet>,
    /// The hosts.
    pub hosts: Vec<HostInput>,
}

/// One host among them.
#[derive(Debug, Clone)]
pub struct HostInput {
    /// Its address in the Clusterfile.
    pub address: IpAddr,
    /// Whether it is to run the control plane.
    pub master: bool,
    /// TCP ports that it must have free.
    pub ports: Vec<u16>,
    /// Bytes that will be written below these directories.
    pub needs: Vec<Need>,
    /// Its clock minus ours, in nanoseconds, half the round trip taken into account; `None` if it was not measured.
    pub clock_offset: Option<i64>,
    /// How it is.
    pub facts: Facts,
}

/// Room that a run needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Below this directory.
    pub path: String,
    /// This many bytes.
    pub bytes: u64,
}

impl HostInput {
    /// Whether sealift has changed this host for this cluster already: what is there is then its own.
    fn is_ours(&self, cluster: &str) -> bool {
        self.facts.installed.changed && self.facts.installed.clusters.iter().all(|name| name == cluster)
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is changed while it stands.
    Fail,
    /// The run goes on.
    Warn,
}

/// What a check found wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check, as `--ignore` names it.
    pub check: &'static str,
    /// The host; `None` concerns the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether the user said to ignore it.
    pub ignored: bool,
}

/// A check.
#[derive(Debug)]
pub struct Check {
    /// Its identifier.
    pub id: &'static str,
    /// What it makes sure of.
    pub about: &'static str,
    judge: fn(&Input, &mut Report),
}

/// All checks.
pub static CHECKS: [&Check; 17] = [
    &address::CHECK,
    &arch::CHECK,
    &cgroups::CHECK,
    &clock::CHECK,
    &cpu::CHECK,
    &foreign_runtime::CHECK,
    &hostname::CHECK,
    &kernel::CHECK,
    &leftovers::CHECK,
    &machine_id::CHECK,
    &memory::CHECK,
    &networks::CHECK,
    &os::CHECK,
    &ports::CHECK,
    &privileges::CHECK,
    &room::CHECK,
    &swap::CHECK,
];

/// Findings, as checks add them.
#[derive(Debug, Default)]
pub struct Report {
    check: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    fn fail(&mut self, host: impl Into<Option<IpAddr>>, message: String, remedy: impl Into<String>) {
        self.add(host.into(), Severity::Fail, message, remedy.into());
    }

    fn warn(&mut self, host: impl Into<Option<IpAddr>>, message: String, remedy: impl Into<String>) {
        self.add(host.into(), Severity::Warn, message, remedy.into());
    }

    fn add(&mut self, host: Option<IpAddr>, severity: Severity, message: String, remedy: String) {
        self.findings.push(Finding { check: self.check, host, severity, message, remedy, ignored: false });
    }
}

/// Runs all checks: findings worst first, then by check and host. Checks named in `ignore` (any case) are marked ignored.
pub fn judge(input: &Input, ignore: &[String]) -> Vec<Finding> {
    let mut report = Report::default();
    for check in CHECKS {
        report.check = check.id;
        (check.judge)(input, &mut report);
    }
    let mut findings = report.findings;
    for finding in &mut findings {
        finding.ignored = ignore.iter().any(|id| id.eq_ignore_ascii_case(finding.check));
    }
    findings.sort_by_key(|finding| (finding.ignored, finding.severity, finding.check, finding.host));
    findings
}

/// Fails with [`Kind::Preflight`] if a finding stands in the way; the message has all of them, one a line.
pub fn refuse(findings: &[Finding]) -> Result<(), Failure> {
    let standing: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Fail && !finding.ignored).collect();
    let Some(first) = standing.first() else {
        return Ok(());
    };
    let lines: Vec<String> = standing.iter().map(|finding| format!("\n  {finding}")).collect();
    let count = if standing.len() == 1 { "1 check".to_owned() } else { format!("{} checks", standing.len()) };
    Err(Failure::new(Kind::Preflight, format!("{count} failed, nothing was changed:{}", lines.concat()))
        .hint(format!("mend them, or go on at your own risk with `--ignore {}`", first.check)))
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.check)?;
        if let Some(host) = self.host {
            write!(f, "{host}: ")?;
        }
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

/// Refuses identifiers in `--ignore` that no check has.
pub fn known(ignore: &[String]) -> Result<(), Failure> {
    match ignore.iter().find(|id| !CHECKS.iter().any(|check| check.id.eq_ignore_ascii_case(id))) {
        None => Ok(()),
        Some(id) => {
            let ids: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
            Err(Failure::usage(format!("no check `{id}`")).hint(format!("checks are {}", ids.join(", "))))
        }
    }
}

/// What to ask a host for so that it can be judged.
pub fn facts_request(ports: &[u16], needs: &[Need]) -> FactsRequest {
    FactsRequest { ports: ports.to_vec(), paths: needs.iter().map(|need| need.path.clone()).collect() }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! Hosts that are fit, to be spoiled by tests.

    use super::*;
    use crate::host::facts::Filesystem;
    use crate::image::parse_platform;

    /// A cluster of one master and one worker, both fit.
    pub fn fit() -> Input {
        Input {
            cluster: "shop".into(),
            runtime: RuntimeKind::Kubernetes,
            platforms: vec![parse_platform("linux/amd64").unwrap()],
            networks: vec!["10.244.0.0/16".parse().unwrap(), "10.96.0.0/22".parse().unwrap()],
            hosts: vec![host(11, true), host(12, false)],
        }
    }

    fn host(last: u8, master: bool) -> HostInput {
        let address = IpAddr::from([192, 168, 7, last]);
        let room = Filesystem {
            path: "/var/lib/sealift".into(),
            device: 1,
            total: 200 << 30,
            free: 150 << 30,
            inodes: 1000,
            free_inodes: 900,
            ..Default::default()
        };
        HostInput {
            address,
            master,
            ports: vec![6443, 10250],
            needs: vec![Need { path: "/var/lib/sealift".into(), bytes: 1 << 30 }],
            clock_offset: Some(0),
            facts: Facts {
                hostname: format!("h{last}"),
                machine: "x86_64".into(),
                kernel: "6.1.0-30-amd64".into(),
                os_id: "debian".into(),
                os_version: "12".into(),
                os_name: "Debian GNU/Linux 12".into(),
                systemd: true,
                cpus: 8,
                memory: 16 << 30,
                machine_id: format!("{last:032x}"),
                cgroup_controllers: ["cpu", "cpuset", "memory", "pids"].map(str::to_owned).to_vec(),
                kernel_filesystems: vec!["overlay".into()],
                addresses: vec![address],
                default_route: true,
                filesystems: vec![room],
                ..Default::default()
            },
        }
    }

    /// Asserts what the check `id` finds after `spoil`: the severities of its findings, in order.
    #[track_caller]
    pub fn finds(id: &str, spoil: impl FnOnce(&mut Input), expected: &[Severity]) -> Vec<Finding> {
        let mut input = fit();
        spoil(&mut input);
        let (own, others): (Vec<_>, Vec<_>) = judge(&input, &[]).into_iter().partition(|finding| finding.check == id);
        let severities: Vec<Severity> = own.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, expected, "{own:?} (others: {others:?})");
        own
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::fit;
    use super::*;

    #[test]
    fn fit_hosts_have_no_findings() {
        assert_eq!(judge(&fit(), &[]), []);
    }

    #[test]
    fn all_findings_of_all_hosts_come_at_once_worst_first() {
        let mut input = fit();
        input.hosts[0].facts.swaps = vec!["/dev/sda2".into()];
        input.hosts[0].facts.uid = 1000;
        input.hosts[1].facts.machine = "aarch64".into();
        let findings = judge(&input, &[]);
        let severities: Vec<Severity> = findings.iter().map(|finding| finding.severity).collect();
        assert!(severities.is_sorted() && findings.len() >= 3, "{findings:?}");
        let failure = refuse(&findings).unwrap_err();
        assert_eq!(failure.kind, Kind::Preflight);
        assert!(failure.message.contains("192.168.7.11") && failure.message.contains("192.168.7.12"), "{failure}");
    }

    #[test]
    fn ignored_checks_do_not_stand_in_the_way_and_unknown_ones_are_refused() {
        let mut input = fit();
        input.hosts[0].facts.cpus = 1;
        assert!(refuse(&judge(&input, &[])).is_err());
        assert!(refuse(&judge(&input, &["numcpu".into()])).is_ok());
        assert!(known(&["numcpu".into()]).is_ok() && known(&["NumCPUs".into()]).is_err());
    }

    #[test]
    fn identifiers_are_unique_and_sorted_by_file() {
        let mut ids: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), CHECKS.len());
    }
}
