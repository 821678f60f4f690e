//! An unpacked tree as the source of the next one: what did not change is linked, not written again.
//!
//! While a tree is unpacked the members of each layer are recorded, each file with its inode. Another tree that has a layer in common
//! gets the same members in the same way, but its files are hard links to those of the older tree. A file counts as unchanged if
//! inode, birth, size, time, mode and owner are still those of the member, as `rsync` and `make` judge: what another layer, an override or
//! a script replaced or wrote to is taken from the layer again.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageManifest};
use rustix::fs::{AtFlags, FileType, StatxFlags};
use serde::{Deserialize, Serialize};

use super::confined_root::{RootDir, proc_path};
use super::extract;
use super::tar_reader::{Kind, TarEntry};
use super::unpack::{diff_ids, unpack_recorded};
use super::{CAPABILITY, UnpackOptions};
use crate::image::{Blob, Digest};
use crate::store::Store;

/// The layers of a tree as they were unpacked, lowest first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct UnpackedLayers {
    layers: Vec<UnpackedLayer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct UnpackedLayer {
    #[serde(rename = "diffId")]
    diff_id: Digest,
    members: Vec<UnpackedMember>,
}

impl UnpackedLayers {
    /// Forgets the inodes of files that later members replaced: a later file may have got the same one.
    fn forget_replaced(&mut self) {
        let mut seen = HashSet::new();
        for member in self.layers.iter_mut().rev().flat_map(|layer| layer.members.iter_mut().rev()) {
            if member.inode != 0 && !seen.insert(member.inode) {
                member.inode = 0;
            }
        }
    }
}

/// A member of a layer, and the inode of the file that was made of it (0 for anything else).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UnpackedMember {
    #[serde(flatten)]
    pub entry: TarEntry,
    #[serde(default)]
    pub inode: u64,
    /// When that file was made, in nanoseconds since 1970; 0 if the file system does not say. Numbers of inodes are used again.
    #[serde(default)]
    pub born: i64,
    /// Whether that file is one of an older tree.
    #[serde(skip)]
    pub linked: bool,
}

/// A tree that was unpacked earlier.
#[derive(Debug)]
pub struct OlderTree {
    /// Its directory.
    pub root: PathBuf,
    /// What was recorded when it was unpacked.
    pub layers: UnpackedLayers,
}

/// A layer of an older tree.
pub(super) struct OlderLayer<'a> {
    root: &'a RootDir,
    pub members: &'a [UnpackedMember],
}

impl OlderLayer<'_> {
    /// The directory of the file of a member and what is known of it, if it is still as it was unpacked.
    pub fn unchanged(&self, number: usize, member: &TarEntry, owners: bool) -> Option<(OwnedFd, &UnpackedMember)> {
        let known = self.members.get(number).filter(|known| known.inode != 0 && known.entry.path == member.path)?;
        let (parent, name) = (member.path.parent()?, member.path.file_name()?);
        let dir = self.root.enter(parent).ok().flatten()?;
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_ino == known.inode
            && born(&dir, name) == known.born
            && u64::try_from(stat.st_size) == Ok(member.size)
            && (stat.st_mtime, stat.st_mtime_nsec) == (member.mtime, 0)
            && stat.st_mode & 0o7777 == member.mode
            && (!owners || (u64::from(stat.st_uid), u64::from(stat.st_gid)) == (member.uid, member.gid))
            && (!owners || has_capability(&dir, name, member));
        same.then_some((dir, known))
    }

    fn is_unchanged(&self, owners: bool) -> bool {
        let files = self.members.iter().enumerate().filter(|(_, member)| member.entry.kind == Kind::File);
        files.into_iter().all(|(number, member)| self.unchanged(number, &member.entry, owners).is_some())
    }
}

/// When a file was made, in nanoseconds since 1970; 0 if the kernel or the file system does not say.
pub(super) fn born(dir: impl AsFd, name: impl rustix::path::Arg) -> i64 {
    match rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH, StatxFlags::BTIME) {
        Ok(stat) if stat.stx_mask & StatxFlags::BTIME.bits() != 0 => {
            stat.stx_btime.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(stat.stx_btime.tv_nsec))
        }
        _ => 0,
    }
}

