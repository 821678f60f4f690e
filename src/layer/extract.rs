//! Writes the members of a layer below a root.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::confined_root::{RootDir, kind_of, proc_path, remove, remove_inside};
use super::older_tree::{OlderLayer, UnpackedMember, born};
use super::tar_reader::{Kind, TarEntry, TarReader, below, escape};
use super::{CAPABILITY, OPAQUE, UnpackOptions, WHITEOUT};

/// Applies the members of one layer to a root. Files that `older` has unchanged become hard links to those. Returns the members.
pub(super) fn extract(
    archive: impl Read,
    root: &RootDir,
    older: Option<&OlderLayer<'_>>,
    options: &UnpackOptions,
) -> Result<Vec<UnpackedMember>> {
    let mut members = TarReader::new(archive);
    let mut extraction = Extraction::new(root, older, options);
    let mut unpacked = Vec::new();
    while let Some(member) = members.next()? {
        let made = extraction.apply(unpacked.len(), &member, &mut members).with_context(|| format!("unpack {}", member.path.display()))?;
        let MadeFile { inode, born, linked } = made.unwrap_or_default();
        unpacked.push(UnpackedMember { entry: member, inode, born, linked });
    }
    extraction.finish()?;
    Ok(unpacked)
}

/// Applies a layer to a root without reading it: all its files become hard links to those of an older tree.
///
/// # Errors
/// Fails if a file cannot be linked; then the root has a part of the layer.
pub(super) fn link(older: &OlderLayer<'_>, root: &RootDir, options: &UnpackOptions) -> Result<()> {
    let mut extraction = Extraction::new(root, Some(older), options);
    for (number, member) in older.members.iter().enumerate() {
        let entry = &member.entry;
        extraction.apply(number, entry, &mut NoContent).with_context(|| format!("unpack {}", entry.path.display()))?;
    }
    extraction.finish()
}

/// A file that was made of a member.
#[derive(Default)]
struct MadeFile {
    inode: u64,
    /// See [`UnpackedMember::born`].
    born: i64,
    /// Whether it is one of the older tree.
    linked: bool,
}

/// The content of files of a layer that is not read.
struct NoContent;

impl Read for NoContent {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("changed while it was linked"))
    }
}

struct Extraction<'a> {
    root: &'a RootDir,
    older: Option<&'a OlderLayer<'a>>,
    owners: bool,
    /// The directory of the last member: the next one is there most of the time.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Paths that this layer wrote, with all parents: its whiteouts hide only what older layers have.
    written: HashSet<PathBuf>,
    /// Directories get their mode and time at the end, when nothing is written into them any more.
    directories: BTreeMap<PathBuf, Attributes>,
    /// Directories of older layers that are written into: they keep their time.
    touched: BTreeMap<PathBuf, Attributes>,
    buffer: Vec<u8>,
}

/// What is set on a file besides its content.
#[derive(Debug, Clone)]
struct Attributes {
    owner: Option<(Uid, Gid)>,
    mode: Mode,
    times: Timestamps,
}

impl<'a> Extraction<'a> {
    fn new(root: &'a RootDir, older: Option<&'a OlderLayer<'a>>, options: &UnpackOptions) -> Self {
        Extraction {
            root,
            older,
            owners: options.owners,
            parent: None,
            written: HashSet::new(),
            directories: BTreeMap::new(),
            touched: BTreeMap::new(),
            buffer: vec![0; 256 << 10],
        }
    }

