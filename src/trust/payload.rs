//! The signed payload: it says which digest a repository's image has (containers/image, `containers-signature.md`; cosign's `SIGNATURE_SPEC.md`).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::image::{Digest, Reference};

const TYPE: &str = "cosign container image signature";

/// A signed payload in the simple-signing format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    critical: Critical,
    /// Annotations of the signer.
    #[serde(default)]
    optional: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SignedImage {
    docker_manifest_digest: Digest,
}

impl Payload {
    /// A payload for the image `digest` of the repository of `name`.
    pub fn new(name: &Reference, digest: Digest, annotations: &BTreeMap<String, String>) -> Payload {
        let registry = if name.registry() == "docker.io" { "index.docker.io" } else { name.registry() };
        let optional = annotations.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        Payload {
            critical: Critical {
                identity: Identity { docker_reference: format!("{registry}/{}", name.repository()) },
                image: SignedImage { docker_manifest_digest: digest },
                kind: TYPE.to_owned(),
            },
            optional: (!annotations.is_empty()).then_some(optional),
        }
    }

    /// Parses a payload. An error of kind `Verification` if it is not one.
    pub fn read(bytes: &[u8]) -> Result<Payload> {
        let payload: Payload =
            serde_json::from_slice(bytes).with_context(|| Failure::verification("the signed payload is not an image signature"))?;
        ensure!(
            [TYPE, "atomic container signature"].contains(&payload.critical.kind.as_str()),
            Failure::verification(format!("unsupported type `{}` of the signed payload: expected `{TYPE}`", payload.critical.kind))
        );
        Ok(payload)
    }

    /// The bytes that are signed.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The digest of the signed image.
    pub fn digest(&self) -> Digest {
        self.critical.image.docker_manifest_digest
    }

    /// The repository that it was signed as, with its registry. Podman and skopeo sign a tag too, which is left out here.
    pub fn signed_as(&self) -> String {
        let text = &self.critical.identity.docker_reference;
        let name = text.parse::<Reference>().map(|name| format!("{}/{}", name.registry(), name.repository()));
        name.unwrap_or_else(|_| text.clone())
    }

    /// Whether it has all of these annotations.
    pub fn has_annotations(&self, annotations: &BTreeMap<String, String>) -> bool {
        let value_of = |key: &String| self.optional.as_ref().and_then(|optional| optional.get(key)?.as_str());
        annotations.iter().all(|(key, value)| value_of(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_the_same_bytes_as_those_of_cosign() {
        let name = "registry.example.com/team/shop:2.1".parse().unwrap();
        let digest = Digest::of(b"image");
        let payload = Payload::new(&name, digest, &BTreeMap::new());
        let text = String::from_utf8(payload.bytes().unwrap()).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"registry.example.com/team/shop"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
            )
        );
        assert_eq!(Payload::read(text.as_bytes()).unwrap(), payload);
    }

    #[test]
    fn other_documents_are_refused() {
        let other = r#"{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"DIGEST"},"type":"note"}}"#
            .replace("DIGEST", &Digest::of(b"").to_string());
        for text in ["", "{}", "[]", &other] {
            assert!(Payload::read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn signed_as_is_a_name_without_tag() {
        for (reference, expected) in [
            ("registry.example.com/team/shop", "registry.example.com/team/shop"),
            ("127.0.0.1:5000/team/shop:1", "127.0.0.1:5000/team/shop"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx"),
            ("no name!", "no name!"),
        ] {
            let mut payload = Payload::new(&"shop".parse().unwrap(), Digest::of(b""), &BTreeMap::new());
            payload.critical.identity.docker_reference = reference.to_owned();
            assert_eq!(payload.signed_as(), expected);
        }
    }

    #[test]
    fn annotations_must_have_the_required_values() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
        let payload = Payload::new(&"shop".parse().unwrap(), Digest::of(b""), &map(&[("env", "prod"), ("by", "ann")]));
        for (wanted, expected) in
            [(map(&[]), true), (map(&[("env", "prod")]), true), (map(&[("env", "test")]), false), (map(&[("x", "")]), false)]
        {
            assert_eq!(payload.has_annotations(&wanted), expected, "{wanted:?}");
        }
    }
}
