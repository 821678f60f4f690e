//! `sealift status`

use anyhow::Result;
use serde::Serialize;

use super::cluster_args::KnownArgs;
use super::{CommandContext, Console, Table};
use crate::cluster::{Hosts, NodeStatus, node_statuses};
use crate::clusterfile::Clusterfile;
use crate::error::{Failure, Kind};
use crate::host::facts::FactsRequest;
use crate::host::{AgentBinaries, Host};

/// Show the state of a cluster and its hosts
///
/// Exits with code 4 if some hosts are unreachable, 6 if a node or a unit is not healthy.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift status\n  sealift status shop\n  sealift status -f Clusterfile -o json")]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
}

/// The state of a cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    cluster: String,
    image: String,
    hosts: Vec<HostStatus>,
}

/// The state of one host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HostStatus {
    address: std::net::IpAddr,
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
    let targets = args.cluster.access.targets(&clusterfile)?;
    let (hosts, failed) = Hosts::connect_reachable(&targets, &AgentBinaries::current_exe()?, &cmd.ctx).await;
    let observed = hosts.on_each(|host| observe(host, cmd)).await;
    let nodes = nodes(&hosts, &clusterfile, cmd).await;
    hosts.close().await;
    let hosts = clusterfile.cluster.hosts.iter().map(|spec| {
        let state = observed.iter().find(|(address, _)| *address == spec.address).map(|(_, state)| state);
        let (name, host, failing) = match state {
            Some(Ok((name, failing))) => (name.clone(), "up".to_owned(), failing.clone()),
            Some(Err(error)) => (String::new(), format!("{error:#}"), Vec::new()),
            None => {
                let why = failed.iter().find(|(address, _)| *address == spec.address).map(|(_, error)| format!("{error:#}"));
                (String::new(), why.unwrap_or_default(), Vec::new())
            }
        };
        let node = nodes.iter().find(|node| node.name == name).map(|node| node.status.clone());
        HostStatus { address: spec.address, name, roles: spec.roles.clone(), host, node, failing }
    });
    let status = Status { cluster: clusterfile.cluster.name.clone(), image: clusterfile.cluster.images.join(", "), hosts: hosts.collect() };
    cmd.console.answer(&status, || text(&status, &cmd.console))?;
    let unhealthy: Vec<String> = status.hosts.iter().filter(|host| !host.is_healthy()).map(|host| host.address.to_string()).collect();
    if unhealthy.is_empty() {
        return Ok(());
    }
    let kind = if failed.is_empty() { Kind::Verification } else { Kind::SomeHosts };
    Err(Failure::new(kind, format!("not healthy: {}", unhealthy.join(", ")))
        .hint("`sealift plan` shows what drifted, `sealift apply` repairs it")
        .into())
}

impl HostStatus {
    fn is_healthy(&self) -> bool {
        self.host == "up" && self.failing.is_empty() && self.node.as_deref().is_none_or(|node| node.starts_with("Ready"))
    }
}

/// A host's name, and its failed units.
async fn observe(host: &Host, cmd: &CommandContext) -> Result<(String, Vec<String>)> {
    let facts = host.facts(&FactsRequest::default()).await?;
    let line = "systemctl list-units --all --plain --no-legend --full 'sealift-*' containerd.service kubelet.service etcd.service \
        | while read -r unit load active rest; do [ \"$load $active\" = 'loaded failed' ] && echo \"$unit\"; done; true";
    let output = host.exec(&crate::host::Exec::shell(line).quiet(), &cmd.ctx).await?;
    Ok((facts.hostname, output.text().lines().map(str::to_owned).collect()))
}

/// The nodes, by the first control plane host that answers; none where the cluster is not Kubernetes.
async fn nodes(hosts: &Hosts, clusterfile: &Clusterfile, cmd: &CommandContext) -> Vec<NodeStatus> {
    for master in clusterfile.cluster.masters() {
        if let Ok(host) = hosts.host(master.address)
            && let Ok(nodes) = node_statuses(host, &cmd.ctx).await
        {
            return nodes;
        }
    }
    Vec::new()
}

fn text(status: &Status, console: &Console) -> String {
    let row = |host: &HostStatus| {
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
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
    let head = format!("cluster {}, image {}\n", status.cluster, status.image);
    head + &console.table(&table.wrapped(&["HOST", "NODE", "FAILED UNITS"]))
}
