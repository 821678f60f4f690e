//! What hangs on what: from a root through indexes and manifests to every blob.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType};
use serde::Serialize;

use super::{MAX_DOCUMENT, Store};
use crate::error::Failure;
use crate::image::{Blob, Content, Digest, canonical, children, content_of};

/// A blob that a root reaches.
#[derive(Debug, Clone)]
pub struct Node {
    /// What its parent says of it.
    pub descriptor: Descriptor,
    /// Its digest and size.
    pub blob: Blob,
    /// The document, or that it is a leaf. What a manifest lists is a leaf always, also a manifest among workloads.
    pub content: Content,
}

impl Store {
    /// Everything reachable from `root`, each blob once, children before the documents that name them, `root` last.
    ///
    /// Documents are read and verified, leaves are not opened and may be missing. A document that is missing or damaged is
    /// an error of kind `Verification`.
    pub fn walk(&self, root: &Descriptor) -> Result<Vec<Node>> {
        let mut walk = Walk { store: self, seen: BTreeSet::new(), nodes: Vec::new() };
        walk.document(root)?;
        Ok(walk.nodes)
    }

    /// Reads and parses the document that `descriptor` names. One that calls itself something else than the descriptor
    /// does, or is of another schema version than 2, is an error of kind `Verification`.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Content> {
        let blob = Blob::try_from(descriptor)?;
        let wrong =
            |what: String| Failure::verification(format!("blob {} {what}", blob.digest)).hint("pull, load or build the image again");
        let content = content_of(descriptor.media_type(), &self.read(&blob)?)
            .with_context(|| wrong(format!("is not a valid `{}`", descriptor.media_type())))?;
        let (version, itself) = match &content {
            Content::Index(index) => (index.schema_version(), index.media_type()),
            Content::Manifest(manifest) => (manifest.schema_version(), manifest.media_type()),
            Content::Leaf => return Ok(content),
        };
        ensure!(version == 2, wrong(format!("has schemaVersion {version}, expected 2")));
        if let Some(itself) = itself
            && itself != descriptor.media_type()
        {
            bail!(wrong(format!("has media type `{itself}`, expected `{}`", descriptor.media_type())));
        }
        Ok(content)
    }

    /// Writes a document, and describes it.
    pub fn put_document(&self, media_type: MediaType, document: &impl Serialize) -> Result<Descriptor> {
        let blob = self.put(&canonical(document)?)?;
        Ok(DescriptorBuilder::default().media_type(media_type).digest(blob.digest).size(blob.size).build()?)
    }

    /// The digests that `roots` reach.
    ///
    /// Documents that are not here are passed over: an index may list platforms that nobody fetched. A damaged one is an
    /// error, since what hangs on it cannot be known.
    pub fn reachable<'a>(&self, roots: impl IntoIterator<Item = &'a Descriptor>) -> Result<BTreeSet<Digest>> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<Descriptor> = roots.into_iter().cloned().collect();
        while let Some(descriptor) = open.pop() {
            // blobs of other algorithms than these are not in the store
            let Ok(blob) = Blob::try_from(&descriptor) else { continue };
            if !reached.insert(blob.digest) || self.size_of(&blob.digest).is_none() || is_leaf(&descriptor) {
                continue;
            }
            let content = self.document(&descriptor)?;
            match &content {
                Content::Index(index) => open.extend(index.manifests().iter().cloned()),
                _ => reached.extend(children(&content).iter().filter_map(|child| Digest::try_from(child.digest()).ok())),
            }
        }
        Ok(reached)
    }
}

/// Whether a descriptor names no document by its media type.
fn is_leaf(descriptor: &Descriptor) -> bool {
    matches!(content_of(descriptor.media_type(), b""), Ok(Content::Leaf))
}

struct Walk<'a> {
    store: &'a Store,
    seen: BTreeSet<Digest>,
    nodes: Vec<Node>,
}

impl Walk<'_> {
    fn document(&mut self, descriptor: &Descriptor) -> Result<()> {
        let blob = Blob::try_from(descriptor)?;
        if is_leaf(descriptor) || blob.size > MAX_DOCUMENT {
            return self.add(descriptor, Content::Leaf);
        }
        if !self.seen.insert(blob.digest) {
            return Ok(());
        }
        let content = self.store.document(descriptor)?;
        match &content {
            Content::Index(index) => index.manifests().iter().try_for_each(|child| self.document(child))?,
            _ => children(&content).iter().try_for_each(|child| self.leaf(child))?,
        }
        self.nodes.push(Node { descriptor: descriptor.clone(), blob, content });
        Ok(())
    }

    fn leaf(&mut self, descriptor: &Descriptor) -> Result<()> {
        self.add(descriptor, Content::Leaf)
    }

    fn add(&mut self, descriptor: &Descriptor, content: Content) -> Result<()> {
        let blob = Blob::try_from(descriptor)
            .with_context(|| Failure::verification("a manifest refers to a blob with an unsupported digest or size"))?;
        if self.seen.insert(blob.digest) {
            self.nodes.push(Node { descriptor: descriptor.clone(), blob, content });
        }
        Ok(())
    }
}
