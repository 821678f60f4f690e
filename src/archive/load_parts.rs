//! Takes in a split archive part by part, in any order, on any day: each part is read when it is here and something of it is lacking.
//!
//! The list of parts says which blob is where. A blob that lies in one part goes into the store at once; one that lies across parts is
//! kept in pieces until all are here. So what is in is seen in the store, and nothing needs to be remembered.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};

use super::load::Loaded;
use super::parity::Rebuilt;
use super::part_list::Placed;
use super::{Part, Parts};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Task, Unit};
use crate::image::{Blob, Hasher};
use crate::store::{Chunk, Store};

/// A split archive on its way into a store.
pub(super) struct Collection<'a> {
    store: &'a Store,
    parts: &'a Parts,
    ctx: &'a Context,
    /// Numbers of parts that are not there or not what they should be.
    broken: BTreeSet<usize>,
    /// Whether all parts were looked at.
    searched: bool,
    /// What cannot be had now.
    lost: BTreeSet<usize>,
}

/// Some bytes of what is in the archive.
struct Span<'a> {
    of: &'a Placed,
    /// Which bytes of it.
    range: Range<u64>,
    /// Where they are in the part.
    at: u64,
}

impl Span<'_> {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

impl<'a> Collection<'a> {
    pub fn new(store: &'a Store, parts: &'a Parts, ctx: &'a Context) -> Self {
        Collection { store, parts, ctx, broken: parts.missing(), searched: false, lost: BTreeSet::new() }
    }

    /// Takes in what is here and lacking. After each part `taken` is called.
    pub fn take_all(&mut self, loaded: &mut Loaded, mut taken: impl FnMut(&Self) -> Result<()>) -> Result<()> {
        self.join_left()?;
        let lacking: Vec<Blob> = self.parts.blobs().filter(|blob| !self.store.has(blob)).collect();
        loaded.known_blobs += (self.parts.blobs().count() - lacking.len()) as u64;
        let wanted: Vec<usize> = (0..self.parts.parts.len()).filter(|&number| self.is_wanted(number)).collect();
        self.ensure_room()?;
        let total = wanted.iter().map(|&number| self.parts.size(number)).sum();
        let task = self.ctx.task("load", Some(total), Unit::Bytes);
        for number in wanted {
            self.take_from_anywhere(number, &task)?;
            taken(self)?;
        }
        let new: Vec<Blob> = lacking.into_iter().filter(|blob| self.store.has(blob)).collect();
        loaded.new_blobs += new.len() as u64;
        loaded.new_bytes += new.iter().map(|blob| blob.size).sum::<u64>();
        task.done(loaded.story());
        self.complain()
    }

    /// The head of the archive, once it is here.
    pub fn head(&self) -> Result<Option<impl Read + use<>>> {
        let head = self.parts.head();
        let ranges = self.parts.ranges(head);
        if !ranges.iter().all(|range| self.store.has_chunk(&head.blob, range)) {
            return Ok(None);
        }
        self.store.read_chunks(&head.blob, &ranges).map(Some)
    }

    /// Forgets the head: all that the archive names is in the store.
    pub fn finish(&self) -> Result<()> {
        let head = self.parts.head();
        self.store.drop_chunks(&head.blob, &self.parts.ranges(head))
    }

    /// What a part has of the archive's blobs and head.
    fn spans(&self, number: usize) -> impl Iterator<Item = Span<'a>> + use<'a> {
        let part = self.parts.range(number);
        let contents = &self.parts.contents;
        let first = contents.partition_point(|placed| placed.end() <= part.start);
        contents[first..].iter().take_while(move |placed| placed.offset < part.end).map(move |placed| {
            let (start, end) = (placed.offset.max(part.start), placed.end().min(part.end));
            Span { of: placed, range: start - placed.offset..end - placed.offset, at: start - part.start }
        })
    }

    fn is_lacking(&self, span: &Span) -> bool {
        let is_in_store = self.parts.is_blob(span.of) && self.store.has(&span.of.blob);
        !is_in_store && !self.store.has_chunk(&span.of.blob, &span.range)
    }

    fn is_wanted(&self, number: usize) -> bool {
        self.spans(number).any(|span| self.is_lacking(&span))
    }

    /// Fails unless the store has room for what is lacking; a blob that is put together of pieces is there twice meanwhile.
    fn ensure_room(&self) -> Result<()> {
        let lacking = self.parts.contents.iter().filter(|placed| self.parts.is_blob(placed) && !self.store.has(&placed.blob));
        let (mut needed, mut twice) = (0u64, 0);
        for placed in lacking {
            let ranges = self.parts.ranges(placed);
            let here: u64 =
                ranges.iter().filter(|range| self.store.has_chunk(&placed.blob, range)).map(|range| range.end - range.start).sum();
            needed = needed.saturating_add(placed.blob.size - here);
            twice = if ranges.len() > 1 { placed.blob.size.max(twice) } else { twice };
        }
        self.store.ensure_room(needed.saturating_add(twice), "to load")
    }

