//! Container images that are on this machine already: OCI layout directories, tars of them (`oci-archive`), and files of `docker save`
//! (`docker-archive`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageIndex, MediaType};

use super::docker_archive::{self, ManifestEntry, link_target};
use crate::error::{Failure, hints_of};
use crate::events::Context;
use crate::image::{ANNOTATION_REF_NAME, Blob, Digest, Reference};
use crate::layer::decompressed_archive;
use crate::store::{MAX_MANIFEST_SIZE, Store};

/// Where containerd writes the full name of an image; `ref.name` has only the tag then.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Offset and size in bytes of blobs in a tar.
type Positions = HashMap<Digest, (u64, u64)>;

/// An archive or directory of container images, and what it contains.
#[derive(Debug)]
pub struct ImageArchive {
    path: PathBuf,
    images: Vec<Image>,
    /// The tar, decompressed, with offset and size in bytes of each of its blobs. `None` for a directory.
    tar: Option<(File, Positions)>,
    /// The OCI manifests of the images of a docker archive, which has none itself.
    generated: HashMap<Digest, Vec<u8>>,
}

#[derive(Debug)]
struct Image {
    name: Option<Reference>,
    root: Descriptor,
}

impl ImageArchive {
    /// Opens a layout directory, or a tar of one or of `docker save`, which may be compressed, and lists its images.
    ///
    /// # Errors
    /// `Usage` if it is none of these.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = if path.is_dir() { Self::open_dir(path) } else { Self::open_tar(path) };
        opened.map_err(|error| {
            let mut failure = Failure::usage(format!("{} is not an archive of container images", path.display()));
            failure.hints = hints_of(&error).to_vec();
            if failure.hints.is_empty() {
                failure = failure.hint(
                    "give a directory with `oci-layout` and `index.json`, a tar of one (`skopeo copy docker://… oci-archive:…`), or a file \
                     of `docker save`",
                );
            }
            error.context(failure)
        })
    }

    fn open_dir(path: &Path) -> Result<Self> {
        let index = fs_err::read(path.join("index.json"))?;
        Ok(ImageArchive { path: path.to_owned(), images: images(&index)?, tar: None, generated: HashMap::new() })
    }

    fn open_tar(path: &Path) -> Result<Self> {
        let file = uncompressed(fs_err::File::open(path)?)?;
        let files = Files::list(&file)?;
        let mut archive = ImageArchive { path: path.to_owned(), images: Vec::new(), tar: None, generated: HashMap::new() };
        let mut blobs = HashMap::new();
        if let Some(index) = files.document(&file, "index.json")? {
            archive.images = images(&index)?;
            blobs = files.blobs();
        } else {
            let manifest = files.document(&file, "manifest.json")?.context("it contains neither index.json nor manifest.json")?;
            for saved in docker_archive::parse(&manifest)? {
                archive.add_docker_image(&saved, &files, &file, &mut blobs)?;
            }
        }
        archive.tar = Some((file, blobs));
        Ok(archive)
    }

    /// Adds an image of a docker archive, with a generated manifest. The digests of its layers are those in its config.
    fn add_docker_image(&mut self, saved: &ManifestEntry, files: &Files, file: &File, blobs: &mut Positions) -> Result<()> {
        let config =
            files.document(file, &saved.config)?.with_context(|| format!("the archive does not contain the config `{}`", saved.config))?;
        let layers = saved
            .layers
            .iter()
            .map(|name| files.position(name).with_context(|| format!("the archive does not contain the layer `{name}`")));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let (manifest, diff_ids) = docker_archive::manifest(&config, layers.iter().map(|(_, size)| *size))?;
        blobs.extend(files.position(&saved.config).map(|position| (Digest::of(&config), position)));
        blobs.extend(diff_ids.into_iter().zip(layers));
        let blob = Blob::of(&manifest);
        let root = Descriptor::new(MediaType::ImageManifest, blob.size, blob.digest);
        self.generated.insert(blob.digest, manifest);
        let names = saved.repo_tags.iter().flatten().map(|text| text.parse().ok());
        self.images.extend(names.map(|name| Image { name, root: root.clone() }));
        Ok(())
    }

    /// The root (manifest or index) of the image with this name; of a name with a digest that with the digest.
    pub fn find(&self, name: &Reference) -> Option<&Descriptor> {
        let image = match name.digest() {
            Some(digest) => self.images.iter().find(|image| Digest::try_from(image.root.digest()).ok() == Some(digest)),
            None => self.images.iter().find(|image| image.name.as_ref() == Some(name)),
        };
        image.map(|image| &image.root)
    }

    /// The size of a blob in bytes; `None` if the archive does not contain it.
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        match &self.tar {
            None => std::fs::metadata(self.path.join("blobs").join(digest.blob_path())).ok().map(|metadata| metadata.len()),
            Some((_, blobs)) => blobs.get(digest).map(|(_, size)| *size),
        }
    }

    /// Copies a blob into the store and verifies its digest. Does nothing if the store has it.
    pub fn fetch(&self, blob: &Blob, store: &Store, ctx: &Context) -> Result<()> {
        if store.has(blob) {
            return Ok(());
        }
        self.copy(blob, store, ctx).with_context(|| format!("blob {} from {}", blob.digest, self.path.display()))
    }

    fn copy(&self, blob: &Blob, store: &Store, ctx: &Context) -> Result<()> {
        let mut reader = self.reader(blob)?;
        let mut ingest = store.ingest(blob)?;
        std::io::copy(&mut (&mut reader).take(ingest.offset()), &mut std::io::sink())?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            ctx.check()?;
            match reader.read(&mut buffer)? {
                0 => return ingest.commit(),
                count => std::io::Write::write_all(&mut ingest, &buffer[..count])?,
            }
        }
    }

    fn reader(&self, blob: &Blob) -> Result<Box<dyn Read + '_>> {
        if let Some(manifest) = self.generated.get(&blob.digest) {
            return Ok(Box::new(manifest.as_slice()));
        }
        match &self.tar {
            None => Ok(Box::new(File::open(self.path.join("blobs").join(blob.digest.blob_path()))?)),
            Some((file, blobs)) => {
                let (offset, left) = *blobs.get(&blob.digest).context("the archive does not contain it")?;
                Ok(Box::new(Section { file, offset, left }))
            }
        }
    }
}

