//! Looks into layers without writing anything, several at once, and remembers in the store what was found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageManifest};
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use serde::{Deserialize, Serialize};

use super::decompress::{Decompressed, check_diff_id, too_large};
use super::symlink_resolver::SymlinkResolver;
use super::verify_image::{check_manifest, manifests, ways_of};
use super::{compression_of, diff_ids};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Unit};
use crate::image::Blob;
use crate::store::Store;

/// Raised when layers are looked into otherwise than before: what stores remember is then of no use.
const VERSION: u32 = 1;
/// Layers that are looked into at once, at most: each has a decompressor's window in memory.
const MOST_AT_ONCE: usize = 4;
/// A layer may always unpack to this many bytes…
const ALWAYS: u64 = 64 << 30;
/// …and to this many times its own size.
const TIMES: u64 = 1024;

/// How to look into layers.
#[derive(Debug, Clone, Copy, Default)]
pub struct LayerVerification {
    /// What a layer may unpack to, in bytes; 0 is 64 GiB, or 1,024 times the layer's own size if that is more.
    pub max_bytes: u64,
    /// Whether what the store remembers does not count.
    pub anew: bool,
    /// Layers that have more bytes than this together, without those that the store remembers, are not looked into.
    pub at_once: Option<u64>,
}

impl LayerVerification {
    fn limit(&self, layer: &Descriptor) -> u64 {
        match self.max_bytes {
            0 => layer.size().saturating_mul(TIMES).max(ALWAYS),
            limit => limit,
        }
    }
}

impl LayerVerification {
    fn those_to_look_into<'a>(self, store: &Store, mut layers: BTreeMap<String, &'a Descriptor>) -> BTreeMap<String, &'a Descriptor> {
        let Some(at_once) = self.at_once else { return layers };
        let is_known = |layer: &Descriptor| Blob::try_from(layer).is_ok_and(|blob| self.remembered(store, &blob).is_some());
        let known: BTreeSet<String> = layers.iter().filter(|(_, layer)| is_known(layer)).map(|(digest, _)| digest.clone()).collect();
        let open: u64 = layers.iter().filter(|(digest, _)| !known.contains(*digest)).map(|(_, layer)| layer.size()).sum();
        if open > at_once {
            layers.retain(|digest, _| known.contains(digest));
        }
        layers
    }

    fn remembered(self, store: &Store, layer: &Blob) -> Option<VerifiedLayer> {
        store.cached_verification(&layer.digest).filter(|known: &VerifiedLayer| !self.anew && known.version == VERSION)
    }
}

/// What was found in a layer; true of its digest, wherever it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerifiedLayer {
    version: u32,
    /// The tar in it.
    tar: Blob,
    /// Its symbolic links.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Directories that it writes into without having them: a link of a lower layer may be in their place.
    entered: BTreeSet<PathBuf>,
}

/// Checks an image with all its layers that are in the store, without writing anything: their bytes, that they are tars and nothing
/// more, the digest of what is in them, and that no name leads out of the root, also not by links. Errors are of kind `Verification`
/// and name the layer.
///
/// The bytes of a layer that the store remembers to be sound are not read again.
pub fn check_layers(store: &Store, root: &Descriptor, how: LayerVerification, ctx: &Context) -> Result<()> {
    let images = manifests(store, root)?;
    for (descriptor, manifest) in &images {
        check_manifest(store, descriptor, manifest)?;
    }
    let layers: BTreeMap<String, &Descriptor> = images
        .iter()
        .flat_map(|(_, manifest)| manifest.layers())
        .filter(|layer| Blob::try_from(*layer).is_ok_and(|blob| store.has(&blob)))
        .map(|layer| (layer.digest().to_string(), layer))
        .collect();
    let layers = how.those_to_look_into(store, layers);
    let sifted = verify_all(store, layers, how, ctx)?;
    images.iter().try_for_each(|(_, manifest)| check_together(store, manifest, &sifted, ctx))
}

