//! Writes an image's documents: config, rootfs manifest, workloads manifest, and the index over the manifests of all platforms.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};
use oci_spec::image::{
    ConfigBuilder, Descriptor, History, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder, ImageManifestBuilder, MediaType,
    Platform, RootFsBuilder,
};

use super::Built;
use super::base_image::BaseImage;
use super::cache_from::comment;
use super::lock_file::LockFile;
use super::plan::Plan;
use super::prepare::Prepared;
use super::stage::StageResult;
use super::workloads::workloads;
use crate::image::{
    ANNOTATION_CLUSTER, ANNOTATION_SEALER, ANNOTATION_SEALER_IMAGES, ClusterConfig, ClusterImage, Reference, announce_compression,
    canonical,
};
use crate::store::Store;
use crate::workloads::{Fetched, RequiredImages, Workloads};

/// An image for one platform, not in an index yet.
pub struct PlatformImage {
    manifests: Vec<Descriptor>,
    layers: usize,
    images: usize,
    missing: Vec<Reference>,
    lock_file: LockFile,
}

/// Writes the manifests of one platform into the store.
pub fn write_platform(
    prepared: &Prepared,
    plan: &Plan,
    stage: &StageResult,
    required: &RequiredImages,
    fetched: Fetched,
) -> Result<PlatformImage> {
    let Prepared { options, cache, store, .. } = prepared;
    let mut lock_file = prepared.lock_file.clone();
    for (name, blobs) in &fetched.images {
        lock_file.add_container(name, blobs[0].digest().try_into()?);
    }
    let workloads = workloads(prepared, required, &fetched)?;
    let content = ImageContent {
        platform: &options.platform,
        annotations: &options.annotations,
        created: options.source_date_epoch.unwrap_or(stage.newest_mtime),
        base: &prepared.base,
        stage,
        cluster: &plan.image().cluster,
        env: &plan.image().env,
        workloads: &workloads,
    };
    let manifests = content.write(store)?;
    cache.remember_view(&manifests[0].digest().try_into()?, &stage.view)?;
    cache.files.save()?;
    let (layers, images) = (stage.layers.len(), workloads.len());
    Ok(PlatformImage { manifests, layers, images, missing: fetched.missing, lock_file })
}

/// Writes the index over the images of all platforms, and tags it.
pub fn write_index(name: Reference, mut platforms: Vec<PlatformImage>, store: &Store) -> Result<Built> {
    let index = index(platforms.iter().flat_map(|platform| platform.manifests.clone()).collect(), store)?;
    let unchanged = store.resolve(&name)?.is_some_and(|before| before.digest() == index.digest());
    if !unchanged {
        store.tag(&name, &index)?;
    }
    let most = |count: fn(&PlatformImage) -> usize| platforms.iter().map(count).max().unwrap_or_default();
    let (layers, images) = (most(|platform| platform.layers), most(|platform| platform.images));
    let mut lock_file = LockFile::default();
    platforms.iter_mut().for_each(|platform| lock_file.merge(std::mem::take(&mut platform.lock_file)));
    let mut missing: Vec<Reference> = platforms.into_iter().flat_map(|platform| platform.missing).collect();
    missing.sort();
    missing.dedup();
    Ok(Built { name, digest: index.digest().try_into()?, unchanged, layers, images, missing, lock_file })
}

/// What goes into the documents of one platform.
pub struct ImageContent<'a> {
    /// What the root file system runs on.
    pub platform: &'a Platform,
    /// Annotations of the rootfs manifest, besides sealift's own.
    pub annotations: &'a BTreeMap<String, String>,
    /// The creation time, seconds since 1970: the newest time of anything that went in, never the time of the build.
    pub created: i64,
    /// The base image.
    pub base: &'a BaseImage,
    /// Layers and history.
    pub stage: &'a StageResult,
    /// The cluster config.
    pub cluster: &'a ClusterConfig,
    /// The image's environment.
    pub env: &'a BTreeMap<String, String>,
    /// Its container images.
    pub workloads: &'a Workloads,
}

