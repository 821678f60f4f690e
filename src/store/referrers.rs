//! Documents that refer to images: signatures, SBOMs. `index.json` lists them without a name, with what they refer to; they are kept
//! for as long as that is.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;

use super::Store;
use crate::error::Failure;
use crate::image::{Digest, referrer, subject_of};

/// On an entry of `index.json` without a name: the digest of what the document refers to.
const ANNOTATION_SUBJECT: &str = "io.sealift.subject";

impl Store {
    /// Keeps a document of the store that refers to another for as long as that is kept.
    ///
    /// # Errors
    /// Of kind `Verification` if the document refers to nothing, or is damaged or not here.
    pub fn attach(&self, descriptor: &Descriptor) -> Result<()> {
        let content = self.document(descriptor)?;
        let subject =
            subject_of(&content)?.with_context(|| Failure::verification(format!("manifest {} has no `subject`", descriptor.digest())))?;
        let mut entry = referrer(descriptor, &content);
        let mut annotations = entry.annotations().clone().unwrap_or_default();
        annotations.insert(ANNOTATION_SUBJECT.to_owned(), subject.to_string());
        entry.set_annotations(Some(annotations));
        self.change_entries(|entries| {
            entries.retain(|known| !is_referrer_with(known, &entry));
            entries.push(entry);
        })
    }

    /// Forgets a document that refers to another. Its blobs stay until `prune`.
    pub fn detach(&self, descriptor: &Descriptor) -> Result<()> {
        self.change_entries(|entries| entries.retain(|known| !is_referrer_with(known, descriptor)))
    }

    /// What refers to `subject`, as lists of referrers have it.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        Ok(self.roots()?.into_iter().filter(|entry| subject_in(entry) == Some(*subject)).collect())
    }

    /// What refers to anything that `root` reaches, and what refers to that; each after what it refers to.
    pub fn referrers_below(&self, root: &Descriptor) -> Result<Vec<Descriptor>> {
        self.following(&mut self.reachable([root])?, self.roots()?)
    }

    /// What is kept by names: the digests, and the entries of `index.json` that refer to nothing of that.
    pub(super) fn kept(&self) -> Result<(BTreeSet<Digest>, Vec<Descriptor>)> {
        let (referrers, roots): (Vec<_>, Vec<_>) = self.roots()?.into_iter().partition(is_referrer);
        let mut kept = self.reachable(&roots)?;
        let following = self.following(&mut kept, referrers.clone())?;
        let orphans = referrers.into_iter().filter(|entry| !following.contains(entry)).collect();
        Ok((kept, orphans))
    }

    /// Those of `entries` that refer to what is reached, whose blobs are then reached too.
    fn following(&self, reached: &mut BTreeSet<Digest>, mut entries: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
        let mut following = Vec::new();
        loop {
            let (next, rest): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| subject_in(entry).is_some_and(|subject| reached.contains(&subject)));
            if next.is_empty() {
                return Ok(following);
            }
            reached.extend(self.reachable(&next)?);
            following.extend(next);
            entries = rest;
        }
    }
}

/// Whether an entry of an `index.json` is a document that refers to another.
pub fn is_referrer(entry: &Descriptor) -> bool {
    subject_in(entry).is_some()
}

fn subject_in(entry: &Descriptor) -> Option<Digest> {
    entry.annotations().as_ref()?.get(ANNOTATION_SUBJECT)?.parse().ok()
}

fn is_referrer_with(entry: &Descriptor, document: &Descriptor) -> bool {
    is_referrer(entry) && entry.digest() == document.digest()
}
