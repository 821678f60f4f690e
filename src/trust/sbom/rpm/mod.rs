//! The databases of rpm: SQLite (`rpmdb.sqlite`, since 4.16), ndb (`Packages.db`, SUSE) and Berkeley DB (`Packages`, before).
//!
//! The bytes are not trusted: reading any file ends, with packages or with an error.

mod bdb;
mod disk;
mod header;
mod ndb;
mod sqlite;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use self::disk::Disk;
use super::packages::Package;

/// Where a system keeps its database: that of old, SUSE's and Fedora's, and that of systems from trees (ostree).
const DIRECTORIES: [&str; 3] = ["var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"];
/// The databases, newest kind first: what else lies beside one is left from before.
const FILES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];

/// Whether this file is a database of rpm.
pub fn is_database(path: &Path) -> bool {
    DIRECTORIES.iter().any(|directory| FILES.iter().any(|file| path == Path::new(directory).join(file)))
}

/// Of the databases in an image, those that its rpm reads: one in each place.
pub fn current(found: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let first = |directory: &&str| FILES.iter().map(|file| Path::new(directory).join(file)).find(|path| found(path));
    DIRECTORIES.iter().filter_map(first).collect()
}

/// The packages in a database, each once.
///
/// # Errors
/// If the file is not such a database, or damaged.
pub fn packages(file: File) -> Result<BTreeSet<Package>> {
    let disk = Disk::new(file)?;
    let mut found = BTreeSet::new();
    let each = |bytes: &[u8]| {
        found.extend(header::package(bytes)?);
        Ok(())
    };
    let head = disk.read(0, disk.size().min(16))?;
    if head.starts_with(sqlite::MAGIC) {
        sqlite::headers(&disk, each)?;
    } else if head.starts_with(ndb::MAGIC) {
        ndb::headers(&disk, each)?;
    } else if let Some(order) = bdb::order(&head) {
        bdb::headers(&disk, order, each)?;
    } else {
        bail!("unknown format of an rpm database: expected SQLite, ndb or Berkeley DB");
    }
    Ok(found)
}
