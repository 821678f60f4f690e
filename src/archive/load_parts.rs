//! Loads a split archive part by part, in any order: a part is read if its file exists and the store lacks some of its content.
//!
//! The list of parts has the offset of every blob. A blob within one part is stored at once; one that spans parts is stored in chunks
//! until all are there. So the store itself shows what is loaded, and no other state is needed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};

use super::load::LoadSummary;
use super::parity::RebuiltPart;
use super::part_list::Entry;
use super::{Part, PartList};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Task, Unit};
use crate::image::{Blob, Hasher};
use crate::store::{Chunk, Store};

/// Loads a split archive into a store.
pub(super) struct PartLoader<'a> {
    store: &'a Store,
    parts: &'a PartList,
    ctx: &'a Context,
    /// Numbers of parts that are missing or damaged.
    damaged: BTreeSet<usize>,
    /// Whether all parts were verified.
    searched: bool,
    /// Numbers of parts that can be neither read nor rebuilt now.
    missing: BTreeSet<usize>,
}

/// The bytes of an entry that lie in one part.
struct Span<'a> {
    entry: &'a Entry,
    /// Which bytes of it.
    range: Range<u64>,
    /// Their offset in the part.
    at: u64,
}

impl Span<'_> {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl<'a> PartLoader<'a> {
    pub fn new(store: &'a Store, parts: &'a PartList, ctx: &'a Context) -> Self {
        PartLoader { store, parts, ctx, damaged: parts.missing(), searched: false, missing: BTreeSet::new() }
    }

    /// Loads the parts that are needed and available. Calls `loaded_part` after each.
    pub fn load_all(&mut self, loaded: &mut LoadSummary, mut loaded_part: impl FnMut(&Self) -> Result<()>) -> Result<()> {
        self.join_leftovers()?;
        let missing: Vec<Blob> = self.parts.blobs().filter(|blob| !self.store.has(blob)).collect();
        loaded.known_blobs += (self.parts.blobs().count() - missing.len()) as u64;
        let required: Vec<usize> = (0..self.parts.parts.len()).filter(|&number| self.is_required(number)).collect();
        self.ensure_disk_space()?;
        let total = required.iter().map(|&number| self.parts.size(number)).sum();
        let task = self.ctx.task("load", Some(total), Unit::Bytes);
        for number in required {
            self.load_or_rebuild(number, &task)?;
            loaded_part(self)?;
        }
        let new: Vec<Blob> = missing.into_iter().filter(|blob| self.store.has(blob)).collect();
        loaded.new_blobs += new.len() as u64;
        loaded.new_bytes += new.iter().map(|blob| blob.size).sum::<u64>();
        task.done(loaded.describe());
        self.ensure_nothing_missing()
    }

    /// The metadata of the archive, once it is loaded.
    pub fn metadata(&self) -> Result<Option<impl Read + use<>>> {
        let metadata = self.parts.metadata();
        let ranges = self.parts.ranges(metadata);
        if !ranges.iter().all(|range| self.store.has_chunk(&metadata.blob, range)) {
            return Ok(None);
        }
        self.store.read_chunks(&metadata.blob, &ranges).map(Some)
    }

    /// Deletes the metadata chunks: all images are in the store.
    pub fn finish(&self) -> Result<()> {
        let metadata = self.parts.metadata();
        self.store.remove_chunks(&metadata.blob, &self.parts.ranges(metadata))
    }

    /// The spans of the metadata and of blobs in a part.
    fn spans(&self, number: usize) -> impl Iterator<Item = Span<'a>> + use<'a> {
        let part = self.parts.range(number);
        let contents = &self.parts.contents;
        let first = contents.partition_point(|entry| entry.end() <= part.start);
        contents[first..].iter().take_while(move |entry| entry.offset < part.end).map(move |entry| {
            let (start, end) = (entry.offset.max(part.start), entry.end().min(part.end));
            Span { entry, range: start - entry.offset..end - entry.offset, at: start - part.start }
        })
    }

    fn is_missing(&self, span: &Span) -> bool {
        let is_in_store = self.parts.is_blob(span.entry) && self.store.has(&span.entry.blob);
        !is_in_store && !self.store.has_chunk(&span.entry.blob, &span.range)
    }

    fn is_required(&self, number: usize) -> bool {
        self.spans(number).any(|span| self.is_missing(&span))
    }

    /// Fails unless the disk has space for the missing blobs; a blob that is joined from chunks takes twice its size meanwhile.
    fn ensure_disk_space(&self) -> Result<()> {
        let missing = self.parts.contents.iter().filter(|entry| self.parts.is_blob(entry) && !self.store.has(&entry.blob));
        let (mut needed, mut largest_joined) = (0u64, 0);
        for entry in missing {
            let ranges = self.parts.ranges(entry);
            let present: u64 =
                ranges.iter().filter(|range| self.store.has_chunk(&entry.blob, range)).map(|range| range.end - range.start).sum();
            needed = needed.saturating_add(entry.blob.size - present);
            largest_joined = if ranges.len() > 1 { entry.blob.size.max(largest_joined) } else { largest_joined };
        }
        self.store.ensure_disk_space(needed.saturating_add(largest_joined), "to load")
    }

    /// Loads a part from its file, or rebuilt from parity; else it is recorded as missing.
    fn load_or_rebuild(&mut self, number: usize, task: &Task) -> Result<()> {
        loop {
            let source: Box<dyn Read> = if !self.damaged.contains(&number) {
                let path = self.parts.path(&self.parts.parts[number]);
                Box::new(File::open(&path).with_context(|| path.display().to_string())?)
            } else if self.parts.can_rebuild(&self.damaged) {
                self.ctx.warn(format!("rebuilt from parity, missing or damaged: {}", self.parts.names(&self.damaged)));
                Box::new(RebuiltPart::new(self.parts.clone(), self.damaged.clone(), number))
            } else {
                self.missing.insert(number);
                return Ok(());
            };
            match self.load_part(number, source, task) {
                Err(error) if kind_of(&error) == Kind::Verification => self.find_damaged(number, &error)?,
                Err(error) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Finds all damaged parts, after one has turned out to be damaged.
    fn find_damaged(&mut self, number: usize, error: &anyhow::Error) -> Result<()> {
        tracing::debug!("part {number}: {error:#}");
        let rebuilt = !self.damaged.insert(number);
        if rebuilt || !self.parts.parity.is_empty() {
            ensure!(
                !std::mem::replace(&mut self.searched, true) || !rebuilt,
                Failure::verification(format!("part `{}` cannot be rebuilt: {error:#}", self.parts.part(number).file))
                    .hint("copy this part again; what is already loaded is kept")
            );
            self.damaged.extend(self.parts.find_damaged(self.ctx)?);
        }
        Ok(())
    }

    /// Reads a part to its end. Chunks are stored only if the whole part matches its digest.
    fn load_part(&self, number: usize, source: impl Read, task: &Task) -> Result<()> {
        let part = self.parts.part(number);
        let mut reader = PartReader { source, part, hasher: Hasher::new(io::sink()), buffer: vec![0; 256 << 10], task };
        let mut chunks: Vec<(Span, Chunk)> = Vec::new();
        for span in self.spans(number) {
            let before = span.at - reader.hasher.written();
            reader.copy(self.ctx, before, &mut io::sink())?;
            if !self.is_missing(&span) {
                reader.copy(self.ctx, span.length(), &mut io::sink())?;
            } else if span.length() == span.entry.blob.size && self.parts.is_blob(span.entry) {
                let mut ingest = self.store.ingest(&span.entry.blob)?;
                ingest.restart()?;
                reader.copy(self.ctx, span.length(), &mut ingest)?;
                ingest.commit()?;
            } else {
                let mut chunk = self.store.chunk(&span.entry.blob, &span.range)?;
                reader.copy(self.ctx, span.length(), &mut chunk)?;
                chunks.push((span, chunk));
            }
        }
        reader.copy(self.ctx, u64::MAX, &mut io::sink())?;
        let (found, _) = reader.hasher.finish();
        ensure!(
            part.blob == Some(found),
            Failure::verification(format!("part `{}` is damaged: its content does not match the digest", part.file))
        );
        chunks.into_iter().try_for_each(|(span, chunk)| {
            chunk.commit()?;
            self.join(span.entry)
        })
    }

    /// Joins blobs whose chunks are complete, left by a load that was killed before it joined them.
    fn join_leftovers(&self) -> Result<()> {
        for entry in self.parts.contents.iter().filter(|entry| self.parts.is_blob(entry)) {
            let ranges = self.parts.ranges(entry);
            if ranges.len() > 1 && self.store.has(&entry.blob) {
                self.store.remove_chunks(&entry.blob, &ranges)?;
            } else if ranges.len() > 1 {
                // chunks that do not match the blob are deleted now, and their parts read again
                self.join(entry).or_else(|error| if kind_of(&error) == Kind::Verification { Ok(()) } else { Err(error) })?;
            }
        }
        Ok(())
    }

    /// Joins a blob if all its chunks are there.
    fn join(&self, entry: &Entry) -> Result<()> {
        let ranges = self.parts.ranges(entry);
        if !self.parts.is_blob(entry) || !ranges.iter().all(|range| self.store.has_chunk(&entry.blob, range)) {
            return Ok(());
        }
        self.store.join_chunks(&entry.blob, &ranges)
    }

    /// Fails if parts are still missing.
    fn ensure_nothing_missing(&self) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let (parity, all) = (self.parts.parity.len(), self.parts.parts.len());
        if parity == 0 && self.missing.iter().all(|&number| !self.parts.path(self.parts.part(number)).exists()) {
            let (names, verb) = (self.parts.names(&self.missing), if self.missing.len() == 1 { "is" } else { "are" });
            bail!(
                Failure::failed(format!("{names} {verb} missing: {} of {all} parts are loaded", all - self.missing.len()))
                    .hint("load the missing parts from the next disk; parts already loaded are not needed again")
            );
        }
        let damaged_parity = self.damaged.iter().filter(|&&number| number >= all);
        let names = self.parts.names(&self.missing.iter().chain(damaged_parity).copied().collect());
        let noun = if self.missing.len() == 1 && parity == 0 { "part" } else { "parts" };
        let failure = Failure::verification(match parity {
            0 => format!("{noun} {names} missing or damaged"),
            _ => format!("{noun} {names} missing or damaged, more than {parity} parity parts can rebuild"),
        });
        bail!(failure.hint("copy these parts again; what is already loaded is kept"))
    }
}

/// Reads a part and hashes it.
struct PartReader<'a, R> {
    source: R,
    part: &'a Part,
    hasher: Hasher<io::Sink>,
    buffer: Vec<u8>,
    task: &'a Task,
}

impl<R: Read> PartReader<'_, R> {
    /// Copies `count` bytes, or all up to the end of the part.
    fn copy(&mut self, ctx: &Context, mut count: u64, to: &mut impl Write) -> Result<()> {
        while count > 0 {
            ctx.check()?;
            let length = usize::try_from(count).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = match self.source.read(&mut self.buffer[..length]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => bail!(Failure::verification(format!("part `{}` cannot be read: {error}", self.part.file))),
            };
            self.hasher.update(&self.buffer[..read]);
            to.write_all(&self.buffer[..read])?;
            self.task.advance(read as u64);
            count -= read as u64;
        }
        Ok(())
    }
}
