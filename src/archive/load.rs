//! Reads images from an archive.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::BinaryBytes;
use oci_spec::image::{Descriptor, ImageIndex};
use serde::Serialize;

use super::concat_reader::Joined;
use super::load_parts::Collection;
use super::{BLOBS, DELTA_FILE, Delta, INDEX_FILE, LAYOUT_FILE, Parts};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Task, Unit};
use crate::image::{Blob, Digest, Reference};
use crate::layer::{LayerVerification, TarReader, check_layers, check_workloads};
use crate::store::{MAX_DOCUMENT, Store, is_referrer, name_of};
use crate::trust::Policy;

/// How the images of an archive are named, and which of them may be.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// The name of the one image of an archive, whatever the archive says.
    pub tag: Option<Reference>,
    /// Which images must be signed. One that is refused gets no name.
    pub policy: Policy,
    /// How their layers are looked into. An image with one that is not what it should be gets no name.
    pub sifting: LayerVerification,
}

/// What came of a load.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// The names that point at images now.
    pub images: Vec<Reference>,
    /// Blobs that came in.
    pub new_blobs: u64,
    /// Blobs that were here already.
    pub known_blobs: u64,
    /// Bytes of the blobs that came in.
    pub new_bytes: u64,
}

impl Loaded {
    /// What came in, in a line.
    pub(super) fn story(&self) -> String {
        format!("{} new blobs, {}; {} were here already", self.new_blobs, BinaryBytes(self.new_bytes), self.known_blobs)
    }
}

/// Reads an archive from start to end, verifies every blob, and names the images.
///
/// Interrupted, it keeps what arrived: the next load passes over blobs that are here and goes on in the middle of one.
/// Names are given at the end, when all that they reach is here and the layers are found to be what they should.
pub fn load(store: &Store, archive: impl Read, naming: &Naming, ctx: &Context) -> Result<Loaded> {
    let task = ctx.task("load", None, Unit::Bytes);
    let mut archive = BufReader::with_capacity(256 << 10, ctx.reader(archive));
    ensure_plain(archive.fill_buf()?)?;
    let mut members = TarReader::new(archive);
    let (mut head, mut loaded) = (Head::default(), Loaded::default());
    while let Some(member) = members.next()? {
        ctx.check()?;
        let path = member.path.to_string_lossy();
        if let Some(Some(digest)) = path.strip_prefix(BLOBS).map(Digest::at_place) {
            take_blob(store, &mut members, Blob { digest, size: member.size }, &mut loaded, ctx, &task)?;
        } else {
            head.take(&path, &mut members, member.size, store)?;
        }
    }
    let index = head.index()?;
    task.done(loaded.story());
    loaded.images = name_images(store, &index, naming, head.delta.as_ref(), ctx)?;
    Ok(loaded)
}

/// What an archive says about itself.
#[derive(Default)]
struct Head {
    is_layout: bool,
    index: Option<Vec<u8>>,
    delta: Option<Delta>,
}

impl Head {
    /// Reads what comes before the blobs.
    fn read(source: impl Read, store: &Store) -> Result<Head> {
        let (mut head, mut members) = (Head::default(), TarReader::new(source));
        while let Some(member) = members.next()? {
            head.take(&member.path.to_string_lossy(), &mut members, member.size, store)?;
        }
        Ok(head)
    }

    /// Takes in one file of the archive; others than it knows are passed over. A delta whose base is not here is refused.
    fn take(&mut self, path: &str, content: &mut impl Read, size: u64, store: &Store) -> Result<()> {
        match path {
            LAYOUT_FILE => {
                check_layout(&document(content, size, LAYOUT_FILE)?)?;
                self.is_layout = true;
            }
            INDEX_FILE => self.index = Some(document(content, size, INDEX_FILE)?),
            DELTA_FILE => {
                let delta = Delta::parse(&document(content, size, DELTA_FILE)?)?;
                delta.check(store)?;
                self.delta = Some(delta);
            }
            _ => {}
        }
        Ok(())
    }

