//! Preflight checks: before anything is changed all hosts are checked, and all findings are reported at once.
//!
//! Each check is one file with a pure function from facts to findings, registered in [`CHECKS`]. Its identifier is kubeadm's if kubeadm
//! has such a check.

mod address;
mod arch;
mod cgroups;
mod clock;
mod conflicting_runtime;
mod cpu;
mod default_route;
mod disk_space;
mod hostname;
mod kernel;
mod leftovers;
mod machine_id;
mod memory;
mod networks;
mod os;
mod ports;
mod privileges;
mod swap;
mod undo_ledger;

use std::net::IpAddr;

use ipnet::IpNet;
use oci_spec::image::Platform;
use serde::Serialize;

use super::runtime::kubeadm::Release;
use crate::error::{Failure, Kind};
use crate::host::facts::{Facts, FactsRequest};
use crate::image::RuntimeKind;

pub use ports::required_ports;

/// The input of the checks: the facts about all hosts, and what the cluster requires of them.
#[derive(Debug, Clone)]
pub struct Input {
    /// The name of the cluster.
    pub cluster: String,
    /// The kind of cluster. Most checks are for Kubernetes alone.
    pub runtime: RuntimeKind,
    /// The release of Kubernetes in the image; `None` if the image does not name it, or has none.
    pub release: Option<Release>,
    /// The platforms that the image is built for.
    pub platforms: Vec<Platform>,
    /// The pod and service networks.
    pub networks: Vec<IpNet>,
    /// Those of services alone.
    pub services: Vec<IpNet>,
    /// Whether kube-proxy gives the addresses of services to a link, as in its mode `ipvs`.
    pub services_have_link: bool,
    /// The hosts, in the order of the Clusterfile.
    pub hosts: Vec<HostInput>,
}

/// The input about one host.
#[derive(Debug, Clone)]
pub struct HostInput {
    /// Its address in the Clusterfile.
    pub address: IpAddr,
    /// Whether it will run the control plane.
    pub master: bool,
    /// The TCP ports that must be free.
    pub ports: Vec<u16>,
    /// The disk space that the run needs.
    pub disk_requirements: Vec<DiskRequirement>,
    /// Its clock minus ours, in nanoseconds, corrected by half the round trip; `None` if it was not measured.
    pub clock_offset: Option<i64>,
    /// The facts that the agent gathered.
    pub facts: Facts,
}

/// Disk space that a run needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRequirement {
    /// The directory that is written to.
    pub path: String,
    /// How many bytes are written below it.
    pub bytes: u64,
}

impl HostInput {
    /// Whether the host is a member of this cluster already: then its ports, routes and files are the cluster's own.
    fn belongs_to(&self, cluster: &str) -> bool {
        self.facts.installed.changed && self.facts.installed.clusters.iter().all(|name| name == cluster)
    }
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The run is refused until it is fixed or ignored.
    Fail,
    /// The run continues.
    Warn,
}

/// A finding of a check: one problem, of one host or of the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The identifier of the check, for `--ignore`.
    pub check: &'static str,
    /// The address of the host; `None` for the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// Whether it stops the run.
    pub severity: Severity,
    /// The problem.
    pub message: String,
    /// How to fix it.
    pub remedy: String,
    /// Whether `--ignore` names its check.
    pub ignored: bool,
}

/// A preflight check.
#[derive(Debug)]
pub struct Check {
    /// Its identifier, for `--ignore`.
    pub id: &'static str,
    /// What it checks, in one phrase.
    pub description: &'static str,
    run: fn(&Input, &mut Report),
}

/// All checks, by file name.
pub static CHECKS: [&Check; 19] = [
    &address::CHECK,
    &arch::CHECK,
    &cgroups::CHECK,
    &clock::CHECK,
    &conflicting_runtime::CHECK,
    &cpu::CHECK,
    &default_route::CHECK,
    &disk_space::CHECK,
    &hostname::CHECK,
    &kernel::CHECK,
    &leftovers::CHECK,
    &machine_id::CHECK,
    &memory::CHECK,
    &networks::CHECK,
    &os::CHECK,
    &ports::CHECK,
    &privileges::CHECK,
    &swap::CHECK,
    &undo_ledger::CHECK,
];

/// Collects the findings of the checks.
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

/// Runs all checks. Findings come worst first, then by check and host; those of checks in `ignore` (any case) are marked ignored.
pub fn run_checks(input: &Input, ignore: &[String]) -> Vec<Finding> {
    let mut report = Report::default();
    for check in CHECKS {
        report.check = check.id;
        (check.run)(input, &mut report);
    }
    let mut findings = report.findings;
    for finding in &mut findings {
        finding.ignored = ignore.iter().any(|id| current_id(id).eq_ignore_ascii_case(finding.check));
    }
    findings.sort_by_key(|finding| (finding.ignored, finding.severity, finding.check, finding.host));
    findings
}

