//! `sealift status`

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::cluster_args::{KnownArgs, records};
use super::clusters::LastRun;
use super::{CommandContext, Console, Table, count};
use crate::cluster::{
    Certificate, EtcdMember, Hosts, ImageContent, Inputs, Membership, Node, Plan, Revision, Session, SessionOptions, Unreachable,
    certificates, observe_members, revision,
};
use crate::clusterfile::{Clusterfile, HostSpec, MASTER, NODE};
use crate::error::{Failure, Kind, kind_of};
use crate::host::facts::{Facts, FactsRequest};
use crate::host::lease::Lease;
use crate::host::{AgentBinaries, Exec, Host};
use crate::image::Reference;
use crate::paths::LEASE;

/// A certificate that expires within this many days is a problem.
const CERTIFICATE_DAYS: i64 = 30;
/// How often `--watch` looks again.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Show the state of a cluster and its hosts
///
/// Hosts, nodes, etcd members, certificates, and what drifted from the Clusterfile, if the image is in the local store. Exits with code 4
/// if something is not well.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift status\n  sealift status shop --watch\n  sealift status -f Clusterfile -o json")]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
    /// Show it again every 5 seconds, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// The state of a cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    cluster: String,
    image: String,
    hosts: Vec<HostStatus>,
    /// The members of etcd, where the cluster has its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    etcd: Vec<EtcdMember>,
    /// The certificates of the control plane hosts, the first to expire first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<Certificate>,
    /// What a run would change, as `sealift plan` shows it; `None` if that is not known.
    drift: Option<Vec<String>>,
    /// Why it is not known what a run would change.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift_unknown: Option<String>,
    /// The last revision: what was applied last.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<RevisionStatus>,
    /// The run that changes the cluster now, from here or from elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<RunningRun>,
    /// What this machine did last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<LastRun>,
    /// What is not well, one line each.
    problems: Vec<String>,
}

/// What was applied last.
#[derive(Debug, Serialize)]
struct RevisionStatus {
    number: u64,
    time: jiff::Timestamp,
    command: String,
    by: String,
    /// `done`, `failed` or `interrupted`.
    result: String,
}

/// A run that goes on.
#[derive(Debug, Serialize)]
struct RunningRun {
    /// The command; none if it runs on another machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    since: jiff::Timestamp,
    by: String,
}

/// The state of one host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HostStatus {
    address: IpAddr,
    name: String,
    roles: Vec<String>,
    /// `up`, or why it is unreachable.
    host: String,
    /// Whether it is a node of the cluster that the Clusterfile does not list.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unlisted: bool,
    /// The state of its node, where the cluster is Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// The systemd units of sealift and Kubernetes that have failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failing: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let clusterfile = args.cluster.clusterfile(cmd)?;
    loop {
        let status = observe(&clusterfile, &args, cmd).await?;
        cmd.console.answer(&status, || text(&status, &cmd.console))?;
        if !args.watch {
            return verdict(&status);
        }
        cmd.ctx
            .or_cancelled(async {
                tokio::time::sleep(WATCH_INTERVAL).await;
                Ok(())
            })
            .await?;
    }
}

fn verdict(status: &Status) -> Result<()> {
    if status.problems.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Kind::SomeHosts, format!("cluster {}: not well:\n  {}", status.cluster, status.problems.join("\n  ")));
    Err(hints(status).into_iter().fold(failure, Failure::hint).into())
}

/// What to do next, for each cause one line. While a run goes on there is nothing to repair.
fn hints(status: &Status) -> Vec<String> {
    let name = &status.cluster;
    if let Some(running) = &status.running {
        let follow = format!("`sealift logs {name} last --follow` shows that run until it has ended");
        return vec![if running.command.is_some() { follow } else { "look again when that run has ended".to_owned() }];
    }
    let listed = || status.hosts.iter().filter(|host| !host.unlisted);
    let causes = [
        (
            listed().any(|host| host.host != "up"),
            "bring the hosts back that are not reachable; those that are gone for good leave with `sealift scale`".to_owned(),
        ),
        (
            status.hosts.iter().any(|host| host.unlisted),
            "add the hosts that are not listed to the Clusterfile, or remove them with `sealift apply`".to_owned(),
        ),
        (
            status.drift.as_ref().is_some_and(|steps| !steps.is_empty()),
            format!("`sealift plan --name {name}` shows what drifted, `sealift apply {name}` repairs it"),
        ),
        (
            listed().any(|host| !host.failing.is_empty()),
            format!("`sealift exec {name} -- systemctl --failed` shows the units that have failed"),
        ),
    ];
    causes.into_iter().filter(|(applies, _)| *applies).map(|(_, hint)| hint).collect()
}

