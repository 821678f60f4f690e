//! Key pairs for signatures: ECDSA P-256 in PEM, as cosign and openssl write them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use secrecy::SecretString;
use x509_parser::pem::Pem;

use super::encrypted_key;
use crate::error::Failure;
use crate::image::Digest;

/// A private key to sign with. Its `Debug` output does not show the key.
pub struct PrivateKey(SigningKey);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// A new key.
    pub fn generate() -> Self {
        loop {
            // all but one of 2^32 numbers are keys
            if let Ok(key) = SigningKey::from_slice(&rand::random::<[u8; 32]>()) {
                return PrivateKey(key);
            }
        }
    }

    /// Whether the PEM text is a private key that needs a password.
    pub fn is_encrypted(pem: &str) -> bool {
        encrypted_key::LABELS.iter().any(|label| pem.contains(&format!("-----BEGIN {label}-----")))
    }

    /// Reads a key from PEM: cosign's encrypted ones, PKCS#8, or openssl's `EC PRIVATE KEY`.
    ///
    /// # Errors
    /// Of kind `Usage` if it is not such a key; of kind `Failed` if the password is wrong.
    pub fn from_pem(pem: &str, password: Option<&SecretString>) -> Result<Self> {
        for block in blocks(pem) {
            let label = block.label.as_str();
            let key = match label {
                "PRIVATE KEY" | "EC PRIVATE KEY" => from_der(&block.contents)?,
                _ if encrypted_key::LABELS.contains(&label) => {
                    let password = password.context(
                        Failure::usage("the private key is encrypted: a password is required")
                            .hint("set COSIGN_PASSWORD, or use `--password-file`"),
                    )?;
                    from_der(&encrypted_key::decrypt(&block.contents, password)?)?
                }
                "ENCRYPTED PRIVATE KEY" => bail!(
                    Failure::usage("the private key is encrypted as PKCS#8, which is not supported")
                        .hint("decrypt it with `openssl pkcs8 -in KEY -out PLAIN`")
                ),
                _ => continue,
            };
            return Ok(PrivateKey(key));
        }
        bail!(Failure::usage("no private key found: expected PEM").hint("create a key pair with `sealift key generate`"))
    }

    /// The key in PEM, encrypted with the password as cosign does.
    pub fn to_encrypted_pem(&self, password: &SecretString) -> Result<String> {
        let der = self.0.to_pkcs8_der().context("the private key")?;
        Ok(encode("ENCRYPTED SIGSTORE PRIVATE KEY", &encrypted_key::encrypt(der.as_bytes(), password)?))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// The signature of `bytes`, as base64 of the DER form. The same bytes have the same signature (RFC 6979).
    pub fn sign(&self, bytes: &[u8]) -> String {
        let signature: DerSignature = self.0.sign(bytes);
        STANDARD.encode(signature.as_bytes())
    }
}

fn from_der(der: &[u8]) -> Result<SigningKey> {
    let key = p256::SecretKey::from_der(der).map_err(|_| not_p256("private"))?;
    Ok(SigningKey::from(key))
}

fn not_p256(which: &str) -> Failure {
    Failure::usage(format!("the {which} key is not an ECDSA P-256 key"))
        .hint("create a key pair with `sealift key generate` or `cosign generate-key-pair`")
}

/// A public key to verify with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads a key from PEM.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let block = blocks(pem).into_iter().find(|block| block.label == "PUBLIC KEY");
        let block = block.context(
            Failure::usage("no public key found: expected PEM").hint("a public key file begins with `-----BEGIN PUBLIC KEY-----`"),
        )?;
        let key = VerifyingKey::from_public_key_der(&block.contents).map_err(|_| not_p256("public"))?;
        Ok(PublicKey(key))
    }

    /// Reads a key from a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs_err::read_to_string(path).map_err(|error| Failure::usage(error.to_string()))?;
        Self::from_pem(&text).with_context(|| path.display().to_string())
    }

    /// Reads keys from files; returns each with its path, for messages.
    pub fn read_all(paths: &[PathBuf]) -> Result<Vec<(String, PublicKey)>> {
        paths.iter().map(|path| Ok((path.display().to_string(), Self::read(path)?))).collect()
    }

    /// The key in PEM.
    pub fn to_pem(&self) -> Result<String> {
        self.0.to_public_key_pem(LineEnding::LF).context("the public key")
    }

    /// The SHA-256 of the key in DER, which identifies a key whatever its file is called: what
    /// `openssl pkey -pubin -in KEY -outform DER | sha256sum` prints.
    pub fn fingerprint(&self) -> Result<Digest> {
        Ok(Digest::of(self.0.to_public_key_der().context("the public key")?.as_bytes()))
    }

    /// Whether `signature`, base64 of the DER form, is of `bytes` by this key.
    pub fn verifies(&self, bytes: &[u8], signature: &str) -> bool {
        let decoded = STANDARD.decode(signature.trim()).ok().and_then(|der| DerSignature::from_bytes(&der).ok());
        decoded.is_some_and(|signature| self.0.verify(bytes, &signature).is_ok())
    }
}

