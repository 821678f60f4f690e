//! Executes a Kubefile: context and base image to layers, workloads and a cluster image in the store.
//!
//! First everything is worked out and checked ([`plan`]), then the instructions are carried out ([`stage`]): layers are
//! packed straight from the context's files, and a rootfs is unpacked only when a RUN needs one. Container images are found
//! and fetched after the last instruction. The same inputs give the same digest, wherever and whenever it is built.

mod add_archive;
mod app_kind;
mod assemble;
mod base_image;
mod cache_from;
mod cache_key;
mod charts;
mod chown;
mod context;
mod copy_destination;
mod copy_from;
mod download;
mod file_digests;
mod ignore_file;
mod image_sources;
mod instruction_cache;
mod json_paths;
mod layer_cache;
mod lock_file;
pub mod manifest_list;
mod merge;
mod options;
mod plan;
mod prepare;
mod prune_cache;
mod rootfs;
mod rootfs_view;
mod run_diff;
mod sandbox;
mod scratch_dir;
mod stage;
mod stage_sources;
#[cfg(test)]
mod test_support;
pub mod user_namespace;
mod value_provenance;
mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use oci_spec::image::{Descriptor, Platform};
use serde::Serialize;

use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::events::Context;
use crate::image::{Digest, Reference, host_platform, platform_string};
use crate::registry::client::Client;
use crate::store::Store;
use crate::trust::admit;
use crate::workloads::image_list::{self, Ignore};
use crate::workloads::{Fetched, ImageArchive, RequiredImages, Sources, Workloads};

pub use lock_file::LockFile;
pub use merge::merge;
pub use options::{Options, Pull};
pub use prune_cache::prune;

use assemble::Parts;
use base_image::BaseImage;
use cache_from::CacheFrom;
use context::BuildContext;
use instruction_cache::InstructionCache;
use plan::{Plan, Planned};
use prepare::Prepared;
use scratch_dir::ScratchDir;
use stage::{Stage, StageContext, StageResult};
use stage_sources::Image;

/// What a build came to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// The image's name.
    pub name: Reference,
    /// The digest of its index.
    pub digest: Digest,
    /// Whether the name pointed at this image before.
    pub unchanged: bool,
    /// How many layers the rootfs has; for several platforms, the most.
    pub layers: usize,
    /// How many container images it brings; for several platforms, the most.
    pub images: usize,
    /// Container images that are nowhere, which was allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Reference>,
    /// What it took by name.
    #[serde(skip)]
    pub taken: LockFile,
}

/// What a check came to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The container images that would be brought, and what could not be decided.
    pub wanted: RequiredImages,
    /// Whether RUN or COPY --from may bring more, which is known only when it is built.
    pub runs: bool,
}

/// Builds an image into the store for each of the platforms, and names it.
pub async fn build(options: Options, platforms: &[Platform], client: &Client, store: &Store, ctx: &Context) -> Result<Built> {
    let _in_use = store.lock_shared()?;
    let name = options.name.clone();
    let mut parts = Vec::new();
    for platform in platforms {
        parts.push(build_part(Options { platform: platform.clone(), ..options.clone() }, client, store, ctx).await?);
    }
    ctx.check()?;
    let store = store.clone();
    tokio::task::spawn_blocking(move || name_image(name, parts, &store)).await?
}

/// An image for one platform.
struct BuiltPart {
    manifests: Vec<Descriptor>,
    layers: usize,
    images: usize,
    missing: Vec<Reference>,
    taken: LockFile,
}

fn name_image(name: Reference, mut parts: Vec<BuiltPart>, store: &Store) -> Result<Built> {
    let index = assemble::index(parts.iter().flat_map(|part| part.manifests.clone()).collect(), store)?;
    let unchanged = store.resolve(&name)?.is_some_and(|before| before.digest() == index.digest());
    if !unchanged {
        store.tag(&name, &index)?;
    }
    let most = |count: fn(&BuiltPart) -> usize| parts.iter().map(count).max().unwrap_or_default();
    let (layers, images) = (most(|part| part.layers), most(|part| part.images));
    let mut taken = LockFile::default();
    parts.iter_mut().for_each(|part| taken.merge(std::mem::take(&mut part.taken)));
    let mut missing: Vec<Reference> = parts.into_iter().flat_map(|part| part.missing).collect();
    missing.sort();
    missing.dedup();
    Ok(Built { name, digest: index.digest().try_into()?, unchanged, layers, images, missing, taken })
}

