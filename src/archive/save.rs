//! Writes images into an archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageIndexBuilder, MediaType};
use tar::{EntryType, Header};

use super::part_list::Placed;
use super::{BLOBS, DELTA_FILE, INDEX_FILE, Known, LAYOUT, LAYOUT_FILE};
use crate::error::Failure;
use crate::events::{Context, Unit};
use crate::image::{ANNOTATION_REF_NAME, Algorithm, Blob, Content, Digest, Reference};
use crate::layer::is_image;
use crate::store::Store;

/// Longer names do not fit into a header.
const SHORT: usize = 100;

/// What goes into an archive: images and all that they reach, each blob once.
#[derive(Debug)]
pub struct Selection {
    images: Vec<(Reference, Descriptor)>,
    blobs: BTreeMap<Digest, u64>,
    /// Documents, configs and layers of images among them, without which an image cannot be looked at nor run.
    needed: BTreeSet<Digest>,
    index: Vec<u8>,
    /// The record of what is left out; none in a full archive.
    delta: Option<Vec<u8>>,
}

/// Gathers what the named images consist of, and what refers to them: signatures, SBOMs. An image of which something is missing is an error.
pub fn select(store: &Store, names: &[Reference]) -> Result<Selection> {
    let mut images = Vec::new();
    let (mut blobs, mut needed) = (BTreeMap::new(), BTreeSet::new());
    let mut referrers: Vec<Descriptor> = Vec::new();
    for name in names {
        let descriptor = store.find(name)?;
        let about = store.referrers_below(&descriptor)?;
        let mut nodes = Vec::new();
        for root in std::iter::once(&descriptor).chain(&about) {
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
        referrers.extend(about);
    }
    images.sort_by(|a, b| a.0.cmp(&b.0));
    images.dedup_by(|a, b| a.0 == b.0);
    referrers.sort_by_key(|referrer| referrer.digest().to_string());
    referrers.dedup();
    let index = index_of(&images, referrers)?;
    Ok(Selection { images, blobs, needed, index, delta: None })
}

fn index_of(images: &[(Reference, Descriptor)], referrers: Vec<Descriptor>) -> Result<Vec<u8>> {
    let named = images.iter().map(|(name, descriptor)| {
        let mut entry = descriptor.clone();
        let mut annotations = entry.annotations().clone().unwrap_or_default();
        annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.to_string());
        entry.set_annotations(Some(annotations));
        entry
    });
    let entries: Vec<_> = named.chain(referrers).collect();
    let index = ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex).manifests(entries).build()?;
    // through a value: its maps have an order, so the same images give the same bytes
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

    /// Leaves out what the other end has, and records it. Gives how many bytes that saves.
    pub fn leave_out(&mut self, known: Known) -> Result<u64> {
        if known.is_empty() {
            return Ok(0);
        }
        let (mut left_out, mut on_hosts) = (Vec::new(), Vec::new());
        for (&digest, &size) in &self.blobs {
            if known.has(&digest) {
                left_out.push(Blob { digest, size });
            } else if known.on_hosts(&digest) && !self.needed.contains(&digest) {
                on_hosts.push(Blob { digest, size });
            }
        }
        let saved = left_out.iter().chain(&on_hosts).map(|blob| {
            self.blobs.remove(&blob.digest);
            blob.size
        });
        let saved = saved.sum();
        self.delta = Some(serde_json::to_vec(&known.delta(left_out, on_hosts))?);
        Ok(saved)
    }

    /// How many blobs there are.
    pub fn blobs(&self) -> usize {
        self.blobs.len()
    }

    /// The archive's size in bytes, to the byte.
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
        // that of the usual blobs is there always
        let of_blobs = Algorithm::ALL.into_iter().filter(|algorithm| *algorithm == Algorithm::Sha256 || has(algorithm));
        std::iter::once(BLOBS.to_owned()).chain(of_blobs.map(|algorithm| format!("{BLOBS}{}/", algorithm.name()))).collect()
    }

    /// All that comes before the blobs.
    fn head(&self) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        put(&mut head, LAYOUT_FILE, LAYOUT)?;
        if let Some(delta) = &self.delta {
            put(&mut head, DELTA_FILE, delta)?;
        }
        put(&mut head, INDEX_FILE, &self.index)?;
        for directory in self.directories() {
            head.write_all(header(&directory, EntryType::Directory, 0o755, 0)?.as_bytes())?;
        }
        Ok(head)
    }

    /// Where the head and the blobs are in the archive.
    pub(super) fn contents(&self) -> Result<Vec<Placed>> {
        let head = Blob::of(&self.head()?);
        let mut end = head.size;
        let placed = self.blobs.iter().map(|(&digest, &size)| {
            let offset = end + header_size(&digest);
            end = offset + size.next_multiple_of(512);
            Placed { blob: Blob { digest, size }, offset }
        });
        Ok(std::iter::once(Placed { blob: head, offset: 0 }).chain(placed).collect())
    }

    /// Writes the archive, every blob verified while it is read. The same images give the same bytes.
    pub fn write(&self, store: &Store, mut out: impl Write, ctx: &Context) -> Result<()> {
        let task = ctx.task(format!("save {} blobs", self.blobs.len()), Some(self.blobs.values().sum()), Unit::Bytes);
        out.write_all(&self.head()?)?;
        let mut buffer = vec![0; 256 << 10];
        for (&digest, &size) in &self.blobs {
            let mut reader = store.reader(&Blob { digest, size })?;
            begin(&mut out, &path_of(&digest), size)?;
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

/// Where a blob is in an archive.
fn path_of(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.place())
}

/// The bytes before those of a blob, of which there are more where its name is long.
fn header_size(digest: &Digest) -> u64 {
    if path_of(digest).len() > SHORT { 3 * 512 } else { 512 }
}

/// The header of a file. A name that is too long for it goes before it, as GNU tar writes it.
fn begin(out: &mut impl Write, path: &str, size: u64) -> Result<()> {
    let mut name = path;
    if path.len() > SHORT {
        let text = [path.as_bytes(), &[0]].concat();
        out.write_all(header("././@LongLink", EntryType::GNULongName, 0o644, text.len() as u64)?.as_bytes())?;
        out.write_all(&text)?;
        pad(out, text.len() as u64)?;
        name = &path[..SHORT];
    }
    Ok(out.write_all(header(name, EntryType::Regular, 0o644, size)?.as_bytes())?)
}

fn put(out: &mut impl Write, name: &str, bytes: &[u8]) -> Result<()> {
    out.write_all(header(name, EntryType::Regular, 0o644, bytes.len() as u64)?.as_bytes())?;
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

fn pad(out: &mut impl Write, size: u64) -> Result<()> {
    let zeros = usize::try_from(size.next_multiple_of(512) - size).expect("a block has 512 bytes");
    Ok(out.write_all(&[0; 512][..zeros])?)
}

/// A header in GNU's format, whose sizes may be more than 8 GiB.
fn header(name: &str, kind: EntryType, mode: u32, size: u64) -> Result<Header> {
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
