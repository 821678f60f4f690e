//! Loads images from an archive into the store.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::BinaryBytes;
use oci_spec::image::{Descriptor, ImageIndex};
use serde::Serialize;

use super::concat_reader::ConcatReader;
use super::docker_archive::DockerFiles;
use super::load_parts::PartLoader;
use super::{BLOBS, DELTA_FILE, Delta, INDEX_FILE, LAYOUT_FILE, PartList};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Task, Unit};
use crate::image::{Blob, Content, Digest, Reference, subject_of};
use crate::layer::{EntryKind, LayerVerification, TarReader, check_layers, check_workloads, decompressed_archive};
use crate::store::{MAX_MANIFEST_SIZE, Store, is_referrer, ref_name};
use crate::trust::{Policy, adopt_signatures};

/// How the images of an archive are named and verified.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The name for the only image of an archive, instead of its own.
    pub tag: Option<Reference>,
    /// Which images must be signed. An image that is refused is not tagged.
    pub policy: Policy,
    /// How layers are verified. An image with a wrong layer is not tagged.
    pub verification: LayerVerification,
}

/// The result of a load.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadSummary {
    /// The images that were tagged.
    pub images: Vec<Reference>,
    /// Blobs that were added to the store.
    pub new_blobs: u64,
    /// Blobs that the store had already.
    pub known_blobs: u64,
    /// Bytes of the added blobs.
    pub new_bytes: u64,
}

impl LoadSummary {
    /// The counts in one line.
    pub(super) fn describe(&self) -> String {
        format!("{} new blobs, {}; {} already in the store", self.new_blobs, BinaryBytes(self.new_bytes), self.known_blobs)
    }
}

/// Reads an archive from start to end, verifies every blob, and tags the images.
///
/// An interrupted load keeps what it has read: the next one skips those blobs, and resumes in the middle of one. Images are tagged
/// at the end, when they are complete and their layers verified.
pub fn load(store: &Store, archive: impl Read, options: &LoadOptions, ctx: &Context) -> Result<LoadSummary> {
    let task = ctx.task("load", None, Unit::Bytes);
    let archive = decompressed_archive(BufReader::with_capacity(256 << 10, ctx.reader(archive)))?;
    let mut members = TarReader::new(archive);
    let (mut head, mut docker, mut loaded) = (Metadata::default(), DockerFiles::default(), LoadSummary::default());
    while let Some(member) = members.next()? {
        ctx.check()?;
        let path = member.path.to_string_lossy();
        if let Some(Some(digest)) = path.strip_prefix(BLOBS).map(Digest::from_blob_path) {
            load_blob(store, &mut members, Blob { digest, size: member.size }, &mut loaded, ctx, &task)?;
        } else if member.kind == EntryKind::Symlink {
            docker.link(&path, &member.link.to_string_lossy());
        } else if !docker.take(&path, &mut members, member.size, store, ctx)? {
            head.take(&path, &mut members, member.size, store)?;
        }
    }
    let of_docker = if head.is_layout { None } else { docker.images(store)? };
    let index = of_docker.map_or_else(|| head.index(), Ok)?;
    task.done(loaded.describe());
    loaded.images = name_images(store, &index, options, head.delta.as_ref(), ctx)?;
    Ok(loaded)
}

/// The files of an archive that are not blobs: `oci-layout`, `index.json`, `sealift-delta.json`.
#[derive(Default)]
struct Metadata {
    is_layout: bool,
    index: Option<Vec<u8>>,
    delta: Option<Delta>,
}

impl Metadata {
    /// Reads the tar entries that come before the blobs.
    fn read(source: impl Read, store: &Store) -> Result<Metadata> {
        let (mut head, mut members) = (Metadata::default(), TarReader::new(source));
        while let Some(member) = members.next()? {
            head.take(&member.path.to_string_lossy(), &mut members, member.size, store)?;
        }
        Ok(head)
    }

    /// Reads one file of the archive; unknown files are skipped. A delta whose base is not in the store is refused.
    fn take(&mut self, path: &str, content: &mut impl Read, size: u64, store: &Store) -> Result<()> {
        match path {
            LAYOUT_FILE => {
                check_layout(&read_file(content, size, LAYOUT_FILE)?)?;
                self.is_layout = true;
            }
            INDEX_FILE => self.index = Some(read_file(content, size, INDEX_FILE)?),
            DELTA_FILE => {
                let delta = Delta::parse(&read_file(content, size, DELTA_FILE)?)?;
                delta.check(store)?;
                self.delta = Some(delta);
            }
            _ => {}
        }
        Ok(())
    }

    /// Parses `index.json`.
    fn index(&self) -> Result<ImageIndex> {
        if !self.is_layout {
            bail!(
                Failure::usage("not an archive of images: it has neither an `oci-layout` file nor docker's `manifest.json`")
                    .hint("make one with `sealift save`, `docker save` or `skopeo copy … oci-archive:FILE`")
            );
        }
        let index = self
            .index
            .as_ref()
            .with_context(|| Failure::verification("the archive has no index.json").hint("save or copy the archive again"))?;
        serde_json::from_slice(index).map_err(|error| Failure::verification(format!("the archive's index.json is damaged: {error}")).into())
    }
}

