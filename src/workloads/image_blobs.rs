//! All blobs of one container image for one platform.

use anyhow::{Context as _, Result};
use oci_spec::image::{Arch, Descriptor, ImageIndex, Platform};

use crate::error::Failure;
use crate::image::{Blob, Content, Reference, children, platform_string};
use crate::store::Store;

/// A container image in the store: its root first, then its manifest, config and layers.
pub type Blobs = Vec<Descriptor>;

/// Brings every blob of the image at `root` into the store with `fetch`, and lists them. Of an index the index itself and the
/// manifest for `platform` are kept.
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
        return Err(Failure::verification(format!("{name}: {} is no image manifest", root.digest())).into());
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
        // the only variant there is
        (Arch::ARM64, Some("v8")) => None,
        (_, variant) => variant.map(str::to_owned),
    };
    let fits = |one: &Platform| one.os() == platform.os() && one.architecture() == platform.architecture();
    let candidates = || index.manifests().iter().filter(|one| one.platform().as_ref().is_some_and(fits));
    let exact = |one: &&Descriptor| one.platform().as_ref().is_some_and(|one| variant(one) == variant(platform));
    candidates().find(exact).or_else(|| candidates().next()).ok_or_else(|| {
        let have: Vec<String> = index.manifests().iter().filter_map(|one| one.platform().as_ref()).map(platform_string).collect();
        Failure::failed(format!("not there for {} (for {})", platform_string(platform), have.join(", "))).into()
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
        for (have, wanted, taken) in [
            (vec!["linux/amd64", "linux/arm64"], "linux/arm64", Some(1)),
            (vec!["linux/arm64/v8"], "linux/arm64", Some(0)),
            (vec!["linux/arm64"], "linux/arm64/v8", Some(0)),
            (vec!["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", Some(1)),
            (vec!["linux/arm/v6", "linux/arm/v7"], "linux/arm", Some(0)),
            (vec!["unknown/unknown", "linux/amd64"], "linux/amd64", Some(1)),
            (vec!["windows/amd64"], "linux/amd64", None),
        ] {
            let index = index(&have);
            let manifest = manifest_for(&index, &parse_platform(wanted).unwrap());
            assert_eq!(manifest.ok().map(|one| one.size()), taken, "{wanted} of {have:?}");
        }
    }
}
