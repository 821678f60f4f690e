//! The SBOM of an image in CycloneDX 1.6 (JSON). It is reproducible: the same image gives the same SBOM on any day and machine.

mod packages;
mod rpm;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use oci_spec::image::{Descriptor, ImageManifest, MediaType, Platform};
use serde_json::{Value, json};

use self::packages::{Package, System, escaped, is_package_file, system};
use crate::events::{Context, Unit};
use crate::image::{ANNOTATION_PLATFORM, Algorithm, Blob, Content, Digest, Reference, canonical, platform_string, serves};
use crate::layer::{Source, flatten, is_image, layers_of, list_files, read_files};
use crate::store::{InspectedImage, Store, Workload};

const TYPE_SBOM: &str = "application/vnd.cyclonedx+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Generates the SBOM of an image for one platform: its packages, its files with their digests, and each container image with
/// its packages.
pub fn sbom(store: &Store, name: &Reference, part: &InspectedImage, ctx: &Context) -> Result<Value> {
    let task = ctx.task("list packages and files", Some(1 + part.workloads.len() as u64), Unit::Items);
    let digest = Blob::try_from(&part.rootfs)?.digest;
    let mut components = contents(store, &part.manifest, &digest, name, ctx)?;
    components.extend(files(store, &part.manifest, &digest, ctx)?);
    task.advance(1);
    for workload in &part.workloads {
        ctx.check()?;
        components.push(container(store, workload, &part.platform, ctx)?);
        task.advance(1);
    }
    task.done("");
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": serial(&digest), "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "sealift", "version": env!("CARGO_PKG_VERSION")}]},
            "component": image(name, &digest),
            "properties": [{"name": "sealift:platform", "value": platform_string(&part.platform)}],
        },
        "components": components,
    }))
}

/// Attaches an SBOM to the image as a referrer; replaces an earlier one for the same platform. Returns its descriptor.
pub fn attach(store: &Store, image: &Descriptor, platform: &Platform, bom: &Value) -> Result<Descriptor> {
    let platform = platform_string(platform);
    let (layer, config) = (store.put(&serde_json::to_vec(bom)?)?, store.put(b"{}")?);
    let manifest = canonical(&json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "artifactType": TYPE_SBOM,
        "config": {"mediaType": EMPTY, "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": TYPE_SBOM, "digest": layer.digest, "size": layer.size}],
        "subject": {"mediaType": image.media_type(), "digest": image.digest(), "size": image.size()},
        "annotations": {ANNOTATION_PLATFORM: platform},
    }))?;
    let blob = store.put(&manifest)?;
    let written = Descriptor::new(MediaType::ImageManifest, blob.size, oci_spec::image::Digest::from(blob.digest));
    for older in store.referrers(&Blob::try_from(image)?.digest)? {
        let annotation = older.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_PLATFORM));
        let same_kind = older.artifact_type().as_ref().is_some_and(|kind| kind.as_ref() == TYPE_SBOM);
        if same_kind && annotation == Some(&platform) {
            store.detach(&older)?;
        }
    }
    store.attach(&written)?;
    Ok(written)
}

