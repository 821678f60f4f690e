//! Compares two images: changes of files, apps and container images, and the bytes to transfer from one to the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use oci_spec::image::Descriptor;
use serde::Serialize;

use crate::events::Context;
use crate::image::{Blob, Digest};
use crate::layer::{Entry, ListedEntry, Source, layers_of, list_files};
use crate::store::{InspectedImage, Store};

/// What changed from one image to another, for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Files of the root file system, by path; times do not count.
    pub files: Vec<Change>,
    /// Applications, by name.
    pub apps: Vec<Change>,
    /// Container images, by name.
    pub workloads: Vec<Change>,
    /// Blobs of the second image that the first does not have, for all platforms: what has to be transferred.
    #[serde(rename = "toMove")]
    pub to_transfer: BlobTotal,
    /// All blobs of the second image.
    #[serde(rename = "whole")]
    pub total: BlobTotal,
}

/// A file, app or container image that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its path or name.
    pub name: String,
    /// How.
    #[serde(flatten)]
    pub kind: Kind,
}

/// How it changed, with short descriptions of its state before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Kind {
    /// Only the second image has it.
    Added {
        /// Its description in the second image.
        #[serde(rename = "is")]
        after: String,
    },
    /// Only the first image has it.
    Removed {
        /// Its description in the first image.
        #[serde(rename = "was")]
        before: String,
    },
    /// Both have it, with different content.
    Changed {
        /// Its description in the first image.
        #[serde(rename = "was")]
        before: String,
        /// Its description in the second image.
        #[serde(rename = "is")]
        after: String,
    },
}

/// Number and size of blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BlobTotal {
    /// How many.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One of the two images: its root, and its part for the compared platform.
pub struct Side<'a> {
    /// The descriptor that the image's name refers to.
    pub root: &'a Descriptor,
    /// The part for the platform.
    pub part: &'a InspectedImage,
}

/// Compares two images of a store. Layers that only one of them has are read, and verified.
pub fn compare(store: &Store, before: &Side<'_>, after: &Side<'_>, ctx: &Context) -> Result<Difference> {
    let (old, new) = (blobs(store, before.root)?, blobs(store, after.root)?);
    Ok(Difference {
        files: files(store, before.part, after.part, ctx)?,
        apps: changes(&apps(before.part), &apps(after.part)),
        workloads: changes(&workloads(before.part), &workloads(after.part)),
        to_transfer: total(new.iter().filter(|blob| !old.contains(blob))),
        total: total(&new),
    })
}

/// The blobs reachable from a root that are in the store.
fn blobs(store: &Store, root: &Descriptor) -> Result<BTreeSet<Blob>> {
    let here = |digest| Some(Blob { digest, size: std::fs::metadata(store.blob_path(&digest)).ok()?.len() });
    Ok(store.reachable([root])?.into_iter().filter_map(here).collect())
}

fn total<'a>(blobs: impl IntoIterator<Item = &'a Blob>) -> BlobTotal {
    blobs.into_iter().fold(BlobTotal::default(), |sum, blob| BlobTotal { blobs: sum.blobs + 1, bytes: sum.bytes + blob.size })
}

/// Short descriptions by name.
type Descriptions = BTreeMap<String, String>;

fn changes(before: &Descriptions, after: &Descriptions) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let kind = match (before.get(name).cloned(), after.get(name).cloned()) {
            (before, after) if before == after => return None,
            (Some(before), Some(after)) => Kind::Changed { before, after },
            (Some(before), None) => Kind::Removed { before },
            (None, after) => Kind::Added { after: after.unwrap_or_default() },
        };
        Some(Change { name: name.clone(), kind })
    };
    names.into_iter().filter_map(change).collect()
}

/// The description of an app is its entry in the cluster config, as JSON.
fn apps(part: &InspectedImage) -> Descriptions {
    let apps = part.cluster.iter().flat_map(|cluster| &cluster.apps);
    apps.map(|app| (app.name.clone(), serde_json::to_string(app).unwrap_or_default())).collect()
}

fn workloads(part: &InspectedImage) -> Descriptions {
    part.workloads.iter().map(|workload| (workload.name.familiar(), workload.descriptor.digest().to_string())).collect()
}

fn files(store: &Store, before: &InspectedImage, after: &InspectedImage, ctx: &Context) -> Result<Vec<Change>> {
    if before.manifest.layers() == after.manifest.layers() {
        return Ok(Vec::new());
    }
    let descriptions = |part: &InspectedImage| -> Result<Descriptions> {
        let listed = list_files(store, &layers_of(store, &part.manifest)?, ctx)?;
        Ok(listed.iter().map(|(path, file)| (path.display().to_string(), describe(file))).collect())
    };
    Ok(changes(&descriptions(before)?, &descriptions(after)?))
}

/// A short description of a file: type, mode, owner, size in bytes and digest.
fn describe(listed: &ListedEntry) -> String {
    let Entry { mode, uid, gid, .. } = listed.entry;
    let mode = format!("{mode:04o} {uid}:{gid}");
    match &listed.entry.source {
        Source::Symlink(target) => format!("-> {}", target.display()),
        Source::Directory | Source::OpaqueDirectory => format!("directory {mode}"),
        _ => format!("{mode} {} bytes {}", listed.entry.size(), listed.digest.map(|digest: Digest| digest.short()).unwrap_or_default()),
    }
}
