//! `Packages`: a hash of Berkeley DB, of rpm before 4.16 (`dbinc/db_page.h` of Berkeley DB). Its pages are read in a row, not by key.

use anyhow::{Context as _, Result, bail, ensure};

use super::disk::{Disk, Order, check_length};

/// What stands at byte 12 of such a file.
const MAGIC: u32 = 0x0006_1561;
/// The bytes of a page before its items.
const HEAD: usize = 26;
const HASH: [u8; 2] = [2, 13];
const OVERFLOW: u8 = 7;
const IN_PAGE: u8 = 1;
const IN_CHAIN: u8 = 3;

/// The order of bytes in the file, if it is one of Berkeley DB.
pub fn order(head: &[u8]) -> Option<Order> {
    [Order::Little, Order::Big].into_iter().find(|order| order.u32(head, 12).is_ok_and(|magic| magic == MAGIC))
}

/// Calls `each` with every header in the database.
pub fn headers(disk: &Disk, order: Order, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let head = disk.read(0, 72)?;
    ensure!(head[24] == 0, "it is encrypted");
    let pages = Pages { disk, order, size: order.u32(&head, 20)? as usize };
    ensure!(pages.size.is_power_of_two() && (512..=1 << 16).contains(&pages.size), "unsupported page size of {} bytes", pages.size);
    for number in 1..=u64::from(order.u32(&head, 32)?) {
        let page = pages.page(number)?;
        if HASH.contains(&page[25]) {
            pages.values(&page, &mut each).with_context(|| format!("page {number}"))?;
        }
    }
    Ok(())
}

struct Pages<'a> {
    disk: &'a Disk,
    order: Order,
    size: usize,
}

impl Pages<'_> {
    fn page(&self, number: u64) -> Result<Vec<u8>> {
        self.disk.page(number, self.size as u64)
    }

    /// The values of a page of the hash: every second item, after its key. That of key 0 is a counter.
    fn values(&self, page: &[u8], each: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let items = usize::from(self.order.u16(page, 20)?);
        for pair in 0..items / 2 {
            let key = self.item(page, 2 * pair)?;
            if key.iter().skip(1).any(|byte| *byte != 0) {
                each(&self.value(self.item(page, 2 * pair + 1)?)?)?;
            }
        }
        Ok(())
    }

    /// An item with its type: items fill the page from its end to its start.
    fn item<'a>(&self, page: &'a [u8], number: usize) -> Result<&'a [u8]> {
        let offset = |number: usize| Ok::<_, anyhow::Error>(usize::from(self.order.u16(page, HEAD + 2 * number)?));
        let end = if number == 0 { page.len() } else { offset(number - 1)? };
        let item = page.get(offset(number)?..end).filter(|item| !item.is_empty());
        item.with_context(|| format!("item {number} lies beyond the page"))
    }

    fn value(&self, item: &[u8]) -> Result<Vec<u8>> {
        match item[0] {
            IN_PAGE => {
                self.disk.charge(item.len() as u64)?;
                Ok(item[1..].to_vec())
            }
            IN_CHAIN => self.chain(self.order.u32(item, 4)?, self.order.u32(item, 8)?.into()),
            kind => bail!("an item of unknown type {kind}"),
        }
    }

    /// A value in pages of its own, each of which names the next.
    fn chain(&self, first: u32, length: u64) -> Result<Vec<u8>> {
        check_length(length)?;
        let (mut value, mut next) = (Vec::new(), first);
        while (value.len() as u64) < length {
            let page = self.page(next.into())?;
            ensure!(next != 0 && page[25] == OVERFLOW, "page {next} does not continue the header");
            let part = page.get(HEAD..HEAD + usize::from(self.order.u16(&page, 22)?)).filter(|part| !part.is_empty());
            value.extend(part.with_context(|| format!("page {next} is damaged"))?);
            next = self.order.u32(&page, 16)?;
        }
        ensure!(value.len() as u64 == length, "a header is longer than it says");
        Ok(value)
    }
}
