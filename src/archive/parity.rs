//! Parity parts of a split archive (Reed-Solomon), computed in stripes so that memory is bounded.
//!
//! The shards of a stripe are the same byte range of all parts; shorter parts are padded with zeros.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::PartList;
use crate::error::Failure;
use crate::events::{Context, Task};

/// The size of all shards of a stripe together, about, in bytes.
const STRIPE: usize = 8 << 20;
/// Shard sizes are multiples of this many bytes, so that stripes of any length give the same parity.
const SHARD_ALIGNMENT: usize = 64;

/// The size of a parity part in bytes, for parts of at most `longest` bytes.
pub(super) fn parity_size(longest: u64) -> u64 {
    longest.next_multiple_of(SHARD_ALIGNMENT as u64)
}

/// Fails unless Reed-Solomon coding supports these numbers of parts and parity parts.
pub(super) fn check_counts(parts: usize, parity: usize) -> Result<()> {
    ensure!(
        parity == 0 || ReedSolomonEncoder::supports(parts, parity),
        Failure::usage(format!("too many parts for Reed-Solomon coding: {parts} parts and {parity} parity parts"))
            .hint("make fewer parts with a larger `--split`, or fewer parity parts with `--parity`")
    );
    Ok(())
}

/// Writes the parity of parts of at most `longest` bytes.
pub(super) fn encode<W: Write>(parts: &[PathBuf], longest: u64, parity: &mut [W], ctx: &Context, task: &Task) -> Result<()> {
    let files = parts.iter().map(fs_err::File::open).collect::<io::Result<Vec<_>>>()?;
    let stripe = stripe_for(parts.len() + parity.len());
    let end = parity_size(longest);
    let mut encoder = ReedSolomonEncoder::new(parts.len(), parity.len(), stripe)?;
    let mut shard = vec![0; stripe];
    for offset in (0..end).step_by(stripe) {
        ctx.check()?;
        let length = usize::try_from(end - offset).unwrap_or(usize::MAX).min(stripe);
        encoder.reset(parts.len(), parity.len(), length)?;
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
    (STRIPE / shards).clamp(SHARD_ALIGNMENT, 1 << 20).next_multiple_of(SHARD_ALIGNMENT)
}

/// Reads a range of a file; bytes behind its end are zeros.
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

/// Reads a missing part, rebuilt from the other parts and the parity.
pub(super) struct RebuiltPart {
    parts: PartList,
    damaged: BTreeSet<usize>,
    number: usize,
    size: u64,
    /// Bytes rebuilt so far.
    done: u64,
    stripe: Vec<u8>,
    position: usize,
}

impl RebuiltPart {
    /// Rebuilds the part with this number. `damaged` are the parts not to use; [`PartList::can_rebuild`] must hold for them.
    pub fn new(parts: PartList, damaged: BTreeSet<usize>, number: usize) -> Self {
        let size = parts.parts[number].blob.map_or(0, |blob| blob.size);
        RebuiltPart { parts, damaged, number, size, done: 0, stripe: Vec::new(), position: 0 }
    }

    fn longest(&self) -> u64 {
        self.parts.parts.iter().filter_map(|part| part.blob).map(|blob| blob.size).max().unwrap_or(0)
    }

    /// Computes the next stripe.
    fn advance(&mut self) -> Result<()> {
        let (parts, parity) = (self.parts.parts.len(), self.parts.parity.len());
        let length = (parity_size(self.longest()) - self.done).min(stripe_for(parts + parity) as u64);
        let mut shard = vec![0; usize::try_from(length)?];
        let mut decoder = ReedSolomonDecoder::new(parts, parity, shard.len())?;
        for (number, part) in self.parts.all().enumerate().filter(|(number, _)| !self.damaged.contains(number)) {
            let path = self.parts.path(part);
            let file = fs_err::File::open(&path)?;
            read_padded(file.file(), self.done, &mut shard).with_context(|| path.display().to_string())?;
            match number.checked_sub(parts) {
                None => decoder.add_original_shard(number, &shard)?,
                Some(number) => decoder.add_recovery_shard(number, &shard)?,
            }
        }
        let decoded = decoder.decode()?;
        let restored = decoded.restored_original(self.number).context("the decoder did not restore the part")?;
        let count = usize::try_from((self.size - self.done).min(length))?;
        self.stripe = restored[..count].to_vec();
        self.position = 0;
        self.done += count as u64;
        Ok(())
    }
}

impl Read for RebuiltPart {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.position == self.stripe.len() {
            if self.done == self.size {
                return Ok(0);
            }
            self.advance().map_err(|error| io::Error::other(format!("cannot rebuild it from parity: {error:#}")))?;
        }
        let count = into.len().min(self.stripe.len() - self.position);
        into[..count].copy_from_slice(&self.stripe[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}
