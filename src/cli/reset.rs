//! `sealift reset`

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use serde_json::json;

use super::CommandContext;
use super::cluster_args::{KnownArgs, records};
use crate::cluster::{Hosts, LeaseGuard};
use crate::clusterfile::Clusterfile;
use crate::error::Failure;
use crate::events::Unit;
use crate::host::{AgentBinaries, Host, combine};

/// Take a cluster down and undo all changes on its hosts
///
/// Works on a cluster that is half up, and where some hosts are unreachable (exit code 4): run it again for those.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift reset\n  sealift reset shop --yes\n  sealift reset -f Clusterfile --keep-store")]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
    /// Keep the blobs on the hosts, so that the next run sends less
    #[arg(long)]
    keep_store: bool,
    /// Take over the lease of another run on this cluster
    #[arg(long)]
    break_lease: bool,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let clusterfile = args.cluster.clusterfile(cmd)?;
    let name = clusterfile.cluster.name.clone();
    let targets = args.cluster.access.targets(&clusterfile)?;
    confirm(args.yes, &name, targets.len())?;
    let (connected, mut failed) = Hosts::connect_reachable(&targets, &AgentBinaries::current_exe()?, &cmd.ctx).await;
    cmd.ctx.check()?;
    let results = take_down(&connected, &clusterfile, &args, cmd).await;
    connected.close().await;
    let results = results?;
    let mut undone = 0;
    for (address, result) in results {
        match result {
            Ok(count) => undone += count,
            Err(error) => failed.push((address, error)),
        }
    }
    if failed.is_empty() {
        records()?.remove(&name)?;
    }
    let hosts = targets.len() - failed.len();
    let answer = json!({ "cluster": name, "hosts": hosts, "undone": undone, "failed": failed.iter().map(|(address, _)| address).collect::<Vec<_>>() });
    cmd.console.answer(&answer, || format!("cluster {name}: {undone} changes undone on {hosts} hosts\n"))?;
    let errors: Vec<anyhow::Error> = failed.into_iter().map(|(_, error)| error).collect();
    match combine(&errors, targets.len()) {
        None => Ok(()),
        Some(error) => {
            let failure = Failure::over(&error, format!("cluster {name} is not reset on all hosts"));
            Err(error.context(failure.hint("run the same command again when they are reachable")))
        }
    }
}

type Results = Vec<(IpAddr, Result<usize>)>;

/// Undoes all changes while holding the lease, if the first control plane host is reachable; then removes sealift itself from the hosts,
/// the lease too.
async fn take_down(hosts: &Hosts, clusterfile: &Clusterfile, args: &Args, cmd: &CommandContext) -> Result<Results> {
    let undo = hosts.on_each(|host| undo(host, cmd));
    let first = clusterfile.cluster.hosts.iter().find(|host| host.is_master());
    let mut results = match first.and_then(|first| hosts.host(first.address).ok()) {
        Some(master) => {
            let lease = LeaseGuard::acquire(master, &super::session::owner(), args.break_lease, &cmd.ctx).await?;
            lease.hold_during(master, &cmd.ctx, async { Ok(undo.await) }).await?
        }
        None => undo.await,
    };
    let failed: BTreeSet<IpAddr> = results.iter().filter(|(_, result)| result.is_err()).map(|(address, _)| *address).collect();
    let purge = async |host: &Host| if failed.contains(&host.address()) { Ok(()) } else { host.purge(args.keep_store).await };
    for ((_, result), (_, purged)) in results.iter_mut().zip(hosts.on_each(purge).await) {
        if let Err(error) = purged {
            *result = Err(error);
        }
    }
    Ok(results)
}

async fn undo(host: &Host, cmd: &CommandContext) -> Result<usize> {
    let task = cmd.ctx.task(format!("{}: reset", host.name()), None, Unit::Items);
    let count = host.undo(&cmd.ctx).await?;
    task.done(format!("{count} changes undone"));
    Ok(count)
}

fn confirm(yes: bool, name: &str, hosts: usize) -> Result<()> {
    if yes {
        return Ok(());
    }
    super::confirm(&format!("reset takes cluster {name} down on {hosts} hosts, with all that is in it"), "confirm with `--yes`")
}
