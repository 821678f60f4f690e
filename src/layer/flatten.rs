//! Flattens the layers of an image into one tree: the files as they are after all layers, with modes and owners.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::decompress::Decompressed;
use super::file_reader::hidden_by;
use super::tar_reader::{Kind, TarEntry, TarReader, below};
use super::{CAPABILITY, Entry, Layer, Source, Tree, compression_of};
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, Digest, Hasher};
use crate::store::Store;

/// The entries for which `select` is true, as they are after all layers (lowest first); links are not followed.
///
/// The layers are read twice: first for the names, then those that have selected files for their bytes, which go into the
/// directory `spool`. Every layer is verified. Devices, pipes and sockets are left out.
pub fn flatten(store: &Store, layers: &[Layer], select: impl Fn(&Path) -> bool, spool: &Path, ctx: &Context) -> Result<Tree> {
    let (mut tree, contents) = LayerTree::read(store, layers, ctx, || {})?.select(select);
    for (number, contents) in contents {
        ctx.check()?;
        each_member(store, &layers[number], |member, at, members| {
            let Some(path) = contents.get(&at) else { return Ok(()) };
            let entry = tree.get_mut(path).context("a selected file is missing in the tree")?;
            entry.source = spooled(member, members, spool)?;
            Ok(())
        })?;
    }
    Ok(tree)
}

/// The entries after all layers (lowest first), without the bytes of files: their paths on this machine are empty. `done` is called
/// after each layer. Every layer is verified.
pub fn tree_of(store: &Store, layers: &[Layer], ctx: &Context, done: impl FnMut()) -> Result<Tree> {
    Ok(LayerTree::read(store, layers, ctx, done)?.select(|_| true).0)
}

/// As [`tree_of`], with whiteouts for what the layers remove from those below them.
pub fn changes(store: &Store, layers: &[Layer], ctx: &Context) -> Result<Tree> {
    let mut all = LayerTree::read(store, layers, ctx, || {})?;
    let removed = std::mem::take(&mut all.removed);
    let mut tree = all.select(|_| true).0;
    for path in removed {
        let gone = Entry { source: Source::Whiteout, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };
        tree.entry(path).or_insert(gone);
    }
    Ok(tree)
}

/// The entries after all layers (lowest first), by path, with the digests of files. Every layer is verified.
pub fn list_files(store: &Store, layers: &[Layer], ctx: &Context) -> Result<BTreeMap<PathBuf, ListedEntry>> {
    let mut digests: HashMap<Content, Digest> = HashMap::new();
    let mut all = LayerTree::default();
    for (number, layer) in layers.iter().enumerate() {
        ctx.check()?;
        each_member(store, layer, |member, at, content| {
            if member.kind == Kind::File {
                let mut hasher = Hasher::new(std::io::sink());
                std::io::copy(content, &mut hasher)?;
                digests.insert((number, at), hasher.finish().0.digest);
            }
            all.add(member, (number, at))
        })?;
        all.finish_layer();
    }
    let list =
        |listed: Listed| ListedEntry { digest: listed.content.and_then(|content| digests.get(&content).copied()), entry: listed.entry };
    Ok(all.older.into_iter().map(|(path, listed)| (path, list(listed))).collect())
}

/// What an image has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// Its type, mode and owner; a file's path on this machine is empty.
    pub entry: Entry,
    /// The digest of a file's bytes.
    pub digest: Option<Digest>,
}

/// Where a file's bytes are: the layer's number, and the member's in it.
type Content = (usize, usize);
/// The files whose bytes are needed: by layer, by member.
type Contents = BTreeMap<usize, HashMap<usize, PathBuf>>;

/// Several layers on top of each other.
#[derive(Default)]
struct LayerTree {
    older: BTreeMap<PathBuf, Listed>,
    /// Entries of the layer that is being read: its whiteouts hide only what is older.
    newer: BTreeMap<PathBuf, Listed>,
    /// The whiteouts of all layers.
    removed: Vec<PathBuf>,
}

#[derive(Clone)]
struct Listed {
    entry: Entry,
    content: Option<Content>,
}

impl LayerTree {
    fn read(store: &Store, layers: &[Layer], ctx: &Context, mut done: impl FnMut()) -> Result<Self> {
        let mut all = LayerTree::default();
        for (number, layer) in layers.iter().enumerate() {
            ctx.check()?;
            each_member(store, layer, |member, at, _| all.add(member, (number, at)))?;
            all.finish_layer();
            done();
        }
        Ok(all)
    }

