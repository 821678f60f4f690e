//! Compression with fixed parameters: the bytes depend on the input alone, not on how many threads made them.

use std::io::{self, Write};

use anyhow::{Result, bail};
use libdeflater::{CompressionLvl, Compressor as Deflater};
use oci_spec::image::MediaType;
use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use zstd::stream::raw::CParameter;

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
    /// The media type of a layer compressed so.
    pub fn media_type(self) -> MediaType {
        match self {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            Compression::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

/// How a layer of this media type is compressed. OCI's and docker's are known, also those "not to be distributed".
pub fn compression_of(media_type: &MediaType) -> Result<Compression> {
    let text = media_type.to_string();
    let known = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."].iter().any(|prefix| text.starts_with(prefix));
    match text.rsplit_once("tar").map(|(_, ending)| ending) {
        Some("") if known => Ok(Compression::None),
        Some("+gzip" | ".gzip") if known => Ok(Compression::Gzip),
        Some("+zstd" | ".zstd") if known => Ok(Compression::Zstd),
        _ => bail!(Failure::failed(format!("media type `{text}` is not that of a layer that sealift can read"))),
    }
}

const ZSTD_LEVEL: i32 = 3;
/// Threads work on jobs of this many bytes. Part of the layer format: another value gives other bytes.
const ZSTD_JOB: u32 = 4 << 20;
/// Of libdeflate: as small as gzip makes it but for 2 %, in a fifth of the time. Part of the layer format too.
const GZIP_LEVEL: i32 = 1;
/// Each gzip member holds this many bytes. Part of the layer format too.
const GZIP_MEMBER: usize = 1 << 20;

/// Compresses what is written to it into `W`.
pub(super) enum Compressor<'a, W: Write> {
    Plain(W),
    Gzip(GzipMembers<'a, W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<'a, W: Write> Compressor<'a, W> {
    /// With `threads` of its own for zstd, and `pool` to share for gzip.
    pub fn new(compression: Compression, out: W, threads: u32, pool: &'a ThreadPool) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Compressor::Plain(out),
            Compression::Gzip => Compressor::Gzip(GzipMembers::new(out, pool)),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
                // even one thread: without any, the bytes would differ from those that several make
                encoder.multithread(threads.max(1))?;
                encoder.set_parameter(CParameter::JobSize(ZSTD_JOB))?;
                Compressor::Zstd(encoder)
            }
        })
    }

    /// Ends the stream and gives the writer back.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Compressor::Plain(out) => Ok(out),
            Compressor::Gzip(members) => members.finish(),
            Compressor::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Compressor::Plain(out) => out.write(bytes),
            Compressor::Gzip(members) => members.write(bytes),
            Compressor::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does nothing: a flush in the middle would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes gzip as members of [`GZIP_MEMBER`] bytes, compressed in parallel (RFC 1952 allows many members in a file).
pub(super) struct GzipMembers<'a, W> {
    out: W,
    pool: &'a ThreadPool,
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl<'a, W: Write> GzipMembers<'a, W> {
    fn new(out: W, pool: &'a ThreadPool) -> Self {
        GzipMembers { out, pool, full: Vec::new(), open: Vec::with_capacity(GZIP_MEMBER) }
    }

    fn write_members(&mut self) -> io::Result<()> {
        let blocks = std::mem::take(&mut self.full);
        let members: Vec<Vec<u8>> = self.pool.install(|| blocks.into_par_iter().map(gzip_member).collect::<io::Result<_>>())?;
        members.iter().try_for_each(|member| self.out.write_all(member))
    }

    fn finish(mut self) -> io::Result<W> {
        let open = std::mem::take(&mut self.open);
        self.full.push(open);
        self.write_members()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for GzipMembers<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(GZIP_MEMBER - self.open.len());
        self.open.extend_from_slice(&bytes[..count]);
        if self.open.len() == GZIP_MEMBER {
            self.full.push(std::mem::replace(&mut self.open, Vec::with_capacity(GZIP_MEMBER)));
            if self.full.len() >= 2 * self.pool.current_num_threads() {
                self.write_members()?;
            }
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gzip_member(block: Vec<u8>) -> io::Result<Vec<u8>> {
    let level = CompressionLvl::new(GZIP_LEVEL).expect("1 is a level of libdeflate");
    let mut deflater = Deflater::new(level);
    let mut member = vec![0; deflater.gzip_compress_bound(block.len())];
    let size = deflater.gzip_compress(&block, &mut member).map_err(io::Error::other)?;
    member.truncate(size);
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_by_their_media_types() {
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
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut compressor = Compressor::new(compression, Vec::new(), threads as u32, &pool).unwrap();
                input.chunks(step).for_each(|chunk| compressor.write_all(chunk).unwrap());
                compressor.finish().unwrap()
            };
            let one = compressed(1, 1 << 20);
            assert!(one.len() < input.len());
            assert!(one == compressed(4, 100_000), "{compression:?}");
        }
    }
}
