//! Manifests that refer to another: signatures, SBOMs, attestations (OCI image specification 1.1, `subject`).

use anyhow::Result;
use oci_spec::image::Descriptor;

use super::{Content, Digest};

/// The digest of a document's `subject`, if it has one.
pub fn subject_of(content: &Content) -> Result<Option<Digest>> {
    let subject = match content {
        Content::Index(index) => index.subject(),
        Content::Manifest(manifest) => manifest.subject(),
        Content::Leaf => &None,
    };
    subject.as_ref().map(|subject| Digest::try_from(subject.digest())).transpose()
}

/// The descriptor of a document in a list of referrers: with its artifact type, or else the type of its config, and its
/// annotations (OCI distribution specification, "listing referrers").
pub fn referrer(descriptor: &Descriptor, content: &Content) -> Descriptor {
    let mut referrer = Descriptor::new(descriptor.media_type().clone(), descriptor.size(), descriptor.digest().clone());
    let (artifact_type, annotations) = match content {
        Content::Manifest(manifest) => {
            let artifact_type = manifest.artifact_type().clone().unwrap_or_else(|| manifest.config().media_type().clone());
            (Some(artifact_type), manifest.annotations().clone())
        }
        Content::Index(index) => (index.artifact_type().clone(), index.annotations().clone()),
        Content::Leaf => (None, None),
    };
    referrer.set_artifact_type(artifact_type);
    referrer.set_annotations(annotations);
    referrer
}
