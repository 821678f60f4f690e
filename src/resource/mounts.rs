//! What is mounted below a directory, and how a tree is deleted without ever entering it.

use std::ffi::CString;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fstat, openat, unlinkat};
use rustix::io::Errno;

use super::System;

/// Deletes everything in `directory` (or in what it is a link to), and detaches what is mounted there before. A mount at
/// `directory` itself stays; no other file system is ever entered, not even if it cannot be detached: that is an error.
pub fn empty(system: &System, directory: &Path) -> Result<()> {
    let Some(real) = real(system, directory)? else { return Ok(()) };
    detach_below(system, &real)?;
    let place = system.path(&real);
    let root = open(CWD, &place).with_context(|| place.display().to_string())?;
    let device = fstat(&root)?.st_dev;
    empty_on(&root, device).with_context(|| place.display().to_string())
}

/// Deletes what is at `path`: a directory with everything in it, but nothing that is mounted there; a link, not its target.
/// A mount point stays, emptied.
pub fn remove(system: &System, path: &Path) -> Result<()> {
    let place = system.path(path);
    let done = match std::fs::symlink_metadata(&place) {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => {
            empty(system, path)?;
            match std::fs::remove_dir(&place) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
                done => done,
            }
        }
        Ok(_) => std::fs::remove_file(&place),
    };
    done.with_context(|| place.display().to_string())
}

/// The absolute path of the host that a directory really has, without links; `None` if it is not there.
fn real(system: &System, directory: &Path) -> Result<Option<PathBuf>> {
    let place = system.path(directory);
    if !place.is_dir() {
        return Ok(None);
    }
    let (root, place) = (fs_err::canonicalize(system.path("/"))?, fs_err::canonicalize(place)?);
    Ok(Some(Path::new("/").join(place.strip_prefix(root).context("outside of the host's root directory")?)))
}

/// Detaches everything that is mounted below `directory`, the deepest first; a mount at `directory` itself stays.
fn detach_below(system: &System, directory: &Path) -> Result<()> {
    let table = system.text("/proc/self/mounts")?;
    for place in below(&table, directory).into_iter().rev() {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(system.path(&place), flags).with_context(|| format!("unmount {}", place.display()))?;
    }
    Ok(())
}

fn open(at: impl rustix::fd::AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Deletes everything in an open directory, by names below open directories: nobody can put a link in the way.
fn empty_on(directory: &OwnedFd, device: u64) -> Result<()> {
    for name in names(directory)? {
        let shown = || name.to_string_lossy().into_owned();
        match open(directory, &name) {
            Ok(child) if fstat(&child)?.st_dev != device => {
                return Err(crate::error::Failure::failed(format!("{}: another file system is mounted there: left alone", shown()))
                    .hint("unmount it, then run the same command again")
                    .into());
            }
            Ok(child) => {
                empty_on(&child, device).with_context(shown)?;
                unlinkat(directory, &name, AtFlags::REMOVEDIR).with_context(shown)?;
            }
            Err(Errno::NOTDIR | Errno::LOOP) => unlinkat(directory, &name, AtFlags::empty()).with_context(shown)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error).with_context(shown),
        }
    }
    Ok(())
}

fn names(directory: &OwnedFd) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if ![c".", c".."].contains(&name.as_c_str()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The mount points of `table` (fstab(5), as `/proc/self/mounts` has it) below a directory, in the order they were mounted.
fn below(table: &str, directory: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(|point| PathBuf::from(unescape(point)));
    points.filter(|point| point.starts_with(directory) && point != directory).collect()
}

/// Blanks, tabs, line ends and backslashes are written as octal numbers.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::Lab;

    #[test]
    fn only_mounts_below_are_found() {
        let table = "overlay / overlay rw 0 0\ntmpfs /var/lib/kubelet/pods/a\\040b tmpfs rw 0 0\next4 /var/lib/kubelet ext4 rw 0 0\n\
            tmpfs /var/lib/kubelet-other tmpfs rw 0 0\n";
        assert_eq!(below(table, Path::new("/var/lib/kubelet")), [PathBuf::from("/var/lib/kubelet/pods/a b")]);
    }

    #[test]
    fn another_file_system_is_not_entered_and_links_are_not_followed() {
        let lab = Lab::new();
        lab.write("/volume/on/data", "theirs");
        lab.write("/elsewhere/data", "theirs");
        let place = lab.system.path("/volume");
        let root = open(CWD, &place).unwrap();
        let error = empty_on(&root, fstat(&root).unwrap().st_dev + 1).unwrap_err();
        assert!(format!("{error:#}").contains("on: another file system is mounted there"), "{error:#}");
        assert!(lab.system.path("/volume/on/data").exists());
        std::os::unix::fs::symlink("../elsewhere", place.join("link")).unwrap();
        std::os::unix::fs::symlink("data", place.join("on/gone")).unwrap();
        for _ in 0..2 {
            empty(&lab.system, Path::new("/volume")).unwrap();
            assert!(names(&root).unwrap().is_empty() && lab.system.path("/elsewhere/data").exists());
        }
        std::os::unix::fs::symlink("elsewhere", lab.system.path("/link")).unwrap();
        remove(&lab.system, Path::new("/link")).unwrap();
        assert!(lab.system.path("/elsewhere/data").exists());
    }

    #[test]
    fn mounts_are_looked_for_where_a_linked_directory_really_is() {
        let lab = Lab::new();
        lab.write("/data/kubelet/pods/x", "");
        std::fs::create_dir_all(lab.system.path("/var/lib")).unwrap();
        std::os::unix::fs::symlink("../../data/kubelet", lab.system.path("/var/lib/kubelet")).unwrap();
        lab.write("/proc/self/mounts", "nfs /data/kubelet/pods/volume nfs rw 0 0\n");
        let error = empty(&lab.system, Path::new("/var/lib/kubelet")).unwrap_err();
        assert!(format!("{error:#}").contains("unmount /data/kubelet/pods/volume"), "{error:#}");
        assert!(lab.system.path("/data/kubelet/pods/x").exists());
        lab.write("/proc/self/mounts", "nfs /data/other nfs rw 0 0\n");
        empty(&lab.system, Path::new("/var/lib/kubelet")).unwrap();
        assert!(!lab.system.path("/data/kubelet/pods").exists() && lab.system.path("/var/lib/kubelet").is_symlink());
    }
}
