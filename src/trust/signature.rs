//! Signs and verifies images, in both of cosign's formats.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use oci_spec::image::Descriptor;
use serde::Serialize;

use super::{Pattern, Payload, PrivateKey, PublicKey, Statement, bundle, simple_signing};
use crate::error::Failure;
use crate::image::{Blob, Digest, Reference};
use crate::store::Store;

/// The format of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A simple-signing payload under the tag `sha256-<hex>.sig`: what cosign made by default before 3.0, and what podman and CRI-O read.
    #[default]
    Simple,
    /// A Sigstore bundle among the referrers: what cosign makes by default since 3.0.
    Bundle,
}

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
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedSignature {
    /// The path of the key that made it.
    pub key: String,
    /// The key's fingerprint.
    pub fingerprint: Digest,
    /// Its format.
    pub format: Format,
    /// The repository that the image was signed as; signatures of cosign 3 do not say it.
    pub signed_as: Option<String>,
    /// What was signed.
    pub payload: Claim,
}

/// What a signature says about an image.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Claim {
    /// In the simple-signing format.
    Payload(Payload),
    /// In a bundle.
    Statement(Statement),
}

/// A signature that was read and not verified yet.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    /// Its format, which says how the payload is read.
    pub format: Format,
    /// The bytes that were signed.
    pub bytes: Vec<u8>,
    /// The document in them.
    pub payload: Vec<u8>,
    /// Signatures of the bytes, in base64 of the DER form.
    pub signatures: Vec<String>,
}

/// Signs an image of the store and attaches the signature; returns the descriptor of the manifest with it. The same key signs the same
/// image with the same bytes.
pub fn sign(
    store: &Store,
    name: &Reference,
    image: &Descriptor,
    key: &PrivateKey,
    annotations: &BTreeMap<String, String>,
    format: Format,
) -> Result<Descriptor> {
    let payload = Payload::new(name, Blob::try_from(image)?.digest, annotations);
    match format {
        Format::Simple => simple_signing::sign(store, image, &payload, key),
        Format::Bundle => bundle::sign(store, image, &Statement::new(&payload, annotations), key),
    }
}

