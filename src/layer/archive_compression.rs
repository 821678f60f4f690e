//! Archives that are compressed as a whole, as `gzip` and `zstd` leave them.

use std::io::{self, Cursor, Read};

use anyhow::{Result, ensure};
use flate2::read::MultiGzDecoder;

use super::Compression;
use super::decompress::compression_by_magic;
use crate::error::Failure;

/// The bytes of an archive, decompressed if its first bytes show gzip or zstd.
///
/// # Errors
/// Of kind `Usage` for an empty archive, and for compressions that are not supported.
pub fn decompressed_archive<'a>(mut archive: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut start = Vec::new();
    archive.by_ref().take(6).read_to_end(&mut start)?;
    ensure!(!start.is_empty(), Failure::usage("not an OCI archive: the file is empty"));
    let unsupported = |name: &str, program: &str| {
        Failure::usage(format!("the archive is compressed with {name}"))
            .hint(format!("decompress it first: `{program} -dc FILE | sealift load`"))
    };
    ensure!(!start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z']), unsupported("xz", "xz"));
    ensure!(!start.starts_with(b"BZh"), unsupported("bzip2", "bzip2"));
    let compression = compression_by_magic(&start);
    let whole = Cursor::new(start).chain(archive);
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(Damaged(MultiGzDecoder::new(whole))),
        Compression::Zstd => Box::new(Damaged(zstd::Decoder::new(whole)?)),
    })
}

/// Marks errors of a decoder as damage of the archive. Errors of the disk and of the reader below stay what they are.
struct Damaged<R>(R);

impl<R: Read> Read for Damaged<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(|error| {
            let known = error.raw_os_error().is_some() || error.get_ref().is_some_and(|inner| inner.is::<Failure>());
            if known || error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            io::Error::new(io::ErrorKind::InvalidData, Failure::verification(format!("the archive's compression is damaged: {error}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::error::{Kind, kind_of};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn archives_are_read_whatever_their_compression() {
        let text = b"an archive".repeat(1000);
        let members = [gzip(&text[..100]), gzip(&text[100..])].concat();
        for bytes in [text.clone(), gzip(&text), members, zstd::encode_all(text.as_slice(), 1).unwrap(), b"a".to_vec()] {
            let mut read = Vec::new();
            decompressed_archive(bytes.as_slice()).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == text || read == b"a");
        }
        for (bytes, said) in [(&b""[..], "the file is empty"), (b"\xfd7zXZ\0", "compressed with xz"), (b"BZh91AY", "compressed with bzip2")]
        {
            let error = decompressed_archive(bytes).err().unwrap();
            assert!(kind_of(&error) == Kind::Usage && error.to_string().contains(said), "{error:#}");
        }
        for whole in [gzip(&text), zstd::encode_all(text.as_slice(), 1).unwrap()] {
            let error = decompressed_archive(&whole[..whole.len() - 8]).unwrap().read_to_end(&mut Vec::new());
            // gzip's reader reports a cut-off stream as the end of the file
            let error = anyhow::Error::from(error.unwrap_err());
            assert_eq!(kind_of(&error), Kind::Verification, "{error:#}");
        }
    }
}