/// The blocks of a PEM text that can be read.
fn blocks(pem: &str) -> Vec<Pem> {
    Pem::iter_from_buffer(pem.as_bytes()).filter_map(Result::ok).collect()
}

fn encode(label: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: String = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\n").collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with openssl 3: `ecparam -name prime256v1 -genkey`, the same by `pkcs8 -topk8 -nocrypt`, `ec -pubout`,
    /// and `dgst -sha256 -sign` of "hello\n".
    const EC: &str = include_str!("testdata/openssl-ec.pem");
    const PKCS8: &str = include_str!("testdata/openssl-pkcs8.pem");
    const PUBLIC: &str = include_str!("testdata/openssl-public.pem");
    const SIGNATURE: &str = include_str!("testdata/openssl-signature.txt");
    const RSA: &str = include_str!("testdata/openssl-rsa-public.pem");

    /// A key that cosign made, with an empty password (of the tests of sigstore-rs).
    const OF_COSIGN: &str = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n\
        eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6\n\
        OCwicCI6MX0sInNhbHQiOiJFY3pJR3Z0bnpFcCsxaEpudERnbGI1UnoxN3gwQVMy\n\
        YklvWGRNcDQrU1NJPSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94\n\
        Iiwibm9uY2UiOiJtSVVKbG1OMzNINExvZ0dhaG5MamdmK3R4SmJwci93MCJ9LCJj\n\
        aXBoZXJ0ZXh0IjoiM3FtS2FidXRuYm1WT1IvTkZGM2NDaUErTXp1WWQ5L0VERDVI\n\
        MVlUSGhQVzZsSzAvdjVqdDZCQzlsME12NGV5am9qZkl0d3B6a2JJOXQrZGx5VXZ3\n\
        VUgvMWZjbkFZT2dEdXRLQzkvSkNiOE02SVY2VHpVaDF5c0ZFWDFzeG9xb1FzeUpL\n\
        bjM0UVlldFNlaVdDaGtmUHUyZXByQjFEV0pwekdzTGZIakxNVTkzOEdmNk1xM1A0\n\
        N0ZSd2syZzY1cFZnSGMwVWV1L1N1OUs0Zmc9PSJ9\n\
        -----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";

    #[test]
    fn a_key_encrypted_by_cosign_is_decrypted_and_signs() {
        let password = SecretString::from("");
        let key = PrivateKey::from_pem(OF_COSIGN, Some(&password)).unwrap();
        assert!(key.public().verifies(b"image", &key.sign(b"image")));
        assert!(PrivateKey::from_pem(OF_COSIGN, Some(&"x".into())).unwrap_err().to_string().contains("wrong password"));
    }

    #[test]
    fn keys_and_signatures_of_openssl_are_accepted() {
        let public = PublicKey::from_pem(PUBLIC).unwrap();
        for pem in [EC, PKCS8] {
            assert_eq!(PrivateKey::from_pem(pem, None).unwrap().public(), public);
        }
        assert!(public.verifies(b"hello\n", SIGNATURE));
        assert!(!public.verifies(b"hello", SIGNATURE));
        assert!(!public.verifies(b"hello\n", "bm90IERFUg=="));
        assert_eq!(public.to_pem().unwrap(), PUBLIC);
    }

    #[test]
    fn an_encrypted_key_needs_its_password() {
        let (key, password) = (PrivateKey::generate(), SecretString::from("correct horse"));
        let pem = key.to_encrypted_pem(&password).unwrap();
        assert!(PrivateKey::is_encrypted(&pem) && !PrivateKey::is_encrypted(PKCS8));
        assert_eq!(PrivateKey::from_pem(&pem, Some(&password)).unwrap().public(), key.public());
        let older = pem.replace("SIGSTORE", "COSIGN");
        assert_eq!(PrivateKey::from_pem(&older, Some(&password)).unwrap().public(), key.public());
        let wrong = PrivateKey::from_pem(&pem, Some(&"wrong".into())).unwrap_err();
        assert!(wrong.to_string().contains("password"), "{wrong:#}");
        assert!(PrivateKey::from_pem(&pem, None).is_err());
    }

    #[test]
    fn other_pem_blocks_are_refused_with_a_reason() {
        for (pem, expected) in [
            ("", "no public key found: expected PEM"),
            (EC, "no public key found: expected PEM"),
            (RSA, "the public key is not an ECDSA P-256 key"),
        ] {
            assert_eq!(PublicKey::from_pem(pem).unwrap_err().to_string(), expected);
        }
        assert_eq!(PrivateKey::from_pem(PUBLIC, None).unwrap_err().to_string(), "no private key found: expected PEM");
    }
}
