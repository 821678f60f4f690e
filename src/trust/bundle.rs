//! Signatures as cosign makes them since 3.0: a Sigstore bundle among the referrers of the image, in which a DSSE envelope holds the signed
//! statement (sigstore/protobuf-specs, `sigstore_bundle.proto`; secure-systems-lab/dsse, `protocol.md`).

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use oci_spec::image::{Descriptor, MediaType};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::signature::{Format, Signed};
use super::{PrivateKey, Statement};
use crate::error::Failure;
use crate::image::{Blob, Content, canonical};
use crate::store::Store;

/// The media type of bundles, and the artifact type of their manifests.
const TYPE_BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What the media types of all versions of bundles begin with: `….bundle+json;version=0.1` and `….bundle.v0.3+json`.
const BUNDLES: &str = "application/vnd.dev.sigstore.bundle";
const TYPE_STATEMENT: &str = "application/vnd.in-toto+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A bundle, as far as a signature by key needs it: what else there is (certificates, entries of transparency logs) is not looked at.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    #[serde(default)]
    verification_material: serde_json::Value,
    #[serde(default)]
    dsse_envelope: Option<Envelope>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// Whether a referrer is a bundle: a signature or an attestation.
pub(super) fn is_bundle(referrer: &Descriptor) -> bool {
    referrer.artifact_type().as_ref().is_some_and(|kind| kind.as_ref().starts_with(BUNDLES))
}

/// Reads the signature in a bundle; `None` if it is an attestation.
///
/// # Errors
/// Of kind `Verification` if the bundle is damaged, or holds no statement.
pub(super) fn read(store: &Store, referrer: &Descriptor) -> Result<Option<Signed>> {
    let envelope = envelope(store, referrer)?;
    let payload = envelope.payload()?;
    if Statement::attested(&payload).is_some() {
        return Ok(None);
    }
    let signatures = envelope.signatures.iter().map(|one| Ok(STANDARD.encode(decode(&one.sig)?))).collect::<Result<_>>()?;
    Ok(Some(Signed { format: Format::Bundle, bytes: authenticated(&payload), payload, signatures }))
}

/// The predicate type of an attestation; `None` for everything else.
pub fn attested(store: &Store, referrer: &Descriptor) -> Option<String> {
    let payload = is_bundle(referrer).then(|| envelope(store, referrer).and_then(|envelope| envelope.payload()))?.ok()?;
    Statement::attested(&payload)
}

/// The envelope in the bundle of a manifest.
fn envelope(store: &Store, referrer: &Descriptor) -> Result<Envelope> {
    let Content::Manifest(manifest) = store.read_manifest(referrer)? else { return Err(not_a_bundle("it is an index").into()) };
    let layer = manifest.layers().iter().find(|layer| layer.media_type().as_ref().starts_with(BUNDLES));
    let layer = layer.with_context(|| not_a_bundle("its manifest lists none"))?;
    let bytes = store.read(&Blob::try_from(layer)?).context("the bundle")?;
    let bundle: Bundle = serde_json::from_slice(&bytes).map_err(|error| not_a_bundle(&error.to_string()))?;
    let envelope = bundle.dsse_envelope.with_context(|| not_a_bundle("it holds no DSSE envelope"))?;
    ensure!(
        envelope.payload_type == TYPE_STATEMENT,
        not_a_bundle(&format!("its payload has the type `{}`, expected `{TYPE_STATEMENT}`", envelope.payload_type))
    );
    Ok(envelope)
}

fn not_a_bundle(why: &str) -> Failure {
    Failure::verification(format!("not a bundle with a signature: {why}"))
}

impl Envelope {
    fn payload(&self) -> Result<Vec<u8>> {
        decode(&self.payload)
    }
}

/// The bytes that are signed for a statement: DSSE's pre-authentication encoding.
fn authenticated(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {TYPE_STATEMENT} {} ", TYPE_STATEMENT.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Decodes base64 as protobuf's JSON has it: either alphabet, with or without padding.
fn decode(text: &str) -> Result<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let standard = text.trim().replace('-', "+").replace('_', "/");
    GeneralPurpose::new(&alphabet::STANDARD, config).decode(standard).map_err(|error| not_a_bundle(&error.to_string()).into())
}

/// Signs a statement and attaches the bundle to its image; returns the descriptor of the manifest.
pub(super) fn sign(store: &Store, image: &Descriptor, statement: &Statement, key: &PrivateKey) -> Result<Descriptor> {
    let payload = statement.bytes()?;
    let bundle = Bundle {
        media_type: TYPE_BUNDLE.to_owned(),
        // as cosign names a key: the SHA-256 of its DER form
        verification_material: json!({"publicKey": {"hint": STANDARD.encode(hex::decode(key.public().fingerprint()?.hex())?)}}),
        dsse_envelope: Some(Envelope {
            payload: STANDARD.encode(&payload),
            payload_type: TYPE_STATEMENT.to_owned(),
            signatures: vec![EnvelopeSignature { sig: key.sign(&authenticated(&payload)) }],
        }),
    };
    let (layer, empty) = (store.put(&serde_json::to_vec(&bundle)?)?, store.put(b"{}")?);
    let manifest = canonical(&json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": TYPE_BUNDLE,
        "config": {"mediaType": EMPTY, "digest": empty.digest, "size": empty.size},
        "layers": [{"mediaType": TYPE_BUNDLE, "digest": layer.digest, "size": layer.size}],
        "annotations": {
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": statement.predicate_type(),
        },
        "subject": {"mediaType": image.media_type(), "digest": image.digest(), "size": image.size()},
    }))?;
    let blob = store.put(&manifest)?;
    let descriptor = Descriptor::new(MediaType::ImageManifest, blob.size, oci_spec::image::Digest::from(blob.digest));
    store.attach(&descriptor)?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_encoded_as_dsse_has_it() {
        // of protocol.md: "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body
        assert_eq!(authenticated(b"hello world"), b"DSSEv1 28 application/vnd.in-toto+json 11 hello world");
    }

    #[test]
    fn base64_is_read_in_both_alphabets_with_and_without_padding() {
        for text in ["-_8=", "+/8=", "-_8", "+/8", " +/8=\n"] {
            assert_eq!(decode(text).unwrap(), [0xfb, 0xff], "{text}");
        }
        assert!(decode("*").is_err());
    }
}
