//! The container images of a cluster image: which ones its manifests, charts and lists require, and where they come from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use super::charts::ChartRenderer;
use super::launched_charts;
use super::options::Pull;
use super::plan::Plan;
use super::prepare::Prepared;
use super::stage::StageResult;
use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::image::{Digest, Reference, host_platform, platform_string};
use crate::registry::client::Client;
use crate::trust::admit;
use crate::workloads::{Fetched, ImageArchive, RequiredImages, Sources, Workloads, image_list};

/// Lists the container images that the finished rootfs, the Kubefile and the options require.
///
/// # Errors
/// Fails if a chart does not render; of kind `Failed` if the lock file lacks some of the images.
pub fn required_images(prepared: &Prepared, plan: &Plan, stage: &StageResult) -> Result<RequiredImages> {
    let mut required = stage.image_sources.required_images(&prepared.cache)?;
    required.add(&prepared.options.kubefile, None, &plan.image().images);
    for (name, text) in &prepared.options.image_lists {
        required.add(name, None, &image_list::parse(text));
    }
    chart_renderer(prepared, plan, stage).add_images(&mut required)?;
    required.undecided.extend(launched_charts::undecided(&plan.image().cluster));
    required.ignore(&prepared.ignored_images);
    if prepared.options.with_images {
        locked_digests(prepared, &required)?;
    }
    Ok(required)
}

/// Adds to the places that require `image` which values of charts its name is made of.
pub fn explain(image: &Reference, prepared: &Prepared, plan: &Plan, stage: &StageResult, required: &mut RequiredImages) -> Result<()> {
    chart_renderer(prepared, plan, stage).explain(image, required)
}

fn chart_renderer<'a>(prepared: &'a Prepared, plan: &'a Plan, stage: &'a StageResult) -> ChartRenderer<'a> {
    ChartRenderer {
        engine: &prepared.options.engine,
        is_native: prepared.options.platform == host_platform(),
        cluster: &plan.image().cluster,
        env: &plan.image().env,
        stage,
        cache: &prepared.cache,
        scratch: &prepared.scratch,
        store: &prepared.store,
        ctx: &prepared.ctx,
    }
}

/// The digests that the lock file has for the images; none without `--locked`.
fn locked_digests(prepared: &Prepared, required: &RequiredImages) -> Result<BTreeMap<Reference, Digest>> {
    let lock = prepared.options.lock.as_ref();
    lock.map(|lock| lock.containers(required.images.keys())).transpose().map(Option::unwrap_or_default)
}

/// Fetches the images into the store: from archives, the store itself, or registries. Warns of names that could not be decided.
///
/// # Errors
/// Fails with all images that are missing, or with all that the trust policy refuses.
pub async fn fetch(prepared: &Prepared, required: &RequiredImages, client: &Client) -> Result<Fetched> {
    let Prepared { options, cache, store, ctx, .. } = prepared;
    for doubt in &required.undecided {
        ctx.warn(format!("{}: `{}`: {}", doubt.place, doubt.text, doubt.why));
    }
    if !options.with_images {
        return Ok(Fetched::default());
    }
    let open = |path: &PathBuf| ImageArchive::open(path).map(Arc::new);
    let archives = options.archives.iter().map(open).collect::<Result<_>>()?;
    let mut in_store = cache.roots(&platform_string(&options.platform));
    in_store.extend(prepared.base.workloads.roots().map(|(name, root)| (name.clone(), root.clone())));
    let locked = locked_digests(prepared, required)?;
    let refresh = matches!(options.pull, Pull::Always | Pull::Newer);
    let (known, fallback) = if refresh { (BTreeMap::new(), Some(in_store)) } else { (in_store, None) };
    let mut sources = Sources { archives, client: client.clone(), known, locked, allow_missing: options.allow_missing };
    let fetched = match (sources.fetch(required, &options.platform, store, ctx).await, fallback) {
        (Err(error), Some(in_store)) if options.pull == Pull::Newer => {
            ctx.check()?;
            ctx.warn(format!("{error:#}; using the container images that are in the store"));
            sources.known = in_store;
            sources.fetch(required, &options.platform, store, ctx).await?
        }
        (fetched, _) => fetched?,
    };
    admit_all(prepared, &fetched, client).await?;
    Ok(fetched)
}

/// Refuses container images that the policy does not trust, all at once.
async fn admit_all(prepared: &Prepared, fetched: &Fetched, client: &Client) -> Result<()> {
    let Prepared { options, store, ctx, .. } = prepared;
    let registry = (options.pull != Pull::Never).then_some(client);
    let mut refused = Vec::new();
    for (name, blobs) in &fetched.images {
        match admit(&options.policy, registry, name, &blobs[0], store, ctx).await {
            Err(error) if kind_of(&error) == Kind::Verification => refused.push(error),
            other => other?,
        }
    }
    match refused.len() {
        0 => Ok(()),
        1 => Err(refused.remove(0)),
        count => {
            let messages: Vec<String> = refused.iter().map(|error| format!("  {error:#}")).collect();
            let failure = Failure::verification(format!("{count} container images are not trusted:\n{}", messages.join("\n")));
            Err(hints_of(&refused[0]).iter().fold(failure, Failure::hint).into())
        }
    }
}

/// The container images of the finished image: those of its base, and the fetched ones with the applications that require them.
///
/// The fetched ones are remembered, so that the next build finds them in the store.
pub fn workloads(prepared: &Prepared, required: &RequiredImages, fetched: &Fetched) -> Result<Workloads> {
    let mut workloads = prepared.base.workloads.clone();
    let platform = platform_string(&prepared.options.platform);
    let known = prepared.cache.roots(&platform);
    let mut roots = known.clone();
    for (name, blobs) in &fetched.images {
        let apps = required.images.get(name).map(|required| required.apps.clone()).unwrap_or_default();
        workloads.add(name, blobs, &apps)?;
        roots.insert(name.clone(), blobs[0].clone());
    }
    if roots != known {
        prepared.cache.remember_roots(&platform, &roots)?;
    }
    Ok(workloads)
}
