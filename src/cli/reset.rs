//! `sealift reset`

use std::net::IpAddr;

use anyhow::Result;
use serde_json::json;

use super::cluster_args::{KnownArgs, records};
use super::recorded::{ReportArgs, recorded};
use super::run::bring_up_and_report;
use super::session::{RunArgs, SessionArgs};
use super::{CommandContext, count};
use crate::cluster::{Hosts, LeaseGuard, Session, departed_hosts};
use crate::clusterfile::{Clusterfile, HostSpec, Ssh};
use crate::error::Failure;
use crate::events::Unit;
use crate::host::{AgentBinaries, Fence, Host, Target, combine};

/// Take a cluster down and undo all changes on its hosts
///
/// Works on a cluster that is half up, and where some hosts are unreachable (exit code 4): run it again for those. With `--host` one host
/// leaves the cluster and is cleaned, and the others go on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift reset\n  sealift reset shop --yes\n  sealift reset -f Clusterfile --keep-store\n  sealift reset shop --host 10.0.0.5"
)]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
    /// Only this host: it is drained, removed from the cluster, and cleaned
    #[arg(long, value_name = "ADDRESS", conflicts_with = "keep_store")]
    host: Option<IpAddr>,
    /// Forget hosts that are not reachable: the cluster, or with `--host` the host, is not known any more afterwards
    #[arg(long)]
    forget: bool,
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
    if let Some(host) = args.host {
        return one_host(host, clusterfile, &args, cmd).await;
    }
    let name = clusterfile.cluster.name.clone();
    let targets = args.cluster.access.targets(&clusterfile)?;
    confirm(args.yes, &name, targets.len(), cmd)?;
    recorded("reset", &clusterfile, &args.report, cmd, async |cmd| reset(&clusterfile, targets, &args, cmd).await).await
}

/// Takes a cluster down, and prints how many changes were undone.
async fn reset(clusterfile: &Clusterfile, mut targets: Vec<Target>, args: &Args, cmd: &CommandContext) -> Result<()> {
    let name = clusterfile.cluster.name.clone();
    let agents = AgentBinaries::current_exe()?;
    let (mut connected, mut failed) = Hosts::connect_reachable(&targets, &agents, &cmd.ctx).await;
    cmd.ctx.check()?;
    let mut departed = departed_hosts(&connected, clusterfile).await?;
    let cut_off = records()?.departing(&name)?.into_iter();
    departed.extend(cut_off.filter(|host| targets.iter().all(|target| target.address != host.address)));
    departed.sort_by_key(|host| host.address);
    departed.dedup_by_key(|host| host.address);
    if !departed.is_empty() {
        let more: Vec<Target> = departed.iter().map(|host| args.cluster.access.target_of(host, ssh(clusterfile))).collect::<Result<_>>()?;
        let (others, unreachable) = Hosts::connect_reachable(&more, &agents, &cmd.ctx).await;
        connected.extend(others);
        failed.extend(unreachable);
        targets.extend(more);
    }
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
    if failed.is_empty() || args.forget {
        records()?.remove(&name)?;
    }
    let hosts = targets.len() - failed.len();
    let answer = json!({ "cluster": name, "hosts": hosts, "undone": undone, "failed": failed.iter().map(|(address, _)| address).collect::<Vec<_>>() });
    cmd.console.answer(&answer, || format!("cluster {name}: {} undone on {}\n", count(undone, "change"), count(hosts, "host")))?;
    let errors: Vec<anyhow::Error> = failed.into_iter().map(|(_, error)| error).collect();
    match combine(&errors, targets.len()) {
        None => Ok(()),
        Some(error) if args.forget => {
            cmd.ctx.warn(format!("cluster {name} is forgotten, but these hosts are not cleaned: {error:#}"));
            Ok(())
        }
        Some(error) => {
            let failure = Failure::over(&error, format!("cluster {name} is not reset on all hosts"));
            Err(error.context(failure.hint("run the same command again once that is fixed: it goes on where it stopped")))
        }
    }
}

/// How hosts are reached whose own settings are not known.
fn ssh(clusterfile: &Clusterfile) -> &Ssh {
    clusterfile.cluster.hosts.first().map_or(&clusterfile.cluster.ssh, |host| &host.ssh)
}

/// Takes one host out of the cluster and cleans it, as if it were deleted from the Clusterfile: also one that an earlier run deleted there.
async fn one_host(host: IpAddr, mut clusterfile: Clusterfile, args: &Args, cmd: &CommandContext) -> Result<()> {
    let ssh = ssh(&clusterfile).clone();
    let listed = clusterfile.cluster.host(host).cloned();
    clusterfile.cluster.hosts.retain(|spec| spec.address != host);
    if clusterfile.cluster.masters().next().is_none() {
        return Err(Failure::usage(format!("{host} is the only master of cluster {}", clusterfile.cluster.name))
            .hint("without `--host` the whole cluster is taken down")
            .into());
    }
    let is_listed = listed.is_some();
    let leaving = listed.unwrap_or_else(|| HostSpec::at(host, ssh));
    let session = SessionArgs::new(args.cluster.access.clone(), args.forget).without_host(leaving);
    let run = RunArgs { yes: args.yes, break_lease: args.break_lease };
    let confirmed = |session: &Session| {
        require_member(session, host, is_listed)?;
        if args.yes || session.desired.removals().contains(&host) {
            return Ok(()); // it is asked with all that leave
        }
        let name = session.desired.name();
        super::confirm(&format!("{host} is not reachable: cluster {name} goes on without it"), "confirm with `--yes`", &cmd.ctx)
    };
    recorded("reset", &clusterfile, &args.report, cmd, async |cmd| {
        bring_up_and_report(&session, clusterfile.clone(), &run, confirmed, cmd).await
    })
    .await
}

/// Refuses a host that the cluster does not know, and a cluster that nobody knows any more: a run would make a new one.
fn require_member(session: &Session, host: IpAddr, is_listed: bool) -> Result<()> {
    let name = session.desired.name();
    let Some(membership) = &session.desired.membership else {
        return Err(Failure::usage(format!(
            "no host of cluster {name} that is reachable belongs to it: what {host} is to it cannot be told"
        ))
        .hint(format!("`sealift reset {name}` cleans all of its hosts"))
        .into());
    };
    let departing = session.desired.departing.iter().find(|departing| departing.address() == host);
    let has_changes = departing.is_some_and(|departing| departing.changed);
    let is_recorded = membership.recorded.as_ref().is_some_and(|recorded| recorded.cluster.host(host).is_some());
    let is_member = membership.node(host).is_some() || membership.etcd_member(host).is_some();
    if is_listed || is_recorded || is_member || has_changes {
        return Ok(());
    }
    Err(Failure::usage(format!("{host} does not belong to cluster {name}")).hint(format!("`sealift status {name}` lists its hosts")).into())
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

fn confirm(yes: bool, name: &str, hosts: usize, cmd: &CommandContext) -> Result<()> {
    if yes {
        return Ok(());
    }
    let hosts = count(hosts, "host");
    super::confirm(&format!("reset takes cluster {name} down on {hosts}, with all that is in it"), "confirm with `--yes`", &cmd.ctx)
}
