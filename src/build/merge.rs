//! Several cluster images made into one: the layers of all, what they say about the cluster, and their container images.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use oci_spec::image::{Descriptor, History, Platform};

use super::assemble::{self, Parts};
use super::base_image::BaseImage;
use super::instruction_cache::InstructionCache;
use super::stage::StageResult;
use crate::error::Failure;
use crate::events::Context;
use crate::image::{ClusterConfig, ClusterKind, Digest, Reference, platform_string};
use crate::store::Store;

/// Makes one image of several, in this order, for every platform that all of them have, and names it. Where they say different
/// things about the same, the later one counts, and a warning says so.
///
/// # Errors
/// Fails if they have no platform in common, or two of them bring different clusters.
pub fn merge(name: &Reference, images: &[Reference], store: &Store, ctx: &Context) -> Result<Digest> {
    let _in_use = store.lock_shared()?;
    let mut manifests = Vec::new();
    for platform in common_platforms(images, store, ctx)? {
        let sides = images.iter().map(|image| Side::read(image, &platform, store, ctx)).collect::<Result<Vec<_>>>()?;
        manifests.extend(Merged::of(&sides, ctx)?.write(&platform, store)?);
    }
    let index = assemble::index(manifests, store)?;
    store.tag(name, &index)?;
    Digest::try_from(index.digest())
}

/// The platforms that all images have; a warning says which are left out.
fn common_platforms(images: &[Reference], store: &Store, ctx: &Context) -> Result<Vec<Platform>> {
    let mut common: Option<Vec<Platform>> = None;
    let (mut told, mut all) = (Vec::new(), BTreeSet::new());
    for image in images {
        let parts = store.inspect(&store.find(image)?)?;
        let own: Vec<Platform> = parts.into_iter().map(|part| part.platform).collect();
        told.push(format!("{} is built for {}", image.familiar(), own.iter().map(platform_string).collect::<Vec<_>>().join(", ")));
        all.extend(own.iter().map(platform_string));
        common = Some(match common {
            None => own,
            Some(known) => known.into_iter().filter(|platform| own.contains(platform)).collect(),
        });
    }
    let common = common.unwrap_or_default();
    if common.is_empty() {
        return Err(Failure::usage(format!("the images have no platform in common: {}", told.join("; "))).into());
    }
    for platform in &common {
        all.remove(&platform_string(platform));
    }
    if !all.is_empty() {
        ctx.warn(format!("left out {}: {}", all.into_iter().collect::<Vec<_>>().join(", "), told.join("; ")));
    }
    Ok(common)
}

/// One of the images.
struct Side<'a> {
    name: &'a Reference,
    base: BaseImage,
}

impl<'a> Side<'a> {
    fn read(name: &'a Reference, platform: &Platform, store: &Store, ctx: &Context) -> Result<Self> {
        let base = BaseImage::read(&store.find(name)?, platform, &InstructionCache::open(store, false), store, ctx)?;
        if !base.is_cluster {
            return Err(Failure::usage(format!("{} is no cluster image", name.familiar()))
                .hint("container images are brought along by IMAGES in a Kubefile")
                .into());
        }
        Ok(Side { name, base })
    }
}

/// What they come to.
struct Merged {
    base: BaseImage,
    made: StageResult,
    env: BTreeMap<String, String>,
}

impl Merged {
    fn of(sides: &[Side<'_>], ctx: &Context) -> Result<Self> {
        let mut merged = Merged { base: BaseImage::default(), made: StageResult::default(), env: BTreeMap::new() };
        merged.base.cluster = ClusterConfig::new(ClusterKind::AppInstaller);
        let mut history = Vec::new();
        for side in sides {
            merged.add_layers(&side.base, &mut history);
            merged.add_cluster(side, ctx)?;
            merged.add_workloads(side, ctx)?;
            merged.env.extend(side.base.env());
        }
        merged.made.from_base = merged.made.layers.len();
        merged.base.config.set_history(Some(history));
        Ok(merged)
    }

    /// Layers that are there already, as of a common base image, are not added again, nor is what their history says.
    fn add_layers(&mut self, base: &BaseImage, history: &mut Vec<History>) {
        let known: BTreeSet<String> = self.made.layers.iter().map(|layer| layer.descriptor.digest().to_string()).collect();
        let is_new = |number: usize| base.layers.get(number).is_some_and(|layer| !known.contains(layer.descriptor.digest().as_ref()));
        let first_new = (0..base.layers.len()).find(|number| is_new(*number));
        let told = base.config.history().clone().unwrap_or_default();
        let mut number = 0;
        for entry in told {
            let empty = entry.empty_layer() == Some(true);
            let begun = first_new.is_some_and(|first| number >= first) || known.is_empty();
            if if empty { begun } else { is_new(number) } {
                history.push(entry);
            }
            number += usize::from(!empty);
        }
        self.made.newest = self.made.newest.max(base.created());
        let new = base.layers.iter().enumerate().filter(|(number, _)| is_new(*number)).map(|(_, layer)| layer.clone());
        self.made.layers.extend(new.collect::<Vec<_>>());
    }

    fn add_cluster(&mut self, side: &Side<'_>, ctx: &Context) -> Result<()> {
        let (name, other) = (side.name.familiar(), &side.base.cluster);
        let cluster = &mut self.base.cluster;
        if other.kind == ClusterKind::KubeInstaller {
            let same = (cluster.runtime, &cluster.runtime_version) == (other.runtime, &other.runtime_version);
            if cluster.kind == ClusterKind::KubeInstaller && !same {
                let version = |config: &ClusterConfig| config.runtime_version.clone().unwrap_or_else(|| "of no known version".to_owned());
                return Err(Failure::usage(format!("{name} brings another cluster ({}, not {})", version(other), version(cluster)))
                    .hint("only one of the images can bring the cluster; build the others as `--type app-installer`")
                    .into());
            }
            (cluster.kind, cluster.runtime) = (other.kind, other.runtime);
            cluster.runtime_version.clone_from(&other.runtime_version);
        }
        match (&cluster.kube_version, &other.kube_version) {
            // conditions that are separated by a blank hold together, but alternatives do not
            (Some(own), Some(more)) if own != more => {
                let both = format!("{own} {more}");
                if both.contains("||") {
                    ctx.warn(format!("{name} needs Kubernetes {more}, the others {own}: only the latter is kept"));
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
                    ctx.warn(format!("application {} is in several images: that of {name} counts", app.name));
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
                if let Some(was) = own.insert(key.clone(), value.clone()).filter(|was| was != value) {
                    ctx.warn(format!("{what} {key}={was} becomes {value}, as {name} says"));
                }
            }
        }
        Ok(())
    }

    fn add_workloads(&mut self, side: &Side<'_>, ctx: &Context) -> Result<()> {
        for name in self.base.workloads.extend(&side.base.workloads) {
            ctx.warn(format!("container image {} is in several images: that of {} counts", name.familiar(), side.name.familiar()));
        }
        Ok(())
    }

    fn write(&self, platform: &Platform, store: &Store) -> Result<Vec<Descriptor>> {
        Parts {
            platform,
            annotations: &BTreeMap::new(),
            created: self.made.newest,
            base: &self.base,
            made: &self.made,
            cluster: &self.base.cluster,
            env: &self.env,
            workloads: &self.base.workloads,
        }
        .manifests(store)
    }
}
