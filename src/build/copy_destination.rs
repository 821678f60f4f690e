//! Where COPY, ADD and APP put files (docker's rules).

use std::path::{Component, Path, PathBuf};

use super::rootfs_view::RootfsView;
use crate::kubefile::Mode;
use crate::layer::{Entry, Source, Tree};

/// A file or directory to copy.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name, if it keeps it.
    pub name: PathBuf,
    /// Its files by their paths relative to it. A file has the empty path; of a directory the content is copied.
    pub tree: Tree,
}

/// A file of root, with time 0, so that it is the same in every build.
pub fn one_file(name: PathBuf, source: Source, mode: u32) -> Item {
    let entry = Entry { source, mode, uid: 0, gid: 0, mtime: 0, xattrs: Default::default() };
    Item { name, tree: Tree::from([(PathBuf::new(), entry)]) }
}

/// A destination, as in the Kubefile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its path, relative to the rootfs.
    pub path: PathBuf,
    /// Whether it must be a directory: `dir/`, `.`.
    pub is_dir: bool,
}

impl Destination {
    /// Reads a destination. Relative ones start at the root, and `..` stops there.
    pub fn parse(text: &str) -> Self {
        let mut path = PathBuf::new();
        for component in Path::new(text).components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => {
                    path.pop();
                }
                _ => {}
            }
        }
        let last = text.rsplit('/').next().unwrap_or(text);
        Destination { is_dir: path.as_os_str().is_empty() || matches!(last, "" | "." | ".."), path }
    }
}

/// The mode and owner of copied files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `--chmod`: permission bits, or changes to them.
    pub mode: Option<Mode>,
    /// `--chown`: uid and gid.
    pub owner: Option<(u64, u64)>,
}

/// The layer that copies `items` to `destination` in a rootfs with these paths. It includes missing parent directories.
pub fn place(items: Vec<Item>, destination: &Destination, attributes: Attributes, view: &RootfsView) -> Tree {
    let into_dir = destination.is_dir || items.len() > 1 || view.is_dir(&destination.path);
    let target = view.resolve(&destination.path);
    let mut layer = Tree::new();
    for item in items {
        let is_dir = item.tree.get(Path::new("")).is_none_or(|entry| entry.source == Source::Directory);
        let root = if is_dir || !into_dir { target.clone() } else { target.join(&item.name) };
        for (path, mut entry) in item.tree {
            let at = if path.as_os_str().is_empty() { root.clone() } else { root.join(path) };
            if entry.source == Source::Directory && (layer.contains_key(&at) || view.is_dir(&at)) {
                continue;
            }
            if let Source::Hardlink(first) = &mut entry.source {
                *first = root.join(&*first);
            }
            attributes.apply(&mut entry);
            layer.insert(at, entry);
        }
    }
    layer.remove(Path::new(""));
    add_parents(&mut layer, view);
    layer
}

impl Attributes {
    fn apply(&self, entry: &mut Entry) {
        if let Some(mode) = self.mode.as_ref().filter(|_| !matches!(entry.source, Source::Symlink(_))) {
            entry.mode = mode.of(entry.mode, entry.source == Source::Directory);
        }
        if let Some((uid, gid)) = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
    }
}

fn add_parents(layer: &mut Tree, view: &RootfsView) {
    let newest = layer.values().map(|entry| entry.mtime).max().unwrap_or(0);
    let missing: Vec<PathBuf> = layer
        .keys()
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|path| !path.as_os_str().is_empty() && !layer.contains_key(*path) && !view.is_dir(path))
        .map(Path::to_owned)
        .collect();
    for path in missing {
        let mode = 0o755;
        layer.insert(path, Entry { source: Source::Directory, mode, uid: 0, gid: 0, mtime: newest, xattrs: Default::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::rootfs_view;

    fn entry(source: Source) -> Entry {
        Entry { source, mode: 0o644, uid: 0, gid: 0, mtime: 7, xattrs: Default::default() }
    }

    fn file(name: &str) -> Item {
        Item { name: name.into(), tree: Tree::from([(PathBuf::new(), entry(Source::Bytes(vec![])))]) }
    }

    fn dir(name: &str, files: &[&str]) -> Item {
        let mut tree = Tree::from([(PathBuf::new(), entry(Source::Directory))]);
        tree.extend(files.iter().map(|file| (PathBuf::from(file), entry(Source::Bytes(vec![])))));
        Item { name: name.into(), tree }
    }

    fn placed(items: Vec<Item>, destination: &str) -> Vec<String> {
        let mut view = RootfsView::default();
        view.put(Path::new("etc"), rootfs_view::Entry::Dir);
        view.put(Path::new("lib"), rootfs_view::Entry::Link("usr/lib".into()));
        let layer = place(items, &Destination::parse(destination), Attributes::default(), &view);
        layer.keys().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn files_and_directories_go_where_docker_puts_them() {
        for (name, items, destination, expected) in [
            ("file to a new name", vec![file("a")], "b", vec!["b"]),
            ("file into a directory", vec![file("a")], "b/", vec!["b", "b/a"]),
            ("file into an existing directory", vec![file("a")], "etc", vec!["etc/a"]),
            ("file to the root", vec![file("a")], ".", vec!["a"]),
            ("file to the absolute root", vec![file("a")], "/", vec!["a"]),
            ("out of the root", vec![file("a")], "../../b", vec!["b"]),
            ("deep", vec![file("a")], "x/y/z", vec!["x", "x/y", "x/y/z"]),
            ("several files", vec![file("a"), file("b")], "d", vec!["d", "d/a", "d/b"]),
            ("directory", vec![dir("s", &["a"])], "d", vec!["d", "d/a"]),
            ("directory into an existing one", vec![dir("s", &["a"])], "etc", vec!["etc/a"]),
            ("directory to the root", vec![dir("s", &["a"])], ".", vec!["a"]),
            ("through a link", vec![file("a")], "lib/", vec!["usr", "usr/lib", "usr/lib/a"]),
        ] {
            assert_eq!(placed(items, destination), expected, "{name}");
        }
    }

    #[test]
    fn chmod_and_chown_are_for_files_not_for_their_parents() {
        let attributes = Attributes { mode: Some(Mode::Bits(0o700)), owner: Some((3, 4)) };
        let layer = place(vec![file("a")], &Destination::parse("x/"), attributes, &RootfsView::default());
        let (file, parent) = (&layer[Path::new("x/a")], &layer[Path::new("x")]);
        assert_eq!((file.mode, file.uid, file.gid), (0o700, 3, 4));
        assert_eq!((parent.mode, parent.uid, parent.mtime), (0o755, 0, 7));
    }
}
