//! `rpmdb.sqlite`: as much of SQLite's file format (sqlite.org/fileformat2.html) as it takes to read one table from its first row to
//! its last.

use anyhow::{Context as _, Result, bail, ensure};

use super::disk::{Disk, Order::Big, check_length};

/// How such a file begins.
pub const MAGIC: &[u8] = b"SQLite format 3\0";
const TABLE: &str = "Packages";
/// The bytes before the first page's tree.
const FILE_HEADER: usize = 100;
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// Calls `each` with every header in the database.
pub fn headers(disk: &Disk, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let pages = Pages::open(disk)?;
    let mut root = None;
    pages.rows(1, |row| {
        if column(row, 0)? == b"table" && column(row, 1)? == TABLE.as_bytes() {
            root = Some(column(row, 3)?.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte)));
        }
        Ok(())
    })?;
    let root = root.with_context(|| format!("it has no table `{TABLE}`"))?;
    pages.rows(root, |row| each(column(row, 1)?))
}

struct Pages<'a> {
    disk: &'a Disk,
    size: u64,
    /// The bytes of a page that may be used.
    usable: usize,
}

impl<'a> Pages<'a> {
    fn open(disk: &'a Disk) -> Result<Pages<'a>> {
        let head = disk.read(0, FILE_HEADER as u64)?;
        let size = match Big.u16(&head, 16)? {
            1 => 1 << 16,
            size => usize::from(size),
        };
        let usable = size.saturating_sub(usize::from(head[20]));
        ensure!(size.is_power_of_two() && size >= 512 && usable >= 480, "unsupported page size of {size} bytes");
        Ok(Pages { disk, size: size as u64, usable })
    }

    /// A page, counted from 1.
    fn page(&self, number: u64) -> Result<Vec<u8>> {
        self.disk.page(number.checked_sub(1).context("it points to page 0")?, self.size)
    }

    /// Calls `each` with the record of every row of the table whose tree has its root there, in no order.
    fn rows(&self, root: u64, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut waiting = vec![root];
        while let Some(number) = waiting.pop() {
            let page = self.page(number)?;
            ensure!(waiting.len() as u64 <= self.disk.size() / self.size, "its pages form a loop");
            let start = if number == 1 { FILE_HEADER } else { 0 };
            let cells = usize::from(Big.u16(&page, start + 3)?);
            let cell = |n: usize, head: usize| Ok::<_, anyhow::Error>(usize::from(Big.u16(&page, start + head + 2 * n)?));
            match page[start] {
                LEAF => (0..cells).try_for_each(|n| each(&self.record(&page, cell(n, 8)?)?))?,
                INTERIOR => {
                    waiting.push(u64::from(Big.u32(&page, start + 8)?));
                    for n in 0..cells {
                        waiting.push(u64::from(Big.u32(&page, cell(n, 12)?)?));
                    }
                }
                kind => bail!("page {number} is of type {kind}, not of a table"),
            }
        }
        Ok(())
    }

    /// The record in a cell of a leaf: what fits lies in the page, the rest in a chain of others.
    fn record(&self, page: &[u8], cell: usize) -> Result<Vec<u8>> {
        let (length, at) = varint(page, cell)?;
        check_length(length)?;
        let (_, at) = varint(page, at)?;
        let length = usize::try_from(length)?;
        let own = self.in_page(length);
        self.disk.charge(own as u64)?;
        let mut record = page.get(at..at + own).context("a row lies beyond its page")?.to_vec();
        let mut next = if own < length { Big.u32(page, at + own)? } else { 0 };
        while record.len() < length {
            let page = self.page(next.into())?;
            let part = page.get(4..self.usable).context("a page is too short")?;
            record.extend(&part[..part.len().min(length - record.len())]);
            next = Big.u32(&page, 0)?;
        }
        Ok(record)
    }

    /// How many bytes of a record lie in its leaf ("B-tree pages" of the format).
    fn in_page(&self, length: usize) -> usize {
        let (most, least) = (self.usable - 35, (self.usable - 12) * 32 / 255 - 23);
        if length <= most {
            return length;
        }
        let fitting = least + (length - least) % (self.usable - 4);
        if fitting <= most { fitting } else { least }
    }
}

/// The bytes of a record's column.
fn column(record: &[u8], wanted: usize) -> Result<&[u8]> {
    let (head, mut at) = varint(record, 0)?;
    let mut start = usize::try_from(head)?;
    for _ in 0..wanted {
        let (kind, next) = varint(record, at)?;
        start = start.checked_add(width(kind)?).context("a row lies beyond its page")?;
        at = next;
    }
    let (kind, end) = varint(record, at)?;
    ensure!(end as u64 <= head, "a row has only {wanted} columns");
    let end = start.checked_add(width(kind)?);
    end.and_then(|end| record.get(start..end)).context("a column lies beyond its row")
}

/// The bytes that a value of this serial type has.
fn width(kind: u64) -> Result<usize> {
    Ok(match kind {
        0 | 8 | 9 => 0,
        1..=4 => usize::try_from(kind)?,
        5 => 6,
        6 | 7 => 8,
        _ => usize::try_from(kind.checked_sub(12).context("a value of an unknown type")? / 2)?,
    })
}

/// A number of one to nine bytes, and where it ends.
fn varint(bytes: &[u8], at: usize) -> Result<(u64, usize)> {
    let mut number = 0;
    for n in 0..9 {
        let byte = *at.checked_add(n).and_then(|at| bytes.get(at)).context("a number lies beyond its page")?;
        if n == 8 {
            return Ok((number << 8 | u64::from(byte), at + 9));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok((number, at + n + 1));
        }
    }
    unreachable!("the ninth byte is the last")
}
