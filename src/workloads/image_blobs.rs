//! All blobs of one container image for one platform.

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Arch, Descriptor, ImageIndex, Platform};

use crate::error::Failure;
use crate::image::{Blob, Content, Reference, children, content_of, platform_string};
use crate::store::Store;

/// How many indexes may be nested.
const MAX_DEPTH: usize = 8;
/// An index without entries.
const INDEX: &[u8] = br#"{"schemaVersion": 2, "manifests": []}"#;

/// The blobs of a container image: its root (manifest or index) first, then the indexes and the manifest below it, config and layers.
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
        let way = way_to_manifest(index, platform, store, &mut fetch, MAX_DEPTH).with_context(|| name.to_string())?;
        if let Some(manifest) = way.last() {
            content = store.read_manifest(manifest)?;
        }
        blobs.extend(way);
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

/// Leads from an index to the manifest for `platform`, through nested indexes if it has no such manifest itself; all of them are fetched.
fn way_to_manifest(
    index: &ImageIndex,
    platform: &Platform,
    store: &Store,
    fetch: &mut impl FnMut(&Blob) -> Result<()>,
    depth: usize,
) -> Result<Vec<Descriptor>> {
    let fitting = manifest_for(index, platform);
    let is_nested =
        |entry: &&Descriptor| entry.platform().is_none() && matches!(content_of(entry.media_type(), INDEX), Ok(Content::Index(_)));
    let candidates: Vec<&Descriptor> = match &fitting {
        Ok(manifest) => vec![manifest],
        Err(_) => index.manifests().iter().filter(is_nested).collect(),
    };
    let mut failed = None;
    for entry in candidates {
        fetch(&entry.try_into()?)?;
        let Content::Index(nested) = store.read_manifest(entry)? else { return Ok(vec![entry.clone()]) };
        ensure!(depth > 0, Failure::verification("its indexes are nested too deeply"));
        match way_to_manifest(&nested, platform, store, fetch, depth - 1) {
            Ok(rest) => return Ok(std::iter::once(entry.clone()).chain(rest).collect()),
            Err(error) => drop(failed.get_or_insert(error)),
        }
    }
    Err(failed.or(fitting.err()).unwrap_or_else(|| Failure::verification("the index lists no manifest").into()))
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

    #[test]
    fn indexes_in_indexes_are_followed_to_the_platform() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let put = |media_type: &str, document: serde_json::Value| {
            let blob = store.put(document.to_string().as_bytes()).unwrap();
            Descriptor::new(media_type.into(), blob.size, oci_spec::image::Digest::from(blob.digest))
        };
        let manifest = |platform: &str| {
            let config = put("application/vnd.oci.image.config.v1+json", serde_json::json!({"platform": platform}));
            let document = serde_json::json!({"schemaVersion": 2, "config": config, "layers": []});
            let mut manifest = put("application/vnd.oci.image.manifest.v1+json", document);
            manifest.set_platform(Some(parse_platform(platform).unwrap()));
            manifest
        };
        let index = |manifests: &[Descriptor]| {
            put("application/vnd.oci.image.index.v1+json", serde_json::json!({"schemaVersion": 2, "manifests": manifests}))
        };
        let (amd64, arm64) = (manifest("linux/amd64"), manifest("linux/arm64"));
        let inner = [index(std::slice::from_ref(&amd64)), index(&[index(std::slice::from_ref(&arm64))])];
        let root = index(&inner);
        let way = |platform: &str| {
            let blobs = gather(&"shop:1".parse().unwrap(), &root, &parse_platform(platform).unwrap(), &store, |_| Ok(()))?;
            anyhow::Ok(blobs.iter().map(|blob| blob.digest().to_string()).collect::<Vec<_>>())
        };
        let digest = |descriptor: &Descriptor| descriptor.digest().to_string();
        let short = way("linux/amd64").unwrap();
        assert_eq!(short[..3], [digest(&root), digest(&inner[0]), digest(&amd64)]);
        let long = way("linux/arm64").unwrap();
        assert_eq!((long.len(), &long[1], &long[3]), (5, &digest(&inner[1]), &digest(&arm64)));
        assert!(format!("{:#}", way("linux/s390x").unwrap_err()).contains("not built for linux/s390x"));
        let mut deep = amd64;
        for _ in 0..MAX_DEPTH + 3 {
            deep.set_platform(None);
            deep = index(&[deep]);
        }
        let error = gather(&"shop:1".parse().unwrap(), &deep, &parse_platform("linux/s390x").unwrap(), &store, |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("nested too deeply"), "{error:#}");
    }
}
