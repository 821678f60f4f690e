//! Packs trees: pieces in parallel, each streamed from the files to the store.

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

/// What pieces of trees came to earlier, so that what did not change is not packed again.
pub trait Memory: Sync {
    /// The layer of a piece with these entries, if it is known and still there.
    fn recall(&self, piece: &[(&Path, &Entry)]) -> Result<Option<Layer>>;

    /// Opens a file of a piece that is packed, to be read whole.
    fn open(&self, path: &Path) -> Result<Box<dyn Read + '_>>;

    /// Remembers the layer of a piece.
    fn remember(&self, piece: &[(&Path, &Entry)], layer: &Layer) -> Result<()>;
}

/// Packs as [`pack`] does, but only the pieces that `memory` does not know.
pub fn pack_anew(tree: &Tree, options: &PackOptions, memory: &dyn Memory, store: &Store, ctx: &Context) -> Result<Vec<Layer>> {
    pack_by(tree, options, Some(memory), store, ctx)
}

/// Packs a tree into layers of about 64 MiB along stable boundaries, on all cores, streaming. An empty tree is no layer.
///
/// A file that has not the size that its entry says is an error: it changed while it was packed.
pub fn pack(tree: &Tree, options: &PackOptions, store: &Store, ctx: &Context) -> Result<Vec<Layer>> {
    pack_by(tree, options, None, store, ctx)
}

fn pack_by(tree: &Tree, options: &PackOptions, memory: Option<&dyn Memory>, store: &Store, ctx: &Context) -> Result<Vec<Layer>> {
    let pieces = split_into_chunks(tree, options.max_layers);
    let total: u64 = pieces.iter().map(Chunk::weight).sum();
    let packing = Packing {
        options,
        memory,
        store,
        ctx,
        pool: Pool::new(ctx.jobs())?,
        task: ctx.task(format!("pack {} files", tree.len()), Some(total), Unit::Bytes),
        total,
        stop: AtomicBool::new(false),
    };
    let layers = packing.all(&pieces)?;
    let packed: u64 = layers.iter().map(|layer| layer.descriptor.size()).sum();
    packing.task.done(format!("{} layers, {}", layers.len(), indicatif::BinaryBytes(packed)));
    Ok(layers)
}

struct Packing<'a> {
    options: &'a PackOptions,
    memory: Option<&'a dyn Memory>,
    store: &'a Store,
    ctx: &'a Context,
    pool: Pool,
    task: Task,
    total: u64,
    /// Set by the first piece that fails.
    stop: AtomicBool,
}

impl Packing<'_> {
    /// Packs the pieces, heavy ones first, several at once; gives the layers in the order of the pieces.
    fn all(&self, pieces: &[Chunk]) -> Result<Vec<Layer>> {
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|&number| std::cmp::Reverse(pieces[number].weight()));
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Layer)>> {
            let mut done = Vec::new();
            while let Some(&number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                let layer = self.recalled_or_packed(&pieces[number]).inspect_err(|_| self.stop.store(true, Ordering::Relaxed))?;
                done.push((number, layer));
            }
            Ok(done)
        };
        let results: Vec<Result<Vec<(usize, Layer)>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.ctx.jobs().min(pieces.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        let mut layers = first_cause(results)?;
        layers.sort_by_key(|(number, _)| *number);
        Ok(layers.into_iter().map(|(_, layer)| layer).collect())
    }

    fn recalled_or_packed(&self, piece: &Chunk) -> Result<Layer> {
        let Some(memory) = self.memory else { return self.one(piece) };
        if let Some(layer) = memory.recall(&piece.entries)? {
            self.task.advance(piece.weight());
            return Ok(layer);
        }
        let layer = self.one(piece)?;
        memory.remember(&piece.entries, &layer)?;
        Ok(layer)
    }

    fn one(&self, piece: &Chunk) -> Result<Layer> {
        let compressor = Compressor::new(self.options.compression, self.store.writer()?, self.threads(piece), &self.pool);
        let mut out = BufWriter::with_capacity(STEP, Hasher::new(compressor));
        let mut buffer = vec![0; STEP];
        for (path, entry) in &piece.entries {
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

    /// Compressing threads by the piece's share of the whole. The bytes do not depend on it.
    fn threads(&self, piece: &Chunk) -> usize {
        let share = (self.ctx.jobs() as u64).saturating_mul(piece.weight()).div_ceil(self.total.max(1));
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
        let mut file: Box<dyn Read> = match self.memory {
            Some(memory) => memory.open(source)?,
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
    Failure::failed(format!("{} changed while it was packed", source.display())).hint("run the command again when nothing writes there")
}

/// Another piece failed, so this one gave up.
#[derive(Debug, thiserror::Error)]
#[error("another layer failed")]
struct Stopped;

/// All results, or the error that made the others stop.
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
