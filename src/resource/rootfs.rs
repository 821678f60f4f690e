//! The root file system of a cluster image, unpacked from the host's own store.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::ImageManifest;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup};
use super::{Reconcile, Snapshot, State, System};
use crate::atomic_file;
use crate::image::{Blob, Digest};
use crate::layer::{self, UnpackOptions};
use crate::paths::{ROOTFS, STORE};
use crate::store::Store;

/// A root file system, unpacked to `/var/lib/sealift/rootfs/<digest>`, with `current` pointing at it. It is there whole or
/// not at all. Its manifest, config and layers must be in the host's store before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// The rootfs manifest.
    pub manifest: Blob,
}

/// What was before.
#[derive(Serialize, Deserialize)]
struct Was {
    unpacked: bool,
    current: Backup,
}

impl Rootfs {
    /// Where it is unpacked.
    pub fn path(&self) -> PathBuf {
        path_of(&self.manifest.digest)
    }

    fn link() -> PathBuf {
        Path::new(ROOTFS).join("current")
    }

    fn unpack(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        let place = system.path(self.path());
        let new = place.with_file_name(format!(".new-{}", self.manifest.digest.hex()));
        remove_tree(&new)?;
        fs_err::create_dir_all(&new)?;
        let store = Store::open(&system.path(STORE))?;
        let _in_use = store.lock_shared()?;
        let manifest: ImageManifest = serde_json::from_slice(&store.read(&self.manifest)?).context("rootfs manifest")?;
        let ids = layer::diff_ids(&store, &manifest)?;
        let options = UnpackOptions { owners: rustix::process::geteuid().is_root(), max_bytes: 0 };
        for (number, (descriptor, id)) in manifest.layers().iter().zip(&ids).enumerate() {
            say(&format!("unpack layer {} of {}: {}", number + 1, ids.len(), Blob::try_from(descriptor)?.digest.short()));
            layer::unpack_blob(&store, descriptor, id, &new, &options)?;
        }
        layer::sync(&new)?;
        fs_err::rename(&new, &place)?;
        atomic_file::sync_dir(&system.path(ROOTFS))
    }
}

/// Where the root file system with this manifest is unpacked.
pub(super) fn path_of(manifest: &Digest) -> PathBuf {
    Path::new(ROOTFS).join(manifest.hex())
}

fn remove_tree(place: &Path) -> Result<()> {
    match fs_err::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

impl Reconcile for Rootfs {
    fn title(&self) -> String {
        format!("rootfs {}", self.manifest.digest.short())
    }

    fn check(&self, system: &System) -> Result<State> {
        if !system.path(self.path()).is_dir() {
            return Ok(State::Absent);
        }
        let shall = self.manifest.digest.hex();
        let is = fs_err::read_link(system.path(Self::link())).ok();
        Ok(match is {
            Some(is) if is == Path::new(&shall) => State::Present,
            is => State::differs(is.map_or("unpacked".into(), |is| format!("current is {}", is.display())), format!("current is {shall}")),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let current = Backup::of(system, &Self::link())?;
        Ok(serde_json::to_value(Was { unpacked: system.path(self.path()).is_dir(), current })?)
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        if !system.path(self.path()).is_dir() {
            self.unpack(system, say)?;
        }
        backup::put_link(&system.path(Self::link()), Path::new(&self.manifest.digest.hex()))
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        let was = Was::deserialize(before)?;
        was.current.restore(system, &Self::link())?;
        let place = system.path(self.path());
        remove_tree(&place.with_file_name(format!(".new-{}", self.manifest.digest.hex())))?;
        if was.unpacked { Ok(()) } else { remove_tree(&place) }
    }
}
