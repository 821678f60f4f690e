//! The unpacked rootfs of a stage: created by the first RUN that is not cached.

use std::path::PathBuf;

use anyhow::Result;
use rustix::io::Errno;

use super::run_diff::{ForeignOwners, RootfsSnapshot};
use super::sandbox::Invocation;
use super::user_namespace;
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::layer::{Layer, Tree, UnpackOptions, tree_of, unpack_blob};
use crate::store::Store;

/// A rootfs in the scratch directory.
pub struct Rootfs {
    dir: PathBuf,
    /// The number of the stage's layers that are unpacked.
    layers: usize,
    /// Owners that could not be set, as there is one user only.
    owners: ForeignOwners,
}

impl Rootfs {
    /// Creates an empty rootfs in `dir/rootfs`.
    pub fn new(dir: PathBuf) -> Result<Self> {
        fs_err::create_dir_all(dir.join("rootfs"))?;
        Ok(Rootfs { dir, layers: 0, owners: ForeignOwners::new() })
    }

    /// Unpacks the layers that are not unpacked yet.
    pub fn unpack_missing(&mut self, layers: &[Layer], store: &Store, ctx: &Context) -> Result<()> {
        let missing = &layers[self.layers.min(layers.len())..];
        if missing.is_empty() {
            return Ok(());
        }
        let task = ctx.task("unpack the rootfs for RUN", Some(missing.len() as u64), Unit::Items);
        let options = UnpackOptions { owners: user_namespace::can_chown(), max_bytes: 0 };
        for layer in missing {
            ctx.check()?;
            unpack_blob(store, &layer.descriptor, &layer.diff_id, &self.dir.join("rootfs"), &options).map_err(unpack_error)?;
            task.advance(1);
        }
        task.done("");
        self.layers = layers.len();
        if !options.owners {
            let tree = tree_of(store, layers, ctx, || {})?;
            let foreign = tree.into_iter().filter(|(_, entry)| (entry.uid, entry.gid) != (0, 0));
            self.owners = foreign.map(|(path, entry)| (path, (entry.uid, entry.gid))).collect();
        }
        Ok(())
    }

    /// Runs a command in it. Gives what it changed as a layer, in which no time is later than `newest` (seconds since 1970).
    pub fn run(&self, invocation: &Invocation, title: &str, newest: i64, ctx: &Context) -> Result<Tree> {
        let root = self.dir.join("rootfs");
        let before = RootfsSnapshot::take(&root, &self.owners)?;
        invocation.run(&self.dir, title.split_whitespace().next().unwrap_or("RUN"), ctx)?;
        before.changes(newest)
    }

    /// Counts layers that need not be unpacked, as they were made from it.
    pub fn skip_layers(&mut self, layers: usize) {
        self.layers += layers;
    }
}

/// Adds a hint if the image has files of users that have no id here.
fn unpack_error(error: anyhow::Error) -> anyhow::Error {
    let is_refused = error.chain().any(|cause| cause.downcast_ref() == Some(&Errno::INVAL));
    match user_namespace::too_few_ids().filter(|_| is_refused) {
        Some(remedy) => error.context(Failure::failed("cannot unpack the rootfs for RUN").hint(remedy)),
        None => error,
    }
}
