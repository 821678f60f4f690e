//! The root file system of a cluster image, unpacked on a host.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::ImageManifest;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup};
use super::{OldRootfs, Reconcile, Snapshot, State, System};
use crate::atomic_file;
use crate::image::{Blob, Digest};
use crate::layer::{self, OlderTree, UnpackOptions, UnpackedLayers};
use crate::paths::{ROOTFS, STORE};
use crate::store::Store;

/// A root file system, unpacked to `/var/lib/sealift/rootfs/<digest>`, with the link `current` to it. Unpacking is atomic. Its
/// manifest, config and layers must be in the host's store. Files that an older tree has unchanged are hard links to those: whatever
/// changes a file below it replaces it, and never writes into it.
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
        let store = Store::open(&system.path(STORE))?;
        let _in_use = store.lock_shared()?;
        let manifest: ImageManifest = serde_json::from_slice(&store.read(&self.manifest)?).context("rootfs manifest")?;
        let older = older_trees(system);
        let (new, layers) = match self.unpack_with(system, &store, &manifest, &older, log) {
            Err(error) if !older.is_empty() => {
                log(&format!("unpacking everything: {error:#}"));
                self.unpack_with(system, &store, &manifest, &[], log)?
            }
            unpacked => unpacked?,
        };
        write_record(system, &self.manifest.digest, &layers)?;
        fs_err::rename(&new, system.path(self.path()))?;
        atomic_file::sync_dir(&system.path(ROOTFS))
    }

    fn unpack_with(
        &self,
        system: &System,
        store: &Store,
        manifest: &ImageManifest,
        older: &[OlderTree],
        log: &mut dyn FnMut(&str),
    ) -> Result<(PathBuf, UnpackedLayers)> {
        let new = system.path(new_path(&self.manifest.digest));
        remove_tree(&new)?;
        fs_err::create_dir_all(&new)?;
        let options = UnpackOptions { owners: rustix::process::geteuid().is_root(), max_bytes: 0 };
        let layers = layer::unpack_with(store, manifest, &new, older, &options, log)?;
        Ok((new, layers))
    }
}

/// The manifest of the tree in use.
fn current(system: &System) -> Option<Digest> {
    let target = std::fs::read_link(system.path(Rootfs::link())).ok()?;
    Digest::from_blob_path(&format!("sha256/{}", target.to_str()?))
}

/// The trees that are unpacked on the host, with what was recorded about them. One without a record, or with a damaged one, is left out:
/// then more is unpacked.
fn older_trees(system: &System) -> Vec<OlderTree> {
    let older = |digest: Digest| {
        let record = std::fs::read(system.path(record_path(&digest))).ok()?;
        Some(OlderTree { root: system.path(rootfs_path(&digest)), layers: serde_json::from_slice(&record).ok()? })
    };
    unpacked_trees(system).into_iter().filter_map(older).collect()
}

/// A name that is not UTF-8 cannot be recorded: the next tree is unpacked as a whole then.
fn write_record(system: &System, digest: &Digest, layers: &UnpackedLayers) -> Result<()> {
    match serde_json::to_vec(layers) {
        Ok(record) => atomic_file::write(&system.path(record_path(digest)), &record, 0o600),
        Err(_) => remove_record(system, digest),
    }
}

/// The digests of the manifests whose trees are unpacked, the newest first.
pub(super) fn unpacked_trees(system: &System) -> Vec<Digest> {
    let entries = std::fs::read_dir(system.path(ROOTFS)).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| {
            let digest = Digest::from_blob_path(&format!("sha256/{}", entry.file_name().to_str()?))?;
            Some((entry.metadata().and_then(|metadata| metadata.created().or_else(|_| metadata.modified())).ok(), digest))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, digest)| digest).collect()
}

/// Removes the tree of a manifest, and the record of it.
pub(super) fn remove_unpacked(system: &System, digest: &Digest) -> Result<()> {
    remove_tree(&system.path(rootfs_path(digest)))?;
    remove_tree(&system.path(new_path(digest)))?;
    remove_record(system, digest)
}

fn remove_record(system: &System, digest: &Digest) -> Result<()> {
    system.write_text(record_path(digest), "")
}

/// The members of the tree's layers, from which the next tree takes what did not change.
fn record_path(manifest: &Digest) -> PathBuf {
    Path::new(ROOTFS).join(format!(".layers-{}", manifest.hex()))
}

fn new_path(manifest: &Digest) -> PathBuf {
    Path::new(ROOTFS).join(format!(".new-{}", manifest.hex()))
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
        OldRootfs::begin(system, current(system).unwrap_or(self.manifest.digest))?;
        backup::replace_symlink(&system.path(Self::link()), Path::new(&self.manifest.digest.hex()))
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        let previous = PreviousState::deserialize(snapshot)?;
        if self.current {
            previous.current.restore(system, &Self::link())?;
        }
        if current(system).is_none() {
            OldRootfs::forget(system)?;
        }
        remove_tree(&system.path(new_path(&self.manifest.digest)))?;
        if previous.unpacked { Ok(()) } else { remove_unpacked(system, &self.manifest.digest) }
    }
}