/// Fails, before anything is written, if the disk has no space for the new blobs of an archive. A damaged file passes: loading it
/// gives a better error.
pub fn ensure_disk_space_for(file: &std::fs::File, store: &Store) -> Result<()> {
    let mut needed = 0u64;
    let mut archive = tar::Archive::new(file);
    let Ok(entries) = archive.entries_with_seek() else { return Ok(()) };
    for entry in entries.map_while(std::result::Result::ok) {
        let path = entry.path_bytes();
        let place = std::str::from_utf8(&path).ok().and_then(|path| path.trim_start_matches("./").strip_prefix(BLOBS));
        let Some(digest) = place.and_then(Digest::from_blob_path) else { continue };
        let blob = Blob { digest, size: entry.size() };
        if !store.has(&blob) {
            needed = needed.saturating_add(blob.size - store.partial_size(&blob));
        }
    }
    store.ensure_disk_space(needed, "to load")
}

/// Loads the parts of a split archive that exist, and tags its images when all parts are loaded; like [`load`].
///
/// Parts may come in any order, one at a time, and loaded parts are not needed again. Missing or damaged parts are rebuilt from parity
/// if there is enough; else the error names them.
pub fn load_parts(store: &Store, parts: &PartList, options: &LoadOptions, ctx: &Context) -> Result<LoadSummary> {
    if !parts.is_listed() {
        ctx.warn(format!("the list of parts is missing: reading {} numbered parts in order", parts.parts.len()));
        return load(store, ConcatReader::new(parts.paths()), options, ctx);
    }
    let mut collection = PartLoader::new(store, parts, ctx);
    let (mut head, mut loaded) = (None, LoadSummary::default());
    let mut read_head = |collection: &PartLoader| {
        if head.is_none()
            && let Some(source) = collection.metadata()?
        {
            head = Some(Metadata::read(source, store)?);
        }
        Ok(())
    };
    collection.load_all(&mut loaded, &mut read_head)?;
    read_head(&collection)?;
    let head = head.with_context(|| Failure::verification("the archive has no index.json"))?;
    loaded.images = name_images(store, &head.index()?, options, head.delta.as_ref(), ctx)?;
    collection.finish()?;
    Ok(loaded)
}

/// Refuses other versions of the image layout than 1.0.0.
fn check_layout(text: &[u8]) -> Result<()> {
    let damaged = |error| Failure::verification(format!("the archive's oci-layout is damaged: {error}"));
    let layout: oci_spec::image::OciLayout = serde_json::from_slice(text).map_err(damaged)?;
    let version = layout.image_layout_version();
    ensure!(version == "1.0.0", Failure::usage(format!("unsupported image layout version {version} in the archive: expected 1.0.0")));
    Ok(())
}

fn read_file(from: &mut impl Read, size: u64, name: &str) -> Result<Vec<u8>> {
    // a delta may list many blobs
    let limit = if name == DELTA_FILE { 16 * MAX_MANIFEST_SIZE } else { MAX_MANIFEST_SIZE };
    ensure!(size <= limit, Failure::verification(format!("{name} in the archive is too large: limit {} MiB", limit >> 20)));
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Stores one blob, unless the store has it. Bytes from an interrupted load are not written again.
fn load_blob(store: &Store, content: &mut impl Read, blob: Blob, loaded: &mut LoadSummary, ctx: &Context, task: &Task) -> Result<()> {
    if store.has(&blob) {
        loaded.known_blobs += 1;
        return Ok(());
    }
    let mut ingest = store.ingest(&blob)?;
    let offset = ingest.offset();
    store.ensure_disk_space(blob.size.saturating_sub(offset), &format!("for blob {}", blob.digest))?;
    if offset > 0 {
        io::copy(&mut content.take(offset), &mut io::sink())?;
        task.advance(offset);
    }
    let mut buffer = vec![0; 256 << 10];
    loop {
        ctx.check()?;
        match content.read(&mut buffer) {
            Ok(0) => break,
            Err(error) => {
                let error = anyhow::Error::from(error);
                // a part found damaged at its end: its bytes must not be resumed
                if kind_of(&error) == Kind::Verification {
                    ingest.restart()?;
                }
                return Err(error);
            }
            Ok(count) => {
                ingest.write_all(&buffer[..count]).with_context(|| format!("blob {}", blob.digest))?;
                task.advance(count as u64);
            }
        }
    }
    ingest.commit()?;
    loaded.new_blobs += 1;
    loaded.new_bytes += blob.size;
    Ok(())
}

/// The entries of an archive's index by what they are.
struct Entries<'a> {
    images: Vec<&'a Descriptor>,
    referrers: Vec<&'a Descriptor>,
    /// Manifests with cosign's signatures of an image, as `cosign save` writes them: without a subject.
    signatures: Vec<&'a Descriptor>,
}

