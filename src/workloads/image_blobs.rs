//! All blobs of one container image for one platform.

use anyhow::{Context as _, Result};
use oci_spec::image::{Arch, Descriptor, ImageIndex, Platform};

use crate::error::Failure;
use crate::image::{Blob, Content, Reference, children, platform_string};
use crate::store::Store;

/// The blobs of a container image: its root (manifest or index) first, then the manifest of an index, config and layers.
pub type Blobs = Vec<Descriptor>;

/// Calls `fetch`, which puts a blob into the store, for every blob of the image at `root`, and lists them. Of an index, only the manifest
/// for `platform` is fetched; the index itself is kept.
///
/// # Errors
/// Fails if `fetch` does, and if there is no manifest for the platform.
pub fn gather(
    name: &Reference,
    root: &Descriptor,
    platform: &Platform,
    store: &Store,
    mut fetch: impl FnMut(&Blob) -> Result<()>,
) -> Result<Blobs> {
    let mut blobs = vec![root.clone()];
    fetch(&root.try_into()?)?;
    let mut content = store.read_manifest(root)?;
    if let Content::Index(index) = &content {
        let manifest = manifest_for(index, platform).with_context(|| name.to_string())?.clone();
        fetch(&(&manifest).try_into()?)?;
        content = store.read_manifest(&manifest)?;
        blobs.push(manifest);
    }
    if !matches!(content, Content::Manifest(_)) {
        return Err(Failure::verification(format!("{name}: {} is not an image manifest", root.digest())).into());
    }
    for child in children(&content) {
        fetch(&Blob::try_from(&child)?)?;
        blobs.push(child);
    }
    Ok(blobs)
}

/// The manifest of an index that runs on `platform`.
fn manifest_for<'a>(index: &'a ImageIndex, platform: &Platform) -> Result<&'a Descriptor> {
    let variant = |platform: &Platform| match (platform.architecture(), platform.variant().as_deref()) {
        // v8 is the default of arm64: `linux/arm64` and `linux/arm64/v8` are the same
        (Arch::ARM64, Some("v8")) => None,
        (_, variant) => variant.map(str::to_owned),
    };
    let fits = |own: &Platform| own.os() == platform.os() && own.architecture() == platform.architecture();
    let candidates = || index.manifests().iter().filter(|manifest| manifest.platform().as_ref().is_some_and(fits));
    let exact = |manifest: &&Descriptor| manifest.platform().as_ref().is_some_and(|own| variant(own) == variant(platform));
    candidates().find(exact).or_else(|| candidates().next()).ok_or_else(|| {
        let have: Vec<String> = index.manifests().iter().filter_map(|manifest| manifest.platform().as_ref()).map(platform_string).collect();
        Failure::failed(format!("the image is not built for {} (it has {})", platform_string(platform), have.join(", ")))
            .hint("build for one of these platforms with `--platform`, or name an image that has this one")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::parse_platform;

    fn index(platforms: &[&str]) -> ImageIndex {
        let manifest = |(number, platform): (usize, &&str)| {
            let (os, rest) = platform.split_once('/').unwrap();
            let (architecture, variant) = rest.split_once('/').map_or((rest, None), |(arch, variant)| (arch, Some(variant)));
            let mut json = serde_json::json!({"os": os, "architecture": architecture});
            if let Some(variant) = variant {
                json["variant"] = variant.into();
            }
            serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": number,
                "digest": crate::image::Digest::of(platform.as_bytes()), "platform": json})
        };
        let manifests: Vec<_> = platforms.iter().enumerate().map(manifest).collect();
        serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": manifests})).unwrap()
    }

    #[test]
    fn the_manifest_of_the_platform_is_taken() {
        for (have, requested, expected) in [
            (vec!["linux/amd64", "linux/arm64"], "linux/arm64", Some(1)),
            (vec!["linux/arm64/v8"], "linux/arm64", Some(0)),
            (vec!["linux/arm64"], "linux/arm64/v8", Some(0)),
            (vec!["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", Some(1)),
            (vec!["linux/arm/v6", "linux/arm/v7"], "linux/arm", Some(0)),
            (vec!["unknown/unknown", "linux/amd64"], "linux/amd64", Some(1)),
            (vec!["windows/amd64"], "linux/amd64", None),
        ] {
            let index = index(&have);
            let manifest = manifest_for(&index, &parse_platform(requested).unwrap());
            assert_eq!(manifest.ok().map(|manifest| manifest.size()), expected, "{requested} of {have:?}");
        }
    }
}
