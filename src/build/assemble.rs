//! The documents of the image: config, rootfs manifest, workloads manifest, index.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};
use oci_spec::image::{
    ConfigBuilder, Descriptor, History, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder, ImageManifestBuilder, MediaType,
    Platform, RootFsBuilder,
};

use super::base_image::BaseImage;
use super::cache_from::comment;
use super::stage::StageResult;
use crate::image::{ANNOTATION_CLUSTER, ANNOTATION_SEALER, ANNOTATION_SEALER_IMAGES, ClusterConfig, ClusterImage, canonical};
use crate::store::Store;
use crate::workloads::Workloads;

/// What goes into the documents.
pub struct Parts<'a> {
    /// What the root file system runs on.
    pub platform: &'a Platform,
    /// Annotations of the rootfs manifest besides ours.
    pub annotations: &'a BTreeMap<String, String>,
    /// When it was made, seconds since 1970: the newest time of anything that went in, never the time of the build.
    pub created: i64,
    /// What it started from.
    pub base: &'a BaseImage,
    /// Layers and history.
    pub made: &'a StageResult,
    /// What the image says about the cluster.
    pub cluster: &'a ClusterConfig,
    /// The image's environment.
    pub env: &'a BTreeMap<String, String>,
    /// Its container images.
    pub workloads: &'a Workloads,
}

impl Parts<'_> {
    /// Writes the documents for this platform into the store: the rootfs manifest, and the workloads manifest if there are any.
    pub fn manifests(&self, store: &Store) -> Result<Vec<Descriptor>> {
        let mut manifests = vec![self.rootfs(store)?];
        if !self.workloads.is_empty() {
            manifests.push(self.workloads.write_for(self.platform, store)?);
        }
        Ok(manifests)
    }

    fn rootfs(&self, store: &Store) -> Result<Descriptor> {
        let config = store.put_json(MediaType::ImageConfig, &self.config()?)?;
        let mut annotations: HashMap<String, String> = self.annotations.clone().into_iter().collect();
        annotations.insert(ANNOTATION_CLUSTER.to_owned(), String::from_utf8(canonical(self.cluster)?)?);
        annotations.extend(self.base.sealers_images.clone().map(|images| (ANNOTATION_SEALER_IMAGES.to_owned(), images)));
        annotations.insert(ANNOTATION_SEALER.to_owned(), String::from_utf8(canonical(&self.cluster.to_sealer())?)?);
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(self.made.layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>())
            .annotations(annotations)
            .build()?;
        let mut descriptor = store.put_json(MediaType::ImageManifest, &manifest)?;
        descriptor.set_platform(Some(self.platform.clone()));
        Ok(descriptor)
    }

    fn config(&self) -> Result<ImageConfiguration> {
        let env: Vec<String> = self.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels: HashMap<String, String> = self.cluster.labels.clone().into_iter().collect();
        let diff_ids: Vec<String> = self.made.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
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
        Ok(jiff::Timestamp::from_second(self.created.max(0)).context("a time before the year 10000")?.to_string())
    }

    /// The base's history, then an entry for each layer and each instruction without one.
    fn history(&self) -> Result<Vec<History>> {
        let mut history = self.base.config.history().clone().unwrap_or_default();
        let told = history.iter().filter(|entry| entry.empty_layer() != Some(true)).count();
        if told != self.made.from_base {
            // tools take history and layers apart in step: better none of the base's than a wrong one
            history = (0..self.made.from_base).map(|_| self.entry("base image", false)).collect::<Result<_>>()?;
        }
        for told in &self.made.history {
            for number in 0..told.layers.len().max(1) {
                let mut entry = self.entry(&told.text, told.layers.is_empty())?;
                let piece = told.layers.get(number).and_then(Option::as_ref);
                entry.set_comment(told.key.map(|key| comment(&key, number, piece)));
                history.push(entry);
            }
        }
        Ok(history)
    }

    /// An entry with a time: umoci ends with a panic without one.
    fn entry(&self, text: &str, empty: bool) -> Result<History> {
        let builder = HistoryBuilder::default().created_by(text).created(self.created()?);
        Ok(if empty { builder.empty_layer(true) } else { builder }.build()?)
    }
}

/// Writes the index of a cluster image into the store, over the manifests of all its platforms.
pub fn index(manifests: Vec<Descriptor>, store: &Store) -> Result<Descriptor> {
    store.put_json(MediaType::ImageIndex, &ClusterImage::index(manifests)?)
}
