//! Old root file systems on a host, of which only those to go back to are kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::rootfs::{remove_unpacked, unpacked_trees};
use super::{Reconcile, Snapshot, State, System};
use crate::image::{Blob, Digest};
use crate::paths::{ROOTFS, STORE};
use crate::store::Store;

/// Only the root file systems in use and those before them are on the host: applied when everything else of a run succeeded. The others
/// are removed, and the blobs that neither they nor an image in the host's store needs.
///
/// What was in use after the last run that succeeded is what one goes back to: a root file system whose run failed is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldRootfs {
    /// The rootfs manifests in use.
    pub in_use: Vec<Blob>,
}

/// What is kept on the host, as `rootfs/.kept` has it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The manifests that were in use after the last run that succeeded.
    last: BTreeSet<Digest>,
    /// Those before.
    previous: BTreeSet<Digest>,
}

impl OldRootfs {
    fn path() -> PathBuf {
        Path::new(ROOTFS).join(".kept")
    }

    /// Called before the link `current` leaves `current`, or first points at a tree: that is the one to go back to, if no run has
    /// recorded another.
    pub(super) fn begin(system: &System, current: Digest) -> Result<()> {
        if system.path(Self::path()).exists() {
            return Ok(());
        }
        let kept = Kept { last: [current].into(), previous: BTreeSet::new() };
        system.write_text(Self::path(), &serde_json::to_string(&kept)?)
    }

    /// Forgets what is kept: no tree is in use any more.
    pub(super) fn forget(system: &System) -> Result<()> {
        system.write_text(Self::path(), "")
    }

    fn in_use(&self) -> BTreeSet<Digest> {
        self.in_use.iter().map(|manifest| manifest.digest).collect()
    }

    /// Without a readable record the newest trees count as the last ones: a wrong guess costs a transfer on the way back.
    fn kept(system: &System) -> Result<Kept> {
        Ok(serde_json::from_str(&system.read_text(Self::path())?).unwrap_or_default())
    }

    /// What is kept once those in use have succeeded.
    fn desired(&self, kept: &Kept, trees: &[Digest]) -> Kept {
        let in_use = self.in_use();
        let there = |digests: &BTreeSet<Digest>| -> BTreeSet<Digest> {
            digests.difference(&in_use).filter(|digest| trees.contains(digest)).copied().collect()
        };
        let newest = || trees.iter().find(|digest| !in_use.contains(digest)).copied().into_iter().collect();
        let previous = [there(&kept.last), there(&kept.previous)].into_iter().find(|digests| !digests.is_empty()).unwrap_or_else(newest);
        Kept { last: in_use, previous }
    }

    fn old(desired: &Kept, trees: &[Digest]) -> Vec<Digest> {
        trees.iter().filter(|digest| !desired.last.contains(digest) && !desired.previous.contains(digest)).copied().collect()
    }

    /// Removes the blobs that nothing on the host needs any more; later, if another process uses the store now.
    fn remove_blobs(&self, system: &System, desired: &Kept) -> Result<u64> {
        if !system.path(STORE).exists() {
            return Ok(0);
        }
        let store = Store::open(&system.path(STORE))?;
        let manifests: Vec<Digest> = desired.last.union(&desired.previous).copied().collect();
        store.prune_but(&manifests)
    }
}

fn names(digests: &BTreeSet<Digest>) -> String {
    if digests.is_empty() { "none".to_owned() } else { digests.iter().map(Digest::short).collect::<Vec<_>>().join(", ") }
}

impl Reconcile for OldRootfs {
    fn title(&self) -> String {
        "rootfs to go back to".to_owned()
    }

    fn check(&self, system: &System) -> Result<State> {
        let (kept, trees) = (Self::kept(system)?, unpacked_trees(system));
        let desired = self.desired(&kept, &trees);
        Ok(match Self::old(&desired, &trees).len() {
            0 if kept.last.is_subset(&desired.last) => State::Present,
            0 => State::differs(names(&kept.previous), names(&desired.previous)),
            count => State::differs(format!("{}, and {count} older", names(&kept.previous)), names(&desired.previous)),
        })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        let trees = unpacked_trees(system);
        let desired = self.desired(&Self::kept(system)?, &trees);
        for digest in Self::old(&desired, &trees) {
            log(&format!("remove rootfs {}", digest.short()));
            remove_unpacked(system, &digest)?;
        }
        let blobs = self.remove_blobs(system, &desired)?;
        if blobs > 0 {
            log(&format!("{blobs} blobs removed"));
        }
        system.write_text(Self::path(), &serde_json::to_string(&desired)?)
    }

    /// Nothing to restore: root file systems are removed by their own entries in the ledger.
    fn undo(&self, system: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Self::forget(system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

    struct Trees(FakeHost);

    impl Trees {
        fn blob(name: &str) -> Blob {
            Blob::of(name.as_bytes())
        }

        fn unpack(&self, name: &str) {
            std::thread::sleep(std::time::Duration::from_millis(10)); // the newest is known by its time
            self.0.write(&format!("{ROOTFS}/{}/file", Self::blob(name).digest.hex()), name);
        }

        fn old(in_use: &[&str]) -> OldRootfs {
            OldRootfs { in_use: in_use.iter().map(|name| Self::blob(name)).collect() }
        }

        /// The state, and the trees after a run with these in use.
        fn run(&self, in_use: &[&str]) -> (bool, Vec<&'static str>) {
            let old = Self::old(in_use);
            let present = old.check(&self.0.system).unwrap() == State::Present;
            old.apply(&self.0.system, &mut |_| ()).unwrap();
            assert_eq!(old.check(&self.0.system).unwrap(), State::Present);
            let trees = unpacked_trees(&self.0.system);
            let all = ["r0", "r1", "r2", "r3", "r4", "app1", "app2", "app3"];
            (present, all.into_iter().filter(|name| trees.contains(&Self::blob(name).digest)).collect())
        }
    }

    #[test]
    fn the_one_before_is_kept_and_a_failed_one_is_none() {
        let trees = Trees(FakeHost::new());
        trees.unpack("r1");
        OldRootfs::begin(&trees.0.system, Trees::blob("r1").digest).unwrap();
        assert!(Trees::old(&["r1"]).check(&trees.0.system).unwrap() == State::Present, "a first run has nothing to clean up");
        trees.unpack("r2");
        assert_eq!(trees.run(&["r2"]), (false, vec!["r1", "r2"]));
        trees.unpack("r3"); // its run fails
        trees.unpack("r4");
        assert_eq!(trees.run(&["r4"]), (false, vec!["r2", "r4"]));
        assert_eq!(trees.run(&["r2"]), (false, vec!["r2", "r4"]), "going back");
        assert_eq!(trees.run(&["r2"]), (true, vec!["r2", "r4"]));
    }

    #[test]
    fn trees_of_applications_and_of_older_versions_are_kept_by_their_age() {
        let trees = Trees(FakeHost::new());
        ["r0", "r1", "r2"].iter().for_each(|name| trees.unpack(name));
        assert_eq!(trees.run(&["r2"]), (false, vec!["r1", "r2"]));
        trees.unpack("app1");
        assert_eq!(trees.run(&["r2", "app1"]), (true, vec!["r1", "r2", "app1"]));
        trees.unpack("app2");
        assert_eq!(trees.run(&["r2", "app2"]), (false, vec!["r2", "app1", "app2"]));
    }
}
