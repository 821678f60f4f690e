//! Delta archives: they leave out blobs that the destination has.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::BinaryBytes;
use serde::{Deserialize, Serialize};

use super::Inventory;
use crate::error::Failure;
use crate::image::{Blob, Digest, Reference};
use crate::store::Store;

/// The version of [`Delta`] that this sealift writes.
const VERSION: u32 = 1;

/// What a delta archive depends on: its file `sealift-delta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delta {
    version: u32,
    /// The images that the destination must have.
    bases: Vec<Base>,
    /// Whether it was saved for an inventory of the destination.
    inventory: bool,
    /// The blobs that are left out.
    blobs: Vec<Blob>,
    /// The blobs that are left out because all hosts have them: the store does not need them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    on_hosts: Vec<Blob>,
}

/// An image that the destination must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Base {
    name: Reference,
    digest: Digest,
}

/// The blobs that the destination has.
#[derive(Debug, Default)]
pub struct Baseline {
    bases: Vec<Base>,
    inventory: bool,
    digests: BTreeSet<Digest>,
    on_hosts: BTreeSet<Digest>,
}

impl Baseline {
    /// Collects the blobs that the base images reach, and those of an inventory.
    pub fn gather(store: &Store, bases: &[Reference], inventory: Option<&Inventory>) -> Result<Baseline> {
        let mut baseline = Baseline { inventory: inventory.is_some(), ..Baseline::default() };
        for name in bases {
            let root = store.find(name)?;
            baseline.digests.extend(store.reachable([&root]).with_context(|| format!("base {}", name.familiar()))?);
            baseline.bases.push(Base { name: name.clone(), digest: root.digest().try_into()? });
        }
        baseline.digests.extend(inventory.iter().flat_map(|inventory| inventory.digests()));
        baseline.on_hosts = inventory.map(Inventory::on_all_hosts).unwrap_or_default();
        Ok(baseline)
    }

    /// Whether all hosts of the destination have the blob.
    pub fn on_hosts(&self, digest: &Digest) -> bool {
        self.on_hosts.contains(digest)
    }

    /// Whether the store of the destination has the blob.
    pub fn has(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }

    /// Whether there is neither a base nor an inventory, so that the archive is a full one.
    pub fn is_empty(&self) -> bool {
        self.bases.is_empty() && !self.inventory
    }

    /// The record of the blobs that an archive leaves out.
    pub fn into_delta(self, blobs: Vec<Blob>, on_hosts: Vec<Blob>) -> Delta {
        Delta { version: VERSION, bases: self.bases, inventory: self.inventory, blobs, on_hosts }
    }
}

impl Delta {
    /// Parses the file `sealift-delta.json` of an archive.
    pub fn parse(bytes: &[u8]) -> Result<Delta> {
        let delta: Delta = serde_json::from_slice(bytes)
            .map_err(|error| Failure::verification(format!("sealift-delta.json in the archive is damaged: {error}")))?;
        ensure!(
            delta.version == VERSION,
            Failure::usage(format!("unsupported delta archive version {}: expected {VERSION}", delta.version))
                .hint("load it with the version of sealift that saved it")
        );
        Ok(delta)
    }

    /// Whether the blob is left out because all hosts have it.
    pub fn is_on_hosts(&self, blob: &Blob) -> bool {
        self.on_hosts.binary_search(blob).is_ok()
    }

    /// Fails unless the store has all blobs that are left out; the error names the images to load first.
    pub fn check(&self, store: &Store) -> Result<()> {
        let missing: Vec<&Blob> = self.blobs.iter().filter(|blob| !store.has(blob)).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let size = missing.iter().fold(0u64, |sum, blob| sum.saturating_add(blob.size));
        let missing_blobs = format!("{} blobs ({}) are not in the store, first {}", missing.len(), BinaryBytes(size), first.digest);
        let missing_bases: Vec<&Base> = self.bases.iter().filter(|base| store.size_of(&base.digest).is_none()).collect();
        let incomplete: Vec<&Base> = if missing_bases.is_empty() { self.bases.iter().collect() } else { missing_bases };
        if incomplete.is_empty() {
            bail!(
                Failure::failed(format!("the archive depends on blobs that were here when the inventory was written: {missing_blobs}"))
                    .hint("write a new inventory with `sealift inventory`, then save again with `--for`")
            );
        }
        let names: Vec<String> = incomplete.iter().map(|base| format!("{} ({})", base.name.familiar(), base.digest)).collect();
        let names = names.join(", ");
        bail!(
            Failure::failed(format!("the archive depends on {names}: {missing_blobs}"))
                .hint(format!("load or pull {names} first, or save again without `--base`"))
        )
    }
}
