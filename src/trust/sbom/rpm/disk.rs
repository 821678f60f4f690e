//! Random access to an untrusted file, with a limit on the bytes that are read.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, ensure};

/// A file of a database. Reading beyond its end is an error, and so is reading it over and over: a database whose pages point in
/// circles, or a thousand times to the same one, ends.
pub struct Disk {
    file: File,
    size: u64,
    left: Cell<u64>,
}

impl Disk {
    /// The file as it is.
    pub fn new(file: File) -> Result<Disk> {
        let size = file.metadata()?.len();
        // an honest reader needs every byte twice at most
        Ok(Disk { file, size, left: Cell::new(size.saturating_mul(4).saturating_add(1 << 16)) })
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `offset` on.
    pub fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let end = offset.checked_add(length).filter(|end| *end <= self.size);
        end.with_context(|| format!("{length} bytes at {offset} lie beyond its end"))?;
        self.charge(length)?;
        let mut bytes = vec![0; usize::try_from(length)?];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Counts bytes against the limit.
    pub fn charge(&self, length: u64) -> Result<()> {
        self.left.set(self.left.get().checked_sub(length).context("its pages form a loop")?);
        Ok(())
    }

    /// One of the pages that the file consists of, counted from 0.
    pub fn page(&self, number: u64, size: u64) -> Result<Vec<u8>> {
        self.read(number.checked_mul(size).context("a page lies beyond its end")?, size)
    }
}

/// The order of the bytes in a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The lowest first.
    Little,
    /// The highest first.
    Big,
}

impl Order {
    /// The 16-bit number at `at`.
    pub fn u16(self, bytes: &[u8], at: usize) -> Result<u16> {
        let bytes = field(bytes, at)?;
        Ok(if self == Order::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    /// The 32-bit number at `at`.
    pub fn u32(self, bytes: &[u8], at: usize) -> Result<u32> {
        let bytes = field(bytes, at)?;
        Ok(if self == Order::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.copied().with_context(|| format!("it ends before byte {}", at.saturating_add(N)))
}

/// The most bytes that one header may have; rpm's own limit is higher, and no package comes near.
pub const MAX_HEADER: u64 = 64 << 20;

/// Refuses a header that no package has.
pub fn check_length(length: u64) -> Result<()> {
    ensure!(length <= MAX_HEADER, "a header of {length} bytes: the limit is {MAX_HEADER}");
    Ok(())
}
