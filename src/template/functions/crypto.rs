//! Digests, encryption and passwords, after sprig's `crypto.go`.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use super::{Result, Row, string, text};
use crate::template::{Engine, Value};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("sha256sum", "s", |_, a| text(hex::encode(Sha256::digest(string(a, 0).as_bytes())))),
    ("sha512sum", "s", |_, a| text(hex::encode(sha2::Sha512::digest(string(a, 0).as_bytes())))),
    ("sha1sum", "s", |_, a| text(hex::encode(sha1(string(a, 0).as_bytes())))),
    ("adler32sum", "s", |_, a| text(adler32(string(a, 0).as_bytes()).to_string())),
    ("encryptAES", "ss", |_, a| encrypt(string(a, 0), string(a, 1))),
    ("decryptAES", "ss", |_, a| decrypt(string(a, 0), string(a, 1))),
    ("bcrypt", "s", |_, a| text(bcrypt_hash(string(a, 0))?)),
    ("htpasswd", "ss", htpasswd),
    ("derivePassword", "issss", |_, a| derive_password(super::int(a, 0), string(a, 1), string(a, 2), string(a, 3), string(a, 4))),
];

/// SHA-1 (FIPS 180-4, section 6.1). Charts derive names from it; it protects nothing.
fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64) + if padded.len() % 64 > 56 { 64 } else { 0 }, 0);
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words = [0u32; 80];
        for (word, four) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = u32::from_be_bytes([four[0], four[1], four[2], four[3]]);
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.iter().enumerate() {
            let (mixed, constant) = match at {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant).wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (slot, word) in state.iter_mut().zip([a, b, c, d, e]) {
            *slot = slot.wrapping_add(word);
        }
    }
    let mut digest = [0; 20];
    for (four, word) in digest.chunks_exact_mut(4).zip(state) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

/// Adler-32 (RFC 1950, section 8.2).
fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}

fn bcrypt_hash(password: &str) -> Result<String> {
    let parts = bcrypt::hash_with_result(password, 10).map_err(|error| error.to_string())?;
    Ok(parts.format_for_version(bcrypt::Version::TwoA))
}

fn htpasswd(_: &Engine, a: &[Value]) -> Result {
    if string(a, 0).contains(':') {
        return text(format!("invalid username: {}", string(a, 0)));
    }
    text(format!("{}:{}", string(a, 0), bcrypt_hash(string(a, 1))?))
}

/// Makes an AES-256 key of a password: truncated or padded with zeros, as in sprig.
fn aes_key(password: &str) -> [u8; 32] {
    let mut key = [0; 32];
    let len = password.len().min(32);
    key[..len].copy_from_slice(&password.as_bytes()[..len]);
    key
}

/// Encrypts with AES-256-CBC and PKCS #7 padding; returns the initialization vector and the ciphertext in base64.
fn encrypt(password: &str, plain: &str) -> Result {
    if plain.is_empty() {
        return text("");
    }
    let vector: [u8; 16] = rand::random();
    let mut ciphertext = vec![0; plain.len() + 16];
    let cipher = cbc::Encryptor::<aes::Aes256>::new(&aes_key(password).into(), &vector.into());
    let ciphertext = cipher.encrypt_padded_b2b::<Pkcs7>(plain.as_bytes(), &mut ciphertext).map_err(|error| error.to_string())?;
    text(BASE64.encode([&vector, ciphertext].concat()))
}

fn decrypt(password: &str, ciphertext: &str) -> Result {
    if ciphertext.is_empty() {
        return text("");
    }
    let bytes = BASE64.decode(ciphertext).map_err(|_| "illegal base64 data")?;
    let (vector, ciphertext) = bytes.split_first_chunk::<16>().ok_or("the ciphertext is shorter than its initialization vector")?;
    let mut plain = vec![0; ciphertext.len()];
    let cipher = cbc::Decryptor::<aes::Aes256>::new(&aes_key(password).into(), &(*vector).into());
    let plain = cipher.decrypt_padded_b2b::<Pkcs7>(ciphertext, &mut plain).map_err(|_| "wrong password, or not encrypted by encryptAES")?;
    text(String::from_utf8_lossy(plain))
}