    /// Applies the member with this number in the layer. Returns the file that was made, if it is one.
    fn apply(&mut self, number: usize, member: &TarEntry, content: &mut impl Read) -> Result<Option<MadeFile>> {
        // the root itself is whatever the caller made it
        let Some(name) = member.path.file_name() else { return Ok(None) };
        let parent = member.path.parent().unwrap_or(Path::new(""));
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT.as_bytes()) {
            return self.whiteout(parent, name, OsStr::from_bytes(hidden)).map(|()| None);
        }
        let dir = self.enter(parent)?;
        let mut made = None;
        match member.kind {
            Kind::File => match self.link_older(number, &dir, name, member) {
                Some(linked) => made = Some(linked),
                None => made = Some(self.file(&dir, name, member, content)?),
            },
            Kind::Directory => self.directory(&dir, name, member)?,
            Kind::Symlink => self.symlink(&dir, name, member)?,
            Kind::Hardlink => self.hardlink(&dir, name, member)?,
            Kind::Char | Kind::Block | Kind::Fifo => self.node(&dir, name, member)?,
        }
        self.leave(parent, dir);
        self.mark_written(&member.path);
        Ok(made)
    }

    /// Links the file that the older tree has of this member; `None` if it has none, or it cannot be linked.
    fn link_older(&mut self, number: usize, dir: &OwnedFd, name: &OsStr, member: &TarEntry) -> Option<MadeFile> {
        let (older, known) = self.older?.unchanged(number, member, self.owners)?;
        let linked = self.create(dir, name, &member.path, || rustix::fs::linkat(&older, name, dir, name, AtFlags::empty()));
        // another file system, or a file that has as many names as it can have
        linked.is_ok().then_some(MadeFile { inode: known.inode, born: known.born, linked: true })
    }

    /// Opens a directory, creating it if it is missing; reuses the descriptor of the last member's directory.
    fn enter(&mut self, directory: &Path) -> Result<OwnedFd> {
        if let Some((path, fd)) = self.parent.take()
            && path == directory
        {
            return Ok(fd);
        }
        let (fd, created) = self.root.enter_or_create(directory)?;
        if created.is_empty() && !self.written.contains(directory) && !self.touched.contains_key(directory) {
            self.touch(directory, &fd)?;
        }
        created.iter().for_each(|path| self.mark_written(path));
        Ok(fd)
    }

    fn leave(&mut self, directory: &Path, fd: OwnedFd) {
        self.parent = Some((directory.to_owned(), fd));
    }

    /// Remembers the time of a directory of an older layer, and opens it for writing where its mode forbids that.
    fn touch(&mut self, directory: &Path, fd: &OwnedFd) -> Result<()> {
        let stat = rustix::fs::fstat(fd).with_context(|| self.root.show(directory))?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        self.touched.insert(directory.to_owned(), Attributes { owner: None, mode, times: times(stat.st_mtime) });
        if !mode.contains(Mode::RWXU) && !rustix::process::geteuid().is_root() {
            rustix::fs::chmod(proc_path(fd), mode | Mode::RWXU).with_context(|| self.root.show(directory))?;
        }
        Ok(())
    }

    fn mark_written(&mut self, path: &Path) {
        for path in path.ancestors() {
            if !self.written.insert(path.to_owned()) {
                break;
            }
        }
    }

    fn file(&mut self, dir: &OwnedFd, name: &OsStr, member: &TarEntry, content: &mut impl Read) -> Result<MadeFile> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(self.create(dir, name, &member.path, || rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR))?);
        loop {
            match content.read(&mut self.buffer)? {
                0 => break,
                count => file.write_all(&self.buffer[..count])?,
            }
        }
        self.attributes(member)?.set(file.as_fd())?;
        if let Some(value) = member.xattrs.get(CAPABILITY).filter(|_| self.owners) {
            // after the owner: changing it clears capabilities
            rustix::fs::fsetxattr(&file, CAPABILITY, value, XattrFlags::empty())?;
        }
        Ok(MadeFile { inode: rustix::fs::fstat(&file)?.st_ino, born: born(&file, ""), linked: false })
    }

    fn directory(&mut self, dir: &OwnedFd, name: &OsStr, member: &TarEntry) -> Result<()> {
        if kind_of(dir, name) != Some(FileType::Directory) {
            self.create(dir, name, &member.path, || rustix::fs::mkdirat(dir, name, Mode::RWXU))?;
        }
        self.directories.insert(member.path.clone(), self.attributes(member)?);
        if !rustix::process::geteuid().is_root()
            && let Some(fd) = self.root.enter(&member.path)?
        {
            rustix::fs::chmod(proc_path(&fd), Mode::RWXU)?;
        }
        Ok(())
    }

    fn symlink(&mut self, dir: &OwnedFd, name: &OsStr, member: &TarEntry) -> Result<()> {
        self.create(dir, name, &member.path, || rustix::fs::symlinkat(&member.link, dir, name))?;
        let attributes = self.attributes(member)?;
        if let Some((uid, gid)) = attributes.owner {
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(rustix::fs::utimensat(dir, name, &attributes.times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn hardlink(&mut self, dir: &OwnedFd, name: &OsStr, member: &TarEntry) -> Result<()> {
        let target = below(&member.link)?;
        let no_target = || escape(format!("the hard link's target `{}` does not exist in the image", member.link.display()));
        let target_name = target.file_name().ok_or_else(no_target)?;
        if target == member.path {
            bail!(escape("the hard link points at itself".to_owned()));
        }
        let target_dir = self.root.enter(target.parent().unwrap_or(Path::new("")))?.ok_or_else(no_target)?;
        if matches!(kind_of(&target_dir, target_name), None | Some(FileType::Directory)) {
            bail!(no_target());
        }
        self.create(dir, name, &member.path, || rustix::fs::linkat(&target_dir, target_name, dir, name, AtFlags::empty()))
    }

    fn node(&mut self, dir: &OwnedFd, name: &OsStr, member: &TarEntry) -> Result<()> {
        let kind = match member.kind {
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let attributes = self.attributes(member)?;
        let device = rustix::fs::makedev(member.device.0, member.device.1);
        let created = self.create(dir, name, &member.path, || rustix::fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device));
        // root of a user namespace cannot create devices either
        if kind != FileType::Fifo && created.as_ref().is_err_and(|error| error.downcast_ref() == Some(&Errno::PERM)) {
            tracing::warn!("skipped device {}: only root can create it", self.root.show(&member.path));
            return Ok(());
        }
        created?;
        if let Some((uid, gid)) = attributes.owner {
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        rustix::fs::chmodat(dir, name, attributes.mode, AtFlags::empty())?;
        Ok(rustix::fs::utimensat(dir, name, &attributes.times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Creates a file system entry; removes what had the name before.
    fn create<T>(&mut self, dir: &OwnedFd, name: &OsStr, path: &Path, mut create: impl FnMut() -> rustix::io::Result<T>) -> Result<T> {
        match create() {
            Err(Errno::EXIST) => {}
            result => return Ok(result?),
        }
        if kind_of(dir, name) == Some(FileType::Directory) {
            self.directories.retain(|known, _| !known.starts_with(path));
            self.touched.retain(|known, _| !known.starts_with(path));
            self.written.retain(|known| !known.starts_with(path));
        }
        remove(dir, name, path, &|_| false)?;
        Ok(create()?)
    }

    fn whiteout(&mut self, parent: &Path, name: &OsStr, hidden: &OsStr) -> Result<()> {
        let opaque = name == OPAQUE;
        if !opaque && hidden.as_bytes().starts_with(WHITEOUT.as_bytes()) {
            // other markers of AUFS: image tools ignore them
            return Ok(());
        }
        if !opaque && (hidden.is_empty() || hidden == "." || hidden == "..") {
            bail!(escape(format!("invalid whiteout `{}`: it names no file", name.display())));
        }
        let Some(dir) = self.root.enter(parent)? else { return Ok(()) };
        if !self.written.contains(parent) && !self.touched.contains_key(parent) {
            self.touch(parent, &dir)?;
        }
        // the cached descriptor may be of a directory that goes
        self.parent = None;
        let written = &self.written;
        let keep = |path: &Path| written.contains(path);
        if opaque {
            let inside = self.root.open_directory(parent)?.context("the directory was removed by another process")?;
            remove_inside(&inside, parent, &keep)?;
        } else {
            remove(&dir, hidden, &parent.join(hidden), &keep)?;
        }
        self.touched.retain(|known, _| known == parent || self.root.enter(known).ok().flatten().is_some());
        Ok(())
    }

    fn attributes(&self, member: &TarEntry) -> Result<Attributes> {
        let id =
            |value: u64| u32::try_from(value).ok().filter(|&id| id != u32::MAX).with_context(|| format!("owner {value} is out of range"));
        let owner = if self.owners { Some((Uid::from_raw(id(member.uid)?), Gid::from_raw(id(member.gid)?))) } else { None };
        Ok(Attributes { owner, mode: Mode::from_raw_mode(member.mode), times: times(member.mtime) })
    }

    /// Sets modes and times of directories, inner ones first: nothing is written into them any more.
    fn finish(self) -> Result<()> {
        let own = self.directories.iter();
        let older = self.touched.iter().filter(|(path, _)| !self.directories.contains_key(*path));
        let mut all: Vec<(&PathBuf, &Attributes)> = own.chain(older).collect();
        all.sort_by(|a, b| b.0.cmp(a.0));
        for (path, attributes) in all {
            if let Some(fd) = self.root.open_directory(path)? {
                attributes.set(fd.as_fd()).with_context(|| self.root.show(path))?;
            }
        }
        Ok(())
    }
}

impl Attributes {
    /// Owner first: changing it clears set-id bits.
    fn set(&self, fd: BorrowedFd) -> Result<()> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(fd, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(fd, self.mode)?;
        Ok(rustix::fs::futimens(fd, &self.times)?)
    }
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
