//! Reads the numbered parts of a split archive as one stream, for archives whose list of parts is missing.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::error::Failure;

/// Reads files one after the other. An error of [`Read::read`] is of kind `Verification` and names the part.
pub(super) struct ConcatReader {
    paths: std::vec::IntoIter<PathBuf>,
    current: Option<(PathBuf, File)>,
}

impl ConcatReader {
    pub fn new(paths: Vec<PathBuf>) -> Self {
        ConcatReader { paths: paths.into_iter(), current: None }
    }
}

fn unreadable(path: &std::path::Path, error: &io::Error) -> io::Error {
    let failure = Failure::verification(format!("part `{}` cannot be read: {error}", path.display()))
        .hint("copy this part again; what is already loaded is kept");
    io::Error::new(io::ErrorKind::InvalidData, failure)
}

impl Read for ConcatReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some((path, file)) = &mut self.current else {
                let Some(path) = self.paths.next() else { return Ok(0) };
                let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
                self.current = Some((path, file));
                continue;
            };
            match file.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(unreadable(path, &error)),
                Ok(0) if !into.is_empty() => self.current = None,
                Ok(count) => return Ok(count),
            }
        }
    }
}
