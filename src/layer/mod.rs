//! Layers: directory trees to tar blobs and back.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use oci_spec::image::Descriptor;

use crate::events::Job;
use crate::image::Digest;
use crate::store::Store;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, for tools that read nothing else.
    Gzip,
    /// zstd.
    #[default]
    Zstd,
}

/// Where an entry's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory.
    Directory,
    /// A regular file on this machine, of this many bytes.
    File(PathBuf, u64),
    /// A regular file with these bytes.
    Bytes(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(PathBuf),
    /// A hard link to this path of the same tree.
    Hardlink(PathBuf),
    /// Removes what lower layers have under this path.
    Whiteout,
    /// A directory that hides what lower layers have inside it.
    OpaqueDirectory,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is and where its bytes are.
    pub source: Source,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time in seconds since 1970, before clamping.
    pub mtime: i64,
    /// Extended attributes that are kept (`security.capability`).
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// A tree to pack: path relative to the root (no leading `/`, no `..`) to entry. Sorted, as tar entries are.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// How to pack.
#[derive(Debug, Clone, Copy)]
pub struct PackOptions {
    /// The compression.
    pub compression: Compression,
    /// No mtime in the layer is later (seconds since 1970).
    pub newest_mtime: i64,
    /// At most this many layers.
    pub max_layers: usize,
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its descriptor: media type, digest, compressed size.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
}

/// Packs a tree into layers of about 64 MiB along stable boundaries, on all cores, streaming.
pub fn pack(tree: &Tree, options: &PackOptions, store: &Store, job: &Job) -> Result<Vec<Layer>> {
    unimplemented!("{} {options:?} {store:?} {}", tree.len(), job.jobs())
}

/// What lies below a directory, as entries that [`pack`] takes.
pub fn walk(root: &Path) -> Result<Tree> {
    unimplemented!("{root:?}")
}

/// What changed from `before` to `after` (by kind, mode, owner, size, mtime, link target): the entries of the layer that
/// turns one into the other, removals as whiteouts.
pub fn diff(before: &Tree, after: &Tree) -> Tree {
    unimplemented!("{} {}", before.len(), after.len())
}

/// How to unpack.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnpackOptions {
    /// Whether owners are set; only root can.
    pub owners: bool,
    /// At most this many uncompressed bytes, against decompression bombs; 0 is no limit.
    pub max_bytes: u64,
}

/// Applies one compressed layer onto the directory `root`. Never writes outside: `..`, absolute names, and ways out through
/// symbolic or hard links are refused with an error of kind `Verification`. Verifies `diff_id`.
pub fn unpack(layer: impl Read, compression: Compression, diff_id: &Digest, root: &Path, options: &UnpackOptions) -> Result<()> {
    let _ = layer;
    unimplemented!("{compression:?} {diff_id} {root:?} {options:?}")
}
