//! The directory that a layer is unpacked into. All access goes through file descriptors below it, so that no symbolic link leads out.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::tar_reader::escape;

/// A directory below which everything stays.
pub(super) struct RootDir {
    path: PathBuf,
    fd: OwnedFd,
    /// Whether the kernel has `openat2` (Linux 5.6).
    openat2: bool,
}

/// How directories are entered: for what lies in them, not to read them.
const ENTER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl RootDir {
    /// Opens `path`; creates it if it is missing.
    pub fn open(path: &Path) -> Result<Self> {
        fs_err::create_dir_all(path)?;
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| path.display().to_string())?;
        let openat2 = rustix::fs::openat2(&fd, ".", ENTER, Mode::empty(), ResolveFlags::BENEATH).is_ok();
        Ok(RootDir { path: path.to_owned(), fd, openat2 })
    }

    /// Flushes its file system to the disk (`syncfs`).
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).with_context(|| self.path.display().to_string())
    }

    /// Enters a directory below the root; none if it is not there. Symbolic links on the way are followed only where they
    /// stay below the root (and not at all before Linux 5.6).
    pub fn enter(&self, directory: &Path) -> Result<Option<OwnedFd>> {
        self.open_below(directory, ENTER)
    }

    /// Opens a directory below the root itself, to change what it is.
    pub fn open_directory(&self, directory: &Path) -> Result<Option<OwnedFd>> {
        self.open_below(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    /// Enters a directory; creates it and its parents where they are missing, and returns those that it created.
    pub fn enter_or_create(&self, directory: &Path) -> Result<(OwnedFd, Vec<PathBuf>)> {
        if let Some(fd) = self.enter(directory)? {
            return Ok((fd, Vec::new()));
        }
        let (mut current, mut path, mut created) =
            (self.enter(Path::new(""))?.context("the root directory was removed by another process")?, PathBuf::new(), Vec::new());
        for part in directory {
            path.push(part);
            current = match self.enter(&path)? {
                Some(fd) => fd,
                None => {
                    match rustix::fs::mkdirat(&current, part, Mode::from_raw_mode(0o755)) {
                        Ok(()) => created.push(path.clone()),
                        // a symbolic link to nowhere
                        Err(Errno::EXIST) => bail!(self.leads_out(&path)),
                        Err(error) => return Err(error).with_context(|| self.show(&path)),
                    }
                    self.enter(&path)?.with_context(|| format!("{} was removed by another process", self.show(&path)))?
                }
            };
        }
        Ok((current, created))
    }

    fn open_below(&self, directory: &Path, flags: OFlags) -> Result<Option<OwnedFd>> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let opened = if self.openat2 {
            rustix::fs::openat2(&self.fd, directory, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
        } else {
            self.open_step_by_step(directory, flags)
        };
        match opened {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::XDEV | Errno::LOOP | Errno::NOTDIR) => bail!(self.leads_out(directory)),
            Err(error) => Err(error).with_context(|| self.show(directory)),
        }
    }

    fn open_step_by_step(&self, directory: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut current = rustix::fs::openat(&self.fd, ".", ENTER, Mode::empty())?;
        for part in directory {
            current = rustix::fs::openat(&current, part, ENTER | OFlags::NOFOLLOW, Mode::empty())?;
        }
        rustix::fs::openat(&current, ".", flags, Mode::empty())
    }

    fn leads_out(&self, path: &Path) -> crate::error::Failure {
        escape(format!("`{}` is not a directory inside the root: it is a file, or a symbolic link that leads out", path.display()))
    }

    /// The full path on this machine, for messages.
    pub fn show(&self, path: &Path) -> String {
        self.path.join(path).display().to_string()
    }
}

/// Removes an entry with everything in it, except the paths for which `keep` is true. Returns whether all of it was removed.
///
/// `path` is its path below the root, for `keep`. Links are removed, never followed. A missing entry counts as removed.
pub(super) fn remove(dir: &OwnedFd, name: &OsStr, path: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<bool> {
    if keep(path) {
        // it stays, but what older layers have in it goes
        if let Ok(inner) =
            rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        {
            remove_inside(&inner, path, keep)?;
        }
        return Ok(false);
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    }
    let inner = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| path.display().to_string())?;
    if !remove_inside(&inner, path, keep)? {
        return Ok(false);
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR).with_context(|| path.display().to_string())?;
    Ok(true)
}

/// Removes the content of a directory, except the paths for which `keep` is true. Returns whether it is empty now.
pub(super) fn remove_inside(dir: &OwnedFd, path: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<bool> {
    let mut empty = true;
    let listing = Dir::read_from(dir).with_context(|| path.display().to_string())?;
    for entry in listing {
        let entry = entry.with_context(|| path.display().to_string())?;
        let name: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            empty &= remove(dir, name, &path.join(name), keep)?;
        }
    }
    Ok(empty)
}

/// The type of the file with this name; links are not followed.
pub(super) fn kind_of(dir: &OwnedFd, name: &OsStr) -> Option<FileType> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

/// A path that reaches an entered directory, for calls that do not take such descriptors.
pub(super) fn proc_path(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
