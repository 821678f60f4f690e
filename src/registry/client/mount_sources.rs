//! Remembers which image went to or came from which repository, so that a push can ask the registry to mount its blobs from there.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::Result;
use oci_spec::image::Descriptor;

use super::image_graph::ImageGraph;
use crate::atomic_file;
use crate::image::{Digest, Reference};
use crate::store::Store;

/// Images remembered for a repository; older ones are forgotten.
const KEPT: usize = 8;

/// Repository to images, the latest last.
type Repositories = BTreeMap<String, Vec<Descriptor>>;
/// Registry to repositories.
type Record = BTreeMap<String, Repositories>;

/// Notes that `name`'s repository has this image, whole.
pub fn remember(store: &Store, name: &Reference, root: &Descriptor) -> Result<()> {
    let mut record = read(store);
    let images = record.entry(name.registry().to_owned()).or_default().entry(name.repository().to_owned()).or_default();
    if images.last().is_some_and(|last| last.digest() == root.digest()) {
        return Ok(());
    }
    images.retain(|image| image.digest() != root.digest());
    images.push(root.clone());
    let surplus = images.len().saturating_sub(KEPT);
    images.drain(..surplus);
    atomic_file::write(&path(store), &serde_json::to_vec_pretty(&record)?, 0o644)
}

/// For blobs of images that other repositories of `name`'s registry have: one such repository.
pub fn elsewhere(store: &Store, name: &Reference) -> HashMap<Digest, String> {
    let mut blobs = HashMap::new();
    for (repository, images) in read(store).remove(name.registry()).unwrap_or_default() {
        if repository == name.repository() {
            continue;
        }
        // images that were deleted since tell nothing any more
        for tree in images.iter().filter_map(|image| ImageGraph::read(store, image).ok()) {
            blobs.extend(tree.blobs().unwrap_or_default().iter().map(|blob| (blob.digest, repository.clone())));
        }
    }
    blobs
}

/// The record is only a hint: one that cannot be read is an empty one.
fn read(store: &Store) -> Record {
    std::fs::read(path(store)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn path(store: &Store) -> PathBuf {
    store.root().join("origins.json")
}
