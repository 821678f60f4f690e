//! Layers: directory trees to tar blobs and back.
//!
//! The same tree gives the same bytes on any machine and with any number of threads: entries are sorted, times clamped,
//! pieces cut by the hash of paths, compressors run with fixed parameters. Layers from elsewhere are taken apart with
//! suspicion: nothing is written outside the root that was given, and bytes must be what their digests say (errors of kind
//! `Verification`).

mod chunking;
mod compress;
mod decompress;
mod diff;
mod extract;
mod file_reader;
mod flatten;
mod pack;
mod rootdir;
mod symlink_resolver;
mod tar_reader;
mod tar_writer;
mod unpack;
mod verify;
mod verify_image;
mod walk;

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::image::Descriptor;

use crate::image::Digest;

pub use compress::{Compression, compression_of};
pub use diff::diff;
pub use file_reader::read_files;
pub(crate) use flatten::each_member;
pub use flatten::{Listing, changes, flatten, listing, outline};
pub use pack::{Memory, PackOptions, pack, pack_anew};
pub(crate) use tar_reader::TarReader;
pub use unpack::{UnpackOptions, diff_ids, layers_of, sync, unpack, unpack_blob, unpack_image};
pub use verify::{LayerVerification, check_layers};
pub use verify_image::{check_manifest, check_members, check_workloads, is_image};
pub use walk::{Snapshot, snapshot, walk};

/// Another number whenever the same tree comes to other bytes than before.
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
    /// The bytes of its content.
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
