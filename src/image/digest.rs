//! SHA-256 digests, and the one way to compute them.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest, written `sha256:<64 lower-case hex digits>` (OCI image-spec, descriptor).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest with these raw bytes.
    pub fn from_raw(raw: [u8; 32]) -> Self {
        Digest(raw)
    }

    /// The 64 hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The first 12 hex digits, for tables and messages.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
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
        let Some(digits) = text.strip_prefix("sha256:") else {
            bail!("digest `{text}`: only sha256 is supported");
        };
        ensure!(!digits.bytes().any(|b| b.is_ascii_uppercase()), "digest `{text}`: hex digits must be lower-case");
        let mut raw = [0; 32];
        hex::decode_to_slice(digits, &mut raw).with_context(|| format!("digest `{text}`: want 64 hex digits"))?;
        Ok(Digest(raw))
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
        digest.to_string().parse().expect("a sha256 digest is valid by the OCI grammar")
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
    /// The blob with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Blob { digest: Digest::of(bytes), size: bytes.len() as u64 }
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
    sha256: Sha256,
    written: u64,
    inner: W,
}

impl<W> Hasher<W> {
    /// Hashes what goes into `inner`.
    pub fn new(inner: W) -> Self {
        Hasher { sha256: Sha256::new(), written: 0, inner }
    }

    /// Takes `bytes` into account without writing them.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
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

    /// What came through, and the writer.
    pub fn finish(self) -> (Blob, W) {
        (Blob { digest: Digest(self.sha256.finalize().into()), size: self.written }, self.inner)
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
        for bad in ["", "sha256:", "sha256:ba78", "md5:00", &digest.to_string().to_uppercase(), &digest.to_string().replace("ba", "BA")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
