//! Follows the symbolic links of layers as unpacking would, without a disk, and finds names that lead out of the root.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, ensure};

use super::tar_reader::{Kind, TarEntry, below, escape};
use super::{OPAQUE, WHITEOUT};
use crate::error::Failure;

/// As many links as the kernel follows in one name.
const MAX_LINKS: usize = 40;

/// The links of layers, the lowest layer first.
#[derive(Debug, Default)]
pub(super) struct SymlinkResolver {
    /// For each link: the number of its layer, and its target.
    links: BTreeMap<PathBuf, (usize, PathBuf)>,
    /// Directories that the current layer has as members: no link of a lower layer is in their place.
    directories: BTreeSet<PathBuf>,
    /// Directories that the current layer writes into without having them.
    entered: BTreeSet<PathBuf>,
    /// The last directory, and what it is when links are followed: most members are where the one before was.
    last: Option<(PathBuf, PathBuf)>,
    layer: usize,
}

impl SymlinkResolver {
    /// Adds the next member of the current layer, following links on its path. An error of kind `Verification` if it would be written outside the root.
    pub fn add_member(&mut self, member: &TarEntry) -> Result<()> {
        let Some(name) = member.path.file_name() else { return Ok(()) };
        let directory = self.enter(member.path.parent().unwrap_or(Path::new("")))?;
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT.as_bytes()) {
            let opaque = name == OPAQUE;
            self.hide(&if opaque { directory } else { directory.join(std::ffi::OsStr::from_bytes(hidden)) }, opaque);
            return Ok(());
        }
        if member.kind == Kind::Hardlink {
            self.check_hardlink(member)?;
        }
        let path = directory.join(name);
        self.last = self.last.take().filter(|_| matches!(member.kind, Kind::File | Kind::Hardlink));
        self.replace(&path, member.kind);
        match member.kind {
            Kind::Symlink => drop(self.links.insert(path, (self.layer, member.link.clone()))),
            Kind::Directory => drop(self.directories.insert(path)),
            _ => {}
        }
        Ok(())
    }

    fn check_hardlink(&mut self, member: &TarEntry) -> Result<()> {
        let out = || {
            Failure::verification(format!("the hard link `{}` leads out of the root to `{}`", member.path.display(), member.link.display()))
                .hint("the layer tries to write outside its root: do not use this image")
        };
        let target = below(&member.link).map_err(|_| out())?;
        self.enter(target.parent().unwrap_or(Path::new(""))).map_err(|_| out())?;
        Ok(())
    }

    /// Goes on with the layer above.
    pub fn next_layer(&mut self) {
        self.layer += 1;
        self.directories.clear();
        self.entered.clear();
        self.last = None;
    }

    /// Adds all links of a layer at once, regardless of their order in it.
    pub fn add_links(&mut self, links: &BTreeMap<PathBuf, PathBuf>) {
        self.links.extend(links.iter().map(|(path, target)| (path.clone(), (self.layer, target.clone()))));
    }

    /// The links that there are, and the directories that the current layer writes into without having them.
    pub fn into_links_and_entered(self) -> (BTreeMap<PathBuf, PathBuf>, BTreeSet<PathBuf>) {
        (self.links.into_iter().map(|(path, (_, target))| (path, target)).collect(), self.entered)
    }

    fn enter(&mut self, directory: &Path) -> Result<PathBuf> {
        if let Some((_, real)) = self.last.as_ref().filter(|(last, _)| last == directory) {
            return Ok(real.clone());
        }
        let real = self.follow(directory)?;
        if !real.as_os_str().is_empty() && !self.directories.contains(&real) {
            self.entered.insert(real.clone());
        }
        self.last = Some((directory.to_owned(), real.clone()));
        Ok(real)
    }

    /// Resolves the links in a directory's path; an error if it leads out of the root.
    pub fn follow(&self, directory: &Path) -> Result<PathBuf> {
        let out = || escape(format!("`{}` leads out of the root through a symbolic link", directory.display()));
        let (mut real, mut links) = (PathBuf::new(), 0);
        let mut open: VecDeque<OsString> = directory.iter().map(OsString::from).collect();
        while let Some(part) = open.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::ParentDir) => ensure!(real.pop(), out()),
                Some(Component::RootDir) => return Err(out().into()),
                Some(Component::Normal(part)) => real.push(part),
                _ => continue,
            }
            if let Some((_, target)) = self.links.get(&real) {
                links += 1;
                ensure!(links <= MAX_LINKS, out());
                real.pop();
                target.iter().rev().for_each(|part| open.push_front(part.to_owned()));
            }
        }
        Ok(real)
    }

    /// Forgets what a new member replaces; a directory keeps its content.
    fn replace(&mut self, path: &Path, kind: Kind) {
        if kind == Kind::Directory {
            self.links.remove(path);
            return;
        }
        for gone in keys_from(&self.links, path) {
            self.links.remove(&gone);
        }
        let gone: Vec<PathBuf> =
            self.directories.range(path.to_owned()..).take_while(|directory| directory.starts_with(path)).cloned().collect();
        for directory in gone {
            self.directories.remove(&directory);
        }
    }

    /// Applies a whiteout: forgets what lower layers have at a path, or inside it if it is opaque.
    fn hide(&mut self, path: &Path, opaque: bool) {
        for hidden in keys_from(&self.links, path) {
            let older = self.links.get(&hidden).is_some_and(|(layer, _)| *layer < self.layer);
            if older && !(opaque && hidden == path) {
                self.links.remove(&hidden);
            }
        }
        self.last = None;
    }
}

/// The path, if it is there, and all below it.
fn keys_from(links: &BTreeMap<PathBuf, (usize, PathBuf)>, path: &Path) -> Vec<PathBuf> {
    links.range(path.to_owned()..).map(|(known, _)| known).take_while(|known| known.starts_with(path)).cloned().collect()
}
