//! What belongs to an image: its referrers (OCI: manifests with a `subject`), as signatures and SBOMs are, and tags that only its digest
//! explains (`sha256-<hex>.sig`). `index.json` lists them with the digest of the image, and `prune` keeps them as long as the image.
//! Referrers that were pushed to the registry server keep the name that they were pushed to; all others have none.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;

use super::{Store, ref_name};
use crate::error::Failure;
use crate::image::{ANNOTATION_REF_NAME, Digest, Reference, referrer, subject_of};

/// The annotation of a referrer in `index.json`: the digest of its subject.
const ANNOTATION_SUBJECT: &str = "io.sealift.subject";
/// The annotation of a tag that belongs to an image, in `index.json`: the digest of the image.
const ANNOTATION_TAG_OF: &str = "io.sealift.tag-of";

impl Store {
    /// Lists a manifest of the store as a referrer of its subject.
    ///
    /// # Errors
    /// `Verification` if the manifest has no subject, or is damaged or missing.
    pub fn attach(&self, descriptor: &Descriptor) -> Result<()> {
        let content = self.read_manifest(descriptor)?;
        let subject =
            subject_of(&content)?.with_context(|| Failure::verification(format!("manifest {} has no `subject`", descriptor.digest())))?;
        let mut entry = referrer(descriptor, &content);
        let mut annotations = entry.annotations().clone().unwrap_or_default();
        annotations.insert(ANNOTATION_SUBJECT.to_owned(), subject.to_string());
        entry.set_annotations(Some(annotations));
        self.change_entries(|entries| {
            entries.retain(|known| !is_referrer_entry_of(known, &entry) || ref_name(known).is_some());
            entries.push(entry);
        })
    }

    /// Lists a manifest of the store as a referrer of its subject, under the name that it was pushed to.
    ///
    /// # Errors
    /// As [`Store::attach`].
    pub fn attach_as(&self, name: &Reference, descriptor: &Descriptor) -> Result<()> {
        let content = self.read_manifest(descriptor)?;
        let subject =
            subject_of(&content)?.with_context(|| Failure::verification(format!("manifest {} has no `subject`", descriptor.digest())))?;
        self.tag_with(name, &referrer(descriptor, &content), Some((ANNOTATION_SUBJECT, subject.to_string())))
    }

    /// Points a reference at a manifest that belongs to the image with this digest: it is no image, and goes when the image goes.
    pub fn tag_for(&self, name: &Reference, descriptor: &Descriptor, image: &Digest) -> Result<()> {
        self.tag_with(name, descriptor, Some((ANNOTATION_TAG_OF, image.to_string())))
    }

    /// Removes a referrer from the list. Its blobs stay until `prune`.
    pub fn detach(&self, descriptor: &Descriptor) -> Result<()> {
        self.change_entries(|entries| entries.retain(|known| !is_referrer_entry_of(known, descriptor)))
    }

    /// The referrers of `subject`, as descriptors with artifact type and annotations.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        Ok(self.all_referrers()?.into_iter().filter(|entry| subject_in(entry) == Some(*subject)).collect())
    }

    /// The referrers of everything that `root` reaches, and their referrers in turn; each after its subject.
    pub fn referrers_recursive(&self, root: &Descriptor) -> Result<Vec<Descriptor>> {
        self.extend_with_referrers(&mut self.reachable([root])?, self.all_referrers()?)
    }

    /// The referrers that the store has, by subject, as a registry lists them.
    pub fn referrers_by_subject(&self) -> Result<BTreeMap<Digest, Vec<Descriptor>>> {
        let mut all: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
        for mut entry in self.all_referrers()? {
            let Some(subject) = subject_in(&entry) else { continue };
            let mut annotations = entry.annotations().clone().unwrap_or_default();
            annotations.remove(ANNOTATION_SUBJECT);
            entry.set_annotations((!annotations.is_empty()).then_some(annotations));
            all.entry(subject).or_default().push(entry);
        }
        Ok(all)
    }

    /// All referrers, each once and without the name that it was pushed to.
    fn all_referrers(&self) -> Result<Vec<Descriptor>> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for mut entry in self.roots()?.into_iter().filter(is_referrer) {
            if !seen.insert(entry.digest().to_string()) {
                continue;
            }
            let mut annotations = entry.annotations().clone().unwrap_or_default();
            annotations.remove(ANNOTATION_REF_NAME);
            entry.set_annotations(Some(annotations));
            all.push(entry);
        }
        Ok(all)
    }

    /// The digests that images and what belongs to them reach, and the entries of `index.json` that belong to none of these.
    pub(super) fn reachable_and_orphans(&self) -> Result<(BTreeSet<Digest>, Vec<Descriptor>)> {
        let (referrers, roots): (Vec<_>, Vec<_>) = self.roots()?.into_iter().partition(belongs_to_image);
        let mut kept = self.reachable(&roots)?;
        let attached = self.extend_with_referrers(&mut kept, referrers.clone())?;
        let orphans = referrers.into_iter().filter(|entry| !attached.contains(entry)).collect();
        Ok((kept, orphans))
    }

    /// Returns those of `entries` that belong to something in `reached`, and adds what they reach, until nothing new comes.
    fn extend_with_referrers(&self, reached: &mut BTreeSet<Digest>, mut entries: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
        let mut attached = Vec::new();
        loop {
            let (next, rest): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| owner_in(entry).is_some_and(|subject| reached.contains(&subject)));
            if next.is_empty() {
                return Ok(attached);
            }
            reached.extend(self.reachable(&next)?);
            attached.extend(next);
            entries = rest;
        }
    }
}

/// Whether an entry of `index.json` is a referrer.
pub fn is_referrer(entry: &Descriptor) -> bool {
    subject_in(entry).is_some()
}

/// Whether an entry of `index.json` belongs to an image: a referrer, or a tag such as `sha256-<hex>.sig`.
pub fn belongs_to_image(entry: &Descriptor) -> bool {
    owner_in(entry).is_some()
}

fn subject_in(entry: &Descriptor) -> Option<Digest> {
    entry.annotations().as_ref()?.get(ANNOTATION_SUBJECT)?.parse().ok()
}

/// The image that an entry belongs to.
fn owner_in(entry: &Descriptor) -> Option<Digest> {
    subject_in(entry).or_else(|| entry.annotations().as_ref()?.get(ANNOTATION_TAG_OF)?.parse().ok())
}

fn is_referrer_entry_of(entry: &Descriptor, manifest: &Descriptor) -> bool {
    is_referrer(entry) && entry.digest() == manifest.digest()
}
