//! The workloads manifest: an OCI artifact whose layers are the unchanged blobs of all container images of a cluster image.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, DescriptorBuilder, ImageManifest, ImageManifestBuilder, MediaType, Platform, PlatformBuilder};

use super::image_blobs::Blobs;
use crate::image::{
    ANNOTATION_APP, ANNOTATION_PLATFORM, ANNOTATION_REF_NAME, Blob, Digest, Reference, TYPE_WORKLOADS, platform_string,
    unwrap_workload_blob, wrap_workload_blob,
};
use crate::store::Store;

/// The container images of a cluster image.
#[derive(Debug, Clone, Default)]
pub struct Workloads {
    /// The root (manifest or index) of each image, and the applications that need it.
    roots: BTreeMap<Reference, (Descriptor, BTreeSet<String>)>,
    /// All other blobs, each once.
    parts: BTreeMap<Digest, Descriptor>,
}

impl Workloads {
    /// Reads a workloads manifest, also of the form before [`unwrap_workload_blob`]: layers with a name are roots.
    ///
    /// # Errors
    /// Fails if a name or digest is invalid.
    pub fn from_manifest(manifest: &ImageManifest) -> Result<Self> {
        let mut workloads = Workloads::default();
        for descriptor in &manifest.layers().iter().map(unwrap_workload_blob).collect::<Vec<_>>() {
            let annotation = |key| descriptor.annotations().as_ref().and_then(|annotations| annotations.get(key));
            match annotation(ANNOTATION_REF_NAME) {
                Some(name) => {
                    let apps = annotation(ANNOTATION_APP).map(|apps| apps.split(',').map(str::to_owned).collect()).unwrap_or_default();
                    workloads.roots.insert(name.parse().context("workloads manifest")?, (bare(descriptor), apps));
                }
                None => workloads.add_part(descriptor)?,
            }
        }
        Ok(workloads)
    }

    /// Adds an image, or replaces the one of the same name. The first of `blobs` is its root.
    pub fn add(&mut self, name: &Reference, blobs: &Blobs, apps: &BTreeSet<String>) -> Result<()> {
        let (root, parts) = blobs.split_first().context("a container image without a manifest")?;
        let entry = &mut self.roots.entry(name.clone()).or_insert_with(|| (bare(root), BTreeSet::new()));
        entry.0 = bare(root);
        entry.1.extend(apps.iter().cloned());
        parts.iter().try_for_each(|part| self.add_part(part))
    }

    /// Adds the container images of `other`. An image of the same name is replaced; returns the names whose digest changed by that.
    pub fn extend(&mut self, other: &Workloads) -> Vec<Reference> {
        let mut replaced = Vec::new();
        for (name, (root, apps)) in &other.roots {
            let known = self.roots.entry(name.clone()).or_insert_with(|| (root.clone(), BTreeSet::new()));
            if known.0 != *root {
                replaced.push(name.clone());
                known.0 = root.clone();
            }
            known.1.extend(apps.iter().cloned());
        }
        self.parts.extend(other.parts.iter().map(|(digest, part)| (*digest, part.clone())));
        replaced
    }

    fn add_part(&mut self, descriptor: &Descriptor) -> Result<()> {
        self.parts.insert(descriptor.digest().try_into()?, bare(descriptor));
        Ok(())
    }

    /// Whether there is no container image.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The number of container images.
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// The name and the root (manifest or index) of each container image, by name.
    pub fn roots(&self) -> impl Iterator<Item = (&Reference, &Descriptor)> {
        self.roots.iter().map(|(name, (root, _))| (name, root))
    }

    /// Writes the manifest for the index of a cluster image, annotated with the platform that it belongs to.
    pub fn write_for(&self, platform: &Platform, store: &Store) -> Result<Descriptor> {
        let mut workloads = self.write(store)?;
        workloads.set_annotations(Some(HashMap::from([(ANNOTATION_PLATFORM.to_owned(), platform_string(platform))])));
        // as with attestations of buildx: no runtime picks a manifest for an unknown platform
        workloads.set_platform(Some(PlatformBuilder::default().os("unknown").architecture("unknown").build()?));
        Ok(workloads)
    }

