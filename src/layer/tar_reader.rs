//! Reads tar archives member by member: ustar, GNU long names, PAX. Extension headers are limited to 1 MiB.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tar::{EntryType, Header};

use crate::error::Failure;

const BLOCK: u64 = 512;
/// Long names and PAX records are at most this many bytes.
const MAX_EXTENSION: u64 = 1 << 20;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    Char,
    Block,
    Fifo,
}

/// One member of an archive; its content is read through [`TarReader::read`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TarEntry {
    pub kind: Kind,
    /// Below the root, without `.` and `..`; empty for the root itself.
    pub path: PathBuf,
    /// The target of a link, as written.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub link: PathBuf,
    pub size: u64,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: i64,
    /// Major and minor numbers.
    #[serde(default)]
    pub device: (u32, u32),
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// The members of a tar archive.
pub(crate) struct TarReader<R> {
    archive: BufReader<R>,
    /// Content of the current member that nobody read yet.
    left: u64,
    /// Zeros after it.
    padding: u64,
    any: bool,
}

impl<R: Read> TarReader<R> {
    pub fn new(archive: R) -> Self {
        TarReader { archive: BufReader::with_capacity(256 << 10, archive), left: 0, padding: 0, any: false }
    }

    /// The next member; none at the end. Fails if anything but zeros follows the end.
    pub fn next(&mut self) -> Result<Option<TarEntry>> {
        let mut long = Extensions::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else {
                ensure!(!long.any, broken("it ends after an extension header"));
                self.drain()?;
                return Ok(None);
            };
            self.any = true;
            let size = long.size.map_or_else(|| header.entry_size(), Ok).map_err(|_| broken("the size of an entry is not a number"))?;
            self.left = size;
            self.padding = (BLOCK - size % BLOCK) % BLOCK;
            match header.entry_type() {
                EntryType::XHeader => long.pax(&self.extension()?)?,
                EntryType::GNULongName => long.path = Some(until_nul(self.extension()?)),
                EntryType::GNULongLink => long.link = Some(until_nul(self.extension()?)),
                EntryType::XGlobalHeader => {}
                kind => return self.member(kind, &header, long).map(Some),
            }
            long.any |= header.entry_type() != EntryType::XGlobalHeader;
        }
    }

    fn member(&mut self, entry_type: EntryType, header: &Header, long: Extensions) -> Result<TarEntry> {
        let name = long.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let shown = String::from_utf8_lossy(&name).into_owned();
        ensure!(!long.sparse, broken(format!("`{shown}` is a sparse file, which is not supported")));
        let kind = match entry_type {
            // before ustar, a directory was a file whose name ends in a slash
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::Hardlink,
            EntryType::Char => Kind::Char,
            EntryType::Block => Kind::Block,
            EntryType::Fifo => Kind::Fifo,
            other => bail!(broken(format!("`{shown}` has the unsupported type {:?}", other.as_byte() as char))),
        };
        let link = long.link.unwrap_or_else(|| header.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default());
        let raw = header.as_old();
        // writers that have nothing to say leave a field blank, which Go and GNU tar read as 0
        let number = |raw: &[u8], field: io::Result<u64>| match field {
            Err(_) if raw.iter().all(|byte| matches!(byte, 0 | b' ')) => Ok(0),
            field => field.map_err(|_| broken(format!("the header of `{shown}` is damaged"))),
        };
        if kind != Kind::File {
            // links to files may repeat the size, but never have content
            self.left = if matches!(kind, Kind::Hardlink | Kind::Symlink) { 0 } else { self.left };
            self.padding = if self.left == 0 { 0 } else { self.padding };
        }
        Ok(TarEntry {
            kind,
            path: below(Path::new(&OsString::from_vec(name)))?,
            link: OsString::from_vec(link).into(),
            size: self.left,
            mode: header.mode().map_err(|_| broken(format!("the header of `{shown}` is damaged")))? & 0o7777,
            uid: long.uid.map_or_else(|| number(&raw.uid, header.uid()), Ok)?,
            gid: long.gid.map_or_else(|| number(&raw.gid, header.gid()), Ok)?,
            mtime: long
                .mtime
                .map_or_else(|| number(&raw.mtime, header.mtime()).map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)), Ok)?,
            device: (header.device_major().ok().flatten().unwrap_or(0), header.device_minor().ok().flatten().unwrap_or(0)),
            xattrs: long.xattrs,
        })
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        match read_full(&mut self.archive, header.as_mut_bytes())? {
            0 => return Ok(None),
            512 => {}
            _ => bail!(broken("it is truncated")),
        }
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
        let whose = if self.any { "a header is damaged" } else { "not a tar archive" };
        ensure!(header.cksum().is_ok_and(|written| written == sum), broken(whose));
        Ok(Some(header))
    }

    fn extension(&mut self) -> Result<Vec<u8>> {
        ensure!(self.left <= MAX_EXTENSION, broken("an extension header is larger than the limit of 1 MiB"));
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn skip_content(&mut self) -> Result<()> {
        io::copy(self, &mut io::sink())?;
        let padding = std::mem::take(&mut self.padding);
        let skipped = io::copy(&mut (&mut self.archive).take(padding), &mut io::sink())?;
        ensure!(skipped == padding, broken("it is truncated"));
        Ok(())
    }

    /// Reads what follows the end mark: zeros, up to the block size of whatever wrote the archive.
    fn drain(&mut self) -> Result<()> {
        let mut buffer = [0; 8192];
        loop {
            match self.archive.read(&mut buffer)? {
                0 => return Ok(()),
                count => ensure!(buffer[..count].iter().all(|&byte| byte == 0), broken("there is data after its end")),
            }
        }
    }
}

