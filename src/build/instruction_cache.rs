//! What instructions came to in earlier builds, under the digest of all that they depend on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use oci_spec::image::Descriptor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::file_digests::FileDigests;
use super::rootfs_view::Entry;
use crate::atomic_file;
use crate::image::{Blob, Digest, Reference};
use crate::layer::Layer;
use crate::store::Store;
use crate::workloads::{FileKind, FoundImages};

/// The memory of builds in a store: in its `build/` directory, safe to delete.
#[derive(Debug)]
pub struct InstructionCache {
    dir: PathBuf,
    /// Digests of files.
    pub files: FileDigests,
    /// Nothing is looked up, all is remembered.
    write_only: bool,
}

/// What an instruction came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// Its layers.
    pub layers: Vec<RecordedLayer>,
    /// The newest time among the files that went in, seconds since 1970.
    pub newest: i64,
    /// For RUN: what it changed in the rootfs, `None` is a removal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "super::json_paths::keys")]
    pub changes: BTreeMap<PathBuf, Option<Entry>>,
    /// For RUN: files that may name container images, with the digests of their contents.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "super::json_paths::keys")]
    pub named: BTreeMap<PathBuf, Digest>,
}

impl Record {
    fn is_here(&self, store: &Store) -> bool {
        self.layers.iter().all(|layer| layer.is_here(store))
    }
}

/// A layer as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedLayer {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// What it is known by in images, if it is a piece of a tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piece: Option<Digest>,
}

impl RecordedLayer {
    /// A layer, which may be a piece of a tree.
    pub fn of(layer: &Layer, piece: Option<Digest>) -> Self {
        RecordedLayer { descriptor: layer.descriptor.clone(), diff_id: layer.diff_id, piece }
    }

    fn is_here(&self, store: &Store) -> bool {
        Blob::try_from(&self.descriptor).is_ok_and(|blob| store.has(&blob))
    }
}

impl From<RecordedLayer> for Layer {
    fn from(layer: RecordedLayer) -> Self {
        Layer { descriptor: layer.descriptor, diff_id: layer.diff_id }
    }
}

impl InstructionCache {
    /// Opens the memory in a store's directory.
    pub fn open(store: &Store, write_only: bool) -> Self {
        let dir = store.root().join("build");
        InstructionCache { files: FileDigests::open(&dir.join("files")), dir, write_only }
    }

    /// Whether nothing is looked up (`--no-cache`).
    pub fn is_write_only(&self) -> bool {
        self.write_only
    }

    /// What the instruction with this key came to, if all its layers are still here.
    pub fn step(&self, key: &Digest, store: &Store) -> Option<Record> {
        let record: Record = self.read(&self.place("steps", key))?;
        record.is_here(store).then_some(record)
    }

    /// Remembers what an instruction came to.
    pub fn remember_step(&self, key: &Digest, record: &Record) -> Result<()> {
        write(&self.place("steps", key), record)
    }

    /// What a piece of a tree came to, if its layer is still here.
    pub fn piece(&self, key: &Digest, store: &Store) -> Option<RecordedLayer> {
        self.read(&self.place("pieces", key)).filter(|layer: &RecordedLayer| layer.is_here(store))
    }

    /// Remembers what a piece of a tree came to.
    pub fn remember_piece(&self, key: &Digest, layer: &RecordedLayer) -> Result<()> {
        write(&self.place("pieces", key), layer)
    }

    /// Whether something of this shape was made before: if not, there is nothing to look up, and no content need be read for it.
    pub fn saw(&self, shape: &Digest) -> bool {
        !self.write_only && self.place("shapes", shape).exists()
    }

    /// Remembers that something of this shape was made.
    pub fn remember_shape(&self, shape: &Digest) -> Result<()> {
        write(&self.place("shapes", shape), &())
    }

    /// What a file with this content names.
    pub fn finds(&self, content: &Digest, kind: FileKind, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<FoundImages> {
        let place = self.place("finds", &Digest::of(format!("{} 2 {kind:?} {content}", env!("CARGO_PKG_VERSION")).as_bytes()));
        // what content says is the same in every build
        if let Some(finds) = read_json(&place) {
            return Ok(finds);
        }
        let finds = kind.read(&read()?);
        write(&place, &finds)?;
        Ok(finds)
    }

    /// What a chart asks for; the key says all that it depends on.
    pub fn chart<T: Serialize + DeserializeOwned>(&self, key: &Digest, render: impl FnOnce() -> Result<T>) -> Result<T> {
        let place = self.place("charts", key);
        if let Some(known) = read_json(&place) {
            return Ok(known);
        }
        let rendered = render()?;
        write(&place, &rendered)?;
        Ok(rendered)
    }

    /// The paths of the rootfs with this manifest.
    pub fn layout<T: DeserializeOwned>(&self, manifest: &Digest) -> Option<T> {
        read_json(&self.place("layouts", manifest))
    }

    /// Remembers the paths of a rootfs, which are always the same for one manifest.
    pub fn remember_layout(&self, manifest: &Digest, layout: &impl Serialize) -> Result<()> {
        let place = self.place("layouts", manifest);
        if place.exists() { Ok(()) } else { write(&place, layout) }
    }

    /// The roots of container images that earlier builds for this platform fetched.
    pub fn roots(&self, platform: &str) -> BTreeMap<Reference, Descriptor> {
        self.read(&self.roots_place(platform)).unwrap_or_default()
    }

    /// Remembers the roots of container images.
    pub fn remember_roots(&self, platform: &str, roots: &BTreeMap<Reference, Descriptor>) -> Result<()> {
        write(&self.roots_place(platform), roots)
    }

    fn roots_place(&self, platform: &str) -> PathBuf {
        self.dir.join("images").join(platform.replace('/', "-"))
    }

    fn place(&self, kind: &str, key: &Digest) -> PathBuf {
        self.dir.join(kind).join(key.hex())
    }

    fn read<T: DeserializeOwned>(&self, place: &Path) -> Option<T> {
        if self.write_only { None } else { read_json(place) }
    }
}

/// Whether a file of the memory speaks of blobs that the store no longer has.
pub fn is_stale(path: &Path, store: &Store) -> bool {
    let kind = path.parent().and_then(Path::file_name).unwrap_or_default();
    match kind.as_encoded_bytes() {
        b"steps" => !read_json::<Record>(path).is_some_and(|record| record.is_here(store)),
        b"pieces" => !read_json::<RecordedLayer>(path).is_some_and(|layer| layer.is_here(store)),
        b"layouts" => {
            let manifest = path.file_name().and_then(|hex| format!("sha256:{}", hex.to_str()?).parse().ok());
            manifest.is_none_or(|digest| store.size_of(&digest).is_none())
        }
        _ => false,
    }
}

fn read_json<T: DeserializeOwned>(place: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(place).ok()?).ok()
}

fn write(place: &Path, value: &impl Serialize) -> Result<()> {
    atomic_file::replace(place, 0o644, |out| Ok(serde_json::to_writer(out, value)?))
}