async fn build_part(options: Options, client: &Client, store: &Store, ctx: &Context) -> Result<BuiltPart> {
    let (build, mut plan) = Build::prepare(options, client, store, ctx).await?;
    let build = Arc::new(build);
    let (wanted, plan, made) = blocking(build.clone(), move |build| {
        let made = build.stages(&mut plan, |stage, steps| stage.carry_out(steps))?;
        let wanted = build.wanted(&plan, &made)?;
        Ok((wanted, plan, made))
    })
    .await?;
    build.warn_of(&wanted);
    let fetched = build.fetch(&wanted, client).await?;
    blocking(build, move |build| build.finish(&plan, &made, &wanted, fetched)).await
}

/// Parses, resolves and checks, and says which container images are wanted; builds nothing. Of the image in `why` it says which values of
/// charts make it.
pub async fn check(options: Options, why: Option<Reference>, client: &Client, store: &Store, ctx: &Context) -> Result<Checked> {
    let _in_use = store.lock_shared()?;
    let (build, mut plan) = Build::prepare(options, client, store, ctx).await?;
    blocking(Arc::new(build), move |build| {
        let runs = plan.has_surprises();
        let made = build.stages(&mut plan, |stage, steps| stage.look_only(steps))?;
        let mut wanted = build.wanted(&plan, &made)?;
        if let Some(image) = why {
            build.launch(&plan, &made).explain(&image, &mut wanted)?;
        }
        Ok(Checked { wanted, runs })
    })
    .await
}

async fn blocking<T: Send + 'static>(build: Arc<Build>, work: impl FnOnce(&Build) -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(move || work(&build)).await?
}

/// A build whose base is there.
struct Build {
    workdir: ScratchDir,
    options: Options,
    /// The images that stages start from or take files from.
    bases: BTreeMap<Image, BaseImage>,
    /// The one that the image comes from.
    base: BaseImage,
    cache: InstructionCache,
    ignore: Ignore,
    /// The images and files that the plan took by name.
    taken: LockFile,
    lenders: CacheFrom,
    store: Store,
    ctx: Context,
}

impl Build {
    /// Reads the Kubefile, brings what it builds on, and plans; fails with everything that is wrong at once.
    async fn prepare(options: Options, client: &Client, store: &Store, ctx: &Context) -> Result<(Self, Plan)> {
        let (draft, plan) = Prepared::begin(options, client, store, ctx).await?.plan(client, store, ctx).await?;
        let Prepared { options, context, cache, bases, origins, workdir, taken, .. } = draft;
        let ignore = ignored(&context, &options, ctx)?;
        let lenders = CacheFrom::open(&options, client, store, ctx).await?;
        let base = origins.root(plan.image().number).and_then(|image| bases.get(image)).cloned().unwrap_or_default();
        Ok((Build { workdir, options, bases, base, cache, ignore, taken, lenders, store: store.clone(), ctx: ctx.clone() }, plan))
    }

