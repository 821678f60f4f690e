//! Writes tar entries: plain ustar headers, and PAX records only for values that do not fit there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tar::{EntryType, Header};

use super::{Entry, OPAQUE, Source, WHITEOUT};

const BLOCK: usize = 512;
/// What seven and eleven octal digits hold.
const MAX_ID: u64 = 0o7_777_777;
const MAX_NUMBER: u64 = 0o77_777_777_777;

/// Writes the header, or headers, of an entry. The content of a regular file follows, then [`padding`].
pub(super) fn write_header(out: &mut impl Write, path: &Path, entry: &Entry, newest_mtime: i64) -> io::Result<()> {
    let mtime = entry.mtime.min(newest_mtime);
    let name = path.as_os_str().as_bytes();
    let block = |kind: EntryType, name: Vec<u8>, link: &[u8]| TarHeader { kind, name, link: link.to_vec(), mtime, entry };
    match &entry.source {
        Source::File(..) | Source::Bytes(_) => block(EntryType::Regular, name.to_vec(), b"").write(out),
        Source::Directory => block(EntryType::Directory, with_slash(name), b"").write(out),
        Source::OpaqueDirectory => {
            block(EntryType::Directory, with_slash(name), b"").write(out)?;
            write_marker(out, &path.join(OPAQUE), mtime)
        }
        Source::Symlink(target) => block(EntryType::Symlink, name.to_vec(), target.as_os_str().as_bytes()).write(out),
        Source::Hardlink(target) => block(EntryType::Link, name.to_vec(), target.as_os_str().as_bytes()).write(out),
        Source::Whiteout => {
            let mut hidden = WHITEOUT.as_bytes().to_vec();
            hidden.extend_from_slice(path.file_name().unwrap_or_default().as_bytes());
            write_marker(out, &path.with_file_name(OsStr::from_bytes(&hidden)), mtime)
        }
    }
}

/// The zeros that fill the last block of `size` bytes of content.
pub(super) fn padding(size: u64) -> &'static [u8] {
    let rest = (size % BLOCK as u64) as usize;
    &[0; BLOCK][..(BLOCK - rest) % BLOCK]
}

/// The end of an archive.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// One header with what it needs.
struct TarHeader<'a> {
    kind: EntryType,
    name: Vec<u8>,
    link: Vec<u8>,
    mtime: i64,
    entry: &'a Entry,
}

/// Writes a whiteout: an empty file that is only a name.
fn write_marker(out: &mut impl Write, path: &Path, mtime: i64) -> io::Result<()> {
    let entry = Entry { source: Source::Bytes(Vec::new()), mode: 0o644, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() };
    TarHeader { kind: EntryType::Regular, name: path.as_os_str().as_bytes().to_vec(), link: Vec::new(), mtime, entry: &entry }.write(out)
}

impl TarHeader<'_> {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let mut pax = Pax::default();
        let fits = set_name(&mut header, &self.name);
        pax.unless(fits, "path", || self.name.clone());
        pax.unless(set_link(&mut header, &self.link), "linkpath", || self.link.clone());
        let size = self.entry.size();
        header.set_size(size.min(MAX_NUMBER));
        pax.unless(size <= MAX_NUMBER, "size", || size.to_string().into_bytes());
        header.set_uid(self.entry.uid.min(MAX_ID));
        pax.unless(self.entry.uid <= MAX_ID, "uid", || self.entry.uid.to_string().into_bytes());
        header.set_gid(self.entry.gid.min(MAX_ID));
        pax.unless(self.entry.gid <= MAX_ID, "gid", || self.entry.gid.to_string().into_bytes());
        let seconds = u64::try_from(self.mtime).unwrap_or(0).min(MAX_NUMBER);
        header.set_mtime(seconds);
        pax.unless(i64::try_from(seconds) == Ok(self.mtime), "mtime", || self.mtime.to_string().into_bytes());
        for (name, value) in &self.entry.xattrs {
            pax.add(&format!("SCHILY.xattr.{name}"), value);
        }
        header.set_mode(self.entry.mode & 0o7777);
        header.set_entry_type(self.kind);
        pax.write(out, seconds)?;
        header.set_cksum();
        out.write_all(header.as_bytes())
    }
}

fn with_slash(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// Puts a name in a ustar header, split over prefix and name if need be; whether it fits. One that does not is cut.
fn set_name(header: &mut Header, name: &[u8]) -> bool {
    let ustar = header.as_ustar_mut().expect("the header was made as ustar");
    if name.len() <= ustar.name.len() {
        ustar.name[..name.len()].copy_from_slice(name);
        return true;
    }
    // the slash between the two is not written, and neither part may be empty
    let last = name.len() - 1;
    let slash = (0..last).rev().find(|&at| name[at] == b'/' && at <= ustar.prefix.len() && at > 0);
    match slash {
        Some(at) if name.len() - at - 1 <= ustar.name.len() => {
            ustar.prefix[..at].copy_from_slice(&name[..at]);
            ustar.name[..name.len() - at - 1].copy_from_slice(&name[at + 1..]);
            true
        }
        _ => {
            let cut = ustar.name.len();
            ustar.name.copy_from_slice(&name[..cut]);
            false
        }
    }
}

fn set_link(header: &mut Header, link: &[u8]) -> bool {
    let field = &mut header.as_ustar_mut().expect("the header was made as ustar").linkname;
    let count = link.len().min(field.len());
    field[..count].copy_from_slice(&link[..count]);
    link.len() <= field.len()
}

/// PAX records of the entry that follows (POSIX.1-2001, pax interchange format).
#[derive(Default)]
struct Pax(Vec<u8>);

impl Pax {
    fn unless(&mut self, fits: bool, key: &str, value: impl FnOnce() -> Vec<u8>) {
        if !fits {
            self.add(key, &value());
        }
    }

    /// A record is `<length> <key>=<value>\n`, and the length counts its own digits.
    fn add(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(format!("{length} {key}=").as_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn write(&self, out: &mut impl Write, mtime: u64) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        set_name(&mut header, b"PaxHeaders/entry");
        header.set_entry_type(EntryType::XHeader);
        header.set_size(self.0.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(mtime);
        header.set_cksum();
        out.write_all(header.as_bytes())?;
        out.write_all(&self.0)?;
        out.write_all(padding(self.0.len() as u64))
    }
}
