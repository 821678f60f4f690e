//! Inventories: lists of the images and blobs of a destination, from which `save --for` makes a delta archive.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::image::{Blob, Digest, Reference};
use crate::store::Store;

const VERSION: u32 = 1;

/// The images and blobs of a store, and the blobs of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    version: u32,
    /// The images, by name.
    pub images: Vec<InventoryImage>,
    /// All blobs that they reach and that are in the store.
    pub blobs: Vec<Blob>,
    /// The hosts that were asked, with their blobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<InventoryHost>,
}

/// A host and its blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryHost {
    /// The name of the host.
    pub name: String,
    /// The blobs in its store.
    pub blobs: Vec<Blob>,
}

/// An image of an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryImage {
    /// Its name.
    pub name: Reference,
    /// Its digest.
    pub digest: Digest,
}

impl Inventory {
    /// Lists the images of a store and the blobs that they reach. Other blobs are left out, since they may be pruned at any time.
    pub fn create(store: &Store) -> Result<Inventory> {
        let image = |(name, root): (Reference, oci_spec::image::Descriptor)| Ok(InventoryImage { name, digest: root.digest().try_into()? });
        let images = store.refs()?.into_iter().map(image).collect::<Result<Vec<_>>>()?;
        Ok(Inventory { version: VERSION, images, blobs: store.reachable_blobs()?, hosts: Vec::new() })
    }

    /// Parses an inventory (JSON). Anything else is an error of kind `Usage`.
    pub fn parse(bytes: &[u8]) -> Result<Inventory> {
        let inventory: Inventory = serde_json::from_slice(bytes)
            .map_err(|error| Failure::usage(format!("not an inventory: {error}")).hint("`sealift inventory -o FILE` writes host"))?;
        ensure!(
            inventory.version == VERSION,
            Failure::usage(format!("unsupported inventory version {}: expected {VERSION}", inventory.version))
                .hint("write it again with `sealift inventory -o FILE`, by this version of sealift")
        );
        Ok(inventory)
    }

    /// The digests of the blobs that every host has.
    pub fn on_all_hosts(&self) -> BTreeSet<Digest> {
        let sets = self.hosts.iter().map(|host| host.blobs.iter().map(|blob| blob.digest).collect::<BTreeSet<_>>());
        sets.reduce(|common, host| &common & &host).unwrap_or_default()
    }

    /// The digests of the store's blobs.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.blobs.iter().map(|blob| blob.digest)
    }
}