    /// Takes in a part from its file, or as parity gives it; what is neither is lost.
    fn take_from_anywhere(&mut self, number: usize, task: &Task) -> Result<()> {
        loop {
            let source: Box<dyn Read> = if !self.broken.contains(&number) {
                let path = self.parts.path(&self.parts.parts[number]);
                Box::new(File::open(&path).with_context(|| path.display().to_string())?)
            } else if self.parts.can_rebuild(&self.broken) {
                self.ctx.warn(format!("rebuilt from parity, missing or damaged: {}", self.parts.names(&self.broken)));
                Box::new(Rebuilt::new(self.parts.clone(), self.broken.clone(), number))
            } else {
                self.lost.insert(number);
                return Ok(());
            };
            match self.take(number, source, task) {
                Err(error) if kind_of(&error) == Kind::Verification => self.search(number, &error)?,
                Err(error) => return Err(error),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Finds out which parts are to blame when one has turned out not to be what it should.
    fn search(&mut self, number: usize, error: &anyhow::Error) -> Result<()> {
        tracing::debug!("part {number}: {error:#}");
        let rebuilt = !self.broken.insert(number);
        if rebuilt || !self.parts.parity.is_empty() {
            ensure!(
                !std::mem::replace(&mut self.searched, true) || !rebuilt,
                Failure::verification(format!("part `{}` cannot be rebuilt: {error:#}", self.parts.part(number).file))
                    .hint("copy this part again; what is already loaded is kept")
            );
            self.broken.extend(self.parts.broken(self.ctx)?);
        }
        Ok(())
    }

    /// Reads a part to its end. What lies across parts is kept only when the whole part is what it should be.
    fn take(&self, number: usize, source: impl Read, task: &Task) -> Result<()> {
        let part = self.parts.part(number);
        let mut reader = Reading { source, part, hasher: Hasher::new(io::sink()), buffer: vec![0; 256 << 10], task };
        let mut pieces: Vec<(Span, Chunk)> = Vec::new();
        for span in self.spans(number) {
            let before = span.at - reader.hasher.written();
            reader.copy(self.ctx, before, &mut io::sink())?;
            if !self.is_lacking(&span) {
                reader.copy(self.ctx, span.length(), &mut io::sink())?;
            } else if span.length() == span.of.blob.size && self.parts.is_blob(span.of) {
                let mut ingest = self.store.ingest(&span.of.blob)?;
                ingest.restart()?;
                reader.copy(self.ctx, span.length(), &mut ingest)?;
                ingest.commit()?;
            } else {
                let mut piece = self.store.chunk(&span.of.blob, &span.range)?;
                reader.copy(self.ctx, span.length(), &mut piece)?;
                pieces.push((span, piece));
            }
        }
        reader.copy(self.ctx, u64::MAX, &mut io::sink())?;
        let (found, _) = reader.hasher.finish();
        ensure!(
            part.blob == Some(found),
            Failure::verification(format!("part `{}` is damaged: its content does not match the digest", part.file))
        );
        pieces.into_iter().try_for_each(|(span, piece)| {
            piece.keep()?;
            self.join(span.of)
        })
    }

    /// Goes on where a load was killed between two pieces and the blob that they make.
    fn join_left(&self) -> Result<()> {
        for placed in self.parts.contents.iter().filter(|placed| self.parts.is_blob(placed)) {
            let ranges = self.parts.ranges(placed);
            if ranges.len() > 1 && self.store.has(&placed.blob) {
                self.store.drop_chunks(&placed.blob, &ranges)?;
            } else if ranges.len() > 1 {
                // pieces that do not make the blob are gone now, and their parts are read again
                self.join(placed).or_else(|error| if kind_of(&error) == Kind::Verification { Ok(()) } else { Err(error) })?;
            }
        }
        Ok(())
    }

    /// Puts a blob together when its last piece has come.
    fn join(&self, placed: &Placed) -> Result<()> {
        let ranges = self.parts.ranges(placed);
        if !self.parts.is_blob(placed) || !ranges.iter().all(|range| self.store.has_chunk(&placed.blob, range)) {
            return Ok(());
        }
        self.store.join_chunks(&placed.blob, &ranges)
    }

    /// Fails if something is still to come.
    fn complain(&self) -> Result<()> {
        if self.lost.is_empty() {
            return Ok(());
        }
        let (parity, all) = (self.parts.parity.len(), self.parts.parts.len());
        if parity == 0 && self.lost.iter().all(|&number| !self.parts.path(self.parts.part(number)).exists()) {
            let (some, verb) = (self.parts.names(&self.lost), if self.lost.len() == 1 { "is" } else { "are" });
            bail!(
                Failure::failed(format!("{some} {verb} missing: {} of {all} parts are loaded", all - self.lost.len()))
                    .hint("load the missing parts from the next disk; parts already loaded are not needed again")
            );
        }
        let useless = self.broken.iter().filter(|&&number| number >= all);
        let some = self.parts.names(&self.lost.iter().chain(useless).copied().collect());
        let noun = if self.lost.len() == 1 && parity == 0 { "part" } else { "parts" };
        let failure = Failure::verification(match parity {
            0 => format!("{noun} {some} missing or damaged"),
            _ => format!("{noun} {some} missing or damaged, more than {parity} parity parts can rebuild"),
        });
        bail!(failure.hint("copy these parts again; what is already loaded is kept"))
    }
}

/// A part that is being read, and hashed on the way.
struct Reading<'a, R> {
    source: R,
    part: &'a Part,
    hasher: Hasher<io::Sink>,
    buffer: Vec<u8>,
    task: &'a Task,
}

impl<R: Read> Reading<'_, R> {
    /// Copies so many bytes, or what there is.
    fn copy(&mut self, ctx: &Context, mut count: u64, to: &mut impl Write) -> Result<()> {
        while count > 0 {
            ctx.check()?;
            let want = usize::try_from(count).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = match self.source.read(&mut self.buffer[..want]) {
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