/// Fails with [`Kind::Preflight`] if a finding of severity `Fail` is not ignored; the message lists all of these, one a line.
pub fn require_passed(findings: &[Finding]) -> Result<(), Failure> {
    let failed: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == Severity::Fail && !finding.ignored).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let mut checks: Vec<&str> = failed.iter().map(|finding| finding.check).collect();
    checks.sort_unstable();
    checks.dedup();
    let lines: Vec<String> = failed.iter().map(|finding| format!("\n  {finding}")).collect();
    let count = if failed.len() == 1 { "1 check".to_owned() } else { format!("{} checks", failed.len()) };
    Err(Failure::new(Kind::Preflight, format!("{count} failed, nothing was changed:{}", lines.concat()))
        .hint(format!("fix them, or continue at your own risk with `--ignore {}`", checks.join(","))))
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

/// The identifier of a check, for one that the user typed: `DiskSpace` was called `Room` in earlier versions.
fn current_id(id: &str) -> &str {
    if id.eq_ignore_ascii_case("Room") { disk_space::CHECK.id } else { id }
}

/// Checks the identifiers of `--ignore`.
///
/// # Errors
/// `Usage` if no check has one of them.
pub fn check_ids(ignore: &[String]) -> Result<(), Failure> {
    match ignore.iter().find(|id| !CHECKS.iter().any(|check| check.id.eq_ignore_ascii_case(current_id(id)))) {
        None => Ok(()),
        Some(id) => {
            let ids: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
            Err(Failure::usage(format!("--ignore: no such check: {id}")).hint(format!("checks: {}", ids.join(", "))))
        }
    }
}

/// The facts to request from a host for the checks.
pub fn facts_request(ports: &[u16], directories: Vec<String>) -> FactsRequest {
    FactsRequest { ports: ports.to_vec(), paths: directories }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! Hosts without findings, for tests to change.

    use super::*;
    use crate::host::facts::Filesystem;
    use crate::image::parse_platform;

    /// A cluster of one master and one worker, without findings.
    pub fn healthy_input() -> Input {
        Input {
            cluster: "shop".into(),
            runtime: RuntimeKind::Kubernetes,
            release: Release::parse("v1.20.2").ok(),
            platforms: vec![parse_platform("linux/amd64").unwrap()],
            networks: vec!["10.244.0.0/16".parse().unwrap(), "10.96.0.0/22".parse().unwrap()],
            services: vec!["10.96.0.0/22".parse().unwrap()],
            services_have_link: false,
            hosts: vec![host(11, true), host(12, false)],
        }
    }

    fn host(last: u8, master: bool) -> HostInput {
        let address = IpAddr::from([192, 168, 7, last]);
        let filesystem = Filesystem {
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
            disk_requirements: vec![DiskRequirement { path: "/var/lib/sealift".into(), bytes: 1 << 30 }],
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
                cgroup_v2: true,
                kernel_filesystems: vec!["overlay".into()],
                addresses: vec![address],
                default_route_v4: true,
                filesystems: vec![filesystem],
                ..Default::default()
            },
        }
    }

    /// Asserts what the check `id` finds after `spoil`: the severities of its findings, in order.
    #[track_caller]
    pub fn assert_findings(id: &str, change: impl FnOnce(&mut Input), expected: &[Severity]) -> Vec<Finding> {
        let mut input = healthy_input();
        change(&mut input);
        let (own, others): (Vec<_>, Vec<_>) = run_checks(&input, &[]).into_iter().partition(|finding| finding.check == id);
        let severities: Vec<Severity> = own.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, expected, "{own:?} (others: {others:?})");
        own
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::healthy_input;
    use super::*;

    #[test]
    fn healthy_hosts_have_no_findings() {
        assert_eq!(run_checks(&healthy_input(), &[]), []);
    }

    #[test]
    fn all_findings_of_all_hosts_come_at_once_worst_first() {
        let mut input = healthy_input();
        input.hosts[0].facts.swaps = vec!["/dev/sda2".into()];
        input.hosts[0].facts.uid = 1000;
        input.hosts[1].facts.machine = "aarch64".into();
        let findings = run_checks(&input, &[]);
        let severities: Vec<Severity> = findings.iter().map(|finding| finding.severity).collect();
        assert!(severities.is_sorted() && findings.len() >= 3, "{findings:?}");
        let failure = require_passed(&findings).unwrap_err();
        assert_eq!(failure.kind, Kind::Preflight);
        assert!(failure.message.contains("192.168.7.11") && failure.message.contains("192.168.7.12"), "{failure}");
    }

    #[test]
    fn ignored_checks_do_not_stop_a_run_and_unknown_ones_are_refused() {
        let mut input = healthy_input();
        input.hosts[0].facts.cpus = 1;
        assert!(require_passed(&run_checks(&input, &[])).is_err());
        assert!(require_passed(&run_checks(&input, &["numcpu".into()])).is_ok());
        assert!(check_ids(&["numcpu".into()]).is_ok() && check_ids(&["NumCPUs".into()]).is_err());
        input.hosts[0].facts.cpus = 8;
        input.hosts[0].facts.filesystems[0].free = 0;
        for id in ["DiskSpace", "Room", "room"] {
            assert!(check_ids(&[id.into()]).is_ok() && require_passed(&run_checks(&input, &[id.into()])).is_ok(), "{id}");
        }
    }

    #[test]
    fn identifiers_are_unique_and_sorted_by_file() {
        let mut ids: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), CHECKS.len());
    }
}
