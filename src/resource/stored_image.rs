//! A name in the host's own store.

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use super::{Reconcile, Snapshot, State, System};
use crate::image::{Blob, Reference};
use crate::paths::STORE;
use crate::store::Store;

/// A cluster image under its name in the host's store, where the registry on site finds its container images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredImage {
    /// The name.
    pub name: Reference,
    /// Its index. It must be in the store before.
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
            Some(is) if is.digest() == self.descriptor.digest() => State::Present,
            Some(is) => State::differs(is.digest().to_string(), self.descriptor.digest().to_string()),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let there = system.path(STORE).exists();
        Ok(serde_json::to_value(if there { Self::store(system)?.resolve(&self.name)? } else { None })?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let store = Self::store(system)?;
        let blob = Blob::try_from(&self.descriptor)?;
        anyhow::ensure!(store.has(&blob), "the host's store lacks {}", blob.digest);
        store.tag(&self.name, &self.descriptor)
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        if !system.path(STORE).exists() {
            return Ok(());
        }
        let store = Self::store(system)?;
        match Option::<Descriptor>::deserialize(before).context("undo ledger")? {
            Some(descriptor) => store.tag(&self.name, &descriptor),
            None => store.untag(&self.name).map(drop),
        }
    }
}
