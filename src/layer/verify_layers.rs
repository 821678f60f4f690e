//! Verifies the content of layers without unpacking them, several at once, and caches the result in the store. The manifests of an
//! image are verified in `verify_manifests`.

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
use super::verify_manifests::{check_manifest, follow_members, manifests};
use super::{compression_of, diff_ids};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Unit};
use crate::image::Blob;
use crate::store::Store;

/// The version of the verification; raised when it changes, so that cached results of older versions do not count.
const VERSION: u32 = 1;
/// The most layers that are verified at once: each has a decompressor's window in memory.
const MAX_PARALLEL: usize = 4;
/// By default a layer may unpack to this many bytes…
const MIN_LIMIT: u64 = 64 << 30;
/// …or to this many times its own size, if that is more.
const MAX_RATIO: u64 = 1024;

/// How to verify layers.
#[derive(Debug, Clone, Copy, Default)]
pub struct LayerVerification {
    /// What a layer may unpack to, in bytes; 0 is 64 GiB, or 1,024 times the layer's own size if that is more.
    pub max_bytes: u64,
    /// Whether to read all layers again, whatever results the store has cached.
    pub ignore_cache: bool,
    /// If the layers without a cached result have more bytes than this together, they are not verified now.
    pub max_total: Option<u64>,
}

impl LayerVerification {
    fn limit(&self, layer: &Descriptor) -> u64 {
        match self.max_bytes {
            0 => layer.size().saturating_mul(MAX_RATIO).max(MIN_LIMIT),
            limit => limit,
        }
    }
}

impl LayerVerification {
    fn select<'a>(self, store: &Store, mut layers: BTreeMap<String, &'a Descriptor>) -> BTreeMap<String, &'a Descriptor> {
        let Some(max_total) = self.max_total else { return layers };
        let is_known = |layer: &Descriptor| Blob::try_from(layer).is_ok_and(|blob| self.cached(store, &blob).is_some());
        let known: BTreeSet<String> = layers.iter().filter(|(_, layer)| is_known(layer)).map(|(digest, _)| digest.clone()).collect();
        let unverified: u64 = layers.iter().filter(|(digest, _)| !known.contains(*digest)).map(|(_, layer)| layer.size()).sum();
        if unverified > max_total {
            layers.retain(|digest, _| known.contains(digest));
        }
        layers
    }

    fn cached(self, store: &Store, layer: &Blob) -> Option<VerifiedLayer> {
        store.cached_verification(&layer.digest).filter(|known: &VerifiedLayer| !self.ignore_cache && known.version == VERSION)
    }
}

/// The result of verifying a layer; it depends on the layer's digest alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerifiedLayer {
    version: u32,
    /// Digest and size of its uncompressed tar.
    tar: Blob,
    /// Its symbolic links.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Directories that it writes into without containing them: a lower layer may have a link in their place.
    entered: BTreeSet<PathBuf>,
}

/// Verifies an image and all its layers that are in the store: digests of the compressed and the uncompressed bytes, that each layer
/// is a tar archive and nothing more, and that no path leads out of the root, even through links. Errors are of kind `Verification`
/// and name the layer.
///
/// Layers with a cached result in the store are not read again.
pub fn check_layers(store: &Store, root: &Descriptor, options: LayerVerification, ctx: &Context) -> Result<()> {
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
    let layers = options.select(store, layers);
    let verified = verify_all(store, layers, options, ctx)?;
    images.iter().try_for_each(|(_, manifest)| check_together(store, manifest, &verified, ctx))
}

fn verify_all(
    store: &Store,
    layers: BTreeMap<String, &Descriptor>,
    options: LayerVerification,
    ctx: &Context,
) -> Result<BTreeMap<String, VerifiedLayer>> {
    let total = layers.values().map(|layer| layer.size()).sum();
    let task = ctx.task(format!("verify {} layers", layers.len()), Some(total), Unit::Bytes);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(ctx.jobs().min(MAX_PARALLEL)).build()?;
    let verified = pool.install(|| {
        let each = layers.into_par_iter().map(|(digest, layer)| {
            ctx.check()?;
            let verified = verify_layer(store, layer, options, ctx)?;
            task.advance(layer.size());
            Ok((digest, verified))
        });
        each.collect::<Result<_>>()
    })?;
    task.done("");
    Ok(verified)
}

