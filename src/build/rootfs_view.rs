//! The paths of a rootfs, and what stands there: enough to know where COPY puts files, without unpacking any layer.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::layer::{Source, Tree};

/// The kind of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry {
    /// A directory.
    Dir,
    /// A symbolic link to this target.
    Link(#[serde(with = "super::path_encoding")] PathBuf),
    /// A file.
    File,
}

/// The paths of a rootfs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootfsView {
    #[serde(with = "super::path_encoding::keys")]
    items: BTreeMap<PathBuf, Entry>,
}

/// The kernel's limit on symbolic links in a path.
const MAX_LINKS: usize = 40;

impl RootfsView {
    /// Applies a layer.
    pub fn apply(&mut self, layer: &Tree) {
        for (path, entry) in layer {
            match &entry.source {
                Source::Whiteout => self.remove(path),
                Source::OpaqueDirectory => {
                    self.remove(path);
                    self.put(path, Entry::Dir);
                }
                Source::Directory => self.put(path, Entry::Dir),
                Source::Symlink(target) => self.put(path, Entry::Link(target.clone())),
                Source::File(..) | Source::Bytes(_) | Source::Hardlink(_) => self.put(path, Entry::File),
            }
        }
    }

    /// Adds the parent directories that layers have no entries for.
    pub fn add_parents(&mut self) {
        let parents = self.items.keys().flat_map(|path| path.ancestors().skip(1)).filter(|above| !self.has(above));
        let missing: Vec<PathBuf> = parents.map(Path::to_owned).collect();
        self.items.extend(missing.into_iter().map(|path| (path, Entry::Dir)));
    }

    /// Sets a path. A file in the place of a directory removes the directory's content.
    pub fn put(&mut self, path: &Path, item: Entry) {
        if item != Entry::Dir && self.items.get(path) == Some(&Entry::Dir) {
            self.remove(path);
        }
        self.items.insert(path.to_owned(), item);
    }

    /// Removes a path and everything below it.
    pub fn remove(&mut self, path: &Path) {
        self.items.retain(|other, _| !other.starts_with(path));
    }

    /// Whether a directory (or a link to one) stands at `path`; the root always does.
    pub fn is_dir(&self, path: &Path) -> bool {
        let path = self.resolve(path);
        path.as_os_str().is_empty() || self.items.get(&path) == Some(&Entry::Dir)
    }

    /// Whether a file (or a link to one) stands at `path`.
    pub fn is_file(&self, path: &Path) -> bool {
        self.items.get(&self.resolve(path)) == Some(&Entry::File)
    }

    /// Whether anything stands at `path`.
    pub fn has(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.items.contains_key(path)
    }

    /// The paths below a directory, without itself.
    pub fn below(&self, dir: &Path) -> impl Iterator<Item = &Path> {
        self.items
            .range(dir.to_owned()..)
            .map(|(path, _)| path.as_path())
            .take_while(move |path| path.starts_with(dir))
            .filter(move |path| *path != dir)
    }

    /// The names in a directory.
    pub fn children(&self, dir: &Path) -> impl Iterator<Item = &Path> {
        self.below(dir).filter_map(move |path| path.strip_prefix(dir).ok()).filter(|below| below.components().count() == 1)
    }

    /// The path with all links in it followed. Like in a chroot, none leads out of the rootfs.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let (mut done, mut links) = (PathBuf::new(), 0);
        let mut todo: Vec<PathBuf> = components(path);
        todo.reverse();
        while let Some(name) = todo.pop() {
            if name.as_os_str() == ".." {
                done.pop();
                continue;
            }
            done.push(name);
            if let Some(Entry::Link(target)) = self.items.get(&done)
                && links < MAX_LINKS
            {
                links += 1;
                done = if target.is_absolute() { PathBuf::new() } else { done.parent().map(Path::to_owned).unwrap_or_default() };
                todo.extend(components(target).into_iter().rev());
            }
        }
        done
    }
}

fn components(path: &Path) -> Vec<PathBuf> {
    let components = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    components.map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_the_rootfs() {
        let mut view = RootfsView::default();
        view.put(Path::new("usr"), Entry::Dir);
        view.put(Path::new("usr/lib"), Entry::Dir);
        view.put(Path::new("usr/lib/sh"), Entry::File);
        view.put(Path::new("lib"), Entry::Link("usr/lib".into()));
        view.put(Path::new("abs"), Entry::Link("/usr/../../usr".into()));
        view.put(Path::new("loop"), Entry::Link("loop".into()));
        assert_eq!(view.resolve(Path::new("lib/x")), Path::new("usr/lib/x"));
        assert!(view.is_dir(Path::new("abs/lib")) && view.is_file(Path::new("lib/sh")));
        assert!(view.is_dir(Path::new("")) && !view.is_dir(Path::new("loop/x")));
        view.remove(Path::new("usr"));
        assert!(!view.is_dir(Path::new("lib")));
    }
}
