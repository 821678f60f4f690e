//! Decompresses a layer, hashing and counting what comes out.

use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Result, ensure};
use flate2::bufread::MultiGzDecoder;

use super::Compression;
use crate::error::Failure;
use crate::image::{Blob, Digest, Hasher};

/// Compressed bytes are read in steps of this many.
const STEP: usize = 256 << 10;

/// The tar inside a compressed layer.
pub(super) struct Decompressed<'a, R: Read> {
    stream: Stream<'a, R>,
    hasher: Hasher<io::Sink>,
    max_bytes: u64,
}

enum Stream<'a, R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(zstd::Decoder<'a, BufReader<R>>),
}

impl<R: Read> Decompressed<'_, R> {
    /// Starts to read a layer. Fails if its first bytes show another compression than `compression`. `max_bytes` of 0 is no limit.
    pub fn new(layer: R, compression: Compression, max_bytes: u64) -> Result<Self> {
        let mut layer = BufReader::with_capacity(STEP, layer);
        let found = compression_by_magic(layer.fill_buf()?);
        ensure!(
            found == compression,
            Failure::verification(format!("the layer is {}, but its media type says {}", describe(found), describe(compression)))
        );
        let stream = match compression {
            Compression::None => Stream::Plain(layer),
            Compression::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(layer))),
            Compression::Zstd => Stream::Zstd(zstd::Decoder::with_buffer(layer)?),
        };
        Ok(Decompressed { stream, hasher: Hasher::new(io::sink()), max_bytes: if max_bytes == 0 { u64::MAX } else { max_bytes } })
    }

    /// Uncompressed bytes read so far.
    pub fn count(&self) -> u64 {
        self.hasher.written()
    }

    /// Digest and size of the uncompressed bytes that were read.
    pub fn finish(self) -> Blob {
        self.hasher.finish().0
    }

    /// Fails unless all bytes that were read have the digest `diff_id` of the image config.
    pub fn verify(self, diff_id: &Digest) -> Result<()> {
        check_diff_id(&self.finish().digest, diff_id)
    }
}

/// Fails unless the digest of a layer's uncompressed tar is the `diff_id` of the image config.
pub(super) fn check_diff_id(found: &Digest, diff_id: &Digest) -> Result<()> {
    ensure!(
        found == diff_id,
        Failure::verification(format!("wrong diff ID: the unpacked layer has the digest {found}, the image config says {diff_id}"))
    );
    Ok(())
}

/// The error for a layer that unpacks to more than the limit.
pub(super) fn too_large(max_bytes: u64) -> Failure {
    Failure::verification(format!("the layer unpacks to more than the limit of {max_bytes} bytes"))
}

impl<R: Read> Read for Decompressed<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.stream {
            Stream::Plain(stream) => stream.read(into),
            Stream::Gzip(stream) => stream.read(into),
            Stream::Zstd(stream) => stream.read(into),
        }
        .map_err(damaged)?;
        self.hasher.update(&into[..count]);
        if self.count() > self.max_bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, too_large(self.max_bytes)));
        }
        Ok(count)
    }
}

/// Marks errors of the decoder as damage of the layer. Errors of the disk and of the reader below stay what they are.
fn damaged(error: io::Error) -> io::Error {
    let known = error.raw_os_error().is_some() || error.get_ref().is_some_and(|inner| inner.is::<Failure>());
    if known || error.kind() == io::ErrorKind::Interrupted {
        return error;
    }
    io::Error::new(io::ErrorKind::InvalidData, Failure::verification(format!("the layer's compression is damaged: {error}")))
}

/// The compression that the first bytes show.
pub(super) fn compression_by_magic(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // frames, and skippable frames before them (RFC 8878, 3.1)
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// The name of a compression, for messages.
pub(super) fn describe(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "uncompressed",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}