    /// Writes the manifest: roots by name, then all other blobs by digest, each once.
    pub fn write(&self, store: &Store) -> Result<Descriptor> {
        let mut layers: Vec<Descriptor> = self.roots.iter().map(|(name, (root, apps))| annotated(root, name, apps)).collect();
        let roots: BTreeSet<String> = layers.iter().map(|root| root.digest().to_string()).collect();
        layers.extend(self.parts.values().filter(|part| !roots.contains(&part.digest().to_string())).cloned());
        let layers: Vec<Descriptor> = layers.iter().map(wrap_workload_blob).collect();
        let empty = store.put(b"{}")?;
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .artifact_type(MediaType::from(TYPE_WORKLOADS))
            .config(describe(MediaType::EmptyJSON, empty)?)
            .layers(layers)
            .build()?;
        let mut descriptor = store.put_json(MediaType::ImageManifest, &manifest)?;
        descriptor.set_artifact_type(Some(MediaType::from(TYPE_WORKLOADS)));
        Ok(descriptor)
    }
}

fn annotated(root: &Descriptor, name: &Reference, apps: &BTreeSet<String>) -> Descriptor {
    let mut annotations = HashMap::from([(ANNOTATION_REF_NAME.to_owned(), name.to_string())]);
    if !apps.is_empty() {
        annotations.insert(ANNOTATION_APP.to_owned(), apps.iter().cloned().collect::<Vec<_>>().join(","));
    }
    let mut root = root.clone();
    root.set_annotations(Some(annotations));
    root
}

/// Media type, digest and size alone: annotations and platform belong to the document that named the blob.
fn bare(descriptor: &Descriptor) -> Descriptor {
    DescriptorBuilder::default()
        .media_type(descriptor.media_type().clone())
        .digest(descriptor.digest().clone())
        .size(descriptor.size())
        .build()
        .expect("media type, digest and size are given")
}

fn describe(media_type: MediaType, blob: Blob) -> Result<Descriptor> {
    Ok(DescriptorBuilder::default().media_type(media_type).digest(blob.digest).size(blob.size).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Content, TYPE_WORKLOAD_BLOB};

    fn described(number: u8) -> Descriptor {
        describe(MediaType::ImageLayer, Blob::of(&[number])).unwrap()
    }

    fn workloads(order: &[(&str, u8)]) -> Workloads {
        let mut workloads = Workloads::default();
        for (name, number) in order {
            let blobs = vec![described(*number), described(100), described(*number + 50)];
            workloads.add(&name.parse().unwrap(), &blobs, &BTreeSet::from(["web".to_owned(), "net".to_owned()])).unwrap();
        }
        workloads
    }

    #[test]
    fn the_manifest_lists_each_blob_once_whatever_the_order_of_adding() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let forth = workloads(&[("a:1", 1), ("b:1", 2), ("a:2", 1)]).write(&store).unwrap();
        let back = workloads(&[("a:2", 1), ("b:1", 2), ("a:1", 1)]).write(&store).unwrap();
        assert_eq!(forth, back);
        let Content::Manifest(manifest) = store.read_manifest(&forth).unwrap() else { panic!("a manifest") };
        // two names of one image are two roots; blobs that images share are listed once
        assert_eq!(manifest.layers().len(), 3 + 3);
        assert!(manifest.layers().iter().all(|layer| layer.media_type().as_ref() == TYPE_WORKLOAD_BLOB), "{manifest:?}");
        let read = Workloads::from_manifest(&manifest).unwrap();
        assert_eq!((read.len(), read.write(&store).unwrap()), (3, forth));
        let apps = manifest.layers()[0].annotations().as_ref().and_then(|all| all.get(ANNOTATION_APP).cloned());
        assert_eq!(apps.as_deref(), Some("net,web"));
    }
}
