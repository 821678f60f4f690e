//! There is room for this image's bytes on each filesystem.

use std::collections::BTreeMap;

use super::{Check, HostInput, Input, Report};
use crate::host::facts::Filesystem;

pub(super) static CHECK: Check = Check { id: "Room", about: "each filesystem has room for what will be written to it", judge };

/// A fifth more than the bytes themselves, for blocks, logs and what pods write first.
fn with_margin(bytes: u64) -> u64 {
    bytes + bytes / 5
}

fn judge(input: &Input, report: &mut Report) {
    for host in &input.hosts {
        for (filesystem, need) in needs_by_device(host) {
            judge_filesystem(host, filesystem, need, report);
        }
    }
}

/// What is needed on each filesystem: needs of directories on the same one add up.
fn needs_by_device(host: &HostInput) -> Vec<(&Filesystem, u64)> {
    let mut by_device: BTreeMap<u64, (&Filesystem, u64)> = BTreeMap::new();
    for need in &host.needs {
        if let Some(filesystem) = host.facts.filesystems.iter().find(|filesystem| filesystem.path == need.path) {
            by_device.entry(filesystem.device).or_insert((filesystem, 0)).1 += need.bytes;
        }
    }
    by_device.into_values().collect()
}

fn judge_filesystem(host: &HostInput, filesystem: &Filesystem, need: u64, report: &mut Report) {
    let path = &filesystem.path;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    if filesystem.read_only {
        report.fail(host.address, format!("the filesystem of {path} is read-only"), "mount it writable");
    } else if filesystem.free < with_margin(need) {
        report.fail(
            host.address,
            format!("{} MiB free below {path}, {} MiB needed", filesystem.free >> 20, mib(with_margin(need))),
            "free some room or enlarge the filesystem",
        );
    } else if filesystem.inodes > 0 && filesystem.free_inodes * 10 < filesystem.inodes {
        report.warn(
            host.address,
            format!("less than a tenth of the inodes below {path} is free"),
            "remove small files that are not needed",
        );
    }
    if filesystem.noexec && need > 0 {
        report.fail(
            host.address,
            format!("the filesystem of {path} is mounted noexec, programs are kept there"),
            "mount it without noexec",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Need, Severity::*, fixture::finds};

    #[test]
    fn the_images_bytes_and_a_fifth_must_fit() {
        let free = |bytes: u64| move |input: &mut super::Input| input.hosts[0].facts.filesystems[0].free = bytes;
        finds("Room", free(super::with_margin(1 << 30)), &[]);
        let findings = finds("Room", free(super::with_margin(1 << 30) - 1), &[Fail]);
        assert!(findings[0].message.contains("1229 MiB needed"), "{findings:?}");
    }

    #[test]
    fn directories_on_one_filesystem_share_its_room() {
        let spoil = |same: bool| {
            move |input: &mut super::Input| {
                let host = &mut input.hosts[0];
                let mut other = host.facts.filesystems[0].clone();
                other.path = "/var/lib/containerd".into();
                other.device = if same { 1 } else { 2 };
                host.facts.filesystems.push(other);
                host.needs.push(Need { path: "/var/lib/containerd".into(), bytes: 1 << 30 });
                host.facts.filesystems.iter_mut().for_each(|filesystem| filesystem.free = 2 << 30);
            }
        };
        finds("Room", spoil(true), &[Fail]);
        finds("Room", spoil(false), &[]);
    }

    #[test]
    fn programs_must_be_runnable_and_files_makeable() {
        finds("Room", |input| input.hosts[0].facts.filesystems[0].noexec = true, &[Fail]);
        finds("Room", |input| input.hosts[0].facts.filesystems[0].read_only = true, &[Fail]);
        finds("Room", |input| input.hosts[0].facts.filesystems[0].free_inodes = 99, &[Warn]);
    }
}
