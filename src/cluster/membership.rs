//! Who is a member of the cluster: observed on the hosts and by its API, never taken from the order of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use super::Hosts;
use crate::clusterfile::{self, Clusterfile, HostSpec};
use crate::error::Failure;
use crate::events::Context;
use crate::host::facts::Facts;
use crate::host::{Exec, Host};
use crate::paths::{CLUSTERS, KUBECTL_CACHE};
use crate::resource::AbsentEtcdMember;

/// How long to wait for an API server before a cluster is changed: its hosts may have been switched on a moment ago.
pub const API_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// The members of a cluster that exists.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// The host that answered: a control plane node whose API server is ready; without Kubernetes, a host of the cluster.
    pub leader: Option<IpAddr>,
    /// The connected hosts that are members, and whether they belong to the control plane.
    pub members: BTreeMap<IpAddr, bool>,
    /// The nodes; empty if the cluster is not Kubernetes.
    pub nodes: Vec<Node>,
    /// The members of etcd; empty if it is external, or the cluster is not Kubernetes.
    pub etcd: Vec<EtcdMember>,
    /// The pod and service networks of the cluster.
    pub networks: Vec<IpNet>,
    /// The version of its control plane, such as `v1.20.2`, as kubeadm recorded it: hosts that join get this one.
    pub version: Option<String>,
    /// The Clusterfile of the last run that changed its hosts, as they store it.
    pub recorded: Option<Clusterfile>,
}

/// A node of a Kubernetes cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its internal addresses.
    pub addresses: Vec<IpAddr>,
    /// Its architecture as `uname -m` prints it, such as `x86_64`.
    pub machine: String,
    /// Whether its condition `Ready` is true.
    pub ready: bool,
    /// The message of its condition `Ready`.
    pub message: String,
    /// Whether it belongs to the control plane.
    pub control_plane: bool,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// The version of its kubelet, such as `v1.20.2`.
    pub version: String,
}

/// A member of etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdMember {
    /// Its name; empty before it has started.
    pub name: String,
    /// Its peer URLs, such as `https://10.0.0.2:2380`.
    pub peers: Vec<String>,
    /// Whether it answers.
    pub healthy: bool,
    /// Whether it is a learner, which has no vote.
    pub learner: bool,
}

impl Membership {
    /// The node with this address.
    pub fn node(&self, address: IpAddr) -> Option<&Node> {
        self.nodes.iter().find(|node| node.addresses.contains(&address))
    }

    /// The member of etcd on the host with this address.
    pub fn etcd_member(&self, address: IpAddr) -> Option<&EtcdMember> {
        let peer = AbsentEtcdMember::of(address).peer;
        self.etcd.iter().find(|member| member.peers.contains(&peer))
    }

    /// Whether a connected host is a member.
    pub fn is_member(&self, address: IpAddr) -> bool {
        self.members.contains_key(&address)
    }
}

/// Observes the members of the cluster with this name; `None` if no connected host is a member of it. `preferred` hosts are asked
/// first, in this order; `api_timeout` is how long to wait for an API server.
///
/// # Errors
/// Fails if hosts are members, but no API server is ready, or they are members of different clusters.
pub async fn observe(
    hosts: &Hosts,
    facts: &BTreeMap<IpAddr, Facts>,
    cluster: &str,
    kubernetes: bool,
    preferred: &[IpAddr],
    api_timeout: Duration,
    ctx: &Context,
) -> Result<Option<Membership>> {
    let members = members(facts, cluster, kubernetes);
    if members.is_empty() {
        return Ok(None);
    }
    let mut candidates: Vec<IpAddr> = members.iter().filter(|(_, control_plane)| **control_plane).map(|(address, _)| *address).collect();
    candidates.sort_by_key(|address| preferred.iter().position(|known| known == address).unwrap_or(usize::MAX));
    if !kubernetes {
        let leader = candidates.first().copied();
        let mut recorded = None;
        for address in &candidates {
            recorded = recorded.or(recorded_clusterfile(hosts.host(*address)?, cluster).await?);
        }
        return Ok(Some(Membership { leader, members, recorded, ..Membership::default() }));
    }
    one_authority(facts, &members)?;
    let leader = find_leader(hosts, &members, &candidates, cluster, api_timeout, ctx).await?;
    let (nodes, etcd, configuration, recorded) = futures_util::try_join!(
        nodes(leader, ctx),
        etcd_members(leader, ctx),
        configuration(leader, ctx),
        recorded_clusterfile(leader, cluster)
    )?;
    let (networks, version) = parse_configuration(&configuration);
    Ok(Some(Membership { leader: Some(leader.address()), members, nodes, etcd, networks, version, recorded }))
}

