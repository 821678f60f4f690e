//! References (`shop:1.0`) in `index.json`. Written under a lock and replaced atomically; readers need no lock.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageIndex};

use super::Store;
use super::blob::missing;
use super::referrers::belongs_to_image;
use crate::atomic_file;
use crate::error::Failure;
use crate::image::{ANNOTATION_REF_NAME, Blob, Reference};

/// The annotation with which containerd and docker write the full name; their `ref.name` is only the tag.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

impl Store {
    /// The descriptor that a reference points at. A reference with a digest also finds that digest under another name.
    pub fn resolve(&self, name: &Reference) -> Result<Option<Descriptor>> {
        let mut names = self.all_refs()?;
        let exact = names.iter().position(|(known, _)| known == name);
        let found = exact.or_else(|| {
            let digest = name.digest()?;
            names.iter().position(|(_, descriptor)| Blob::try_from(descriptor).is_ok_and(|blob| blob.digest == digest))
        });
        Ok(found.map(|position| names.swap_remove(position).1))
    }

    /// As [`Store::resolve`]; a missing reference is an error with similar names in its hint.
    pub fn find(&self, name: &Reference) -> Result<Descriptor> {
        if let Some(descriptor) = self.resolve(name)? {
            return Ok(descriptor);
        }
        let similar = similar_names(name, &self.refs()?);
        let failure = Failure::failed(format!("no such image: {} (not in the store)", name.familiar()));
        Err(match similar.as_slice() {
            [] => failure.hint("`sealift images` lists the images in the store; `sealift pull` gets one from a registry"),
            similar => failure.hint(format!("did you mean {}?", similar.join(" or "))),
        }
        .into())
    }

    /// Points a reference at a manifest or index of the store, replacing what it pointed at.
    pub fn tag(&self, name: &Reference, descriptor: &Descriptor) -> Result<()> {
        self.tag_with(name, descriptor, None)
    }

    /// As [`Store::tag`], with one more annotation.
    pub(super) fn tag_with(&self, name: &Reference, descriptor: &Descriptor, annotation: Option<(&str, String)>) -> Result<()> {
        let blob = Blob::try_from(descriptor)?;
        ensure!(self.has(&blob), missing(&blob));
        let mut named = descriptor.clone();
        let mut annotations: HashMap<String, String> = named.annotations().clone().unwrap_or_default();
        annotations.remove(ANNOTATION_CONTAINERD_NAME);
        annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.to_string());
        annotations.extend(annotation.map(|(key, value)| (key.to_owned(), value)));
        named.set_annotations(Some(annotations));
        let _lock = self.lock_refs()?;
        let index = self.index()?;
        let mut entries = entries_without(&index, name);
        entries.push(named);
        self.write_index(index, entries)
    }

    /// Removes a reference; returns whether it existed. Blobs stay until `prune`.
    pub fn untag(&self, name: &Reference) -> Result<bool> {
        let _lock = self.lock_refs()?;
        let index = self.index()?;
        let entries = entries_without(&index, name);
        let removed = entries.len() < index.manifests().len();
        if removed {
            self.write_index(index, entries)?;
        }
        Ok(removed)
    }

    /// All references to images with their descriptors, sorted. Entries of `index.json` without a name, and those of signatures and
    /// other things that belong to an image, are left out.
    pub fn refs(&self) -> Result<Vec<(Reference, Descriptor)>> {
        Ok(self.all_refs()?.into_iter().filter(|(_, descriptor)| !belongs_to_image(descriptor)).collect())
    }

    /// All references as [`Store::refs`], also to what belongs to an image: referrers and tags such as `sha256-<hex>.sig` that were pushed
    /// to the registry server.
    pub fn all_refs(&self) -> Result<Vec<(Reference, Descriptor)>> {
        let named =
            self.index()?.manifests().iter().filter_map(|known| Some((ref_name(known)?, known.clone()))).collect::<BTreeMap<_, _>>();
        Ok(named.into_iter().collect())
    }

    /// All entries of `index.json`, also those without a name: what `prune` starts from.
    pub fn roots(&self) -> Result<Vec<Descriptor>> {
        Ok(self.index()?.manifests().clone())
    }

    /// Changes the entries of `index.json` under the lock; writes nothing if they stay the same.
    pub(super) fn change_entries(&self, change: impl FnOnce(&mut Vec<Descriptor>)) -> Result<()> {
        let _lock = self.lock_refs()?;
        let index = self.index()?;
        let mut entries = index.manifests().clone();
        change(&mut entries);
        if entries == *index.manifests() {
            return Ok(());
        }
        self.write_index(index, entries)
    }

    fn index(&self) -> Result<ImageIndex> {
        let text = fs_err::read(self.index_path())?;
        serde_json::from_slice(&text)
            .map_err(|error| {
                Failure::verification(format!("index.json is damaged: {error}"))
                    .hint("restore it from a backup, or use another store with `--store DIR`")
            })
            .with_context(|| format!("store {}", self.root.display()))
    }

    fn write_index(&self, mut index: ImageIndex, entries: Vec<Descriptor>) -> Result<()> {
        index.set_manifests(entries);
        atomic_file::write(&self.index_path(), &serde_json::to_vec(&index)?, 0o644)
    }
}

fn entries_without(index: &ImageIndex, name: &Reference) -> Vec<Descriptor> {
    index.manifests().iter().filter(|known| ref_name(known).as_ref() != Some(name)).cloned().collect()
}

/// The reference in the annotations of an `index.json` entry, as sealift, skopeo, containerd or docker write it.
pub fn ref_name(entry: &Descriptor) -> Option<Reference> {
    let annotations = entry.annotations().as_ref()?;
    let text = annotations.get(ANNOTATION_CONTAINERD_NAME).or_else(|| annotations.get(ANNOTATION_REF_NAME))?;
    text.parse().ok()
}

/// Up to three references that a user may have meant, the most similar first.
fn similar_names(requested: &Reference, names: &[(Reference, Descriptor)]) -> Vec<String> {
    let requested = requested.familiar();
    let repository = |text: &str| text.rsplit_once(':').map_or(text, |(repository, _)| repository).to_owned();
    let mut scored: Vec<(f64, String)> = names
        .iter()
        .map(|(name, _)| name.familiar())
        .map(|name| {
            let similarity = if repository(&name) == repository(&requested) { 1.0 } else { strsim::jaro_winkler(&name, &requested) };
            (similarity, name)
        })
        .filter(|(similarity, _)| *similarity > 0.8)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.into_iter().take(3).map(|(_, name)| format!("`{name}`")).collect()
}
