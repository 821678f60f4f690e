//! Layers: directory trees to tar blobs and back.
//!
//! Packing is reproducible: the same tree gives the same bytes on any machine and with any number of threads. Entries are
//! sorted, times clamped, trees split into chunks by the hash of paths, and compressors run with fixed parameters.
//! Unpacking trusts nothing: no path leads out of the root directory, and all bytes must match their digests (errors of
//! kind `Verification`).

mod archive_compression;
mod chunking;
mod compress;
mod confined_root;
mod decompress;
mod diff;
mod extract;
mod file_reader;
mod flatten;
mod older_tree;
mod pack;
mod symlink_resolver;
mod tar_reader;
mod tar_writer;
mod unpack;
mod verify_layers;
mod verify_manifests;
mod walk;

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::image::Descriptor;

use crate::image::Digest;

pub use archive_compression::decompressed_archive;
pub use compress::{Compression, compression_of};
pub use diff::diff;
pub use file_reader::{digest_files, read_files};
pub(crate) use flatten::each_member;
pub use flatten::{ListedEntry, changes, flatten, list_files, tree_of};
pub use older_tree::{OlderTree, UnpackedLayers, unpack_with};
pub use pack::{ChunkCache, PackOptions, pack, pack_cached};
pub(crate) use tar_reader::{Kind as EntryKind, TarReader};
pub use unpack::{UnpackOptions, diff_ids, layers_of, sync, unpack, unpack_blob, unpack_image};
pub use verify_layers::{LayerVerification, check_layers};
pub use verify_manifests::{check_manifest, check_members, check_workloads, is_image};
pub use walk::{Snapshot, snapshot, walk};

/// The version of the layer format; raised whenever the same tree packs to other bytes than before. Part of cache keys.
pub const FORMAT: u32 = 3;

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

impl Entry {
    /// The size of its content in bytes; 0 unless it is a regular file.
    pub fn size(&self) -> u64 {
        match &self.source {
            Source::File(_, size) => *size,
            Source::Bytes(bytes) => bytes.len() as u64,
            _ => 0,
        }
    }
}

/// A tree to pack: path relative to the root (no leading `/`, no `..`) to entry. Sorted, as tar entries are.
pub type Tree = BTreeMap<PathBuf, Entry>;

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its descriptor: media type, digest, compressed size.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
}

/// The one extended attribute that layers keep.
const CAPABILITY: &str = "security.capability";
/// The prefix of whiteouts (OCI image-spec, layers).
const WHITEOUT: &str = ".wh.";
/// The name of the entry that makes its directory opaque.
const OPAQUE: &str = ".wh..wh..opq";

#[cfg(test)]
mod tests;
