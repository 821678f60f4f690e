//! What changed between two trees.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Entry, Source, Tree};

/// What changed from `before` to `after` (by kind, mode, owner, size, mtime, link target): the entries of the layer that
/// turns one into the other, removals as whiteouts.
///
/// Files are told apart by size and by mtime in seconds: a change that keeps both is not seen. [`super::Snapshot::changes`]
/// sees every change of one directory.
pub fn diff(before: &Tree, after: &Tree) -> Tree {
    diff_by(before, after, |_, before, after| same(before, after))
}

/// Like [`diff`], with `same` as the comparison of two entries.
pub(super) fn diff_by(before: &Tree, after: &Tree, same: impl Fn(&Path, &Entry, &Entry) -> bool) -> Tree {
    let changed: BTreeSet<&Path> = after
        .iter()
        .filter(|(path, entry)| before.get(*path).is_none_or(|known| !same(path, known, entry)))
        .map(|(path, _)| path.as_path())
        .collect();
    // a hard link can only be made to a file of the same layer: its names come all or none
    let torn: BTreeSet<&Path> = after
        .iter()
        .filter_map(|(path, entry)| match &entry.source {
            Source::Hardlink(target) if changed.contains(path.as_path()) || changed.contains(target.as_path()) => Some(target.as_path()),
            _ => None,
        })
        .collect();
    let comes = |path: &Path, entry: &Entry| {
        changed.contains(path)
            || torn.contains(path)
            || matches!(&entry.source, Source::Hardlink(target) if torn.contains(target.as_path()))
    };
    let mut layer: Tree =
        after.iter().filter(|(path, entry)| comes(path, entry)).map(|(path, entry)| (path.clone(), entry.clone())).collect();
    for (path, entry) in before {
        if !after.contains_key(path) && !goes_with_parent(path, after) {
            layer.insert(path.clone(), Entry { source: Source::Whiteout, xattrs: Default::default(), ..entry.clone() });
        }
    }
    layer
}

/// Whether a removed path needs no whiteout: its directory was removed too, or something else took its place.
fn goes_with_parent(path: &Path, after: &Tree) -> bool {
    match path.parent() {
        Some(parent) if parent != Path::new("") => !matches!(after.get(parent).map(|entry| &entry.source), Some(Source::Directory)),
        _ => false,
    }
}

/// Whether two entries are equal, of files by size and mtime, not by content.
pub(super) fn same(one: &Entry, other: &Entry) -> bool {
    let content = match (&one.source, &other.source) {
        (Source::File(_, size), Source::File(_, other)) => size == other,
        (one, other) => one == other,
    };
    content && (one.mode, one.uid, one.gid, one.mtime, &one.xattrs) == (other.mode, other.uid, other.gid, other.mtime, &other.xattrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(source: Source, mtime: i64) -> Entry {
        Entry { source, mode: 0o755, uid: 0, gid: 0, mtime, xattrs: Default::default() }
    }

    fn tree(entries: &[(&str, Source)]) -> Tree {
        entries.iter().map(|(path, source)| (path.into(), entry(source.clone(), 1))).collect()
    }

    fn file(size: u64) -> Source {
        Source::File("/x".into(), size)
    }

    #[test]
    fn a_layer_has_what_changed_and_nothing_else() {
        use Source::{Directory, Hardlink, Symlink, Whiteout};
        for (case, before, after, expected) in [
            ("same", vec![("a", file(1))], vec![("a", Source::File("/elsewhere".into(), 1))], vec![]),
            ("size", vec![("a", file(1))], vec![("a", file(2))], vec![("a", file(2))]),
            ("new", vec![], vec![("a", file(2))], vec![("a", file(2))]),
            ("removed", vec![("a", file(1))], vec![], vec![("a", Whiteout)]),
            ("removed tree", vec![("d", Directory), ("d/e", Directory), ("d/e/f", file(1))], vec![], vec![("d", Whiteout)]),
            ("directory to file", vec![("d", Directory), ("d/f", file(1))], vec![("d", file(3))], vec![("d", file(3))]),
            ("file to directory", vec![("d", file(1))], vec![("d", Directory), ("d/f", file(1))], vec![("d", Directory), ("d/f", file(1))]),
            ("link", vec![("l", Symlink("a".into()))], vec![("l", Symlink("b".into()))], vec![("l", Symlink("b".into()))]),
            (
                "new hard link",
                vec![("a", file(1))],
                vec![("a", file(1)), ("b", Hardlink("a".into()))],
                vec![("a", file(1)), ("b", Hardlink("a".into()))],
            ),
            (
                "linked file",
                vec![("a", file(1)), ("b", Hardlink("a".into())), ("c", Hardlink("a".into()))],
                vec![("a", file(2)), ("b", Hardlink("a".into())), ("c", Hardlink("a".into()))],
                vec![("a", file(2)), ("b", Hardlink("a".into())), ("c", Hardlink("a".into()))],
            ),
        ] {
            assert_eq!(diff(&tree(&before), &tree(&after)), tree(&expected), "{case}");
        }
    }

    #[test]
    fn metadata_counts() {
        let before = tree(&[("a", file(1))]);
        for change in [Entry { mode: 0o700, ..before[Path::new("a")].clone() }, entry(file(1), 2), Entry { uid: 7, ..entry(file(1), 1) }] {
            let after = Tree::from([("a".into(), change)]);
            assert_eq!(diff(&before, &after), after);
        }
    }
}
