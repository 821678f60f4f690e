//! The root file system of a cluster image, unpacked on a host.

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

/// A root file system, unpacked to `/var/lib/sealift/rootfs/<digest>`, with the link `current` to it. Unpacking is atomic. Its
/// manifest, config and layers must be in the host's store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// The rootfs manifest, an OCI image manifest.
    pub manifest: Blob,
    /// Whether the link `current` points at it: that of the image that brings the cluster.
    #[serde(default = "always")]
    pub current: bool,
}

fn always() -> bool {
    true
}

/// The snapshot.
#[derive(Serialize, Deserialize)]
struct PreviousState {
    unpacked: bool,
    current: Backup,
}

impl Rootfs {
    /// The directory that it is unpacked to, absolute on the host.
    pub fn path(&self) -> PathBuf {
        rootfs_path(&self.manifest.digest)
    }

    fn link() -> PathBuf {
        Path::new(ROOTFS).join("current")
    }

    fn unpack(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        let path = system.path(self.path());
        let new = path.with_file_name(format!(".new-{}", self.manifest.digest.hex()));
        remove_tree(&new)?;
        fs_err::create_dir_all(&new)?;
        let store = Store::open(&system.path(STORE))?;
        let _in_use = store.lock_shared()?;
        let manifest: ImageManifest = serde_json::from_slice(&store.read(&self.manifest)?).context("rootfs manifest")?;
        let diff_ids = layer::diff_ids(&store, &manifest)?;
        let options = UnpackOptions { owners: rustix::process::geteuid().is_root(), max_bytes: 0 };
        for (number, (descriptor, diff_id)) in manifest.layers().iter().zip(&diff_ids).enumerate() {
            log(&format!("unpack layer {} of {}: {}", number + 1, diff_ids.len(), Blob::try_from(descriptor)?.digest.short()));
            layer::unpack_blob(&store, descriptor, diff_id, &new, &options)?;
        }
        layer::sync(&new)?;
        fs_err::rename(&new, &path)?;
        atomic_file::sync_dir(&system.path(ROOTFS))
    }
}

/// The directory that the root file system of this manifest is unpacked to.
pub(super) fn rootfs_path(manifest: &Digest) -> PathBuf {
    Path::new(ROOTFS).join(manifest.hex())
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs_err::remove_dir_all(path) {
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
        if !self.current {
            return Ok(State::Present);
        }
        let desired = self.manifest.digest.hex();
        let actual = fs_err::read_link(system.path(Self::link())).ok();
        Ok(match actual {
            Some(actual) if actual == Path::new(&desired) => State::Present,
            actual => State::differs(
                actual.map_or("unpacked".into(), |actual| format!("current is {}", actual.display())),
                format!("current is {desired}"),
            ),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let current = Backup::of(system, &Self::link())?;
        Ok(serde_json::to_value(PreviousState { unpacked: system.path(self.path()).is_dir(), current })?)
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        if !system.path(self.path()).is_dir() {
            self.unpack(system, log)?;
        }
        if !self.current {
            return Ok(());
        }
        backup::replace_symlink(&system.path(Self::link()), Path::new(&self.manifest.digest.hex()))
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        let previous = PreviousState::deserialize(snapshot)?;
        if self.current {
            previous.current.restore(system, &Self::link())?;
        }
        let path = system.path(self.path());
        remove_tree(&path.with_file_name(format!(".new-{}", self.manifest.digest.hex())))?;
        if previous.unpacked { Ok(()) } else { remove_tree(&path) }
    }
}
