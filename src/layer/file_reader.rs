//! Reads single files out of an image, as they are after all layers.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageManifest};

use super::decompress::Decompressed;
use super::tar_reader::{Kind, TarEntry, TarReader, below};
use super::{OPAQUE, WHITEOUT, compression_of, diff_ids};
use crate::error::Failure;
use crate::image::{Blob, Digest, Hasher};
use crate::store::Store;

/// Files that are read whole are at most this many bytes.
const MAX_FILE: u64 = 16 << 20;

/// The content of the files for which `select` is true, after all layers: what upper layers replace or remove is gone.
/// Every layer is verified on the way. Files of more than 16 MiB are refused; links are not followed.
pub fn read_files(store: &Store, manifest: &ImageManifest, select: impl Fn(&Path) -> bool) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    select_files(store, manifest, select, content)
}

/// The digests of the files for which `select` is true, after all layers; otherwise as [`read_files`], for files of any size.
pub fn digest_files(store: &Store, manifest: &ImageManifest, select: impl Fn(&Path) -> bool) -> Result<BTreeMap<PathBuf, Digest>> {
    select_files(store, manifest, select, |_, content| {
        let mut hasher = Hasher::new(std::io::sink());
        std::io::copy(content, &mut hasher)?;
        Ok(hasher.finish().0.digest)
    })
}

/// The files for which `select` is true, after all layers, each as `read` makes it of its content.
fn select_files<T: Clone>(
    store: &Store,
    manifest: &ImageManifest,
    select: impl Fn(&Path) -> bool,
    read: impl Fn(&TarEntry, &mut dyn Read) -> Result<T>,
) -> Result<BTreeMap<PathBuf, T>> {
    let mut files = BTreeMap::new();
    for (layer, diff_id) in manifest.layers().iter().zip(diff_ids(store, manifest)?) {
        apply(store, layer, &diff_id, &select, &read, &mut files).with_context(|| format!("layer {}", layer.digest()))?;
    }
    Ok(files)
}

type Files<T> = BTreeMap<PathBuf, T>;

fn apply<T: Clone>(
    store: &Store,
    layer: &Descriptor,
    diff_id: &Digest,
    select: &impl Fn(&Path) -> bool,
    read: &impl Fn(&TarEntry, &mut dyn Read) -> Result<T>,
    files: &mut Files<T>,
) -> Result<()> {
    let reader = store.reader(&Blob::try_from(layer)?)?;
    let mut decoded = Decompressed::new(reader, compression_of(layer.media_type())?, 0)?;
    let mut members = TarReader::new(&mut decoded);
    let mut written = Files::new();
    while let Some(member) = members.next()? {
        if let Some(hidden) = hidden_by(&member.path) {
            files.retain(|path, _| !hidden.covers(path));
            continue;
        }
        remove_entry(&member, &mut written);
        remove_entry(&member, files);
        let content = match member.kind {
            Kind::File if select(&member.path) => read(&member, &mut members)?,
            Kind::Hardlink if select(&member.path) => {
                let target = below(&member.link)?;
                match written.get(&target).or_else(|| files.get(&target)) {
                    Some(content) => content.clone(),
                    None => continue,
                }
            }
            _ => continue,
        };
        written.insert(member.path, content);
    }
    drop(members);
    decoded.verify(diff_id)?;
    files.append(&mut written);
    Ok(())
}

fn content(member: &TarEntry, members: &mut dyn Read) -> Result<Vec<u8>> {
    ensure!(member.size <= MAX_FILE, Failure::failed(format!("{} is larger than the limit of 16 MiB", member.path.display())));
    let mut content = Vec::new();
    members.read_to_end(&mut content)?;
    Ok(content)
}

/// Drops what a member replaces: the path itself, and what lies below unless a directory stays one.
fn remove_entry<T>(member: &TarEntry, files: &mut Files<T>) {
    if member.kind == Kind::Directory {
        files.remove(&member.path);
    } else {
        files.retain(|path, _| !path.starts_with(&member.path));
    }
}

/// What a whiteout hides in older layers.
pub(super) enum Hidden {
    Tree(PathBuf),
    Inside(PathBuf),
}

impl Hidden {
    /// The path at or below which all hidden paths are.
    pub fn root(&self) -> &Path {
        match self {
            Hidden::Tree(root) | Hidden::Inside(root) => root,
        }
    }

    /// Whether it hides `path` of an older layer.
    pub fn covers(&self, path: &Path) -> bool {
        match self {
            Hidden::Tree(tree) => path.starts_with(tree),
            Hidden::Inside(directory) => path.starts_with(directory) && path != directory,
        }
    }
}

/// What a whiteout with this path hides; none if the path is not a whiteout.
pub(super) fn hidden_by(path: &Path) -> Option<Hidden> {
    let name = path.file_name()?;
    if name == OPAQUE {
        return Some(Hidden::Inside(path.parent()?.to_owned()));
    }
    let hidden = name.as_bytes().strip_prefix(WHITEOUT.as_bytes())?;
    Some(Hidden::Tree(path.with_file_name(std::ffi::OsStr::from_bytes(hidden))))
}