/// The connected hosts, and what was found about the cluster.
struct Found {
    hosts: Hosts,
    unreachable: Vec<Unreachable>,
    membership: Option<Membership>,
    plan: Option<Plan>,
    /// Why there is no plan.
    unplanned: Option<String>,
    problems: Vec<String>,
}

async fn observe(clusterfile: &Clusterfile, args: &Args, cmd: &CommandContext) -> Result<Status> {
    let found = find(clusterfile, args, cmd).await?;
    let units = found.hosts.on_each(|host| failed_units(host, cmd)).await;
    let certificates = found.hosts.on_each(certificates).await;
    let revision = last_revision(&found, clusterfile, cmd).await;
    let running = running(&found, clusterfile).await?;
    let names: BTreeMap<IpAddr, String> = found.hosts.hosts().map(|host| (host.address(), host.name().to_lowercase())).collect();
    found.hosts.close().await;
    let mut certificates: Vec<Certificate> = certificates.into_iter().filter_map(|(_, found)| found.ok()).flatten().collect();
    certificates.sort_by_key(|certificate| certificate.expires);
    let host = |spec: &HostSpec| {
        let failing = units.iter().find(|(address, _)| *address == spec.address).map(|(_, failing)| failing);
        let why = found.unreachable.iter().find(|host| host.host == spec.address).map(Unreachable::short_why);
        let (host, failing) = match (failing, why) {
            (Some(Ok(failing)), _) => ("up".to_owned(), failing.clone()),
            (Some(Err(error)), _) => (format!("{error:#}"), Vec::new()),
            (None, why) => (why.unwrap_or_else(|| "not reachable".to_owned()), Vec::new()),
        };
        let node = found.membership.as_ref().and_then(|membership| membership.node(spec.address));
        let name = names.get(&spec.address).cloned().or(node.map(|node| node.name.clone())).unwrap_or_default();
        HostStatus { address: spec.address, name, roles: spec.roles.clone(), host, unlisted: false, node: node.map(node_state), failing }
    };
    let nodes = found.membership.iter().flat_map(|membership| &membership.nodes);
    let unlisted = nodes.filter_map(|node| unlisted(node, clusterfile));
    let hosts: Vec<HostStatus> = clusterfile.cluster.hosts.iter().map(host).chain(unlisted).collect();
    let mut status = Status {
        cluster: clusterfile.cluster.name.clone(),
        image: clusterfile.cluster.images.join(", "),
        hosts,
        etcd: found.membership.as_ref().map(|membership| membership.etcd.clone()).unwrap_or_default(),
        certificates,
        drift: found.plan.as_ref().map(|plan| plan.steps().map(|step| step.id.clone()).collect()),
        drift_unknown: found.unplanned,
        revision,
        running,
        last_run: records()?.logs(&clusterfile.cluster.name).last().map(|run| LastRun::of(&run)),
        problems: found.problems,
    };
    let mut problems = problems(&status, found.membership.as_ref());
    status.problems.append(&mut problems);
    Ok(status)
}

fn node_state(node: &Node) -> String {
    match (node.ready, node.unschedulable) {
        (true, false) => format!("Ready {}", node.version),
        (true, true) => format!("Ready {}, cordoned", node.version),
        (false, _) => format!("not ready: {}", node.message),
    }
}

/// A node of the cluster that the Clusterfile of this machine does not list; `None` for the others.
fn unlisted(node: &Node, clusterfile: &Clusterfile) -> Option<HostStatus> {
    if node.addresses.iter().any(|address| clusterfile.cluster.host(*address).is_some()) {
        return None;
    }
    Some(HostStatus {
        address: *node.addresses.first()?,
        name: node.name.clone(),
        roles: vec![if node.control_plane { MASTER } else { NODE }.to_owned()],
        host: "not in the Clusterfile".to_owned(),
        unlisted: true,
        node: Some(node_state(node)),
        failing: Vec::new(),
    })
}