impl<'a> Entries<'a> {
    /// Sorts the entries. What has a subject refers to an image, also if the index does not say so (`oras backup`), and what is an attachment for
    /// cosign is no image either.
    fn sort(store: &Store, index: &'a ImageIndex) -> Result<Self> {
        let mut entries = Entries { images: Vec::new(), referrers: Vec::new(), signatures: Vec::new() };
        for entry in index.manifests() {
            let content = if store.has(&Blob::try_from(entry)?) { store.read_manifest(entry)? } else { Content::Leaf };
            match kind_by_cosign(entry) {
                _ if is_referrer(entry) || subject_of(&content)?.is_some() => entries.referrers.push(entry),
                Some("sigs") => entries.signatures.push(entry),
                Some("atts" | "sbom") => {}
                _ => entries.images.push(entry),
            }
        }
        Ok(entries)
    }

    /// The images that no other one reaches, each once: what a person calls the images of the archive.
    fn roots(&self, store: &Store) -> Result<Vec<&'a Descriptor>> {
        let mut below = BTreeSet::new();
        for image in &self.images {
            let Content::Index(index) = store.read_manifest(image)? else { continue };
            for child in index.manifests() {
                below.extend(store.reachable([child])?);
            }
        }
        let mut roots: Vec<&Descriptor> = Vec::new();
        for image in &self.images {
            let is_below = Digest::try_from(image.digest()).is_ok_and(|digest| below.contains(&digest));
            if !is_below && roots.iter().all(|root| root.digest() != image.digest()) {
                roots.push(image);
            }
        }
        Ok(roots)
    }
}

/// What an entry is for `cosign save`, which writes it into an annotation: `image`, `imageIndex`, `sigs`, `atts` or `sbom`.
fn kind_by_cosign(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get("kind")?.strip_prefix("dev.cosignproject.cosign/")
}

/// Checks that the images are complete, verifies and tags them, and attaches their referrers.
fn name_images(store: &Store, index: &ImageIndex, options: &LoadOptions, delta: Option<&Delta>, ctx: &Context) -> Result<Vec<Reference>> {
    let entries = Entries::sort(store, index)?;
    let referrers = &entries.referrers;
    let named: Vec<(Reference, &Descriptor)> = match &options.tag {
        Some(tag) => match entries.roots(store)?.as_slice() {
            [only] => vec![(tag.clone(), *only)],
            several => bail!(
                Failure::usage(format!("the archive has {} images: `--tag` works with one only", several.len()))
                    .hint("load without `--tag`, then name an image with `sealift tag`")
            ),
        },
        None => entries.images.iter().filter_map(|entry| Some((ref_name(entry)?, *entry))).collect(),
    };
    if named.is_empty() {
        bail!(Failure::usage("the archive has no image name").hint("set one with `--tag NAME`"));
    }
    let mut on_hosts = 0;
    for (name, descriptor) in &named {
        on_hosts += ensure_complete(store, descriptor, &format!("image {}", name.familiar()), delta)?;
        check_layers(store, descriptor, options.verification, ctx)
            .and_then(|()| check_workloads(store, descriptor))
            .with_context(|| format!("image {} in the archive", name.familiar()))?;
    }
    for referrer in referrers.iter().chain(&entries.signatures) {
        ensure_complete(store, referrer, &format!("referrer {}", referrer.digest()), delta)?;
    }
    if on_hosts > 0 {
        ctx.warn(format!("{on_hosts} blobs are only on the hosts: the images run there, but cannot be pushed or saved from this store"));
    }
    referrers.iter().try_for_each(|referrer| store.attach(referrer))?;
    if let ([signed], false) = (entries.roots(store)?.as_slice(), entries.signatures.is_empty()) {
        for signatures in &entries.signatures {
            let Content::Manifest(manifest) = store.read_manifest(signatures)? else { continue };
            adopt_signatures(store, signed, &manifest)?;
        }
    }
    for (name, descriptor) in &named {
        options.policy.check(store, name, &descriptor.digest().try_into()?, ctx)?;
    }
    named.iter().try_for_each(|(name, descriptor)| store.tag(name, descriptor))?;
    Ok(named.into_iter().map(|(name, _)| name).collect())
}

/// Fails unless all blobs below `root` are in the store, except those that a delta leaves to the hosts; returns how many those are.
fn ensure_complete(store: &Store, root: &Descriptor, what: &str, delta: Option<&Delta>) -> Result<usize> {
    let nodes = store.walk(root).with_context(|| format!("{what} in the archive"))?;
    let missing: Vec<Blob> = nodes.iter().map(|node| node.blob).filter(|blob| !store.has(blob)).collect();
    if let Some(blob) = missing.iter().find(|blob| !delta.is_some_and(|delta| delta.is_on_hosts(blob))) {
        bail!(
            Failure::verification(format!("the archive is incomplete: {what} is missing blob {}", blob.digest))
                .hint("save or copy the archive again")
        );
    }
    Ok(missing.len())
}
