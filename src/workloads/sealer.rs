//! The container images in an image made by Sealer (0.9 to 0.11): not in a manifest of their own, but as the storage of a
//! docker-registry among the files of the root file system, `registry/docker/registry/v2`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde_json::Value;

use crate::error::Failure;
use crate::image::{Content, Digest, Name, children, content_of};
use crate::layer::read_files;
use crate::store::{Store, Surveyed, Workload};

const REPOSITORIES: &str = "registry/docker/registry/v2/repositories";
const BLOBS: &str = "registry/docker/registry/v2/blobs/sha256";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The container images of an image for one platform; if it has no manifest of them, those in the tree, for which all layers are
/// read: Sealer made it, or an image that it was built from.
pub fn workloads_of(store: &Store, part: &Surveyed) -> Result<Vec<Workload>> {
    if !part.workloads.is_empty() || part.cluster.is_none() {
        return Ok(part.workloads.clone());
    }
    in_tree(store, &part.manifest)
}

/// The tags in the tree. Sealer drops the registry of names: what is `library/nginx` there may have come from anywhere.
fn in_tree(store: &Store, manifest: &ImageManifest) -> Result<Vec<Workload>> {
    let links = read_files(store, manifest, |path| tag_at(path).is_some())?;
    let mut tags = BTreeMap::new();
    for (path, link) in &links {
        let Some(text) = tag_at(path) else { continue };
        let name: Name = text.parse().with_context(|| format!("{}", path.display()))?;
        let digest = std::str::from_utf8(link).unwrap_or_default().trim().parse::<Digest>();
        tags.insert(name, digest.with_context(|| Failure::verification(format!("{} names no blob", path.display())))?);
    }
    let mut documents = read_documents(store, manifest, &tags.values().copied().collect())?;
    let arms: BTreeSet<Digest> = documents.values().flat_map(arms_of).collect();
    documents.extend(read_documents(store, manifest, &arms)?);
    Ok(tags.into_iter().filter_map(|(name, digest)| workload(name, digest, &documents)).collect())
}

/// The name that a path of the tree is the tag of: `…/library/nginx/_manifests/tags/1.25/current/link`.
fn tag_at(path: &Path) -> Option<String> {
    let text = path.strip_prefix(REPOSITORIES).ok()?.to_str()?;
    let (repository, tag) = text.strip_suffix("/current/link")?.split_once("/_manifests/tags/")?;
    (!tag.contains('/')).then(|| format!("{repository}:{tag}"))
}

/// A manifest or index of the tree.
struct Document {
    media_type: String,
    size: u64,
    content: Content,
}

type Documents = BTreeMap<Digest, Document>;

fn read_documents(store: &Store, manifest: &ImageManifest, wanted: &BTreeSet<Digest>) -> Result<Documents> {
    let paths: BTreeMap<PathBuf, Digest> = wanted.iter().map(|digest| (blob_path(digest), *digest)).collect();
    let files = if paths.is_empty() { BTreeMap::new() } else { read_files(store, manifest, |path| paths.contains_key(path))? };
    files.into_iter().filter_map(|(path, bytes)| Some((*paths.get(&path)?, bytes))).map(read_document).collect()
}

fn read_document((digest, bytes): (Digest, Vec<u8>)) -> Result<(Digest, Document)> {
    if Digest::of(&bytes) != digest {
        return Err(Failure::verification(format!("blob {digest} in the image's registry tree is damaged")).into());
    }
    let itself = serde_json::from_slice::<Value>(&bytes).ok().and_then(|value| Some(value.get("mediaType")?.as_str()?.to_owned()));
    let media_type = itself.unwrap_or_else(|| OCI_MANIFEST.to_owned());
    let content = content_of(&MediaType::from(media_type.as_str()), &bytes).with_context(|| format!("blob {digest}"))?;
    Ok((digest, Document { media_type, size: bytes.len() as u64, content }))
}

fn blob_path(digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    Path::new(BLOBS).join(&hex[..2]).join(&hex).join("data")
}

fn arms_of(document: &Document) -> Vec<Digest> {
    match &document.content {
        Content::Index(index) => index.manifests().iter().filter_map(|arm| Digest::try_from(arm.digest()).ok()).collect(),
        _ => Vec::new(),
    }
}

/// A tag whose document is in the tree; its size counts the platforms that are.
fn workload(name: Name, digest: Digest, documents: &Documents) -> Option<Workload> {
    let root = documents.get(&digest)?;
    let arms = arms_of(root);
    let own = std::iter::once(&digest).chain(&arms).filter_map(|digest| documents.get(digest));
    let blobs: BTreeMap<String, u64> = own
        .clone()
        .filter(|document| matches!(document.content, Content::Manifest(_)))
        .flat_map(|document| children(&document.content))
        .map(|blob| (blob.digest().to_string(), blob.size()))
        .collect();
    let size = own.map(|document| document.size).sum::<u64>() + blobs.values().sum::<u64>();
    let media_type = MediaType::from(root.media_type.as_str());
    let descriptor = Descriptor::new(media_type, root.size, oci_spec::image::Digest::from(digest));
    Some(Workload { name, descriptor, app: None, size })
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
}
