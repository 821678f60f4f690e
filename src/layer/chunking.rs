//! Cuts a tree into pieces along stable boundaries: where a file goes depends on its path, so that a change of one file
//! changes one piece.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{Entry, Source, Tree};
use crate::image::Digest;

/// A piece that grows beyond this is split in two by the next bit of its paths' hashes: pieces have about 64 MiB.
const SPLIT: u64 = 96 << 20;
/// What an entry weighs besides its content: its header, and its share of padding.
const ENTRY: u64 = 1024;

/// What goes into one layer, in the order of writing.
pub(super) struct Chunk<'a> {
    pub entries: Vec<(&'a Path, &'a Entry)>,
}

impl Chunk<'_> {
    /// Bytes of content and headers, about.
    pub fn weight(&self) -> u64 {
        self.entries.iter().map(|(_, entry)| entry.size() + ENTRY).sum()
    }
}

/// Cuts a tree into at most `max_layers` pieces; a small tree is one.
///
/// Of several, the first has everything that is not a regular file: directories, links, whiteouts. A file larger than a
/// piece is a piece of its own. Hard links go with the file that they link to.
pub(super) fn split_into_chunks(tree: &Tree, max_layers: usize) -> Vec<Chunk<'_>> {
    cut_at(tree, max_layers, SPLIT)
}

fn cut_at(tree: &Tree, max_layers: usize, mut split: u64) -> Vec<Chunk<'_>> {
    if tree.is_empty() {
        return Vec::new();
    }
    let (frame, groups) = groups(tree);
    let total = groups.iter().map(|group| group.weight).sum::<u64>() + ENTRY * frame.len() as u64;
    loop {
        if total <= split {
            return vec![piece(tree.iter().map(|(path, entry)| (path.as_path(), entry)).collect())];
        }
        let mut parts = Vec::new();
        let (large, mut rest): (Vec<_>, Vec<_>) = groups.iter().partition(|group| group.weight > split);
        rest.sort_by_key(|group| group.hash);
        halve(&rest, 0, split, &mut parts);
        parts.extend(large.into_iter().map(|group| vec![group]));
        let pieces = parts.len() + usize::from(!frame.is_empty());
        if pieces <= max_layers.max(1) {
            let filled = parts.into_iter().map(|part| piece(part.iter().flat_map(|group| group.entries.iter().copied()).collect()));
            return Some(piece(frame)).filter(|piece| !piece.entries.is_empty()).into_iter().chain(filled).collect();
        }
        split = split.saturating_mul(2);
    }
}

/// A file with all hard links to it.
struct Group<'a> {
    hash: u64,
    weight: u64,
    entries: Vec<(&'a Path, &'a Entry)>,
}

/// Parts a tree into what is no regular file, and its files.
fn groups(tree: &Tree) -> (Vec<(&Path, &Entry)>, Vec<Group<'_>>) {
    let mut frame = Vec::new();
    let mut files: BTreeMap<&Path, Vec<(&Path, &Entry)>> = BTreeMap::new();
    for (path, entry) in tree {
        match &entry.source {
            Source::File(..) | Source::Bytes(_) => files.entry(path).or_default().push((path, entry)),
            Source::Hardlink(target) => files.entry(target).or_default().push((path, entry)),
            _ => frame.push((path.as_path(), entry)),
        }
    }
    let grouped = files
        .into_iter()
        .map(|(path, entries)| Group { hash: hash(path), weight: entries.iter().map(|(_, entry)| entry.size() + ENTRY).sum(), entries })
        .collect();
    (frame, grouped)
}

fn hash(path: &Path) -> u64 {
    let hex = Digest::of(path.as_os_str().as_bytes()).hex();
    u64::from_str_radix(&hex[..16], 16).expect("a digest has hex digits")
}

