//! Merges cluster images into one: their layers, cluster configs and container images.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use oci_spec::image::{Descriptor, History, Platform};

use super::base_image::BaseImage;
use super::index::{ImageContent, index};
use super::instruction_cache::InstructionCache;
use super::stage::StageResult;
use crate::error::Failure;
use crate::events::Context;
use crate::image::{ClusterConfig, ClusterKind, Digest, Reference, platform_string};
use crate::store::Store;

/// Merges images in this order, for every platform that all of them have, and tags the result. Gives the digest of its index.
///
/// Where images conflict, the later one wins, with a warning.
///
/// # Errors
/// Of kind `Usage` if they have no platform in common, one is not a cluster image, or two contain different clusters.
pub fn merge(name: &Reference, images: &[Reference], store: &Store, ctx: &Context) -> Result<Digest> {
    let _lock = store.lock_shared()?;
    let mut manifests = Vec::new();
    for platform in common_platforms(images, store, ctx)? {
        let images = images.iter().map(|image| NamedImage::read(image, &platform, store, ctx)).collect::<Result<Vec<_>>>()?;
        manifests.extend(Merged::new(&images, ctx)?.write(&platform, store)?);
    }
    let index = index(manifests, store)?;
    store.tag(name, &index)?;
    Digest::try_from(index.digest())
}

/// The platforms that all images have. Warns of those that are left out.
fn common_platforms(images: &[Reference], store: &Store, ctx: &Context) -> Result<Vec<Platform>> {
    let mut common: Option<Vec<Platform>> = None;
    let (mut lists, mut all) = (Vec::new(), BTreeSet::new());
    for image in images {
        let parts = store.inspect(&store.find(image)?)?;
        let own: Vec<Platform> = parts.into_iter().map(|part| part.platform).collect();
        lists.push(format!("{} is built for {}", image.familiar(), own.iter().map(platform_string).collect::<Vec<_>>().join(", ")));
        all.extend(own.iter().map(platform_string));
        common = Some(match common {
            None => own,
            Some(known) => known.into_iter().filter(|platform| own.contains(platform)).collect(),
        });
    }
    let common = common.unwrap_or_default();
    if common.is_empty() {
        return Err(Failure::usage(format!("the images have no platform in common: {}", lists.join("; ")))
            .hint("build them for the same platforms: `sealift build --platform`")
            .into());
    }
    for platform in &common {
        all.remove(&platform_string(platform));
    }
    if !all.is_empty() {
        ctx.warn(format!("not merged for {}: {}", all.into_iter().collect::<Vec<_>>().join(", "), lists.join("; ")));
    }
    Ok(common)
}

/// One of the images that are merged.
struct NamedImage<'a> {
    name: &'a Reference,
    base: BaseImage,
}

impl<'a> NamedImage<'a> {
    fn read(name: &'a Reference, platform: &Platform, store: &Store, ctx: &Context) -> Result<Self> {
        let base = BaseImage::read(&store.find(name)?, platform, &InstructionCache::open(store, false), store, ctx)?;
        if !base.is_cluster {
            return Err(Failure::usage(format!("{} is not a cluster image", name.familiar()))
                .hint("add a container image with `IMAGES` in a Kubefile")
                .into());
        }
        Ok(NamedImage { name, base })
    }
}

/// The merged image, for one platform.
struct Merged {
    base: BaseImage,
    stage: StageResult,
    env: BTreeMap<String, String>,
}

