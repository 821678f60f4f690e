//! Reads the parts of a split archive as the one stream that they are, each verified, lost ones rebuilt.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};

use super::parity::Rebuilt;
use super::{Part, Parts};
use crate::error::Failure;
use crate::image::Hasher;

/// The archive that the parts are.
///
/// An error of [`Read::read`] is of kind `Verification` and names the part.
pub(super) struct Joined<'a> {
    parts: &'a Parts,
    /// Numbers of parts not to be read.
    broken: &'a BTreeSet<usize>,
    next: usize,
    current: Option<Current>,
}

struct Current {
    number: usize,
    source: Box<dyn Read>,
    hasher: Hasher<io::Sink>,
}

impl<'a> Joined<'a> {
    pub fn new(parts: &'a Parts, broken: &'a BTreeSet<usize>) -> Self {
        Joined { parts, broken, next: 0, current: None }
    }

    fn open(&mut self, number: usize) -> io::Result<()> {
        let part = &self.parts.parts[number];
        let source: Box<dyn Read> = if !self.broken.contains(&number) {
            Box::new(File::open(self.parts.path(part)).map_err(|error| unreadable(part, &error))?)
        } else if self.parts.can_rebuild(self.broken) {
            Box::new(Rebuilt::new(self.parts.clone(), self.broken.clone(), number))
        } else {
            return Err(verification(self.lost()));
        };
        self.current = Some(Current { number, source, hasher: Hasher::new(io::sink()) });
        self.next = number + 1;
        Ok(())
    }

    /// What cannot be read nor rebuilt.
    fn lost(&self) -> Failure {
        let (some, parity) = (self.parts.names(self.broken), self.parts.parity.len());
        let noun = if self.broken.len() == 1 { "part" } else { "parts" };
        let failure = Failure::verification(match parity {
            0 => format!("{noun} {some} missing or broken"),
            _ => format!("{noun} {some} missing or broken, more than {parity} parity parts can replace"),
        });
        failure.hint("copy these parts again, the others may stay; what arrived whole is kept")
    }

    fn end(&mut self, current: Current) -> io::Result<()> {
        let part = &self.parts.parts[current.number];
        let (found, _) = current.hasher.finish();
        if part.blob.is_some_and(|blob| blob != found) {
            return Err(verification(broken(part)));
        }
        Ok(())
    }
}

fn broken(part: &Part) -> Failure {
    Failure::verification(format!("part `{}` is broken: its bytes have another digest", part.file))
        .hint("copy this part again, the others may stay; what arrived whole is kept")
}

fn unreadable(part: &Part, error: &io::Error) -> io::Error {
    verification(
        Failure::verification(format!("part `{}` cannot be read: {error}", part.file))
            .hint("copy this part again, the others may stay; what arrived whole is kept"),
    )
}

fn verification(failure: Failure) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, failure)
}

impl Read for Joined<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(current) = &mut self.current else {
                if self.next == self.parts.parts.len() || into.is_empty() {
                    return Ok(0);
                }
                self.open(self.next)?;
                continue;
            };
            let count = match current.source.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&self.parts.parts[current.number], &error)),
                Ok(count) => count,
            };
            if count > 0 || into.is_empty() {
                current.hasher.update(&into[..count]);
                return Ok(count);
            }
            if let Some(ended) = self.current.take() {
                self.end(ended)?;
            }
        }
    }
}