/// Splits groups, sorted by hash, by their next bit until no part is heavier than `split`.
fn halve<'a, 'b>(groups: &[&'b Group<'a>], bit: u32, split: u64, parts: &mut Vec<Vec<&'b Group<'a>>>) {
    let weight: u64 = groups.iter().map(|group| group.weight).sum();
    if groups.is_empty() {
        return;
    }
    if weight <= split || bit == u64::BITS {
        parts.push(groups.to_vec());
        return;
    }
    let (zeros, ones) = groups.split_at(groups.partition_point(|group| group.hash & (1 << (63 - bit)) == 0));
    halve(zeros, bit + 1, split, parts);
    halve(ones, bit + 1, split, parts);
}

/// Orders entries by path; a hard link to a later path waits until the end.
fn piece<'a>(mut entries: Vec<(&'a Path, &'a Entry)>) -> Chunk<'a> {
    entries.sort_by_key(|(path, entry)| {
        let early = matches!(&entry.source, Source::Hardlink(target) if target.as_path() > *path);
        (early, *path)
    });
    Chunk { entries }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn file(size: u64) -> Entry {
        Entry { source: Source::File("/dev/null".into(), size), mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
    }

    fn tree(count: usize, size: u64) -> Tree {
        let mut tree: Tree = (0..count).map(|number| (format!("bin/{number}").into(), file(size))).collect();
        tree.insert("bin".into(), Entry { source: Source::Directory, ..file(0) });
        tree
    }

    fn contents(pieces: &[Chunk]) -> Vec<Vec<(String, u64)>> {
        let list = |piece: &Chunk| piece.entries.iter().map(|(path, entry)| (path.display().to_string(), entry.size())).collect();
        pieces.iter().map(list).collect()
    }

    #[test]
    fn every_entry_is_in_one_piece_and_pieces_are_about_as_large() {
        let tree = tree(1000, 1 << 20);
        let pieces = split_into_chunks(&tree, 100);
        assert!((10..25).contains(&pieces.len()), "{}", pieces.len());
        assert!(pieces.iter().all(|piece| piece.weight() <= SPLIT));
        assert_eq!(pieces.iter().map(|piece| piece.entries.len()).sum::<usize>(), tree.len());
        assert_eq!(pieces[0].entries.len(), 1, "the first has the directory");
    }

    #[test]
    fn a_change_of_one_file_changes_one_piece_and_a_new_one_no_more_than_two() {
        let mut tree = tree(1000, 1 << 20);
        let before: BTreeSet<_> = contents(&split_into_chunks(&tree, 100)).into_iter().collect();
        tree.insert("bin/7".into(), file(1 << 18));
        let changed: BTreeSet<_> = contents(&split_into_chunks(&tree, 100)).into_iter().collect();
        assert_eq!(changed.difference(&before).count(), 1);
        tree.insert("bin/new".into(), file(1 << 20));
        let grown: BTreeSet<_> = contents(&split_into_chunks(&tree, 100)).into_iter().collect();
        assert!(grown.difference(&changed).count() <= 2);
    }

    #[test]
    fn pieces_grow_when_there_would_be_too_many() {
        let tree = tree(1000, 1 << 20);
        for max in [1, 2, 5] {
            assert!(split_into_chunks(&tree, max).len() <= max, "{max}");
        }
        assert!(split_into_chunks(&Tree::new(), 5).is_empty());
    }

    #[test]
    fn hard_links_stay_with_their_file_and_follow_it() {
        let mut tree = tree(300, 1 << 20);
        tree.insert("a-link".into(), Entry { source: Source::Hardlink("bin/5".into()), ..file(0) });
        for piece in split_into_chunks(&tree, 100) {
            let names: Vec<_> = piece.entries.iter().map(|(path, _)| path.display().to_string()).collect();
            let place = |name: &str| names.iter().position(|known| known == name);
            assert_eq!(place("a-link").is_some(), place("bin/5").is_some());
            assert!(place("a-link") >= place("bin/5"));
        }
    }

    #[test]
    fn a_huge_file_is_alone() {
        let mut tree = tree(10, 1 << 20);
        tree.insert("huge".into(), file(1 << 30));
        let pieces = split_into_chunks(&tree, 100);
        assert_eq!(pieces.iter().map(|piece| piece.entries.len()).collect::<Vec<_>>(), [1, 10, 1]);
    }
}