impl Merged {
    fn new(images: &[NamedImage<'_>], ctx: &Context) -> Result<Self> {
        let mut merged = Merged { base: BaseImage::default(), stage: StageResult::default(), env: BTreeMap::new() };
        merged.base.cluster = ClusterConfig::new(ClusterKind::AppInstaller);
        let mut history = Vec::new();
        for image in images {
            merged.add_layers(&image.base, &mut history);
            merged.add_cluster(image, ctx)?;
            merged.add_workloads(image, ctx)?;
            merged.env.extend(image.base.env());
        }
        merged.stage.base_layers = merged.stage.layers.len();
        merged.base.config.set_history(Some(history));
        Ok(merged)
    }

    /// Adds layers and their history. Those of a common base image are added once.
    fn add_layers(&mut self, base: &BaseImage, history: &mut Vec<History>) {
        let known: BTreeSet<String> = self.stage.layers.iter().map(|layer| layer.descriptor.digest().to_string()).collect();
        let is_new = |number: usize| base.layers.get(number).is_some_and(|layer| !known.contains(layer.descriptor.digest().as_ref()));
        let first_new = (0..base.layers.len()).find(|number| is_new(*number));
        let entries = base.config.history().clone().unwrap_or_default();
        let mut number = 0;
        for entry in entries {
            let is_empty = entry.empty_layer() == Some(true);
            let is_after_new = first_new.is_some_and(|first| number >= first) || known.is_empty();
            if if is_empty { is_after_new } else { is_new(number) } {
                history.push(entry);
            }
            number += usize::from(!is_empty);
        }
        self.stage.newest_mtime = self.stage.newest_mtime.max(base.created());
        let new = base.layers.iter().enumerate().filter(|(number, _)| is_new(*number)).map(|(_, layer)| layer.clone());
        self.stage.layers.extend(new.collect::<Vec<_>>());
    }

    fn add_cluster(&mut self, image: &NamedImage<'_>, ctx: &Context) -> Result<()> {
        let (name, other) = (image.name.familiar(), &image.base.cluster);
        let cluster = &mut self.base.cluster;
        if other.kind == ClusterKind::KubeInstaller {
            let same = (cluster.runtime, &cluster.runtime_version) == (other.runtime, &other.runtime_version);
            if cluster.kind == ClusterKind::KubeInstaller && !same {
                let version = |config: &ClusterConfig| config.runtime_version.clone().unwrap_or_else(|| "unknown version".to_owned());
                return Err(Failure::usage(format!("{name} contains another cluster ({}, not {})", version(other), version(cluster)))
                    .hint("only one image can contain the cluster; build the others with `--type app-installer`")
                    .into());
            }
            (cluster.kind, cluster.runtime) = (other.kind, other.runtime);
            cluster.runtime_version.clone_from(&other.runtime_version);
        }
        match (&cluster.kube_version, &other.kube_version) {
            // ranges separated by a blank must all match; `||` binds weaker, so that it cannot be combined
            (Some(own), Some(more)) if own != more => {
                let both = format!("{own} {more}");
                if both.contains("||") {
                    ctx.warn(format!("{name} requires Kubernetes {more}, other images {own}: the two cannot be combined, {own} is kept"));
                } else {
                    cluster.kube_version = Some(both);
                }
            }
            (None, Some(more)) => cluster.kube_version = Some(more.clone()),
            _ => {}
        }
        for app in &other.apps {
            match cluster.apps.iter_mut().find(|known| known.name == app.name) {
                Some(known) if known == app => {}
                Some(known) => {
                    ctx.warn(format!("application {} is in several images: the one in {name} is used", app.name));
                    known.clone_from(app);
                }
                None => cluster.apps.push(app.clone()),
            }
        }
        let launched = other.launch.apps.iter().filter(|app| !cluster.launch.apps.contains(app)).cloned().collect::<Vec<_>>();
        cluster.launch.apps.extend(launched);
        cluster.launch.cmds.extend(other.launch.cmds.iter().cloned());
        for (what, own, more) in [("ENV", &mut cluster.env, &other.env), ("LABEL", &mut cluster.labels, &other.labels)] {
            for (key, value) in more {
                if let Some(old) = own.insert(key.clone(), value.clone()).filter(|old| old != value) {
                    ctx.warn(format!("{what} {key}={old} is replaced by {key}={value} of {name}"));
                }
            }
        }
        Ok(())
    }

    fn add_workloads(&mut self, image: &NamedImage<'_>, ctx: &Context) -> Result<()> {
        for name in self.base.workloads.extend(&image.base.workloads) {
            ctx.warn(format!("container image {} is in several images: the one in {} is used", name.familiar(), image.name.familiar()));
        }
        Ok(())
    }

    fn write(&self, platform: &Platform, store: &Store) -> Result<Vec<Descriptor>> {
        ImageContent {
            platform,
            annotations: &BTreeMap::new(),
            created: self.stage.newest_mtime,
            base: &self.base,
            stage: &self.stage,
            cluster: &self.base.cluster,
            env: &self.env,
            workloads: &self.base.workloads,
        }
        .write(store)
    }
}
