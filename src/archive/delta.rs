//! Delta archives: what they leave out because the other end has it.

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

/// What an archive leans on; its file `sealift-delta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delta {
    version: u32,
    /// The images that the other end must have.
    bases: Vec<Base>,
    /// Whether an inventory said what the other end has.
    inventory: bool,
    /// What is left out.
    blobs: Vec<Blob>,
    /// What is left out because all hosts of the site have it: the store need not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    on_hosts: Vec<Blob>,
}

/// An image that the other end must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Base {
    name: Reference,
    digest: Digest,
}

/// What the other end has, as far as is known here.
#[derive(Debug, Default)]
pub struct Known {
    bases: Vec<Base>,
    inventory: bool,
    digests: BTreeSet<Digest>,
    on_hosts: BTreeSet<Digest>,
}

impl Known {
    /// Gathers what the named images of the store reach, and what an inventory lists.
    pub fn gather(store: &Store, bases: &[Reference], inventory: Option<&Inventory>) -> Result<Known> {
        let mut known = Known { inventory: inventory.is_some(), ..Known::default() };
        for name in bases {
            let root = store.find(name)?;
            known.digests.extend(store.reachable([&root]).with_context(|| format!("base {}", name.familiar()))?);
            known.bases.push(Base { name: name.clone(), digest: root.digest().try_into()? });
        }
        known.digests.extend(inventory.iter().flat_map(|inventory| inventory.digests()));
        known.on_hosts = inventory.map(Inventory::on_all_hosts).unwrap_or_default();
        Ok(known)
    }

    /// Whether all hosts have the blob.
    pub fn on_hosts(&self, digest: &Digest) -> bool {
        self.on_hosts.contains(digest)
    }

    /// Whether the other end's store has the blob.
    pub fn has(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }

    /// Whether nothing is known: the archive is a full one.
    pub fn is_empty(&self) -> bool {
        self.bases.is_empty() && !self.inventory
    }

    /// The record of what is left out.
    pub fn delta(self, blobs: Vec<Blob>, on_hosts: Vec<Blob>) -> Delta {
        Delta { version: VERSION, bases: self.bases, inventory: self.inventory, blobs, on_hosts }
    }
}

impl Delta {
    /// Reads the file of an archive.
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

    /// Whether the hosts have the blob, so that the store need not.
    pub fn is_on_hosts(&self, blob: &Blob) -> bool {
        self.on_hosts.binary_search(blob).is_ok()
    }

    /// Fails, naming what is missing, unless the store has all that is left out.
    pub fn check(&self, store: &Store) -> Result<()> {
        let missing: Vec<&Blob> = self.blobs.iter().filter(|blob| !store.has(blob)).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let size = missing.iter().fold(0u64, |sum, blob| sum.saturating_add(blob.size));
        let what = format!("{} blobs ({}) are not in the store, first {}", missing.len(), BinaryBytes(size), first.digest);
        let missing_bases: Vec<&Base> = self.bases.iter().filter(|base| store.size_of(&base.digest).is_none()).collect();
        let suspects: Vec<&Base> = if missing_bases.is_empty() { self.bases.iter().collect() } else { missing_bases };
        if suspects.is_empty() {
            bail!(
                Failure::failed(format!("incomplete base for a delta archive: {what}, though they were when the inventory was written"))
                    .hint("write a new inventory with `sealift inventory`, then save again with `--for`")
            );
        }
        let names: Vec<String> = suspects.iter().map(|base| format!("{} ({})", base.name.familiar(), base.digest)).collect();
        let names = names.join(", ");
        bail!(
            Failure::failed(format!("the archive depends on {names}, which is incomplete: {what}"))
                .hint(format!("load or pull {names} first, or save again without `--base`"))
        )
    }
}
