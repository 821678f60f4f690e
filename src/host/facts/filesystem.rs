//! Filesystems and their free space.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};
use serde::{Deserialize, Serialize};

use crate::resource::System;

/// The filesystem that a directory is on, or will be on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// The requested directory.
    pub path: String,
    /// The device number; directories with the same one share the space.
    pub device: u64,
    /// Its size in bytes.
    pub total: u64,
    /// Free space for unprivileged processes, in bytes.
    pub free: u64,
    /// Free inodes; 0, as `inodes`, on filesystems without a fixed number.
    pub free_inodes: u64,
    /// Total inodes.
    pub inodes: u64,
    /// Whether it is mounted `noexec`.
    pub noexec: bool,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// Returns the filesystem of `path`, or of the nearest existing directory above.
pub fn of(system: &System, path: &str) -> Option<Filesystem> {
    let existing = Path::new(path).ancestors().map(|existing| system.path(existing)).find(|existing| existing.exists())?;
    let stats = statvfs(&existing).ok()?;
    Some(Filesystem {
        path: path.to_owned(),
        device: std::fs::metadata(&existing).ok()?.dev(),
        total: stats.f_blocks * stats.f_frsize,
        free: stats.f_bavail * stats.f_frsize,
        free_inodes: stats.f_favail,
        inodes: stats.f_files,
        noexec: stats.f_flag.contains(StatVfsMountFlags::NOEXEC),
        read_only: stats.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}
