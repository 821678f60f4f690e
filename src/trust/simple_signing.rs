//! Signatures in the simple-signing format: all of an image in one manifest, as cosign keeps them under the tag `sha256-<hex>.sig`.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde_json::json;

use super::signature::{Format, Signed};
use super::{Payload, PrivateKey};
use crate::image::{Blob, Content, Digest, canonical};
use crate::store::Store;

/// The artifact type of a manifest with signatures, as cosign lists it among referrers.
const TYPE_SIGNATURES: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const TYPE_PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Signs the payload and adds the signature to those of the image; returns the descriptor of the manifest with all of them.
pub(super) fn sign(store: &Store, image: &Descriptor, payload: &Payload, key: &PrivateKey) -> Result<Descriptor> {
    let bytes = payload.bytes()?;
    let payload = store.put(&bytes)?;
    let mut layer = Descriptor::new(MediaType::Other(TYPE_PAYLOAD.to_owned()), payload.size, oci_spec::image::Digest::from(payload.digest));
    layer.set_annotations(Some(HashMap::from([(ANNOTATION_SIGNATURE.to_owned(), key.sign(&bytes))])));
    add(store, image, vec![layer])
}

/// Adds signatures to those that an image has in the store.
pub(super) fn add(store: &Store, image: &Descriptor, new: Vec<Descriptor>) -> Result<Descriptor> {
    let digest = Blob::try_from(image)?.digest;
    let before = manifests(store, &digest)?;
    let mut layers = layers(store, &digest)?;
    for layer in new {
        if !layers.iter().any(|known| same(known, &layer)) {
            layers.push(layer);
        }
    }
    let written = write(store, image, &layers)?;
    store.attach(&written)?;
    for older in before.iter().filter(|older| older.digest() != written.digest()) {
        store.detach(older)?;
    }
    Ok(written)
}

/// Adds the signatures in a manifest of cosign, which may have no subject, to those of the image in the store.
pub fn adopt_signatures(store: &Store, image: &Descriptor, manifest: &ImageManifest) -> Result<()> {
    let known = layers(store, &Blob::try_from(image)?.digest)?;
    let new: Vec<_> = signatures_in(manifest.layers()).into_iter().filter(|layer| !known.iter().any(|known| same(known, layer))).collect();
    if !new.is_empty() {
        add(store, image, new)?;
    }
    Ok(())
}

/// Reads the payload of a signature and the signature itself.
pub(super) fn read(store: &Store, layer: &Descriptor) -> Result<Signed> {
    let payload = store.read(&Blob::try_from(layer)?).context("the signed payload")?;
    let signature = signature_of(layer).context("it has no signature annotation")?;
    Ok(Signed { format: Format::Simple, bytes: payload.clone(), payload, signatures: vec![signature.clone()] })
}

/// The signatures of an image that the store has, each once: layers whose annotation is the signature of their bytes.
pub(super) fn layers(store: &Store, digest: &Digest) -> Result<Vec<Descriptor>> {
    let mut found: Vec<Descriptor> = Vec::new();
    for descriptor in manifests(store, digest)? {
        let Content::Manifest(manifest) = store.read_manifest(&descriptor)? else { continue };
        for layer in signatures_in(manifest.layers()) {
            if !found.iter().any(|known| same(known, &layer)) {
                found.push(layer);
            }
        }
    }
    Ok(found)
}

/// The layers of a manifest that are signatures.
pub(super) fn signatures_in(layers: &[Descriptor]) -> Vec<Descriptor> {
    layers.iter().filter(|layer| layer.media_type().as_ref() == TYPE_PAYLOAD && signature_of(layer).is_some()).cloned().collect()
}

/// Whether a referrer is a manifest of such signatures.
pub(super) fn is_signatures(referrer: &Descriptor) -> bool {
    referrer.artifact_type().as_ref().is_some_and(|kind| kind.as_ref() == TYPE_SIGNATURES)
}

/// The tag under which cosign looks for an image's signatures.
pub(super) fn signature_tag(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex())
}

/// The tag of a referrer that is a manifest of such signatures; `None` for others.
pub fn tag_of_signatures(referrer: &Descriptor, subject: &Digest) -> Option<String> {
    is_signatures(referrer).then(|| signature_tag(subject))
}

fn manifests(store: &Store, digest: &Digest) -> Result<Vec<Descriptor>> {
    Ok(store.referrers(digest)?.into_iter().filter(is_signatures).collect())
}

fn signature_of(layer: &Descriptor) -> Option<&String> {
    layer.annotations().as_ref()?.get(ANNOTATION_SIGNATURE)
}

/// Whether two layers are the same signature.
pub(super) fn same(a: &Descriptor, b: &Descriptor) -> bool {
    a.digest() == b.digest() && signature_of(a) == signature_of(b)
}

/// Writes the manifest; the same signatures give the same bytes.
fn write(store: &Store, image: &Descriptor, layers: &[Descriptor]) -> Result<Descriptor> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest().to_string()).collect();
    let never = "0001-01-01T00:00:00Z";
    let config = store.put(&canonical(&json!({
        "architecture": "", "os": "", "created": never, "config": {}, "history": vec![json!({"created": never}); layers.len()],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))?)?;
    let manifest = canonical(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": TYPE_SIGNATURES,
        "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size},
        "layers": layers,
        "subject": {"mediaType": image.media_type(), "digest": image.digest(), "size": image.size()},
    }))?;
    let blob = store.put(&manifest)?;
    Ok(Descriptor::new(MediaType::ImageManifest, blob.size, oci_spec::image::Digest::from(blob.digest)))
}
