//! The build cache: what instructions came to in earlier builds, under the digest of everything that they depend on.
//!
//! It is the directory `build/` of a store. All of it may be deleted at any time.

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

/// The build cache of a store.
#[derive(Debug)]
pub struct InstructionCache {
    dir: PathBuf,
    /// The digests of the context's files.
    pub files: FileDigests,
    /// Instructions are not looked up, but remembered.
    write_only: bool,
}

/// What an instruction came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// Its layers.
    pub layers: Vec<RecordedLayer>,
    /// The newest modification time among the files that went in, seconds since 1970.
    pub newest: i64,
    /// For RUN and COPY --from: what changed in the rootfs; `None` is a removal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "super::path_encoding::keys")]
    pub changes: BTreeMap<PathBuf, Option<Entry>>,
    /// For RUN and COPY --from: files that may name container images, with the digests of their contents.
    #[serde(rename = "named", default, skip_serializing_if = "BTreeMap::is_empty", with = "super::path_encoding::keys")]
    pub image_sources: BTreeMap<PathBuf, Digest>,
}

impl Record {
    fn is_in(&self, store: &Store) -> bool {
        self.layers.iter().all(|layer| layer.is_in(store))
    }
}

/// A layer in the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedLayer {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// The chunk's cache key, if it is a chunk of a large tree.
    #[serde(rename = "piece", default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Digest>,
}

impl RecordedLayer {
    /// A layer; with a cache key if it is a chunk of a large tree.
    pub fn new(layer: &Layer, chunk: Option<Digest>) -> Self {
        RecordedLayer { descriptor: layer.descriptor.clone(), diff_id: layer.diff_id, chunk }
    }

    fn is_in(&self, store: &Store) -> bool {
        Blob::try_from(&self.descriptor).is_ok_and(|blob| store.has(&blob))
    }
}

impl From<RecordedLayer> for Layer {
    fn from(layer: RecordedLayer) -> Self {
        Layer { descriptor: layer.descriptor, diff_id: layer.diff_id }
    }
}

impl InstructionCache {
    /// Opens the build cache of a store. With `write_only` (`--no-cache`) instructions are not looked up.
    pub fn open(store: &Store, write_only: bool) -> Self {
        let dir = store.root().join("build");
        InstructionCache { files: FileDigests::open(&dir.join("files")), dir, write_only }
    }

    /// Whether instructions are not looked up (`--no-cache`).
    pub fn is_write_only(&self) -> bool {
        self.write_only
    }

    /// What the instruction with this key came to, if the store still has all of its layers.
    pub fn step(&self, key: &Digest, store: &Store) -> Option<Record> {
        let record: Record = self.read(&self.path("steps", key))?;
        record.is_in(store).then_some(record)
    }

    /// Remembers what an instruction came to.
    pub fn remember_step(&self, key: &Digest, record: &Record) -> Result<()> {
        write(&self.path("steps", key), record)
    }

    /// The layer of the chunk with this key, if the store still has it.
    pub fn chunk(&self, key: &Digest, store: &Store) -> Option<RecordedLayer> {
        self.read(&self.path("pieces", key)).filter(|layer: &RecordedLayer| layer.is_in(store))
    }

    /// Remembers the layer of a chunk.
    pub fn remember_chunk(&self, key: &Digest, layer: &RecordedLayer) -> Result<()> {
        write(&self.path("pieces", key), layer)
    }

    /// Whether a tree of this shape (all but its contents) was built before. If not, no key has to be looked up, so no file has to be
    /// read to compute one.
    pub fn has_shape(&self, shape: &Digest) -> bool {
        !self.write_only && self.path("shapes", shape).exists()
    }

    /// Remembers that a tree of this shape was built.
    pub fn remember_shape(&self, shape: &Digest) -> Result<()> {
        write(&self.path("shapes", shape), &())
    }

    /// The container images that a file with this content names. `read` reads it if that is not known.
    pub fn finds(&self, content: &Digest, kind: FileKind, read: impl FnOnce() -> Result<Vec<u8>>) -> Result<FoundImages> {
        let path = self.path("finds", &Digest::of(format!("{} 2 {kind:?} {content}", env!("CARGO_PKG_VERSION")).as_bytes()));
        // it depends on the content alone, so it is looked up with `--no-cache` too
        if let Some(finds) = read_json(&path) {
            return Ok(finds);
        }
        let finds = kind.read(&read()?);
        write(&path, &finds)?;
        Ok(finds)
    }

    /// What a chart renders to; `key` stands for everything that this depends on.
    pub fn chart<T: Serialize + DeserializeOwned>(&self, key: &Digest, render: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = self.path("charts", key);
        if let Some(known) = read_json(&path) {
            return Ok(known);
        }
        let rendered = render()?;
        write(&path, &rendered)?;
        Ok(rendered)
    }

    /// The paths of the rootfs with this manifest.
    pub fn view<T: DeserializeOwned>(&self, manifest: &Digest) -> Option<T> {
        read_json(&self.path("layouts", manifest))
    }

    /// Remembers the paths of a rootfs.
    pub fn remember_view(&self, manifest: &Digest, view: &impl Serialize) -> Result<()> {
        let path = self.path("layouts", manifest);
        if path.exists() { Ok(()) } else { write(&path, view) }
    }

    /// The descriptors of container images that earlier builds for this platform fetched.
    pub fn roots(&self, platform: &str) -> BTreeMap<Reference, Descriptor> {
        self.read(&self.roots_path(platform)).unwrap_or_default()
    }

    /// Remembers the descriptors of container images.
    pub fn remember_roots(&self, platform: &str, roots: &BTreeMap<Reference, Descriptor>) -> Result<()> {
        write(&self.roots_path(platform), roots)
    }

    fn roots_path(&self, platform: &str) -> PathBuf {
        self.dir.join("images").join(platform.replace('/', "-"))
    }

    fn path(&self, kind: &str, key: &Digest) -> PathBuf {
        self.dir.join(kind).join(key.hex())
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Option<T> {
        if self.write_only { None } else { read_json(path) }
    }
}

/// Whether a file of the cache is about blobs that the store no longer has.
pub fn is_stale(path: &Path, store: &Store) -> bool {
    let kind = path.parent().and_then(Path::file_name).unwrap_or_default();
    match kind.as_encoded_bytes() {
        b"steps" => !read_json::<Record>(path).is_some_and(|record| record.is_in(store)),
        b"pieces" => !read_json::<RecordedLayer>(path).is_some_and(|layer| layer.is_in(store)),
        b"layouts" => {
            let manifest = path.file_name().and_then(|hex| format!("sha256:{}", hex.to_str()?).parse().ok());
            manifest.is_none_or(|digest| store.size_of(&digest).is_none())
        }
        _ => false,
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    atomic_file::replace(path, 0o644, |out| Ok(serde_json::to_writer(out, value)?))
}
