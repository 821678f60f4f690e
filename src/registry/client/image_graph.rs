//! What hangs on an image: its documents and its blobs.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageIndex, Platform};

use super::manifest::Manifest;
use crate::error::Failure;
use crate::image::{ANNOTATION_PLATFORM, Blob, Content, children, parse_platform, platform_string, serves};
use crate::store::Store;

/// An image in the store.
#[derive(Debug)]
pub struct ImageGraph {
    /// Its documents, each after the one that names it.
    pub documents: Vec<Manifest>,
    /// Documents that it names and that are not in the store: arms for platforms that were not pulled.
    pub absent: Vec<Descriptor>,
}

impl ImageGraph {
    /// Reads the image's documents from the store.
    pub fn read(store: &Store, root: &Descriptor) -> Result<ImageGraph> {
        let bytes = store.read(&root.try_into()?)?;
        let mut tree = ImageGraph { documents: vec![Manifest::new(root.clone(), bytes)?], absent: Vec::new() };
        let mut next = 0;
        while let Some(document) = tree.documents.get(next) {
            if let Content::Index(index) = &document.content {
                for arm in index.manifests().clone() {
                    tree.read_arm(store, arm)?;
                }
            }
            next += 1;
        }
        Ok(tree)
    }

    fn read_arm(&mut self, store: &Store, arm: Descriptor) -> Result<()> {
        let blob = Blob::try_from(&arm)?;
        if store.has(&blob) {
            self.documents.push(Manifest::new(arm, store.read(&blob)?)?);
        } else {
            self.absent.push(arm);
        }
        Ok(())
    }

    /// Its blobs, each once.
    pub fn blobs(&self) -> Result<Vec<Blob>> {
        blobs(&self.documents)
    }
}

/// The blobs that these documents name, each once, the largest first so that no long one is left for the end.
pub fn blobs(documents: &[Manifest]) -> Result<Vec<Blob>> {
    let mut seen = HashSet::new();
    let mut blobs = Vec::new();
    for document in documents.iter().filter(|document| matches!(document.content, Content::Manifest(_))) {
        for descriptor in children(&document.content) {
            let blob = Blob::try_from(&descriptor).with_context(|| document.descriptor.digest().to_string())?;
            if seen.insert(blob.digest) {
                blobs.push(blob);
            }
        }
    }
    blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
    Ok(blobs)
}

/// The arms of an index for these platforms: all when none are given; arms that say no platform always.
pub fn arms(index: &ImageIndex, platforms: &[Platform]) -> Result<Vec<Descriptor>> {
    if platforms.is_empty() {
        return Ok(index.manifests().clone());
    }
    let mut chosen = Vec::new();
    let mut others = Vec::new();
    for arm in index.manifests() {
        match platform_of(arm)? {
            Some(platform) if !platforms.iter().any(|wanted| serves(&platform, wanted)) => others.push(platform_string(&platform)),
            _ => chosen.push(arm.clone()),
        }
    }
    if chosen.is_empty() && !others.is_empty() {
        let wanted: Vec<_> = platforms.iter().map(platform_string).collect();
        others.retain(|platform| !platform.starts_with("unknown"));
        let message = format!("the image is not built for {} (it has {})", wanted.join(", "), others.join(", "));
        return Err(Failure::failed(message).hint("choose one of those with `--platform`").into());
    }
    Ok(chosen)
}

/// The platform that an arm is for; workloads manifests say it in an annotation.
fn platform_of(arm: &Descriptor) -> Result<Option<Platform>> {
    match arm.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_PLATFORM)) {
        Some(text) => parse_platform(text).map(Some),
        None => Ok(arm.platform().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn index(arms: &[&str]) -> ImageIndex {
        let manifests: Vec<_> = arms
            .iter()
            .map(|arm| {
                let mut entry = serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                    "digest": Digest::of(arm.as_bytes()).to_string()});
                let parts: Vec<&str> = arm.split('/').collect();
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
    fn arms_of_the_wanted_platforms_and_of_none_are_chosen() {
        let all = ["linux/amd64", "linux/arm64/v8", "workloads/linux/amd64", "workloads/linux/arm64", "nested"];
        for (wanted, expected) in [
            (vec![], vec![0, 1, 2, 3, 4]),
            (vec!["linux/amd64"], vec![0, 2, 4]),
            (vec!["linux/arm64"], vec![1, 3, 4]),
            (vec!["linux/arm64/v8", "linux/amd64"], vec![0, 1, 2, 3, 4]),
            (vec!["linux/arm64/v9"], vec![3, 4]),
        ] {
            let platforms: Vec<_> = wanted.iter().map(|text| parse_platform(text).unwrap()).collect();
            let chosen: Vec<_> = arms(&index(&all), &platforms).unwrap().iter().map(|arm| arm.digest().to_string()).collect();
            let expected: Vec<_> = expected.iter().map(|&place: &usize| Digest::of(all[place].as_bytes()).to_string()).collect();
            assert_eq!(chosen, expected, "{wanted:?}");
        }
    }

    #[test]
    fn a_platform_that_the_image_does_not_have_is_an_error_that_says_which_it_has() {
        let error = arms(&index(&["linux/amd64", "unknown/unknown"]), &[parse_platform("linux/s390x").unwrap()]).unwrap_err();
        assert_eq!(error.to_string(), "the image is not built for linux/s390x (it has linux/amd64)");
    }
}
