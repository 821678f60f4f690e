//! What a RUN changed in its rootfs: the same whatever day it is, however fast the machine, whoever builds.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::layer::{Entry, Snapshot, Source, Tree, snapshot};

/// Owners by path, of what is not root's.
pub type Others = BTreeMap<PathBuf, (u64, u64)>;

/// A rootfs before a RUN.
pub struct Before<'a> {
    root: &'a Path,
    others: &'a Others,
    /// Where files of others are.
    births: Vec<Option<Birth>>,
    snapshot: Snapshot,
    times: HashMap<PathBuf, Time>,
    began: i64,
}

/// Tells a file from one that took its place: a new file may have the same inode.
type Birth = (u64, Option<SystemTime>);
/// When something was changed last: seconds since 1970, and nanoseconds.
type Time = (i64, i64);

impl<'a> Before<'a> {
    /// Looks at a rootfs in which all files belong to who looks, but those of `others` to these.
    pub fn look(root: &'a Path, others: &'a Others) -> Result<Self> {
        let snapshot = mine(snapshot(root)?);
        let times = times(root, &snapshot.tree)?;
        let births = others.keys().map(|path| birth(&root.join(path))).collect();
        Ok(Before { root, others, births, times, snapshot, began: clock(root)? })
    }

    /// What changed since, as a layer. What was written meanwhile is as old as `newest`, and nothing is newer, here as in the layer.
    pub fn changes(self, newest: i64) -> Result<Tree> {
        let ended = clock(self.root)?;
        let after = mine(snapshot(self.root)?);
        let mut changes = self.snapshot.changes(&after);
        changes.extend(self.within_a_second(&after.tree)?);
        for (path, entry) in changes.iter_mut().filter(|(_, entry)| entry.source != Source::Whiteout) {
            let is_new = (self.began..=ended).contains(&entry.mtime);
            entry.mtime = if is_new { newest } else { entry.mtime.min(newest) };
            set_time(&self.root.join(path), entry.mtime)?;
        }
        self.give_back(&mut changes);
        Ok(changes)
    }

    /// Directories and links that were changed in the second in which they had been made: snapshots compare whole seconds.
    fn within_a_second(&self, after: &Tree) -> Result<Vec<(PathBuf, Entry)>> {
        let now = times(self.root, after)?;
        let changed = now.iter().filter(|(path, time)| self.times.get(*path).is_some_and(|before| before != *time));
        Ok(changed.filter_map(|(path, _)| Some((path.clone(), after.get(path)?.clone()))).collect())
    }

    /// Files of others that were changed stay theirs; what was made in the place of one is root's.
    fn give_back(&self, changes: &mut Tree) {
        let same = self.others.iter().zip(&self.births).filter(|((path, _), known)| birth(&self.root.join(path)) == **known);
        for ((path, owner), _) in same {
            if let Some(entry) = changes.get_mut(path) {
                (entry.uid, entry.gid) = *owner;
            }
        }
    }
}

/// Without root everything belongs to the user who builds, which in the image is root.
fn mine(mut snapshot: Snapshot) -> Snapshot {
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
    let coarse = tree.iter().filter(|(_, entry)| matches!(entry.source, Source::Directory | Source::Symlink(_)));
    let time = |path: &PathBuf| {
        let metadata = fs_err::symlink_metadata(root.join(path))?;
        Ok((path.clone(), (metadata.mtime(), metadata.mtime_nsec())))
    };
    coarse.map(|(path, _)| time(path)).collect()
}

fn birth(path: &Path) -> Option<Birth> {
    let metadata = path.symlink_metadata().ok()?;
    Some((metadata.ino(), metadata.created().ok()))
}

/// The time that a file beside the rootfs gets which is written now, in seconds since 1970.
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

    /// What a change of a rootfs comes to: paths, owners and times. All that is there before is from `time`.
    fn changed(time: i64, newest: i64, change: impl FnOnce(&Path)) -> Vec<String> {
        let build = tempfile::tempdir().unwrap();
        let root = build.path().join("rootfs");
        std::fs::create_dir_all(root.join("dir")).unwrap();
        std::fs::write(root.join("dir/theirs"), "x").unwrap();
        std::os::unix::fs::symlink("dir", root.join("link")).unwrap();
        for path in ["dir/theirs", "dir", "link"] {
            set_time(&root.join(path), time).unwrap();
        }
        let others = Others::from([("dir/theirs".into(), (7, 8))]);
        let before = Before::look(&root, &others).unwrap();
        change(&root);
        let changes = before.changes(newest).unwrap();
        let shown = changes.iter().map(|(path, entry)| format!("{} {}:{} {}", path.display(), entry.uid, entry.gid, entry.mtime));
        shown.collect()
    }

    #[test]
    fn what_is_written_now_is_as_old_as_the_newest_input() {
        let now = jiff::Timestamp::now().as_second();
        for (time, newest) in [(1000, 1000), (1000, now), (now, now), (1000, now + 1000), (now, now + 1000)] {
            let made = changed(time, newest, |root| {
                std::fs::write(root.join("dir/new"), "x").unwrap();
                std::fs::remove_file(root.join("link")).unwrap();
                std::os::unix::fs::symlink("dir", root.join("link")).unwrap();
            });
            assert_eq!(
                made,
                [format!("dir 0:0 {newest}"), format!("dir/new 0:0 {newest}"), format!("link 0:0 {newest}")],
                "{time} {newest}"
            );
        }
        let old = changed(1000, now, |root| {
            std::fs::write(root.join("new"), "x").unwrap();
            set_time(&root.join("new"), 500).unwrap();
        });
        assert_eq!(old, ["new 0:0 500"], "what a command says of a time, counts");
    }

    #[test]
    fn files_of_others_stay_theirs_unless_they_are_replaced() {
        let path = "dir/theirs";
        assert_eq!(changed(1000, 1000, |root| std::fs::write(root.join(path), "more").unwrap()), ["dir/theirs 7:8 1000"]);
        let replaced = changed(1000, 1000, |root| {
            std::fs::remove_file(root.join(path)).unwrap();
            std::fs::write(root.join(path), "new").unwrap();
        });
        assert_eq!(replaced, ["dir 0:0 1000", "dir/theirs 0:0 1000"]);
    }
}
