//! The container images in an image made by Sealer (0.9 to 0.11): not in a manifest of their own, but in the storage directory of a docker
//! registry (distribution) among the files of the rootfs, `registry/docker/registry/v2`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde::Deserialize;

use crate::error::Failure;
use crate::image::{ANNOTATION_SEALER_IMAGES, Content, Digest, Reference, UNKNOWN_REGISTRY, children, content_of, media_type_of};
use crate::layer::read_files;
use crate::store::{InspectedImage, Store, Workload};

const REPOSITORIES: &str = "registry/docker/registry/v2/repositories";
const BLOBS: &str = "registry/docker/registry/v2/blobs/sha256";

/// The container images of a cluster image for one platform. If it has no workloads manifest, they are read from the registry directory,
/// and with it all layers: Sealer made the image, or one that it was built from.
pub fn workloads_of(store: &Store, part: &InspectedImage) -> Result<Vec<Workload>> {
    if !part.workloads.is_empty() || part.cluster.is_none() {
        return Ok(part.workloads.clone());
    }
    in_registry(store, &part.manifest)
}

fn in_registry(store: &Store, manifest: &ImageManifest) -> Result<Vec<Workload>> {
    let tags = read_tags(&read_files(store, manifest, is_tag_path)?)?;
    let mut documents = read_documents(store, manifest, &tags.values().copied().collect())?;
    let manifests: BTreeSet<Digest> = documents.values().flat_map(platform_digests).collect();
    documents.extend(read_documents(store, manifest, &manifests)?);
    let originals = OriginalNames::of(manifest)?;
    let mut workloads: Vec<Workload> = Vec::new();
    for (tag, digest) in &tags {
        let names = originals.of_tag(tag)?;
        workloads.extend(names.into_iter().filter_map(|(name, app)| workload(name, app, *digest, &documents)));
    }
    workloads.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(workloads)
}

/// The digests that the tags of a registry directory point at, by repository and tag: `library/nginx:1.25`.
pub type RegistryTags = BTreeMap<String, Digest>;

/// Reads the tags of a registry directory among files of an image, given by path.
///
/// # Errors
/// `Verification` if a tag is not a digest.
pub fn read_tags(files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<RegistryTags> {
    let tag = |(path, link): (&PathBuf, &Vec<u8>)| {
        let tag = tag_at(path)?;
        let digest = std::str::from_utf8(link).unwrap_or_default().trim().parse::<Digest>();
        Some(
            digest
                .map(|digest| (tag, digest))
                .with_context(|| Failure::verification(format!("{}: expected the digest of a manifest", path.display()))),
        )
    };
    files.iter().filter_map(tag).collect()
}

/// Whether a path in an image is that of a tag of the registry directory.
pub fn is_tag_path(path: &Path) -> bool {
    tag_at(path).is_some()
}

/// The repository and tag that a path stands for: `…/library/nginx/_manifests/tags/1.25/current/link`.
fn tag_at(path: &Path) -> Option<String> {
    let text = path.strip_prefix(REPOSITORIES).ok()?.to_str()?;
    let (repository, tag) = text.strip_suffix("/current/link")?.split_once("/_manifests/tags/")?;
    (!tag.contains('/')).then(|| format!("{repository}:{tag}"))
}

/// The blob that a path has the bytes of: `…/blobs/sha256/ab/ab…/data`.
pub(super) fn blob_at(path: &Path) -> Option<Digest> {
    let hex = path.strip_prefix(BLOBS).ok()?.to_str()?.strip_suffix("/data")?.split_once('/')?.1;
    format!("sha256:{hex}").parse().ok()
}

fn blob_path(digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    Path::new(BLOBS).join(&hex[..2]).join(&hex).join("data")
}

/// Whether a path is in the registry directory, or is one of its parents.
pub(super) fn is_in_registry(path: &Path) -> bool {
    path.starts_with("registry/docker") || Path::new("registry/docker").starts_with(path)
}

/// The full names of the images of a registry directory, by repository and tag, each with its application: the directory keeps them without
/// their registries.
#[derive(Debug, Default)]
pub(super) struct OriginalNames(BTreeMap<String, BTreeMap<Reference, String>>);

/// A container image in Sealer's annotation `sea.aliyun.com/container-image-list`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedImage {
    image: String,
    #[serde(default)]
    app_name: String,
}

impl OriginalNames {
    /// Reads Sealer's annotation. Images of 0.9.0, and those built without, have none.
    pub fn of(manifest: &ImageManifest) -> Result<Self> {
        let text = manifest.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_SEALER_IMAGES));
        let Some(text) = text else { return Ok(OriginalNames::default()) };
        let listed: Option<Vec<ListedImage>> =
            serde_json::from_str(text).with_context(|| format!("annotation `{ANNOTATION_SEALER_IMAGES}`"))?;
        let mut names = OriginalNames::default();
        for ListedImage { image, app_name } in listed.unwrap_or_default() {
            let name: Reference = image.parse().with_context(|| format!("annotation `{ANNOTATION_SEALER_IMAGES}`"))?;
            if let Some(tag) = name.tag() {
                names.0.entry(format!("{}:{tag}", name.repository())).or_default().insert(name, app_name);
            }
        }
        Ok(names)
    }

    /// The full names of the image under a repository and tag, each with its application.
    pub fn of_tag(&self, tag: &str) -> Result<Vec<(Reference, Option<String>)>> {
        match self.0.get(tag) {
            Some(names) => Ok(names.iter().map(|(name, app)| (name.clone(), Some(app.clone()).filter(|app| !app.is_empty()))).collect()),
            None => Ok(vec![(format!("{UNKNOWN_REGISTRY}/{tag}").parse().context("a tag in Sealer's registry directory")?, None)]),
        }
    }
}

