//! `sealift inventory`

use std::path::Path;

use anyhow::Result;

use super::CommandContext;
use super::cluster_args::KnownArgs;
use crate::archive::{HostHeld, Inventory};
use crate::atomic_file;
use crate::cluster::Hosts;
use crate::host::AgentBinaries;

/// List what is in the store, for those who save archives for this site
///
/// Taken to where images are built, it makes `sealift save --for FILE` leave out all that is here. It lists only what a name keeps:
/// `prune` takes away nothing of it.
///
/// With a cluster, its hosts are asked too: what all of them have is left out as well, also where the store has lost it.
#[derive(Debug, clap::Args)]
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
        Inventory::take(&store)
    })
    .await??;
    if args.cluster.is_given() {
        inventory.hosts = ask_hosts(&args.cluster, cmd).await?;
    }
    let text = serde_json::to_string_pretty(&inventory)? + "\n";
    if args.file == "-" {
        return cmd.console.answer(&(), || text);
    }
    atomic_file::write(Path::new(&args.file), text.as_bytes(), 0o644)?;
    cmd.ctx.note(format!("wrote {}: {} images, {} blobs", args.file, inventory.images.len(), inventory.blobs.len()));
    Ok(())
}

/// What every host of the cluster has. One that does not answer is an error: what is left out must be on all.
async fn ask_hosts(cluster: &KnownArgs, cmd: &CommandContext) -> Result<Vec<HostHeld>> {
    let clusterfile = cluster.clusterfile(cmd)?;
    let targets = cluster.access.targets(&clusterfile)?;
    let fleet = Hosts::connect(&targets, &AgentBinaries::own()?, &cmd.ctx).await?;
    let answers = fleet.all(|host| async { Ok(HostHeld { name: host.name().to_owned(), blobs: host.reachable_blobs().await? }) }).await;
    fleet.close().await;
    Ok(answers?.into_values().collect())
}