/// Verifies that the image with this digest has a signature that meets the requirements; returns all that do.
///
/// # Errors
/// Of kind `Verification` if no signature is valid; the message says why for each.
pub fn verify(store: &Store, digest: &Digest, requirements: &SignatureRequirements) -> Result<Vec<VerifiedSignature>> {
    let signatures = signatures_of(store, digest)?;
    if signatures.is_empty() {
        let failure = Failure::verification(format!("{digest} is not signed"));
        let attested = store.referrers(digest)?.iter().any(|one| bundle::attested(store, one).is_some());
        let failure = if attested { failure.hint("its attestations say something about it, but are no signatures") } else { failure };
        bail!(failure.hint("sign it with `sealift sign NAME --key cosign.key`"));
    }
    let (mut valid, mut errors) = (Vec::new(), Vec::new());
    for signature in signatures {
        match signature.and_then(|signed| signed.verify(digest, requirements)) {
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

/// The signatures of an image in the store, in both formats; an error for each that cannot be read. Attestations are not among them.
fn signatures_of(store: &Store, digest: &Digest) -> Result<Vec<Result<Signed>>> {
    let simple = simple_signing::layers(store, digest)?.into_iter().map(|layer| simple_signing::read(store, &layer));
    let mut all: Vec<Result<Signed>> = simple.collect();
    for referrer in store.referrers(digest)?.iter().filter(|one| bundle::is_bundle(one)) {
        all.extend(bundle::read(store, referrer).transpose());
    }
    Ok(all)
}

/// Whether a referrer has signatures of its subject: a manifest of the simple-signing format, or a bundle that is no attestation.
pub fn is_signature(store: &Store, referrer: &Descriptor) -> bool {
    simple_signing::is_signatures(referrer) || (bundle::is_bundle(referrer) && matches!(bundle::read(store, referrer), Ok(Some(_))))
}

impl Signed {
    fn verify(&self, digest: &Digest, requirements: &SignatureRequirements) -> Result<VerifiedSignature> {
        let made_by = |(_, key): &&(String, PublicKey)| self.signatures.iter().any(|signature| key.verifies(&self.bytes, signature));
        let (name, key) = requirements.keys.iter().find(made_by).context("it was made with another key, or the payload was modified")?;
        let claim = match self.format {
            Format::Simple => Claim::Payload(Payload::read(&self.payload)?),
            Format::Bundle => Claim::Statement(Statement::read(&self.payload)?),
        };
        claim.ensure_is_for(digest)?;
        let signed_as = claim.signed_as(digest);
        if let Some(pattern) = &requirements.signed_as {
            match &signed_as {
                Some(name) if pattern.matches_text(name) => {}
                Some(name) => bail!("it was signed as {name}, not as {pattern}"),
                None => bail!("it does not say what it was signed as, which must be {pattern}"),
            }
        }
        if !claim.has_annotations(digest, &requirements.annotations) {
            bail!("it lacks the annotations required with `-a`");
        }
        Ok(VerifiedSignature { key: name.clone(), fingerprint: key.fingerprint()?, format: self.format, signed_as, payload: claim })
    }
}

impl Claim {
    fn ensure_is_for(&self, digest: &Digest) -> Result<()> {
        match self {
            Claim::Payload(payload) if payload.digest() != *digest => bail!("it is for another image: {}", payload.digest()),
            Claim::Statement(statement) if statement.subject(digest).is_none() => {
                bail!("it is for another image: {}", statement.digests().join(", "))
            }
            _ => Ok(()),
        }
    }

    fn signed_as(&self, digest: &Digest) -> Option<String> {
        match self {
            Claim::Payload(payload) => Some(payload.signed_as()),
            Claim::Statement(statement) => statement.signed_as(digest),
        }
    }

    fn has_annotations(&self, digest: &Digest, annotations: &BTreeMap<String, String>) -> bool {
        match self {
            Claim::Payload(payload) => payload.has_annotations(annotations),
            Claim::Statement(statement) => statement.has_annotations(digest, annotations),
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::MediaType;
    use serde_json::json;

    use super::*;
    use crate::events::Context;
    use crate::trust::simple_signing::{add, layers};

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    const FORMATS: [Format; 2] = [Format::Simple, Format::Bundle];

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
        for format in FORMATS {
            let (_dir, store, name, image) = shop();
            let (key, none) = (PrivateKey::generate(), BTreeMap::new());
            let (own, other) = (requirements_for(&key), requirements_for(&PrivateKey::generate()));
            let digest = digest_of(&image);
            let refused =
                |digest: &Digest, requirements: &SignatureRequirements| verify(&store, digest, requirements).unwrap_err().to_string();
            assert!(refused(&digest, &own).ends_with("is not signed"));
            sign(&store, &name, &image, &key, &none, format).unwrap();
            let both = SignatureRequirements { keys: [other.keys.clone(), own.keys.clone()].concat(), ..SignatureRequirements::default() };
            let signed = verify(&store, &digest, &both).unwrap().remove(0);
            assert_eq!((signed.fingerprint, signed.format), (key.public().fingerprint().unwrap(), format));
            assert_eq!(signed.signed_as.as_deref(), Some("docker.io/library/shop"));
            assert!(refused(&digest, &other).contains("it was made with another key"));
            assert!(refused(&Digest::of(b"x"), &own).ends_with("is not signed"));
            let says = SignatureRequirements { annotations: BTreeMap::from([("env".to_owned(), "prod".to_owned())]), ..own.clone() };
            assert!(refused(&digest, &says).contains("lacks the annotations"));
            sign(&store, &name, &image, &key, &says.annotations, format).unwrap();
            assert_eq!(verify(&store, &digest, &says).unwrap().len(), 1);
            let named = |pattern: &str| SignatureRequirements { signed_as: Some(pattern.parse().unwrap()), ..own.clone() };
            assert!(verify(&store, &digest, &named("docker.io/*/shop")).is_ok());
            assert!(refused(&digest, &named("quay.io/**")).contains("it was signed as docker.io/library/shop, not as quay.io/**"));
        }
    }

    /// Attaches a bundle that holds `payload` of this type, signed.
    fn attach_bundle(store: &Store, image: &Descriptor, payload: &str, payload_type: &str, key: &PrivateKey, predicate: &str) {
        use base64::Engine as _;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let signature = key.sign(format!("DSSEv1 {} {payload_type} {} {payload}", payload_type.len(), payload.len()).as_bytes());
        let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let bundle = json!({"mediaType": media_type, "dsseEnvelope": {
            "payload": encode(payload.as_bytes()), "payloadType": payload_type, "signatures": [{"sig": signature}]}});
        let (layer, config) = (store.put(bundle.to_string().as_bytes()).unwrap(), store.put(b"{}").unwrap());
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": media_type, "subject": image,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config.digest, "size": config.size},
            "layers": [{"mediaType": media_type, "digest": layer.digest, "size": layer.size}],
            "annotations": {"dev.sigstore.bundle.predicateType": predicate}});
        let blob = store.put(manifest.to_string().as_bytes()).unwrap();
        store.attach(&Descriptor::new(MediaType::ImageManifest, blob.size, oci_spec::image::Digest::from(blob.digest))).unwrap();
    }

    #[test]
    fn an_attestation_is_never_a_signature_and_other_bundles_are_told() {
        const STATEMENT: &str = "application/vnd.in-toto+json";
        const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";
        let statement = |digest: &Digest, predicate: &str| {
            json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": predicate, "predicate": {},
                "subject": [{"digest": {"sha256": "00"}}, {"digest": {"sha256": digest.hex()}}]})
            .to_string()
        };
        for (predicate, payload_type, of_image, expected, counts) in [
            (SIGNATURE, STATEMENT, true, "", true),
            ("https://slsa.dev/provenance/v1", STATEMENT, true, "is not signed", false),
            ("https://cosign.sigstore.dev/attestation/v1", STATEMENT, true, "is not signed", false),
            (SIGNATURE, STATEMENT, false, "it is for another image: sha256:00, sha256:", true),
            (SIGNATURE, "text/plain", true, "its payload has the type `text/plain`", false),
        ] {
            let (_dir, store, _, image) = shop();
            let (key, digest) = (PrivateKey::generate(), digest_of(&image));
            let subject = if of_image { digest } else { Digest::of(b"other") };
            let payload = statement(&subject, predicate);
            // what the manifest says of its bundle is not signed, so it does not count
            attach_bundle(&store, &image, &payload, payload_type, &key, SIGNATURE);
            let said = verify(&store, &digest, &requirements_for(&key)).map_or_else(|error| format!("{error:#}"), |_| String::new());
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{predicate} {payload_type}: {said}");
            assert_eq!(is_signature(&store, &store.referrers(&digest).unwrap()[0]), counts, "{predicate} {payload_type}");
        }
    }

    #[test]
    fn one_valid_signature_of_several_is_enough() {
        let (_dir, store, name, image) = shop();
        let [old, new, other] = [(); 3].map(|()| PrivateKey::generate());
        for (key, format) in [&old, &new].into_iter().zip(FORMATS) {
            sign(&store, &name, &image, key, &BTreeMap::new(), format).unwrap();
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
        sign(&store, &name, &image, &key, &none, Format::Simple).unwrap();
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
        sign(&store, &name, &image, &key, &none, Format::Simple).unwrap();
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
        let bundle = sign(&store, &name, &image, &key, &none, Format::Bundle).unwrap();
        assert_eq!(sign(&store, &name, &image, &key, &none, Format::Bundle).unwrap(), bundle);
        assert_eq!(store.referrers(&digest_of(&image)).unwrap().len(), 1);
        store.detach(&bundle).unwrap();
        let first = sign(&store, &name, &image, &key, &none, Format::Simple).unwrap();
        assert_eq!(sign(&store, &name, &image, &key, &none, Format::Simple).unwrap(), first);
        sign(&store, &name, &image, &PrivateKey::generate(), &none, Format::Simple).unwrap();
        assert_eq!(layers(&store, &digest_of(&image)).unwrap().len(), 2);
        assert_eq!(store.referrers(&digest_of(&image)).unwrap().len(), 1);
    }

    #[test]
    fn prune_keeps_signatures_as_long_as_their_image() {
        let (_dir, store, name, image) = shop();
        let signatures = sign(&store, &name, &image, &PrivateKey::generate(), &BTreeMap::new(), Format::Simple).unwrap();
        assert_eq!(store.prune(false, &Context::silent()).unwrap().blobs, 0);
        assert!(store.has(&Blob::try_from(&signatures).unwrap()));
        store.untag(&name).unwrap();
        assert_eq!(store.prune(false, &Context::silent()).unwrap().blobs, 5);
        assert!(store.roots().unwrap().is_empty());
    }
}
