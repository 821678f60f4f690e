//! What a RUN changed in its rootfs, as a layer. It does not depend on the date, the speed of the machine, or the user who builds.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::layer::{Entry, Snapshot, Source, Tree, snapshot};

/// Uid and gid by path, of files that are not root's.
pub type ForeignOwners = BTreeMap<PathBuf, (u64, u64)>;

/// A rootfs before a RUN.
pub struct RootfsSnapshot<'a> {
    root: &'a Path,
    owners: &'a ForeignOwners,
    /// The identities of the files in `owners`, in the same order.
    identities: Vec<Option<FileIdentity>>,
    snapshot: Snapshot,
    times: HashMap<PathBuf, Time>,
    began: i64,
}

/// Inode and creation time: tells a file from one that replaced it, which may have the same inode.
type FileIdentity = (u64, Option<SystemTime>);
/// A modification time: seconds since 1970, and nanoseconds.
type Time = (i64, i64);

impl<'a> RootfsSnapshot<'a> {
    /// Takes a snapshot of the directory `root`. Where files can have one owner only, `owners` says whose they are in the image.
    pub fn take(root: &'a Path, owners: &'a ForeignOwners) -> Result<Self> {
        let snapshot = owned_by_root(snapshot(root)?);
        let times = times(root, &snapshot.tree)?;
        let identities = owners.keys().map(|path| identity(&root.join(path))).collect();
        Ok(RootfsSnapshot { root, owners, identities, times, snapshot, began: clock(root)? })
    }

    /// What changed since, as a layer. Files that were written get the time `newest` (seconds since 1970), and none is later; the same
    /// holds for the files in the directory.
    pub fn changes(self, newest: i64) -> Result<Tree> {
        let ended = clock(self.root)?;
        let after = owned_by_root(snapshot(self.root)?);
        let mut changes = self.snapshot.changes(&after);
        changes.extend(self.changed_within_a_second(&after.tree)?);
        for (path, entry) in changes.iter_mut().filter(|(_, entry)| entry.source != Source::Whiteout) {
            let is_new = (self.began..=ended).contains(&entry.mtime);
            entry.mtime = if is_new { newest } else { entry.mtime.min(newest) };
            set_time(&self.root.join(path), entry.mtime)?;
        }
        self.restore_owners(&mut changes);
        Ok(changes)
    }

    /// Directories and links that were changed in the second of their last change: snapshots compare whole seconds.
    fn changed_within_a_second(&self, after: &Tree) -> Result<Vec<(PathBuf, Entry)>> {
        let now = times(self.root, after)?;
        let changed = now.iter().filter(|(path, time)| self.times.get(*path).is_some_and(|before| before != *time));
        Ok(changed.filter_map(|(path, _)| Some((path.clone(), after.get(path)?.clone()))).collect())
    }

    /// A file that was changed keeps its owner; one that replaced it belongs to root.
    fn restore_owners(&self, changes: &mut Tree) {
        let same = self.owners.iter().zip(&self.identities).filter(|((path, _), known)| identity(&self.root.join(path)) == **known);
        for ((path, owner), _) in same {
            if let Some(entry) = changes.get_mut(path) {
                (entry.uid, entry.gid) = *owner;
            }
        }
    }
}

/// Without root, files belong to the user who builds: in the image that is root.
fn owned_by_root(mut snapshot: Snapshot) -> Snapshot {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if !user.is_root() {
        for entry in snapshot.tree.values_mut() {
            entry.uid = if entry.uid == u64::from(user.as_raw()) { 0 } else { entry.uid };
            entry.gid = if entry.gid == u64::from(group.as_raw()) { 0 } else { entry.gid };
        }
    }
    snapshot
}

fn times(root: &Path, tree: &Tree) -> Result<HashMap<PathBuf, Time>> {
    let compared = tree.iter().filter(|(_, entry)| matches!(entry.source, Source::Directory | Source::Symlink(_)));
    let time = |path: &PathBuf| {
        let metadata = fs_err::symlink_metadata(root.join(path))?;
        Ok((path.clone(), (metadata.mtime(), metadata.mtime_nsec())))
    };
    compared.map(|(path, _)| time(path)).collect()
}

fn identity(path: &Path) -> Option<FileIdentity> {
    let metadata = path.symlink_metadata().ok()?;
    Some((metadata.ino(), metadata.created().ok()))
}

/// The modification time of a file that is written now, in seconds since 1970: the filesystem has a clock of its own.
fn clock(root: &Path) -> Result<i64> {
    let probe = root.with_file_name("clock");
    fs_err::write(&probe, "")?;
    Ok(fs_err::metadata(&probe)?.mtime())
}

fn set_time(path: &Path, seconds: i64) -> Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(utimensat(CWD, path, &Timestamps { last_access: time, last_modification: time }, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths, owners and times in the layer of a change. All files before it have the time `time`.
    fn changed(time: i64, newest: i64, change: impl FnOnce(&Path)) -> Vec<String> {
        let build = tempfile::tempdir().unwrap();
        let root = build.path().join("rootfs");
        std::fs::create_dir_all(root.join("dir")).unwrap();
        std::fs::write(root.join("dir/foreign"), "x").unwrap();
        std::os::unix::fs::symlink("dir", root.join("link")).unwrap();
        for path in ["dir/foreign", "dir", "link"] {
            set_time(&root.join(path), time).unwrap();
        }
        let owners = ForeignOwners::from([("dir/foreign".into(), (7, 8))]);
        let before = RootfsSnapshot::take(&root, &owners).unwrap();
        change(&root);
        let changes = before.changes(newest).unwrap();
        let lines = changes.iter().map(|(path, entry)| format!("{} {}:{} {}", path.display(), entry.uid, entry.gid, entry.mtime));
        lines.collect()
    }

    #[test]
    fn files_that_run_writes_get_the_time_of_the_newest_input() {
        let now = jiff::Timestamp::now().as_second();
        for (time, newest) in [(1000, 1000), (1000, now), (now, now), (1000, now + 1000), (now, now + 1000)] {
            let changes = changed(time, newest, |root| {
                std::fs::write(root.join("dir/new"), "x").unwrap();
                std::fs::remove_file(root.join("link")).unwrap();
                std::os::unix::fs::symlink("dir", root.join("link")).unwrap();
            });
            assert_eq!(
                changes,
                [format!("dir 0:0 {newest}"), format!("dir/new 0:0 {newest}"), format!("link 0:0 {newest}")],
                "{time} {newest}"
            );
        }
        let old = changed(1000, now, |root| {
            std::fs::write(root.join("new"), "x").unwrap();
            set_time(&root.join("new"), 500).unwrap();
        });
        assert_eq!(old, ["new 0:0 500"], "a time that a command sets is kept");
    }

    #[test]
    fn changed_files_keep_their_owner_and_replaced_ones_do_not() {
        let path = "dir/foreign";
        assert_eq!(changed(1000, 1000, |root| std::fs::write(root.join(path), "more").unwrap()), ["dir/foreign 7:8 1000"]);
        let replaced = changed(1000, 1000, |root| {
            std::fs::remove_file(root.join(path)).unwrap();
            std::fs::write(root.join(path), "new").unwrap();
        });
        assert_eq!(replaced, ["dir 0:0 1000", "dir/foreign 0:0 1000"]);
    }
}
