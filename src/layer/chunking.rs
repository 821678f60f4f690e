//! Splits a tree into chunks, each of which becomes a layer. A file's chunk depends on its path only, so that a change of
//! one file changes one layer.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{Entry, Source, Tree};
use crate::image::Digest;

/// Larger chunks are split in two by the next bit of their paths' hashes: on average chunks have about 64 MiB.
const MAX_CHUNK: u64 = 96 << 20;
/// Bytes of an entry besides its content: its header, and padding on average.
const ENTRY_OVERHEAD: u64 = 1024;

/// The entries of one layer, in the order in which they are written.
pub(super) struct Chunk<'a> {
    pub entries: Vec<(&'a Path, &'a Entry)>,
}

impl Chunk<'_> {
    /// Its approximate size in bytes: content and headers.
    pub fn weight(&self) -> u64 {
        self.entries.iter().map(|(_, entry)| entry.size() + ENTRY_OVERHEAD).sum()
    }
}

/// Splits a tree into at most `max_layers` chunks; a small tree is one chunk.
///
/// The first of several chunks has everything that is not a regular file: directories, links, whiteouts. A file larger
/// than a chunk is a chunk of its own. Hard links are in the chunk of the file that they link to.
pub(super) fn split_into_chunks(tree: &Tree, max_layers: usize) -> Vec<Chunk<'_>> {
    split_by_size(tree, max_layers, MAX_CHUNK)
}

fn split_by_size(tree: &Tree, max_layers: usize, mut max_chunk: u64) -> Vec<Chunk<'_>> {
    if tree.is_empty() {
        return Vec::new();
    }
    let (others, groups) = groups(tree);
    let total = groups.iter().map(|group| group.weight).sum::<u64>() + ENTRY_OVERHEAD * others.len() as u64;
    loop {
        if total <= max_chunk {
            return vec![sorted_chunk(tree.iter().map(|(path, entry)| (path.as_path(), entry)).collect())];
        }
        let mut parts = Vec::new();
        let (large, mut rest): (Vec<_>, Vec<_>) = groups.iter().partition(|group| group.weight > max_chunk);
        rest.sort_by_key(|group| group.hash);
        split_by_hash(&rest, 0, max_chunk, &mut parts);
        parts.extend(large.into_iter().map(|group| vec![group]));
        let chunks = parts.len() + usize::from(!others.is_empty());
        if chunks <= max_layers.max(1) {
            let filled = parts.into_iter().map(|part| sorted_chunk(part.iter().flat_map(|group| group.entries.iter().copied()).collect()));
            return Some(sorted_chunk(others)).filter(|chunk| !chunk.entries.is_empty()).into_iter().chain(filled).collect();
        }
        max_chunk = max_chunk.saturating_mul(2);
    }
}

/// A file with all hard links to it.
struct Group<'a> {
    hash: u64,
    weight: u64,
    entries: Vec<(&'a Path, &'a Entry)>,
}

/// Separates a tree into entries that are not regular files, and its files with their hard links.
fn groups(tree: &Tree) -> (Vec<(&Path, &Entry)>, Vec<Group<'_>>) {
    let mut others = Vec::new();
    let mut files: BTreeMap<&Path, Vec<(&Path, &Entry)>> = BTreeMap::new();
    for (path, entry) in tree {
        match &entry.source {
            Source::File(..) | Source::Bytes(_) => files.entry(path).or_default().push((path, entry)),
            Source::Hardlink(target) => files.entry(target).or_default().push((path, entry)),
            _ => others.push((path.as_path(), entry)),
        }
    }
    let grouped = files
        .into_iter()
        .map(|(path, entries)| Group {
            hash: hash(path),
            weight: entries.iter().map(|(_, entry)| entry.size() + ENTRY_OVERHEAD).sum(),
            entries,
        })
        .collect();
    (others, grouped)
}

fn hash(path: &Path) -> u64 {
    let hex = Digest::of(path.as_os_str().as_bytes()).hex();
    u64::from_str_radix(&hex[..16], 16).expect("a digest has hex digits")
}

/// Splits groups, sorted by hash, by their next bit until no part is larger than `max_chunk` bytes.
fn split_by_hash<'a, 'b>(groups: &[&'b Group<'a>], bit: u32, max_chunk: u64, parts: &mut Vec<Vec<&'b Group<'a>>>) {
    let weight: u64 = groups.iter().map(|group| group.weight).sum();
    if groups.is_empty() {
        return;
    }
    if weight <= max_chunk || bit == u64::BITS {
        parts.push(groups.to_vec());
        return;
    }
    let (zeros, ones) = groups.split_at(groups.partition_point(|group| group.hash & (1 << (63 - bit)) == 0));
    split_by_hash(zeros, bit + 1, max_chunk, parts);
    split_by_hash(ones, bit + 1, max_chunk, parts);
}

/// Sorts entries by path; a hard link to a later path comes at the end, after its target.
fn sorted_chunk<'a>(mut entries: Vec<(&'a Path, &'a Entry)>) -> Chunk<'a> {
    entries.sort_by_key(|(path, entry)| {
        let late = matches!(&entry.source, Source::Hardlink(target) if target.as_path() > *path);
        (late, *path)
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

    fn contents(chunks: &[Chunk]) -> Vec<Vec<(String, u64)>> {
        let list = |chunk: &Chunk| chunk.entries.iter().map(|(path, entry)| (path.display().to_string(), entry.size())).collect();
        chunks.iter().map(list).collect()
    }

    #[test]
    fn every_entry_is_in_one_chunk_and_chunks_have_similar_sizes() {
        let tree = tree(1000, 1 << 20);
        let chunks = split_into_chunks(&tree, 100);
        assert!((10..25).contains(&chunks.len()), "{}", chunks.len());
        assert!(chunks.iter().all(|chunk| chunk.weight() <= MAX_CHUNK));
        assert_eq!(chunks.iter().map(|chunk| chunk.entries.len()).sum::<usize>(), tree.len());
        assert_eq!(chunks[0].entries.len(), 1, "the first has the directory");
    }

    #[test]
    fn a_change_of_one_file_changes_one_chunk_and_a_new_file_at_most_two() {
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
    fn chunks_grow_beyond_the_usual_size_to_stay_within_max_layers() {
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
        for chunk in split_into_chunks(&tree, 100) {
            let names: Vec<_> = chunk.entries.iter().map(|(path, _)| path.display().to_string()).collect();
            let place = |name: &str| names.iter().position(|known| known == name);
            assert_eq!(place("a-link").is_some(), place("bin/5").is_some());
            assert!(place("a-link") >= place("bin/5"));
        }
    }

    #[test]
    fn a_huge_file_is_alone() {
        let mut tree = tree(10, 1 << 20);
        tree.insert("huge".into(), file(1 << 30));
        let chunks = split_into_chunks(&tree, 100);
        assert_eq!(chunks.iter().map(|chunk| chunk.entries.len()).collect::<Vec<_>>(), [1, 10, 1]);
    }
}