    /// The index of the images.
    fn index(&self) -> Result<ImageIndex> {
        if !self.is_layout {
            bail!(
                Failure::usage("not an OCI archive: it has no `oci-layout` file")
                    .hint("convert an archive of an old `docker save` with `skopeo copy docker-archive:FILE oci-archive:NEW`")
            );
        }
        let index = self
            .index
            .as_ref()
            .with_context(|| Failure::verification("the archive has no index.json").hint("save or copy the archive again"))?;
        serde_json::from_slice(index).map_err(|error| Failure::verification(format!("the archive's index.json is damaged: {error}")).into())
    }
}

/// Fails before anything is written when the store has no room for what an archive's file would bring. A file that is damaged passes:
/// loading it tells more.
pub fn ensure_room_for(file: &std::fs::File, store: &Store) -> Result<()> {
    let mut needed = 0u64;
    let mut archive = tar::Archive::new(file);
    let Ok(entries) = archive.entries_with_seek() else { return Ok(()) };
    for entry in entries.map_while(std::result::Result::ok) {
        let path = entry.path_bytes();
        let place = std::str::from_utf8(&path).ok().and_then(|path| path.trim_start_matches("./").strip_prefix(BLOBS));
        let Some(digest) = place.and_then(Digest::at_place) else { continue };
        let blob = Blob { digest, size: entry.size() };
        if !store.has(&blob) {
            needed = needed.saturating_add(blob.size - store.arrived(&blob));
        }
    }
    store.ensure_room(needed, "to load")
}

/// Takes in what is here of a split archive, and names its images once all is in; like [`load`].
///
/// Parts may come in any order, one at a time: those that are in need not be here again. Parts that are missing or broken are rebuilt
/// from parity if there is enough of it; else the error names them.
pub fn load_parts(store: &Store, parts: &Parts, naming: &Naming, ctx: &Context) -> Result<Loaded> {
    if !parts.is_listed() {
        ctx.warn(format!("the list of parts is missing: reading {} numbered parts in order", parts.parts.len()));
        return load(store, Joined::new(parts.paths()), naming, ctx);
    }
    let mut collection = Collection::new(store, parts, ctx);
    let (mut head, mut loaded) = (None, Loaded::default());
    let mut read_head = |collection: &Collection| {
        if head.is_none()
            && let Some(source) = collection.head()?
        {
            head = Some(Head::read(source, store)?);
        }
        Ok(())
    };
    collection.take_all(&mut loaded, &mut read_head)?;
    read_head(&collection)?;
    let head = head.with_context(|| Failure::verification("the archive has no index.json"))?;
    loaded.images = name_images(store, &head.index()?, naming, head.delta.as_ref(), ctx)?;
    collection.finish()?;
    Ok(loaded)
}

/// Refuses what is plainly no archive by its first bytes.
fn ensure_plain(start: &[u8]) -> Result<()> {
    ensure!(!start.is_empty(), Failure::usage("not an OCI archive: the file is empty"));
    let unpack = match start {
        [0x1f, 0x8b, ..] => "gunzip -c",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd -dc",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz -dc",
        _ => return Ok(()),
    };
    bail!(Failure::usage("the archive is compressed").hint(format!("decompress it first: `{unpack} FILE | sealift load`")))
}

/// Refuses layouts of a version that nobody knows yet.
fn check_layout(text: &[u8]) -> Result<()> {
    let damaged = |error| Failure::verification(format!("the archive's oci-layout is damaged: {error}"));
    let layout: oci_spec::image::OciLayout = serde_json::from_slice(text).map_err(damaged)?;
    let version = layout.image_layout_version();
    ensure!(version == "1.0.0", Failure::usage(format!("unsupported image layout version {version} in the archive: expected 1.0.0")));
    Ok(())
}