/// The connected hosts that are members, and whether they belong to the control plane. Without Kubernetes, every host of the cluster is
/// one, and counts as control plane.
fn members(facts: &BTreeMap<IpAddr, Facts>, cluster: &str, kubernetes: bool) -> BTreeMap<IpAddr, bool> {
    let member = |(address, facts): (&IpAddr, &Facts)| {
        let ours = facts.installed.clusters.iter().any(|name| name == cluster);
        match (&facts.installed.node, kubernetes) {
            (Some(node), true) if ours => Some((*address, node.control_plane)),
            (_, false) if ours => Some((*address, true)),
            _ => None,
        }
    };
    facts.iter().filter_map(member).collect()
}

/// Refuses members of different clusters, which have the same name but certificates of different authorities.
fn one_authority(facts: &BTreeMap<IpAddr, Facts>, members: &BTreeMap<IpAddr, bool>) -> Result<()> {
    let authority = |address: &IpAddr| facts.get(address)?.installed.node.as_ref()?.authority.clone();
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for address in members.keys() {
        if let Some(authority) = authority(address) {
            hosts.entry(authority).or_default().push(address.to_string());
        }
    }
    if hosts.len() < 2 {
        return Ok(());
    }
    let groups: Vec<String> = hosts.values().map(|hosts| hosts.join(", ")).collect();
    Err(Failure::failed(format!("these hosts are members of different clusters, each with a certificate authority of its own: {}", groups.join("; ")))
        .hint("find out which of them hold the cluster's data; then `sealift reset --host ADDRESS` each of the others, and run the same command again")
        .into())
}

/// The first candidate whose API server is ready.
async fn find_leader<'a>(
    hosts: &'a Hosts,
    members: &BTreeMap<IpAddr, bool>,
    candidates: &[IpAddr],
    cluster: &str,
    api_timeout: Duration,
    ctx: &Context,
) -> Result<&'a Host> {
    let deadline = Instant::now() + api_timeout;
    let mut told = false;
    loop {
        let mut reasons = Vec::new();
        for address in candidates {
            let host = hosts.host(*address)?;
            match ctx.or_cancelled(kubectl(host, &["get", "--raw=/readyz"], ctx)).await {
                Ok(_) => return Ok(host),
                Err(error) => reasons.push(format!("{error:#}")),
            }
            ctx.check()?;
        }
        if candidates.is_empty() || Instant::now() >= deadline {
            return Err(no_api_server(cluster, members, &reasons));
        }
        if !std::mem::replace(&mut told, true) {
            ctx.note(format!("cluster {cluster} exists, but no API server is ready: waiting up to {} s", api_timeout.as_secs()));
        }
        ctx.or_cancelled(async {
            tokio::time::sleep(RETRY_INTERVAL).await;
            Ok(())
        })
        .await?;
    }
}

fn no_api_server(cluster: &str, members: &BTreeMap<IpAddr, bool>, reasons: &[String]) -> anyhow::Error {
    let list = members.keys().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let why = match reasons {
        [] => "no control plane host of it is reachable".to_owned(),
        reasons => reasons.join("\n  "),
    };
    Failure::failed(format!("cluster {cluster} exists on {list}, but no API server is ready: {why}"))
        .hint("bring its control plane hosts back first: more than half of the etcd members must run; see `journalctl -u kubelet` there")
        .hint("nothing was changed; to give the cluster up, `sealift reset`")
        .into()
}

async fn kubectl(host: &Host, arguments: &[&str], ctx: &Context) -> Result<String> {
    let cache = format!("--cache-dir={KUBECTL_CACHE}");
    let base = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--request-timeout=10s", &cache];
    let command = Exec::new(base.into_iter().chain(arguments.iter().copied())).quiet();
    Ok(host.exec(&command, ctx).await?.ensure_success(&format!("{}: kubectl {}", host.name(), arguments.join(" ")))?.text())
}

async fn nodes(host: &Host, ctx: &Context) -> Result<Vec<Node>> {
    let list: Value = serde_json::from_str(&kubectl(host, &["get", "nodes", "-o", "json"], ctx).await?).context("kubectl get nodes")?;
    Ok(list["items"].as_array().into_iter().flatten().filter_map(parse_node).collect())
}