/// A part of a file, read without moving the file's position: several readers share it.
struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let limit = usize::try_from(self.left).map_or(into.len(), |left| left.min(into.len()));
        let count = self.file.read_at(&mut into[..limit], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// The tar itself, or a decompressed copy that lives as long as it is open: blobs are read at their offsets.
fn uncompressed(mut file: fs_err::File) -> Result<File> {
    let mut start = [0; 4];
    let count = file.read(&mut start)?;
    file.rewind()?;
    if !matches!(start[..count], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0xfd, b'7', b'z', b'X'] | [b'B', b'Z', b'h', _]) {
        return Ok(file.into_parts().0);
    }
    let mut copy = tempfile::tempfile().context("temporary file for the decompressed archive")?;
    std::io::copy(&mut decompressed_archive(file)?, &mut copy)?;
    copy.rewind()?;
    Ok(copy)
}

/// The files of a tar.
#[derive(Default)]
struct Files {
    /// Offset and size in bytes.
    positions: HashMap<String, (u64, u64)>,
    /// Symbolic links: old versions of docker write a layer once, and links to it.
    links: HashMap<String, String>,
}

impl Files {
    fn list(file: &File) -> Result<Files> {
        let mut files = Files::default();
        let mut tar = tar::Archive::new(file);
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            match entry.link_name()?.filter(|_| entry.header().entry_type().is_symlink()) {
                Some(target) => drop(files.links.insert(name.clone(), link_target(&name, &target.to_string_lossy()))),
                None => drop(files.positions.insert(name, (entry.raw_file_position(), entry.size()))),
            }
        }
        Ok(files)
    }

    fn position(&self, name: &str) -> Option<(u64, u64)> {
        let name = self.links.get(name).map_or(name, String::as_str);
        self.positions.get(name).copied()
    }

    /// The content of a small file; `None` if the tar does not contain it.
    fn document(&self, mut file: &File, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((offset, size)) = self.position(name) else { return Ok(None) };
        ensure!(size <= MAX_MANIFEST_SIZE, Failure::verification(format!("`{name}` in the archive is larger than 4 MiB (limit)")));
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset))?;
        file.take(size).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The blobs of an OCI layout.
    fn blobs(&self) -> Positions {
        let blob = |(name, position): (&String, &(u64, u64))| Some((Digest::from_blob_path(name.strip_prefix("blobs/")?)?, *position));
        self.positions.iter().filter_map(blob).collect()
    }
}

fn images(index: &[u8]) -> Result<Vec<Image>> {
    let index: ImageIndex = serde_json::from_slice(index).context("index.json")?;
    let image = |root: &Descriptor| {
        let annotation = |name| root.annotations().as_ref().and_then(|annotations| annotations.get(name));
        let text = annotation(ANNOTATION_CONTAINERD_NAME).or(annotation(ANNOTATION_REF_NAME));
        Image { name: text.and_then(|text| text.parse().ok()), root: root.clone() }
    };
    Ok(index.manifests().iter().map(image).collect())
}