/// Reads the content of the current member.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.archive.read(&mut into[..want])?;
        if count == 0 && want > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, broken("it is truncated")));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// What extension headers say about the member that follows.
#[derive(Default)]
struct Extensions {
    any: bool,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    sparse: bool,
    xattrs: BTreeMap<String, Vec<u8>>,
}

impl Extensions {
    /// Records are `<length> <key>=<value>\n`; values may hold any bytes.
    fn pax(&mut self, mut records: &[u8]) -> Result<()> {
        while !records.is_empty() {
            let (key, value, rest) = pax_record(records).ok_or_else(|| broken("a PAX record is damaged"))?;
            records = rest;
            let number = || {
                std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).with_context(|| broken("a PAX value is not a number"))
            };
            match key {
                "path" => self.path = Some(value.to_vec()),
                "linkpath" => self.link = Some(value.to_vec()),
                "size" => self.size = Some(number()?),
                "uid" => self.uid = Some(number()?),
                "gid" => self.gid = Some(number()?),
                "mtime" => self.mtime = Some(whole_seconds(value).with_context(|| broken("a PAX time is not a number"))?),
                _ if key.starts_with("GNU.sparse.") => self.sparse = true,
                _ => {
                    if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                        self.xattrs.insert(name.to_owned(), value.to_vec());
                    }
                }
            }
        }
        Ok(())
    }
}

/// The first record: key, value, what follows.
fn pax_record(records: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let space = records.iter().position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((std::str::from_utf8(&record[..equals]).ok()?, &record[equals + 1..], &records[length..]))
}

/// Seconds, rounded down; PAX writes fractions.
fn whole_seconds(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let below = text.starts_with('-') && fraction.bytes().any(|digit| digit != b'0');
    seconds.checked_sub(i64::from(below))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// A name of the archive as a path below the root. Names that lead out are refused.
pub(super) fn below(name: &Path) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => bail!(escape(format!("the name `{}` is absolute", name.display()))),
            Component::ParentDir => bail!(escape(format!("the name `{}` leads out of the root with `..`", name.display()))),
        }
    }
    Ok(path)
}

/// The error for an attempt to write outside the root.
pub(super) fn escape(what: String) -> Failure {
    Failure::verification(what).hint("the layer tries to write outside its root: do not use this image")
}

/// The error for a damaged archive.
pub(super) fn broken(what: impl std::fmt::Display) -> Failure {
    Failure::verification(format!("the tar archive is damaged: {what}"))
}

/// Reads until the buffer is full or the input ends; returns the number of bytes.
fn read_full(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match from.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_root() {
        for (name, expected) in [
            ("etc/a", Some("etc/a")),
            ("./etc//a/", Some("etc/a")),
            ("./", Some("")),
            ("a/./b", Some("a/b")),
            ("/etc/a", None),
            ("../a", None),
            ("a/../../b", None),
            ("a/..", None),
        ] {
            assert_eq!(below(Path::new(name)).ok().as_deref(), expected.map(Path::new), "{name}");
        }
    }

    #[test]
    fn pax_times_are_rounded_down() {
        for (text, expected) in [("12", Some(12)), ("12.9", Some(12)), ("-1.5", Some(-2)), ("-1", Some(-1)), ("x", None), ("", None)] {
            assert_eq!(whole_seconds(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn damaged_pax_records_are_errors_not_panics() {
        for records in ["", "5 a=\n", "99 a=b\n", "x", "7 a=bc\nrest", "0 a=b\n", "1 a=b\n", "6 ab\n\n"] {
            Extensions::default().pax(records.as_bytes()).ok();
        }
        assert_eq!(pax_record(b"11 path=ab\nx"), Some(("path", &b"ab"[..], &b"x"[..])));
    }
}
