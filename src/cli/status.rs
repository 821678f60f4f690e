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
    Certificate, EtcdMember, Hosts, ImageContent, Inputs, Membership, Plan, Revision, Session, SessionOptions, Unreachable, certificates,
    observe_members, revision,
};
use crate::clusterfile::{Clusterfile, HostSpec};
use crate::error::{Failure, Kind, kind_of};
use crate::host::facts::{Facts, FactsRequest};
use crate::host::{AgentBinaries, Exec, Host};
use crate::image::Reference;

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

/// The state of one host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HostStatus {
    address: IpAddr,
    name: String,
    roles: Vec<String>,
    /// `up`, or why it is unreachable.
    host: String,
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
    Err(Failure::new(Kind::SomeHosts, format!("cluster {}: not well:\n  {}", status.cluster, status.problems.join("\n  ")))
        .hint("`sealift plan` shows what drifted, `sealift apply` repairs it")
        .into())
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
    let names: BTreeMap<IpAddr, String> = found.hosts.hosts().map(|host| (host.address(), host.name().to_lowercase())).collect();
    found.hosts.close().await;
    let mut certificates: Vec<Certificate> = certificates.into_iter().filter_map(|(_, found)| found.ok()).flatten().collect();
    certificates.sort_by_key(|certificate| certificate.expires);
    let host = |spec: &HostSpec| {
        let failing = units.iter().find(|(address, _)| *address == spec.address).map(|(_, failing)| failing);
        let why = found.unreachable.iter().find(|host| host.host == spec.address).map(|host| host.why.clone());
        let (host, failing) = match (failing, why) {
            (Some(Ok(failing)), _) => ("up".to_owned(), failing.clone()),
            (Some(Err(error)), _) => (format!("{error:#}"), Vec::new()),
            (None, why) => (why.unwrap_or_else(|| "not reachable".to_owned()), Vec::new()),
        };
        let node = found.membership.as_ref().and_then(|membership| membership.node(spec.address));
        let name = names.get(&spec.address).cloned().or(node.map(|node| node.name.clone())).unwrap_or_default();
        let node = node.map(|node| match (node.ready, node.unschedulable) {
            (true, false) => format!("Ready {}", node.version),
            (true, true) => format!("Ready {}, cordoned", node.version),
            (false, _) => format!("not ready: {}", node.message),
        });
        HostStatus { address: spec.address, name, roles: spec.roles.clone(), host, node, failing }
    };
    let hosts: Vec<HostStatus> = clusterfile.cluster.hosts.iter().map(host).collect();
    let mut status = Status {
        cluster: clusterfile.cluster.name.clone(),
        image: clusterfile.cluster.images.join(", "),
        hosts,
        etcd: found.membership.as_ref().map(|membership| membership.etcd.clone()).unwrap_or_default(),
        certificates,
        drift: found.plan.as_ref().map(|plan| plan.steps().map(|step| step.id.clone()).collect()),
        drift_unknown: found.unplanned,
        revision,
        last_run: records()?.logs(&clusterfile.cluster.name).last().map(|run| LastRun::of(&run)),
        problems: found.problems,
    };
    let mut problems = problems(&status, found.membership.as_ref(), clusterfile);
    status.problems.append(&mut problems);
    Ok(status)
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
    let mut unplanned = Some("the image is not in the local store".to_owned());
    if let Some(images) = local_images(clusterfile, cmd).await {
        match session(clusterfile, images, args, cmd).await {
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
            Err(error) if kind_of(&error) == Kind::Usage => unplanned = Some(format!("{error:#}")),
            Err(error) => problems.push(format!("{error:#}")),
        }
        cmd.ctx.check()?;
    }
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

async fn local_images(clusterfile: &Clusterfile, cmd: &CommandContext) -> Option<Vec<ImageContent>> {
    let names: Vec<Reference> = clusterfile.cluster.images.iter().map(|name| name.parse().ok()).collect::<Option<_>>()?;
    let store = cmd.store().ok().filter(|_| !names.is_empty())?;
    let ctx = cmd.ctx.clone();
    let open = move || names.iter().map(|name| ImageContent::open(&store, name, &ctx).ok()).collect();
    tokio::task::spawn_blocking(open).await.ok()?
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
fn problems(status: &Status, membership: Option<&Membership>, clusterfile: &Clusterfile) -> Vec<String> {
    let mut problems = Vec::new();
    for host in &status.hosts {
        let name = if host.name.is_empty() { host.address.to_string() } else { format!("{} ({})", host.name, host.address) };
        if host.host != "up" {
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
    let unknown = membership.into_iter().flat_map(|membership| &membership.nodes);
    let unknown = unknown.filter(|node| !node.addresses.iter().any(|address| clusterfile.cluster.host(*address).is_some()));
    problems.extend(unknown.map(|node| format!("node {}: not in the Clusterfile", node.name)));
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
        problems.push(format!("drift: {} to make", count(steps.len(), "change")));
    }
    problems
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
    if let Some(last) = &status.last_run {
        let time = last.time.strftime("%Y-%m-%d %H:%M:%SZ");
        text += &format!("last run from here: {} {} at {time}, see `sealift logs {} last`\n", last.command, last.result, status.cluster);
    }
    text += &match &status.drift {
        Some(steps) if steps.is_empty() => "drift: none\n".to_owned(),
        Some(steps) => format!("drift: {}, see `sealift plan`\n", count(steps.len(), "change")),
        None => format!("drift: not known: {}\n", status.drift_unknown.as_deref().unwrap_or_default().lines().next().unwrap_or_default()),
    };
    text
}
