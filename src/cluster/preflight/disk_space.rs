//! Each filesystem has disk space for what the run writes to it.

use std::collections::BTreeMap;

use super::{Check, HostInput, Input, Report};
use crate::host::facts::Filesystem;

pub(super) static CHECK: Check =
    Check { id: "DiskSpace", description: "each filesystem has disk space for what the run writes to it", run };

/// 20 % more than the bytes themselves, for block sizes, logs and the first data of pods.
fn with_margin(bytes: u64) -> u64 {
    bytes + bytes / 5
}

fn run(input: &Input, report: &mut Report) {
    for host in &input.hosts {
        for (filesystem, required) in required_by_device(host) {
            check_filesystem(host, filesystem, required, report);
        }
    }
}

/// The bytes required on each filesystem: requirements of directories on the same one add up.
fn required_by_device(host: &HostInput) -> Vec<(&Filesystem, u64)> {
    let mut by_device: BTreeMap<u64, (&Filesystem, u64)> = BTreeMap::new();
    for required in &host.disk_requirements {
        if let Some(filesystem) = host.facts.filesystems.iter().find(|filesystem| filesystem.path == required.path) {
            by_device.entry(filesystem.device).or_insert((filesystem, 0)).1 += required.bytes;
        }
    }
    by_device.into_values().collect()
}

fn check_filesystem(host: &HostInput, filesystem: &Filesystem, required: u64, report: &mut Report) {
    let path = &filesystem.path;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    if filesystem.read_only {
        report.fail(host.address, format!("the filesystem of {path} is read-only"), "mount it read-write");
    } else if filesystem.free < with_margin(required) {
        report.fail(
            host.address,
            format!("{} MiB free below {path}, {} MiB needed", filesystem.free >> 20, mib(with_margin(required))),
            "free disk space or enlarge the filesystem",
        );
    } else if filesystem.inodes > 0 && filesystem.free_inodes * 10 < filesystem.inodes {
        report.warn(host.address, format!("less than 10 % of the inodes below {path} are free"), "remove small files that are not needed");
    }
    if filesystem.noexec && required > 0 {
        report.fail(host.address, format!("the filesystem of {path} is mounted noexec, but contains programs"), "mount it without noexec");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DiskRequirement, Severity::*, fixture::assert_findings};

    #[test]
    fn the_bytes_of_the_image_and_20_percent_more_must_fit() {
        let free = |bytes: u64| move |input: &mut super::Input| input.hosts[0].facts.filesystems[0].free = bytes;
        assert_findings("DiskSpace", free(super::with_margin(1 << 30)), &[]);
        let findings = assert_findings("DiskSpace", free(super::with_margin(1 << 30) - 1), &[Fail]);
        assert!(findings[0].message.contains("1229 MiB needed"), "{findings:?}");
    }

    #[test]
    fn directories_on_one_filesystem_share_its_disk_space() {
        let change = |same: bool| {
            move |input: &mut super::Input| {
                let host = &mut input.hosts[0];
                let mut other = host.facts.filesystems[0].clone();
                other.path = "/var/lib/containerd".into();
                other.device = if same { 1 } else { 2 };
                host.facts.filesystems.push(other);
                host.disk_requirements.push(DiskRequirement { path: "/var/lib/containerd".into(), bytes: 1 << 30 });
                host.facts.filesystems.iter_mut().for_each(|filesystem| filesystem.free = 2 << 30);
            }
        };
        assert_findings("DiskSpace", change(true), &[Fail]);
        assert_findings("DiskSpace", change(false), &[]);
    }

    #[test]
    fn filesystems_must_allow_writing_and_executing() {
        assert_findings("DiskSpace", |input| input.hosts[0].facts.filesystems[0].noexec = true, &[Fail]);
        assert_findings("DiskSpace", |input| input.hosts[0].facts.filesystems[0].read_only = true, &[Fail]);
        assert_findings("DiskSpace", |input| input.hosts[0].facts.filesystems[0].free_inodes = 99, &[Warn]);
    }
}
