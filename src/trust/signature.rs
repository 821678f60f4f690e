//! Signatures of an image: all of them in one manifest, as cosign keeps them under the tag `sha256-<hex>.sig`.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail};
use oci_spec::image::{Descriptor, MediaType};
use serde_json::json;

use super::{Pattern, Payload, PrivateKey, PublicKey};
use crate::error::Failure;
use crate::image::{Blob, Content, Digest, Reference, canonical};
use crate::store::Store;

/// The artifact type of a manifest with signatures, as cosign lists it among referrers.
pub(super) const TYPE_SIGNATURES: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const TYPE_PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What a signature must satisfy.
#[derive(Debug, Clone, Default)]
pub struct SignatureRequirements {
    /// The keys, one of which must have made it; each with its path, for messages.
    pub keys: Vec<(String, PublicKey)>,
    /// Annotations that it must have.
    pub annotations: BTreeMap<String, String>,
    /// The repositories that the image may have been signed as; any if none is given.
    pub signed_as: Option<Pattern>,
}

/// A valid signature.
#[derive(Debug, Clone, serde::Serialize)]
pub struct VerifiedSignature {
    /// The path of the key that made it.
    pub key: String,
    /// The key's fingerprint.
    pub fingerprint: Digest,
    /// The repository that the image was signed as.
    #[serde(rename = "signedAs")]
    pub signed_as: String,
    /// What was signed.
    pub payload: Payload,
}

