//! Referrers (OCI: manifests with a `subject`): signatures, SBOMs. `index.json` lists them without a name but with their subject, and
//! `prune` keeps them as long as it keeps the subject.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;

use super::Store;
use crate::error::Failure;
use crate::image::{Digest, referrer, subject_of};

/// The annotation of a referrer in `index.json`: the digest of its subject.
const ANNOTATION_SUBJECT: &str = "io.sealift.subject";

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
            entries.retain(|known| !is_referrer_entry_of(known, &entry));
            entries.push(entry);
        })
    }

    /// Removes a referrer from the list. Its blobs stay until `prune`.
    pub fn detach(&self, descriptor: &Descriptor) -> Result<()> {
        self.change_entries(|entries| entries.retain(|known| !is_referrer_entry_of(known, descriptor)))
    }

    /// The referrers of `subject`, as descriptors with artifact type and annotations.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        Ok(self.roots()?.into_iter().filter(|entry| subject_in(entry) == Some(*subject)).collect())
    }

    /// The referrers of everything that `root` reaches, and their referrers in turn; each after its subject.
    pub fn referrers_recursive(&self, root: &Descriptor) -> Result<Vec<Descriptor>> {
        self.extend_with_referrers(&mut self.reachable([root])?, self.roots()?)
    }

    /// The digests that images and their referrers reach, and the referrers in `index.json` whose subject is not among them.
    pub(super) fn reachable_and_orphans(&self) -> Result<(BTreeSet<Digest>, Vec<Descriptor>)> {
        let (referrers, roots): (Vec<_>, Vec<_>) = self.roots()?.into_iter().partition(is_referrer);
        let mut kept = self.reachable(&roots)?;
        let attached = self.extend_with_referrers(&mut kept, referrers.clone())?;
        let orphans = referrers.into_iter().filter(|entry| !attached.contains(entry)).collect();
        Ok((kept, orphans))
    }

    /// Returns those of `entries` that refer to something in `reached`, and adds what they reach, until nothing new comes.
    fn extend_with_referrers(&self, reached: &mut BTreeSet<Digest>, mut entries: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
        let mut attached = Vec::new();
        loop {
            let (next, rest): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| subject_in(entry).is_some_and(|subject| reached.contains(&subject)));
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

fn subject_in(entry: &Descriptor) -> Option<Digest> {
    entry.annotations().as_ref()?.get(ANNOTATION_SUBJECT)?.parse().ok()
}

fn is_referrer_entry_of(entry: &Descriptor, manifest: &Descriptor) -> bool {
    is_referrer(entry) && entry.digest() == manifest.digest()
}
