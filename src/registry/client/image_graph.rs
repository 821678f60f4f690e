//! The manifests and blobs of an image in the store.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageIndex, Platform};

use super::manifest::Manifest;
use crate::error::Failure;
use crate::image::{ANNOTATION_PLATFORM, Blob, Content, children, parse_platform, platform_string, serves};
use crate::store::Store;

/// The manifests of an image in the store, read.
#[derive(Debug)]
pub struct ImageGraph {
    /// Its indexes and manifests, each after its parent; the root first.
    pub manifests: Vec<Manifest>,
    /// Manifests that are not in the store: those of platforms that were not pulled.
    pub missing: Vec<Descriptor>,
}

impl ImageGraph {
    /// Reads the manifests of an image from the store. A missing or damaged root is an error of kind `Verification`.
    pub fn read(store: &Store, root: &Descriptor) -> Result<ImageGraph> {
        let bytes = store.read(&root.try_into()?)?;
        let mut graph = ImageGraph { manifests: vec![Manifest::new(root.clone(), bytes)?], missing: Vec::new() };
        let mut next = 0;
        while let Some(manifest) = graph.manifests.get(next) {
            if let Content::Index(index) = &manifest.content {
                for entry in index.manifests().clone() {
                    graph.read_child(store, entry)?;
                }
            }
            next += 1;
        }
        Ok(graph)
    }

    fn read_child(&mut self, store: &Store, entry: Descriptor) -> Result<()> {
        let blob = Blob::try_from(&entry)?;
        if store.has(&blob) {
            self.manifests.push(Manifest::new(entry, store.read(&blob)?)?);
        } else {
            self.missing.push(entry);
        }
        Ok(())
    }

    /// The blobs of its manifests, as [`blobs`] orders them.
    pub fn blobs(&self) -> Result<Vec<Blob>> {
        blobs(&self.manifests)
    }
}

/// The blobs of manifests, each once, the largest first so that no long transfer is left for the end.
pub fn blobs(manifests: &[Manifest]) -> Result<Vec<Blob>> {
    let mut seen = HashSet::new();
    let mut blobs = Vec::new();
    for manifest in manifests.iter().filter(|manifest| matches!(manifest.content, Content::Manifest(_))) {
        for descriptor in children(&manifest.content) {
            let blob = Blob::try_from(&descriptor).with_context(|| manifest.descriptor.digest().to_string())?;
            if seen.insert(blob.digest) {
                blobs.push(blob);
            }
        }
    }
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    Ok(blobs)
}

/// The manifests of an index for these platforms, all if the list is empty. Manifests without a platform are always included.
pub fn manifests_for(index: &ImageIndex, platforms: &[Platform]) -> Result<Vec<Descriptor>> {
    if platforms.is_empty() {
        return Ok(index.manifests().clone());
    }
    let mut selected = Vec::new();
    let mut others = Vec::new();
    for entry in index.manifests() {
        match platform_of(entry)? {
            Some(platform) if !platforms.iter().any(|requested| serves(&platform, requested)) => others.push(platform_string(&platform)),
            _ => selected.push(entry.clone()),
        }
    }
    if selected.is_empty() && !others.is_empty() {
        let requested: Vec<_> = platforms.iter().map(platform_string).collect();
        others.retain(|platform| !platform.starts_with("unknown"));
        let message = format!("the image is not built for {} (it has {})", requested.join(", "), others.join(", "));
        return Err(Failure::failed(message).hint("choose one of those with `--platform`").into());
    }
    Ok(selected)
}

/// The platform of a manifest in an index; workloads manifests have it in an annotation.
fn platform_of(entry: &Descriptor) -> Result<Option<Platform>> {
    match entry.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_PLATFORM)) {
        Some(text) => parse_platform(text).map(Some),
        None => Ok(entry.platform().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn index(platforms: &[&str]) -> ImageIndex {
        let manifests: Vec<_> = platforms
            .iter()
            .map(|platform| {
                let mut entry = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                    "digest": Digest::of(platform.as_bytes()).to_string()});
                let parts: Vec<&str> = platform.split('/').collect();
                match *parts.as_slice() {
                    ["workloads", os, architecture] => {
                        entry["annotations"] = serde_json::json!({ANNOTATION_PLATFORM: format!("{os}/{architecture}")});
                        entry["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
                    }
                    [os, architecture] => entry["platform"] = serde_json::json!({"os": os, "architecture": architecture}),
                    [os, architecture, variant] => {
                        entry["platform"] = serde_json::json!({"os": os, "architecture": architecture, "variant": variant});
                    }
                    _ => {}
                }
                entry
            })
            .collect();
        serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": manifests})).unwrap()
    }

    #[test]
    fn manifests_of_the_requested_platforms_and_of_none_are_selected() {
        let all = ["linux/amd64", "linux/arm64/v8", "workloads/linux/amd64", "workloads/linux/arm64", "nested"];
        for (requested, expected) in [
            (vec![], vec![0, 1, 2, 3, 4]),
            (vec!["linux/amd64"], vec![0, 2, 4]),
            (vec!["linux/arm64"], vec![1, 3, 4]),
            (vec!["linux/arm64/v8", "linux/amd64"], vec![0, 1, 2, 3, 4]),
            (vec!["linux/arm64/v9"], vec![3, 4]),
        ] {
            let platforms: Vec<_> = requested.iter().map(|text| parse_platform(text).unwrap()).collect();
            let selected: Vec<_> =
                manifests_for(&index(&all), &platforms).unwrap().iter().map(|platform| platform.digest().to_string()).collect();
            let expected: Vec<_> = expected.iter().map(|&position: &usize| Digest::of(all[position].as_bytes()).to_string()).collect();
            assert_eq!(selected, expected, "{requested:?}");
        }
    }

    #[test]
    fn a_missing_platform_is_an_error_with_the_available_ones() {
        let error = manifests_for(&index(&["linux/amd64", "unknown/unknown"]), &[parse_platform("linux/s390x").unwrap()]).unwrap_err();
        assert_eq!(error.to_string(), "the image is not built for linux/s390x (it has linux/amd64)");
    }
}
