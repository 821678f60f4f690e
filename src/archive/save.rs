//! Saves images of the store into an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageIndexBuilder, MediaType};
use tar::{EntryType, Header};

use super::part_list::Entry;
use super::{BLOBS, Baseline, DELTA_FILE, INDEX_FILE, LAYOUT, LAYOUT_FILE};
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{ANNOTATION_REF_NAME, Algorithm, Blob, Content, Digest, Reference};
use crate::layer::is_image;
use crate::store::Store;

/// The longest name that fits into a tar header, in bytes.
const MAX_NAME: usize = 100;

/// The content of an archive: images and everything that they reach, each blob once.
#[derive(Debug)]
pub struct Selection {
    images: Vec<(Reference, Descriptor)>,
    blobs: BTreeMap<Digest, u64>,
    /// Blobs that the destination's store needs to inspect and run an image: manifests, configs and layers.
    required: BTreeSet<Digest>,
    index: Vec<u8>,
    /// The content of `sealift-delta.json`; `None` in a full archive.
    delta: Option<Vec<u8>>,
}

/// Selects images with their referrers (signatures, SBOMs). An incomplete image is an error.
pub fn select(store: &Store, names: &[Reference]) -> Result<Selection> {
    let mut images = Vec::new();
    let (mut blobs, mut needed) = (BTreeMap::new(), BTreeSet::new());
    let mut referrers: Vec<Descriptor> = Vec::new();
    for name in names {
        let descriptor = store.find(name)?;
        let image_referrers = store.referrers_recursive(&descriptor)?;
        let mut nodes = Vec::new();
        for root in std::iter::once(&descriptor).chain(&image_referrers) {
            nodes.extend(store.walk(root).with_context(|| format!("image {}", name.familiar()))?);
        }
        for node in nodes {
            ensure!(
                store.has(&node.blob),
                Failure::verification(format!("image {}: blob {} is not in the store", name.familiar(), node.blob.digest))
                    .hint(format!("`sealift pull {}` gets what is missing", name.familiar()))
            );
            blobs.insert(node.blob.digest, node.blob.size);
            match &node.content {
                Content::Leaf => {}
                Content::Index(_) => drop(needed.insert(node.blob.digest)),
                Content::Manifest(manifest) => {
                    needed.extend([node.blob.digest, manifest.config().digest().try_into()?]);
                    let layers = manifest.layers().iter().filter(|_| is_image(manifest));
                    needed.extend(layers.map(|layer| Digest::try_from(layer.digest())).collect::<Result<Vec<_>>>()?);
                }
            }
        }
        images.push((name.clone(), descriptor));
        referrers.extend(image_referrers);
    }
    images.sort_by(|a, b| a.0.cmp(&b.0));
    images.dedup_by(|a, b| a.0 == b.0);
    referrers.sort_by_key(|referrer| referrer.digest().to_string());
    referrers.dedup();
    let index = index_of(&images, referrers)?;
    Ok(Selection { images, blobs, required: needed, index, delta: None })
}

fn index_of(images: &[(Reference, Descriptor)], referrers: Vec<Descriptor>) -> Result<Vec<u8>> {
    let entries_of_images = images.iter().map(|(name, descriptor)| {
        let mut entry = descriptor.clone();
        let mut annotations = entry.annotations().clone().unwrap_or_default();
        annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.to_string());
        entry.set_annotations(Some(annotations));
        entry
    });
    let entries: Vec<_> = entries_of_images.chain(referrers).collect();
    let index = ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex).manifests(entries).build()?;
    // maps are sorted, so that the same images give the same bytes
    Ok(serde_json::to_vec(&sorted(serde_json::to_value(&index)?))?)
}

fn sorted(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => {
            let ordered: BTreeMap<String, serde_json::Value> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            serde_json::Value::Object(ordered.into_iter().collect())
        }
        serde_json::Value::Array(items) => items.into_iter().map(sorted).collect(),
        other => other,
    }
}

impl Selection {
    /// The images, by name.
    pub fn images(&self) -> &[(Reference, Descriptor)] {
        &self.images
    }

    /// Leaves out what the destination has, and records it. Returns how many bytes that saves.
    pub fn exclude(&mut self, baseline: Baseline) -> Result<u64> {
        if baseline.is_empty() {
            return Ok(0);
        }
        let (mut left_out, mut on_hosts) = (Vec::new(), Vec::new());
        for (&digest, &size) in &self.blobs {
            if baseline.has(&digest) {
                left_out.push(Blob { digest, size });
            } else if baseline.on_hosts(&digest) && !self.required.contains(&digest) {
                on_hosts.push(Blob { digest, size });
            }
        }
        let saved = left_out.iter().chain(&on_hosts).map(|blob| {
            self.blobs.remove(&blob.digest);
            blob.size
        });
        let saved = saved.sum();
        self.delta = Some(serde_json::to_vec(&baseline.into_delta(left_out, on_hosts))?);
        Ok(saved)
    }