impl ImageContent<'_> {
    /// Writes the rootfs manifest, and the workloads manifest if there are container images. Gives their descriptors in this order.
    pub fn write(&self, store: &Store) -> Result<Vec<Descriptor>> {
        let mut manifests = vec![self.rootfs_manifest(store)?];
        if !self.workloads.is_empty() {
            manifests.push(self.workloads.write_for(self.platform, store)?);
        }
        Ok(manifests)
    }

    fn rootfs_manifest(&self, store: &Store) -> Result<Descriptor> {
        let config = store.put_json(MediaType::ImageConfig, &self.config()?)?;
        let mut annotations: HashMap<String, String> = self.annotations.clone().into_iter().collect();
        annotations.insert(ANNOTATION_CLUSTER.to_owned(), String::from_utf8(canonical(self.cluster)?)?);
        annotations.extend(self.base.sealer_images.clone().map(|images| (ANNOTATION_SEALER_IMAGES.to_owned(), images)));
        annotations.insert(ANNOTATION_SEALER.to_owned(), String::from_utf8(canonical(&self.cluster.to_sealer())?)?);
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(self.stage.layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>())
            .annotations(annotations)
            .build()?;
        let mut descriptor = store.put_json(MediaType::ImageManifest, &manifest)?;
        descriptor.set_platform(Some(self.platform.clone()));
        announce_compression(&mut descriptor, &manifest);
        Ok(descriptor)
    }

    fn config(&self) -> Result<ImageConfiguration> {
        let env: Vec<String> = self.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels: HashMap<String, String> = self.cluster.labels.clone().into_iter().collect();
        let diff_ids: Vec<String> = self.stage.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let mut builder = ImageConfigurationBuilder::default()
            .created(self.created()?)
            .architecture(self.platform.architecture().clone())
            .os(self.platform.os().clone())
            .config(ConfigBuilder::default().env(env).labels(labels).build()?)
            .rootfs(RootFsBuilder::default().typ("layers".to_owned()).diff_ids(diff_ids).build()?)
            .history(self.history()?);
        if let Some(variant) = self.platform.variant() {
            builder = builder.variant(variant.clone());
        }
        Ok(builder.build()?)
    }

    fn created(&self) -> Result<String> {
        let created = jiff::Timestamp::from_second(self.created.max(0)).context("a file's modification time is after the year 9999")?;
        Ok(created.to_string())
    }

    /// The base's history, then an entry for each layer and each instruction without one.
    fn history(&self) -> Result<Vec<History>> {
        let mut history = self.base.config.history().clone().unwrap_or_default();
        let with_layer = history.iter().filter(|entry| entry.empty_layer() != Some(true)).count();
        if with_layer != self.stage.base_layers {
            // tools match history and layers by their order: a placeholder is better than a wrong match
            history = (0..self.stage.base_layers).map(|_| self.history_entry("base image", false)).collect::<Result<_>>()?;
        }
        for instruction in &self.stage.history {
            for number in 0..instruction.layers.len().max(1) {
                let mut entry = self.history_entry(&instruction.text, instruction.layers.is_empty())?;
                let chunk = instruction.layers.get(number).and_then(Option::as_ref);
                entry.set_comment(instruction.key.map(|key| comment(&key, number, chunk)));
                history.push(entry);
            }
        }
        Ok(history)
    }

    /// An entry with a time: without one umoci panics.
    fn history_entry(&self, text: &str, is_empty: bool) -> Result<History> {
        let builder = HistoryBuilder::default().created_by(text).created(self.created()?);
        Ok(if is_empty { builder.empty_layer(true) } else { builder }.build()?)
    }
}

/// Writes the index of a cluster image over the manifests of all its platforms.
pub fn index(manifests: Vec<Descriptor>, store: &Store) -> Result<Descriptor> {
    store.put_json(MediaType::ImageIndex, &ClusterImage::index(manifests)?)
}