/// HMAC-SHA-256 (RFC 2104) with a key of 64 bytes.
fn hmac(key: &[u8; 64], message: &[u8]) -> [u8; 32] {
    let keyed = |pad: u8| key.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(keyed(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(keyed(0x5c)).chain_update(inner).finalize().into()
}

/// The templates of the Master Password algorithm; a letter stands for a class of characters.
fn templates(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "maximum" => &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"],
        "long" => &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
        "medium" => &["CvcnoCvc", "CvcCvcno"],
        "short" => &["Cvcn"],
        "basic" => &["aaanaaan", "aannaaan", "aaannaaa"],
        "pin" => &["nnnn"],
        _ => return None,
    })
}

fn characters(class: u8) -> &'static [u8] {
    match class {
        b'V' => b"AEIOU",
        b'C' => b"BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => b"aeiou",
        b'c' => b"bcdfghjklmnpqrstvwxyz",
        b'A' => b"AEIOUBCDFGHJKLMNPQRSTVWXYZ",
        b'a' => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => b"0123456789",
        b'o' => b"@&%?,=[]_:-+*$#!'^~;()/.",
        _ => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

/// Derives a password by the Master Password algorithm, as sprig.
fn derive_password(counter: i64, kind: &str, password: &str, user: &str, site: &str) -> Result {
    let Some(templates) = templates(kind) else { return text(format!("cannot find password template {kind}")) };
    let seeded = |word: &str| {
        let len = u32::try_from(word.len()).unwrap_or(u32::MAX).to_be_bytes();
        [b"com.lyndir.masterpassword".as_slice(), &len, word.as_bytes()].concat()
    };
    let cost = scrypt::Params::new(15, 8, 2).map_err(|error| error.to_string())?;
    let mut key = [0; 64];
    scrypt::scrypt(password.as_bytes(), &seeded(user), &cost, &mut key).map_err(|error| error.to_string())?;
    let counter = u32::try_from(counter).unwrap_or(0).to_be_bytes();
    let seed = hmac(&key, &[seeded(site), counter.to_vec()].concat());
    let template = templates[usize::from(seed[0]) % templates.len()];
    let letters = template.bytes().zip(&seed[1..]).map(|(class, byte)| {
        let set = characters(class);
        char::from(set[usize::from(*byte) % set.len()])
    });
    text(letters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_passwords_are_those_of_sprig() {
        assert_eq!(hex::encode(sha1(b"")), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(hex::encode(sha1(&[b'a'; 60])), "13d956033d9af449bfe2c4ef78c17c20469c4bf1");
        let derived = derive_password(1, "long", "password", "user", "example.com").unwrap();
        assert_eq!(derived.as_text(), Some("ZedaFaxcZaso9*"));
    }

    #[test]
    fn what_sprig_encrypts_is_decrypted_with_its_password_only() {
        let decrypted = decrypt("secretkey", "30tEfhuJSVRhpG97XCuWgz2okj7L8vQ1s6V9zVUPeDQ=").unwrap();
        assert_eq!(decrypted.as_text(), Some("plaintext"));
        for plain in ["x", "sixteen letters.", "more than sixteen letters"] {
            let ciphertext = encrypt("key", plain).unwrap();
            let ciphertext = ciphertext.as_text().unwrap();
            assert_eq!(decrypt("key", ciphertext).unwrap().as_text(), Some(plain));
            assert_ne!(decrypt("other", ciphertext).ok().and_then(|value| value.as_text().map(str::to_owned)).as_deref(), Some(plain));
        }
        assert!(["bad", "c2hvcnQ=", "AAAAAAAAAAAAAAAAAAAAAAA="].iter().all(|ciphertext| decrypt("key", ciphertext).is_err()));
    }
}