fn document(from: &mut impl Read, size: u64, name: &str) -> Result<Vec<u8>> {
    // what a delta leaves out may be many blobs
    let limit = if name == DELTA_FILE { 16 * MAX_DOCUMENT } else { MAX_DOCUMENT };
    ensure!(size <= limit, Failure::verification(format!("{name} in the archive is too large: limit {} MiB", limit >> 20)));
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Stores one blob, unless it is here. What an interrupted load left of it is not written again.
fn take_blob(store: &Store, content: &mut impl Read, blob: Blob, loaded: &mut Loaded, ctx: &Context, task: &Task) -> Result<()> {
    if store.has(&blob) {
        loaded.known_blobs += 1;
        return Ok(());
    }
    let mut ingest = store.ingest(&blob)?;
    let here = ingest.offset();
    store.ensure_room(blob.size.saturating_sub(here), &format!("for blob {}", blob.digest))?;
    if here > 0 {
        io::copy(&mut content.take(here), &mut io::sink())?;
        task.advance(here);
    }
    let mut buffer = vec![0; 256 << 10];
    loop {
        ctx.check()?;
        match content.read(&mut buffer) {
            Ok(0) => break,
            Err(error) => {
                let error = anyhow::Error::from(error);
                // a part that was found broken at its end: what came of it must not be gone on with
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

/// Points the archive's names at its images, after looking that each is whole, and keeps what refers to them.
fn name_images(store: &Store, index: &ImageIndex, naming: &Naming, delta: Option<&Delta>, ctx: &Context) -> Result<Vec<Reference>> {
    let (referrers, images): (Vec<&Descriptor>, Vec<&Descriptor>) = index.manifests().iter().partition(|entry| is_referrer(entry));
    let named: Vec<(Reference, &Descriptor)> = match (&naming.tag, images.as_slice()) {
        (Some(tag), [only]) => vec![(tag.clone(), *only)],
        (Some(_), several) => bail!(
            Failure::usage(format!("the archive has {} images: `--tag` works with one only", several.len()))
                .hint("load without `--tag`, then name an image with `sealift tag`")
        ),
        (None, entries) => entries.iter().filter_map(|entry| Some((name_of(entry)?, *entry))).collect(),
    };
    if named.is_empty() {
        bail!(Failure::usage("the archive has no image name").hint("set one with `--tag NAME`"));
    }
    let mut on_hosts = 0;
    for (name, descriptor) in &named {
        on_hosts += whole(store, descriptor, &format!("image {}", name.familiar()), delta)?;
        check_layers(store, descriptor, naming.sifting, ctx)
            .and_then(|()| check_workloads(store, descriptor))
            .with_context(|| format!("image {} in the archive", name.familiar()))?;
    }
    for referrer in &referrers {
        whole(store, referrer, &format!("referrer {}", referrer.digest()), delta)?;
    }
    if on_hosts > 0 {
        ctx.warn(format!("{on_hosts} blobs are only on the hosts: the images run there, but cannot be pushed or saved from this store"));
    }
    referrers.iter().try_for_each(|referrer| store.attach(referrer))?;
    for (name, descriptor) in &named {
        naming.policy.check(store, name, &descriptor.digest().try_into()?, ctx)?;
    }
    named.iter().try_for_each(|(name, descriptor)| store.tag(name, descriptor))?;
    Ok(named.into_iter().map(|(name, _)| name).collect())
}

/// Looks that all of a document is here, but for what a delta left to the hosts; how many blobs that are.
fn whole(store: &Store, root: &Descriptor, what: &str, delta: Option<&Delta>) -> Result<usize> {
    let nodes = store.walk(root).with_context(|| format!("{what} in the archive"))?;
    let lacking: Vec<Blob> = nodes.iter().map(|node| node.blob).filter(|blob| !store.has(blob)).collect();
    if let Some(blob) = lacking.iter().find(|blob| !delta.is_some_and(|delta| delta.is_on_hosts(blob))) {
        bail!(
            Failure::verification(format!("the archive is incomplete: {what} is missing blob {}", blob.digest))
                .hint("save or copy the archive again")
        );
    }
    Ok(lacking.len())
}
