//! Filesystems and their room.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};
use serde::{Deserialize, Serialize};

use crate::resource::System;

/// The filesystem that a directory is on, or will be on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// The directory that was asked about.
    pub path: String,
    /// The device; directories with the same one share the room.
    pub device: u64,
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that root can still write.
    pub free: u64,
    /// Files that can still be made; 0 with `inodes` 0 where the filesystem does not count.
    pub free_inodes: u64,
    /// All inodes.
    pub inodes: u64,
    /// Whether programs on it cannot be run.
    pub noexec: bool,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// The filesystem under `path`, or under the nearest directory above that exists.
pub fn of(system: &System, path: &str) -> Option<Filesystem> {
    let place = Path::new(path).ancestors().map(|place| system.path(place)).find(|place| place.exists())?;
    let room = statvfs(&place).ok()?;
    Some(Filesystem {
        path: path.to_owned(),
        device: std::fs::metadata(&place).ok()?.dev(),
        total: room.f_blocks * room.f_frsize,
        free: room.f_bavail * room.f_frsize,
        free_inodes: room.f_favail,
        inodes: room.f_files,
        noexec: room.f_flag.contains(StatVfsMountFlags::NOEXEC),
        read_only: room.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}
