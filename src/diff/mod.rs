//! Two images side by side: what changed in files, apps and container images, and what has to be moved to get from one to the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use oci_spec::image::Descriptor;
use serde::Serialize;

use crate::events::Context;
use crate::image::{Blob, Digest};
use crate::layer::{Entry, Listing, Source, layers_of, listing};
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
    /// What somebody who has the first image lacks of the second, for all platforms.
    pub to_move: Amount,
    /// All of the second image.
    pub whole: Amount,
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its path or name.
    pub name: String,
    /// How.
    #[serde(flatten)]
    pub kind: Kind,
}

/// How a thing changed; short texts of what it was and is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
pub enum Kind {
    /// Only the second image has it.
    Added {
        /// What it is.
        is: String,
    },
    /// Only the first image has it.
    Removed {
        /// What it was.
        was: String,
    },
    /// Both have it, otherwise.
    Changed {
        /// What it was.
        was: String,
        /// What it is.
        is: String,
    },
}

/// An amount of blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// An image: its root, and the part of it that is looked at.
pub struct Side<'a> {
    /// The descriptor that a name points at.
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
        to_move: amount(new.iter().filter(|blob| !old.contains(blob))),
        whole: amount(&new),
    })
}

/// What hangs on a root, as far as it is here.
fn blobs(store: &Store, root: &Descriptor) -> Result<BTreeSet<Blob>> {
    let here = |digest| Some(Blob { digest, size: std::fs::metadata(store.blob_path(&digest)).ok()?.len() });
    Ok(store.reachable([root])?.into_iter().filter_map(here).collect())
}

fn amount<'a>(blobs: impl IntoIterator<Item = &'a Blob>) -> Amount {
    blobs.into_iter().fold(Amount::default(), |sum, blob| Amount { blobs: sum.blobs + 1, bytes: sum.bytes + blob.size })
}

/// What things are, in short, by name.
type Things = BTreeMap<String, String>;

fn changes(before: &Things, after: &Things) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let kind = match (before.get(name).cloned(), after.get(name).cloned()) {
            (was, is) if was == is => return None,
            (Some(was), Some(is)) => Kind::Changed { was, is },
            (Some(was), None) => Kind::Removed { was },
            (None, is) => Kind::Added { is: is.unwrap_or_default() },
        };
        Some(Change { name: name.clone(), kind })
    };
    names.into_iter().filter_map(change).collect()
}

/// An app is told by all that is said of it.
fn apps(part: &InspectedImage) -> Things {
    let apps = part.cluster.iter().flat_map(|cluster| &cluster.apps);
    apps.map(|app| (app.name.clone(), serde_json::to_string(app).unwrap_or_default())).collect()
}

fn workloads(part: &InspectedImage) -> Things {
    part.workloads.iter().map(|workload| (workload.name.familiar(), workload.descriptor.digest().to_string())).collect()
}

fn files(store: &Store, before: &InspectedImage, after: &InspectedImage, ctx: &Context) -> Result<Vec<Change>> {
    if before.manifest.layers() == after.manifest.layers() {
        return Ok(Vec::new());
    }
    let things = |part: &InspectedImage| -> Result<Things> {
        let listed = listing(store, &layers_of(store, &part.manifest)?, ctx)?;
        Ok(listed.iter().map(|(path, listing)| (path.display().to_string(), describe(listing))).collect())
    };
    Ok(changes(&things(before)?, &things(after)?))
}

/// What is at a path, in short: kind, rights, owner, bytes and their digest.
fn describe(listing: &Listing) -> String {
    let Entry { mode, uid, gid, .. } = listing.entry;
    let rights = format!("{mode:04o} {uid}:{gid}");
    match &listing.entry.source {
        Source::Symlink(target) => format!("-> {}", target.display()),
        Source::Directory | Source::OpaqueDirectory => format!("directory {rights}"),
        _ => format!("{rights} {} bytes {}", listing.entry.size(), listing.digest.map(|digest: Digest| digest.short()).unwrap_or_default()),
    }
}