    /// Goes through the stages, each by `work`, which takes the plan's steps, and gives what the last one made.
    fn stages(&self, plan: &mut Plan, work: impl Fn(Stage<'_>, Vec<Planned>) -> Result<StageResult>) -> Result<StageResult> {
        let Build { workdir, options, cache, lenders, store, ctx, bases, .. } = self;
        let mut site = StageContext { options, cache, lenders, store, workdir, ctx, bases, finished: BTreeMap::new() };
        for stage in &mut plan.stages {
            let steps = std::mem::take(&mut stage.steps);
            let made = work(Stage::new(stage, &site), steps)?;
            site.finished.insert(stage.number, made);
        }
        Ok(site.finished.remove(&plan.image().number).unwrap_or_default())
    }

    /// The container images that the finished rootfs and the options ask for.
    fn wanted(&self, plan: &Plan, made: &StageResult) -> Result<RequiredImages> {
        let mut wanted = made.named.wanted(&self.cache)?;
        wanted.add(&self.options.kubefile, None, &plan.image().images);
        for (name, text) in &self.options.image_lists {
            wanted.add(name, None, &image_list::parse(text));
        }
        self.launch(plan, made).add_images(&mut wanted)?;
        wanted.ignore(&self.ignore);
        if self.options.with_images {
            self.locked(&wanted)?;
        }
        Ok(wanted)
    }

    /// How charts are launched in what was made.
    fn launch<'a>(&'a self, plan: &'a Plan, made: &'a StageResult) -> charts::Launch<'a> {
        charts::Launch {
            engine: &self.options.engine,
            native: self.options.platform == host_platform(),
            cluster: &plan.image().cluster,
            env: &plan.image().env,
            made,
            cache: &self.cache,
            workdir: &self.workdir,
            store: &self.store,
            ctx: &self.ctx,
        }
    }

    fn warn_of(&self, wanted: &RequiredImages) {
        for doubt in &wanted.undecided {
            self.ctx.warn(format!("{}: `{}`: {}", doubt.place, doubt.text, doubt.why));
        }
    }

    /// The digests that the wanted images must have; one that is not in the lock file is an error.
    fn locked(&self, wanted: &RequiredImages) -> Result<BTreeMap<Reference, Digest>> {
        self.options.lock.as_ref().map(|lock| lock.containers(wanted.images.keys())).transpose().map(Option::unwrap_or_default)
    }

    async fn fetch(&self, wanted: &RequiredImages, client: &Client) -> Result<Fetched> {
        if !self.options.with_images {
            return Ok(Fetched::default());
        }
        let open = |path: &std::path::PathBuf| ImageArchive::open(path).map(Arc::new);
        let archives = self.options.archives.iter().map(open).collect::<Result<_>>()?;
        let mut known = self.cache.roots(&platform_string(&self.options.platform));
        known.extend(self.base.workloads.roots().map(|(name, root)| (name.clone(), root.clone())));
        let locked = self.locked(wanted)?;
        let asks_anew = matches!(self.options.pull, Pull::Always | Pull::Newer);
        let (first, then) = if asks_anew { (BTreeMap::new(), Some(known)) } else { (known, None) };
        let mut sources = Sources { archives, client: client.clone(), known: first, locked, allow_missing: self.options.allow_missing };
        let fetched = match (sources.fetch(wanted, &self.options.platform, &self.store, &self.ctx).await, then) {
            (Err(error), Some(known)) if self.options.pull == Pull::Newer => {
                self.ctx.check()?;
                self.ctx.warn(format!("{error:#}; what was fetched before is taken"));
                sources.known = known;
                sources.fetch(wanted, &self.options.platform, &self.store, &self.ctx).await?
            }
            (fetched, _) => fetched?,
        };
        self.admit(&fetched, client).await?;
        Ok(fetched)
    }

    /// Refuses container images that the policy does not trust, all at once.
    async fn admit(&self, fetched: &Fetched, client: &Client) -> Result<()> {
        let registry = (self.options.pull != Pull::Never).then_some(client);
        let mut refused = Vec::new();
        for (name, blobs) in &fetched.images {
            match admit(&self.options.policy, registry, name, &blobs[0], &self.store, &self.ctx).await {
                Err(error) if kind_of(&error) == Kind::Verification => refused.push(error),
                other => other?,
            }
        }
        match refused.len() {
            0 => Ok(()),
            1 => Err(refused.remove(0)),
            count => {
                let told: Vec<String> = refused.iter().map(|error| format!("  {error:#}")).collect();
                let failure = Failure::verification(format!("{count} container images are not trusted:\n{}", told.join("\n")));
                Err(hints_of(&refused[0]).iter().fold(failure, Failure::hint).into())
            }
        }
    }

    fn finish(&self, plan: &Plan, made: &StageResult, wanted: &RequiredImages, fetched: Fetched) -> Result<BuiltPart> {
        let mut taken = self.taken.clone();
        for (name, blobs) in &fetched.images {
            taken.add_container(name, blobs[0].digest().try_into()?);
        }
        let mut workloads = self.base.workloads.clone();
        self.add_images(&mut workloads, wanted, &fetched)?;
        let parts = Parts {
            platform: &self.options.platform,
            annotations: &self.options.annotations,
            created: self.options.source_date_epoch.unwrap_or(made.newest),
            base: &self.base,
            made,
            cluster: &plan.image().cluster,
            env: &plan.image().env,
            workloads: &workloads,
        };
        let manifests = parts.manifests(&self.store)?;
        self.cache.remember_layout(&manifests[0].digest().try_into()?, &made.layout)?;
        self.cache.files.save()?;
        Ok(BuiltPart { manifests, layers: made.layers.len(), images: workloads.len(), missing: fetched.missing, taken })
    }

    fn add_images(&self, workloads: &mut Workloads, wanted: &RequiredImages, fetched: &Fetched) -> Result<()> {
        let platform = platform_string(&self.options.platform);
        let mut roots = self.cache.roots(&platform);
        let before = roots.clone();
        for (name, blobs) in &fetched.images {
            let apps = wanted.images.get(name).map(|asked| asked.apps.clone()).unwrap_or_default();
            workloads.add(name, blobs, &apps)?;
            roots.insert(name.clone(), blobs[0].clone());
        }
        if roots == before { Ok(()) } else { self.cache.remember_roots(&platform, &roots) }
    }
}

fn ignored(context: &BuildContext, options: &Options, ctx: &Context) -> Result<Ignore> {
    let mut ignore = Ignore::default();
    let mut lists = options.ignored_image_lists.clone();
    match fs_err::read_to_string(context.root().join(".imageignore")) {
        Ok(text) => lists.push((".imageignore".to_owned(), text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    for (name, text) in lists {
        for (line, text) in ignore.add(&text) {
            ctx.warn(format!("{name}:{line}: `{text}` is neither an image name nor a pattern of some"));
        }
    }
    Ok(ignore)
}
