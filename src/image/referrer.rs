//! Manifests that refer to another: signatures, SBOMs, attestations (OCI image specification 1.1, `subject`), and tags that do.

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

/// The image that a tag belongs to, by its form: cosign's `sha256-<hex>.sig`, `.att` and `.sbom`, and the referrers tag `sha256-<hex>`
/// (OCI distribution specification, "referrers tag schema").
pub fn image_of_tag(tag: &str) -> Option<Digest> {
    let digest = [".sig", ".att", ".sbom"].iter().find_map(|ending| tag.strip_suffix(ending)).unwrap_or(tag);
    let (algorithm, hex) = digest.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_signatures_name_the_digest_of_their_image() {
        let digest = Digest::of(b"image");
        let hex = digest.hex();
        for (tag, expected) in [
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{hex}.att"), true),
            (format!("sha256-{hex}.sbom"), true),
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.txt"), false),
            (format!("sha256-{}", &hex[1..]), false),
            (format!("v1-{hex}"), false),
            ("latest".to_owned(), false),
        ] {
            assert_eq!(image_of_tag(&tag) == Some(digest), expected, "{tag}");
        }
    }
}
