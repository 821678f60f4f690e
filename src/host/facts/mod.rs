//! Facts about a host, as Ansible has them: gathered by the agent in one call, without changing anything.
//!
//! Everything is read from `/proc`, `/etc` and system calls; no tool's output is parsed. What cannot be read is left empty, so that one
//! strange file does not hide the rest; the preflight checks decide.

mod filesystem;
mod network;
mod runtime;

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::resource::System;

pub use filesystem::Filesystem;
pub use network::{Listener, Route};
pub use runtime::{ConflictingRuntime, Installed, NodeIdentity};

/// What to gather besides the facts that every request gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactsRequest {
    /// Directories whose filesystems are reported; they need not exist yet.
    pub paths: Vec<String>,
    /// TCP ports whose listeners are reported.
    pub ports: Vec<u16>,
}

/// The facts about one host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The host name (`uname -n`).
    pub hostname: String,
    /// The architecture as `uname -m` names it.
    pub machine: String,
    /// The kernel's release, `6.1.0-30-amd64`.
    pub kernel: String,
    /// `ID` of `/etc/os-release`, `debian`.
    pub os_id: String,
    /// `VERSION_ID` of `/etc/os-release`.
    pub os_version: String,
    /// `PRETTY_NAME` of `/etc/os-release`.
    pub os_name: String,
    /// Whether systemd is the init system.
    pub systemd: bool,
    /// The user that the agent runs as; 0 is root.
    pub uid: u32,
    /// Number of processors that are online.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Devices and files in use as swap.
    pub swaps: Vec<String>,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// Controllers of cgroup v1 or v2 that are enabled.
    pub cgroup_controllers: Vec<String>,
    /// Whether the host uses cgroup v2 alone; else v1, or a mixture.
    pub cgroup_v2: bool,
    /// Types of filesystems that the kernel supports: `overlay`.
    pub kernel_filesystems: Vec<String>,
    /// The host's own addresses, without loopback.
    pub addresses: Vec<std::net::IpAddr>,
    /// Routes to networks, without the default route.
    pub routes: Vec<Route>,
    /// Whether there is a default route for IPv4.
    pub default_route_v4: bool,
    /// Whether there is a default route for IPv6.
    pub default_route_v6: bool,
    /// The filesystems of the requested paths.
    pub filesystems: Vec<Filesystem>,
    /// The listeners on the requested ports.
    pub listeners: Vec<Listener>,
    /// The clock: nanoseconds since 1970.
    pub clock_ns: u64,
    /// Container runtimes and kubelets that sealift did not install.
    #[serde(rename = "foreign")]
    pub conflicting_runtimes: Vec<ConflictingRuntime>,
    /// Files that an earlier cluster left.
    pub leftovers: Vec<String>,
    /// What sealift has installed on this host.
    pub installed: Installed,
}

/// Gathers the facts of this host.
///
/// # Errors
/// Fails only when the kernel does not answer at all.
pub fn gather(system: &System, request: &FactsRequest) -> Result<Facts> {
    let uname = rustix::system::uname();
    let text = |path: &str| std::fs::read_to_string(system.path(path)).unwrap_or_default();
    let release = text("/etc/os-release");
    Ok(Facts {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        os_id: os_field(&release, "ID"),
        os_version: os_field(&release, "VERSION_ID"),
        os_name: os_field(&release, "PRETTY_NAME"),
        systemd: system.path("/run/systemd/system").is_dir(),
        uid: rustix::process::geteuid().as_raw(),
        cpus: std::thread::available_parallelism().map_or(0, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory: memory(&text("/proc/meminfo")),
        swaps: swaps(&text("/proc/swaps")),
        machine_id: text("/etc/machine-id").trim().to_owned(),
        cgroup_controllers: cgroup_controllers(&text("/proc/cgroups"), &text("/sys/fs/cgroup/cgroup.controllers")),
        cgroup_v2: system.path("/sys/fs/cgroup/cgroup.controllers").exists(),
        kernel_filesystems: text("/proc/filesystems")
            .lines()
            .filter_map(|line| line.split_whitespace().last().map(str::to_owned))
            .collect(),
        addresses: network::addresses(&text("/proc/net/fib_trie"), &text("/proc/net/if_inet6")),
        routes: network::routes(&text("/proc/net/route"), &text("/proc/net/ipv6_route")),
        default_route_v4: network::has_default_route(&text("/proc/net/route"), ""),
        default_route_v6: network::has_default_route("", &text("/proc/net/ipv6_route")),
        filesystems: request.paths.iter().filter_map(|path| filesystem::of(system, path)).collect(),
        listeners: network::listeners(system, &request.ports),
        clock_ns: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        conflicting_runtimes: runtime::conflicting_runtimes(system),
        leftovers: runtime::leftovers(system),
        installed: runtime::installed(system),
    })
}

/// A field of `os-release(5)`, without quotes.
fn os_field(text: &str, key: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn memory(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

fn swaps(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

/// The enabled controllers of cgroup v1 and v2. Version 2 lists its controllers in one line; `/proc/cgroups` has those of version 1: name, hierarchy, count, enabled.
fn cgroup_controllers(v1: &str, v2: &str) -> Vec<String> {
    let enabled = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.len() == 4 && fields[3] == "1").then(|| fields[0].to_owned())
    };
    let names: BTreeSet<String> = v1.lines().filter_map(enabled).chain(v2.split_whitespace().map(str::to_owned)).collect();
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_parsed() {
        let release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n";
        assert_eq!(
            (os_field(release, "ID"), os_field(release, "VERSION_ID"), os_field(release, "NONE")),
            ("debian".into(), "12".into(), String::new())
        );
        assert_eq!(memory("MemTotal:        2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        assert_eq!(swaps("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n"), ["/dev/sda2"]);
        assert_eq!(
            cgroup_controllers("#subsys_name hierarchy num_cgroups enabled\ncpu 2 1 1\nrdma 0 1 0\n", "cpu memory\n"),
            ["cpu", "memory"]
        );
    }

    #[test]
    fn this_machine_has_facts() {
        let request = FactsRequest { paths: vec!["/var/lib/not-there/yet".into()], ports: vec![] };
        let facts = gather(&System::new("/"), &request).unwrap();
        assert!(facts.cpus > 0 && facts.memory > 0 && facts.clock_ns > 0 && !facts.machine.is_empty(), "{facts:?}");
        assert!(facts.filesystems[0].total >= facts.filesystems[0].free && facts.filesystems[0].total > 0, "{facts:?}");
    }

    #[test]
    fn an_empty_host_gives_empty_facts_and_no_error() {
        let root = tempfile::tempdir().unwrap();
        let facts = gather(&System::new(root.path()), &FactsRequest::default()).unwrap();
        assert!(facts.addresses.is_empty() && facts.conflicting_runtimes.is_empty() && !facts.systemd && facts.memory == 0);
    }

    #[test]
    fn cgroup_v2_is_the_one_that_is_mounted_where_kubelets_look() {
        for (controllers, expected) in [
            ("sys/fs/cgroup/cgroup.controllers", true),
            ("sys/fs/cgroup/unified/cgroup.controllers", false), // a mixture, in which v1 has the controllers
            ("sys/fs/cgroup/memory/cgroup.procs", false),
        ] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(controllers);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
            assert_eq!(gather(&System::new(root.path()), &FactsRequest::default()).unwrap().cgroup_v2, expected, "{controllers}");
        }
    }
}