/// A manifest or index of the registry directory.
struct Document {
    media_type: String,
    size: u64,
    content: Content,
}

type Documents = BTreeMap<Digest, Document>;

fn read_documents(store: &Store, manifest: &ImageManifest, digests: &BTreeSet<Digest>) -> Result<Documents> {
    let paths: BTreeMap<PathBuf, Digest> = digests.iter().map(|digest| (blob_path(digest), *digest)).collect();
    let files = if paths.is_empty() { BTreeMap::new() } else { read_files(store, manifest, |path| paths.contains_key(path))? };
    files.into_iter().filter_map(|(path, bytes)| Some((*paths.get(&path)?, bytes))).map(read_document).collect()
}

fn read_document((digest, bytes): (Digest, Vec<u8>)) -> Result<(Digest, Document)> {
    if Digest::of(&bytes) != digest {
        return Err(Failure::verification(format!(
            "blob {digest} in Sealer's registry directory is damaged: its bytes have another digest"
        ))
        .into());
    }
    let media_type = media_type_of(&bytes).unwrap_or_else(|| "application/octet-stream".to_owned());
    let content = content_of(&MediaType::from(media_type.as_str()), &bytes).with_context(|| format!("blob {digest}"))?;
    Ok((digest, Document { media_type, size: bytes.len() as u64, content }))
}

fn platform_digests(document: &Document) -> Vec<Digest> {
    match &document.content {
        Content::Index(index) => index.manifests().iter().filter_map(|manifest| Digest::try_from(manifest.digest()).ok()).collect(),
        _ => Vec::new(),
    }
}

/// The image of a tag; `None` if its manifest is missing. The size counts the platforms that are there, in bytes.
fn workload(name: Reference, app: Option<String>, digest: Digest, documents: &Documents) -> Option<Workload> {
    let root = documents.get(&digest)?;
    let manifests = platform_digests(root);
    let documents_of_image = std::iter::once(&digest).chain(&manifests).filter_map(|digest| documents.get(digest));
    let blobs: BTreeMap<String, u64> = documents_of_image
        .clone()
        .filter(|document| matches!(document.content, Content::Manifest(_)))
        .flat_map(|document| children(&document.content))
        .map(|blob| (blob.digest().to_string(), blob.size()))
        .collect();
    let size = documents_of_image.map(|document| document.size).sum::<u64>() + blobs.values().sum::<u64>();
    let media_type = MediaType::from(root.media_type.as_str());
    let descriptor = Descriptor::new(media_type, root.size, oci_spec::image::Digest::from(digest));
    Some(Workload { name, descriptor, app, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_by_their_paths() {
        for (path, expected) in [
            ("library/nginx/_manifests/tags/1.25/current/link", Some("library/nginx:1.25")),
            ("a/b/c/_manifests/tags/v1/current/link", Some("a/b/c:v1")),
            ("a/_manifests/tags/v1/index/sha256/ab/link", None),
            ("a/_manifests/revisions/sha256/ab/link", None),
            ("a/_layers/sha256/ab/link", None),
        ] {
            assert_eq!(tag_at(&Path::new(REPOSITORIES).join(path)).as_deref(), expected, "{path}");
        }
        assert_eq!(tag_at(Path::new("etc/passwd")), None);
    }

    #[test]
    fn the_registry_directory_is_recognized_by_its_path() {
        let digest = Digest::of(b"x");
        assert_eq!(blob_at(&blob_path(&digest)), Some(digest));
        for (path, expected) in
            [("", true), ("registry", true), ("registry/docker", true), ("registry/docker/a", true), ("registry/a", false), ("etc", false)]
        {
            assert_eq!(is_in_registry(Path::new(path)), expected, "{path}");
            assert_eq!(blob_at(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn images_get_the_names_of_sealers_annotation_or_else_of_sealers_registry() {
        let text = r#"[{"image":"quay.io/a/b:1","appName":"web","platform":{}},{"image":"docker.io/a/b:1"},{"image":"docker.io/a/c@sha256:0000000000000000000000000000000000000000000000000000000000000000"}]"#;
        let document = serde_json::json!({"schemaVersion": 2, "config": {"mediaType": "x/y", "size": 0, "digest": Digest::of(b"")}, "layers": [],
            "annotations": {ANNOTATION_SEALER_IMAGES: text}});
        let originals = OriginalNames::of(&serde_json::from_value(document).unwrap()).unwrap();
        let names = |tag: &str| -> Vec<String> {
            let name = |(name, app): (Reference, Option<String>)| format!("{name} {}", app.unwrap_or_default());
            originals.of_tag(tag).unwrap().into_iter().map(name).collect()
        };
        assert_eq!(names("a/b:1"), ["docker.io/a/b:1 ", "quay.io/a/b:1 web"]);
        assert_eq!(names("pause:3.2"), ["sea.hub:5000/pause:3.2 "]);
    }
}
