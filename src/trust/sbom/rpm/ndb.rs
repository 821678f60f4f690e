//! `Packages.db`: rpm's own database, of SUSE (`lib/backend/ndb/rpmpkg.c`): slots that say in which blocks of the file a header lies.

use anyhow::{Result, ensure};

use super::disk::{Disk, Order::Little, check_length};

/// How such a file begins.
pub const MAGIC: &[u8] = b"RpmP";
const SLOT: u32 = u32::from_le_bytes(*b"Slot");
const BLOB: u32 = u32::from_le_bytes(*b"BlbS");
const PAGE: u64 = 4096;
/// The bytes of a slot, of a blob's head, and of a block.
const UNIT: u64 = 16;
/// The bytes of the file's head, where the first slots would be.
const HEAD: usize = 32;

/// Calls `each` with every header in the database.
pub fn headers(disk: &Disk, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let head = disk.read(0, HEAD as u64)?;
    let (version, pages) = (Little.u32(&head, 4)?, Little.u32(&head, 12)?);
    ensure!(version == 0, "unsupported version {version}: expected 0");
    for page in 0..u64::from(pages) {
        let slots = disk.page(page, PAGE)?;
        for slot in slots.chunks_exact(UNIT as usize).skip(if page == 0 { HEAD / UNIT as usize } else { 0 }) {
            let (magic, package, block) = (Little.u32(slot, 0)?, Little.u32(slot, 4)?, Little.u32(slot, 8)?);
            ensure!(magic == SLOT, "a slot is damaged");
            if package != 0 {
                each(&blob(disk, package, u64::from(block) * UNIT)?)?;
            }
        }
    }
    Ok(())
}

/// The blob of a package at this byte of the file.
fn blob(disk: &Disk, package: u32, at: u64) -> Result<Vec<u8>> {
    let head = disk.read(at, UNIT)?;
    ensure!((Little.u32(&head, 0)?, Little.u32(&head, 4)?) == (BLOB, package), "the header of package {package} is not where it should be");
    let length = u64::from(Little.u32(&head, 12)?);
    check_length(length)?;
    disk.read(at + UNIT, length)
}