    /// The number of blobs.
    pub fn blobs(&self) -> usize {
        self.blobs.len()
    }

    /// The exact size of the archive in bytes.
    pub fn archive_size(&self) -> u64 {
        let files = [LAYOUT.len() as u64, self.index.len() as u64].into_iter();
        let files = files.chain(self.delta.iter().map(|delta| delta.len() as u64)).chain(self.blobs.values().copied());
        let directories = self.directories().len() as u64;
        let long_names: u64 = self.blobs.keys().map(|digest| header_size(digest) - 512).sum();
        files.map(|size| 512 + size.next_multiple_of(512)).sum::<u64>() + directories * 512 + long_names + 1024
    }

    /// The directories of blobs, parents first.
    fn directories(&self) -> Vec<String> {
        let has = |algorithm: &Algorithm| self.blobs.keys().any(|digest| digest.algorithm() == *algorithm);
        // the directory of sha256 blobs always exists
        let of_blobs = Algorithm::ALL.into_iter().filter(|algorithm| *algorithm == Algorithm::Sha256 || has(algorithm));
        std::iter::once(BLOBS.to_owned()).chain(of_blobs.map(|algorithm| format!("{BLOBS}{}/", algorithm.name()))).collect()
    }

    /// The tar entries before the blobs.
    fn metadata(&self) -> Result<Vec<u8>> {
        let mut metadata = Vec::new();
        write_file(&mut metadata, LAYOUT_FILE, LAYOUT)?;
        if let Some(delta) = &self.delta {
            write_file(&mut metadata, DELTA_FILE, delta)?;
        }
        write_file(&mut metadata, INDEX_FILE, &self.index)?;
        for directory in self.directories() {
            metadata.write_all(tar_header(&directory, EntryType::Directory, 0o755, 0)?.as_bytes())?;
        }
        Ok(metadata)
    }

    /// The offsets of the metadata and of the blobs in the archive.
    pub(super) fn contents(&self) -> Result<Vec<Entry>> {
        let metadata = Blob::of(&self.metadata()?);
        let mut end = metadata.size;
        let entries = self.blobs.iter().map(|(&digest, &size)| {
            let offset = end + header_size(&digest);
            end = offset + size.next_multiple_of(512);
            Entry { blob: Blob { digest, size }, offset }
        });
        Ok(std::iter::once(Entry { blob: metadata, offset: 0 }).chain(entries).collect())
    }

    /// Writes the archive; every blob is verified while it is read. The same images give the same bytes.
    pub fn write(&self, store: &Store, mut out: impl Write, ctx: &Context) -> Result<()> {
        let task = ctx.task(format!("save {} blobs", self.blobs.len()), Some(self.blobs.values().sum()), Unit::Bytes);
        out.write_all(&self.metadata()?)?;
        let mut buffer = vec![0; 256 << 10];
        for (&digest, &size) in &self.blobs {
            let mut reader = store.reader(&Blob { digest, size })?;
            write_header(&mut out, &path_of(&digest), size)?;
            loop {
                ctx.check()?;
                match reader.read(&mut buffer)? {
                    0 => break,
                    count => {
                        out.write_all(&buffer[..count])?;
                        task.advance(count as u64);
                    }
                }
            }
            pad(&mut out, size)?;
        }
        out.write_all(&[0; 1024])?;
        out.flush()?;
        task.done("");
        Ok(())
    }
}

/// The path of a blob in an archive.
fn path_of(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.blob_path())
}

/// The size of a blob's tar header in bytes; long names take three blocks.
fn header_size(digest: &Digest) -> u64 {
    if path_of(digest).len() > MAX_NAME { 3 * 512 } else { 512 }
}

/// Writes the header of a file. A long name goes into an entry of its own before it, as GNU tar does.
fn write_header(out: &mut impl Write, path: &str, size: u64) -> Result<()> {
    let mut name = path;
    if path.len() > MAX_NAME {
        let text = [path.as_bytes(), &[0]].concat();
        out.write_all(tar_header("././@LongLink", EntryType::GNULongName, 0o644, text.len() as u64)?.as_bytes())?;
        out.write_all(&text)?;
        pad(out, text.len() as u64)?;
        name = &path[..MAX_NAME];
    }
    Ok(out.write_all(tar_header(name, EntryType::Regular, 0o644, size)?.as_bytes())?)
}

fn write_file(out: &mut impl Write, name: &str, bytes: &[u8]) -> Result<()> {
    out.write_all(tar_header(name, EntryType::Regular, 0o644, bytes.len() as u64)?.as_bytes())?;
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

fn pad(out: &mut impl Write, size: u64) -> Result<()> {
    let zeros = usize::try_from(size.next_multiple_of(512) - size).expect("a block has 512 bytes");
    Ok(out.write_all(&[0; 512][..zeros])?)
}

/// A tar header in GNU format, which allows sizes above 8 GiB.
fn tar_header(name: &str, kind: EntryType, mode: u32, size: u64) -> Result<Header> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(header)
}