/// A UUID from a digest, so that the same image has the same one (RFC 9562, version 8).
fn serial(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("urn:uuid:{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// The component of an image.
fn image(name: &Reference, digest: &Digest) -> Value {
    let repository = format!("{}/{}", name.registry(), name.repository());
    let last = name.repository().rsplit('/').next().unwrap_or_default();
    let tag = name.tag().map_or_else(String::new, |tag| format!("&tag={}", escaped(tag)));
    json!({
        "type": "container", "bom-ref": digest.to_string(), "name": name.familiar(), "version": digest.to_string(),
        "hashes": [{"alg": algorithm(digest), "content": digest.hex()}],
        "purl": format!("pkg:oci/{}@{}?repository_url={}{tag}", escaped(last), escaped(&digest.to_string()), escaped(&repository)),
    })
}

/// The system and the packages of a root file system; warns about a database that cannot be read.
fn contents(store: &Store, manifest: &ImageManifest, of: &Digest, name: &Reference, ctx: &Context) -> Result<Vec<Value>> {
    let has_rpm = Cell::new(false);
    let files = read_files(store, manifest, |path| {
        has_rpm.set(has_rpm.get() || rpm::is_database(path));
        is_package_file(path)
    })?;
    let (system, mut packages) = (system(&files), packages::packages(&files));
    let mut components: Vec<Value> = system.iter().map(|system| operating_system(system, of)).collect();
    if has_rpm.get() {
        for (database, found) in rpm_packages(store, manifest, ctx)? {
            match found {
                Ok(found) => packages.extend(found),
                Err(error) => {
                    ctx.warn(format!(
                        "{}: rpm packages are missing in the SBOM: cannot read {}: {error:#}",
                        name.familiar(),
                        database.display()
                    ));
                    components.push(unread_database(&database, of));
                }
            }
        }
    }
    components.extend(packages.iter().map(|package| library(package, system.as_ref(), of)));
    Ok(components)
}

/// The packages in each database of rpm that an image has, or why it cannot be read.
fn rpm_packages(store: &Store, manifest: &ImageManifest, ctx: &Context) -> Result<Vec<(PathBuf, Result<BTreeSet<Package>>)>> {
    let spool = tempfile::tempdir().context("create a temporary directory for the rpm database")?;
    let tree = flatten(store, &layers_of(store, manifest)?, rpm::is_database, spool.path(), ctx)?;
    let file = |path: &Path| match &tree.get(path)?.source {
        Source::File(file, size) if *size > 0 => Some(file),
        _ => None,
    };
    let read = |path: PathBuf| {
        let opened = file(&path).map(fs_err::File::open)?;
        Some((path, opened.map_err(Into::into).and_then(|file| rpm::packages(file.into()))))
    };
    Ok(rpm::current(|path| file(path).is_some()).into_iter().filter_map(read).collect())
}

/// A component that marks a database that cannot be read.
fn unread_database(database: &Path, of: &Digest) -> Value {
    let note = json!([{"name": "sealift:not-read", "value": "rpm database"}]);
    json!({"type": "data", "bom-ref": format!("{of}#{}", database.display()), "name": database, "properties": note})
}

fn operating_system(system: &System, of: &Digest) -> Value {
    let mut component = json!({"type": "operating-system", "bom-ref": format!("{of}#os"), "name": system.id});
    if let Some(version) = &system.version {
        component["version"] = version.as_str().into();
    }
    component
}

fn library(package: &Package, system: Option<&System>, of: &Digest) -> Value {
    let url = package.url(system);
    let mut component = json!({
        "type": "library", "bom-ref": format!("{of}#{url}"), "name": package.name, "version": package.full_version(), "purl": url,
    });
    if let Some(license) = &package.license {
        component["licenses"] = json!([{"license": {"name": license}}]);
    }
    if let Some(header) = &package.header {
        component["properties"] = json!([{"name": "sealift:rpm-header-sha256", "value": header}]);
    }
    component
}

/// The name of the digest's algorithm in CycloneDX.
fn algorithm(digest: &Digest) -> &'static str {
    match digest.algorithm() {
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha512 => "SHA-512",
    }
}

fn files(store: &Store, manifest: &ImageManifest, of: &Digest, ctx: &Context) -> Result<Vec<Value>> {
    let listed = list_files(store, &layers_of(store, manifest)?, ctx)?;
    let file = |(path, digest): (&Path, Digest)| {
        json!({"type": "file", "bom-ref": format!("{of}#/{}", path.display()), "name": format!("/{}", path.display()),
            "hashes": [{"alg": algorithm(&digest), "content": digest.hex()}]})
    };
    Ok(listed.iter().filter_map(|(path, listed)| Some((path.as_path(), listed.digest?))).map(file).collect())
}

/// A container image among the workloads, with its packages.
fn container(store: &Store, workload: &Workload, platform: &Platform, ctx: &Context) -> Result<Value> {
    let mut component = image(&workload.name, &Blob::try_from(&workload.descriptor)?.digest);
    let Some((digest, manifest)) = manifest_for(store, &workload.descriptor, platform)? else {
        return Ok(component);
    };
    // charts and other artifacts are no root file systems
    if is_image(&manifest) {
        let inside = contents(store, &manifest, &digest, &workload.name, ctx);
        component["components"] = inside.with_context(|| format!("container image {}", workload.name.familiar()))?.into();
        qualify_references(&mut component["components"], &workload.name);
    }
    component["bom-ref"] = format!("{}@{digest}", workload.name).into();
    Ok(component)
}

/// Makes the `bom-ref`s unique by the image's name: the same image may be listed under several names.
fn qualify_references(components: &mut Value, name: &Reference) {
    for component in components.as_array_mut().into_iter().flatten() {
        let reference = component["bom-ref"].as_str().unwrap_or_default();
        component["bom-ref"] = format!("{name}@{reference}").into();
    }
}

fn manifest_for(store: &Store, root: &Descriptor, platform: &Platform) -> Result<Option<(Digest, ImageManifest)>> {
    match store.read_manifest(root)? {
        Content::Manifest(manifest) => Ok(Some((Blob::try_from(root)?.digest, *manifest))),
        Content::Index(index) => {
            let serves_platform = |manifest: &&Descriptor| manifest.platform().as_ref().is_some_and(|own| serves(own, platform));
            let Some(child) = index.manifests().iter().find(serves_platform) else { return Ok(None) };
            if !store.has(&Blob::try_from(child)?) {
                return Ok(None);
            }
            match store.read_manifest(child)? {
                Content::Manifest(manifest) => Ok(Some((Blob::try_from(child)?.digest, *manifest))),
                _ => bail!("{} is not an image manifest", child.digest()),
            }
        }
        Content::Leaf => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_have_the_format_of_cyclonedx() {
        let serial = serial(&Digest::of(b"image"));
        let shape = regex::Regex::new("^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$").unwrap();
        assert!(shape.is_match(&serial), "{serial}");
    }
}
