//! A tagged cluster image in a host's own store.

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use super::{Reconcile, Snapshot, State, System};
use crate::image::{Blob, Reference};
use crate::paths::STORE;
use crate::store::Store;

/// A cluster image, tagged in the host's store, from which the local registry serves its container images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredImage {
    /// The reference that it is tagged with.
    pub name: Reference,
    /// The descriptor of its index, which must be in the store.
    pub descriptor: Descriptor,
}

impl StoredImage {
    fn store(system: &System) -> Result<Store> {
        Store::open(&system.path(STORE))
    }
}

impl Reconcile for StoredImage {
    fn title(&self) -> String {
        format!("image {} in the host's store", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        if !system.path(STORE).exists() {
            return Ok(State::Absent);
        }
        Ok(match Self::store(system)?.resolve(&self.name)? {
            None => State::Absent,
            Some(actual) if actual.digest() == self.descriptor.digest() => State::Present,
            Some(actual) => State::differs(actual.digest().to_string(), self.descriptor.digest().to_string()),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let store_exists = system.path(STORE).exists();
        Ok(serde_json::to_value(if store_exists { Self::store(system)?.resolve(&self.name)? } else { None })?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let store = Self::store(system)?;
        let blob = Blob::try_from(&self.descriptor)?;
        anyhow::ensure!(store.has(&blob), "blob {} not found in the host's store: run the same command again", blob.digest);
        store.tag(&self.name, &self.descriptor)
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        if !system.path(STORE).exists() {
            return Ok(());
        }
        let store = Self::store(system)?;
        match Option::<Descriptor>::deserialize(snapshot).context("undo ledger")? {
            Some(descriptor) => store.tag(&self.name, &descriptor),
            None => store.untag(&self.name).map(drop),
        }
    }
}