fn parse_node(node: &Value) -> Option<Node> {
    let (metadata, status) = (&node["metadata"], &node["status"]);
    let addresses = status["addresses"].as_array().into_iter().flatten();
    let internal = addresses.filter(|address| address["type"] == "InternalIP");
    let ready = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let roles = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
    Some(Node {
        name: metadata["name"].as_str()?.to_owned(),
        addresses: internal.filter_map(|address| address["address"].as_str()?.parse().ok()).collect(),
        machine: machine(status["nodeInfo"]["architecture"].as_str().unwrap_or_default()).to_owned(),
        ready: ready.is_some_and(|ready| ready["status"] == "True"),
        message: ready.and_then(|ready| ready["message"].as_str()).unwrap_or("no condition `Ready`").to_owned(),
        control_plane: roles.iter().any(|role| metadata["labels"].get(*role).is_some()),
        unschedulable: node["spec"]["unschedulable"] == true,
        version: status["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default().to_owned(),
    })
}

/// The name that `uname -m` has for an architecture of Go.
fn machine(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

async fn etcd_members(host: &Host, ctx: &Context) -> Result<Vec<EtcdMember>> {
    let output = host.exec(&Exec::shell(&AbsentEtcdMember::list_script()).quiet(), ctx).await?.ensure_success("etcdctl member list")?;
    parse_etcd(&output.text())
}

/// Two lines of JSON: the members, and the health of their endpoints; nothing if etcd is external.
fn parse_etcd(text: &str) -> Result<Vec<EtcdMember>> {
    let mut documents = text.lines().filter(|line| line.starts_with(['{', '['])).map(serde_json::from_str::<Value>);
    let Some(list) = documents.next().transpose().context("etcdctl member list")? else { return Ok(Vec::new()) };
    let health = documents.next().transpose().context("etcdctl endpoint health")?.unwrap_or_default();
    let healthy: BTreeSet<&str> = health
        .as_array()
        .into_iter()
        .flatten()
        .filter(|endpoint| endpoint["health"] == true)
        .filter_map(|endpoint| endpoint["endpoint"].as_str())
        .collect();
    let texts = |value: &Value| value.as_array().into_iter().flatten().filter_map(|url| Some(url.as_str()?.to_owned())).collect::<Vec<_>>();
    let members = list["members"].as_array().into_iter().flatten().map(|member| EtcdMember {
        name: member["name"].as_str().unwrap_or_default().to_owned(),
        peers: texts(&member["peerURLs"]),
        healthy: texts(&member["clientURLs"]).iter().any(|url| healthy.contains(url.as_str())),
        learner: member["isLearner"] == true,
    });
    Ok(members.collect())
}

/// The ClusterConfiguration that kubeadm stores in the cluster; empty if it is not there.
async fn configuration(host: &Host, ctx: &Context) -> Result<String> {
    let arguments = ["--namespace=kube-system", "get", "configmap", "kubeadm-config", "--ignore-not-found", "-o", "json"];
    let text = kubectl(host, &arguments, ctx).await?;
    let map: Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(map["data"]["ClusterConfiguration"].as_str().unwrap_or_default().to_owned())
}

/// The pod and service networks and the version in a ClusterConfiguration.
fn parse_configuration(configuration: &str) -> (Vec<IpNet>, Option<String>) {
    let Ok(document) = serde_saphyr::from_str::<Value>(configuration) else { return Default::default() };
    let networks = ["podSubnet", "serviceSubnet"].map(|key| document["networking"][key].as_str().unwrap_or_default().to_owned());
    let networks = networks.iter().flat_map(|list| list.split(',')).filter_map(|network| network.trim().parse().ok());
    (networks.collect(), document["kubernetesVersion"].as_str().map(str::to_owned))
}

/// The hosts of a cluster that a Clusterfile does not name, as connected hosts have them in theirs: those that left it and could not be
/// removed yet, or whose removal was cut off.
///
/// # Errors
/// Fails if a host does not answer, or its Clusterfile is damaged.
pub async fn departed_hosts(hosts: &Hosts, clusterfile: &Clusterfile) -> Result<Vec<HostSpec>> {
    let cluster = &clusterfile.cluster;
    let mut departed: Vec<HostSpec> = Vec::new();
    for recorded in hosts.on_all(|host| recorded_clusterfile(host, &cluster.name)).await?.into_values().flatten() {
        let unknown = |host: &HostSpec| cluster.host(host.address).is_none() && departed.iter().all(|known| known.address != host.address);
        let unknown: Vec<HostSpec> = recorded.cluster.hosts.into_iter().filter(unknown).collect();
        departed.extend(unknown);
    }
    Ok(departed)
}

/// The Clusterfile that a host of the cluster stores; `None` if it has none.
async fn recorded_clusterfile(host: &Host, cluster: &str) -> Result<Option<Clusterfile>> {
    let path = format!("{CLUSTERS}/{cluster}/Clusterfile");
    let Some(bytes) = host.read_file(&path).await? else { return Ok(None) };
    let name = format!("{}:{path}", host.name());
    Ok(Some(clusterfile::load(&name, &String::from_utf8_lossy(&bytes)).with_context(|| format!("Clusterfile {name}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::facts::{Installed, NodeIdentity};
    use serde_json::json;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn facts(cluster: &str, node: Option<(bool, &str)>) -> Facts {
        let node = node.map(|(control_plane, authority)| NodeIdentity { control_plane, authority: Some(authority.to_owned()) });
        Facts { installed: Installed { clusters: vec![cluster.to_owned()], node, ..Installed::default() }, ..Facts::default() }
    }

    #[test]
    fn hosts_of_other_clusters_and_without_kubelet_are_no_members() {
        let facts = BTreeMap::from([
            (address(1), facts("shop", Some((true, "a")))),
            (address(2), facts("shop", Some((false, "a")))),
            (address(3), facts("shop", None)),
            (address(4), facts("bank", Some((true, "b")))),
        ]);
        assert_eq!(members(&facts, "shop", true), BTreeMap::from([(address(1), true), (address(2), false)]));
        assert_eq!(members(&facts, "shop", false).len(), 3);
    }

    #[test]
    fn members_of_two_clusters_with_one_name_are_refused() {
        let facts = BTreeMap::from([
            (address(1), facts("shop", Some((true, "new")))),
            (address(2), facts("shop", Some((true, "old")))),
            (address(3), facts("shop", Some((true, "old")))),
        ]);
        let error = one_authority(&facts, &members(&facts, "shop", true)).unwrap_err().to_string();
        assert!(error.contains("10.0.0.1; 10.0.0.2, 10.0.0.3"), "{error}");
    }

    #[test]
    fn nodes_are_read_with_roles_and_addresses() {
        let node = json!({
            "metadata": {"name": "h1", "labels": {"node-role.kubernetes.io/master": ""}},
            "spec": {"unschedulable": true},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "h1"}],
                "conditions": [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}],
                "nodeInfo": {"architecture": "arm64", "kubeletVersion": "v1.20.2"},
            },
        });
        let expected = Node {
            name: "h1".into(),
            addresses: vec![address(1)],
            machine: "aarch64".into(),
            ready: false,
            message: "Kubelet stopped posting node status.".into(),
            control_plane: true,
            unschedulable: true,
            version: "v1.20.2".into(),
        };
        assert_eq!(parse_node(&node), Some(expected));
    }

    #[test]
    fn etcd_members_are_healthy_if_their_endpoint_answers() {
        let text = r#"{"header":{},"members":[{"ID":1,"name":"h1","peerURLs":["https://10.0.0.1:2380"],"clientURLs":["https://10.0.0.1:2379"]},{"ID":2,"name":"h2","peerURLs":["https://10.0.0.2:2380"],"clientURLs":["https://10.0.0.2:2379"]},{"ID":3,"name":"","peerURLs":["https://10.0.0.3:2380"],"clientURLs":[],"isLearner":true}]}
[{"endpoint":"https://10.0.0.1:2379","health":true,"took":"1ms"},{"endpoint":"https://10.0.0.2:2379","health":false,"took":"5s","error":"context deadline exceeded"}]
"#;
        let members = parse_etcd(text).unwrap();
        let seen: Vec<_> = members.iter().map(|member| (member.name.as_str(), member.healthy, member.learner)).collect();
        assert_eq!(seen, [("h1", true, false), ("h2", false, false), ("", false, true)]);
        let membership = Membership { etcd: members, ..Membership::default() };
        assert_eq!(membership.etcd_member(address(2)).unwrap().name, "h2");
        assert!(parse_etcd("").unwrap().is_empty());
    }

    #[test]
    fn networks_and_version_are_those_of_kubeadm() {
        let text = "kubernetesVersion: v1.20.2\nnetworking:\n  dnsDomain: cluster.local\n  podSubnet: 10.244.0.0/16,fd00::/48\n  serviceSubnet: 10.96.0.0/12\n";
        let (networks, version) = parse_configuration(text);
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.244.0.0/16", "fd00::/48", "10.96.0.0/12"]);
        assert_eq!(version.as_deref(), Some("v1.20.2"));
        assert_eq!(parse_configuration(""), (Vec::new(), None));
    }
}
