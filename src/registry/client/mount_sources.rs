//! Records which repositories of a registry have which images, so that a push can mount blobs from them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::Result;
use oci_spec::image::Descriptor;

use super::image_graph::ImageGraph;
use crate::atomic_file;
use crate::image::{Digest, Reference};
use crate::store::Store;

/// The number of images to record for a repository; older ones are dropped.
const MAX_IMAGES: usize = 8;

/// Images by repository, the latest last.
type Repositories = BTreeMap<String, Vec<Descriptor>>;
/// Repositories by registry.
type Record = BTreeMap<String, Repositories>;

/// Records that the repository of `name` has this complete image.
pub fn record(store: &Store, name: &Reference, root: &Descriptor) -> Result<()> {
    let mut record = read(store);
    let images = record.entry(name.registry().to_owned()).or_default().entry(name.repository().to_owned()).or_default();
    if images.last().is_some_and(|last| last.digest() == root.digest()) {
        return Ok(());
    }
    images.retain(|image| image.digest() != root.digest());
    images.push(root.clone());
    let surplus = images.len().saturating_sub(MAX_IMAGES);
    images.drain(..surplus);
    atomic_file::write(&path(store), &serde_json::to_vec_pretty(&record)?, 0o644)
}

/// For each blob that other repositories of the same registry have: one of these repositories.
pub fn candidates(store: &Store, name: &Reference) -> HashMap<Digest, String> {
    let mut blobs = HashMap::new();
    for (repository, images) in read(store).remove(name.registry()).unwrap_or_default() {
        if repository == name.repository() {
            continue;
        }
        // images that were deleted from the store meanwhile are skipped
        for graph in images.iter().filter_map(|image| ImageGraph::read(store, image).ok()) {
            blobs.extend(graph.blobs().unwrap_or_default().iter().map(|blob| (blob.digest, repository.clone())));
        }
    }
    blobs
}

/// Reads the record. It is only a hint, so an unreadable one counts as empty.
fn read(store: &Store) -> Record {
    std::fs::read(path(store)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn path(store: &Store) -> PathBuf {
    store.root().join("origins.json")
}
