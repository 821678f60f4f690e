//! `sealift inventory`

use std::path::Path;

use anyhow::Result;

use super::cluster_args::KnownArgs;
use super::{CommandContext, count};
use crate::archive::{Inventory, InventoryHost};
use crate::atomic_file;
use crate::cluster::Hosts;
use crate::host::AgentBinaries;

/// List the blobs in the store, for `save --for` on another machine
///
/// Taken to where images are built, the inventory makes `sealift save --for FILE` leave out what is here already. It lists only blobs
/// of named images: `prune` deletes none of them.
///
/// With a cluster, also lists the blobs that all of its hosts have.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift inventory -o site.json\n  sealift inventory -o site.json shop")]
pub struct Args {
    /// The file to write; `-` is stdout
    // has the id of the global option, whose place it takes in this command
    #[arg(id = "output", short, long, value_name = "FILE", default_value = "-")]
    file: String,
    #[command(flatten)]
    cluster: KnownArgs,
}

/// Writes the inventory.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let mut inventory = tokio::task::spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        Inventory::create(&store)
    })
    .await??;
    if args.cluster.is_given() {
        inventory.hosts = hosts_of(&args.cluster, cmd).await?;
    }
    let text = serde_json::to_string_pretty(&inventory)? + "\n";
    if args.file == "-" {
        return cmd.console.answer(&(), || text);
    }
    atomic_file::write(Path::new(&args.file), text.as_bytes(), 0o644)?;
    cmd.ctx.note(format!("wrote {}: {}, {}", args.file, count(inventory.images.len(), "image"), count(inventory.blobs.len(), "blob")));
    Ok(())
}

/// What each host of the cluster has. One that is unreachable is an error: what an archive leaves out must be on all.
async fn hosts_of(cluster: &KnownArgs, cmd: &CommandContext) -> Result<Vec<InventoryHost>> {
    let clusterfile = cluster.clusterfile(cmd)?;
    let targets = cluster.access.targets(&clusterfile)?;
    let hosts = Hosts::connect(&targets, &AgentBinaries::current_exe()?, &cmd.ctx).await?;
    let answers =
        hosts.on_all(|host| async { Ok(InventoryHost { name: host.name().to_owned(), blobs: host.reachable_blobs().await? }) }).await;
    hosts.close().await;
    Ok(answers?.into_values().collect())
}