/// Whether a file has the capabilities of the member; a change of the owner clears them.
fn has_capability(dir: &OwnedFd, name: &std::ffi::OsStr, member: &TarEntry) -> bool {
    let Some(expected) = member.xattrs.get(CAPABILITY) else { return true };
    let mut value = vec![0; expected.len() + 1];
    let length = rustix::fs::lgetxattr(Path::new(&proc_path(dir)).join(name), CAPABILITY, &mut value[..]);
    length.is_ok_and(|length| value[..length] == expected[..])
}

/// Applies all layers of an image's manifest onto the new directory `root`, in order, verified; and syncs what is new. Files that one of
/// the older trees has unchanged become hard links; layers of which it has all files are not read. `log` gets a line for each layer.
pub fn unpack_with(
    store: &Store,
    manifest: &ImageManifest,
    root: &Path,
    older: &[OlderTree],
    options: &UnpackOptions,
    log: &mut dyn FnMut(&str),
) -> Result<UnpackedLayers> {
    let diff_ids = diff_ids(store, manifest)?;
    let new_root = RootDir::open(root)?;
    let roots = older.iter().map(|tree| RootDir::open(&tree.root)).collect::<Result<Vec<_>>>()?;
    let find = |diff_id: &Digest| {
        older.iter().zip(&roots).find_map(|(tree, root)| {
            let layer = tree.layers.layers.iter().find(|layer| layer.diff_id == *diff_id)?;
            Some(OlderLayer { root, members: &layer.members })
        })
    };
    let mut unpacked = UnpackedLayers::default();
    let mut any_linked = false;
    for (number, (descriptor, diff_id)) in manifest.layers().iter().zip(diff_ids).enumerate() {
        let of = format!("layer {} of {}: {}", number + 1, manifest.layers().len(), Blob::try_from(descriptor)?.digest.short());
        let layer = find(&diff_id);
        any_linked |= layer.is_some();
        let members = match layer {
            Some(layer) if layer.is_unchanged(options.owners) => {
                log(&format!("link {of}"));
                extract::link(&layer, &new_root, options).with_context(|| format!("layer {diff_id}"))?;
                layer.members.iter().map(|member| UnpackedMember { linked: true, ..member.clone() }).collect()
            }
            layer => {
                log(&format!("unpack {of}"));
                unpack(store, descriptor, &diff_id, root, layer.as_ref(), options)?
            }
        };
        unpacked.layers.push(UnpackedLayer { diff_id, members });
    }
    unpacked.forget_replaced();
    if any_linked {
        let members = unpacked.layers.iter().flat_map(|layer| &layer.members);
        sync_new(root, &members.filter(|member| member.linked).map(|member| member.inode).collect())?;
    } else {
        new_root.sync()?;
    }
    Ok(unpacked)
}

fn unpack(
    store: &Store,
    descriptor: &Descriptor,
    diff_id: &Digest,
    root: &Path,
    older: Option<&OlderLayer<'_>>,
    options: &UnpackOptions,
) -> Result<Vec<UnpackedMember>> {
    unpack_recorded(store, descriptor, diff_id, root, older, options).map(|(_, members)| members)
}

/// Syncs the directories of a tree, and its files but those with these inodes, which are on the disk already.
fn sync_new(directory: &Path, old: &HashSet<u64>) -> Result<()> {
    for entry in fs_err::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs_err::symlink_metadata(&path)?;
        if metadata.is_dir() {
            sync_new(&path, old)?;
        } else if metadata.is_file() && !old.contains(&metadata.ino()) {
            File::open(&path).and_then(|file| file.sync_all()).with_context(|| path.display().to_string())?;
        }
    }
    File::open(directory).and_then(|file| file.sync_all()).with_context(|| directory.display().to_string())
}
