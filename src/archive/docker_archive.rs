//! Archives of `docker save` and `podman save` in docker's own format: no blobs named by digest, but files that `manifest.json` lists, which may
//! come before or after it.

use std::collections::HashMap;
use std::io::Read;

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, MediaType};

use crate::error::Failure;
use crate::events::Context;
use crate::image::{ANNOTATION_REF_NAME, Blob, Reference};
use crate::store::{MAX_MANIFEST_SIZE, Store};
use crate::workloads::docker_archive::{link_target, manifest, parse};

/// The file that lists the images.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The files of such an archive that may be configs and layers, stored as blobs.
#[derive(Debug, Default)]
pub struct DockerFiles {
    blobs: HashMap<String, Blob>,
    /// Symbolic links: old versions of docker write a layer once, and links to it.
    links: HashMap<String, String>,
    manifest: Option<Vec<u8>>,
}

impl DockerFiles {
    /// Takes a file of the archive if it may be a part of an image; returns whether it did.
    pub fn take(&mut self, path: &str, content: &mut impl Read, size: u64, store: &Store, ctx: &Context) -> Result<bool> {
        if path == MANIFEST_FILE {
            ensure!(size <= MAX_MANIFEST_SIZE, Failure::verification("manifest.json in the archive is too large: limit 4 MiB"));
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            self.manifest = Some(bytes);
            return Ok(true);
        }
        let is_part = is_named_by_digest(path, ".json") || is_named_by_digest(path, ".tar") || is_named_by_digest(path, "/layer.tar");
        if !is_part {
            return Ok(false);
        }
        store.ensure_disk_space(size, &format!("for {path}"))?;
        let mut writer = store.writer()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            ctx.check()?;
            match content.read(&mut buffer)? {
                0 => break,
                count => std::io::Write::write_all(&mut writer, &buffer[..count])?,
            }
        }
        self.blobs.insert(path.to_owned(), writer.commit()?);
        Ok(true)
    }

    /// Remembers a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.links.insert(path.to_owned(), link_target(path, target));
    }

    /// The images, each with an OCI manifest made for it and stored; `None` if this is no such archive.
    ///
    /// # Errors
    /// Of kind `Verification` if a file is missing, or a layer is not what the config says.
    pub fn images(&self, store: &Store) -> Result<Option<ImageIndex>> {
        let Some(list) = &self.manifest else { return Ok(None) };
        let mut entries = Vec::new();
        for image in parse(list).map_err(|error| Failure::verification(format!("the archive's manifest.json is damaged: {error:#}")))? {
            let config = self.blob(&image.config)?;
            let layers = image.layers.iter().map(|layer| self.blob(layer)).collect::<Result<Vec<_>>>()?;
            let (manifest, diff_ids) = manifest(&store.read(&config)?, layers.iter().map(|layer| layer.size))?;
            for ((layer, diff_id), file) in layers.iter().zip(&diff_ids).zip(&image.layers) {
                ensure!(
                    layer.digest == *diff_id,
                    Failure::verification(format!(
                        "wrong diff ID: the layer `{file}` has the digest {}, the image config says {diff_id}",
                        layer.digest
                    ))
                );
            }
            let blob = store.put(&manifest)?;
            let root = Descriptor::new(MediaType::ImageManifest, blob.size, oci_spec::image::Digest::from(blob.digest));
            let names: Vec<String> = image.repo_tags.unwrap_or_default();
            if names.is_empty() {
                entries.push(root.clone());
            }
            for name in names {
                let mut named = root.clone();
                let name = name.parse::<Reference>().with_context(|| format!("the archive's manifest.json: `{name}`"))?;
                named.set_annotations(Some(HashMap::from([(ANNOTATION_REF_NAME.to_owned(), name.to_string())])));
                entries.push(named);
            }
        }
        Ok(Some(ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex).manifests(entries).build()?))
    }

    fn blob(&self, path: &str) -> Result<Blob> {
        let target = self.links.get(path).map_or(path, String::as_str);
        let missing = || Failure::verification(format!("the archive is incomplete: it has no `{path}`")).hint("save the images again");
        Ok(*self.blobs.get(target).with_context(missing)?)
    }
}

/// Whether a path is 64 hexadecimal digits and this ending, as docker and podman name configs, layers and directories of layers.
fn is_named_by_digest(path: &str, ending: &str) -> bool {
    path.strip_suffix(ending).is_some_and(|name| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
