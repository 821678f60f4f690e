//! `sealift reset`

use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;

use anyhow::Result;
use serde_json::json;

use super::CommandContext;
use super::cluster_args::{KnownArgs, records};
use super::recorded::{ReportArgs, recorded};
use crate::cluster::{Hosts, LeaseGuard};
use crate::clusterfile::Clusterfile;
use crate::error::Failure;
use crate::events::Unit;
use crate::host::{AgentBinaries, Fence, Host, Target, combine};

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
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let clusterfile = args.cluster.clusterfile(cmd)?;
    let name = clusterfile.cluster.name.clone();
    let targets = args.cluster.access.targets(&clusterfile)?;
    confirm(args.yes, &name, targets.len())?;
    recorded("reset", &clusterfile, &args.report, cmd, async |cmd| reset(&clusterfile, &targets, &args, cmd).await).await
}

/// Takes a cluster down, and prints how many changes were undone.
async fn reset(clusterfile: &Clusterfile, targets: &[Target], args: &Args, cmd: &CommandContext) -> Result<()> {
    let name = clusterfile.cluster.name.clone();
    let (connected, mut failed) = Hosts::connect_reachable(targets, &AgentBinaries::current_exe()?, &cmd.ctx).await;
    cmd.ctx.check()?;
    let results = take_down(&connected, clusterfile, args, cmd).await;
    connected.close().await;
    let results = results?;
    let mut undone = 0;
    for (address, result) in results {
        match result {
            Ok(count) => undone += count,
            Err(error) => failed.push((address, error)),
        }
    }
    if let Some(log) = &cmd.log {
        log.changed(undone);
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
            Err(error.context(failure.hint("run the same command again once that is fixed: it goes on where it stopped")))
        }
    }
}

type Results = Vec<(IpAddr, Result<usize>)>;

/// Undoes all changes, and removes sealift itself from the hosts where that succeeded, under the lease if a control plane host is
/// reachable. That host is the last, since it keeps the lease. Hosts that belong to another cluster by now are left as they are.
async fn take_down(hosts: &Hosts, clusterfile: &Clusterfile, args: &Args, cmd: &CommandContext) -> Result<Results> {
    let name = &clusterfile.cluster.name;
    let keeper = clusterfile.cluster.masters().find_map(|master| hosts.host(master.address).ok());
    let Some(keeper) = keeper else {
        hosts.hosts().for_each(|host| host.set_fence(Fence { cluster: name.clone(), number: None }));
        return Ok(hosts.on_each(|host| clean(host, name, args, cmd)).await);
    };
    let lease = LeaseGuard::acquire(keeper, &super::session::owner(), args.break_lease, &cmd.ctx).await?;
    lease.fence(keeper, name, hosts.hosts()).await?;
    let work = async {
        let is_keeper = |host: &Host| host.address() == keeper.address();
        let mut results = hosts
            .on_each(async |host| if is_keeper(host) { undo(host, name, cmd).await } else { clean(host, name, args, cmd).await })
            .await;
        for (_, result) in results.iter_mut().filter(|(address, result)| *address == keeper.address() && result.is_ok()) {
            if let Err(error) = purge(keeper, name, args, cmd).await {
                *result = Err(error);
            }
        }
        Ok(results)
    };
    lease.hold_during(keeper, &cmd.ctx, work).await
}

async fn clean(host: &Host, cluster: &str, args: &Args, cmd: &CommandContext) -> Result<usize> {
    let count = undo(host, cluster, cmd).await?;
    purge(host, cluster, args, cmd).await?;
    Ok(count)
}

async fn purge(host: &Host, cluster: &str, args: &Args, cmd: &CommandContext) -> Result<()> {
    cmd.ctx.check()?;
    if other_cluster(host, cluster).is_some() { Ok(()) } else { host.purge(args.keep_store).await }
}

/// The other cluster that a host belongs to.
fn other_cluster<'a>(host: &'a Host, cluster: &str) -> Option<&'a str> {
    host.claim().map(|claim| claim.cluster.as_str()).filter(|other| *other != cluster)
}

async fn undo(host: &Host, cluster: &str, cmd: &CommandContext) -> Result<usize> {
    if let Some(other) = other_cluster(host, cluster) {
        cmd.ctx.warn(format!("{} ({}) belongs to the cluster {other}: left as it is", host.name(), host.address()));
        return Ok(0);
    }
    let task = cmd.ctx.task(format!("{}: reset", host.name()), None, Unit::Items);
    let count = host.undo(&cmd.ctx).await?;
    task.done(format!("{count} changes undone"));
    Ok(count)
}

fn confirm(yes: bool, name: &str, hosts: usize) -> Result<()> {
    if yes {
        return Ok(());
    }
    let refusal = || Failure::usage(format!("reset takes cluster {name} down on {hosts} hosts")).hint("confirm with `--yes`");
    if !std::io::stdin().is_terminal() {
        return Err(refusal().into());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "Take cluster {name} down on {hosts} hosts, with all that is in it? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refusal().into()) }
}
