//! Parity parts: Reed-Solomon over the pieces of a split archive, in stripes, so that memory is bounded.
//!
//! Every stripe takes the same bytes' range of all pieces as its shards; pieces that are shorter count as if zeros followed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::Parts;
use crate::error::Failure;
use crate::events::{Context, Task};

/// All shards of a stripe together have about this many bytes.
const STRIPE: usize = 8 << 20;
/// Shards are multiples of this many bytes, so that stripes of any length give the same parity.
const GRAIN: usize = 64;

/// How many bytes a parity part has, for pieces of at most `longest` bytes.
pub(super) fn parity_size(longest: u64) -> u64 {
    longest.next_multiple_of(GRAIN as u64)
}

/// Fails unless so many parity parts can be made for so many pieces.
pub(super) fn check_counts(pieces: usize, parity: usize) -> Result<()> {
    ensure!(
        parity == 0 || ReedSolomonEncoder::supports(pieces, parity),
        Failure::usage(format!("too many parts for Reed-Solomon coding: {pieces} parts and {parity} parity parts"))
            .hint("make fewer parts with a larger `--split`, or fewer parity parts with `--parity`")
    );
    Ok(())
}

/// Writes the parity of pieces of at most `longest` bytes.
pub(super) fn encode<W: Write>(pieces: &[PathBuf], longest: u64, parity: &mut [W], ctx: &Context, task: &Task) -> Result<()> {
    let files = pieces.iter().map(fs_err::File::open).collect::<io::Result<Vec<_>>>()?;
    let stripe = stripe_for(pieces.len() + parity.len());
    let end = parity_size(longest);
    let mut encoder = ReedSolomonEncoder::new(pieces.len(), parity.len(), stripe)?;
    let mut shard = vec![0; stripe];
    for offset in (0..end).step_by(stripe) {
        ctx.check()?;
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(stripe);
        encoder.reset(pieces.len(), parity.len(), length)?;
        for file in &files {
            read_padded(file.file(), offset, &mut shard[..length]).with_context(|| file.path().display().to_string())?;
            encoder.add_original_shard(&shard[..length])?;
        }
        let encoded = encoder.encode()?;
        parity.iter_mut().zip(encoded.recovery_iter()).try_for_each(|(out, shard)| out.write_all(shard))?;
        task.advance(length as u64 * parity.len() as u64);
    }
    Ok(())
}

fn stripe_for(shards: usize) -> usize {
    (STRIPE / shards).clamp(GRAIN, 1 << 20).next_multiple_of(GRAIN)
}

/// Reads a range of a file; what is behind its end is zeros.
fn read_padded(file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    into[filled..].fill(0);
    Ok(())
}

/// One piece, computed from the other pieces and the parity.
pub(super) struct Rebuilt {
    parts: Parts,
    broken: BTreeSet<usize>,
    number: usize,
    size: u64,
    /// Bytes of the piece computed so far.
    done: u64,
    stripe: Vec<u8>,
    place: usize,
}

impl Rebuilt {
    /// Reads the piece with this number; `broken` are the parts not to be used, and [`Parts::can_rebuild`] holds for them.
    pub fn new(parts: Parts, broken: BTreeSet<usize>, number: usize) -> Self {
        let size = parts.parts[number].blob.map_or(0, |blob| blob.size);
        Rebuilt { parts, broken, number, size, done: 0, stripe: Vec::new(), place: 0 }
    }

    fn longest(&self) -> u64 {
        self.parts.parts.iter().filter_map(|part| part.blob).map(|blob| blob.size).max().unwrap_or(0)
    }

    /// Computes the next stripe.
    fn advance(&mut self) -> Result<()> {
        let (pieces, parity) = (self.parts.parts.len(), self.parts.parity.len());
        let length = (parity_size(self.longest()) - self.done).min(stripe_for(pieces + parity) as u64);
        let mut shard = vec![0; usize::try_from(length)?];
        let mut decoder = ReedSolomonDecoder::new(pieces, parity, shard.len())?;
        for (number, part) in self.parts.all().enumerate().filter(|(number, _)| !self.broken.contains(number)) {
            let path = self.parts.path(part);
            let file = fs_err::File::open(&path)?;
            read_padded(file.file(), self.done, &mut shard).with_context(|| path.display().to_string())?;
            match number.checked_sub(pieces) {
                None => decoder.add_original_shard(number, &shard)?,
                Some(number) => decoder.add_recovery_shard(number, &shard)?,
            }
        }
        let decoded = decoder.decode()?;
        let restored = decoded.restored_original(self.number).context("the piece is not restored")?;
        let wanted = usize::try_from((self.size - self.done).min(length))?;
        self.stripe = restored[..wanted].to_vec();
        self.place = 0;
        self.done += wanted as u64;
        Ok(())
    }
}

impl Read for Rebuilt {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.place == self.stripe.len() {
            if self.done == self.size {
                return Ok(0);
            }
            self.advance().map_err(|error| io::Error::other(format!("cannot rebuild it from parity: {error:#}")))?;
        }
        let count = into.len().min(self.stripe.len() - self.place);
        into[..count].copy_from_slice(&self.stripe[self.place..self.place + count]);
        self.place += count;
        Ok(count)
    }
}