/// The run that changes the cluster now: by the logs of this machine, else by the lease that a control plane host keeps.
async fn running(found: &Found, clusterfile: &Clusterfile) -> Result<Option<RunningRun>> {
    if let Some(run) = records()?.logs(&clusterfile.cluster.name).running() {
        return Ok(Some(RunningRun { command: Some(run.begun.command), since: run.time, by: run.begun.by }));
    }
    for master in clusterfile.cluster.masters().filter_map(|master| found.hosts.host(master.address).ok()) {
        let lease = master.read_file(LEASE).await.ok().flatten();
        if let Some(run) = lease.and_then(|bytes| held(&bytes, jiff::Timestamp::now().as_second())) {
            return Ok(Some(run));
        }
    }
    Ok(None)
}

/// The run that holds the lease in this file at `now`, in Unix seconds.
fn held(lease: &[u8], now: i64) -> Option<RunningRun> {
    let lease: Lease = serde_json::from_slice(lease).ok()?;
    let since = i64::try_from(lease.since).ok().and_then(|since| jiff::Timestamp::from_second(since).ok())?;
    (i64::try_from(lease.until).ok()? > now).then_some(RunningRun { command: None, since, by: lease.owner })
}

/// The last revision that a control plane host or this machine knows.
async fn last_revision(found: &Found, clusterfile: &Clusterfile, cmd: &CommandContext) -> Option<RevisionStatus> {
    let name = &clusterfile.cluster.name;
    let mut revisions = records().ok()?.revisions_of(name);
    for master in clusterfile.cluster.masters().filter_map(|master| found.hosts.host(master.address).ok()) {
        revisions.extend(revision::read(master, name, &cmd.ctx).await.unwrap_or_default());
    }
    let last = revisions.into_iter().max_by_key(|revision| revision.number)?;
    let Revision { number, time, command, by, result, .. } = last;
    Some(RevisionStatus { number, time, command, by, result })
}

/// Connects to the hosts and finds the members; plans too, if the image is in the local store.
async fn find(clusterfile: &Clusterfile, args: &Args, cmd: &CommandContext) -> Result<Found> {
    let mut problems = Vec::new();
    let unplanned;
    match local_images(clusterfile, cmd).await {
        Err(error) => unplanned = Some(format!("{error:#}")),
        Ok(images) => match session(clusterfile, images, args, cmd).await {
            Ok((session, plan)) => {
                return Ok(Found {
                    hosts: session.hosts,
                    unreachable: session.unreachable,
                    membership: session.desired.membership,
                    plan: Some(plan),
                    unplanned: None,
                    problems,
                });
            }
            // the cluster may be well all the same: a value that only another machine can unseal, an image that does not fit
            Err(error) => {
                unplanned = Some(format!("{error:#}"));
                if kind_of(&error) != Kind::Usage {
                    problems.push(format!("{error:#}"));
                }
            }
        },
    }
    cmd.ctx.check()?;
    let targets = args.cluster.access.targets(clusterfile)?;
    let (hosts, failed) = Hosts::connect_reachable(&targets, &AgentBinaries::current_exe()?, &cmd.ctx).await;
    cmd.ctx.check()?;
    let unreachable = failed.into_iter().map(|(host, error)| Unreachable { host, why: format!("{error:#}") }).collect();
    let gathered = hosts.on_each(|host| async move { host.facts(&FactsRequest::default()).await }).await;
    let facts: BTreeMap<IpAddr, Facts> = gathered.into_iter().filter_map(|(address, facts)| Some((address, facts.ok()?))).collect();
    let kubernetes = facts.values().any(|facts| facts.installed.node.is_some());
    let name = &clusterfile.cluster.name;
    let membership = match observe_members(&hosts, &facts, name, kubernetes, &[], Duration::ZERO, &cmd.ctx).await {
        Ok(membership) => membership,
        Err(error) if problems.is_empty() => {
            problems.push(format!("{error:#}"));
            None
        }
        Err(_) => None,
    };
    Ok(Found { hosts, unreachable, membership, plan: None, unplanned, problems })
}

async fn local_images(clusterfile: &Clusterfile, cmd: &CommandContext) -> Result<Vec<ImageContent>> {
    let names: Vec<Reference> = clusterfile.cluster.images.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    anyhow::ensure!(!names.is_empty(), "the Clusterfile names no image");
    tokio::task::spawn_blocking(move || names.iter().map(|name| ImageContent::open(&store, name, &ctx)).collect()).await?
}

