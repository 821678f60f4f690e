//! The unpacked rootfs of a stage, made only when a RUN needs it.

use std::path::PathBuf;

use anyhow::Result;
use rustix::io::Errno;

use super::run_diff::{Before, Others};
use super::sandbox::Invocation;
use super::user_namespace;
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::layer::{Layer, Tree, UnpackOptions, outline, unpack_blob};
use crate::store::Store;

/// A rootfs in the build directory.
pub struct Rootfs {
    build: PathBuf,
    /// How many of the stage's layers it has.
    layers: usize,
    /// Where only one user can be: whose the files of others are.
    others: Others,
}

impl Rootfs {
    /// An empty one in a directory of its own.
    pub fn new(build: PathBuf) -> Result<Self> {
        fs_err::create_dir_all(build.join("rootfs"))?;
        Ok(Rootfs { build, layers: 0, others: Others::new() })
    }

    /// Unpacks the layers that it does not have yet.
    pub fn catch_up(&mut self, layers: &[Layer], store: &Store, ctx: &Context) -> Result<()> {
        let missing = &layers[self.layers.min(layers.len())..];
        if missing.is_empty() {
            return Ok(());
        }
        let task = ctx.task("unpack the rootfs for RUN", Some(missing.len() as u64), Unit::Items);
        let options = UnpackOptions { owners: user_namespace::has_others(), max_bytes: 0 };
        for layer in missing {
            ctx.check()?;
            unpack_blob(store, &layer.descriptor, &layer.diff_id, &self.build.join("rootfs"), &options).map_err(too_few_ids)?;
            task.advance(1);
        }
        task.done("");
        self.layers = layers.len();
        if !options.owners {
            let tree = outline(store, layers, ctx, || {})?;
            let others = tree.into_iter().filter(|(_, entry)| (entry.uid, entry.gid) != (0, 0));
            self.others = others.map(|(path, entry)| (path, (entry.uid, entry.gid))).collect();
        }
        Ok(())
    }

    /// Runs a command in it; what it changed, as a layer in which nothing is newer than `newest`.
    pub fn run(&self, invocation: &Invocation, title: &str, newest: i64, ctx: &Context) -> Result<Tree> {
        let root = self.build.join("rootfs");
        let before = Before::look(&root, &self.others)?;
        invocation.run(&self.build, title.split_whitespace().next().unwrap_or("RUN"), ctx)?;
        before.changes(newest)
    }

    /// Counts layers that it has because they were made from it.
    pub fn has(&mut self, layers: usize) {
        self.layers += layers;
    }
}

/// Says what to do where the image has files of users that this one's ids do not reach.
fn too_few_ids(error: anyhow::Error) -> anyhow::Error {
    let is_refused = error.chain().any(|cause| cause.downcast_ref() == Some(&Errno::INVAL));
    match user_namespace::more_ids().filter(|_| is_refused) {
        Some(remedy) => error.context(Failure::failed("the rootfs for RUN cannot be unpacked").hint(remedy)),
        None => error,
    }
}
