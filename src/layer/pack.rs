//! Packs trees into layers: several chunks in parallel, each streamed from its files into the store.

use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::image::Descriptor;

use super::chunking::{Chunk, split_into_chunks};
use super::compress::{Compressor, Pool};
use super::tar_writer::{END, padding, write_header};
use super::{Compression, Entry, Layer, Source, Tree};
use crate::error::Failure;
use crate::events::{Context, Task, Unit};
use crate::image::Hasher;
use crate::store::Store;

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

/// Files are read in steps of this many bytes.
const STEP: usize = 256 << 10;

/// A cache of the layers of chunks, so that what did not change is not packed again.
pub trait ChunkCache: Sync {
    /// The layer of a chunk with these entries, if it is cached and still in the store.
    fn get(&self, chunk: &[(&Path, &Entry)]) -> Result<Option<Layer>>;

    /// Opens a file of a chunk that is being packed, to be read whole.
    fn open(&self, path: &Path) -> Result<Box<dyn Read + '_>>;

    /// Caches the layer of a chunk.
    fn put(&self, chunk: &[(&Path, &Entry)], layer: &Layer) -> Result<()>;
}

/// Packs like [`pack`], but only the chunks that `cache` does not have.
pub fn pack_cached(tree: &Tree, options: &PackOptions, cache: &dyn ChunkCache, store: &Store, ctx: &Context) -> Result<Vec<Layer>> {
    pack_with(tree, options, Some(cache), store, ctx)
}

/// Packs a tree into layers of about 64 MiB along stable boundaries, on all cores, streaming. An empty tree gives no layer.
///
/// Fails if a file has another size than its entry: it changed while it was packed.
pub fn pack(tree: &Tree, options: &PackOptions, store: &Store, ctx: &Context) -> Result<Vec<Layer>> {
    pack_with(tree, options, None, store, ctx)
}

fn pack_with(tree: &Tree, options: &PackOptions, cache: Option<&dyn ChunkCache>, store: &Store, ctx: &Context) -> Result<Vec<Layer>> {
    let chunks = split_into_chunks(tree, options.max_layers);
    let total: u64 = chunks.iter().map(Chunk::weight).sum();
    let packing = Packing {
        options,
        cache,
        store,
        ctx,
        pool: Pool::new(ctx.jobs())?,
        task: ctx.task(format!("pack {} files", tree.len()), Some(total), Unit::Bytes),
        total,
        stop: AtomicBool::new(false),
    };
    let layers = packing.all(&chunks)?;
    let packed: u64 = layers.iter().map(|layer| layer.descriptor.size()).sum();
    packing.task.done(format!("{} layers, {}", layers.len(), indicatif::BinaryBytes(packed)));
    Ok(layers)
}

struct Packing<'a> {
    options: &'a PackOptions,
    cache: Option<&'a dyn ChunkCache>,
    store: &'a Store,
    ctx: &'a Context,
    pool: Pool,
    task: Task,
    total: u64,
    /// Set when a chunk fails, so that the others stop.
    stop: AtomicBool,
}

impl Packing<'_> {
    /// Packs the chunks, large ones first, several at once; returns the layers in the order of the chunks.
    fn all(&self, chunks: &[Chunk]) -> Result<Vec<Layer>> {
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        order.sort_by_key(|&number| std::cmp::Reverse(chunks[number].weight()));
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Layer)>> {
            let mut done = Vec::new();
            while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                let layer = self.cached_or_packed(&chunks[number]).inspect_err(|_| self.stop.store(true, Ordering::Relaxed))?;
                done.push((number, layer));
            }
            Ok(done)
        };
        let results: Vec<Result<Vec<(usize, Layer)>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.ctx.jobs().min(chunks.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let mut layers = first_cause(results)?;
        layers.sort_by_key(|(number, _)| *number);
        Ok(layers.into_iter().map(|(_, layer)| layer).collect())
    }

    fn cached_or_packed(&self, chunk: &Chunk) -> Result<Layer> {
        let Some(cache) = self.cache else { return self.pack_chunk(chunk) };
        if let Some(layer) = cache.get(&chunk.entries)? {
            self.task.advance(chunk.weight());
            return Ok(layer);
        }
        let layer = self.pack_chunk(chunk)?;
        cache.put(&chunk.entries, &layer)?;
        Ok(layer)
    }

    fn pack_chunk(&self, chunk: &Chunk) -> Result<Layer> {
        let compressor = Compressor::new(self.options.compression, self.store.writer()?, self.threads(chunk), &self.pool);
        let mut out = BufWriter::with_capacity(STEP, Hasher::new(compressor));
        let mut buffer = vec![0; STEP];
        for (path, entry) in &chunk.entries {
            write_header(&mut out, path, entry, self.options.newest_mtime)?;
            self.content(&mut out, path, entry, &mut buffer)?;
            self.task.advance(entry.size());
        }
        out.write_all(&END)?;
        let (tar, compressor) = out.into_inner().map_err(std::io::IntoInnerError::into_error)?.finish();
        let blob = compressor.finish()?.commit()?;
        let descriptor = Descriptor::new(self.options.compression.media_type(), blob.size, blob.digest);
        Ok(Layer { descriptor, diff_id: tar.digest })
    }

    /// The number of compressing threads, by the chunk's share of all bytes. The result does not depend on it.
    fn threads(&self, chunk: &Chunk) -> usize {
        let share = (self.ctx.jobs() as u64).saturating_mul(chunk.weight()).div_ceil(self.total.max(1));
        usize::try_from(share).unwrap_or(usize::MAX).clamp(1, self.ctx.jobs())
    }

    fn content(&self, out: &mut impl Write, path: &Path, entry: &Entry, buffer: &mut [u8]) -> Result<()> {
        match &entry.source {
            Source::File(source, size) => {
                self.file(out, source, *size, buffer).with_context(|| format!("pack {}", path.display()))?;
                out.write_all(padding(*size))?;
            }
            Source::Bytes(bytes) => {
                out.write_all(bytes)?;
                out.write_all(padding(bytes.len() as u64))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn file(&self, out: &mut impl Write, source: &Path, size: u64, buffer: &mut [u8]) -> Result<()> {
        let mut file: Box<dyn Read> = match self.cache {
            Some(cache) => cache.open(source)?,
            None => Box::new(fs_err::File::open(source)?),
        };
        let mut left = size;
        loop {
            self.ctx.check()?;
            if self.stop.load(Ordering::Relaxed) {
                bail!(Stopped);
            }
            let count = file.read(buffer).with_context(|| source.display().to_string())?;
            if count == 0 {
                break;
            }
            ensure!(count as u64 <= left, changed(source));
            out.write_all(&buffer[..count])?;
            left -= count as u64;
            // most files end here: one call less for each
            if left == 0 && count < buffer.len() {
                break;
            }
        }
        ensure!(left == 0, changed(source));
        Ok(())
    }
}

fn changed(source: &Path) -> Failure {
    Failure::failed(format!("{} changed while it was being packed", source.display()))
        .hint("run the command again when no other program writes to this file")
}

/// Another chunk failed, so this one was given up.
#[derive(Debug, thiserror::Error)]
#[error("another layer failed")]
struct Stopped;

/// All results, or the first error that is not [`Stopped`].
fn first_cause<T>(results: Vec<Result<Vec<T>>>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    let mut stopped = None;
    for result in results {
        match result {
            Ok(mut some) => all.append(&mut some),
            Err(error) if error.is::<Stopped>() => stopped = Some(error),
            Err(error) => return Err(error),
        }
    }
    stopped.map_or(Ok(all), Err)
}
