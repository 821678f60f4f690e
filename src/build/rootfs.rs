//! The unpacked rootfs of a stage, made only when a RUN needs it.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::Result;

use super::sandbox::Invocation;
use crate::events::{Job, Unit};
use crate::layer::{Layer, Snapshot, Tree, UnpackOptions, snapshot, unpack_blob};
use crate::store::Store;

/// A rootfs in the build directory.
pub struct Rootfs {
    build: PathBuf,
    /// How many of the stage's layers it has.
    layers: usize,
}

impl Rootfs {
    /// An empty one in a directory of its own.
    pub fn new(build: PathBuf) -> Result<Self> {
        fs_err::create_dir_all(build.join("rootfs"))?;
        Ok(Rootfs { build, layers: 0 })
    }

    /// Unpacks the layers that it does not have yet.
    pub fn catch_up(&mut self, layers: &[Layer], store: &Store, job: &Job) -> Result<()> {
        let missing = &layers[self.layers.min(layers.len())..];
        if missing.is_empty() {
            return Ok(());
        }
        let task = job.task("unpack the rootfs for RUN", Some(missing.len() as u64), Unit::Items);
        let options = UnpackOptions { owners: is_root(), max_bytes: 0 };
        for layer in missing {
            job.check()?;
            unpack_blob(store, &layer.descriptor, &layer.diff_id, &self.build.join("rootfs"), &options)?;
            task.advance(1);
        }
        task.done("");
        self.layers = layers.len();
        Ok(())
    }

    /// Runs a command in it; what it changed, as a layer. What was written meanwhile is as old as `newest`, whatever the day.
    pub fn run(&self, invocation: &Invocation, title: &str, newest: i64, job: &Job) -> Result<Tree> {
        let before = self.snapshot()?;
        let began = self.clock()?;
        invocation.run(&self.build, title.split_whitespace().next().unwrap_or("RUN"), job)?;
        let ended = self.clock()?;
        let mut changes = before.changes(&self.snapshot()?);
        for entry in changes.values_mut().filter(|entry| (began..=ended).contains(&entry.mtime)) {
            entry.mtime = newest;
        }
        Ok(changes)
    }

    /// The time that a file gets which is written now, in seconds since 1970.
    fn clock(&self) -> Result<i64> {
        let probe = self.build.join("clock");
        fs_err::write(&probe, "")?;
        Ok(fs_err::metadata(&probe)?.mtime())
    }

    /// Counts layers that it has because they were made from it.
    pub fn has(&mut self, layers: usize) {
        self.layers += layers;
    }

    /// What it holds. Without root everything belongs to the user who builds, which in the image is root.
    fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = snapshot(&self.build.join("rootfs"))?;
        if !is_root() {
            let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            for entry in snapshot.tree.values_mut() {
                entry.uid = if entry.uid == u64::from(user) { 0 } else { entry.uid };
                entry.gid = if entry.gid == u64::from(group) { 0 } else { entry.gid };
            }
        }
        Ok(snapshot)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