fn verify_layer(store: &Store, layer: &Descriptor, options: LayerVerification, ctx: &Context) -> Result<VerifiedLayer> {
    let blob = Blob::try_from(layer)?;
    let limit = options.limit(layer);
    let known = options.cached(store, &blob);
    let verify = || -> Result<VerifiedLayer> {
        match known {
            Some(known) if known.tar.size <= limit => Ok(known),
            Some(_) => Err(too_large(limit).into()),
            None => {
                let found = verify_uncached(store, layer, &blob, limit, ctx)?;
                store.cache_verification(&blob.digest, &found);
                Ok(found)
            }
        }
    };
    verify().map_err(|error| of_layer(error, layer))
}

/// Adds the layer's digest to an error, unless the error is an interruption.
fn of_layer(error: anyhow::Error, layer: &Descriptor) -> anyhow::Error {
    match kind_of(&error) {
        Kind::Interrupted => error,
        _ => error.context(Failure::verification(format!("layer {}", layer.digest()))),
    }
}

fn verify_uncached(store: &Store, layer: &Descriptor, blob: &Blob, limit: u64, ctx: &Context) -> Result<VerifiedLayer> {
    let mut resolver = SymlinkResolver::default();
    let tar = read_layer(store, layer, blob, limit, &mut resolver, ctx)?;
    let (links, entered) = resolver.into_links_and_entered();
    Ok(VerifiedLayer { version: VERSION, tar, links, entered })
}

/// Reads a layer and resolves the paths of its members; returns digest and size of its tar.
fn read_layer(store: &Store, layer: &Descriptor, blob: &Blob, limit: u64, resolver: &mut SymlinkResolver, ctx: &Context) -> Result<Blob> {
    let path = store.blob_path(&blob.digest);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let mut decoded = Decompressed::new(ctx.reader(file), compression_of(layer.media_type())?, limit)?;
    match follow_members(&mut decoded, resolver) {
        Ok(()) => Ok(decoded.finish()),
        // damaged bytes fail somewhere in the decoder: a digest mismatch of the blob is the better error
        Err(error) => {
            ctx.check()?;
            io::copy(&mut store.reader(blob)?, &mut io::sink())?;
            Err(error)
        }
    }
}

/// Checks the layers of an image together: their diff IDs against its config, and links of one layer that another writes through.
fn check_together(store: &Store, manifest: &ImageManifest, verified: &BTreeMap<String, VerifiedLayer>, ctx: &Context) -> Result<()> {
    let mut here = Vec::new();
    for (layer, diff_id) in manifest.layers().iter().zip(diff_ids(store, manifest)?) {
        let Some(found) = verified.get(&layer.digest().to_string()) else { continue };
        check_diff_id(&found.tar.digest, &diff_id).with_context(|| Failure::verification(format!("layer {}", layer.digest())))?;
        here.push((layer, found));
    }
    if !may_escape(&here) {
        return Ok(());
    }
    let mut resolver = SymlinkResolver::default();
    for (layer, found) in here {
        ctx.check()?;
        read_layer(store, layer, &Blob::try_from(layer)?, found.tar.size, &mut resolver, ctx).map_err(|error| of_layer(error, layer))?;
        resolver.next_layer();
    }
    Ok(())
}

/// Whether a layer may write out of the root through a link of a lower layer; only reading them in order can tell for sure.
fn may_escape(layers: &[(&Descriptor, &VerifiedLayer)]) -> bool {
    let mut resolver = SymlinkResolver::default();
    layers.iter().any(|(_, layer)| {
        let leads_out = |resolver: &SymlinkResolver| layer.entered.iter().any(|directory| resolver.follow(directory).is_err());
        let before = leads_out(&resolver);
        resolver.add_links(&layer.links);
        before || leads_out(&resolver)
    })
}
