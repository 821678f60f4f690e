//! Walks the graph of an image: from its root through indexes and manifests to every blob.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType};
use serde::Serialize;

use super::{MAX_MANIFEST_SIZE, Store};
use crate::error::Failure;
use crate::image::{Blob, Content, Digest, canonical, children, content_of};

/// A blob that a root reaches.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its descriptor, as its parent has it.
    pub descriptor: Descriptor,
    /// Its digest and size.
    pub blob: Blob,
    /// The parsed index or manifest, or a leaf. Layers of a manifest are always leaves, also if they are manifests of workloads.
    pub content: Content,
}

impl Store {
    /// Everything reachable from `root`, each blob once, children before their parents, `root` last.
    ///
    /// Indexes and manifests are read and verified; leaves are not opened and may be missing. A missing or damaged manifest is
    /// an error of kind `Verification`.
    pub fn walk(&self, root: &Descriptor) -> Result<Vec<Node>> {
        let mut walk = Walk { store: self, seen: BTreeSet::new(), nodes: Vec::new() };
        walk.visit_manifest(root)?;
        Ok(walk.nodes)
    }

    /// Reads, verifies and parses the index or manifest of a descriptor; other media types give [`Content::Leaf`].
    ///
    /// # Errors
    /// `Verification` if it is missing or damaged, if its `mediaType` differs from the descriptor's, or its `schemaVersion` is not 2.
    pub fn read_manifest(&self, descriptor: &Descriptor) -> Result<Content> {
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

    /// Stores a value as canonical JSON and returns its descriptor.
    pub fn put_json(&self, media_type: MediaType, document: &impl Serialize) -> Result<Descriptor> {
        let blob = self.put(&canonical(document)?)?;
        Ok(DescriptorBuilder::default().media_type(media_type).digest(blob.digest).size(blob.size).build()?)
    }

    /// The digests reachable from `roots`, those of missing leaves included.
    ///
    /// Missing manifests are skipped: an index may list platforms that were not pulled. A damaged one is an error, since its children
    /// are unknown.
    pub fn reachable<'a>(&self, roots: impl IntoIterator<Item = &'a Descriptor>) -> Result<BTreeSet<Digest>> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<Descriptor> = roots.into_iter().cloned().collect();
        while let Some(descriptor) = open.pop() {
            // blobs with other digest algorithms are never in the store
            let Ok(blob) = Blob::try_from(&descriptor) else { continue };
            if !reached.insert(blob.digest) || self.size_of(&blob.digest).is_none() || is_leaf(&descriptor) {
                continue;
            }
            let content = self.read_manifest(&descriptor)?;
            match &content {
                Content::Index(index) => open.extend(index.manifests().iter().cloned()),
                _ => reached.extend(children(&content).iter().filter_map(|child| Digest::try_from(child.digest()).ok())),
            }
        }
        Ok(reached)
    }
}

/// Whether the media type is neither that of an index nor of a manifest.
fn is_leaf(descriptor: &Descriptor) -> bool {
    matches!(content_of(descriptor.media_type(), b""), Ok(Content::Leaf))
}

struct Walk<'a> {
    store: &'a Store,
    seen: BTreeSet<Digest>,
    nodes: Vec<Node>,
}

impl Walk<'_> {
    fn visit_manifest(&mut self, descriptor: &Descriptor) -> Result<()> {
        let blob = Blob::try_from(descriptor)?;
        if is_leaf(descriptor) || blob.size > MAX_MANIFEST_SIZE {
            return self.add(descriptor, Content::Leaf);
        }
        if !self.seen.insert(blob.digest) {
            return Ok(());
        }
        let content = self.store.read_manifest(descriptor)?;
        match &content {
            Content::Index(index) => index.manifests().iter().try_for_each(|child| self.visit_manifest(child))?,
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