/// Signs an image of the store and attaches the signature; returns the descriptor of the manifest with all its signatures.
pub fn sign(
    store: &Store,
    name: &Reference,
    image: &Descriptor,
    key: &PrivateKey,
    annotations: &BTreeMap<String, String>,
) -> Result<Descriptor> {
    let bytes = Payload::new(name, Blob::try_from(image)?.digest, annotations).bytes()?;
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

/// Verifies that the image with this digest has a signature that meets the requirements; returns all that do.
///
/// # Errors
/// Of kind `Verification` if no signature is valid; the message says why for each.
pub fn verify(store: &Store, digest: &Digest, requirements: &SignatureRequirements) -> Result<Vec<VerifiedSignature>> {
    let layers = layers(store, digest)?;
    if layers.is_empty() {
        bail!(Failure::verification(format!("{digest} is not signed")).hint("sign it with `sealift sign NAME --key cosign.key`"));
    }
    let (mut valid, mut errors) = (Vec::new(), Vec::new());
    for layer in &layers {
        match verify_one(store, layer, digest, requirements) {
            Ok(signature) => valid.push(signature),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    if valid.is_empty() {
        errors.dedup();
        bail!(Failure::verification(format!("no valid signature of {digest}: {}", errors.join("; "))));
    }
    Ok(valid)
}

fn verify_one(store: &Store, layer: &Descriptor, digest: &Digest, requirements: &SignatureRequirements) -> Result<VerifiedSignature> {
    let bytes = store.read(&Blob::try_from(layer)?).context("the signed payload")?;
    let signature = signature_of(layer).context("it has no signature annotation")?;
    let made_by = |(_, key): &&(String, PublicKey)| key.verifies(&bytes, signature);
    let (name, key) = requirements.keys.iter().find(made_by).context("it was made with another key, or the payload was modified")?;
    let payload = Payload::read(&bytes)?;
    if payload.digest() != *digest {
        bail!("it is for another image: {}", payload.digest());
    }
    let signed_as = payload.signed_as();
    if let Some(pattern) = requirements.signed_as.as_ref().filter(|pattern| !pattern.matches_text(&signed_as)) {
        bail!("it was signed as {signed_as}, not as {pattern}");
    }
    if !payload.has_annotations(&requirements.annotations) {
        bail!("it lacks the annotations required with `-a`");
    }
    Ok(VerifiedSignature { key: name.clone(), fingerprint: key.fingerprint()?, signed_as, payload })
}

/// The signatures of an image that the store has: layers whose annotation is the signature of their bytes.
pub(super) fn layers(store: &Store, digest: &Digest) -> Result<Vec<Descriptor>> {
    let mut found: Vec<Descriptor> = Vec::new();
    for descriptor in manifests(store, digest)? {
        let Content::Manifest(manifest) = store.read_manifest(&descriptor)? else { continue };
        found.extend(signatures_in(manifest.layers()));
    }
    Ok(found)
}

/// The layers of a manifest that are signatures.
pub(super) fn signatures_in(layers: &[Descriptor]) -> Vec<Descriptor> {
    layers.iter().filter(|layer| layer.media_type().as_ref() == TYPE_PAYLOAD && signature_of(layer).is_some()).cloned().collect()
}

/// Whether a referrer is a manifest of signatures.
pub fn is_signatures(referrer: &Descriptor) -> bool {
    referrer.artifact_type().as_ref().is_some_and(|kind| kind.as_ref() == TYPE_SIGNATURES)
}

/// The tag under which cosign looks for an image's signatures.
pub(super) fn signature_tag(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Context;

    /// A store with one image, `shop:1`.
    fn shop() -> (tempfile::TempDir, Store, Reference, Descriptor) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let config = store.put(b"{}").unwrap();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size}});
        let blob = store.put(manifest.to_string().as_bytes()).unwrap();
        let descriptor = Descriptor::new(MediaType::ImageManifest, blob.size, oci_spec::image::Digest::from(blob.digest));
        let name: Reference = "shop:1".parse().unwrap();
        store.tag(&name, &descriptor).unwrap();
        (dir, store, name, descriptor)
    }

    fn digest_of(descriptor: &Descriptor) -> Digest {
        Blob::try_from(descriptor).unwrap().digest
    }

    /// Requires a signature by this key.
    fn requirements_for(key: &PrivateKey) -> SignatureRequirements {
        SignatureRequirements { keys: vec![("own".to_owned(), key.public())], ..SignatureRequirements::default() }
    }

    #[test]
    fn a_signature_is_valid_for_its_key_and_image_only() {
        let (_dir, store, name, image) = shop();
        let (key, none) = (PrivateKey::generate(), BTreeMap::new());
        let (own, other) = (requirements_for(&key), requirements_for(&PrivateKey::generate()));
        let digest = digest_of(&image);
        let refused = |digest: &Digest, requirements: &SignatureRequirements| verify(&store, digest, requirements).unwrap_err().to_string();
        assert!(refused(&digest, &own).ends_with("is not signed"));
        sign(&store, &name, &image, &key, &none).unwrap();
        let both = SignatureRequirements { keys: [other.keys.clone(), own.keys.clone()].concat(), ..SignatureRequirements::default() };
        let signed = verify(&store, &digest, &both).unwrap().remove(0);
        assert_eq!((signed.fingerprint, signed.signed_as.as_str()), (key.public().fingerprint().unwrap(), "docker.io/library/shop"));
        assert!(refused(&digest, &other).contains("it was made with another key"));
        assert!(refused(&Digest::of(b"x"), &own).ends_with("is not signed"));
        let says = SignatureRequirements { annotations: BTreeMap::from([("env".to_owned(), "prod".to_owned())]), ..own.clone() };
        assert!(refused(&digest, &says).contains("lacks the annotations"));
        let named = |pattern: &str| SignatureRequirements { signed_as: Some(pattern.parse().unwrap()), ..own.clone() };
        assert!(verify(&store, &digest, &named("docker.io/*/shop")).is_ok());
        assert!(refused(&digest, &named("quay.io/**")).contains("it was signed as docker.io/library/shop, not as quay.io/**"));
    }

    #[test]
    fn one_valid_signature_of_several_is_enough() {
        let (_dir, store, name, image) = shop();
        let [old, new, other] = [(); 3].map(|()| PrivateKey::generate());
        for key in [&old, &new] {
            sign(&store, &name, &image, key, &BTreeMap::new()).unwrap();
        }
        let digest = digest_of(&image);
        for key in [&old, &new] {
            assert_eq!(verify(&store, &digest, &requirements_for(key)).unwrap().len(), 1);
        }
        let both = SignatureRequirements {
            keys: [requirements_for(&old).keys, requirements_for(&new).keys].concat(),
            ..SignatureRequirements::default()
        };
        assert_eq!(verify(&store, &digest, &both).unwrap().len(), 2);
        assert!(verify(&store, &digest, &requirements_for(&other)).is_err());
    }

    #[test]
    fn a_signature_moved_to_another_image_is_refused() {
        let (_dir, store, name, image) = shop();
        let (key, none) = (PrivateKey::generate(), BTreeMap::new());
        sign(&store, &name, &image, &key, &none).unwrap();
        let other = store.put(b"another image").unwrap();
        let other = Descriptor::new(MediaType::ImageManifest, other.size, oci_spec::image::Digest::from(other.digest));
        add(&store, &other, layers(&store, &digest_of(&image)).unwrap()).unwrap();
        let error = verify(&store, &digest_of(&other), &requirements_for(&key)).unwrap_err();
        assert!(error.to_string().contains("it is for another image"), "{error:#}");
    }

    #[test]
    fn a_changed_payload_is_refused() {
        let (_dir, store, name, image) = shop();
        let (key, none) = (PrivateKey::generate(), BTreeMap::new());
        sign(&store, &name, &image, &key, &none).unwrap();
        let layer = layers(&store, &digest_of(&image)).unwrap().remove(0);
        let path = store.blob_path(&digest_of(&layer));
        let text = std::fs::read_to_string(&path).unwrap().replace("shop", "show");
        std::fs::write(&path, text).unwrap();
        let error = verify(&store, &digest_of(&image), &requirements_for(&key)).unwrap_err();
        assert!(error.to_string().contains("the signed payload"), "{error:#}");
    }

    #[test]
    fn signing_again_changes_nothing_and_another_key_adds_a_signature() {
        let (_dir, store, name, image) = shop();
        let (key, none) = (PrivateKey::generate(), BTreeMap::new());
        let first = sign(&store, &name, &image, &key, &none).unwrap();
        assert_eq!(sign(&store, &name, &image, &key, &none).unwrap(), first);
        sign(&store, &name, &image, &PrivateKey::generate(), &none).unwrap();
        assert_eq!(layers(&store, &digest_of(&image)).unwrap().len(), 2);
        assert_eq!(store.referrers(&digest_of(&image)).unwrap().len(), 1);
    }

    #[test]
    fn prune_keeps_signatures_as_long_as_their_image() {
        let (_dir, store, name, image) = shop();
        let signatures = sign(&store, &name, &image, &PrivateKey::generate(), &BTreeMap::new()).unwrap();
        assert_eq!(store.prune(false, &Context::silent()).unwrap().blobs, 0);
        assert!(store.has(&Blob::try_from(&signatures).unwrap()));
        store.untag(&name).unwrap();
        assert_eq!(store.prune(false, &Context::silent()).unwrap().blobs, 5);
        assert!(store.roots().unwrap().is_empty());
    }
}
