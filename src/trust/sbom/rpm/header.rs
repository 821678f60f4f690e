//! The header of a package, as rpm keeps it in its database (rpm's `docs/manual/hregions.md` and `lib/header.c`): the number of
//! index entries and of data bytes, the entries, the data.

use anyhow::{Context as _, Result, ensure};

use super::disk::Order::Big;
use crate::trust::sbom::packages::Package;

const SHA256: u32 = 273;
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// The bytes of one entry of the index: tag, type, offset, count.
const ENTRY: usize = 16;

/// A header whose index and data lie inside of the bytes.
struct Header<'a> {
    index: &'a [u8],
    data: &'a [u8],
}

/// The package that a header describes; none for what is no package, such as the keys that rpm trusts (`gpg-pubkey`).
///
/// # Errors
/// If the bytes are no header, or one that has no name and version.
pub fn package(bytes: &[u8]) -> Result<Option<Package>> {
    let header = Header::read(bytes)?;
    let need = |tag, what| header.text(tag).with_context(|| format!("a header without {what}"));
    let (name, version, release) = (need(NAME, "a name")?, need(VERSION, "a version")?, need(RELEASE, "a release")?);
    let Some(architecture) = header.text(ARCH) else { return Ok(None) };
    Ok(Some(Package {
        kind: "rpm",
        name,
        version: format!("{version}-{release}"),
        epoch: header.number(EPOCH),
        architecture,
        license: header.text(LICENSE),
        header: header.text(SHA256),
    }))
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Header<'a>> {
        let body = bytes.get(8..).context("a header of less than 8 bytes")?;
        let (entries, length) = (Big.u32(bytes, 0)? as usize, Big.u32(bytes, 4)? as usize);
        let index = entries.checked_mul(ENTRY).filter(|index| index.checked_add(length).is_some_and(|all| all <= body.len()));
        let index = index.with_context(|| format!("a header of {entries} entries and {length} bytes of data in {} bytes", bytes.len()))?;
        let (index, data) = body.split_at(index);
        ensure!(!index.is_empty(), "a header without entries");
        Ok(Header { index, data: &data[..length] })
    }

    /// The type of a tag's value, and the data from its start on.
    fn value(&self, tag: u32) -> Option<(u32, &'a [u8])> {
        let entry = self.index.chunks_exact(ENTRY).find(|entry| Big.u32(entry, 0).is_ok_and(|found| found == tag))?;
        let [kind, offset] = [4, 8].map(|at| Big.u32(entry, at).ok());
        Some((kind?, self.data.get(offset? as usize..)?))
    }

    /// A tag's text, the first one of several.
    fn text(&self, tag: u32) -> Option<String> {
        let (kind, data) = self.value(tag)?;
        let end = data.iter().position(|byte| *byte == 0)?;
        [STRING, STRING_ARRAY, I18N_STRING].contains(&kind).then(|| String::from_utf8_lossy(&data[..end]).into_owned())
    }

    fn number(&self, tag: u32) -> Option<u32> {
        let (kind, data) = self.value(tag)?;
        (kind == INT32).then(|| Big.u32(data, 0).ok()).flatten()
    }
}
