//! Unpacks layers and whole images onto a directory.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest};

use super::confined_root::RootDir;
use super::decompress::Decompressed;
use super::extract::extract;
use super::older_tree::{OlderLayer, UnpackedMember};
use super::{Compression, Layer, compression_of};
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{Algorithm, Blob, Digest};
use crate::store::{BlobReader, Store};

/// How to unpack.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnpackOptions {
    /// Whether owners are set; only root can.
    pub owners: bool,
    /// At most this many uncompressed bytes, against decompression bombs; 0 is no limit.
    pub max_bytes: u64,
}

/// Applies one compressed layer onto the directory `root`. Never writes outside: `..`, absolute names, and names that lead out through
/// symbolic or hard links are refused with an error of kind `Verification`. Verifies `diff_id`.
///
/// After an error the directory has part of the layer. Nothing is synced: [`sync`] does that once for all layers.
pub fn unpack(layer: impl Read, compression: Compression, diff_id: &Digest, root: &Path, options: &UnpackOptions) -> Result<()> {
    let root = RootDir::open(root)?;
    let mut decoded = Decompressed::new(layer, compression, options.max_bytes)?;
    extract(&mut decoded, &root, None, options)?;
    decoded.verify(diff_id)
}

/// Applies a layer of the store onto the directory `root`; like [`unpack`], with errors that name the blob.
///
/// Gives the number of uncompressed bytes.
pub fn unpack_blob(store: &Store, layer: &Descriptor, diff_id: &Digest, root: &Path, options: &UnpackOptions) -> Result<u64> {
    unpack_recorded(store, layer, diff_id, root, None, options).map(|(count, _)| count)
}

/// As [`unpack_blob`], with files that an older tree has unchanged as hard links to those. Gives the layer's members too.
pub(super) fn unpack_recorded(
    store: &Store,
    layer: &Descriptor,
    diff_id: &Digest,
    root: &Path,
    older: Option<&OlderLayer<'_>>,
    options: &UnpackOptions,
) -> Result<(u64, Vec<UnpackedMember>)> {
    let blob = Blob::try_from(layer)?;
    let root = RootDir::open(root)?;
    let mut reader = store.reader(&blob)?;
    apply(&mut reader, layer, diff_id, |tar| extract(tar, &root, older, options), options.max_bytes)
        // bytes that are damaged fail somewhere in the decoder; that the blob is damaged is the better answer
        .or_else(|error| io::copy(&mut reader, &mut io::sink()).map_or_else(|damaged| Err(damaged.into()), |_| Err(error)))
        .with_context(|| format!("layer {}", blob.digest))
}

fn apply<T>(
    reader: &mut BlobReader,
    layer: &Descriptor,
    diff_id: &Digest,
    extract: impl FnOnce(&mut Chunks) -> Result<T>,
    max_bytes: u64,
) -> Result<(u64, T)> {
    let decoded = Decompressed::new(reader, compression_of(layer.media_type())?, max_bytes)?;
    let (decoded, extracted) = ahead(decoded, extract)?;
    let count = decoded.count();
    decoded.verify(diff_id)?;
    Ok((count, extracted))
}

/// Reads on one thread, ahead of `work` on this one. Gives the reader back, read as far as `work` read.
fn ahead<R: Read + Send, T>(mut reader: R, work: impl FnOnce(&mut Chunks) -> Result<T>) -> Result<(R, T)> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(8);
        let thread = scope.spawn(move || {
            loop {
                let mut chunk = vec![0; 256 << 10];
                let read = reader.read(&mut chunk).map(|count| {
                    chunk.truncate(count);
                    chunk
                });
                let last = read.as_ref().map_or(true, Vec::is_empty);
                if sender.send(read).is_err() || last {
                    return reader;
                }
            }
        });
        let mut chunks = Chunks { receiver, current: io::Cursor::new(Vec::new()) };
        let result = work(&mut chunks);
        drop(chunks);
        let reader = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.map(|worked| (reader, worked))
    })
}

/// What another thread reads.
struct Chunks {
    receiver: Receiver<io::Result<Vec<u8>>>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            match self.receiver.recv() {
                Ok(chunk) => self.current = io::Cursor::new(chunk?),
                Err(_) => return Ok(0),
            }
            if self.current.get_ref().is_empty() {
                return Ok(0);
            }
        }
    }
}

/// Applies all layers of an image's manifest onto the directory `root`, in order, verified; and syncs them once.
pub fn unpack_image(store: &Store, manifest: &ImageManifest, root: &Path, options: &UnpackOptions, ctx: &Context) -> Result<()> {
    let diff_ids = diff_ids(store, manifest)?;
    let total = manifest.layers().iter().map(Descriptor::size).sum();
    let task = ctx.task(format!("unpack {} layers", diff_ids.len()), Some(total), Unit::Bytes);
    let mut left = options.max_bytes;
    for (layer, diff_id) in manifest.layers().iter().zip(&diff_ids) {
        ctx.check()?;
        let count = unpack_blob(store, layer, diff_id, root, &UnpackOptions { max_bytes: left, ..*options })?;
        // 0 is no limit, so a limit that is used up leaves 1
        left = if options.max_bytes == 0 { 0 } else { left.saturating_sub(count).max(1) };
        task.advance(layer.size());
    }
    sync(root)?;
    task.done("");
    Ok(())
}

/// The digests of the uncompressed layers, from the image's config: as many as the manifest has layers.
pub fn diff_ids(store: &Store, manifest: &ImageManifest) -> Result<Vec<Digest>> {
    let blob = Blob::try_from(manifest.config())?;
    let config: ImageConfiguration = serde_json::from_slice(&store.read(&blob)?)
        .with_context(|| Failure::verification(format!("blob {} is not an image config", blob.digest)))?;
    let diff_ids = config.rootfs().diff_ids();
    ensure!(
        diff_ids.len() == manifest.layers().len(),
        Failure::verification(format!(
            "the manifest has {} layers, its config {} lists {}",
            manifest.layers().len(),
            blob.digest,
            diff_ids.len()
        ))
    );
    let diff_id = |text: &String| {
        let id: Digest = text.parse()?;
        let usual = id.algorithm() == Algorithm::Sha256;
        ensure!(usual, Failure::verification(format!("config {}: diff ID {id}: only sha256 is supported for layers", blob.digest)));
        Ok(id)
    };
    diff_ids.iter().map(|digest| diff_id(&digest.to_string())).collect()
}

/// The layers of an image's manifest, lowest first.
pub fn layers_of(store: &Store, manifest: &ImageManifest) -> Result<Vec<Layer>> {
    let layer = |(descriptor, diff_id): (&Descriptor, Digest)| Layer { descriptor: descriptor.clone(), diff_id };
    Ok(manifest.layers().iter().zip(diff_ids(store, manifest)?).map(layer).collect())
}

/// Writes what was unpacked to the disk, all at once.
pub fn sync(root: &Path) -> Result<()> {
    RootDir::open(root)?.sync()
}