async fn session(clusterfile: &Clusterfile, images: Vec<ImageContent>, args: &Args, cmd: &CommandContext) -> Result<(Session, Plan)> {
    let target = |host: &HostSpec| args.cluster.access.target_of(host, &host.ssh);
    let options = SessionOptions { api_timeout: Duration::ZERO, ..SessionOptions::default() };
    let inputs = Inputs { clusterfile: clusterfile.clone(), images, known: None, options };
    let session = Session::open(inputs, &target, &AgentBinaries::current_exe()?, &cmd.ctx).await?;
    match session.plan(&cmd.ctx).await {
        Ok(plan) => Ok((session, plan)),
        Err(error) => {
            session.hosts.close().await;
            Err(error)
        }
    }
}

/// What is not well, besides what was already found.
fn problems(status: &Status, membership: Option<&Membership>) -> Vec<String> {
    let mut problems = Vec::new();
    for host in &status.hosts {
        let name = if host.name.is_empty() { host.address.to_string() } else { format!("{} ({})", host.name, host.address) };
        if host.unlisted {
            problems.push(format!("node {name}: not in the Clusterfile"));
        } else if host.host != "up" {
            problems.push(format!("{name}: {}", host.host.lines().next().unwrap_or_default()));
        }
        problems.extend(host.failing.iter().map(|unit| format!("{name}: {unit} has failed")));
        match &host.node {
            Some(node) if !node.starts_with("Ready") => problems.push(format!("{name}: node {node}")),
            None if membership.is_some_and(|membership| !membership.nodes.is_empty()) => {
                problems.push(format!("{name}: no node of the cluster"))
            }
            _ => {}
        }
    }
    problems.extend(status.etcd.iter().filter(|member| !member.healthy).map(|member| {
        format!("etcd member {}: does not answer", if member.name.is_empty() { member.peers.join(", ") } else { member.name.clone() })
    }));
    problems.extend(
        status
            .certificates
            .iter()
            .filter(|certificate| certificate.days_left < CERTIFICATE_DAYS)
            .map(|certificate| format!("{}: {} expires in {} days", certificate.host, certificate.file, certificate.days_left)),
    );
    if let Some(steps) = status.drift.as_ref().filter(|steps| !steps.is_empty()) {
        problems.push(match &status.running {
            Some(running) => format!("{} ({} to make)", going_on(running), count(steps.len(), "change")),
            None => format!("drift: {} to make", count(steps.len(), "change")),
        });
    }
    problems
}

/// `a run goes on: apply since 2026-12-01 06:00:00Z by ann@desk`.
fn going_on(running: &RunningRun) -> String {
    let command = running.command.as_ref().map(|command| format!(" {command}")).unwrap_or_default();
    format!("a run goes on:{command} since {} by {}", running.since.strftime("%Y-%m-%d %H:%M:%SZ"), running.by)
}

/// The systemd units of sealift and Kubernetes on a host that have failed.
async fn failed_units(host: &Host, cmd: &CommandContext) -> Result<Vec<String>> {
    let line = "systemctl list-units --all --plain --no-legend --full 'sealift-*' containerd.service kubelet.service etcd.service \
        | while read -r unit load active rest; do [ \"$load $active\" = 'loaded failed' ] && echo \"$unit\"; done; true";
    let output = host.exec(&Exec::shell(line).quiet(), &cmd.ctx).await?;
    Ok(output.text().lines().map(str::to_owned).collect())
}

