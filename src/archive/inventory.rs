//! What a site has, written down for those who save archives for it.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::image::{Blob, Digest, Reference};
use crate::store::Store;

const VERSION: u32 = 1;

/// What a store has that its names keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    version: u32,
    /// The images, by name.
    pub images: Vec<Held>,
    /// All that they reach and that is here.
    pub blobs: Vec<Blob>,
    /// What the site's hosts have, if they were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostHeld>,
}

/// What a host has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostHeld {
    /// Its name.
    pub name: String,
    /// The blobs of its store.
    pub blobs: Vec<Blob>,
}

/// An image of an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its name.
    pub name: Reference,
    /// Its digest.
    pub digest: Digest,
}

impl Inventory {
    /// Lists what the store's names reach. What no name reaches may be pruned any time, and is left out.
    pub fn take(store: &Store) -> Result<Inventory> {
        let held = |(name, root): (Reference, oci_spec::image::Descriptor)| Ok(Held { name, digest: root.digest().try_into()? });
        let images = store.names()?.into_iter().map(held).collect::<Result<Vec<_>>>()?;
        Ok(Inventory { version: VERSION, images, blobs: store.reachable_blobs()?, hosts: Vec::new() })
    }

    /// Reads an inventory.
    pub fn parse(bytes: &[u8]) -> Result<Inventory> {
        let inventory: Inventory = serde_json::from_slice(bytes)
            .map_err(|error| Failure::usage(format!("not an inventory: {error}")).hint("`sealift inventory -o FILE` writes one"))?;
        ensure!(
            inventory.version == VERSION,
            Failure::usage(format!("unsupported inventory version {}: expected {VERSION}", inventory.version))
                .hint("write it again with `sealift inventory -o FILE`, by this version of sealift")
        );
        Ok(inventory)
    }

    /// The digests of what every host has.
    pub fn on_all_hosts(&self) -> BTreeSet<Digest> {
        let sets = self.hosts.iter().map(|host| host.blobs.iter().map(|blob| blob.digest).collect::<BTreeSet<_>>());
        sets.reduce(|all, one| &all & &one).unwrap_or_default()
    }

    /// The digests of the store's blobs.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.blobs.iter().map(|blob| blob.digest)
    }
}
