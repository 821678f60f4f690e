//! Garbage collection: deletes blobs that no image reaches.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::path::Path;

use anyhow::{Context as _, Result};
use oci_spec::image::{DescriptorBuilder, MediaType};
use serde::Serialize;

use super::Store;
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Algorithm, Digest};

/// What `prune` deleted, or would delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Pruned {
    /// Blobs that no image reaches.
    pub blobs: u64,
    /// Unfinished downloads and uploads, and temporary files.
    pub leftovers: u64,
    /// The size of all of them in bytes.
    pub bytes: u64,
}

impl Store {
    /// Deletes blobs that no image reaches, unfinished downloads and temporary files. With `dry_run` it only counts.
    ///
    /// Waits until no other process uses the store.
    pub fn prune(&self, dry_run: bool, ctx: &Context) -> Result<Pruned> {
        let _alone = self.lock_exclusive(ctx)?;
        let (kept, orphans) =
            self.reachable_and_orphans().context("nothing was deleted: a damaged manifest hides which blobs are in use")?;
        if !dry_run {
            self.change_entries(|entries| entries.retain(|entry| !orphans.contains(entry)))?;
        }
        let mut pruned = Pruned::default();
        for algorithm in Algorithm::ALL {
            for entry in entries(&self.blobs_dir(algorithm))? {
                ctx.check()?;
                match digest_of(&entry, algorithm) {
                    Some(digest) if kept.contains(&digest) => {}
                    Some(_) => pruned.blobs += pruned.delete(&entry, dry_run)?,
                    None => pruned.leftovers += pruned.delete(&entry, dry_run)?,
                }
            }
        }
        let written = entries(&self.root)?.into_iter().filter(|entry| entry.file_name().to_string_lossy().starts_with(".new-"));
        for entry in entries(&self.ingest_dir())?.into_iter().chain(written) {
            pruned.leftovers += pruned.delete(&entry, dry_run)?;
        }
        let cached = entries(&self.verification_cache_dir())?.into_iter().filter(|entry| !is_kept(entry, &kept));
        for entry in cached {
            pruned.delete(&entry, dry_run)?;
        }
        Ok(pruned)
    }

    /// Deletes the blobs that neither an image nor one of these manifests reaches, and returns how many; none if another process uses
    /// the store.
    pub fn prune_but(&self, manifests: &[Digest]) -> Result<u64> {
        let Some(_alone) = self.try_lock_exclusive()? else { return Ok(0) };
        let mut kept = self.reachable(&self.roots()?)?;
        for digest in manifests {
            let Some(size) = self.size_of(digest) else { continue };
            let manifest = DescriptorBuilder::default().media_type(MediaType::ImageManifest).digest(*digest).size(size).build()?;
            kept.extend(self.reachable([&manifest])?);
        }
        let mut pruned = Pruned::default();
        for algorithm in Algorithm::ALL {
            for entry in entries(&self.blobs_dir(algorithm))? {
                if digest_of(&entry, algorithm).is_some_and(|digest| !kept.contains(&digest)) {
                    pruned.blobs += pruned.delete(&entry, false)?;
                }
            }
        }
        Ok(pruned.blobs)
    }

    /// Deletes one blob unless an image reaches it; returns whether it is gone. A store that another process uses is an error of kind
    /// `Network`, because a later attempt may succeed.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let Some(_alone) = self.try_lock_exclusive()? else {
            return Err(Failure::network(format!("store {} is locked by another command", self.root.display()))
                .hint("try again when that command has ended")
                .into());
        };
        if self.reachable(&self.roots()?)?.contains(digest) {
            return Ok(false);
        }
        match std::fs::remove_file(self.blob_path(digest)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context(digest.to_string()),
            _ => Ok(true),
        }
    }
}

impl Pruned {
    /// Deletes a file and counts its bytes; returns 1, or 0 for something that is not a file.
    fn delete(&mut self, entry: &DirEntry, dry_run: bool) -> Result<u64> {
        let metadata = entry.metadata()?;
        if !metadata.is_file() {
            return Ok(0);
        }
        if !dry_run {
            fs_err::remove_file(entry.path())?;
        }
        self.bytes += metadata.len();
        Ok(1)
    }
}

/// The digest in the file name of a blob.
pub(super) fn digest_of(entry: &DirEntry, algorithm: Algorithm) -> Option<Digest> {
    Digest::from_blob_path(&format!("{}/{}", algorithm.name(), entry.file_name().to_str()?))
}

/// Whether a file named by the hex digits of a digest belongs to a blob that is kept.
fn is_kept(entry: &DirEntry, kept: &BTreeSet<Digest>) -> bool {
    Algorithm::ALL.into_iter().filter_map(|algorithm| digest_of(entry, algorithm)).any(|digest| kept.contains(&digest))
}

pub(super) fn entries(dir: &Path) -> Result<Vec<DirEntry>> {
    let listing = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.with_context(|| dir.display().to_string())?,
    };
    listing.collect::<Result<_, _>>().with_context(|| dir.display().to_string())
}
