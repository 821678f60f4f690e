//! The in-toto statement in a bundle: what is signed, and what is said of it (in-toto/attestation, `spec/v1/statement.md`).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Payload;
use crate::error::Failure;
use crate::image::{Digest, Reference};

/// The types of statements, the older one second: cosign signs with the first, and attests with both.
const TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
/// The predicate type of cosign's signatures of images. A statement with any other is an attestation: it says something about the image,
/// such as how it was built, and not that it may be used.
const SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

/// A statement that an image is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(default)]
    predicate: Value,
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The repository; cosign leaves it out in signatures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The digits of its digest, by algorithm.
    digest: BTreeMap<String, String>,
    /// Annotations of the signer.
    #[serde(default)]
    annotations: Option<BTreeMap<String, Value>>,
}

impl Statement {
    /// The statement that says what this payload says.
    pub fn new(payload: &Payload, annotations: &BTreeMap<String, String>) -> Statement {
        let digest = payload.digest();
        let subject = Subject {
            name: Some(payload.signed_as()),
            digest: BTreeMap::from([(digest.algorithm().name().to_owned(), digest.hex())]),
            annotations: Some(annotations.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()),
        };
        Statement { kind: TYPES[0].to_owned(), subject: vec![subject], predicate_type: SIGNATURE.to_owned(), predicate: json!({}) }
    }

    /// Parses a statement that is a signature. An error of kind `Verification` if it is something else.
    pub fn read(bytes: &[u8]) -> Result<Statement> {
        let statement: Statement =
            serde_json::from_slice(bytes).with_context(|| Failure::verification("the signed payload is not an in-toto statement"))?;
        ensure!(
            TYPES.contains(&statement.kind.as_str()),
            Failure::verification(format!("unsupported type `{}` of the signed statement: expected `{}`", statement.kind, TYPES[0]))
        );
        ensure!(
            statement.predicate_type == SIGNATURE,
            Failure::verification(format!("it is an attestation of type `{}`, not a signature", statement.predicate_type))
        );
        Ok(statement)
    }

    /// The predicate type of a statement that is an attestation; `None` if it is a signature, or cannot be read.
    pub fn attested(bytes: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Typed {
            predicate_type: String,
        }
        let typed: Typed = serde_json::from_slice(bytes).ok()?;
        (typed.predicate_type != SIGNATURE).then_some(typed.predicate_type)
    }

    /// The predicate type, for the annotation of the manifest.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The bytes that are signed, as a DSSE payload.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The subject with this digest.
    pub fn subject(&self, digest: &Digest) -> Option<&Subject> {
        self.subject.iter().find(|subject| subject.digest.get(digest.algorithm().name()).is_some_and(|hex| *hex == digest.hex()))
    }

    /// The digests of all subjects, for messages.
    pub fn digests(&self) -> Vec<String> {
        self.subject.iter().flat_map(|subject| &subject.digest).map(|(algorithm, hex)| format!("{algorithm}:{hex}")).collect()
    }

    /// The repository that the image was signed as, with its registry, if the statement says it.
    pub fn signed_as(&self, digest: &Digest) -> Option<String> {
        let text = self.subject(digest)?.name.as_ref().filter(|name| !name.is_empty())?;
        let name = text.parse::<Reference>().map(|name| format!("{}/{}", name.registry(), name.repository()));
        Some(name.unwrap_or_else(|_| text.clone()))
    }

    /// Whether the image with this digest has all of these annotations.
    pub fn has_annotations(&self, digest: &Digest, annotations: &BTreeMap<String, String>) -> bool {
        let known = self.subject(digest).and_then(|subject| subject.annotations.as_ref());
        annotations.iter().all(|(key, value)| known.and_then(|known| known.get(key)?.as_str()) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "c5945fa0cafdae0ea9edebcfc79618b6024129bacd129fbc940ee0cc2c5356d0";

    fn document(kind: &str, predicate: &str, subject: &str) -> String {
        format!(r#"{{"_type":"{kind}","subject":[{subject}],"predicateType":"{predicate}","predicate":{{}}}}"#)
    }

    /// As cosign 3.1.1 signs with `-a env=prod`.
    fn of_cosign() -> String {
        document(TYPES[0], SIGNATURE, &format!(r#"{{"digest":{{"sha256":"{HEX}"}},"annotations":{{"env":"prod"}}}}"#))
    }

    #[test]
    fn statements_of_cosign_are_read() {
        let (statement, digest) = (Statement::read(of_cosign().as_bytes()).unwrap(), format!("sha256:{HEX}").parse().unwrap());
        assert_eq!((statement.signed_as(&digest), statement.digests()), (None, vec![format!("sha256:{HEX}")]));
        assert_eq!(statement.bytes().unwrap(), of_cosign().as_bytes());
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        for (annotations, expected) in [(map("env", "prod"), true), (map("env", "x"), false), (map("x", "prod"), false)] {
            assert_eq!(statement.has_annotations(&digest, &annotations), expected, "{annotations:?}");
        }
        assert!(statement.subject(&Digest::of(b"another")).is_none());
        assert!(!statement.has_annotations(&Digest::of(b"another"), &map("env", "prod")));
    }

    #[test]
    fn a_statement_says_what_the_payload_says() {
        let (digest, annotations) = (Digest::of(b"image"), BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        let payload = Payload::new(&"shop:1".parse().unwrap(), digest, &annotations);
        let statement = Statement::read(&Statement::new(&payload, &annotations).bytes().unwrap()).unwrap();
        assert_eq!(statement.signed_as(&digest).as_deref(), Some("docker.io/library/shop"));
        assert!(statement.has_annotations(&digest, &annotations));
    }

    #[test]
    fn attestations_and_other_documents_are_no_signatures() {
        let subject = format!(r#"{{"name":"a/b","digest":{{"sha256":"{HEX}"}}}}"#);
        let older = document(TYPES[1], SIGNATURE, &subject);
        assert!(Statement::read(older.as_bytes()).is_ok() && Statement::attested(older.as_bytes()).is_none());
        for (kind, predicate) in [
            (TYPES[0], "https://slsa.dev/provenance/v1"),
            (TYPES[1], "https://cosign.sigstore.dev/attestation/v1"),
            (TYPES[0], "https://sigstore.dev/cosign/sign/v1/"),
            (TYPES[0], ""),
        ] {
            let text = document(kind, predicate, &subject);
            assert!(format!("{:#}", Statement::read(text.as_bytes()).unwrap_err()).contains("not a signature"), "{text}");
            assert_eq!(Statement::attested(text.as_bytes()).as_deref(), Some(predicate));
        }
        for text in [document("https://in-toto.io/Statement/v2", SIGNATURE, &subject), String::new(), "{}".to_owned(), "[]".to_owned()] {
            assert!(Statement::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