fn text(status: &Status, console: &Console) -> String {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let row = |host: &HostStatus| {
        vec![
            host.address.to_string(),
            dash(host.name.clone()),
            host.roles.join(","),
            host.host.lines().next().unwrap_or_default().to_owned(),
            dash(host.node.clone().unwrap_or_default()),
            dash(host.failing.join(",")),
        ]
    };
    let table = Table::new(&["ADDRESS", "NAME", "ROLES", "HOST", "NODE", "FAILED UNITS"], status.hosts.iter().map(row));
    let mut text = format!("cluster {}, image {}\n", status.cluster, status.image);
    text += &console.table(&table.wrapped(&["HOST", "NODE", "FAILED UNITS"]));
    if !status.etcd.is_empty() {
        let healthy = status.etcd.iter().filter(|member| member.healthy).count();
        text += &format!("etcd: {healthy} of {} healthy\n", count(status.etcd.len(), "member"));
    }
    if let Some(first) = status.certificates.first() {
        text += &format!("certificates: the first expires in {} days ({} on {})\n", first.days_left, first.file, first.host);
    }
    if let Some(revision) = &status.revision {
        let RevisionStatus { number, time, command, by, result } = revision;
        text += &format!("revision {number}: {command} {result}, {} by {by}\n", time.strftime("%Y-%m-%d %H:%M:%SZ"));
    }
    if let Some(running) = &status.running {
        text += &format!("{}\n", going_on(running));
    }
    if let Some(last) = status.last_run.as_ref().filter(|_| status.running.is_none()) {
        let time = last.time.strftime("%Y-%m-%d %H:%M:%SZ");
        text += &format!("last run from here: {} {} at {time}, see `sealift logs {} last`\n", last.command, last.result, status.cluster);
    }
    text += &match &status.drift {
        Some(steps) if steps.is_empty() => "drift: none\n".to_owned(),
        Some(steps) if status.running.is_some() => format!("drift: {} while the run goes on\n", count(steps.len(), "change")),
        Some(steps) => format!("drift: {}, see `sealift plan --name {}`\n", count(steps.len(), "change"), status.cluster),
        None => format!("drift: not known: {}\n", status.drift_unknown.as_deref().unwrap_or_default().lines().next().unwrap_or_default()),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hosts: &[(&str, bool)], drift: Option<usize>, running: Option<RunningRun>) -> Status {
        let host = |(state, unlisted): &(&str, bool)| HostStatus {
            address: [10, 0, 0, 1].into(),
            name: "h1".into(),
            roles: vec!["master".into()],
            host: (*state).to_owned(),
            unlisted: *unlisted,
            node: Some("Ready v1".into()),
            failing: Vec::new(),
        };
        Status {
            cluster: "shop".into(),
            image: "shop:1".into(),
            hosts: hosts.iter().map(host).collect(),
            etcd: Vec::new(),
            certificates: Vec::new(),
            drift: drift.map(|steps| vec!["step".to_owned(); steps]),
            drift_unknown: None,
            revision: None,
            running,
            last_run: None,
            problems: Vec::new(),
        }
    }

    fn run(command: Option<&str>) -> Option<RunningRun> {
        Some(RunningRun { command: command.map(str::to_owned), since: jiff::Timestamp::UNIX_EPOCH, by: "ann@desk".into() })
    }

    #[test]
    fn hints_fit_what_is_not_well() {
        let up = ("up", false);
        for (status, problems, hints_want) in [
            (status(&[up], Some(0), None), vec![], vec![]),
            (status(&[up], Some(2), None), vec!["drift: 2 changes to make"], vec!["`sealift apply shop` repairs it"]),
            (status(&[("connection refused", false)], Some(0), None), vec!["h1 (10.0.0.1): connection refused"], vec!["not reachable"]),
            (
                status(&[up, ("not in the Clusterfile", true)], Some(0), None),
                vec!["node h1 (10.0.0.1): not in the Clusterfile"],
                vec!["not listed"],
            ),
            (
                status(&[up], Some(2), run(Some("apply"))),
                vec!["a run goes on: apply since 1970-01-01 00:00:00Z by ann@desk (2 changes to make)"],
                vec!["logs shop last --follow"],
            ),
            (
                status(&[up], Some(1), run(None)),
                vec!["a run goes on: since 1970-01-01 00:00:00Z by ann@desk (1 change to make)"],
                vec!["look again"],
            ),
        ] {
            assert_eq!(super::problems(&status, None), problems);
            let hints = hints(&status);
            assert_eq!(hints.len(), hints_want.len(), "{hints:?}");
            assert!(hints.iter().zip(hints_want).all(|(hint, want)| hint.contains(want)), "{hints:?}");
        }
    }

    #[test]
    fn a_lease_names_a_run_until_it_is_over() {
        let lease = |until: u64| {
            let lease = Lease { holder: "x".into(), owner: "ann@desk".into(), since: 100, until, number: 1 };
            held(&serde_json::to_vec(&lease).unwrap(), 150).map(|run| (run.by, run.since.as_second()))
        };
        assert_eq!(lease(160), Some(("ann@desk".to_owned(), 100)));
        assert_eq!((lease(150), lease(0)), (None, None));
        assert!(held(b"damaged", 0).is_none());
    }
}
