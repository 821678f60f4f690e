//! Digests of blobs: SHA-256 for all that sealift writes; SHA-512 is read where other tools used it.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// An algorithm that is registered for digests (OCI image-spec, descriptor).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `sha256`.
    Sha256,
    /// `sha512`.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

    /// As it is written before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// The digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        match self {
            Algorithm::Sha256 => Digest(Raw::Sha256(Sha256::digest(bytes).into())),
            Algorithm::Sha512 => Digest(Raw::Sha512(Sha512::digest(bytes).into())),
        }
    }
}

/// A digest, written `sha256:<64 lower-case hex digits>` or `sha512:<128>` (OCI image-spec, descriptor).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Raw);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Raw {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// The SHA-256 digest with these raw bytes.
    pub fn from_raw(raw: [u8; 32]) -> Self {
        Digest(Raw::Sha256(raw))
    }

    /// How it was computed.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Raw::Sha256(_) => Algorithm::Sha256,
            Raw::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The digest of other bytes by the same algorithm, to compare with this one.
    pub fn of_same_algorithm(&self, bytes: &[u8]) -> Digest {
        self.algorithm().digest(bytes)
    }

    /// The hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.raw())
    }

    /// The first 12 hex digits, for tables and messages.
    pub fn short(&self) -> String {
        hex::encode(&self.raw()[..6])
    }

    /// The path of the blob below `blobs/` in an OCI layout: `sha256/<hex>`.
    pub fn blob_path(&self) -> String {
        format!("{}/{}", self.algorithm().name(), self.hex())
    }

    /// The digest of a blob by its path below `blobs/`; the reverse of [`Digest::blob_path`].
    pub fn from_blob_path(path: &str) -> Option<Digest> {
        path.replacen('/', ":", 1).parse().ok()
    }

    fn raw(&self) -> &[u8] {
        match &self.0 {
            Raw::Sha256(raw) => raw,
            Raw::Sha512(raw) => raw,
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let named = Algorithm::ALL.into_iter().find_map(|known| Some((known, text.strip_prefix(known.name())?.strip_prefix(':')?)));
        let Some((algorithm, digits)) = named else {
            bail!("digest `{text}`: only sha256 and sha512 are supported");
        };
        ensure!(!digits.bytes().any(|b| b.is_ascii_uppercase()), "digest `{text}`: hex digits must be lower-case");
        let decode = |into: &mut [u8]| {
            let count = into.len() * 2;
            hex::decode_to_slice(digits, into).with_context(|| format!("digest `{text}`: expected {count} hex digits"))
        };
        Ok(Digest(match algorithm {
            Algorithm::Sha256 => {
                let mut raw = [0; 32];
                decode(&mut raw)?;
                Raw::Sha256(raw)
            }
            Algorithm::Sha512 => {
                let mut raw = [0; 64];
                decode(&mut raw)?;
                Raw::Sha512(raw)
            }
        }))
    }
}

impl TryFrom<String> for Digest {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl From<Digest> for oci_spec::image::Digest {
    fn from(digest: Digest) -> Self {
        digest.to_string().parse().expect("a sha256 or sha512 digest is valid by the OCI grammar")
    }
}

impl TryFrom<&oci_spec::image::Digest> for Digest {
    type Error = anyhow::Error;

    fn try_from(digest: &oci_spec::image::Digest) -> Result<Self> {
        digest.to_string().parse()
    }
}

/// A blob as its descriptor names it: digest and size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl Blob {
    /// The blob with these bytes, by SHA-256.
    pub fn of(bytes: &[u8]) -> Self {
        Blob { digest: Digest::of(bytes), size: bytes.len() as u64 }
    }

    /// The blob with these bytes, with the algorithm of `digest`.
    pub fn with_algorithm_of(digest: &Digest, bytes: &[u8]) -> Self {
        Blob { digest: digest.of_same_algorithm(bytes), size: bytes.len() as u64 }
    }
}

impl TryFrom<&Descriptor> for Blob {
    type Error = anyhow::Error;

    fn try_from(descriptor: &Descriptor) -> Result<Self> {
        Ok(Blob { digest: descriptor.digest().try_into()?, size: descriptor.size() })
    }
}

/// Hashes and counts what is written through it. Wraps a writer, or [`io::sink`] to only hash.
pub struct Hasher<W> {
    state: State,
    written: u64,
    inner: W,
}

enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl<W> Hasher<W> {
    /// Hashes what goes into `inner`, by SHA-256.
    pub fn new(inner: W) -> Self {
        Self::with_algorithm(Algorithm::Sha256, inner)
    }

    /// Hashes what goes into `inner`.
    pub fn with_algorithm(algorithm: Algorithm, inner: W) -> Self {
        let state = match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        };
        Hasher { state, written: 0, inner }
    }

    /// Hashes and counts `bytes` without writing them.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
        self.written += bytes.len() as u64;
    }

    /// Bytes so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The writer inside.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.inner
    }

    /// Digest and size of the bytes so far, and the writer.
    pub fn finish(self) -> (Blob, W) {
        let raw = match self.state {
            State::Sha256(state) => Raw::Sha256(state.finalize().into()),
            State::Sha512(state) => Raw::Sha512(state.finalize().into()),
        };
        (Blob { digest: Digest(raw), size: self.written }, self.inner)
    }
}

impl<W: Write> Write for Hasher<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints_and_refuses_the_rest() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        let long = Algorithm::Sha512.digest(b"abc");
        assert!(long.to_string().starts_with("sha512:ddaf35a193617abacc417349ae204131") && long.hex().len() == 128, "{long}");
        for digest in [digest, long] {
            assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            assert_eq!(Digest::from_blob_path(&digest.blob_path()), Some(digest));
            assert_eq!(digest.of_same_algorithm(b"abc"), digest);
            let mut hasher = Hasher::with_algorithm(digest.algorithm(), io::sink());
            hasher.write_all(b"abc").unwrap();
            assert_eq!(hasher.finish().0, Blob::with_algorithm_of(&digest, b"abc"));
        }
        for bad in [
            "sha512:00",
            &digest.to_string().replace("sha256", "sha512"),
            "",
            "sha256:",
            "sha256:ba78",
            "md5:00",
            &digest.to_string().to_uppercase(),
            &digest.to_string().replace("ba", "BA"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
