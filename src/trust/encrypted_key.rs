//! Cosign's encrypted private keys: PKCS#8 in nacl's secretbox under a password by scrypt (go-securesystemslib, `encrypted`).

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{Key, KeyInit as _, Nonce, XSalsa20Poly1305};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// What PEM calls such keys; the second is of cosign before 2.0.
pub const LABELS: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];

/// The strength of scrypt that cosign writes with: 64 MiB of memory.
const STRENGTH: Strength = Strength { n: 65536, r: 8, p: 1 };
/// The most memory that a key may ask for, in bytes: a file from elsewhere cannot take all of it.
const MOST_MEMORY: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
struct EncryptedKey {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Strength,
    salt: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Strength {
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
/// Of kind `Usage` if this is no such key, of kind `Failed` if the password is wrong or the key damaged.
pub fn open(bytes: &[u8], password: &SecretString) -> Result<Vec<u8>> {
    let damaged = || Failure::usage("the encrypted key is damaged");
    let sealed: EncryptedKey = serde_json::from_slice(bytes).with_context(damaged)?;
    ensure!(
        sealed.kdf.name == "scrypt" && sealed.cipher.name == "nacl/secretbox",
        Failure::usage(format!(
            "the key is encrypted with `{}` and `{}`, not scrypt and nacl/secretbox",
            sealed.kdf.name, sealed.cipher.name
        ))
    );
    let salt = STANDARD.decode(&sealed.kdf.salt).with_context(damaged)?;
    let nonce = STANDARD.decode(&sealed.cipher.nonce).with_context(damaged)?;
    let ciphertext = STANDARD.decode(&sealed.ciphertext).with_context(damaged)?;
    ensure!(nonce.len() == 24, damaged());
    let opened = secretbox(password, &salt, sealed.kdf.params)?.decrypt(Nonce::from_slice(&nonce), ciphertext.as_slice());
    opened.map_err(|_| Failure::failed("the password does not open the key").hint("check COSIGN_PASSWORD or the password file").into())
}

/// Encrypts a key.
pub fn seal(key: &[u8], password: &SecretString) -> Result<Vec<u8>> {
    let (salt, nonce) = (rand::random::<[u8; 32]>(), rand::random::<[u8; 24]>());
    let ciphertext = secretbox(password, &salt, STRENGTH)?.encrypt(Nonce::from_slice(&nonce), key);
    let ciphertext = ciphertext.map_err(|_| Failure::failed("the key is not encrypted"))?;
    let sealed = EncryptedKey {
        kdf: Kdf { name: "scrypt".to_owned(), params: STRENGTH, salt: STANDARD.encode(salt) },
        cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: STANDARD.encode(nonce) },
        ciphertext: STANDARD.encode(ciphertext),
    };
    Ok(serde_json::to_vec(&sealed)?)
}

fn secretbox(password: &SecretString, salt: &[u8], strength: Strength) -> Result<XSalsa20Poly1305> {
    let Strength { n, r, p } = strength;
    let odd = || Failure::usage(format!("the key asks for scrypt with N={n} r={r} p={p}, which is not done"));
    let memory = n.checked_mul(128 * u64::from(r)).with_context(odd)?;
    ensure!(n.is_power_of_two() && n > 1 && memory <= MOST_MEMORY && (1..=16).contains(&p), odd());
    let params = scrypt::Params::new(u8::try_from(n.trailing_zeros())?, r, p).map_err(|_| odd())?;
    let mut key = Key::default();
    scrypt::scrypt(password.expose_secret().as_bytes(), salt, &params, &mut key).map_err(|_| odd())?;
    Ok(XSalsa20Poly1305::new(&key))
}