fn verify_all(
    store: &Store,
    layers: BTreeMap<String, &Descriptor>,
    how: LayerVerification,
    ctx: &Context,
) -> Result<BTreeMap<String, VerifiedLayer>> {
    let total = layers.values().map(|layer| layer.size()).sum();
    let task = ctx.task(format!("check {} layers", layers.len()), Some(total), Unit::Bytes);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(ctx.jobs().min(MOST_AT_ONCE)).build()?;
    let sifted = pool.install(|| {
        let each = layers.into_par_iter().map(|(digest, layer)| {
            ctx.check()?;
            let sifted = verify_layer(store, layer, how, ctx)?;
            task.advance(layer.size());
            Ok((digest, sifted))
        });
        each.collect::<Result<_>>()
    })?;
    task.done("");
    Ok(sifted)
}

fn verify_layer(store: &Store, layer: &Descriptor, how: LayerVerification, ctx: &Context) -> Result<VerifiedLayer> {
    let blob = Blob::try_from(layer)?;
    let limit = how.limit(layer);
    let known = how.remembered(store, &blob);
    let look = || -> Result<VerifiedLayer> {
        match known {
            Some(known) if known.tar.size <= limit => Ok(known),
            Some(_) => Err(too_large(limit).into()),
            None => {
                let found = look_into(store, layer, &blob, limit, ctx)?;
                store.cache_verification(&blob.digest, &found);
                Ok(found)
            }
        }
    };
    look().map_err(|error| of_layer(error, layer))
}

/// Names the layer; an interruption is not its fault.
fn of_layer(error: anyhow::Error, layer: &Descriptor) -> anyhow::Error {
    match kind_of(&error) {
        Kind::Interrupted => error,
        _ => error.context(Failure::verification(format!("layer {}", layer.digest()))),
    }
}

fn look_into(store: &Store, layer: &Descriptor, blob: &Blob, limit: u64, ctx: &Context) -> Result<VerifiedLayer> {
    let mut ways = SymlinkResolver::default();
    let tar = read(store, layer, blob, limit, &mut ways, ctx)?;
    let (links, entered) = ways.into_links_and_entered();
    Ok(VerifiedLayer { version: VERSION, tar, links, entered })
}

/// Reads a layer and follows its members; the tar that was in it.
fn read(store: &Store, layer: &Descriptor, blob: &Blob, limit: u64, ways: &mut SymlinkResolver, ctx: &Context) -> Result<Blob> {
    let path = store.blob_path(&blob.digest);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let mut decoded = Decompressed::new(ctx.reader(file), compression_of(layer.media_type())?, limit)?;
    match ways_of(&mut decoded, ways) {
        Ok(()) => Ok(decoded.finish()),
        // bytes that are damaged fail somewhere in the decoder; that the blob is damaged is the better answer
        Err(error) => {
            ctx.check()?;
            io::copy(&mut store.reader(blob)?, &mut io::sink())?;
            Err(error)
        }
    }
}

/// Checks what shows only when an image's layers lie on each other, and that they are those of its config.
fn check_together(store: &Store, manifest: &ImageManifest, sifted: &BTreeMap<String, VerifiedLayer>, ctx: &Context) -> Result<()> {
    let mut here = Vec::new();
    for (layer, diff_id) in manifest.layers().iter().zip(diff_ids(store, manifest)?) {
        let Some(found) = sifted.get(&layer.digest().to_string()) else { continue };
        check_diff_id(&found.tar.digest, &diff_id).with_context(|| Failure::verification(format!("layer {}", layer.digest())))?;
        here.push((layer, found));
    }
    if !may_lead_out(&here) {
        return Ok(());
    }
    let mut ways = SymlinkResolver::default();
    for (layer, found) in here {
        ctx.check()?;
        read(store, layer, &Blob::try_from(layer)?, found.tar.size, &mut ways, ctx).map_err(|error| of_layer(error, layer))?;
        ways.next_layer();
    }
    Ok(())
}

/// Whether a layer may write through a link of a lower one to the outside; only reading them in order can tell for sure.
fn may_lead_out(layers: &[(&Descriptor, &VerifiedLayer)]) -> bool {
    let mut ways = SymlinkResolver::default();
    layers.iter().any(|(_, layer)| {
        let leads_out = |ways: &SymlinkResolver| layer.entered.iter().any(|directory| ways.follow(directory).is_err());
        let before = leads_out(&ways);
        ways.add(&layer.links);
        before || leads_out(&ways)
    })
}
