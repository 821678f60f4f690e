//! Cosign's encrypted private keys: PKCS#8 in nacl's secretbox under a password by scrypt (go-securesystemslib, `encrypted`).

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{Key, KeyInit as _, Nonce, XSalsa20Poly1305};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// The PEM labels of such keys; the second is of cosign before 2.0.
pub const LABELS: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];

/// The scrypt parameters that cosign writes: 64 MiB of memory.
const COSIGN_PARAMS: ScryptParams = ScryptParams { n: 65536, r: 8, p: 1 };
/// The most memory in bytes that decrypting a key may take: the parameters come from the file.
const MAX_MEMORY: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct EncryptedKey {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: ScryptParams,
    salt: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct ScryptParams {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// Decrypts a key.
///
/// # Errors
/// Of kind `Usage` if this is not such a key, of kind `Failed` if the password is wrong or the key damaged.
pub fn decrypt(bytes: &[u8], password: &SecretString) -> Result<Vec<u8>> {
    let damaged =
        || Failure::usage("the encrypted key is damaged").hint("restore the file, or create a new key pair with `sealift key generate`");
    let encrypted: EncryptedKey = serde_json::from_slice(bytes).with_context(damaged)?;
    ensure!(
        encrypted.kdf.name == "scrypt" && encrypted.cipher.name == "nacl/secretbox",
        Failure::usage(format!(
            "unsupported encryption of the key, `{}` with `{}`: expected scrypt with nacl/secretbox",
            encrypted.kdf.name, encrypted.cipher.name
        ))
    );
    let salt = STANDARD.decode(&encrypted.kdf.salt).with_context(damaged)?;
    let nonce = STANDARD.decode(&encrypted.cipher.nonce).with_context(damaged)?;
    let ciphertext = STANDARD.decode(&encrypted.ciphertext).with_context(damaged)?;
    ensure!(nonce.len() == 24, damaged());
    let decrypted = secretbox(password, &salt, encrypted.kdf.params)?.decrypt(Nonce::from_slice(&nonce), ciphertext.as_slice());
    decrypted.map_err(|_| Failure::failed("wrong password for the private key").hint("check COSIGN_PASSWORD or the password file").into())
}

/// Encrypts a key.
pub fn encrypt(key: &[u8], password: &SecretString) -> Result<Vec<u8>> {
    let (salt, nonce) = (rand::random::<[u8; 32]>(), rand::random::<[u8; 24]>());
    let ciphertext = secretbox(password, &salt, COSIGN_PARAMS)?.encrypt(Nonce::from_slice(&nonce), key);
    let ciphertext = ciphertext.map_err(|_| Failure::failed("cannot encrypt the private key"))?;
    let encrypted = EncryptedKey {
        kdf: Kdf { name: "scrypt".to_owned(), params: COSIGN_PARAMS, salt: STANDARD.encode(salt) },
        cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: STANDARD.encode(nonce) },
        ciphertext: STANDARD.encode(ciphertext),
    };
    Ok(serde_json::to_vec(&encrypted)?)
}

fn secretbox(password: &SecretString, salt: &[u8], params: ScryptParams) -> Result<XSalsa20Poly1305> {
    let ScryptParams { n, r, p } = params;
    let unsupported = || Failure::usage(format!("unsupported scrypt parameters of the key: N={n} r={r} p={p}"));
    let memory = n.checked_mul(128 * u64::from(r)).with_context(unsupported)?;
    ensure!(n.is_power_of_two() && n > 1 && memory <= MAX_MEMORY && (1..=16).contains(&p), unsupported());
    let params = scrypt::Params::new(u8::try_from(n.trailing_zeros())?, r, p).map_err(|_| unsupported())?;
    let mut key = Key::default();
    scrypt::scrypt(password.expose_secret().as_bytes(), salt, &params, &mut key).map_err(|_| unsupported())?;
    Ok(XSalsa20Poly1305::new(&key))
}