    fn add(&mut self, member: &TarEntry, content: Content) -> Result<()> {
        if member.path.as_os_str().is_empty() {
            return Ok(());
        }
        if let Some(hidden) = hidden_by(&member.path) {
            remove(&mut self.older, hidden.root(), |path| hidden.covers(path));
            if hidden.covers(hidden.root()) {
                self.removed.push(hidden.root().to_owned());
            }
            return Ok(());
        }
        let (source, content) = match member.kind {
            Kind::Directory => (Source::Directory, None),
            Kind::Symlink => (Source::Symlink(member.link.clone()), None),
            Kind::File => (Source::File(PathBuf::new(), member.size), Some(content)),
            Kind::Hardlink => {
                let first = below(&member.link)?;
                let listed = self.newer.get(&first).or_else(|| self.older.get(&first)).cloned().with_context(|| {
                    Failure::verification(format!(
                        "{}: the hard link's target `{}` does not exist",
                        member.path.display(),
                        member.link.display()
                    ))
                })?;
                self.put(&member.path, listed);
                return Ok(());
            }
            Kind::Char | Kind::Block | Kind::Fifo => return Ok(()),
        };
        let capability = member.xattrs.get(CAPABILITY).map(|value| (CAPABILITY.to_owned(), value.clone()));
        let TarEntry { mode, uid, gid, mtime, .. } = *member;
        let entry = Entry { source, mode, uid, gid, mtime, xattrs: capability.into_iter().collect() };
        self.put(&member.path, Listed { entry, content });
        Ok(())
    }

    fn put(&mut self, path: &Path, listed: Listed) {
        let stays = listed.entry.source == Source::Directory;
        for known in [&mut self.older, &mut self.newer] {
            remove(known, path, |below| !stays || below == path);
        }
        self.newer.insert(path.to_owned(), listed);
    }

    fn finish_layer(&mut self) {
        self.older.append(&mut self.newer);
    }

    /// The selected entries, and where the bytes of their files are. Further names of a file become hard links.
    fn select(self, select: impl Fn(&Path) -> bool) -> (Tree, Contents) {
        let (mut tree, mut contents) = (Tree::new(), Contents::new());
        for (path, Listed { mut entry, content }) in self.older.into_iter().filter(|(path, _)| select(path)) {
            if let Some((layer, member)) = content {
                let first = contents.entry(layer).or_default().entry(member).or_insert_with(|| path.clone());
                if *first != path {
                    entry.source = Source::Hardlink(first.clone());
                }
            }
            tree.insert(path, entry);
        }
        (tree, contents)
    }
}

/// Removes what lies at or below `root` and is `covered`.
fn remove(known: &mut BTreeMap<PathBuf, Listed>, root: &Path, covered: impl Fn(&Path) -> bool) {
    let below = known.range(root.to_owned()..).map(|(path, _)| path).take_while(|path| path.starts_with(root));
    let gone: Vec<PathBuf> = below.filter(|path| covered(path)).cloned().collect();
    for path in gone {
        known.remove(&path);
    }
}

/// Reads a layer member by member, each with its number and content; verified at the end.
pub(crate) fn each_member<F>(store: &Store, layer: &Layer, mut each: F) -> Result<()>
where
    F: FnMut(&TarEntry, usize, &mut dyn Read) -> Result<()>,
{
    let digest = layer.descriptor.digest();
    let reader = store.reader(&Blob::try_from(&layer.descriptor)?)?;
    let mut decoded =
        Decompressed::new(reader, compression_of(layer.descriptor.media_type())?, 0).with_context(|| format!("layer {digest}"))?;
    let mut members = TarReader::new(&mut decoded);
    let mut number = 0;
    while let Some(member) = members.next().with_context(|| format!("layer {digest}"))? {
        each(&member, number, &mut members).with_context(|| format!("{} in layer {digest}", member.path.display()))?;
        number += 1;
    }
    drop(members);
    decoded.verify(&layer.diff_id).with_context(|| format!("layer {digest}"))
}

fn spooled(member: &TarEntry, content: &mut dyn Read, spool: &Path) -> Result<Source> {
    let (mut file, path) = tempfile::Builder::new().prefix("file-").tempfile_in(spool)?.keep()?;
    std::io::copy(content, &mut file)?;
    Ok(Source::File(path, member.size))
}
