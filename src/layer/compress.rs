//! Compression with fixed parameters: the bytes depend on the input alone, not on how many threads made them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use libdeflater::{CompressionLvl, Compressor as Deflater};
use oci_spec::image::MediaType;
use rayon::ThreadPool;

use crate::error::Failure;

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

impl Compression {
    /// The media type of a layer with this compression.
    pub fn media_type(self) -> MediaType {
        match self {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

/// The compression of a layer with this media type: OCI's and docker's, also those of foreign (non-distributable) layers. Fails for others.
pub fn compression_of(media_type: &MediaType) -> Result<Compression> {
    let text = media_type.to_string();
    let known = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."].iter().any(|prefix| text.starts_with(prefix));
    match text.rsplit_once("tar").map(|(_, ending)| ending) {
        Some("") if known => Ok(Compression::None),
        Some("+gzip" | ".gzip") if known => Ok(Compression::Gzip),
        Some("+zstd" | ".zstd") if known => Ok(Compression::Zstd),
        _ => bail!(
            Failure::failed(format!("unsupported media type of a layer: `{text}`"))
                .hint("layers are tar archives: not compressed, or compressed with gzip or zstd")
        ),
    }
}

const ZSTD_LEVEL: i32 = 3;
/// Of libdeflate: as small as gzip makes it but for 2 %, in a fifth of the time. Part of the layer format, as all these are.
const GZIP_LEVEL: i32 = 1;
/// Each zstd frame holds this many bytes: layers are 0.4 % larger than one frame for all would be.
const ZSTD_FRAME: usize = 2 << 20;
/// Each gzip member holds this many bytes.
const GZIP_MEMBER: usize = 1 << 20;

/// Compresses what is written to it into `W`.
pub(super) enum Compressor<'a, W: Write> {
    Plain(W),
    Blocks(Blocks<'a, W>),
}

/// Threads shared by several compressors, and the buffers that they reuse.
pub(super) struct Pool {
    threads: ThreadPool,
    spare: Mutex<Vec<Block>>,
}

impl Pool {
    /// A pool of this many threads.
    pub fn new(threads: usize) -> Result<Self> {
        Ok(Pool { threads: rayon::ThreadPoolBuilder::new().num_threads(threads).build()?, spare: Mutex::default() })
    }

    fn take(&self) -> Block {
        self.lock().pop().unwrap_or_default()
    }

    fn put_back(&self, mut block: Block) {
        block.plain.clear();
        self.lock().push(block);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Block>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a, W: Write> Compressor<'a, W> {
    /// Compresses in `pool`, at most `threads` blocks at once.
    pub fn new(compression: Compression, out: W, threads: usize, pool: &'a Pool) -> Self {
        let (size, pack): (usize, Pack) = match compression {
            Compression::None => return Compressor::Plain(out),
            Compression::Gzip => (GZIP_MEMBER, gzip_member),
            Compression::Zstd => (ZSTD_FRAME, zstd_frame),
        };
        Compressor::Blocks(Blocks { out, pool, size, pack, most: threads.max(1), open: pool.take(), under_way: VecDeque::new() })
    }

    /// Ends the stream and gives the writer back.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Compressor::Plain(out) => Ok(out),
            Compressor::Blocks(blocks) => blocks.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Compressor::Plain(out) => out.write(bytes),
            Compressor::Blocks(blocks) => blocks.write(bytes),
        }
    }

    /// Does nothing: a flush in the middle would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses one block.
type Pack = fn(&mut Block) -> io::Result<()>;

/// A part of the stream, before and after compression.
#[derive(Default)]
struct Block {
    plain: Vec<u8>,
    packed: Vec<u8>,
}

/// Writes blocks that are compressed in parallel: a file of many gzip members (RFC 1952, 2.2) or zstd frames (RFC 8878, 3) reads as one.
pub(super) struct Blocks<'a, W> {
    out: W,
    pool: &'a Pool,
    /// Bytes of a block, but the last.
    size: usize,
    pack: Pack,
    /// The most blocks that are compressed at once.
    most: usize,
    open: Block,
    under_way: VecDeque<Receiver<io::Result<Block>>>,
}

impl<W: Write> Blocks<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let plain = &mut self.open.plain;
        plain.reserve_exact(self.size - plain.len());
        let count = bytes.len().min(self.size - plain.len());
        plain.extend_from_slice(&bytes[..count]);
        if plain.len() == self.size {
            self.close()?;
        }
        Ok(count)
    }

    /// Hands the open block to the pool, when there is room for one more.
    fn close(&mut self) -> io::Result<()> {
        if self.under_way.len() == self.most {
            self.write_oldest()?;
        }
        let mut block = std::mem::replace(&mut self.open, self.pool.take());
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let pack = self.pack;
        // nobody listens any more when the layer was given up
        self.pool.threads.spawn_fifo(move || drop(sender.send(pack(&mut block).map(|()| block))));
        self.under_way.push_back(receiver);
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.under_way.pop_front() else { return Ok(()) };
        let block = oldest.recv().map_err(io::Error::other)??;
        self.out.write_all(&block.packed)?;
        self.pool.put_back(block);
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        self.close()?;
        while !self.under_way.is_empty() {
            self.write_oldest()?;
        }
        self.pool.put_back(self.open);
        Ok(self.out)
    }
}

fn gzip_member(block: &mut Block) -> io::Result<()> {
    let level = CompressionLvl::new(GZIP_LEVEL).expect("1 is a level of libdeflate");
    let mut deflater = Deflater::new(level);
    block.packed.resize(deflater.gzip_compress_bound(block.plain.len()), 0);
    let size = deflater.gzip_compress(&block.plain, &mut block.packed).map_err(io::Error::other)?;
    block.packed.truncate(size);
    Ok(())
}

thread_local! {
    /// What zstd needs to compress, for each thread of a pool.
    static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

fn zstd_frame(block: &mut Block) -> io::Result<()> {
    block.packed.clear();
    block.packed.reserve_exact(zstd::zstd_safe::compress_bound(block.plain.len()));
    ZSTD.with_borrow_mut(|zstd| {
        let zstd = match zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        zstd.compress_to_buffer(&block.plain, &mut block.packed).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_gives_the_compression() {
        for (text, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", Some(Compression::None)),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Compression::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Compression::Zstd)),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some(Compression::Gzip)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Compression::Gzip)),
            ("application/vnd.docker.image.rootfs.diff.tar", Some(Compression::None)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(Compression::Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+foo", None),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", None),
            ("application/json", None),
        ] {
            assert_eq!(compression_of(&MediaType::from(text)).ok(), expected, "{text}");
        }
    }

    #[test]
    fn bytes_do_not_depend_on_the_number_of_threads() {
        let input: Vec<u8> = (0..9_000_000u32).flat_map(|number| (number / 7 * 31).to_le_bytes()).collect();
        for compression in [Compression::Gzip, Compression::Zstd] {
            let compressed = |threads: usize, step: usize| {
                let pool = Pool::new(threads).unwrap();
                let mut compressor = Compressor::new(compression, Vec::new(), threads, &pool);
                input.chunks(step).for_each(|chunk| compressor.write_all(chunk).unwrap());
                compressor.finish().unwrap()
            };
            let one = compressed(1, 1 << 20);
            assert!(one.len() < input.len());
            assert!(one == compressed(4, 100_000), "{compression:?}");
        }
    }
}
