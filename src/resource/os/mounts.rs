//! Removes directories without ever entering another file system that is mounted below them.

use std::ffi::CString;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;

use super::System;

/// Removes everything in `directory`, or in what it is a link to, after unmounting what is mounted below. A mount at `directory`
/// itself stays.
///
/// # Errors
/// Fails if a file system below cannot be unmounted: it is never entered.
pub fn remove_contents(system: &System, directory: &Path) -> Result<()> {
    let Some(resolved) = resolved(system, directory)? else { return Ok(()) };
    unmount_below(system, &resolved)?;
    let full_path = system.path(&resolved);
    let root = open_directory(CWD, &full_path).with_context(|| full_path.display().to_string())?;
    let device = fstat(&root)?.st_dev;
    remove_entries_below(&root, device).with_context(|| full_path.display().to_string())
}

/// Removes what is at `path`: a directory with everything in it, as [`remove_contents`] does; a link, not its target. A mount point
/// stays, but is emptied.
pub fn remove_all(system: &System, path: &Path) -> Result<()> {
    let full_path = system.path(path);
    let result = match std::fs::symlink_metadata(&full_path) {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => {
            remove_contents(system, path)?;
            match std::fs::remove_dir(&full_path) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
                result => result,
            }
        }
        Ok(_) => std::fs::remove_file(&full_path),
    };
    result.with_context(|| full_path.display().to_string())
}

/// Unmounts what is mounted on a file, if anything is, and removes the file, if it can be.
pub fn remove_mounted_file(system: &System, path: &Path) {
    let full_path = system.path(path);
    let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(&full_path, flags).ok();
    std::fs::remove_file(full_path).ok();
}

/// The absolute path of a directory on the host, with links resolved; `None` if there is none.
fn resolved(system: &System, directory: &Path) -> Result<Option<PathBuf>> {
    let full_path = system.path(directory);
    if !full_path.is_dir() {
        return Ok(None);
    }
    let (root, full_path) = (fs_err::canonicalize(system.path("/"))?, fs_err::canonicalize(full_path)?);
    Ok(Some(Path::new("/").join(full_path.strip_prefix(root).context("a link that leads out of the host's root directory")?)))
}

/// Unmounts everything below `directory`, the deepest first (`umount --lazy`); a mount at `directory` itself stays.
fn unmount_below(system: &System, directory: &Path) -> Result<()> {
    let table = system.read_text("/proc/self/mounts")?;
    for mount_point in mount_points_below(&table, directory).into_iter().rev() {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(system.path(&mount_point), flags).with_context(|| format!("unmount {}", mount_point.display()))?;
    }
    Ok(())
}

fn open_directory(at: impl rustix::fd::AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Removes everything in an open directory, relative to open directories, so that nobody can swap in a link meanwhile.
fn remove_entries_below(directory: &OwnedFd, device: u64) -> Result<()> {
    for name in entry_names(directory)? {
        let display = || name.to_string_lossy().into_owned();
        match open_directory(directory, &name) {
            Ok(child) if fstat(&child)?.st_dev != device => {
                return Err(crate::error::Failure::failed(format!("{}: another file system is mounted there: left unchanged", display()))
                    .hint("unmount it, then run the same command again")
                    .into());
            }
            Ok(child) => {
                remove_entries_below(&child, device).with_context(display)?;
                unlinkat(directory, &name, AtFlags::REMOVEDIR).with_context(display)?;
            }
            Err(Errno::NOTDIR | Errno::LOOP) => unlinkat(directory, &name, AtFlags::empty()).with_context(display)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).with_context(display),
        }
    }
    Ok(())
}

fn entry_names(directory: &OwnedFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if ![c".", c".."].contains(&name.as_c_str()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The mount points below a directory in `table` (fstab(5), as in `/proc/self/mounts`), in the order they were mounted.
fn mount_points_below(table: &str, directory: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(|point| PathBuf::from(unescape(point)));
    points.filter(|point| point.starts_with(directory) && point != directory).collect()
}

/// Decodes spaces, tabs, newlines and backslashes, which stand as octal numbers (fstab(5)).
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

    #[test]
    fn only_mounts_below_are_found() {
        let table = "overlay / overlay rw 0 0\ntmpfs /var/lib/kubelet/pods/a\\040b tmpfs rw 0 0\next4 /var/lib/kubelet ext4 rw 0 0\n\
            tmpfs /var/lib/kubelet-other tmpfs rw 0 0\n";
        assert_eq!(mount_points_below(table, Path::new("/var/lib/kubelet")), [PathBuf::from("/var/lib/kubelet/pods/a b")]);
    }

    #[test]
    fn another_file_system_is_not_entered_and_links_are_not_followed() {
        let host = FakeHost::new();
        host.write("/volume/on/data", "theirs");
        host.write("/elsewhere/data", "theirs");
        let full_path = host.system.path("/volume");
        let root = open_directory(CWD, &full_path).unwrap();
        let error = remove_entries_below(&root, fstat(&root).unwrap().st_dev + 1).unwrap_err();
        assert!(format!("{error:#}").contains("on: another file system is mounted there"), "{error:#}");
        assert!(host.system.path("/volume/on/data").exists());
        std::os::unix::fs::symlink("../elsewhere", full_path.join("link")).unwrap();
        std::os::unix::fs::symlink("data", full_path.join("on/gone")).unwrap();
        for _ in 0..2 {
            remove_contents(&host.system, Path::new("/volume")).unwrap();
            assert!(entry_names(&root).unwrap().is_empty() && host.system.path("/elsewhere/data").exists());
        }
        std::os::unix::fs::symlink("elsewhere", host.system.path("/link")).unwrap();
        remove_all(&host.system, Path::new("/link")).unwrap();
        assert!(host.system.path("/elsewhere/data").exists());
    }

    #[test]
    fn mounts_below_a_linked_directory_are_found() {
        let host = FakeHost::new();
        host.write("/data/kubelet/pods/x", "");
        std::fs::create_dir_all(host.system.path("/var/lib")).unwrap();
        std::os::unix::fs::symlink("../../data/kubelet", host.system.path("/var/lib/kubelet")).unwrap();
        host.write("/proc/self/mounts", "nfs /data/kubelet/pods/volume nfs rw 0 0\n");
        let error = remove_contents(&host.system, Path::new("/var/lib/kubelet")).unwrap_err();
        assert!(format!("{error:#}").contains("unmount /data/kubelet/pods/volume"), "{error:#}");
        assert!(host.system.path("/data/kubelet/pods/x").exists());
        host.write("/proc/self/mounts", "nfs /data/other nfs rw 0 0\n");
        remove_contents(&host.system, Path::new("/var/lib/kubelet")).unwrap();
        assert!(!host.system.path("/data/kubelet/pods").exists() && host.system.path("/var/lib/kubelet").is_symlink());
    }
}
