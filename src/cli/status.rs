//! `sealift status`

use anyhow::Result;
use serde::Serialize;

use super::cluster_args::KnownArgs;
use super::{CommandContext, table};
use crate::cluster::{Hosts, NodeStatus, node_statuses};
use crate::clusterfile::Clusterfile;
use crate::error::{Failure, Kind};
use crate::host::facts::FactsRequest;
use crate::host::{AgentBinaries, Host};

/// Say how a cluster and its hosts are
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
}

/// How a cluster is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    cluster: String,
    image: String,
    hosts: Vec<HostStatus>,
}

/// How one host is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HostStatus {
    address: std::net::IpAddr,
    name: String,
    roles: Vec<String>,
    /// `up`, or why it does not answer.
    host: String,
    /// What the cluster says about its node, where it is Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// The units of sealift and Kubernetes that shall run but do not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failing: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let clusterfile = args.cluster.clusterfile(cmd)?;
    let targets = args.cluster.access.targets(&clusterfile)?;
    let (fleet, failed) = Hosts::connect_some(&targets, &AgentBinaries::own()?, &cmd.ctx).await;
    let looks = fleet.each(|host| look(host, cmd)).await;
    let nodes = nodes(&fleet, &clusterfile, cmd).await;
    fleet.close().await;
    let hosts = clusterfile.cluster.hosts.iter().map(|spec| {
        let look = looks.iter().find(|(address, _)| *address == spec.address).map(|(_, look)| look);
        let (name, host, failing) = match look {
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
    cmd.console.answer(&status, || text(&status))?;
    let sick: Vec<String> = status.hosts.iter().filter(|host| !host.is_well()).map(|host| host.address.to_string()).collect();
    if sick.is_empty() {
        return Ok(());
    }
    let kind = if failed.is_empty() { Kind::Verification } else { Kind::SomeHosts };
    Err(Failure::new(kind, format!("not well: {}", sick.join(", "))).hint("`sealift plan` says what is not as it shall be").into())
}

impl HostStatus {
    fn is_well(&self) -> bool {
        self.host == "up" && self.failing.is_empty() && self.node.as_deref().is_none_or(|node| node.starts_with("Ready"))
    }
}

/// A host's name, and the units of ours that shall run there but do not.
async fn look(host: &Host, cmd: &CommandContext) -> Result<(String, Vec<String>)> {
    let facts = host.facts(&FactsRequest::default()).await?;
    let line = "systemctl list-units --all --plain --no-legend --full 'sealift-*' containerd.service kubelet.service etcd.service \
        | while read -r unit load active rest; do [ \"$load $active\" = 'loaded failed' ] && echo \"$unit\"; done; true";
    let output = host.exec(&crate::host::Exec::shell(line).quiet(), &cmd.ctx).await?;
    Ok((facts.hostname, output.text().lines().map(str::to_owned).collect()))
}

/// What the first master that answers says about nodes; nothing where it is not Kubernetes.
async fn nodes(fleet: &Hosts, clusterfile: &Clusterfile, cmd: &CommandContext) -> Vec<NodeStatus> {
    for master in clusterfile.cluster.masters() {
        if let Ok(host) = fleet.host(master.address)
            && let Ok(nodes) = node_statuses(host, &cmd.ctx).await
        {
            return nodes;
        }
    }
    Vec::new()
}

fn text(status: &Status) -> String {
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
    let rows: Vec<Vec<String>> = status.hosts.iter().map(row).collect();
    let head = format!("cluster {}, image {}\n", status.cluster, status.image);
    head + &table(&["ADDRESS", "NAME", "ROLES", "HOST", "NODE", "FAILED UNITS"], &rows)
}
