//! `sealift history`

use anyhow::Result;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::cluster_args::{AccessArgs, KnownArgs, records};
use super::{CommandContext, ImageArg, Table, bytes};
use crate::cluster::{Hosts, Revision, revision};
use crate::clusterfile::HostSpec;
use crate::error::Failure;
use crate::host::AgentBinaries;
use crate::store::InspectedImage;

/// Show what was applied to a cluster, or how an image was built
///
/// The newest comes first. A cluster that this machine knows goes before an image of the same name; with its tag, `shop:latest`, the
/// image is meant. The revisions of a cluster are read from its control plane nodes; where none answers, those that this machine has made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift history shop\n  sealift history shop:1.0\n  sealift history shop:1.0 --platform linux/arm64")]
pub struct Args {
    /// The cluster, by name, or the image in the store: its name or digest
    #[arg(value_name = "CLUSTER|IMAGE", add = super::complete::clusters_and_images())]
    name: String,
    /// The platform, of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// How the hosts are reached.
    #[command(flatten)]
    access: AccessArgs,
}

/// A build step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    /// The digest of its layer, if it has one.
    layer: Option<String>,
    /// Compressed bytes of the layer.
    size: u64,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    if !records()?.names().contains(&args.name) {
        let image: ImageArg = args.name.parse()?;
        let store = cmd.store()?;
        if !args.name.contains([':', '@', '/']) && store.resolve(&image.in_store(&store)?)?.is_none() {
            return Err(Failure::usage(format!("no such cluster or image: {}", args.name))
                .hint("`sealift clusters` lists the known clusters, `sealift images` the images in the store")
                .into());
        }
        return of_image(image, args.platform, cmd).await;
    }
    if let Ok(image) = args.name.parse::<ImageArg>()
        && let Ok(store) = cmd.store()
        && let Ok(name) = image.in_store(&store)
        && store.resolve(&name).is_ok_and(|found| found.is_some())
    {
        let familiar = name.familiar();
        cmd.ctx.note(format!("`{}` is a cluster and an image: `sealift history {familiar}` shows the image", args.name));
    }
    let mut revisions = revisions_of(&args.name, &args.access, cmd).await?;
    revisions.reverse();
    cmd.console.answer(&revisions, || {
        let table = Table::new(&["REVISION", "TIME", "COMMAND", "RESULT", "CHANGES", "IMAGE", "BY"], revisions.iter().map(row));
        cmd.console.table(&table.optional(&["COMMAND", "BY"]))
    })
}

fn row(revision: &Revision) -> Vec<String> {
    let short = |digest: &str| digest.get(7..19).unwrap_or(digest).to_owned();
    let images = revision.images.iter().map(|image| format!("{} ({})", image.name, short(&image.digest)));
    vec![
        revision.number.to_string(),
        revision.time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        revision.command.clone(),
        revision.result.clone(),
        revision.changes.to_string(),
        images.collect::<Vec<_>>().join(", "),
        revision.by.clone(),
    ]
}

/// The revisions of a known cluster, the newest last: from every control plane node that answers, else those made by this machine.
pub async fn revisions_of(name: &str, access: &AccessArgs, cmd: &CommandContext) -> Result<Vec<Revision>> {
    let mut clusterfile = KnownArgs::named(name, access).clusterfile(cmd)?;
    clusterfile.cluster.hosts.retain(HostSpec::is_master);
    let targets = access.targets(&clusterfile)?;
    let (hosts, failed) = Hosts::connect_reachable(&targets, &AgentBinaries::current_exe()?, &cmd.ctx).await;
    cmd.ctx.check()?;
    let read = hosts.on_each(|host| revision::read(host, name, &cmd.ctx)).await;
    let in_cluster = match read.iter().all(|(_, result)| result.as_ref().is_ok_and(Vec::is_empty)) {
        true => in_cluster(&hosts, cmd).await,
        false => Vec::new(),
    };
    hosts.close().await;
    let mut errors: Vec<String> = failed.iter().map(|(_, error)| format!("{error:#}")).collect();
    let mut answered = false;
    let mut revisions = records()?.revisions_of(name);
    revisions.extend(in_cluster);
    for (_, result) in read {
        match result {
            Ok(found) => {
                answered = true;
                revisions.extend(found);
            }
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    if !answered {
        cmd.ctx.warn(format!("no control plane node answers, these are the revisions that this machine has made: {}", errors.join("; ")));
    }
    revisions.sort_by_key(|revision| revision.number);
    revisions.dedup_by_key(|revision| revision.number);
    Ok(revisions)
}

/// The revisions that the cluster itself has, where it is Kubernetes: for nodes that all came later.
async fn in_cluster(hosts: &Hosts, cmd: &CommandContext) -> Vec<Revision> {
    for host in hosts.hosts() {
        if let Ok(revisions) = revision::read_in_cluster(host, &cmd.ctx).await {
            return revisions;
        }
    }
    Vec::new()
}

async fn of_image(name: ImageArg, platform: Option<String>, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let part = spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        store.inspect_platform(&name.in_store(&store)?, platform.as_deref())
    })
    .await??;
    let steps = steps(&part);
    cmd.console.answer(&steps, || {
        let row = |step: &Step| {
            let by = step.created_by.as_deref().or(step.comment.as_deref()).unwrap_or("-").replace('\n', " ");
            let layer = step.layer.as_deref().map_or("-", |digest| digest.get(7..19).unwrap_or(digest));
            vec![layer.to_owned(), step.created.clone().unwrap_or_else(|| "-".into()), bytes(step.size), by]
        };
        let table = Table::new(&["LAYER", "CREATED", "SIZE", "CREATED BY"], steps.iter().map(row));
        cmd.console.table(&table.wrapped(&["CREATED BY"]))
    })
}

/// The newest first. Layers that the history does not mention are steps too.
fn steps(part: &InspectedImage) -> Vec<Step> {
    let history = part.config.as_ref().and_then(|config| config.history().clone()).unwrap_or_default();
    let mut layers = part.manifest.layers().iter();
    let mut steps: Vec<Step> = history
        .iter()
        .map(|entry| {
            let layer = if entry.empty_layer() == Some(true) { None } else { layers.next() };
            Step {
                created: entry.created().clone(),
                created_by: entry.created_by().clone(),
                comment: entry.comment().clone(),
                layer: layer.map(|layer| layer.digest().to_string()),
                size: layer.map_or(0, oci_spec::image::Descriptor::size),
            }
        })
        .collect();
    steps.extend(layers.map(|layer| Step {
        created: None,
        created_by: None,
        comment: None,
        layer: Some(layer.digest().to_string()),
        size: layer.size(),
    }));
    steps.reverse();
    steps
}
