//! Prunes the build cache of a store.

use std::fs::DirEntry;
use std::path::Path;

use anyhow::Result;

use super::instruction_cache;
use crate::events::Context;
use crate::store::{Pruned, Store};

/// Removes cache entries of layers and images that are gone, or with `everything` the whole cache. With `dry_run` it only counts.
///
/// Waits until no other process uses the store.
pub fn prune(store: &Store, everything: bool, dry_run: bool, ctx: &Context) -> Result<Pruned> {
    let _lock = store.lock_exclusive(ctx)?;
    let mut pruned = Pruned::default();
    for kind in entries(&store.root().join("build"))? {
        // scratch directories are of killed builds: with the lock held, no build is running
        let all = everything || kind.file_name() == "work";
        if !kind.file_type()?.is_dir() {
            if all {
                delete(&kind, dry_run, &mut pruned)?;
            }
            continue;
        }
        for entry in entries(&kind.path())? {
            ctx.check()?;
            if all || instruction_cache::is_stale(&entry.path(), store) {
                delete(&entry, dry_run, &mut pruned)?;
            }
        }
    }
    Ok(pruned)
}

/// Deletes a file or directory, and counts the files.
fn delete(entry: &DirEntry, dry_run: bool, pruned: &mut Pruned) -> Result<()> {
    if entry.file_type()?.is_dir() {
        for inner in entries(&entry.path())? {
            delete(&inner, dry_run, pruned)?;
        }
        if !dry_run {
            fs_err::remove_dir(entry.path())?;
        }
        return Ok(());
    }
    pruned.leftovers += 1;
    pruned.bytes += entry.metadata()?.len();
    if !dry_run {
        fs_err::remove_file(entry.path())?;
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>> {
    match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        listing => Ok(listing?.collect::<Result<_, _>>()?),
    }
}
