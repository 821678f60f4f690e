//! `sealift reset`

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
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

/// Take a cluster down: hosts go back to what they were before
///
/// Works on half-made clusters too, and goes on where some hosts are dead (exit code 4): run it again for those.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Leave the blobs on the hosts, so that the next run sends less
    #[arg(long)]
    keep_store: bool,
    /// Take the cluster from another run that holds it
    #[arg(long)]
    break_lease: bool,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let clusterfile = args.cluster.clusterfile(cmd)?;
    let name = clusterfile.cluster.name.clone();
    let targets = args.cluster.access.targets(&clusterfile)?;
    confirm(args.yes, &name, targets.len())?;
    let (fleet, mut failed) = Hosts::connect_some(&targets, &AgentBinaries::own()?, &cmd.ctx).await;
    cmd.ctx.check()?;
    let results = take_down(&fleet, &clusterfile, &args, cmd).await;
    fleet.close().await;
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
    cmd.console.answer(&answer, || format!("cluster {name}: {undone} changes taken back on {hosts} hosts\n"))?;
    let errors: Vec<anyhow::Error> = failed.into_iter().map(|(_, error)| error).collect();
    match combine(&errors, targets.len()) {
        None => Ok(()),
        Some(error) => {
            let failure = Failure::over(&error, format!("cluster {name} is not reset on all hosts"));
            Err(error.context(failure.hint("run the same command again when they answer")))
        }
    }
}

type Results = Vec<(IpAddr, Result<usize>)>;

/// Takes back all changes while holding the cluster, if its first master answers; then removes what sealift has on the hosts,
/// the lease too.
async fn take_down(fleet: &Hosts, clusterfile: &Clusterfile, args: &Args, cmd: &CommandContext) -> Result<Results> {
    let undo = fleet.each(|host| undo(host, cmd));
    let first = clusterfile.cluster.hosts.iter().find(|host| host.is_master());
    let mut results = match first.and_then(|first| fleet.host(first.address).ok()) {
        Some(master) => {
            let held = LeaseGuard::take(master, &super::session::owner(), args.break_lease, &cmd.ctx).await?;
            held.during(master, &cmd.ctx, async { Ok(undo.await) }).await?
        }
        None => undo.await,
    };
    let failed: BTreeSet<IpAddr> = results.iter().filter(|(_, result)| result.is_err()).map(|(address, _)| *address).collect();
    let forget = async |host: &Host| if failed.contains(&host.address()) { Ok(()) } else { host.purge(args.keep_store).await };
    for ((_, result), (_, forgotten)) in results.iter_mut().zip(fleet.each(forget).await) {
        if let Err(error) = forgotten {
            *result = Err(error);
        }
    }
    Ok(results)
}

async fn undo(host: &Host, cmd: &CommandContext) -> Result<usize> {
    let task = cmd.ctx.task(format!("{}: reset", host.name()), None, Unit::Items);
    let count = host.undo(&cmd.ctx).await?;
    task.done(format!("{count} changes taken back"));
    Ok(count)
}

fn confirm(yes: bool, name: &str, hosts: usize) -> Result<()> {
    if yes {
        return Ok(());
    }
    let refusal = || Failure::usage(format!("reset takes cluster {name} down on {hosts} hosts")).hint("say so with `--yes`");
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
